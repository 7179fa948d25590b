// SPDX-License-Identifier: MPL-2.0

//! Devices by number: which driver a device node opens.
//!
//! A device node in any file system is only a type and a number; drivers register here under that number, and opening the
//! node asks for them.

use super::{
    file::{FileOps, OpenFlags},
    inode::Inode,
    types::*,
};
use crate::prelude::*;

/// The two spaces of device numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceClass {
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// A driver of one device.
pub trait Device: Send + Sync {
    /// Opens the device through `inode`, its node.
    ///
    /// # Errors
    ///
    /// The device's own; ENXIO if it is not there.
    fn open(&self, inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

static DEVICES: RwMutex<BTreeMap<(DeviceClass, DeviceId), Arc<dyn Device>>> = RwMutex::new(BTreeMap::new());

/// Registers the driver of a device, in place of the one before it if there was one.
pub fn register(class: DeviceClass, id: DeviceId, device: Arc<dyn Device>) {
    DEVICES.write().insert((class, id), device);
}

/// Forgets a device.
pub fn unregister(class: DeviceClass, id: DeviceId) {
    DEVICES.write().remove(&(class, id));
}

/// Opens the device that the node `inode` stands for.
///
/// # Errors
///
/// ENXIO if no driver has registered; the driver's own.
pub fn open(class: DeviceClass, inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let id = inode.metadata().rdev;
    let device = DEVICES.read().get(&(class, id)).cloned().ok_or(ENXIO)?;
    device.open(inode, flags)
}
