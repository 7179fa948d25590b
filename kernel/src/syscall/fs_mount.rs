// SPDX-License-Identifier: MPL-2.0

//! Mounting: mount and umount2.

use linux_raw_sys::general::{
    MNT_DETACH, MNT_FORCE, MS_BIND, MS_MOVE, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID,
    MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, MS_SHARED, MS_SLAVE, MS_STRICTATIME,
    MS_UNBINDABLE, UMOUNT_NOFOLLOW,
};

use super::fs_util::{CWD, find_at, lookup_at};
use crate::{
    fs::{
        Path,
        file_system::find_type,
        lookup::LastLink,
        mount::{self, Detach, Mount, MountFlags, Volume},
        types::FileType,
    },
    prelude::*,
    process::credentials::CapSet,
};

/// Marks old programs' flags; ignored.
const MS_MGC_MASK: u32 = 0xffff_0000;
const MS_MGC_VAL: u32 = 0xc0ed_0000;
/// Flags that say whether mounts below one are seen elsewhere; there is one namespace, so they change nothing.
const PROPAGATION: u32 = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
/// Flags that are kept with the mount.
const KEPT: u32 =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

/// The flags of a mount from those of the call: relatime unless told otherwise.
fn mount_flags(flags: u32) -> MountFlags {
    let mut kept = MountFlags::from_bits_truncate(flags & KEPT);
    if !kept.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        kept |= MountFlags::RELATIME;
    }
    kept
}

pub(super) fn sys_mount(
    ctx: &Ctx,
    source: Vaddr,
    target: Vaddr,
    kind: Vaddr,
    flags: u32,
    data: Vaddr,
) -> Result<usize> {
    let text = |addr: Vaddr| -> Result<Vec<u8>> {
        if addr == 0 { Ok(Vec::new()) } else { Ok(ctx.vm.read_path(addr)?.into_bytes()) }
    };
    let (kind, source_text) = (text(kind)?, text(source)?);
    // Options are text; what lies after the first page is not looked at.
    let data = text(data)?;
    let flags = if flags & MS_MGC_MASK == MS_MGC_VAL { flags & !MS_MGC_MASK } else { flags };
    let target = find_at(ctx, CWD, target, 0)?;
    ctx.credentials().require(CapSet::SYS_ADMIN)?;
    if flags & MS_REMOUNT != 0 {
        remount(&target, flags, &data)?;
    } else if flags & MS_BIND != 0 {
        bind(ctx, &source_text, target, flags)?;
    } else if flags & PROPAGATION != 0 {
        if !target.is_mount_root() {
            return Err(EINVAL);
        }
    } else if flags & MS_MOVE != 0 {
        let from = lookup_at(ctx, CWD, &source_text)?.find(&source_text, LastLink::Follow)?;
        mount::relocate(from, target)?;
    } else {
        if target.inode().kind() != FileType::Directory {
            return Err(ENOTDIR);
        }
        let fs = find_type(&kind)?.mount(&source_text, &data)?;
        mount::attach(Mount::new(Volume::of(fs), None, &source_text, mount_flags(flags)), target)?;
    }
    Ok(0)
}

fn remount(target: &Path, flags: u32, data: &[u8]) -> Result<()> {
    if !target.is_mount_root() {
        return Err(EINVAL);
    }
    if flags & MS_BIND == 0 {
        target.mount().fs().remount(data)?;
    }
    target.mount().set_flags(mount_flags(flags));
    Ok(())
}

fn bind(ctx: &Ctx, source: &[u8], target: Path, flags: u32) -> Result<()> {
    let from = lookup_at(ctx, CWD, source)?.find(source, LastLink::Follow)?;
    let is_directory = |path: &Path| path.inode().kind() == FileType::Directory;
    if is_directory(&from) != is_directory(&target) {
        return Err(ENOTDIR);
    }
    let below = if flags & MS_REC != 0 { mount::below(&from)? } else { Vec::new() };
    let copy = |path: &Path| {
        let (mount, root) = (path.mount(), path.dentry().clone());
        Mount::new(mount.volume().clone(), Some(root), mount.source(), mount.flags())
    };
    let bound = copy(&from);
    mount::attach(bound.clone(), target)?;
    // Mounts on directories of the same volume are found again under the copy at the same dentries.
    for inner in below {
        if let Some(point) = inner.point().filter(|point| Arc::ptr_eq(point.mount(), from.mount())) {
            let root = Path::new(inner.clone(), inner.root().clone());
            mount::attach(copy(&root), Path::new(bound.clone(), point.dentry().clone()))?;
        }
    }
    Ok(())
}

pub(super) fn sys_umount2(ctx: &Ctx, target: Vaddr, flags: u32) -> Result<usize> {
    if flags & !(MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) != 0 {
        return Err(EINVAL);
    }
    let path = ctx.vm.read_path(target)?;
    let last = if flags & UMOUNT_NOFOLLOW != 0 { LastLink::Stay } else { LastLink::Follow };
    let place = lookup_at(ctx, CWD, path.as_bytes())?.find(path.as_bytes(), last)?;
    ctx.credentials().require(CapSet::SYS_ADMIN)?;
    mount::detach(place, if flags & MNT_DETACH != 0 { Detach::Lazy } else { Detach::Unused })?;
    Ok(0)
}
