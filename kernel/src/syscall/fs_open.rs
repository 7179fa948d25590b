// SPDX-License-Identifier: MPL-2.0

//! Opening and closing: open, openat, openat2, creat, close, close_range, pipe, pipe2, memfd_create.

use linux_raw_sys::general::{
    MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_HUGE_MASK, MFD_HUGE_SHIFT, MFD_HUGETLB, O_ACCMODE,
};

use super::fs_util::{CWD, fd_limit, install, lookup_at};
use crate::{
    fs::{
        CloseOnExec, Fd, OpenFlags,
        lookup::Resolve,
        memfd::{self, Sealing},
        open::{self, OpenHow},
        pipe,
    },
    prelude::*,
};

/// Closes the descriptors in a table of the thread's own (`close_range`).
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
/// Only marks the descriptors (`close_range`).
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
/// The longest name of a memory file.
const MEMFD_NAME_MAX: usize = 249;

pub(super) fn sys_open(ctx: &Ctx, path: Vaddr, flags: u32, mode: u32) -> Result<usize> {
    sys_openat(ctx, CWD, path, flags, mode)
}

pub(super) fn sys_creat(ctx: &Ctx, path: Vaddr, mode: u32) -> Result<usize> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    sys_openat(ctx, CWD, path, flags.bits(), mode)
}

pub(super) fn sys_openat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, flags: u32, mode: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_truncate(flags) | OpenFlags::LARGEFILE;
    open_at(ctx, dir_fd, path, flags, mode, Resolve::empty())
}

/// `struct open_how`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct RawHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub(super) fn sys_openat2(ctx: &Ctx, dir_fd: Fd, path: Vaddr, how: Vaddr, size: usize) -> Result<usize> {
    if size < size_of::<RawHow>() {
        return Err(EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(E2BIG);
    }
    // A program that knows more fields than we do must have left them zero.
    let known = size_of::<RawHow>();
    let more: Vec<u8> = ctx.vm.read_vec(how + known, size - known)?;
    if more.iter().any(|byte| *byte != 0) {
        return Err(E2BIG);
    }
    let how: RawHow = ctx.vm.read_val(how)?;
    let flags = u32::try_from(how.flags).ok().and_then(OpenFlags::from_bits).ok_or(EINVAL)?;
    let resolve = Resolve::from_bits(how.resolve).ok_or(EINVAL)?;
    let creates = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE_ALONE);
    if how.mode & !0o7777 != 0 || (how.mode != 0 && !creates) {
        return Err(EINVAL);
    }
    let location = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !location.contains(flags) {
        return Err(EINVAL);
    }
    if resolve.contains(Resolve::BENEATH | Resolve::IN_ROOT) {
        return Err(EINVAL);
    }
    if resolve.contains(Resolve::CACHED) && (creates || flags.contains(OpenFlags::TRUNC)) {
        return Err(EAGAIN);
    }
    open_at(ctx, dir_fd, path, flags | OpenFlags::LARGEFILE, how.mode as u32, resolve)
}

fn open_at(
    ctx: &Ctx,
    dir_fd: Fd,
    path: Vaddr,
    flags: OpenFlags,
    mode: u32,
    resolve: Resolve,
) -> Result<usize> {
    let path = ctx.vm.read_path(path)?;
    let mut lookup = lookup_at(ctx, dir_fd, path.as_bytes())?;
    lookup.resolve = resolve;
    if resolve.intersects(Resolve::BENEATH | Resolve::IN_ROOT) && dir_fd != CWD {
        // Even an absolute path starts there.
        lookup.base = ctx.files().get(dir_fd)?.path().clone();
    }
    // A file that there is no descriptor for must not be created.
    ctx.files().check_room(fd_limit(ctx))?;
    let mode = (mode & 0o7777) as u16 & !ctx.fs().umask();
    let file = open::open(&lookup, path.as_bytes(), OpenHow { flags, mode })?;
    install(ctx, file, CloseOnExec::from_flag(flags.contains(OpenFlags::CLOEXEC)))
}

pub(super) fn sys_close(ctx: &Ctx, fd: Fd) -> Result<usize> {
    ctx.files().close(fd)?;
    Ok(0)
}

pub(super) fn sys_close_range(ctx: &Ctx, first: u32, last: u32, flags: u32) -> Result<usize> {
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(EINVAL);
    }
    let mut files = ctx.files();
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        files = Arc::new(files.fork()?);
        ctx.thread.set_files(Some(files.clone()));
    }
    let (first, last) = (first as usize, last as usize);
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        files.close_range_on_exec(first, last);
    } else {
        files.close_range(first, last);
    }
    Ok(0)
}

pub(super) fn sys_pipe(ctx: &Ctx, fds: Vaddr) -> Result<usize> {
    sys_pipe2(ctx, fds, 0)
}

pub(super) fn sys_pipe2(ctx: &Ctx, fds: Vaddr, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits(flags).ok_or(EINVAL)?;
    let status = OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    if !(status | OpenFlags::CLOEXEC).contains(flags) || flags.bits() & O_ACCMODE != 0 {
        return Err(EINVAL);
    }
    let files = ctx.files();
    let close_on_exec = CloseOnExec::from_flag(flags.contains(OpenFlags::CLOEXEC));
    let (first, second) = files.insert_pair(pipe::new_pipe(flags & status)?, close_on_exec, fd_limit(ctx))?;
    if let Err(error) = ctx.vm.write_val(fds, &[first, second]) {
        files.close(first)?;
        files.close(second)?;
        return Err(error);
    }
    Ok(0)
}

pub(super) fn sys_memfd_create(ctx: &Ctx, name: Vaddr, flags: u32) -> Result<usize> {
    let sizes = if flags & MFD_HUGETLB != 0 { MFD_HUGE_MASK << MFD_HUGE_SHIFT } else { 0 };
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | sizes) != 0 {
        return Err(EINVAL);
    }
    if flags & MFD_HUGETLB != 0 {
        // As Linux without CONFIG_HUGETLBFS has it.
        return Err(ENOSYS);
    }
    let name = ctx.vm.read_cstring(name, MEMFD_NAME_MAX + 1).map_err(|error| match error {
        ENAMETOOLONG => EINVAL,
        error => error,
    })?;
    let sealing = if flags & MFD_ALLOW_SEALING != 0 { Sealing::Allowed } else { Sealing::Denied };
    let file = memfd::create(name.as_bytes(), sealing)?;
    install(ctx, file, CloseOnExec::from_flag(flags & MFD_CLOEXEC != 0))
}
