// SPDX-License-Identifier: MPL-2.0

//! The console: the first serial port, as `/dev/console`, without a line discipline.

use ostd::arch::serial::SERIAL_PORT;

use crate::{
    fs::{
        FileOps, Inode, OpenFlags,
        device::{self, Device, DeviceClass},
        file::File,
        file_system,
        io::{Sink, Source},
        lookup::LastLink,
        mount::{self, Mount, MountFlags, Volume},
        namei,
        open::kernel_lookup,
        types::{DeviceId, NewNode},
    },
    prelude::*,
    time,
    wait::WaitQueue,
};

/// How often the port is looked at while somebody waits for it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

const CONSOLE: DeviceId = DeviceId::new(5, 1);

struct Console;

impl Device for Console {
    fn open(&self, _inode: &Arc<dyn Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(Console))
    }
}

impl FileOps for Console {
    fn read(&self, _file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        loop {
            let byte = SERIAL_PORT.get().and_then(|port| port.lock().recv());
            if let Some(byte) = byte {
                let byte = if byte == b'\r' { b'\n' } else { byte };
                return dst.write_bytes(&[byte]);
            }
            let deadline = time::monotonic() + POLL_INTERVAL;
            match WaitQueue::new().wait_interruptible(Some(deadline), || None::<()>) {
                Err(ETIMEDOUT) => {}
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
    }

    fn write(&self, _file: &File, src: &mut Source<'_>) -> Result<usize> {
        let bytes = src.read_all(4096)?;
        if let Some(port) = SERIAL_PORT.get() {
            let mut port = port.lock();
            for byte in &bytes {
                if *byte == b'\n' {
                    port.send(b'\r');
                }
                port.send(*byte);
            }
        }
        Ok(bytes.len())
    }
}

/// Registers the console and mounts `/dev` for it.
pub fn init() {
    device::register(DeviceClass::Char, CONSOLE, Arc::new(Console));
    if let Err(error) = make_node() {
        warn!("no /dev/console: {:?}", error);
    }
}

fn make_node() -> Result<()> {
    let lookup = kernel_lookup();
    match namei::create(&lookup, b"/dev", NewNode::Directory, 0o755) {
        Ok(_) | Err(EEXIST) => {}
        Err(error) => return Err(error),
    }
    let fs = file_system::find_type(b"devtmpfs")?.mount(b"devtmpfs", b"")?;
    let point = lookup.find(b"/dev", LastLink::Follow)?;
    mount::attach(Mount::new(Volume::of(fs), None, b"devtmpfs", MountFlags::empty()), point)?;
    namei::create(&lookup, b"/dev/console", NewNode::CharDevice(CONSOLE), 0o600)?;
    Ok(())
}
