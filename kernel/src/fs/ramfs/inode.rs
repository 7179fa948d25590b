// SPDX-License-Identifier: MPL-2.0

//! Inodes in memory.
//!
//! Locks: the entries of a directory (sleeping), then those of a directory in it; attributes (spin) last. A rename takes the
//! entries of two directories in the order of their inode numbers; the layer above keeps other changes of both away meanwhile.

use vmar::object::VmoKind;

use super::{
    super::{
        current,
        file::{FileOps, OpenFlags},
        file_system::FileSystem,
        inode::{Allocate, Inode, InodeExt, LinkTarget, XattrMode},
        io::{Sink, Source},
        memfd::{SealFlags, Seals},
        page_cache::{FileVmo, PageCache},
        types::*,
        xattr::Xattrs,
    },
    Flavour, RamFs,
    dir::Entries,
};
use crate::prelude::*;

/// The space that `st_size` of a directory counts for each entry, as Linux's tmpfs does.
const ENTRY_SIZE: u64 = 20;
/// The most names of one file.
const MAX_LINKS: u32 = u32::MAX - 1;

/// What an inode has besides attributes.
enum Body {
    Regular(PageCache, Option<Seals>),
    Directory(RwMutex<Entries>),
    Symlink(Box<[u8]>),
    Device(DeviceId),
    Plain,
}

#[derive(Clone, Copy)]
struct Attr {
    mode: u16,
    uid: u32,
    gid: u32,
    nlink: u32,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
    btime: Timestamp,
}

/// An inode in memory.
pub struct RamInode {
    fs: Arc<RamFs>,
    ino: u64,
    kind: FileType,
    attr: SpinLock<Attr>,
    body: Body,
    xattrs: Xattrs,
    ext: InodeExt,
}

impl RamInode {
    fn new(fs: &Arc<RamFs>, ino: u64, kind: FileType, attr: NewAttr, body: Body) -> Arc<Self> {
        let now = current::now();
        let NewAttr { mode, uid, gid } = attr;
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        let attr = Attr { mode, uid, gid, nlink, atime: now, mtime: now, ctime: now, btime: now };
        let fs = fs.clone();
        Arc::new(Self {
            fs,
            ino,
            kind,
            attr: SpinLock::new(attr),
            body,
            xattrs: Xattrs::default(),
            ext: InodeExt::default(),
        })
    }

    /// The root directory of an instance: not counted against its limit.
    pub(super) fn new_directory(fs: &Arc<RamFs>, attr: NewAttr) -> Arc<Self> {
        // Counted as `allocate_inode` does, but never refused.
        fs.inodes.fetch_add(1, Ordering::AcqRel);
        if fs.flavour == Flavour::Root {
            fs.quota.add_page();
        }
        let ino = fs.next_ino.fetch_add(1, Ordering::Relaxed);
        Self::new(fs, ino, FileType::Directory, attr, Body::Directory(RwMutex::new(Entries::default())))
    }

    fn new_node(fs: &Arc<RamFs>, node: NewNode<'_>, attr: NewAttr) -> Result<Arc<Self>> {
        let body = match node {
            NewNode::Regular => {
                // Files of a tmpfs are shared memory, and have seals, if only the one that forbids more.
                let (kind, seals) = match fs.flavour {
                    Flavour::Tmpfs => (VmoKind::SharedMemory, Some(Seals::new(SealFlags::SEAL))),
                    Flavour::Root | Flavour::Dev => (VmoKind::File, None),
                };
                Body::Regular(PageCache::new(kind, fs.quota.clone())?, seals)
            }
            NewNode::Archived(data) => Body::Regular(PageCache::of_archive(data, fs.quota.clone())?, None),
            NewNode::Directory => Body::Directory(RwMutex::new(Entries::default())),
            NewNode::Symlink(target) => Body::Symlink(target.into()),
            NewNode::CharDevice(id) | NewNode::BlockDevice(id) => Body::Device(id),
            NewNode::Fifo | NewNode::Socket => Body::Plain,
        };
        let mode = if node.kind() == FileType::Symlink { 0o777 } else { attr.mode };
        let ino = fs.allocate_inode()?;
        Ok(Self::new(fs, ino, node.kind(), NewAttr { mode, ..attr }, body))
    }

    /// A regular file without a name, with seals if it is a memfd.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn new_unnamed(fs: &Arc<RamFs>, attr: NewAttr, seals: Option<Seals>) -> Result<Arc<Self>> {
        let cache = PageCache::new(VmoKind::SharedMemory, fs.quota.clone())?;
        let ino = fs.allocate_inode()?;
        let inode = Self::new(fs, ino, FileType::Regular, attr, Body::Regular(cache, seals));
        inode.attr.lock().nlink = 0;
        Ok(inode)
    }

    pub(super) fn entries(&self) -> Option<&RwMutex<Entries>> {
        match &self.body {
            Body::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    fn directory(&self) -> Result<&RwMutex<Entries>> {
        self.entries().ok_or(ENOTDIR)
    }

    fn contents(&self) -> Result<(&PageCache, SealFlags)> {
        match &self.body {
            Body::Regular(cache, seals) => Ok((cache, seals.as_ref().map_or(SealFlags::empty(), Seals::get))),
            _ => Err(EINVAL),
        }
    }

    /// Notes a change of the inode.
    fn changed(&self) {
        self.attr.lock().ctime = current::now();
    }

    /// Notes a change of the contents or entries.
    fn modified(&self) {
        let now = current::now();
        let mut attr = self.attr.lock();
        (attr.mtime, attr.ctime) = (now, now);
    }

    fn change_nlink(&self, by: i32) {
        let mut attr = self.attr.lock();
        attr.nlink = attr.nlink.saturating_add_signed(by);
        attr.ctime = current::now();
    }
}

/// The inode as one of this file system's.
fn ram(inode: &Arc<dyn Inode>) -> Result<&RamInode> {
    inode.downcast_ref().ok_or(EXDEV)
}

fn is_directory(inode: &Arc<dyn Inode>) -> bool {
    inode.kind() == FileType::Directory
}

/// Counts one name less of `inode`, which has just lost one to a removal or a rename.
fn lose_name(inode: &Arc<dyn Inode>) -> Result<()> {
    let node = ram(inode)?;
    node.change_nlink(if is_directory(inode) { -2 } else { -1 });
    if node.attr.lock().nlink > 0 {
        node.fs.release_inode();
    }
    Ok(())
}

impl Inode for RamInode {
    fn metadata(&self) -> Metadata {
        let (size, pages, rdev) = match &self.body {
            Body::Regular(cache, _) => (cache.size(), cache.blocks(), DeviceId::default()),
            Body::Directory(entries) => (entries.read().len() as u64 * ENTRY_SIZE, 0, DeviceId::default()),
            Body::Symlink(target) => (target.len() as u64, 0, DeviceId::default()),
            Body::Device(id) => (0, 0, *id),
            Body::Plain => (0, 0, DeviceId::default()),
        };
        let attr = *self.attr.lock();
        Metadata {
            dev: self.fs.device,
            ino: self.ino,
            kind: self.kind,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev,
            size,
            block_size: PAGE_SIZE as u32,
            blocks: pages as u64 * (PAGE_SIZE as u64 / 512),
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: attr.btime,
        }
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn protection(&self) -> Protection {
        let attr = self.attr.lock();
        Protection { kind: self.kind, mode: attr.mode, uid: attr.uid, gid: attr.gid }
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn ext(&self) -> Option<&InodeExt> {
        Some(&self.ext)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let mut attr = self.attr.lock();
        attr.mode = change.mode.unwrap_or(attr.mode);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.unwrap_or(attr.atime);
        attr.mtime = change.mtime.unwrap_or(attr.mtime);
        attr.ctime = change.ctime.unwrap_or(attr.ctime);
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.directory()?.read().get(name).cloned()
    }

    fn create(&self, name: &[u8], node: NewNode<'_>, attr: NewAttr) -> Result<Arc<dyn Inode>> {
        let mut entries = self.directory()?.write();
        entries.check_vacant(name)?;
        let inode: Arc<dyn Inode> = Self::new_node(&self.fs, node, attr)?;
        entries.set(name, inode.clone());
        drop(entries);
        if is_directory(&inode) {
            self.change_nlink(1);
        }
        self.modified();
        Ok(inode)
    }

    fn create_unnamed(&self, attr: NewAttr) -> Result<Arc<dyn Inode>> {
        let inode = Self::new_node(&self.fs, NewNode::Regular, attr)?;
        inode.attr.lock().nlink = 0;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let node = ram(target)?;
        let mut entries = self.directory()?.write();
        entries.check_vacant(name)?;
        let nlink = node.attr.lock().nlink;
        match nlink {
            MAX_LINKS.. => return Err(EMLINK),
            // The first name of a file made without one: counted with the inode.
            0 => {}
            _ => self.fs.count_inode()?,
        }
        entries.set(name, target.clone());
        drop(entries);
        node.change_nlink(1);
        self.modified();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let mut entries = self.directory()?.write();
        if is_directory(entries.get(name)?) {
            return Err(EISDIR);
        }
        let removed = entries.remove(name);
        drop(entries);
        if let Some(inode) = removed {
            lose_name(&inode)?;
        }
        self.modified();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let mut entries = self.directory()?.write();
        ram(entries.get(name)?)?.directory()?.write().kill()?;
        let removed = entries.remove(name);
        drop(entries);
        if let Some(inode) = removed {
            lose_name(&inode)?;
        }
        self.change_nlink(-1);
        self.modified();
        Ok(())
    }

    fn rename(&self, old: &[u8], new_dir: &Arc<dyn Inode>, new: &[u8], mode: RenameMode) -> Result<()> {
        let target_dir = ram(new_dir)?;
        let moved_directories = if target_dir.ino == self.ino {
            let mut entries = self.directory()?.write();
            let step = plan(entries.get(old)?, entries.get(new).ok(), mode)?;
            entries.remove(old);
            if let (Some(target), RenameMode::Exchange) = (&step.target, mode) {
                entries.set(old, target.clone());
            }
            entries.set(new, step.source.clone());
            step
        } else {
            let (mut from, mut to);
            if self.ino < target_dir.ino {
                from = self.directory()?.write();
                to = target_dir.directory()?.write();
            } else {
                to = target_dir.directory()?.write();
                from = self.directory()?.write();
            }
            let target = to.get(new).ok();
            if target.is_none() {
                to.check_vacant(new)?;
            }
            let step = plan(from.get(old)?, target, mode)?;
            from.remove(old);
            if let (Some(target), RenameMode::Exchange) = (&step.target, mode) {
                from.set(old, target.clone());
            }
            to.set(new, step.source.clone());
            step
        };
        let Step { source, target } = moved_directories;
        let (from_dirs, to_dirs) = match (&target, mode) {
            (Some(target), RenameMode::Exchange) => {
                ram(target)?.changed();
                let delta = i32::from(is_directory(&source)) - i32::from(is_directory(target));
                (-delta, delta)
            }
            (Some(target), _) => {
                lose_name(target)?;
                // The moved directory takes the place of one that goes.
                (-i32::from(is_directory(&source)), 0)
            }
            (None, _) => (-i32::from(is_directory(&source)), i32::from(is_directory(&source))),
        };
        self.change_nlink(from_dirs);
        target_dir.change_nlink(to_dirs);
        ram(&source)?.changed();
        self.modified();
        target_dir.modified();
        Ok(())
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        self.directory()?.read().list(from, visit);
        Ok(())
    }

    fn readdir_end(&self) -> u64 {
        self.entries().map_or(0, |entries| entries.read().end())
    }

    fn read_link(&self) -> Result<LinkTarget> {
        match &self.body {
            Body::Symlink(target) => Ok(LinkTarget::Path(target.clone())),
            _ => Err(EINVAL),
        }
    }

    fn read_at(&self, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        self.contents()?.0.read(pos, dst)
    }

    fn write_at(&self, pos: u64, src: &mut Source<'_>) -> Result<usize> {
        let (cache, seals) = self.contents()?;
        // What cannot be read has the first word, and no page is made for it.
        src.check_first()?;
        if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
            return Err(EPERM);
        }
        let grows = pos.saturating_add(src.remain() as u64) > cache.size();
        let count = if grows && seals.contains(SealFlags::GROW) {
            // What fits into the file as it is may still be written; of its last page, as in Linux, nothing if not all of it does.
            let end = cache.size() / PAGE_SIZE as u64 * PAGE_SIZE as u64;
            match end.checked_sub(pos) {
                None | Some(0) => return Err(EPERM),
                Some(room) => cache.write(pos, &mut src.take(room as usize)?)?,
            }
        } else {
            cache.write(pos, src)?
        };
        self.modified();
        Ok(count)
    }

    fn resize(&self, size: u64) -> Result<()> {
        let (cache, seals) = self.contents()?;
        let old = cache.size();
        let forbidden = (size < old && seals.contains(SealFlags::SHRINK))
            || (size > old && seals.contains(SealFlags::GROW));
        if forbidden {
            return Err(EPERM);
        }
        cache.resize(size)?;
        self.modified();
        Ok(())
    }

    fn allocate(&self, how: Allocate, pos: u64, len: u64) -> Result<()> {
        let (cache, seals) = self.contents()?;
        let changes = how == Allocate::PunchHole;
        if changes && seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
            return Err(EPERM);
        }
        // What is set aside beyond the end counts as growth, too.
        if !changes && pos.saturating_add(len) > cache.size() && seals.contains(SealFlags::GROW) {
            return Err(EPERM);
        }
        cache.allocate(how, pos, len)?;
        if changes {
            self.modified()
        } else {
            self.changed()
        }
        Ok(())
    }

    fn seek_extent(&self, pos: u64, whence: Whence) -> Result<u64> {
        self.contents()?.0.seek_extent(pos, whence)
    }

    fn open(&self, flags: OpenFlags) -> Result<Option<Arc<dyn FileOps>>> {
        // Mappings may write as well from now on.
        if let Body::Regular(cache, _) = &self.body
            && flags.intersects(OpenFlags::WRONLY | OpenFlags::RDWR)
        {
            cache.prepare_write()?;
        }
        Ok(None)
    }

    fn vmo(&self) -> Option<FileVmo> {
        Some(self.contents().ok()?.0.vmo())
    }

    fn has_page(&self, index: usize) -> bool {
        self.contents().map_or(true, |(cache, _)| cache.has_page(index))
    }

    fn recount(&self) {
        if let Body::Regular(cache, _) = &self.body {
            cache.recount();
        }
    }

    fn seals(&self) -> Option<&Seals> {
        match &self.body {
            Body::Regular(_, seals) => seals.as_ref(),
            _ => None,
        }
    }

    fn deny_writers(&self) -> Result<()> {
        self.contents()?.0.deny_writers()
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattrs.get(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.xattrs.set(name, value, mode)?;
        self.changed();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        self.xattrs.list()
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.xattrs.remove(name)?;
        self.changed();
        Ok(())
    }
}

/// What a rename moves, and what it meets.
struct Step {
    source: Arc<dyn Inode>,
    target: Option<Arc<dyn Inode>>,
}

/// Checks what a rename would do, and marks a directory that it replaces as removed.
fn plan(source: &Arc<dyn Inode>, target: Option<&Arc<dyn Inode>>, mode: RenameMode) -> Result<Step> {
    match (target, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(EEXIST),
        (None, RenameMode::Exchange) => return Err(ENOENT),
        (Some(target), RenameMode::Replace) => match (is_directory(source), is_directory(target)) {
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            (true, true) => ram(target)?.directory()?.write().kill()?,
            (false, false) => {}
        },
        _ => {}
    }
    Ok(Step { source: source.clone(), target: target.cloned() })
}

impl Drop for RamInode {
    fn drop(&mut self) {
        self.fs.release_inode();
    }
}
