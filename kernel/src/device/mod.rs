// SPDX-License-Identifier: MPL-2.0

//! Devices, and `/dev`.
//!
//! Drivers register under Linux's numbers (`devices.txt`). Before the first program starts the kernel mounts what programs
//! expect: a file system with the drivers' nodes on `/dev`, with terminals of its own on `/dev/pts` and memory on `/dev/shm`;
//! procfs on `/proc`; a few files on `/sys`.

mod memory;

pub use self::memory::ENTROPY_BITS;
use self::memory::MemoryDevice;
use crate::{
    fs::{
        device::{self, Device, DeviceClass},
        devpts::PTMX,
        file_system,
        lookup::LastLink,
        mount::{self, Mount, MountFlags, Volume},
        namei,
        open::kernel_lookup,
        types::{DeviceId, NewNode},
        userfaultfd,
    },
    prelude::*,
    tty::{Console, CurrentTty, TtyDevice, pty::Ptmx, serial},
};

const TTY: DeviceId = DeviceId::new(5, 0);
const CONSOLE: DeviceId = DeviceId::new(5, 1);
const TTY_S0: DeviceId = DeviceId::new(4, 64);

/// Linux gives it the first number that is free.
const USERFAULTFD: DeviceId = DeviceId::new(10, 126);

/// Symbolic links in `/dev`: name and target.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// What is mounted where: path, type, source, options and flags.
const MOUNTS: [(&str, &str, &str, MountFlags); 5] = [
    ("/proc", "proc", "", SAFE.union(MountFlags::NOEXEC)),
    ("/sys", "sysfs", "", SAFE.union(MountFlags::NOEXEC)),
    ("/dev", "devtmpfs", "", MountFlags::NOSUID.union(MountFlags::RELATIME)),
    ("/dev/pts", "devpts", "", MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::RELATIME)),
    ("/dev/shm", "tmpfs", "mode=1777", SAFE),
];

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::RELATIME);

/// Starts the drivers and mounts what programs expect.
pub fn init() {
    for (path, kind, options, flags) in MOUNTS {
        if let Err(error) = mount_on(path, kind, options, flags) {
            warn!("{} cannot be mounted: {:?}", path, error);
        }
    }
    let serial = serial::init(TTY_S0);
    add("tty", TTY, 0o666, Arc::new(CurrentTty));
    add("console", CONSOLE, 0o600, Arc::new(Console(serial.clone())));
    add("ptmx", PTMX, 0o666, Arc::new(Ptmx));
    add("ttyS0", TTY_S0, 0o660, Arc::new(TtyDevice(serial)));
    add("userfaultfd", USERFAULTFD, 0o600, Arc::new(userfaultfd::Factory));
    for device in MemoryDevice::ALL {
        add(device.name(), device.number(), device.mode(), Arc::new(device));
    }
    for (name, target) in LINKS {
        add_node(name, NewNode::Symlink(target.as_bytes()), 0o777);
    }
}

/// Registers a driver and makes its node.
fn add(name: &str, number: DeviceId, mode: u16, driver: Arc<dyn Device>) {
    device::register(DeviceClass::Char, number, driver);
    add_node(name, NewNode::CharDevice(number), mode);
}

fn add_node(name: &str, node: NewNode<'_>, mode: u16) {
    let path = format!("/dev/{name}");
    if let Err(error) = namei::create(&kernel_lookup(), path.as_bytes(), node, mode) {
        warn!("no device node {}: {:?}", path, error);
    }
}

/// Mounts a file system of type `kind` on `path`, a folder that is made if need be.
fn mount_on(path: &str, kind: &str, options: &str, flags: MountFlags) -> Result<()> {
    let lookup = kernel_lookup();
    match namei::create(&lookup, path.as_bytes(), NewNode::Directory, 0o755) {
        Ok(_) | Err(EEXIST) => {}
        Err(error) => return Err(error),
    }
    let fs = file_system::find_type(kind.as_bytes())?.mount(kind.as_bytes(), options.as_bytes())?;
    let point = lookup.find(path.as_bytes(), LastLink::Follow)?;
    mount::attach(Mount::new(Volume::of(fs), None, kind.as_bytes(), flags), point)
}
