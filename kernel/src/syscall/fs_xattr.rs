// SPDX-License-Identifier: MPL-2.0

//! Extended attributes: the getxattr, setxattr, listxattr and removexattr families.
//!
//! Names live in namespaces with rules of their own (`xattr(7)`): `user.` follows the permission bits of regular files and
//! directories, `trusted.` is for CAP_SYS_ADMIN alone, `security.` can be read by all; there are no others.

use linux_raw_sys::general::{AT_SYMLINK_NOFOLLOW, XATTR_CREATE, XATTR_REPLACE};

use super::fs_util::{CWD, find_at};
use crate::{
    fs::{Fd, Path, file::AccessMode, inode::XattrMode, permission::Access, types::FileType},
    prelude::*,
    process::credentials::CapSet,
};

/// The longest name, in bytes.
const NAME_MAX: usize = 255;
/// Both flags at once, which no attribute can satisfy.
const CREATE_AND_REPLACE: u32 = XATTR_CREATE | XATTR_REPLACE;
/// The longest value, in bytes.
const SIZE_MAX: usize = 65536;

fn open_file(ctx: &Ctx, fd: Fd) -> Result<Path> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    Ok(file.path().clone())
}

fn read_name(ctx: &Ctx, addr: Vaddr) -> Result<Vec<u8>> {
    let name = ctx.vm.read_cstring(addr, NAME_MAX + 1).map_err(|error| match error {
        ENAMETOOLONG => ERANGE,
        error => error,
    })?;
    if name.is_empty() { Err(ERANGE) } else { Ok(name.into_bytes()) }
}

/// Fails unless the caller may read or write the attribute `name`.
fn check(ctx: &Ctx, place: &Path, name: &[u8], wanted: Access) -> Result<()> {
    let writes = wanted.contains(Access::WRITE);
    if writes {
        place.mount().require_writable()?;
    }
    let cred = ctx.credentials();
    let meta = place.inode().metadata();
    let denied = if writes { EPERM } else { ENODATA };
    if name.starts_with(b"trusted.") {
        return if cred.has(CapSet::SYS_ADMIN) { Ok(()) } else { Err(denied) };
    }
    if name.starts_with(b"security.") {
        return if writes && !cred.has(CapSet::SYS_ADMIN) { Err(EPERM) } else { Ok(()) };
    }
    if !name.starts_with(b"user.") || name == b"user." {
        return Err(if name == b"user." { EINVAL } else { EOPNOTSUPP });
    }
    if !matches!(meta.kind, FileType::Regular | FileType::Directory) {
        return Err(denied);
    }
    cred.check_access(&meta, wanted)
}

/// Hands out a value or a list: its length for a buffer of no size.
fn put(ctx: &Ctx, buf: Vaddr, size: usize, bytes: &[u8]) -> Result<usize> {
    if size > 0 {
        if bytes.len() > size {
            return Err(ERANGE);
        }
        ctx.vm.write_bytes(buf, bytes)?;
    }
    Ok(bytes.len())
}

fn get(ctx: &Ctx, place: &Path, name: Vaddr, buf: Vaddr, size: usize) -> Result<usize> {
    let name = read_name(ctx, name)?;
    check(ctx, place, &name, Access::READ)?;
    put(ctx, buf, size, &place.inode().xattr(&name)?)
}

pub(super) fn sys_getxattr(ctx: &Ctx, path: Vaddr, name: Vaddr, buf: Vaddr, size: usize) -> Result<usize> {
    get(ctx, &find_at(ctx, CWD, path, 0)?, name, buf, size)
}

pub(super) fn sys_lgetxattr(ctx: &Ctx, path: Vaddr, name: Vaddr, buf: Vaddr, size: usize) -> Result<usize> {
    get(ctx, &find_at(ctx, CWD, path, AT_SYMLINK_NOFOLLOW)?, name, buf, size)
}

pub(super) fn sys_fgetxattr(ctx: &Ctx, fd: Fd, name: Vaddr, buf: Vaddr, size: usize) -> Result<usize> {
    get(ctx, &open_file(ctx, fd)?, name, buf, size)
}

fn set(ctx: &Ctx, place: &Path, name: Vaddr, value: Vaddr, size: usize, flags: u32) -> Result<usize> {
    let mode = match flags {
        0 => XattrMode::Any,
        XATTR_CREATE => XattrMode::Create,
        XATTR_REPLACE => XattrMode::Replace,
        CREATE_AND_REPLACE => XattrMode::Never,
        _ => return Err(EINVAL),
    };
    let name = read_name(ctx, name)?;
    if size > SIZE_MAX {
        return Err(E2BIG);
    }
    let value: Vec<u8> = ctx.vm.read_vec(value, size)?;
    check(ctx, place, &name, Access::WRITE)?;
    place.inode().set_xattr(&name, &value, mode)?;
    Ok(0)
}

pub(super) fn sys_setxattr(
    ctx: &Ctx,
    path: Vaddr,
    name: Vaddr,
    value: Vaddr,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(ctx, &find_at(ctx, CWD, path, 0)?, name, value, size, flags)
}

pub(super) fn sys_lsetxattr(
    ctx: &Ctx,
    path: Vaddr,
    name: Vaddr,
    value: Vaddr,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(ctx, &find_at(ctx, CWD, path, AT_SYMLINK_NOFOLLOW)?, name, value, size, flags)
}

pub(super) fn sys_fsetxattr(
    ctx: &Ctx,
    fd: Fd,
    name: Vaddr,
    value: Vaddr,
    size: usize,
    flags: u32,
) -> Result<usize> {
    set(ctx, &open_file(ctx, fd)?, name, value, size, flags)
}

fn list(ctx: &Ctx, place: &Path, buf: Vaddr, size: usize) -> Result<usize> {
    let all = place.inode().list_xattr()?;
    let trusted = ctx.credentials().has(CapSet::SYS_ADMIN);
    let mut names = try_with_capacity(all.len())?;
    for name in all.split_inclusive(|byte| *byte == 0) {
        if trusted || !name.starts_with(b"trusted.") {
            names.extend_from_slice(name);
        }
    }
    put(ctx, buf, size, &names)
}

pub(super) fn sys_listxattr(ctx: &Ctx, path: Vaddr, buf: Vaddr, size: usize) -> Result<usize> {
    list(ctx, &find_at(ctx, CWD, path, 0)?, buf, size)
}

pub(super) fn sys_llistxattr(ctx: &Ctx, path: Vaddr, buf: Vaddr, size: usize) -> Result<usize> {
    list(ctx, &find_at(ctx, CWD, path, AT_SYMLINK_NOFOLLOW)?, buf, size)
}

pub(super) fn sys_flistxattr(ctx: &Ctx, fd: Fd, buf: Vaddr, size: usize) -> Result<usize> {
    list(ctx, &open_file(ctx, fd)?, buf, size)
}

fn remove(ctx: &Ctx, place: &Path, name: Vaddr) -> Result<usize> {
    let name = read_name(ctx, name)?;
    check(ctx, place, &name, Access::WRITE)?;
    place.inode().remove_xattr(&name)?;
    Ok(0)
}

pub(super) fn sys_removexattr(ctx: &Ctx, path: Vaddr, name: Vaddr) -> Result<usize> {
    remove(ctx, &find_at(ctx, CWD, path, 0)?, name)
}

pub(super) fn sys_lremovexattr(ctx: &Ctx, path: Vaddr, name: Vaddr) -> Result<usize> {
    remove(ctx, &find_at(ctx, CWD, path, AT_SYMLINK_NOFOLLOW)?, name)
}

pub(super) fn sys_fremovexattr(ctx: &Ctx, fd: Fd, name: Vaddr) -> Result<usize> {
    remove(ctx, &open_file(ctx, fd)?, name)
}
