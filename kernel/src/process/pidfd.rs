// SPDX-License-Identifier: MPL-2.0

//! File descriptors that stand for processes, as in `pidfd_open(2)`.

use crate::prelude::*;

/// Opens a descriptor for `process` in the caller's table and writes its number to `addr`.
pub fn install(_ctx: &Ctx, _process: &Arc<Process>, _addr: Vaddr) -> Result<i32> {
    Err(EINVAL)
}

/// Closes a descriptor that [`install`] has just opened.
pub fn remove(_ctx: &Ctx, _fd: i32) {}

/// The process that a descriptor stands for.
pub fn process_of(_ctx: &Ctx, _fd: i32) -> Result<Arc<Process>> {
    Err(EBADF)
}

/// `pidfd_open(2)`.
pub fn open(_ctx: &Ctx, _pid: i32, _flags: u32) -> Result<i32> {
    Err(ENOSYS)
}
