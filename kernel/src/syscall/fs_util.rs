// SPDX-License-Identifier: MPL-2.0

//! What the file calls share: finding files by descriptor and path, and the caller's buffers.

use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, RLIMIT_NOFILE};

use crate::{
    fs::{
        CloseOnExec, Fd, File, Path,
        current::signal_broken_pipe,
        io::{Sink, Source},
        lookup::{LastLink, Lookup, Resolve},
    },
    prelude::*,
    usermem::{IoVec, MAX_RW_COUNT, check_range},
};

/// The directory descriptor that stands for the working directory.
pub(super) const CWD: Fd = AT_FDCWD;

/// A lookup of `path`, relative to `dir_fd` if it is relative.
///
/// # Errors
///
/// EBADF.
pub(super) fn lookup_at(ctx: &Ctx, dir_fd: Fd, path: &[u8]) -> Result<Lookup> {
    let fs = ctx.fs();
    let base = if path.first() == Some(&b'/') || dir_fd == AT_FDCWD {
        fs.cwd()
    } else {
        ctx.files().get(dir_fd)?.path().clone()
    };
    Ok(Lookup { base, root: fs.root(), cred: ctx.credentials(), resolve: Resolve::empty() })
}

/// Finds the file that `dir_fd`, the path at `path` and the `AT_` flags name.
///
/// # Errors
///
/// Those of a lookup; EBADF; EFAULT.
pub(super) fn find_at(ctx: &Ctx, dir_fd: Fd, path: Vaddr, flags: u32) -> Result<Path> {
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { LastLink::Stay } else { LastLink::Follow };
    let path = ctx.vm.read_path(path)?;
    find_bytes_at(ctx, dir_fd, path.as_bytes(), flags, last)
}

/// [`find_at`] for a path that has been read already.
///
/// # Errors
///
/// As [`find_at`].
pub(super) fn find_bytes_at(ctx: &Ctx, dir_fd: Fd, path: &[u8], flags: u32, last: LastLink) -> Result<Path> {
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return Ok(match dir_fd {
            AT_FDCWD => ctx.fs().cwd(),
            fd => ctx.files().get(fd)?.path().clone(),
        });
    }
    lookup_at(ctx, dir_fd, path)?.find(path, last)
}

/// The limit on descriptors of the calling process.
pub(super) fn fd_limit(ctx: &Ctx) -> usize {
    usize::try_from(ctx.process.rlimits.soft(RLIMIT_NOFILE)).unwrap_or(usize::MAX)
}

/// Gives `file` the lowest free descriptor.
///
/// # Errors
///
/// EMFILE; ENOMEM.
pub(super) fn install(ctx: &Ctx, file: Arc<File>, close_on_exec: CloseOnExec) -> Result<usize> {
    Ok(ctx.files().insert(file, close_on_exec, 0, fd_limit(ctx))? as usize)
}

/// The caller's buffer as a place to read into, cut off at what one call moves.
///
/// # Errors
///
/// EFAULT outside user space.
pub(super) fn sink<'a>(ctx: &'a Ctx, addr: Vaddr, len: usize) -> Result<Sink<'a>> {
    check_range(addr, len)?;
    match len.min(MAX_RW_COUNT) {
        0 => Ok(Sink::from_segments(Vec::new())),
        len => Ok(Sink::new(ctx.vm.writer(addr, len)?)),
    }
}

/// The caller's buffer as something to write, cut off at what one call moves.
///
/// # Errors
///
/// As [`sink`].
pub(super) fn source<'a>(ctx: &'a Ctx, addr: Vaddr, len: usize) -> Result<Source<'a>> {
    check_range(addr, len)?;
    match len.min(MAX_RW_COUNT) {
        0 => Ok(Source::from_segments(Vec::new())),
        len => Ok(Source::new(ctx.vm.reader(addr, len)?)),
    }
}

/// What `make` makes of each of the caller's buffers that is not empty.
fn segments<T>(
    ctx: &Ctx,
    addr: Vaddr,
    count: usize,
    make: impl Fn(Vaddr, usize) -> Result<T>,
) -> Result<Vec<T>> {
    let iovecs: Vec<IoVec> = ctx.vm.read_iovecs(addr, count)?;
    let mut segments = try_with_capacity(iovecs.len())?;
    for iovec in iovecs.iter().filter(|iovec| iovec.len > 0) {
        segments.push(make(iovec.base, iovec.len)?);
    }
    Ok(segments)
}

/// The caller's buffers as a place to read into.
///
/// # Errors
///
/// EINVAL for too many, or for a length that is too large; EFAULT; ENOMEM.
pub(super) fn sinks<'a>(ctx: &'a Ctx, addr: Vaddr, count: usize) -> Result<Sink<'a>> {
    Ok(Sink::from_segments(segments(ctx, addr, count, |base, len| ctx.vm.writer(base, len))?))
}

/// The caller's buffers as something to write.
///
/// # Errors
///
/// As [`sinks`].
pub(super) fn sources<'a>(ctx: &'a Ctx, addr: Vaddr, count: usize) -> Result<Source<'a>> {
    Ok(Source::from_segments(segments(ctx, addr, count, |base, len| ctx.vm.reader(base, len))?))
}

/// Passes on the result of a write; a write to a pipe without readers sends SIGPIPE too.
pub(super) fn written(result: Result<usize>) -> Result<usize> {
    if result == Err(EPIPE) {
        signal_broken_pipe();
    }
    result
}

/// An offset from a program.
///
/// # Errors
///
/// EINVAL if it is negative.
pub(super) fn offset(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| EINVAL)
}
