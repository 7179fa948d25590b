// SPDX-License-Identifier: MPL-2.0

//! File descriptors that stand for processes, as in `pidfd_open(2)`.
//!
//! The descriptor keeps the process object, not its number: the number may be given to another process, the descriptor
//! never stands for that one. It is readable once the process has ended.

use linux_raw_sys::general::O_NONBLOCK;

use crate::{
    fs::{
        anon,
        file::{File, FileOps, OpenFlags},
        poll::{PollEvents, PollTable},
        synthetic::{Text, put},
    },
    prelude::*,
    process::table,
};

/// An open pidfd.
struct PidFd {
    process: Arc<Process>,
}

impl FileOps for PidFd {
    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.process.ended);
        if self.process.is_zombie() { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn fdinfo(&self, _file: &File, out: &mut Text) {
        let pid = self.process.pid();
        let alive = table::process(pid).is_some_and(|process| Arc::ptr_eq(&process, &self.process));
        put!(out, "Pid:\t{}\n", if alive { pid as i32 } else { -1 });
    }
}

fn install_for(ctx: &Ctx, process: &Arc<Process>, flags: OpenFlags) -> Result<i32> {
    let ops = Arc::new(PidFd { process: process.clone() });
    let flags = OpenFlags::RDWR | OpenFlags::CLOEXEC | flags;
    anon::install(ctx, "anon_inode:[pidfd]", ops, flags).map(|fd| fd as i32)
}

/// Opens a descriptor for `process` in the caller's table and writes its number to `addr`.
///
/// # Errors
///
/// `EMFILE`; `ENOMEM`; `EFAULT`.
pub fn install(ctx: &Ctx, process: &Arc<Process>, addr: Vaddr) -> Result<i32> {
    let fd = install_for(ctx, process, OpenFlags::empty())?;
    if let Err(error) = ctx.vm.write_val(addr, &fd) {
        remove(ctx, fd);
        return Err(error);
    }
    Ok(fd)
}

/// Closes a descriptor that [`install`] has just opened.
pub fn remove(ctx: &Ctx, fd: i32) {
    // Another thread may have closed it meanwhile, which is just as well.
    let _ = ctx.files().close(fd);
}

/// The process that a descriptor stands for.
///
/// # Errors
///
/// `EBADF` if it stands for none.
pub fn process_of(ctx: &Ctx, fd: i32) -> Result<Arc<Process>> {
    let file = ctx.files().get(fd)?;
    file.downcast_ops::<PidFd>().map(|pidfd| pidfd.process.clone()).ok_or(EBADF)
}

/// `pidfd_open(2)`.
///
/// # Errors
///
/// `EINVAL` for unknown flags, or a number that is no process's; `ESRCH`; `EMFILE`; `ENOMEM`.
pub fn open(ctx: &Ctx, pid: i32, flags: u32) -> Result<i32> {
    if flags & !O_NONBLOCK != 0 || pid <= 0 {
        return Err(EINVAL);
    }
    let process = match table::process(pid as Pid) {
        Some(process) => process,
        // A thread that leads no process.
        None if table::thread(pid as Tid).is_some() => return Err(EINVAL),
        None => return Err(ESRCH),
    };
    install_for(ctx, &process, OpenFlags::from_bits_truncate(flags))
}
