// SPDX-License-Identifier: MPL-2.0

//! Inodes in memory: what they are and what is asked of them. Names are changed in [`names`](super::names), contents in
//! [`contents`](super::contents).
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
use crate::{mm::shared_policy::SharedPolicies, prelude::*};

/// The space that `st_size` of a directory counts for each entry, as Linux's tmpfs does.
const ENTRY_SIZE: u64 = 20;

/// What an inode has besides attributes.
enum Body {
    Regular(PageCache, Option<Seals>),
    Directory(RwMutex<Entries>),
    Symlink(Box<[u8]>),
    Device(DeviceId),
    Plain,
}

#[derive(Clone, Copy)]
pub(super) struct Attr {
    mode: u16,
    uid: u32,
    gid: u32,
    pub(super) nlink: u32,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
    btime: Timestamp,
}

/// An inode in memory.
pub struct RamInode {
    pub(super) fs: Arc<RamFs>,
    pub(super) ino: u64,
    kind: FileType,
    pub(super) attr: SpinLock<Attr>,
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

    pub(super) fn directory(&self) -> Result<&RwMutex<Entries>> {
        self.entries().ok_or(ENOTDIR)
    }

    pub(super) fn contents(&self) -> Result<(&PageCache, SealFlags)> {
        match &self.body {
            Body::Regular(cache, seals) => Ok((cache, seals.as_ref().map_or(SealFlags::empty(), Seals::get))),
            _ => Err(EINVAL),
        }
    }

    /// Notes a change of the inode.
    pub(super) fn changed(&self) {
        self.attr.lock().ctime = current::now();
    }

    /// Notes a change of the contents or entries.
    pub(super) fn modified(&self) {
        let now = current::now();
        let mut attr = self.attr.lock();
        (attr.mtime, attr.ctime) = (now, now);
    }

    pub(super) fn change_nlink(&self, by: i32) {
        let mut attr = self.attr.lock();
        attr.nlink = attr.nlink.saturating_add_signed(by);
        attr.ctime = current::now();
    }
}

/// The inode as one of this file system's.
pub(super) fn ram(inode: &Arc<dyn Inode>) -> Result<&RamInode> {
    inode.downcast_ref().ok_or(EXDEV)
}

pub(super) fn is_directory(inode: &Arc<dyn Inode>) -> bool {
    inode.kind() == FileType::Directory
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
        self.link_name(name, target)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.unlink_name(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_directory(name)
    }

    fn rename(&self, old: &[u8], new_dir: &Arc<dyn Inode>, new: &[u8], mode: RenameMode) -> Result<()> {
        self.rename_entry(old, new_dir, new, mode)
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
        self.write_contents(pos, src)
    }

    fn resize(&self, size: u64) -> Result<()> {
        self.resize_contents(size)
    }

    fn allocate(&self, how: Allocate, pos: u64, len: u64) -> Result<()> {
        self.allocate_contents(how, pos, len)
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

    fn policies(&self) -> Option<&SharedPolicies> {
        Some(self.contents().ok()?.0.policies())
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

impl Drop for RamInode {
    fn drop(&mut self) {
        self.fs.release_inode();
    }
}
