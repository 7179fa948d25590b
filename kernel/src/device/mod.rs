// SPDX-License-Identifier: MPL-2.0

//! Devices, and `/dev`.
//!
//! Drivers register under Linux's numbers (`devices.txt`), and the kernel mounts a file system with their nodes on `/dev` before
//! the first program starts.

use crate::{
    fs::{
        device::{self, Device, DeviceClass},
        file_system,
        lookup::LastLink,
        mount::{self, Mount, MountFlags, Volume},
        namei,
        open::kernel_lookup,
        types::{DeviceId, NewNode},
    },
    prelude::*,
    tty::{CurrentTty, TtyDevice, serial},
};

const TTY: DeviceId = DeviceId::new(5, 0);
const CONSOLE: DeviceId = DeviceId::new(5, 1);
const TTY_S0: DeviceId = DeviceId::new(4, 64);

/// Starts the drivers and mounts `/dev`.
pub fn init() {
    let serial = Arc::new(TtyDevice(serial::init(TTY_S0)));
    let nodes: [(&[u8], DeviceId, u16, Arc<dyn Device>); 3] = [
        (b"tty", TTY, 0o666, Arc::new(CurrentTty)),
        (b"console", CONSOLE, 0o600, serial.clone()),
        (b"ttyS0", TTY_S0, 0o660, serial),
    ];
    if let Err(error) = mount_dev() {
        warn!("/dev cannot be mounted: {:?}", error);
    }
    let lookup = kernel_lookup();
    for (name, number, mode, driver) in nodes {
        device::register(DeviceClass::Char, number, driver);
        let path = [b"/dev/", name].concat();
        if let Err(error) = namei::create(&lookup, &path, NewNode::CharDevice(number), mode) {
            warn!("no device node {}: {:?}", String::from_utf8_lossy(&path), error);
        }
    }
}

fn mount_dev() -> Result<()> {
    let lookup = kernel_lookup();
    match namei::create(&lookup, b"/dev", NewNode::Directory, 0o755) {
        Ok(_) | Err(EEXIST) => {}
        Err(error) => return Err(error),
    }
    let fs = file_system::find_type(b"devtmpfs")?.mount(b"devtmpfs", b"")?;
    let point = lookup.find(b"/dev", LastLink::Follow)?;
    mount::attach(Mount::new(Volume::of(fs), None, b"devtmpfs", MountFlags::empty()), point)
}
