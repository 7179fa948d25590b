// SPDX-License-Identifier: MPL-2.0

//! File descriptors that stand for processes, as in `pidfd_open(2)`.
//!
//! A descriptor holds on to the process, not to its number: it never comes to mean another one. It is readable, in the
//! sense of `poll`, once the process has ended.

use linux_raw_sys::general::{O_NONBLOCK, RLIMIT_NOFILE};

use crate::{
    fs::{
        CloseOnExec, Fd, File, FileOps, OpenFlags,
        anon::AnonInode,
        poll::{PollEvents, PollTable},
        types::FileType,
    },
    prelude::*,
    process::table,
};

/// What a descriptor that stands for a process does.
struct PidFile {
    process: Arc<Process>,
}

impl FileOps for PidFile {
    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.process.ended);
        if self.process.is_zombie() { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn fdinfo(&self, _file: &File, out: &mut String) {
        // As Linux tells it: -1 once the process was waited for.
        let pid = self.process.pid();
        let is_known = table::process(pid).is_some_and(|other| Arc::ptr_eq(&other, &self.process));
        let shown = if is_known { i64::from(pid) } else { -1 };
        out.push_str(&format!("Pid:\t{shown}\nNSpid:\t{shown}\n"));
    }
}

fn insert(ctx: &Ctx, process: &Arc<Process>, flags: OpenFlags) -> Result<Fd> {
    let inode = AnonInode::new(FileType::Anonymous, 0o600);
    let ops = Arc::new(PidFile { process: process.clone() });
    let file = File::new_anonymous(inode, "anon_inode:[pidfd]", ops, flags | OpenFlags::RDWR);
    let limit = usize::try_from(ctx.process.rlimits.soft(RLIMIT_NOFILE)).unwrap_or(usize::MAX);
    ctx.files().insert(file, CloseOnExec::Yes, 0, limit)
}

/// Opens a descriptor for `process` in the caller's table and writes its number to `addr`.
///
/// # Errors
///
/// `EMFILE`, `ENOMEM`, `EFAULT`.
pub fn install(ctx: &Ctx, process: &Arc<Process>, addr: Vaddr) -> Result<Fd> {
    let fd = insert(ctx, process, OpenFlags::empty())?;
    if let Err(error) = ctx.vm.write_val(addr, &fd) {
        remove(ctx, fd);
        return Err(error);
    }
    Ok(fd)
}

/// Closes a descriptor that [`install`] has just opened.
pub fn remove(ctx: &Ctx, fd: Fd) {
    // If another thread was faster, it is closed already.
    let _ = ctx.files().close(fd);
}

/// The process that a descriptor stands for.
///
/// # Errors
///
/// `EBADF` if it stands for none.
pub fn process_of(ctx: &Ctx, fd: Fd) -> Result<Arc<Process>> {
    let file = ctx.files().get(fd)?;
    Ok(file.downcast_ops::<PidFile>().ok_or(EBADF)?.process.clone())
}

/// `pidfd_open(2)`.
///
/// # Errors
///
/// `EINVAL` for unknown flags, or a number that is that of a thread only; `ESRCH`; `EMFILE`.
pub fn open(ctx: &Ctx, pid: i32, flags: u32) -> Result<Fd> {
    if flags & !O_NONBLOCK != 0 || pid <= 0 {
        return Err(EINVAL);
    }
    let process = match table::process(pid as Pid) {
        Some(process) => process,
        None if table::thread(pid as Tid).is_some() => return Err(EINVAL),
        None => return Err(ESRCH),
    };
    insert(ctx, &process, OpenFlags::from_bits_truncate(flags))
}
