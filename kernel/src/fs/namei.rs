// SPDX-License-Identifier: MPL-2.0

//! Changing directories: create, link, remove, rename.
//!
//! Each call checks in the order Linux does: the name, what is there, the mount, the permissions, and asks the file system last.
//! The directory's lock is held from the look at what is there to the end of the change.
//!
//! Renames hold one lock for the whole tree (`RENAMING`), so that the question whether a directory would become its own
//! descendant keeps its answer; then the locks of both directories, lower address first.

use super::{
    dentry::{Children, Dentry},
    inode::Inode,
    lookup::{Last, LastLink, Lookup, TrailingSlash},
    path::Path,
    permission::Access,
    protected,
    types::*,
};
use crate::{prelude::*, process::credentials::CapSet};

/// The longest target of a symbolic link.
const MAX_LINK_TARGET: usize = PATH_MAX - 1;

static RENAMING: Mutex<()> = Mutex::new(());

/// Fails unless the caller may add and remove entries of `dir`.
///
/// # Errors
///
/// EACCES; ENOTDIR.
pub fn check_modify(lookup: &Lookup, dir: &Path) -> Result<()> {
    lookup.check_search(dir)?;
    lookup.cred.check_protection(dir.inode().protection(), Access::WRITE | Access::EXEC)
}

/// The attributes of a new file in `dir`: its group is the directory's if that has the set-group-ID bit.
pub fn new_attr(lookup: &Lookup, dir: &Path, node: NewNode<'_>, mode: u16) -> NewAttr {
    let parent = dir.inode().protection();
    let mut attr = NewAttr { mode: mode & 0o7777, uid: lookup.cred.fsuid, gid: lookup.cred.fsgid };
    if parent.mode & S_ISGID != 0 {
        attr.gid = parent.gid;
        if node.kind() == FileType::Directory {
            attr.mode |= S_ISGID;
        } else if attr.mode & 0o010 != 0
            && !lookup.cred.in_group(parent.gid)
            && !lookup.cred.has(CapSet::FSETID)
        {
            attr.mode &= !S_ISGID;
        }
    }
    attr
}

/// Creates a file that is not opened by the way: a directory, a symbolic link, a node. `mode` has the umask taken off.
///
/// # Errors
///
/// Those of mkdir(2), symlink(2) and mknod(2).
pub fn create(lookup: &Lookup, path: &[u8], node: NewNode<'_>, mode: u16) -> Result<Path> {
    if let NewNode::Symlink(target) = node {
        if target.is_empty() {
            return Err(ENOENT);
        }
        if target.len() > MAX_LINK_TARGET {
            return Err(ENAMETOOLONG);
        }
    }
    let (dir, last) = lookup.find_parent(path)?;
    let Last::Name(name, slash) = last else { return Err(EEXIST) };
    let mut children = dir.dentry().lock_children();
    check_vacant(lookup, &dir, &mut children, &name)?;
    if slash == TrailingSlash::Yes && node.kind() != FileType::Directory {
        return Err(ENOENT);
    }
    dir.mount().require_writable()?;
    check_modify(lookup, &dir)?;
    let device = match node {
        NewNode::CharDevice(id) => Some(id),
        NewNode::BlockDevice(id) => Some(id),
        _ => None,
    };
    // The character device 0:0 is a whiteout, which anybody may make.
    let whiteout = matches!(node, NewNode::CharDevice(id) if id == DeviceId::default());
    if device.is_some() && !whiteout && !lookup.cred.has(CapSet::MKNOD) {
        return Err(EPERM);
    }
    let attr = new_attr(lookup, &dir, node, mode);
    let inode = dir.inode().create(&name, node, attr)?;
    let dentry = dir.dentry().adopt(&mut children, &name, inode);
    Ok(dir.child(dentry))
}

/// Fails with EEXIST if `dir` has an entry `name`.
fn check_vacant(lookup: &Lookup, dir: &Path, children: &mut Children, name: &[u8]) -> Result<()> {
    lookup.check_search(dir)?;
    match dir.dentry().lookup_locked(children, name) {
        Ok(_) => Err(EEXIST),
        Err(ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the file at `target` the further name `path`.
///
/// # Errors
///
/// Those of link(2).
pub fn link(lookup: &Lookup, target: &Path, path: &[u8]) -> Result<()> {
    let (dir, last) = lookup.find_parent(path)?;
    let Last::Name(name, slash) = last else { return Err(EEXIST) };
    let mut children = dir.dentry().lock_children();
    check_vacant(lookup, &dir, &mut children, &name)?;
    if slash == TrailingSlash::Yes {
        return Err(ENOENT);
    }
    if !Arc::ptr_eq(target.mount(), dir.mount()) {
        return Err(EXDEV);
    }
    dir.mount().require_writable()?;
    protected::check_link(&lookup.cred, target.inode())?;
    check_modify(lookup, &dir)?;
    let meta = target.inode().metadata();
    if meta.kind == FileType::Directory {
        return Err(EPERM);
    }
    let can_be_named = target.inode().ext().is_some_and(|ext| ext.can_be_named.swap(false, Ordering::AcqRel));
    if meta.nlink == 0 && !can_be_named {
        return Err(ENOENT);
    }
    dir.inode().link(&name, target.inode())?;
    let inode = target.inode().clone();
    dir.dentry().adopt(&mut children, &name, inode);
    Ok(())
}

/// What kind of entry a removal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A file that is no directory (`unlink`).
    File,
    /// A directory (`rmdir`).
    Directory,
}

/// Removes an entry.
///
/// # Errors
///
/// Those of unlink(2) and rmdir(2).
pub fn remove(lookup: &Lookup, path: &[u8], what: Removal) -> Result<()> {
    let (dir, last) = lookup.find_parent(path)?;
    let (name, slash) = match (last, what) {
        (Last::Name(name, slash), _) => (name, slash),
        (_, Removal::File) => return Err(EISDIR),
        (Last::Dot, Removal::Directory) => return Err(EINVAL),
        (Last::DotDot, Removal::Directory) => return Err(ENOTEMPTY),
        (Last::Root, Removal::Directory) => return Err(EBUSY),
    };
    dir.mount().require_writable()?;
    let mut children = dir.dentry().lock_children();
    lookup.check_search(&dir)?;
    let victim = dir.dentry().lookup_locked(&mut children, &name)?;
    let meta = victim.inode().metadata();
    let is_directory = meta.kind == FileType::Directory;
    if slash == TrailingSlash::Yes && what == Removal::File {
        return Err(if is_directory { EISDIR } else { ENOTDIR });
    }
    check_delete(lookup, &dir, &meta)?;
    match what {
        Removal::File if is_directory => return Err(EISDIR),
        Removal::Directory if !is_directory => return Err(ENOTDIR),
        _ => {}
    }
    if victim.is_mount_point() {
        return Err(EBUSY);
    }
    match what {
        Removal::File => dir.inode().unlink(&name)?,
        Removal::Directory => dir.inode().rmdir(&name)?,
    }
    Dentry::disown(&mut children, &name);
    drop(children);
    Ok(())
}

/// Fails unless the caller may remove a file with the attributes `victim` from `dir`.
fn check_delete(lookup: &Lookup, dir: &Path, victim: &Metadata) -> Result<()> {
    check_modify(lookup, dir)?;
    lookup.cred.check_sticky(&dir.inode().metadata(), victim)
}

/// One side of a rename.
struct Side {
    dir: Path,
    name: Vec<u8>,
    slash: TrailingSlash,
}

impl Side {
    fn new((dir, last): (Path, Last), otherwise: Errno) -> Result<Self> {
        match last {
            Last::Name(name, slash) => Ok(Self { dir, name, slash }),
            Last::Dot | Last::DotDot | Last::Root => Err(otherwise),
        }
    }
}

/// Renames the entry `old_path` (of `old_lookup`) to `new_path`.
///
/// # Errors
///
/// Those of rename(2).
pub fn rename(
    old_lookup: &Lookup,
    old_path: &[u8],
    lookup: &Lookup,
    new_path: &[u8],
    mode: RenameMode,
) -> Result<()> {
    let old = old_lookup.find_parent(old_path)?;
    let new = lookup.find_parent(new_path)?;
    if !Arc::ptr_eq(old.0.mount(), new.0.mount()) {
        return Err(EXDEV);
    }
    let old = Side::new(old, EBUSY)?;
    let new = Side::new(new, if mode == RenameMode::NoReplace { EEXIST } else { EBUSY })?;
    old.dir.mount().require_writable()?;
    let _renaming = RENAMING.lock();
    let same_dir = Arc::ptr_eq(old.dir.dentry(), new.dir.dentry());
    if same_dir {
        let mut children = old.dir.dentry().lock_children();
        return rename_locked(lookup, &old, &new, mode, &mut Both::Same(&mut children));
    }
    let old_first = Arc::as_ptr(old.dir.dentry()) < Arc::as_ptr(new.dir.dentry());
    let (mut from, mut to);
    if old_first {
        from = old.dir.dentry().lock_children();
        to = new.dir.dentry().lock_children();
    } else {
        to = new.dir.dentry().lock_children();
        from = old.dir.dentry().lock_children();
    }
    rename_locked(lookup, &old, &new, mode, &mut Both::Two(&mut from, &mut to))
}

/// The locked children of one directory, or of two.
enum Both<'a> {
    Same(&'a mut Children),
    Two(&'a mut Children, &'a mut Children),
}

impl Both<'_> {
    fn source(&mut self) -> &mut Children {
        match self {
            Self::Same(children) | Self::Two(children, _) => children,
        }
    }

    fn target(&mut self) -> &mut Children {
        match self {
            Self::Same(children) | Self::Two(_, children) => children,
        }
    }
}

fn rename_locked(
    lookup: &Lookup,
    old: &Side,
    new: &Side,
    mode: RenameMode,
    both: &mut Both<'_>,
) -> Result<()> {
    lookup.check_search(&old.dir)?;
    lookup.check_search(&new.dir)?;
    let source = old.dir.dentry().lookup_locked(both.source(), &old.name)?;
    let target = match new.dir.dentry().lookup_locked(both.target(), &new.name) {
        Ok(target) => Some(target),
        Err(ENOENT) => None,
        Err(error) => return Err(error),
    };
    match (&target, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(EEXIST),
        (None, RenameMode::Exchange) => return Err(ENOENT),
        _ => {}
    }
    let source_meta = source.inode().metadata();
    let target_meta = target.as_ref().map(|target| target.inode().metadata());
    check_slashes(old, new, &source_meta, target_meta.as_ref(), mode)?;
    if source.is_ancestor_of(new.dir.dentry()) {
        return Err(EINVAL);
    }
    if let Some(target) = &target
        && target.is_ancestor_of(old.dir.dentry())
    {
        return Err(if mode == RenameMode::Exchange { EINVAL } else { ENOTEMPTY });
    }
    if let Some(target) = &target
        && same_inode(source.inode(), target.inode())
    {
        return Ok(());
    }
    check_delete(lookup, &old.dir, &source_meta)?;
    match &target_meta {
        Some(meta) => check_delete(lookup, &new.dir, meta)?,
        None => check_modify(lookup, &new.dir)?,
    }
    check_types(&source_meta, target_meta.as_ref(), mode)?;
    check_moved_directory(lookup, old, new, &source_meta)?;
    if let (Some(meta), RenameMode::Exchange) = (&target_meta, mode) {
        check_moved_directory(lookup, new, old, meta)?;
    }
    if source.is_mount_point() || target.as_ref().is_some_and(|target| target.is_mount_point()) {
        return Err(EBUSY);
    }
    old.dir.inode().rename(&old.name, new.dir.inode(), &new.name, mode)?;
    both.source().remove(&*old.name);
    match target {
        Some(target) if mode == RenameMode::Exchange => {
            both.target().remove(&*new.name);
            target.move_to(old.dir.dentry(), both.source(), &old.name);
        }
        _ => Dentry::disown(both.target(), &new.name),
    }
    source.move_to(new.dir.dentry(), both.target(), &new.name);
    Ok(())
}

/// A name with slashes after it must be a directory's.
fn check_slashes(
    old: &Side,
    new: &Side,
    source: &Metadata,
    target: Option<&Metadata>,
    mode: RenameMode,
) -> Result<()> {
    let is_file = |meta: &Metadata| meta.kind != FileType::Directory;
    if is_file(source) {
        if old.slash == TrailingSlash::Yes {
            return Err(ENOTDIR);
        }
        if mode != RenameMode::Exchange && new.slash == TrailingSlash::Yes {
            return Err(ENOTDIR);
        }
    }
    if mode == RenameMode::Exchange && new.slash == TrailingSlash::Yes && target.is_some_and(is_file) {
        return Err(ENOTDIR);
    }
    Ok(())
}

fn check_types(source: &Metadata, target: Option<&Metadata>, mode: RenameMode) -> Result<()> {
    let Some(target) = target.filter(|_| mode != RenameMode::Exchange) else { return Ok(()) };
    match (source.kind == FileType::Directory, target.kind == FileType::Directory) {
        (true, false) => Err(ENOTDIR),
        (false, true) => Err(EISDIR),
        _ => Ok(()),
    }
}

/// Moving a directory to another parent changes its `..`, which needs the right to write it.
fn check_moved_directory(lookup: &Lookup, from: &Side, to: &Side, moved: &Metadata) -> Result<()> {
    let stays = Arc::ptr_eq(from.dir.dentry(), to.dir.dentry());
    if stays || moved.kind != FileType::Directory {
        return Ok(());
    }
    lookup.cred.check_access(moved, Access::WRITE)
}

/// Whether both are the same file.
pub fn same_inode(one: &Arc<dyn Inode>, other: &Arc<dyn Inode>) -> bool {
    let (one, other) = (one.metadata(), other.metadata());
    one.dev == other.dev && one.ino == other.ino
}

/// Finds the place that `path` names, and fails unless it is a directory that the caller may search (`chdir`).
///
/// # Errors
///
/// Those of chdir(2).
pub fn find_directory(lookup: &Lookup, path: &[u8]) -> Result<Path> {
    let place = lookup.find(path, LastLink::Follow)?;
    lookup.check_search(&place)?;
    Ok(place)
}
