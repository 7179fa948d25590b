// SPDX-License-Identifier: MPL-2.0

//! The file system in memory: the root, every tmpfs, `/dev` and memfds.
//!
//! Directories are maps from names to inodes; contents are pages of memory objects. There is nothing below: what is not in
//! here is gone. Several kinds of instance share this one implementation, told apart by what `mount` shows of them.
//!
//! Options of a mount: `size=` (bytes with k, m or g, or a percentage of memory), `nr_blocks=`, `nr_inodes=`, `mode=`,
//! `uid=`, `gid=`, as in `tmpfs(5)`.

mod contents;
mod dir;
mod inode;
mod names;
mod options;

use vmar_ostd::reserve;

pub use self::inode::RamInode;
use self::options::Options;
use super::{
    file_system::{FileSystem, FileSystemType, anonymous_device},
    inode::Inode,
    quota::Quota,
    types::*,
};
use crate::prelude::*;

const TMPFS_MAGIC: u64 = linux_raw_sys::general::TMPFS_MAGIC as u64;

/// How many inodes of the root, with their names, count as a page of memory.
const INODES_IN_A_PAGE: usize = 2;

/// What an instance is called and how it is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    /// The root of the tree.
    Root,
    /// A tmpfs mount.
    Tmpfs,
    /// The instance behind every mount of `devtmpfs`.
    Dev,
}

/// One instance.
pub struct RamFs {
    flavour: Flavour,
    device: DeviceId,
    quota: Arc<Quota>,
    /// The most inodes; `usize::MAX` for no limit.
    max_inodes: AtomicUsize,
    inodes: AtomicUsize,
    next_ino: AtomicU64,
    root: SpinLock<Option<Arc<dyn Inode>>>,
    options: SpinLock<Options>,
}

impl RamFs {
    fn new(flavour: Flavour, options: Options) -> Arc<Self> {
        let fs = Arc::new(Self {
            flavour,
            device: anonymous_device(),
            quota: Arc::new(Quota::new(options.pages.unwrap_or(usize::MAX))),
            max_inodes: AtomicUsize::new(options.inodes.unwrap_or(usize::MAX)),
            inodes: AtomicUsize::new(0),
            next_ino: AtomicU64::new(1),
            root: SpinLock::new(None),
            options: SpinLock::new(options),
        });
        let attr = NewAttr { mode: options.mode, uid: options.uid, gid: options.gid };
        let root: Arc<dyn Inode> = RamInode::new_directory(&fs, attr);
        *fs.root.lock() = Some(root);
        fs
    }

    /// The instance for the root of the tree. It may take three quarters of the memory: programs must be able to run when it
    /// is full.
    pub fn new_root() -> Arc<dyn FileSystem> {
        let pages = reserve::available_frames() / 4 * 3;
        Self::new(Flavour::Root, Options { pages: Some(pages), mode: 0o755, ..Options::unlimited() })
    }

    /// An instance for the kernel's own unnamed files (memfd, shared anonymous memory).
    pub fn new_internal() -> Arc<Self> {
        Self::new(Flavour::Tmpfs, Options::unlimited())
    }

    /// Counts an inode, and gives it its number.
    fn allocate_inode(&self) -> Result<u64> {
        self.count_inode()?;
        Ok(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts an inode, or a further name of one, which takes as much of the kernel's memory.
    fn count_inode(&self) -> Result<()> {
        super::current::require_memory().map_err(|_| ENOSPC)?;
        let max = self.max_inodes.load(Ordering::Relaxed);
        let step = |count: usize| (count < max).then_some(count + 1);
        let before = self.inodes.try_update(Ordering::AcqRel, Ordering::Acquire, step).map_err(|_| ENOSPC)?;
        if self.flavour == Flavour::Root
            && before.is_multiple_of(INODES_IN_A_PAGE)
            && let Err(error) = self.quota.charge_page()
        {
            self.inodes.fetch_sub(1, Ordering::AcqRel);
            return Err(error);
        }
        Ok(())
    }

    fn release_inode(&self) {
        let left = self.inodes.fetch_sub(1, Ordering::AcqRel) - 1;
        if self.flavour == Flavour::Root && left.is_multiple_of(INODES_IN_A_PAGE) {
            self.quota.release_page();
        }
    }
}

impl FileSystem for RamFs {
    fn type_name(&self) -> &'static str {
        match self.flavour {
            Flavour::Root => "rootfs",
            Flavour::Tmpfs => "tmpfs",
            Flavour::Dev => "devtmpfs",
        }
    }

    fn root(&self) -> Arc<dyn Inode> {
        let root = self.root.lock().clone();
        // Only an instance whose last mount is gone has no root, and nobody asks that one.
        root.unwrap_or_else(|| super::anon::AnonInode::new(FileType::Directory, 0))
    }

    fn device(&self) -> DeviceId {
        self.device
    }

    fn stats(&self) -> FsStats {
        let used = self.quota.used() as u64;
        let (blocks, free) = match self.quota.limit() {
            usize::MAX => {
                let free = reserve::available_frames() as u64;
                (used + free, free)
            }
            limit => (limit as u64, (limit as u64).saturating_sub(used)),
        };
        let inodes = self.inodes.load(Ordering::Relaxed) as u64;
        let (files, free_files) = match self.max_inodes.load(Ordering::Relaxed) {
            usize::MAX => (inodes + free, free),
            limit => (limit as u64, (limit as u64).saturating_sub(inodes)),
        };
        FsStats {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks,
            free,
            files,
            free_files,
            id: self.device.encode(),
        }
    }

    fn show_options(&self) -> String {
        self.options.lock().show()
    }

    fn remount(&self, options: &[u8]) -> Result<()> {
        let old = *self.options.lock();
        let new = old.parse(options)?;
        let inodes = new.inodes.unwrap_or(usize::MAX);
        if inodes < self.inodes.load(Ordering::Relaxed) {
            return Err(EINVAL);
        }
        self.quota.set_limit(new.pages.unwrap_or(usize::MAX))?;
        self.max_inodes.store(inodes, Ordering::Relaxed);
        *self.options.lock() = new;
        Ok(())
    }

    fn unmounted(&self) {
        // The memory of `/dev` outlives its mounts: the next one shows the same nodes.
        if self.flavour == Flavour::Dev {
            return;
        }
        let root = self.root.lock().take();
        if let Some(root) = root {
            dir::forget_tree(root);
        }
    }
}

/// The type `tmpfs`: a new instance for each mount.
pub struct Tmpfs;

impl FileSystemType for Tmpfs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn mount(&self, _source: &[u8], options: &[u8]) -> Result<Arc<dyn FileSystem>> {
        let pages = reserve::available_frames() / 2;
        let defaults = Options { pages: Some(pages), inodes: Some(pages), ..Options::unlimited() };
        Ok(RamFs::new(Flavour::Tmpfs, defaults.parse(options)?))
    }
}

/// The type `devtmpfs`: one instance, which drivers put their nodes into.
pub struct DevTmpfs(Arc<RamFs>);

impl DevTmpfs {
    /// The type with its empty instance.
    pub fn new() -> Self {
        Self(RamFs::new(Flavour::Dev, Options { mode: 0o755, ..Options::unlimited() }))
    }
}

impl Default for DevTmpfs {
    fn default() -> Self {
        Self::new()
    }
}

impl FileSystemType for DevTmpfs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn mount(&self, _source: &[u8], _options: &[u8]) -> Result<Arc<dyn FileSystem>> {
        Ok(self.0.clone())
    }
}
