// SPDX-License-Identifier: MPL-2.0

//! Sizes and storage: truncate, fallocate, the sync family, fadvise, readahead.

use linux_raw_sys::general::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_ZERO_RANGE, POSIX_FADV_NOREUSE,
};

use super::fs_util::{CWD, find_at, offset};
use crate::{
    fs::{
        Fd,
        current::{file_size_limit, now, signal_file_too_large},
        file::{AccessMode, Position},
        inode::Allocate,
        inode_file::{WriteGuard, drop_privileges, truncate},
        permission::Access,
        types::{AttrChange, FileType},
    },
    prelude::*,
};

/// All flags of `sync_file_range`.
const SYNC_FILE_RANGE_FLAGS: u32 = 7;

pub(super) fn sys_truncate(ctx: &Ctx, path: Vaddr, size: i64) -> Result<usize> {
    let size = offset(size)?;
    let place = find_at(ctx, CWD, path, 0)?;
    let meta = place.inode().metadata();
    match meta.kind {
        FileType::Regular => {}
        FileType::Directory => return Err(EISDIR),
        _ => return Err(EINVAL),
    }
    place.mount().require_writable()?;
    ctx.credentials().check_access(&meta, Access::WRITE)?;
    let _writer = WriteGuard::writer(place.inode())?;
    truncate(place.inode(), size)?;
    Ok(0)
}

pub(super) fn sys_ftruncate(ctx: &Ctx, fd: Fd, size: i64) -> Result<usize> {
    let size = offset(size)?;
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    if file.inode().kind() != FileType::Regular || !file.access().contains(AccessMode::WRITE) {
        return Err(EINVAL);
    }
    truncate(file.inode(), size)?;
    Ok(0)
}

pub(super) fn sys_fallocate(ctx: &Ctx, fd: Fd, mode: u32, pos: i64, len: i64) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    let (pos, len) = (offset(pos)?, offset(len)?);
    if len == 0 {
        return Err(EINVAL);
    }
    const PUNCH: u32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const ALONE: u32 = FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;
    const KNOWN: u32 = PUNCH | ALONE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE;
    // A hole keeps the size, and is not zeroed as well.
    let punches_badly = mode & FALLOC_FL_PUNCH_HOLE != 0 && mode & (PUNCH | FALLOC_FL_ZERO_RANGE) != PUNCH;
    if mode & !KNOWN != 0 || punches_badly {
        return Err(EOPNOTSUPP);
    }
    file.require(AccessMode::WRITE)?;
    let inode = file.inode();
    match inode.kind() {
        FileType::Regular => {}
        FileType::Fifo => return Err(ESPIPE),
        FileType::Directory => return Err(EISDIR),
        _ => return Err(ENODEV),
    }
    let end = pos.checked_add(len).filter(|end| i64::try_from(*end).is_ok()).ok_or(EFBIG)?;
    // The others are for files with storage behind them.
    let how = match mode {
        0 => Allocate::Extend,
        FALLOC_FL_KEEP_SIZE => Allocate::KeepSize,
        PUNCH => Allocate::PunchHole,
        _ => return Err(EOPNOTSUPP),
    };
    let _io = inode.ext().map(|ext| ext.io.write());
    let grows = how == Allocate::Extend && end > inode.metadata().size;
    if grows && end > file_size_limit() {
        signal_file_too_large();
        return Err(EFBIG);
    }
    drop_privileges(inode);
    inode.allocate(how, pos, len)?;
    if grows {
        inode.set_attr(&AttrChange { mtime: Some(now()), ctime: Some(now()), ..AttrChange::default() })?;
    }
    Ok(0)
}

pub(super) fn sys_sync(_ctx: &Ctx) -> Result<usize> {
    Ok(0)
}

pub(super) fn sys_syncfs(ctx: &Ctx, fd: Fd) -> Result<usize> {
    ctx.files().get(fd)?.require(AccessMode::NONE)?;
    Ok(0)
}

pub(super) fn sys_fsync(ctx: &Ctx, fd: Fd) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    file.ops().sync(&file)?;
    Ok(0)
}

pub(super) fn sys_sync_file_range(ctx: &Ctx, fd: Fd, pos: i64, len: i64, flags: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    if flags & !SYNC_FILE_RANGE_FLAGS != 0 {
        return Err(EINVAL);
    }
    offset(pos)?.checked_add(offset(len)?).ok_or(EINVAL)?;
    match file.inode().kind() {
        FileType::Regular | FileType::Directory | FileType::Symlink | FileType::BlockDevice => Ok(0),
        _ => Err(ESPIPE),
    }
}

pub(super) fn sys_fadvise64(ctx: &Ctx, fd: Fd, _pos: i64, len: i64, advice: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    if file.inode().kind() == FileType::Fifo {
        return Err(ESPIPE);
    }
    offset(len)?;
    if advice > POSIX_FADV_NOREUSE { Err(EINVAL) } else { Ok(0) }
}

pub(super) fn sys_readahead(ctx: &Ctx, fd: Fd, _pos: i64, _count: usize) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::READ)?;
    if file.inode().kind() != FileType::Regular || file.ops().position() == Position::Stream {
        return Err(EINVAL);
    }
    Ok(0)
}
