// SPDX-License-Identifier: MPL-2.0

//! Other processes' memory: process_vm_readv and process_vm_writev.

use ostd::mm::{FallibleVmRead, FallibleVmWrite, VmWriter, io::util::HasVmReaderWriter};
use vmar::vmar::populate::Populate;

use crate::{
    mm::AddressSpace,
    prelude::*,
    process::{credentials::CapSet, table},
    usermem::{IOV_MAX, IoVec},
};

/// The most bytes that are copied to another process in one go.
const COPY_CHUNK: usize = 16 * PAGE_SIZE;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    FromOther,
    ToOther,
}

/// `process_vm_readv(2)`.
pub fn sys_process_vm_readv(
    ctx: &Ctx,
    pid: i32,
    local: Vaddr,
    local_count: usize,
    remote: Vaddr,
    remote_count: usize,
    flags: usize,
) -> Result<usize> {
    let lists = [(local, local_count), (remote, remote_count)];
    copy_between(ctx, pid, lists, flags, Direction::FromOther)
}

/// `process_vm_writev(2)`.
pub fn sys_process_vm_writev(
    ctx: &Ctx,
    pid: i32,
    local: Vaddr,
    local_count: usize,
    remote: Vaddr,
    remote_count: usize,
    flags: usize,
) -> Result<usize> {
    let lists = [(local, local_count), (remote, remote_count)];
    copy_between(ctx, pid, lists, flags, Direction::ToOther)
}

fn copy_between(
    ctx: &Ctx,
    pid: i32,
    [local, remote]: [(Vaddr, usize); 2],
    flags: usize,
    direction: Direction,
) -> Result<usize> {
    if flags != 0 {
        return Err(EINVAL);
    }
    let is_empty = |parts: &[IoVec]| parts.iter().all(|part| part.len == 0);
    let mut local = ctx.vm.read_iovecs(local.0, local.1)?;
    if is_empty(&local) {
        return Ok(0);
    }
    if remote.1 > IOV_MAX {
        return Err(EINVAL);
    }
    let mut remote: Vec<IoVec> = ctx.vm.read_vec(remote.0, remote.1)?;
    if remote.iter().any(|part| part.len > isize::MAX as usize) {
        return Err(EINVAL);
    }
    if is_empty(&remote) {
        return Ok(0);
    }
    let thread = table::thread(pid as Tid).ok_or(ESRCH)?;
    check_may_access(ctx, &thread)?;
    let other = thread.process().vm().ok_or(ESRCH)?;
    let mut buffer = try_filled(0, if direction == Direction::ToOther { COPY_CHUNK } else { 0 })?;

    let mut done = 0;
    let (mut mine, mut theirs) = (local.iter_mut(), remote.iter_mut());
    let (mut here, mut there) = (mine.next(), theirs.next());
    while let (Some(own), Some(foreign)) = (here.as_deref_mut(), there.as_deref_mut()) {
        let most = if direction == Direction::ToOther { COPY_CHUNK } else { usize::MAX };
        let len = own.len.min(foreign.len).min(most);
        if len != 0 {
            let copied = match direction {
                Direction::FromOther => read_other(ctx.vm, &other, own.base, foreign.base, len),
                Direction::ToOther => write_other(ctx.vm, &other, own.base, foreign.base, &mut buffer[..len]),
            };
            match copied {
                Ok(count) => {
                    done += count;
                    (own.base, own.len) = (own.base + count, own.len - count);
                    (foreign.base, foreign.len) = (foreign.base.wrapping_add(count), foreign.len - count);
                    if count < len {
                        return Ok(done);
                    }
                }
                Err(_) if done != 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        if own.len == 0 {
            here = mine.next();
        }
        if foreign.len == 0 {
            there = theirs.next();
        }
    }
    Ok(done)
}

/// Copies `len` bytes at `there` in `other` to `here`, straight from the frames, and returns how many it could.
fn read_other(
    own: &AddressSpace,
    other: &AddressSpace,
    here: Vaddr,
    there: Vaddr,
    len: usize,
) -> Result<usize> {
    let mut writer = own.writer(here, len)?;
    let copied = other.vmar().read_with(there, len, |frame, piece| {
        let mut reader = frame.as_uframe().reader();
        reader.skip(piece.start).limit(piece.len());
        match writer.write_fallible(&mut reader) {
            Ok(count) | Err((_, count)) => count,
        }
    });
    match copied {
        Ok(0) | Err(_) => Err(EFAULT),
        Ok(count) => Ok(count),
    }
}

/// Copies what is at `here` to `there` in `other`, through `buffer`, and returns how many bytes it could.
fn write_other(
    own: &AddressSpace,
    other: &AddressSpace,
    here: Vaddr,
    there: Vaddr,
    buffer: &mut [u8],
) -> Result<usize> {
    // The other side has the first word: nothing here is looked at, and no stack grows, where nothing there can be written.
    let first = there / PAGE_SIZE * PAGE_SIZE;
    other.vmar().populate(first..first.saturating_add(PAGE_SIZE), Populate::Write).map_err(|_| EFAULT)?;
    let mut reader = own.reader(here, buffer.len())?;
    let count = match reader.read_fallible(&mut VmWriter::from(&mut *buffer)) {
        Ok(count) => count,
        Err((_, count)) => {
            // Linux has the pages of the other side by then.
            let pages = first..(there + buffer.len()).next_multiple_of(PAGE_SIZE);
            let _ = other.vmar().populate(pages, Populate::Write);
            if count == 0 {
                return Err(EFAULT);
            }
            count
        }
    };
    other.vmar().write_bytes(there, &buffer[..count]).map_err(|_| EFAULT)
}

/// `EPERM` unless the caller may look into the thread's process, as `ptrace(2)` has it (`PTRACE_MODE_ATTACH_REALCREDS`).
pub(super) fn check_may_access(ctx: &Ctx, thread: &Thread) -> Result<()> {
    if Arc::ptr_eq(thread.process(), ctx.process) {
        return Ok(());
    }
    let (own, other) = (ctx.credentials(), thread.credentials());
    let same = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid)
        && thread.process().dumpable.load(Ordering::Relaxed);
    if same { Ok(()) } else { own.require(CapSet::SYS_PTRACE) }
}
