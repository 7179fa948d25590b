// SPDX-License-Identifier: MPL-2.0

//! Memory files: unnamed files with seals, as `memfd_create(2)` makes them.
//!
//! Seals forbid changes for good. They are kept where the changes happen: writing and resizing ask the inode's seals; mapping
//! takes the WRITE right away from the memory object it hands out, and the object itself refuses writable shared mappings once
//! [`SealFlags::WRITE`] is set.

use bitflags::bitflags;
use linux_raw_sys::general as abi;
use spin::Once;

use super::{
    current,
    dentry::Dentry,
    file::{File, OpenFlags},
    file_system::FileSystem,
    inode::Inode,
    inode_file::InodeFile,
    mount::{Mount, MountFlags, Volume},
    path::Path,
    ramfs::{RamFs, RamInode},
    types::NewAttr,
};
use crate::prelude::*;

bitflags! {
    /// Seals; the values are those of `F_ADD_SEALS`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SealFlags: u32 {
        /// No further seals.
        const SEAL = abi::F_SEAL_SEAL;
        /// The file cannot shrink.
        const SHRINK = abi::F_SEAL_SHRINK;
        /// The file cannot grow.
        const GROW = abi::F_SEAL_GROW;
        /// The contents cannot change.
        const WRITE = abi::F_SEAL_WRITE;
        /// The contents cannot change, except through mappings made before.
        const FUTURE_WRITE = abi::F_SEAL_FUTURE_WRITE;
    }
}

/// The seals of one file.
pub struct Seals(AtomicU32);

impl Seals {
    /// Starts with `initial`.
    pub const fn new(initial: SealFlags) -> Self {
        Self(AtomicU32::new(initial.bits()))
    }

    /// The present seals.
    pub fn get(&self) -> SealFlags {
        SealFlags::from_bits_truncate(self.0.load(Ordering::Acquire))
    }

    /// Whether new ways of writing are forbidden.
    pub fn forbid_write(&self) -> bool {
        self.get().intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)
    }
}

/// Adds seals to the file behind `inode`.
///
/// # Errors
///
/// EINVAL if the file cannot be sealed; EPERM if its seals are sealed; EBUSY if it is mapped for writing and `added` says
/// [`SealFlags::WRITE`].
pub fn add_seals(inode: &Arc<dyn Inode>, added: SealFlags) -> Result<()> {
    let seals = inode.seals().ok_or(EINVAL)?;
    // Writers hold this lock, so none is in the middle of a write when the seal is set.
    let _io = inode.ext().map(|ext| ext.io.write());
    let old = seals.get();
    if old.contains(SealFlags::SEAL) {
        return Err(EPERM);
    }
    if added.contains(SealFlags::WRITE) && !old.contains(SealFlags::WRITE) {
        inode.deny_writers()?;
    }
    seals.0.store((old | added).bits(), Ordering::Release);
    Ok(())
}

struct Internal {
    fs: Arc<RamFs>,
    mount: Arc<Mount>,
}

/// The file system of all memory files; it is mounted nowhere.
fn internal() -> &'static Internal {
    static INTERNAL: Once<Internal> = Once::new();
    INTERNAL.call_once(|| {
        let fs = RamFs::new_internal();
        let mount = Mount::new(Volume::of(fs.clone()), None, b"tmpfs", MountFlags::empty());
        Internal { fs, mount }
    })
}

/// How many pages memfds have.
pub fn pages() -> usize {
    let stats = internal().fs.stats();
    (stats.blocks - stats.free) as usize
}

/// Whether a memory file can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// It can (`MFD_ALLOW_SEALING`).
    Allowed,
    /// It cannot: it starts with [`SealFlags::SEAL`].
    Denied,
}

/// Makes a memory file, shown as `/memfd:NAME (deleted)`.
///
/// # Errors
///
/// ENOMEM.
pub fn create(name: &[u8], sealing: Sealing) -> Result<Arc<File>> {
    let Internal { fs, mount } = internal();
    let cred = current::credentials();
    let attr = NewAttr { mode: 0o777, uid: cred.fsuid, gid: cred.fsgid };
    let initial = match sealing {
        Sealing::Allowed => SealFlags::empty(),
        Sealing::Denied => SealFlags::SEAL,
    };
    let inode: Arc<dyn Inode> = RamInode::new_unnamed(fs, attr, Some(Seals::new(initial)))?;
    let flags = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let ops = Arc::new(InodeFile::new(&inode, flags)?);
    let mut label = b"memfd:".to_vec();
    label.extend_from_slice(name);
    let dentry = Dentry::new_unnamed(mount.root(), &label, inode);
    Ok(File::new(Path::new(mount.clone(), dentry), ops, flags))
}
