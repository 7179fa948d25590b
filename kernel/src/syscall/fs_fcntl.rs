// SPDX-License-Identifier: MPL-2.0

//! Descriptors and open files: dup, fcntl, flock, ioctl.

use linux_raw_sys::{
    general::{
        F_ADD_SEALS, F_DUPFD, F_DUPFD_CLOEXEC, F_GET_SEALS, F_GETFD, F_GETFL, F_GETLEASE, F_GETLK, F_GETOWN,
        F_GETOWN_EX, F_GETPIPE_SZ, F_GETSIG, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_OWNER_PGRP,
        F_OWNER_PID, F_OWNER_TID, F_RDLCK, F_SETFD, F_SETFL, F_SETLK, F_SETLKW, F_SETOWN, F_SETOWN_EX,
        F_SETPIPE_SZ, F_SETSIG, F_UNLCK, F_WRLCK, FD_CLOEXEC, LOCK_EX, LOCK_MAND, LOCK_NB, LOCK_SH, LOCK_UN,
        SEEK_CUR, SEEK_END, SEEK_SET,
    },
    ioctl::{
        FIGETBSZ, FIOASYNC, FIOCLEX, FIOGETOWN, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE, FIOSETOWN, SIOCGPGRP,
        SIOCSPGRP,
    },
};

use super::fs_util::fd_limit;
use crate::{
    fs::{
        CloseOnExec, Fd, File, OpenFlags,
        file::AccessMode,
        locks::{FileLocks, LockKind, LockOwner, RecordLock},
        memfd::{self, SealFlags},
        pipe::{MAX_CAPACITY, PipeEnd},
        poll::Blocking,
        sigio::Target,
        types::FileType,
    },
    prelude::*,
    process::credentials::CapSet,
};

/// The last byte that a lock can have.
const LOCK_END: u64 = i64::MAX as u64;

pub(super) fn sys_dup(ctx: &Ctx, fd: Fd) -> Result<usize> {
    let files = ctx.files();
    Ok(files.insert(files.get(fd)?, CloseOnExec::No, 0, fd_limit(ctx))? as usize)
}

pub(super) fn sys_dup2(ctx: &Ctx, old: Fd, new: Fd) -> Result<usize> {
    let files = ctx.files();
    if old == new {
        files.get(old)?;
        return Ok(new as usize);
    }
    Ok(files.replace(old, new, CloseOnExec::No, fd_limit(ctx))? as usize)
}

pub(super) fn sys_dup3(ctx: &Ctx, old: Fd, new: Fd, flags: u32) -> Result<usize> {
    let close_on_exec = match OpenFlags::from_bits_retain(flags) {
        OpenFlags::CLOEXEC => CloseOnExec::Yes,
        none if none.is_empty() => CloseOnExec::No,
        _ => return Err(EINVAL),
    };
    if old == new {
        return Err(EINVAL);
    }
    Ok(ctx.files().replace(old, new, close_on_exec, fd_limit(ctx))? as usize)
}

pub(super) fn sys_fcntl(ctx: &Ctx, fd: Fd, command: u32, arg: usize) -> Result<usize> {
    let files = ctx.files();
    let file = files.get(fd)?;
    match command {
        F_DUPFD => return duplicate(ctx, file, arg, CloseOnExec::No),
        F_DUPFD_CLOEXEC => return duplicate(ctx, file, arg, CloseOnExec::Yes),
        F_GETFD => {
            let marked = files.is_close_on_exec(fd)? == CloseOnExec::Yes;
            return Ok(if marked { FD_CLOEXEC as usize } else { 0 });
        }
        F_SETFD => {
            files.set_close_on_exec(fd, CloseOnExec::from_flag(arg as u32 & FD_CLOEXEC != 0))?;
            return Ok(0);
        }
        F_GETFL => return Ok(file.flags().bits() as usize),
        _ => file.require(AccessMode::NONE)?,
    }
    match command {
        F_SETFL => set_flags(ctx, &file, fd, arg as u32),
        F_GETLK => get_lock(ctx, &file, arg, LockFamily::Posix),
        F_OFD_GETLK => get_lock(ctx, &file, arg, LockFamily::OpenFile),
        F_SETLK => set_lock(ctx, &file, arg, LockFamily::Posix, Blocking::No),
        F_SETLKW => set_lock(ctx, &file, arg, LockFamily::Posix, Blocking::Yes),
        F_OFD_SETLK => set_lock(ctx, &file, arg, LockFamily::OpenFile, Blocking::No),
        F_OFD_SETLKW => set_lock(ctx, &file, arg, LockFamily::OpenFile, Blocking::Yes),
        F_GETOWN | F_GETOWN_EX | F_SETOWN | F_SETOWN_EX | F_GETSIG | F_SETSIG => {
            owner(ctx, &file, command, arg)
        }
        F_GETLEASE => Ok(F_UNLCK as usize),
        F_GETPIPE_SZ => Ok(pipe_end(&file)?.pipe().capacity()),
        F_SETPIPE_SZ => set_pipe_size(ctx, &file, arg),
        F_ADD_SEALS => {
            if !file.access().contains(AccessMode::WRITE) {
                return Err(EPERM);
            }
            let seals = SealFlags::from_bits(arg as u32).ok_or(EINVAL)?;
            memfd::add_seals(file.inode(), seals)?;
            Ok(0)
        }
        F_GET_SEALS => Ok(file.inode().seals().ok_or(EINVAL)?.get().bits() as usize),
        _ => Err(EINVAL),
    }
}

fn duplicate(ctx: &Ctx, file: Arc<File>, min: usize, close_on_exec: CloseOnExec) -> Result<usize> {
    let limit = fd_limit(ctx);
    if min >= limit || min > i32::MAX as usize {
        return Err(EINVAL);
    }
    Ok(ctx.files().insert(file, close_on_exec, min, limit)? as usize)
}

fn set_flags(ctx: &Ctx, file: &File, fd: Fd, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_truncate(flags);
    let adds = flags - file.flags();
    if adds.contains(OpenFlags::NOATIME) && !ctx.credentials().owns(&file.inode().metadata()) {
        return Err(EPERM);
    }
    match file.set_async(flags.contains(OpenFlags::ASYNC).then_some(fd)) {
        // Asking a file for signals that it does not send is no error here.
        Ok(()) | Err(ENOTTY) => {}
        Err(error) => return Err(error),
    }
    file.set_flags(flags);
    Ok(0)
}

fn owner(ctx: &Ctx, file: &File, command: u32, arg: usize) -> Result<usize> {
    let owner = file.owner();
    match command {
        F_GETOWN => return Ok(get_owner(file) as isize as usize),
        F_GETSIG => return Ok(usize::from(owner.signal())),
        F_GETOWN_EX => {
            let target = owner.target();
            let kind = match &target {
                // Linux has it so for want of anything better.
                Target::Nobody | Target::Thread(_) => F_OWNER_TID,
                Target::Process(_) => F_OWNER_PID,
                Target::Group(_) => F_OWNER_PGRP,
            };
            ctx.vm.write_val(arg, &[kind, target.number()])?;
        }
        F_SETOWN => set_owner(file, arg as i32)?,
        F_SETOWN_EX => {
            let [kind, number]: [u32; 2] = ctx.vm.read_val(arg)?;
            owner.set_target(match kind {
                F_OWNER_TID => Target::thread(number)?,
                F_OWNER_PID => Target::process(number)?,
                F_OWNER_PGRP => Target::group(number)?,
                _ => return Err(EINVAL),
            });
        }
        _ => {
            let signal = u8::try_from(arg).ok().filter(|signal| *signal <= 64).ok_or(EINVAL)?;
            owner.set_signal(signal);
        }
    }
    Ok(0)
}

/// The number of who gets the signals, as `F_GETOWN` tells it. The C library tells a group from an error by itself.
fn get_owner(file: &File) -> i32 {
    match file.owner().target() {
        target @ Target::Group(_) => -(target.number() as i32),
        target => target.number() as i32,
    }
}

/// `F_SETOWN`: a process, or, negative, a group.
fn set_owner(file: &File, number: i32) -> Result<()> {
    let target = match number {
        0.. => Target::process(number as Pid)?,
        _ => Target::group(number.checked_neg().ok_or(EINVAL)? as Pid)?,
    };
    file.owner().set_target(target);
    Ok(())
}

fn pipe_end(file: &File) -> Result<&PipeEnd> {
    file.downcast_ops().ok_or(EBADF)
}

fn set_pipe_size(ctx: &Ctx, file: &File, bytes: usize) -> Result<usize> {
    let pipe = pipe_end(file)?.pipe();
    // The largest that Linux can tell in one number.
    if bytes > 1 << 31 {
        return Err(EINVAL);
    }
    let more = bytes > pipe.capacity() && bytes > MAX_CAPACITY;
    if more && !ctx.credentials().has(CapSet::SYS_RESOURCE) {
        return Err(EPERM);
    }
    pipe.set_capacity(bytes)
}

/// Which owner a record lock has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LockFamily {
    Posix,
    OpenFile,
}

/// `struct flock`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct RawLock {
    kind: i16,
    whence: i16,
    padding0: u32,
    start: i64,
    len: i64,
    pid: i32,
    padding1: u32,
}

/// The first and last byte that a request means.
fn lock_range(file: &File, raw: &RawLock) -> Result<(u64, u64)> {
    let base = match raw.whence as u32 {
        SEEK_SET => 0,
        SEEK_CUR => file.offset(),
        SEEK_END => file.inode().metadata().size,
        _ => return Err(EINVAL),
    };
    let base = i64::try_from(base).map_err(|_| EOVERFLOW)?;
    let start = base.checked_add(raw.start).ok_or(EOVERFLOW)?;
    let (first, last) = match raw.len {
        0 => (start, LOCK_END as i64),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(EINVAL)?, start.checked_sub(1).ok_or(EINVAL)?),
    };
    match (u64::try_from(first), u64::try_from(last)) {
        (Ok(first), Ok(last)) => Ok((first, last)),
        _ => Err(EINVAL),
    }
}

fn read_lock(ctx: &Ctx, file: &File, addr: Vaddr, family: LockFamily) -> Result<RawLock> {
    let raw: RawLock = ctx.vm.read_val(addr)?;
    if family == LockFamily::OpenFile && raw.pid != 0 {
        return Err(EINVAL);
    }
    lock_range(file, &raw)?;
    Ok(raw)
}

fn lock_kind(raw: &RawLock) -> Result<Option<LockKind>> {
    match raw.kind as u32 {
        F_RDLCK => Ok(Some(LockKind::Read)),
        F_WRLCK => Ok(Some(LockKind::Write)),
        F_UNLCK => Ok(None),
        _ => Err(EINVAL),
    }
}

fn record(ctx: &Ctx, file: &File, raw: &RawLock, kind: LockKind, family: LockFamily) -> Result<RecordLock> {
    let (start, end) = lock_range(file, raw)?;
    let (owner, pid) = match family {
        LockFamily::Posix => (LockOwner::Process(ctx.files().id()), ctx.process.pid() as i32),
        LockFamily::OpenFile => (LockOwner::of_file(file), -1),
    };
    Ok(RecordLock { owner, pid, kind, start, end })
}

fn locks(file: &File) -> Result<&FileLocks> {
    file.inode().ext().map(|ext| &ext.locks).ok_or(EINVAL)
}

fn get_lock(ctx: &Ctx, file: &File, addr: Vaddr, family: LockFamily) -> Result<usize> {
    let mut raw = read_lock(ctx, file, addr, family)?;
    let kind = lock_kind(&raw)?.ok_or(EINVAL)?;
    let wanted = record(ctx, file, &raw, kind, family)?;
    match locks(file)?.test(&wanted) {
        None => raw.kind = F_UNLCK as i16,
        Some(held) => {
            raw.kind = if held.kind == LockKind::Read { F_RDLCK as i16 } else { F_WRLCK as i16 };
            raw.whence = SEEK_SET as i16;
            raw.start = held.start as i64;
            raw.len = if held.end >= LOCK_END { 0 } else { (held.end - held.start + 1) as i64 };
            raw.pid = held.pid;
        }
    }
    ctx.vm.write_val(addr, &raw)?;
    Ok(0)
}

fn set_lock(ctx: &Ctx, file: &File, addr: Vaddr, family: LockFamily, blocking: Blocking) -> Result<usize> {
    let raw = read_lock(ctx, file, addr, family)?;
    match lock_kind(&raw)? {
        None => {
            let wanted = record(ctx, file, &raw, LockKind::Read, family)?;
            locks(file)?.unlock(wanted.owner, wanted.start, wanted.end)?;
        }
        Some(kind) => {
            let needed = if kind == LockKind::Read { AccessMode::READ } else { AccessMode::WRITE };
            if !file.access().contains(needed) {
                return Err(EBADF);
            }
            let wanted = record(ctx, file, &raw, kind, family)?;
            locks(file)?.lock(wanted, blocking)?;
        }
    }
    Ok(0)
}

pub(super) fn sys_flock(ctx: &Ctx, fd: Fd, operation: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    let owner = LockOwner::of_file(&file);
    let blocking = if operation & LOCK_NB != 0 { Blocking::No } else { Blocking::Yes };
    if operation & LOCK_MAND != 0 {
        // Mandatory locks are gone; asking for one does nothing (since Linux 5.18).
        return Ok(0);
    }
    let kind = match operation & !LOCK_NB {
        LOCK_SH => LockKind::Read,
        LOCK_EX => LockKind::Write,
        LOCK_UN => {
            locks(&file)?.unflock(owner);
            return Ok(0);
        }
        _ => return Err(EINVAL),
    };
    locks(&file)?.flock(owner, kind, blocking)?;
    Ok(0)
}

pub(super) fn sys_ioctl(ctx: &Ctx, fd: Fd, command: u32, arg: usize) -> Result<usize> {
    let files = ctx.files();
    let file = files.get(fd)?;
    file.require(AccessMode::NONE)?;
    match command {
        FIOCLEX => files.set_close_on_exec(fd, CloseOnExec::Yes)?,
        FIONCLEX => files.set_close_on_exec(fd, CloseOnExec::No)?,
        FIONBIO => {
            let on = ctx.vm.read_val::<i32>(arg)? != 0;
            file.set_blocking(if on { Blocking::No } else { Blocking::Yes });
        }
        FIOASYNC => {
            let on = ctx.vm.read_val::<i32>(arg)? != 0;
            file.set_async(on.then_some(fd))?;
        }
        SIOCSPGRP | FIOSETOWN if file.inode().kind() == FileType::Socket => {
            set_owner(&file, ctx.vm.read_val(arg)?)?;
        }
        SIOCGPGRP | FIOGETOWN if file.inode().kind() == FileType::Socket => {
            ctx.vm.write_val(arg, &get_owner(&file))?;
        }
        FIONREAD if pipe_end(&file).is_ok() => {
            let len = pipe_end(&file)?.pipe().len();
            ctx.vm.write_val(arg, &(len as i32))?;
        }
        FIONREAD if file.inode().kind() == FileType::Regular => {
            let left = file.inode().metadata().size as i64 - file.offset() as i64;
            ctx.vm.write_val(arg, &(left as i32))?;
        }
        FIOQSIZE if matches!(file.inode().kind(), FileType::Regular | FileType::Directory) => {
            ctx.vm.write_val(arg, &(file.inode().metadata().size as i64))?;
        }
        FIGETBSZ => ctx.vm.write_val(arg, &(file.inode().metadata().block_size as i32))?,
        _ => return file.ops().ioctl(&file, command, arg),
    }
    Ok(0)
}
