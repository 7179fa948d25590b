// SPDX-License-Identifier: MPL-2.0

//! System calls: from the registers to a function and back.
//!
//! Each call is a function `sys_name(ctx, arguments..) -> Result<usize>` in the file of its family, with at most six
//! arguments of integer types, in the order of the man page. [`table`] names the function for each number. Pointers
//! are [`Vaddr`]s, to be used only through [`crate::usermem`].

mod credentials;
mod epoll;
mod exec;
mod fs_attr;
mod fs_copy;
mod fs_dir;
mod fs_fcntl;
mod fs_mount;
mod fs_open;
mod fs_rw;
mod fs_size;
mod fs_stat;
mod fs_util;
mod fs_xattr;
mod futex;
mod ids;
mod kill;
mod madvise;
mod memory;
mod memory_use;
mod mempolicy;
mod mprotect;
mod mremap;
mod poll;
mod prctl;
mod process;
mod process_mrelease;
mod process_vm;
mod ptrace;
mod rseq;
mod scarcity;
mod sched;
mod sched_more;
mod shm;
mod signal;
mod socket;
mod socket_message;
mod system;
mod table;
mod time;
mod timer;
mod usage;
mod wait;

use linux_raw_sys::general::__NR_restart_syscall;
use ostd::arch::cpu::context::UserContext;

use crate::{prelude::*, process::ptrace::report, signal::Interrupted};

/// The most system call numbers there are.
const MAX_NUMBER: usize = 512;

/// Numbers that nobody here knows and that were already told in the log.
static REPORTED: [AtomicBool; MAX_NUMBER] = [const { AtomicBool::new(false) }; MAX_NUMBER];

/// Runs the system call that the registers ask for and puts its result into them.
///
/// Answers the call if it was interrupted and may have to be restarted; the registers then say `EINTR`.
pub fn handle(ctx: &Ctx, registers: &mut UserContext) -> Option<Interrupted> {
    let mut number = registers.rax();
    if ctx.local.watches_calls() {
        number = enter_watched(ctx, registers, number)?;
    }
    // As in Linux, only the lower half of the register counts.
    let result = match scarcity::check(number as u32) {
        Ok(()) => table::call(ctx, registers, number as u32),
        Err(error) => Err(error),
    };
    match result {
        Ok(value) => registers.set_rax(value),
        Err(error) => match error.restart() {
            None => registers.set_rax(error.to_return_value()),
            Some(restart) => {
                registers.set_rax(EINTR.to_return_value());
                ctx.local.set_call(number);
                return Some(Interrupted { number, restart });
            }
        },
    }
    None
}

/// Reports a system call to a tracer that wants to see it. Answers its number; `None` if it is not to be made.
#[cold]
#[inline(never)]
fn enter_watched(ctx: &Ctx, registers: &mut UserContext, number: usize) -> Option<usize> {
    ctx.local.set_call(number);
    let number = report::call_enters(ctx, registers);
    ctx.local.set_exit_due(ctx.thread);
    number
}

/// Answers a number that nobody knows, and tells of it in the log, once for each number.
fn unknown(ctx: &Ctx, number: u32) -> Errno {
    let first_time =
        REPORTED.get(number as usize).is_some_and(|reported| !reported.swap(true, Ordering::Relaxed));
    if first_time && number != __NR_restart_syscall {
        warn!(
            "system call {} is not implemented (first asked for by {})",
            number,
            String::from_utf8_lossy(ctx.thread.name().as_bytes())
        );
    }
    ENOSYS
}

/// Reads a structure that grows from one version of Linux to the next (`clone_args`, `open_how`): a program with an
/// older one leaves out the end, one with a newer one must have zeros there.
///
/// # Errors
///
/// `E2BIG` if what this kernel does not know is not zero; `EFAULT`.
pub(crate) fn read_extensible<T: Pod>(ctx: &Ctx, addr: Vaddr, size: usize) -> Result<T> {
    if size > PAGE_SIZE {
        return Err(E2BIG);
    }
    let mut bytes = try_filled(0, size.max(size_of::<T>()))?;
    ctx.vm.read_bytes(addr, &mut bytes[..size])?;
    let (known, unknown) = bytes.split_at(size_of::<T>());
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(E2BIG);
    }
    Ok(T::from_bytes(known))
}
