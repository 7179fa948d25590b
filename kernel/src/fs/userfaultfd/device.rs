// SPDX-License-Identifier: MPL-2.0

//! `/dev/userfaultfd`, whose only command makes a userfaultfd.
//!
//! Who may open the node may serve faults of the kernel, whatever `vm.unprivileged_userfaultfd` says.

use ostd::task::Task;

use crate::{
    fs::{
        Inode, OpenFlags,
        device::Device,
        file::{File, FileOps, Position, WriteAt},
        io::{Sink, Source},
        types::Whence,
    },
    prelude::*,
    process::local,
};

/// Makes a userfaultfd for the caller; the argument is the flags of `userfaultfd(2)`.
const USERFAULTFD_IOC_NEW: u32 = 0xaa00;

/// The device, and an open file of it.
pub struct Factory;

impl Device for Factory {
    fn open(&self, _inode: &Arc<dyn Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(Self))
    }
}

impl FileOps for Factory {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut Sink<'_>) -> Result<usize> {
        Err(EINVAL)
    }

    fn write_at(&self, _file: &File, _at: WriteAt, _src: &mut Source<'_>) -> Result<(u64, usize)> {
        Err(EINVAL)
    }

    fn seek(&self, _file: &File, current: u64, _offset: i64, _whence: Whence) -> Result<u64> {
        Ok(current)
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        if command != USERFAULTFD_IOC_NEW {
            return Err(EINVAL);
        }
        let task = Task::current().ok_or(ESRCH)?;
        let local = local::of(&task).ok_or(ESRCH)?;
        super::open(&local.vm(), arg as u32)
    }
}
