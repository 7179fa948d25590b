// SPDX-License-Identifier: MPL-2.0

//! Opening files by path, as `open(2)` and `openat2(2)` describe it.

use super::{
    current,
    device::{self, DeviceClass},
    file::{AccessMode, File, FileOps, OpenFlags},
    inode::Inode,
    inode_file::{DirFile, InodeFile, Location, WriteGuard, truncate},
    lookup::{Followed, Last, LastLink, Lookup, TrailingSlash},
    mount::MountFlags,
    namei,
    path::Path,
    permission::Access,
    pipe, protected,
    types::*,
};
use crate::prelude::*;

/// How to open: flags, and the permission bits of a file that is created (the umask already taken off).
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// The flags.
    pub flags: OpenFlags,
    /// The mode of a new file.
    pub mode: u16,
}

/// Whether the open has made the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Created {
    Yes,
    No,
}

/// Opens the file at `path`.
///
/// # Errors
///
/// Those of open(2).
pub fn open(lookup: &Lookup, path: &[u8], how: OpenHow) -> Result<Arc<File>> {
    let OpenHow { mut flags, mode } = how;
    current::require_memory()?;
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    } else if flags.contains(OpenFlags::TMPFILE_ALONE) {
        return open_unnamed(lookup, path, OpenHow { flags, mode });
    } else if flags.contains(OpenFlags::CREAT) {
        if flags.contains(OpenFlags::DIRECTORY) {
            return Err(EINVAL);
        }
        let (place, created) = find_or_create(lookup, path, OpenHow { flags, mode })?;
        return open_place(lookup, place, flags, created);
    }
    let stay = flags.contains(OpenFlags::NOFOLLOW);
    let place = lookup.find(path, if stay { LastLink::Stay } else { LastLink::Follow })?;
    open_place(lookup, place, flags, Created::No)
}

/// Opens a place that has been found already.
///
/// # Errors
///
/// Those of open(2).
pub fn open_found(lookup: &Lookup, place: Path, flags: OpenFlags) -> Result<Arc<File>> {
    open_place(lookup, place, flags, Created::No)
}

fn open_unnamed(lookup: &Lookup, path: &[u8], how: OpenHow) -> Result<Arc<File>> {
    if !how.flags.access().contains(AccessMode::WRITE) || !how.flags.contains(OpenFlags::DIRECTORY) {
        return Err(EINVAL);
    }
    let stay = how.flags.contains(OpenFlags::NOFOLLOW);
    let dir = lookup.find(path, if stay { LastLink::Stay } else { LastLink::Follow })?;
    if dir.inode().kind() != FileType::Directory {
        return Err(ENOTDIR);
    }
    dir.mount().require_writable()?;
    namei::check_modify(lookup, &dir)?;
    let attr = namei::new_attr(lookup, &dir, NewNode::Regular, how.mode);
    let inode = dir.inode().create_unnamed(attr)?;
    if let Some(ext) = inode.ext() {
        ext.can_be_named.store(!how.flags.contains(OpenFlags::EXCL), Ordering::Release);
    }
    let name = format!("#{}", inode.metadata().ino);
    let dentry = super::dentry::Dentry::new_unnamed(dir.dentry(), name.as_bytes(), inode.clone());
    let flags = how.flags - OpenFlags::TMPFILE_ALONE - OpenFlags::DIRECTORY;
    let ops = open_inode(&inode, flags)?;
    Ok(File::new(dir.child(dentry), ops, flags))
}

fn find_or_create(lookup: &Lookup, path: &[u8], how: OpenHow) -> Result<(Path, Created)> {
    let (mut dir, mut last) = lookup.find_parent(path)?;
    let mut links = 0;
    loop {
        let (name, slash) = match last {
            Last::Name(name, slash) => (name, slash),
            Last::Dot | Last::DotDot | Last::Root => {
                return Err(if how.flags.contains(OpenFlags::EXCL) { EEXIST } else { EISDIR });
            }
        };
        if slash == TrailingSlash::Yes {
            return Err(EISDIR);
        }
        let (place, created) = create_in(lookup, &dir, &name, how)?;
        if place.inode().kind() != FileType::Symlink || created == Created::Yes {
            if created == Created::No && place.inode().kind() != FileType::Directory {
                protected::check_create(&lookup.cred, dir.inode().protection(), place.inode().protection())?;
            }
            return Ok((place, created));
        }
        if how.flags.contains(OpenFlags::NOFOLLOW) {
            return Err(ELOOP);
        }
        match lookup.follow_last(dir, &place, slash, &mut links)? {
            Followed::Place(place) => return Ok((place, Created::No)),
            Followed::Parent(next_dir, next_last) => (dir, last) = (next_dir, next_last),
        }
    }
}

/// Finds `name` in `dir`, or creates it.
fn create_in(lookup: &Lookup, dir: &Path, name: &[u8], how: OpenHow) -> Result<(Path, Created)> {
    lookup.check_search(dir)?;
    let mut children = dir.dentry().lock_children();
    match dir.dentry().lookup_locked(&mut children, name) {
        Ok(dentry) => {
            drop(children);
            if how.flags.contains(OpenFlags::EXCL) {
                return Err(EEXIST);
            }
            Ok((dir.child(dentry).enter_mounts(), Created::No))
        }
        Err(ENOENT) => {
            dir.mount().require_writable()?;
            namei::check_modify(lookup, dir)?;
            let attr = namei::new_attr(lookup, dir, NewNode::Regular, how.mode);
            let inode = dir.inode().create(name, NewNode::Regular, attr)?;
            let dentry = dir.dentry().adopt(&mut children, name, inode);
            Ok((dir.child(dentry), Created::Yes))
        }
        Err(error) => Err(error),
    }
}

fn open_place(lookup: &Lookup, place: Path, flags: OpenFlags, created: Created) -> Result<Arc<File>> {
    let inode = place.inode().clone();
    let meta = inode.metadata();
    if flags.contains(OpenFlags::DIRECTORY) && meta.kind != FileType::Directory {
        return Err(ENOTDIR);
    }
    if flags.contains(OpenFlags::PATH) {
        return Ok(File::new(place, Arc::new(Location), flags));
    }
    let writes = flags.bits() & linux_raw_sys::general::O_ACCMODE != 0 || flags.contains(OpenFlags::TRUNC);
    match meta.kind {
        FileType::Symlink => return Err(ELOOP),
        FileType::Directory if writes || flags.contains(OpenFlags::CREAT) => return Err(EISDIR),
        FileType::CharDevice | FileType::BlockDevice if place.mount().flags().contains(MountFlags::NODEV) => {
            return Err(EACCES);
        }
        FileType::Socket => return Err(ENXIO),
        _ => {}
    }
    if created == Created::No {
        lookup.cred.check_access(&meta, wanted_access(flags))?;
        if writes && matches!(meta.kind, FileType::Regular | FileType::Directory) {
            place.mount().require_writable()?;
        }
    }
    if flags.contains(OpenFlags::NOATIME) && !lookup.cred.owns(&meta) {
        return Err(EPERM);
    }
    let ops = open_inode(&inode, flags)?;
    if flags.contains(OpenFlags::TRUNC) && meta.kind == FileType::Regular && created == Created::No {
        // Held for the moment of the cut: the file may be open for reading only.
        let _writer = WriteGuard::writer(&inode)?;
        truncate(&inode, 0)?;
    }
    Ok(File::new(place, ops, flags))
}

/// The permissions that an open with `flags` needs.
fn wanted_access(flags: OpenFlags) -> Access {
    use linux_raw_sys::general as abi;
    let mut wanted = match flags.bits() & abi::O_ACCMODE {
        abi::O_RDONLY => Access::READ,
        abi::O_WRONLY => Access::WRITE,
        _ => Access::READ | Access::WRITE,
    };
    if flags.contains(OpenFlags::TRUNC) {
        wanted |= Access::WRITE;
    }
    wanted
}

/// What opening the inode gives, by its own word or by its type.
fn open_inode(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    if let Some(ops) = inode.open(flags)? {
        return Ok(ops);
    }
    Ok(match inode.kind() {
        FileType::Directory => Arc::new(DirFile::new()),
        FileType::CharDevice => return device::open(DeviceClass::Char, inode, flags),
        FileType::BlockDevice => return device::open(DeviceClass::Block, inode, flags),
        FileType::Fifo => return pipe::open_fifo(inode, flags),
        FileType::Regular | FileType::Symlink | FileType::Socket | FileType::Anonymous => {
            Arc::new(InodeFile::new(inode, flags)?)
        }
    })
}

/// Opens the file at `path` from the root of the tree with the kernel's own authority.
///
/// # Errors
///
/// Those of open(2).
pub fn open_as_kernel(path: &[u8], flags: OpenFlags) -> Result<Arc<File>> {
    open(&kernel_lookup(), path, OpenHow { flags, mode: 0o644 })
}

/// A lookup from the root of the tree with the kernel's own authority.
pub fn kernel_lookup() -> Lookup {
    let root = super::mount::root();
    Lookup {
        base: root.clone(),
        root,
        cred: Arc::new(crate::process::Credentials::root()),
        resolve: super::lookup::Resolve::empty(),
    }
}

/// A lookup for the running thread, with relative paths from `base`.
pub fn lookup_from(base: Path) -> Lookup {
    Lookup {
        base,
        root: current::root(),
        cred: current::credentials(),
        resolve: super::lookup::Resolve::empty(),
    }
}
