// SPDX-License-Identifier: MPL-2.0

//! Inodes for files that no directory holds: pipes, sockets, eventfds.
//!
//! Such a file needs an inode only for `fstat` and its locks. One internal file system stands behind all of them.

use linux_raw_sys::general::RLIMIT_NOFILE;
use spin::Once;

use super::{
    dentry::Dentry,
    file::{File, FileOps, OpenFlags},
    file_system::{FileSystem, anonymous_device},
    file_table::CloseOnExec,
    inode::{Inode, InodeExt},
    mount::{Mount, MountFlags, Volume},
    path::Path,
    types::*,
};
use crate::prelude::*;

const ANON_INODE_FS_MAGIC: u64 = linux_raw_sys::general::ANON_INODE_FS_MAGIC as u64;

/// The file system of inodes without a place.
struct AnonFs;

fn device() -> DeviceId {
    static DEVICE: Once<DeviceId> = Once::new();
    *DEVICE.call_once(anonymous_device)
}

impl FileSystem for AnonFs {
    fn type_name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        AnonInode::new(FileType::Directory, 0o500)
    }

    fn device(&self) -> DeviceId {
        device()
    }

    fn names_are_labels(&self) -> bool {
        true
    }

    fn stats(&self) -> FsStats {
        FsStats { magic: ANON_INODE_FS_MAGIC, block_size: PAGE_SIZE as u64, ..FsStats::default() }
    }
}

/// A place for a file that no directory holds.
pub(super) fn place(inode: Arc<dyn Inode>, label: &str) -> Path {
    static MOUNT: Once<Arc<Mount>> = Once::new();
    let volume = || Volume::of(Arc::new(AnonFs));
    let mount = MOUNT.call_once(|| Mount::new(volume(), None, b"none", MountFlags::NOATIME));
    Path::new(mount.clone(), Dentry::new_unnamed(mount.root(), label.as_bytes(), inode))
}

/// An inode without a place.
pub struct AnonInode {
    meta: SpinLock<Metadata>,
    kind: FileType,
    ext: InodeExt,
}

impl AnonInode {
    /// An inode of `kind` with permission bits `mode`, owned by the running thread.
    pub fn new(kind: FileType, mode: u16) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut meta = Metadata::new(device(), NEXT.fetch_add(1, Ordering::Relaxed), kind, mode);
        let cred = super::current::credentials();
        (meta.uid, meta.gid) = (cred.fsuid, cred.fsgid);
        Arc::new(Self { meta: SpinLock::new(meta), kind, ext: InodeExt::default() })
    }
}

impl Inode for AnonInode {
    fn metadata(&self) -> Metadata {
        *self.meta.lock()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::new(AnonFs)
    }

    fn ext(&self) -> Option<&InodeExt> {
        Some(&self.ext)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let mut meta = self.meta.lock();
        meta.mode = change.mode.unwrap_or(meta.mode);
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        meta.atime = change.atime.unwrap_or(meta.atime);
        meta.mtime = change.mtime.unwrap_or(meta.mtime);
        meta.ctime = change.ctime.unwrap_or(meta.ctime);
        Ok(())
    }
}

/// Opens a file that no directory holds, shown as `label`, in the caller's table. `O_CLOEXEC` among `flags` counts.
///
/// # Errors
///
/// EMFILE; ENOMEM.
pub fn install(ctx: &Ctx, label: &str, ops: Arc<dyn FileOps>, flags: OpenFlags) -> Result<usize> {
    let file = File::new_anonymous(AnonInode::new(FileType::Anonymous, 0o600), label, ops, flags);
    let close_on_exec = if flags.contains(OpenFlags::CLOEXEC) { CloseOnExec::Yes } else { CloseOnExec::No };
    let limit = usize::try_from(ctx.process.rlimits.soft(RLIMIT_NOFILE)).unwrap_or(usize::MAX);
    ctx.files().insert(file, close_on_exec, 0, limit).map(|fd| fd as usize)
}
