// SPDX-License-Identifier: MPL-2.0

//! Changing attributes: the chmod, chown and utime families.

use linux_raw_sys::general::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, UTIME_NOW, UTIME_OMIT};

use super::fs_util::{CWD, find_at};
use crate::{
    fs::{
        Fd, Path,
        current::now,
        file::AccessMode,
        permission::Access,
        types::{AttrChange, FileType, S_ISGID, S_ISUID, Timestamp},
    },
    prelude::*,
    process::credentials::CapSet,
};

/// The owner or group that says to leave it alone.
const UNCHANGED: u32 = u32::MAX;

/// The file behind a descriptor that is more than a location.
fn open_file(ctx: &Ctx, fd: Fd) -> Result<Path> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    Ok(file.path().clone())
}

fn chmod(ctx: &Ctx, place: &Path, mode: u32) -> Result<usize> {
    place.mount().require_writable()?;
    let meta = place.inode().metadata();
    if meta.kind == FileType::Symlink {
        return Err(EOPNOTSUPP);
    }
    let cred = ctx.credentials();
    if !cred.owns(&meta) {
        return Err(EPERM);
    }
    let mut mode = (mode & 0o7777) as u16;
    if !cred.in_group(meta.gid) && !cred.has(CapSet::FSETID) {
        mode &= !S_ISGID;
    }
    place.inode().set_attr(&AttrChange { mode: Some(mode), ctime: Some(now()), ..AttrChange::default() })?;
    Ok(0)
}

pub(super) fn sys_chmod(ctx: &Ctx, path: Vaddr, mode: u32) -> Result<usize> {
    chmod(ctx, &find_at(ctx, CWD, path, 0)?, mode)
}

pub(super) fn sys_fchmod(ctx: &Ctx, fd: Fd, mode: u32) -> Result<usize> {
    chmod(ctx, &open_file(ctx, fd)?, mode)
}

pub(super) fn sys_fchmodat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32) -> Result<usize> {
    chmod(ctx, &find_at(ctx, dir_fd, path, 0)?, mode)
}

pub(super) fn sys_fchmodat2(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32, flags: u32) -> Result<usize> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    chmod(ctx, &find_at(ctx, dir_fd, path, flags)?, mode)
}

fn chown(ctx: &Ctx, place: &Path, uid: u32, gid: u32) -> Result<usize> {
    place.mount().require_writable()?;
    let meta = place.inode().metadata();
    let cred = ctx.credentials();
    let (uid, gid) = ((uid != UNCHANGED).then_some(uid), (gid != UNCHANGED).then_some(gid));
    let owner = cred.fsuid == meta.uid;
    let uid_allowed = uid.is_none_or(|uid| owner && uid == meta.uid);
    let gid_allowed = gid.is_none_or(|gid| owner && (gid == meta.gid || cred.in_group(gid)));
    if !(uid_allowed && gid_allowed) && !cred.has(CapSet::CHOWN) {
        return Err(EPERM);
    }
    let mut change = AttrChange { uid, gid, ctime: Some(now()), ..AttrChange::default() };
    if meta.kind != FileType::Directory {
        let group = if meta.mode & 0o010 != 0 { S_ISGID } else { 0 };
        change.mode = Some(meta.mode & !(S_ISUID | group));
    }
    place.inode().set_attr(&change)?;
    Ok(0)
}

pub(super) fn sys_chown(ctx: &Ctx, path: Vaddr, uid: u32, gid: u32) -> Result<usize> {
    chown(ctx, &find_at(ctx, CWD, path, 0)?, uid, gid)
}

pub(super) fn sys_lchown(ctx: &Ctx, path: Vaddr, uid: u32, gid: u32) -> Result<usize> {
    chown(ctx, &find_at(ctx, CWD, path, AT_SYMLINK_NOFOLLOW)?, uid, gid)
}

pub(super) fn sys_fchown(ctx: &Ctx, fd: Fd, uid: u32, gid: u32) -> Result<usize> {
    chown(ctx, &open_file(ctx, fd)?, uid, gid)
}

pub(super) fn sys_fchownat(
    ctx: &Ctx,
    dir_fd: Fd,
    path: Vaddr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<usize> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    chown(ctx, &find_at(ctx, dir_fd, path, flags)?, uid, gid)
}

/// What to do with one time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewTime {
    Now,
    Keep,
    Set(Timestamp),
}

impl NewTime {
    fn value(self) -> Option<Timestamp> {
        match self {
            Self::Now => Some(now()),
            Self::Keep => None,
            Self::Set(time) => Some(time),
        }
    }
}

/// `struct timespec` or `struct timeval`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct RawTime {
    secs: i64,
    fraction: i64,
}

fn utimes(ctx: &Ctx, place: &Path, atime: NewTime, mtime: NewTime) -> Result<usize> {
    if (atime, mtime) == (NewTime::Keep, NewTime::Keep) {
        return Ok(0);
    }
    place.mount().require_writable()?;
    let meta = place.inode().metadata();
    let cred = ctx.credentials();
    if !cred.owns(&meta) {
        if (atime, mtime) != (NewTime::Now, NewTime::Now) {
            return Err(EPERM);
        }
        cred.check_access(&meta, Access::WRITE)?;
    }
    place.inode().set_attr(&AttrChange {
        atime: atime.value(),
        mtime: mtime.value(),
        ctime: Some(now()),
        ..AttrChange::default()
    })?;
    Ok(0)
}

pub(super) fn sys_utimensat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, times: Vaddr, flags: u32) -> Result<usize> {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if times != 0 {
        let [raw_atime, raw_mtime]: [RawTime; 2] = ctx.vm.read_val(times)?;
        (atime, mtime) = (from_timespec(raw_atime)?, from_timespec(raw_mtime)?);
    }
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    if (atime, mtime) == (NewTime::Keep, NewTime::Keep) {
        return Ok(0);
    }
    let place = match path {
        0 if dir_fd == CWD => return Err(EFAULT),
        0 if flags != 0 => return Err(EINVAL),
        0 => open_file(ctx, dir_fd)?,
        path => find_at(ctx, dir_fd, path, flags)?,
    };
    utimes(ctx, &place, atime, mtime)
}

fn from_timespec(raw: RawTime) -> Result<NewTime> {
    Ok(match u32::try_from(raw.fraction).map_err(|_| EINVAL)? {
        UTIME_NOW => NewTime::Now,
        UTIME_OMIT => NewTime::Keep,
        nanos if nanos < 1_000_000_000 => NewTime::Set(Timestamp { secs: raw.secs, nanos }),
        _ => return Err(EINVAL),
    })
}

fn from_timeval(raw: RawTime) -> Result<NewTime> {
    let micros = u32::try_from(raw.fraction).ok().filter(|micros| *micros < 1_000_000).ok_or(EINVAL)?;
    Ok(NewTime::Set(Timestamp { secs: raw.secs, nanos: micros * 1000 }))
}

pub(super) fn sys_futimesat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, times: Vaddr) -> Result<usize> {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if times != 0 {
        let [raw_atime, raw_mtime]: [RawTime; 2] = ctx.vm.read_val(times)?;
        (atime, mtime) = (from_timeval(raw_atime)?, from_timeval(raw_mtime)?);
    }
    let place = match path {
        0 if dir_fd != CWD => open_file(ctx, dir_fd)?,
        path => find_at(ctx, dir_fd, path, 0)?,
    };
    utimes(ctx, &place, atime, mtime)
}

pub(super) fn sys_utimes(ctx: &Ctx, path: Vaddr, times: Vaddr) -> Result<usize> {
    sys_futimesat(ctx, CWD, path, times)
}

pub(super) fn sys_utime(ctx: &Ctx, path: Vaddr, times: Vaddr) -> Result<usize> {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if times != 0 {
        let [raw_atime, raw_mtime]: [i64; 2] = ctx.vm.read_val(times)?;
        let whole = |secs| NewTime::Set(Timestamp { secs, nanos: 0 });
        (atime, mtime) = (whole(raw_atime), whole(raw_mtime));
    }
    utimes(ctx, &find_at(ctx, CWD, path, 0)?, atime, mtime)
}
