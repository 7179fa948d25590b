// SPDX-License-Identifier: MPL-2.0

//! Asking about files: the stat family, statx, statfs, access, readlink.

use linux_raw_sys::general::{
    AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, STATX__RESERVED, STATX_BASIC_STATS,
    STATX_BTIME, STATX_MNT_ID,
};

use super::fs_util::{CWD, find_at, find_bytes_at, lookup_at};
use crate::{
    fs::{
        Fd, Path,
        inode::LinkTarget,
        inode_file::touch_path_atime,
        lookup::LastLink,
        mount::MountFlags,
        permission::Access,
        types::{FileType, FsStats, Metadata, NAME_MAX, Timestamp},
    },
    prelude::*,
    process::{Credentials, credentials::CapSet},
};

/// How statx synchronises with a server; there is none.
const STATX_SYNC_TYPE: u32 = 0x6000;
/// `st_flags` of statfs are valid.
const ST_VALID: i64 = 0x20;
/// `ST_RELATIME`.
const ST_RELATIME: i64 = 0x1000;

/// A time in `struct stat`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct Time {
    secs: i64,
    nanos: u64,
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self { secs: time.secs, nanos: time.nanos.into() }
    }
}

/// `struct stat` of x86-64.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    padding: u32,
    rdev: u64,
    size: i64,
    block_size: i64,
    blocks: i64,
    atime: Time,
    mtime: Time,
    ctime: Time,
    unused: [i64; 3],
}

impl From<Metadata> for Stat {
    fn from(meta: Metadata) -> Self {
        Self {
            dev: meta.dev.encode(),
            ino: meta.ino,
            nlink: meta.nlink.into(),
            mode: meta.kind.mode_bits() | u32::from(meta.mode),
            uid: meta.uid,
            gid: meta.gid,
            padding: 0,
            rdev: meta.rdev.encode(),
            size: meta.size as i64,
            block_size: meta.block_size.into(),
            blocks: meta.blocks as i64,
            atime: meta.atime.into(),
            mtime: meta.mtime.into(),
            ctime: meta.ctime.into(),
            unused: [0; 3],
        }
    }
}

fn put_stat(ctx: &Ctx, place: &Path, buf: Vaddr) -> Result<usize> {
    ctx.vm.write_val(buf, &Stat::from(place.inode().metadata()))?;
    Ok(0)
}

pub(super) fn sys_stat(ctx: &Ctx, path: Vaddr, buf: Vaddr) -> Result<usize> {
    put_stat(ctx, &find_at(ctx, CWD, path, 0)?, buf)
}

pub(super) fn sys_lstat(ctx: &Ctx, path: Vaddr, buf: Vaddr) -> Result<usize> {
    put_stat(ctx, &find_at(ctx, CWD, path, AT_SYMLINK_NOFOLLOW)?, buf)
}

pub(super) fn sys_fstat(ctx: &Ctx, fd: Fd, buf: Vaddr) -> Result<usize> {
    put_stat(ctx, ctx.files().get(fd)?.path(), buf)
}

pub(super) fn sys_newfstatat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, buf: Vaddr, flags: u32) -> Result<usize> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | STATX_SYNC_TYPE) != 0 {
        return Err(EINVAL);
    }
    put_stat(ctx, &find_at(ctx, dir_fd, path, flags)?, buf)
}

/// A time in `struct statx`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct StatxTime {
    secs: i64,
    nanos: u32,
    reserved: i32,
}

impl From<Timestamp> for StatxTime {
    fn from(time: Timestamp) -> Self {
        Self { secs: time.secs, nanos: time.nanos, reserved: 0 }
    }
}

/// `struct statx`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare0: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: StatxTime,
    btime: StatxTime,
    ctime: StatxTime,
    mtime: StatxTime,
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    mount_id: u64,
    dio: [u32; 2],
    spare: [u64; 12],
}

/// The file is the root of a mount.
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

pub(super) fn sys_statx(
    ctx: &Ctx,
    dir_fd: Fd,
    path: Vaddr,
    flags: u32,
    mask: u32,
    buf: Vaddr,
) -> Result<usize> {
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | STATX_SYNC_TYPE;
    if flags & !known != 0 || flags & STATX_SYNC_TYPE == STATX_SYNC_TYPE || mask & STATX__RESERVED != 0 {
        return Err(EINVAL);
    }
    let place = find_at(ctx, dir_fd, path, flags)?;
    let meta = place.inode().metadata();
    let root = place.is_mount_root();
    ctx.vm.write_val(
        buf,
        &Statx {
            mask: STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID,
            block_size: meta.block_size,
            attributes: if root { STATX_ATTR_MOUNT_ROOT } else { 0 },
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            mode: (meta.kind.mode_bits() as u16) | meta.mode,
            spare0: 0,
            ino: meta.ino,
            size: meta.size,
            blocks: meta.blocks,
            attributes_mask: STATX_ATTR_MOUNT_ROOT,
            atime: meta.atime.into(),
            btime: meta.btime.into(),
            ctime: meta.ctime.into(),
            mtime: meta.mtime.into(),
            rdev_major: meta.rdev.major,
            rdev_minor: meta.rdev.minor,
            dev_major: meta.dev.major,
            dev_minor: meta.dev.minor,
            mount_id: place.mount().id().into(),
            dio: [0; 2],
            spare: [0; 12],
        },
    )?;
    Ok(0)
}

/// `struct statfs`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct Statfs {
    magic: i64,
    block_size: i64,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    free_files: u64,
    id: u64,
    name_max: i64,
    fragment_size: i64,
    flags: i64,
    spare: [i64; 4],
}

fn put_statfs(ctx: &Ctx, place: &Path, buf: Vaddr) -> Result<usize> {
    let stats: FsStats = place.inode().file_system().stats();
    let mount = place.mount().flags();
    // The low bits and NOATIME have the values of mount(2); RELATIME has not.
    let mut flags = i64::from((mount - MountFlags::RELATIME - MountFlags::STRICTATIME).bits()) | ST_VALID;
    if mount.contains(MountFlags::RELATIME) {
        flags |= ST_RELATIME;
    }
    ctx.vm.write_val(
        buf,
        &Statfs {
            magic: stats.magic as i64,
            block_size: stats.block_size as i64,
            blocks: stats.blocks,
            free: stats.free,
            available: stats.free,
            files: stats.files,
            free_files: stats.free_files,
            id: stats.id,
            name_max: NAME_MAX as i64,
            fragment_size: stats.block_size as i64,
            flags,
            spare: [0; 4],
        },
    )?;
    Ok(0)
}

pub(super) fn sys_statfs(ctx: &Ctx, path: Vaddr, buf: Vaddr) -> Result<usize> {
    put_statfs(ctx, &find_at(ctx, CWD, path, 0)?, buf)
}

pub(super) fn sys_fstatfs(ctx: &Ctx, fd: Fd, buf: Vaddr) -> Result<usize> {
    put_statfs(ctx, ctx.files().get(fd)?.path(), buf)
}

pub(super) fn sys_access(ctx: &Ctx, path: Vaddr, mode: u32) -> Result<usize> {
    access(ctx, CWD, path, mode, 0)
}

pub(super) fn sys_faccessat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32) -> Result<usize> {
    access(ctx, dir_fd, path, mode, 0)
}

pub(super) fn sys_faccessat2(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32, flags: u32) -> Result<usize> {
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    access(ctx, dir_fd, path, mode, flags)
}

/// What the caller may do by its real identity, whatever its effective one is.
fn real_credentials(cred: &Credentials) -> Credentials {
    let effective = if cred.uid == 0 { cred.permitted } else { CapSet::empty() };
    Credentials { fsuid: cred.uid, fsgid: cred.gid, effective, ..cred.clone() }
}

fn access(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32, flags: u32) -> Result<usize> {
    let wanted = Access::from_bits(mode).ok_or(EINVAL)?;
    let cred = match flags & AT_EACCESS {
        0 => Arc::new(real_credentials(&ctx.credentials())),
        _ => ctx.credentials(),
    };
    let path = ctx.vm.read_path(path)?;
    let place = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        find_bytes_at(ctx, dir_fd, b"", flags, LastLink::Follow)?
    } else {
        let mut lookup = lookup_at(ctx, dir_fd, path.as_bytes())?;
        lookup.cred = cred.clone();
        let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { LastLink::Stay } else { LastLink::Follow };
        lookup.find(path.as_bytes(), last)?
    };
    let meta = place.inode().metadata();
    let noexec = place.mount().flags().contains(MountFlags::NOEXEC);
    if wanted.contains(Access::EXEC) && meta.kind == FileType::Regular && noexec {
        return Err(EACCES);
    }
    if !wanted.is_empty() {
        cred.check_access(&meta, wanted)?;
    }
    if wanted.contains(Access::WRITE)
        && matches!(meta.kind, FileType::Regular | FileType::Directory | FileType::Symlink)
    {
        place.mount().require_writable()?;
    }
    Ok(0)
}

pub(super) fn sys_readlink(ctx: &Ctx, path: Vaddr, buf: Vaddr, size: i32) -> Result<usize> {
    sys_readlinkat(ctx, CWD, path, buf, size)
}

pub(super) fn sys_readlinkat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, buf: Vaddr, size: i32) -> Result<usize> {
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(EINVAL)?;
    // An empty path names the link that the descriptor itself refers to (readlink(2), since Linux 2.6.39).
    let place = find_at(ctx, dir_fd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    if place.inode().kind() != FileType::Symlink {
        let empty = ctx.vm.read_val::<u8>(path)? == 0;
        return Err(if empty { ENOENT } else { EINVAL });
    }
    let target = match place.inode().read_link()? {
        LinkTarget::Path(target) => target.into_vec(),
        LinkTarget::File(place) => place.display()?,
    };
    touch_path_atime(&place);
    let len = target.len().min(size);
    ctx.vm.write_bytes(buf, &target[..len])?;
    Ok(len)
}
