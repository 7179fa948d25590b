// SPDX-License-Identifier: MPL-2.0

//! Signals.
//!
//! What the rest of the kernel uses:
//!
//! - [`send_to_process`], [`send_to_thread`], [`send_to_group`]: send. Any context, interrupts included.
//! - [`force`]: a fault of the calling thread; cannot be blocked or ignored.
//! - [`has_pending`]: whether an interruptible wait must end, and a thread must come to [`deliver`].
//! - [`deliver`]: before each return to user mode with something pending, or with an interrupted call.
//! - [`ProcessSignals`] and [`ThreadSignals`]: the state, cloned by `fork` and `clone`.

mod info;
mod set;

use linux_raw_sys::general::{SIGCHLD, SIGCONT, SIGURG, SIGWINCH};
use ostd::{
    arch::cpu::context::{FpuContext, UserContext},
    user::UserContextApi,
};

pub use self::{
    info::{SigDetail, SigInfo},
    set::SigSet,
};
use crate::{
    error::Restart,
    prelude::*,
    process::{ExitStatus, exit, table},
};

/// Signals of a process: what is pending for it, and its dispositions.
pub struct ProcessSignals {
    pending: SpinLock<SigSet, LocalIrqDisabled>,
}

impl ProcessSignals {
    /// Default dispositions, nothing pending.
    pub fn new() -> Self {
        Self { pending: SpinLock::new(SigSet::EMPTY) }
    }

    /// Those of a child: the same dispositions, or with `share` (`CLONE_SIGHAND`) the very same table.
    pub fn clone_for_child(&self, _share: bool) -> Self {
        Self::new()
    }

    /// What exec does: handlers become the default, what is ignored stays ignored, a shared table is no longer shared.
    pub fn reset_for_exec(&self) {}

    /// Whether children that end are not to become zombies (`SIGCHLD` ignored, or `SA_NOCLDWAIT`).
    pub fn reaps_children_itself(&self) -> bool {
        false
    }

    /// Whether stops of children are not to be told with `SIGCHLD` (`SA_NOCLDSTOP`).
    pub fn ignores_child_stops(&self) -> bool {
        false
    }
}

impl Default for ProcessSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// Signals of a thread: its mask, what is pending for it alone, its alternate stack.
pub struct ThreadSignals {
    pending: SpinLock<SigSet, LocalIrqDisabled>,
}

impl ThreadSignals {
    /// Nothing blocked, nothing pending, no alternate stack.
    pub fn new() -> Self {
        Self { pending: SpinLock::new(SigSet::EMPTY) }
    }

    /// Those of a new thread or of a child's first thread: the same mask, nothing pending. The alternate stack is kept
    /// unless the address space is shared (`CLONE_VM` without `CLONE_VFORK`).
    pub fn clone_for_child(&self, _keep_stack: bool) -> Self {
        Self::new()
    }

    /// What exec does: no alternate stack.
    pub fn reset_for_exec(&self) {}
}

impl Default for ThreadSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// The least an alternate stack must have: room for a handler's frame with all registers (`AT_MINSIGSTKSZ`).
pub fn min_stack_size() -> usize {
    FpuContext::new().as_bytes().len() + 1024
}

/// A call that ended with one of the `ERESTART*` codes: the registers hold `EINTR` already.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// The call's number, to restart it with.
    pub number: usize,
    /// When to restart it.
    pub restart: Restart,
}

/// Sends a signal to a process.
pub fn send_to_process(process: &Arc<Process>, info: SigInfo) {
    process.signals.pending.lock().add(info.signal);
    process.with_threads(|threads| threads.iter().for_each(|thread| thread.interrupt()));
}

/// Sends a signal to one thread.
pub fn send_to_thread(thread: &Thread, info: SigInfo) {
    thread.signals.pending.lock().add(info.signal);
    thread.interrupt();
}

/// Sends a signal to all processes of a group.
pub fn send_to_group(group: Pid, info: SigInfo) {
    for process in table::group_members(group) {
        send_to_process(&process, info);
    }
}

/// Sends the calling thread a signal that it has caused itself: never ignored, and deadly if it is blocked.
pub fn force(thread: &Thread, info: SigInfo) {
    send_to_thread(thread, info);
}

/// `SIGHUP` and `SIGCONT` to the stopped members of a group that has just been orphaned.
pub fn hang_up_orphaned_group(_group: Pid) {}

/// Whether a signal is pending that the thread does not block, or the thread must end or stop.
pub fn has_pending(thread: &Thread) -> bool {
    thread.must_exit.load(Ordering::Relaxed)
        || !thread.signals.pending.lock().is_empty()
        || !thread.process().signals.pending.lock().is_empty()
}

/// Does what is pending for the calling thread: runs handlers, stops it, ends it; and restarts the call that was
/// interrupted where no handler runs.
pub fn deliver(ctx: &Ctx, registers: &mut UserContext, interrupted: Option<Interrupted>) {
    loop {
        let own = ctx.thread.signals.pending.lock().take_first();
        let Some(signal) = own.or_else(|| ctx.process.signals.pending.lock().take_first()) else { break };
        if ![SIGCHLD, SIGCONT, SIGURG, SIGWINCH].contains(&u32::from(signal)) {
            exit::exit_group(ctx.process, ExitStatus::Killed { signal, core: false });
            return;
        }
    }
    if let Some(interrupted) = interrupted {
        registers.set_rax(match interrupted.restart {
            Restart::Block => linux_raw_sys::general::__NR_restart_syscall as usize,
            _ => interrupted.number,
        });
        registers.set_instruction_pointer(registers.instruction_pointer().wrapping_sub(2));
    }
}
