// SPDX-License-Identifier: MPL-2.0

//! Directories and names: mkdir, rmdir, unlink, link, symlink, rename, mknod, getdents, chdir, getcwd, umask.

use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFMT,
};

use super::fs_util::{CWD, find_bytes_at, lookup_at};
use crate::{
    fs::{
        Fd,
        lookup::LastLink,
        namei::{self, Removal},
        types::{DeviceId, DirEntry, FileType, NewNode, RenameMode, Whence},
    },
    prelude::*,
    process::credentials::CapSet,
};

/// The most bytes of a listing that are gathered at once.
const LIST_BUFFER: usize = 32 * 1024;
/// The longest record of an entry, whose name has 255 bytes.
const LONGEST: usize = 280;

/// Creates a node under the path at `path`. The umask is taken off `mode`.
fn create(ctx: &Ctx, dir_fd: Fd, path: Vaddr, node: NewNode<'_>, mode: u32) -> Result<usize> {
    let path = ctx.vm.read_path(path)?;
    let lookup = lookup_at(ctx, dir_fd, path.as_bytes())?;
    namei::create(&lookup, path.as_bytes(), node, mode as u16 & !ctx.fs().umask())?;
    Ok(0)
}

pub(super) fn sys_mkdir(ctx: &Ctx, path: Vaddr, mode: u32) -> Result<usize> {
    sys_mkdirat(ctx, CWD, path, mode)
}

pub(super) fn sys_mkdirat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32) -> Result<usize> {
    create(ctx, dir_fd, path, NewNode::Directory, mode & 0o1777)
}

pub(super) fn sys_mknod(ctx: &Ctx, path: Vaddr, mode: u32, dev: u32) -> Result<usize> {
    sys_mknodat(ctx, CWD, path, mode, dev)
}

pub(super) fn sys_mknodat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, mode: u32, dev: u32) -> Result<usize> {
    let id = DeviceId::decode(dev.into());
    let node = match FileType::from_mode_bits(mode) {
        None if mode & S_IFMT == 0 => NewNode::Regular,
        Some(FileType::Regular) => NewNode::Regular,
        Some(FileType::CharDevice) => NewNode::CharDevice(id),
        Some(FileType::BlockDevice) => NewNode::BlockDevice(id),
        Some(FileType::Fifo) => NewNode::Fifo,
        Some(FileType::Socket) => NewNode::Socket,
        Some(FileType::Directory) => return Err(EPERM),
        _ => return Err(EINVAL),
    };
    create(ctx, dir_fd, path, node, mode & 0o7777)
}

pub(super) fn sys_symlink(ctx: &Ctx, target: Vaddr, path: Vaddr) -> Result<usize> {
    sys_symlinkat(ctx, target, CWD, path)
}

pub(super) fn sys_symlinkat(ctx: &Ctx, target: Vaddr, dir_fd: Fd, path: Vaddr) -> Result<usize> {
    let target = ctx.vm.read_path(target)?;
    create(ctx, dir_fd, path, NewNode::Symlink(target.as_bytes()), 0o777)
}

pub(super) fn sys_link(ctx: &Ctx, old: Vaddr, new: Vaddr) -> Result<usize> {
    sys_linkat(ctx, CWD, old, CWD, new, 0)
}

pub(super) fn sys_linkat(
    ctx: &Ctx,
    old_fd: Fd,
    old: Vaddr,
    new_fd: Fd,
    new: Vaddr,
    flags: u32,
) -> Result<usize> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    if flags & AT_EMPTY_PATH != 0 && !ctx.credentials().has(CapSet::DAC_READ_SEARCH) {
        return Err(ENOENT);
    }
    let last = if flags & AT_SYMLINK_FOLLOW != 0 { LastLink::Follow } else { LastLink::Stay };
    let old = ctx.vm.read_path(old)?;
    let target = find_bytes_at(ctx, old_fd, old.as_bytes(), flags, last)?;
    let new = ctx.vm.read_path(new)?;
    namei::link(&lookup_at(ctx, new_fd, new.as_bytes())?, &target, new.as_bytes())?;
    Ok(0)
}

fn remove(ctx: &Ctx, dir_fd: Fd, path: Vaddr, what: Removal) -> Result<usize> {
    let path = ctx.vm.read_path(path)?;
    namei::remove(&lookup_at(ctx, dir_fd, path.as_bytes())?, path.as_bytes(), what)?;
    Ok(0)
}

pub(super) fn sys_rmdir(ctx: &Ctx, path: Vaddr) -> Result<usize> {
    remove(ctx, CWD, path, Removal::Directory)
}

pub(super) fn sys_unlink(ctx: &Ctx, path: Vaddr) -> Result<usize> {
    remove(ctx, CWD, path, Removal::File)
}

pub(super) fn sys_unlinkat(ctx: &Ctx, dir_fd: Fd, path: Vaddr, flags: u32) -> Result<usize> {
    match flags {
        0 => remove(ctx, dir_fd, path, Removal::File),
        AT_REMOVEDIR => remove(ctx, dir_fd, path, Removal::Directory),
        _ => Err(EINVAL),
    }
}

pub(super) fn sys_rename(ctx: &Ctx, old: Vaddr, new: Vaddr) -> Result<usize> {
    sys_renameat2(ctx, CWD, old, CWD, new, 0)
}

pub(super) fn sys_renameat(ctx: &Ctx, old_fd: Fd, old: Vaddr, new_fd: Fd, new: Vaddr) -> Result<usize> {
    sys_renameat2(ctx, old_fd, old, new_fd, new, 0)
}

pub(super) fn sys_renameat2(
    ctx: &Ctx,
    old_fd: Fd,
    old: Vaddr,
    new_fd: Fd,
    new: Vaddr,
    flags: u32,
) -> Result<usize> {
    let mode = match flags {
        0 => RenameMode::Replace,
        RENAME_NOREPLACE => RenameMode::NoReplace,
        RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return Err(EINVAL),
    };
    let (old, new) = (ctx.vm.read_path(old)?, ctx.vm.read_path(new)?);
    let old_lookup = lookup_at(ctx, old_fd, old.as_bytes())?;
    let new_lookup = lookup_at(ctx, new_fd, new.as_bytes())?;
    namei::rename(&old_lookup, old.as_bytes(), &new_lookup, new.as_bytes(), mode)?;
    Ok(0)
}

/// The two layouts of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: the type is the last byte of the record.
    Old,
    /// `struct linux_dirent64`: the type comes before the name.
    New,
}

/// Adds the record of an entry to `out`, unless that would make it longer than `limit`, or there is no memory.
fn put_entry(out: &mut Vec<u8>, limit: usize, entry: DirEntry<'_>, layout: Layout) -> bool {
    // Inode number and offset (8 each), length of the record (2), type (1), name, NUL.
    let len = (8 + 8 + 2 + 1 + entry.name.len() + 1).next_multiple_of(8);
    let start = out.len();
    if start + len > limit || try_reserve(out, len).is_err() {
        return false;
    }
    out.extend_from_slice(&entry.ino.to_ne_bytes());
    out.extend_from_slice(&entry.next.to_ne_bytes());
    out.extend_from_slice(&(len as u16).to_ne_bytes());
    if layout == Layout::New {
        out.push(entry.kind.dirent_type());
    }
    out.extend_from_slice(entry.name);
    out.resize(start + len, 0);
    if layout == Layout::Old {
        out[start + len - 1] = entry.kind.dirent_type();
    }
    true
}

fn list(ctx: &Ctx, fd: Fd, buf: Vaddr, size: u32, layout: Layout) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    let limit = (size as usize).min(LIST_BUFFER);
    let before = file.offset();
    let mut out = Vec::new();
    try_reserve(&mut out, LONGEST.min(limit))?;
    let mut too_small = false;
    file.readdir(&mut |entry| {
        let fits = put_entry(&mut out, limit, entry, layout);
        too_small = !fits && out.is_empty();
        fits
    })?;
    if too_small {
        return Err(EINVAL);
    }
    if let Err(error) = ctx.vm.write_bytes(buf, &out) {
        // What did not reach the program is listed again.
        file.seek(before as i64, Whence::Set)?;
        return Err(error);
    }
    Ok(out.len())
}

pub(super) fn sys_getdents(ctx: &Ctx, fd: Fd, buf: Vaddr, size: u32) -> Result<usize> {
    list(ctx, fd, buf, size, Layout::Old)
}

pub(super) fn sys_getdents64(ctx: &Ctx, fd: Fd, buf: Vaddr, size: u32) -> Result<usize> {
    list(ctx, fd, buf, size, Layout::New)
}

pub(super) fn sys_getcwd(ctx: &Ctx, buf: Vaddr, size: usize) -> Result<usize> {
    let fs = ctx.fs();
    let cwd = fs.cwd();
    if cwd.is_removed() {
        return Err(ENOENT);
    }
    let (text, reachable) = cwd.text_from(&fs.root())?;
    let mark: &[u8] = if reachable { b"" } else { b"(unreachable)" };
    let mut out = try_with_capacity(mark.len() + text.len() + 1)?;
    out.extend_from_slice(mark);
    out.extend_from_slice(&text);
    out.push(0);
    if out.len() > size {
        return Err(ERANGE);
    }
    ctx.vm.write_bytes(buf, &out)?;
    Ok(out.len())
}

pub(super) fn sys_chdir(ctx: &Ctx, path: Vaddr) -> Result<usize> {
    let path = ctx.vm.read_path(path)?;
    let lookup = lookup_at(ctx, CWD, path.as_bytes())?;
    ctx.fs().set_cwd(namei::find_directory(&lookup, path.as_bytes())?);
    Ok(0)
}

pub(super) fn sys_fchdir(ctx: &Ctx, fd: Fd) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    lookup_at(ctx, CWD, b"/")?.check_search(file.path())?;
    ctx.fs().set_cwd(file.path().clone());
    Ok(0)
}

pub(super) fn sys_chroot(ctx: &Ctx, path: Vaddr) -> Result<usize> {
    let path = ctx.vm.read_path(path)?;
    let lookup = lookup_at(ctx, CWD, path.as_bytes())?;
    let place = namei::find_directory(&lookup, path.as_bytes())?;
    ctx.credentials().require(CapSet::SYS_CHROOT)?;
    ctx.fs().set_root(place);
    Ok(0)
}

pub(super) fn sys_umask(ctx: &Ctx, mask: u32) -> Result<usize> {
    Ok(ctx.fs().set_umask(mask as u16).into())
}
