// SPDX-License-Identifier: MPL-2.0

//! File systems, and the types of them that can be mounted.
//!
//! A [`FileSystem`] is one instance: a tree of inodes under a root. A [`FileSystemType`] makes instances; the types that
//! `mount(2)` knows register themselves by name and are listed in `/proc/filesystems`.

use super::{inode::Inode, types::*};
use crate::prelude::*;

/// One instance of a file system.
pub trait FileSystem: Send + Sync {
    /// The name of its type, as in `/proc/mounts`.
    fn type_name(&self) -> &'static str;

    /// The root directory (or, for internal file systems, an inode that stands for it).
    fn root(&self) -> Arc<dyn Inode>;

    /// The device number shown as `st_dev`.
    fn device(&self) -> DeviceId;

    /// Space and limits.
    fn stats(&self) -> FsStats;

    /// Whether a name is all there is to say of where a file is (`pipe:[17]`).
    fn names_are_labels(&self) -> bool {
        false
    }

    /// Options for `/proc/mounts`, each with a comma in front.
    fn show_options(&self) -> String {
        String::new()
    }

    /// Changes options on `MS_REMOUNT`.
    ///
    /// # Errors
    ///
    /// EINVAL for options it does not know or cannot change.
    fn remount(&self, _options: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Called when its last mount is gone.
    fn unmounted(&self) {}
}

/// A type of file system that can be mounted.
pub trait FileSystemType: Send + Sync {
    /// The name for `mount(2)`.
    fn name(&self) -> &'static str;

    /// Whether an instance needs a block device (shown in `/proc/filesystems`).
    fn needs_device(&self) -> bool {
        false
    }

    /// Makes the instance that a mount with `options` (comma separated) shows; it may be one that exists already.
    ///
    /// # Errors
    ///
    /// EINVAL for an option it does not know.
    fn mount(&self, source: &[u8], options: &[u8]) -> Result<Arc<dyn FileSystem>>;
}

static TYPES: RwMutex<Vec<Arc<dyn FileSystemType>>> = RwMutex::new(Vec::new());

/// Makes a type of file system known.
pub fn register_type(kind: Arc<dyn FileSystemType>) {
    TYPES.write().push(kind);
}

/// All known types, in the order they were registered.
pub fn types() -> Vec<Arc<dyn FileSystemType>> {
    TYPES.read().clone()
}

/// The type called `name`.
///
/// # Errors
///
/// ENODEV if there is none.
pub fn find_type(name: &[u8]) -> Result<Arc<dyn FileSystemType>> {
    TYPES.read().iter().find(|kind| kind.name().as_bytes() == name).cloned().ok_or(ENODEV)
}

/// A fresh device number for a file system without a device (major 0).
pub fn anonymous_device() -> DeviceId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    DeviceId::new(0, NEXT.fetch_add(1, Ordering::Relaxed))
}
