// SPDX-License-Identifier: MPL-2.0

//! Signals.
//!
//! ```text
//! send ──► pending (process or thread) ──► deliver, before user mode ──► handler ──► rt_sigreturn
//!  │                                         │                  └─────► default action: end, stop, nothing
//!  └─► wakes a thread that takes it          └─► restarts the interrupted call, or leaves EINTR
//! ```
//!
//! What the rest of the kernel uses:
//!
//! - [`send_to_process`], [`send_to_thread`], [`send_to_group`]: send. Any context, interrupts included.
//! - [`force`]: a fault of the calling thread; cannot be blocked or ignored.
//! - [`has_pending`]: whether an interruptible wait must end, and a thread must come to [`deliver()`].
//! - [`deliver()`]: before each return to user mode with something pending, or with an interrupted call.
//! - [`with_mask`], [`read_mask`]: `ppoll`, `pselect`, `epoll_pwait`.
//! - [`ThreadSignals::set_restart`]: what `restart_syscall(2)` does after `ERESTART_RESTARTBLOCK`.
//! - [`ProcessSignals`] and [`ThreadSignals`]: the state, cloned by `fork` and `clone`.

mod action;
mod deliver;
mod fpu;
mod frame;
mod info;
mod pending;
mod send;
mod set;
pub mod signalfd;
mod stack;
mod state;
mod stop;

pub use self::{
    action::{DefaultAction, Disposition, SIGNAL_COUNT, SigAction, default_action},
    deliver::{Interrupted, deliver, sigreturn},
    frame::min_stack_size,
    info::{RawSigInfo, SigDetail, SigInfo},
    pending::{OnDequeue, Queued, Slot},
    send::{
        force, hang_up_orphaned_group, preset, send_to_group, send_to_process, send_to_thread, thread_exited,
    },
    set::SigSet,
    stack::AltStack,
    state::{ProcessSignals, RestartFn, ThreadSignals, has_pending, read_mask, set_blocked, with_mask},
    stop::{Job, rejoin_stop, stop_signal, take_part, tell_stop},
};
pub(crate) use self::{
    fpu::{check_image as check_fp_image, name_features as name_fp_features, show_extended, take_extended},
    send::post,
};
use crate::prelude::*;

/// The signals that are pending for a thread, alone or as part of its process.
pub fn pending_for(thread: &Thread) -> SigSet {
    thread.signals.pending().union(thread.process().signals.pending())
}

/// Takes out the first signal in `wanted` that is pending for the thread, or for its process.
pub fn take(thread: &Thread, wanted: SigSet) -> Option<SigInfo> {
    state::take(thread, wanted)
}

/// Changes what the process does on `signal`, and answers what it did. What is pending and ignored from now on is gone.
pub fn set_action(process: &Process, signal: u8, action: SigAction) -> SigAction {
    let old = process.signals.update_action(signal, |place| *place = action.sanitized());
    if action.ignores(signal) {
        let gone = SigSet::single(signal);
        process.signals.pending.discard(gone);
        process.with_threads(|threads| {
            threads.iter().for_each(|thread| thread.signals.pending.discard(gone));
        });
    }
    old
}

/// Waits until a signal in `wanted` is pending, and takes it out.
///
/// # Errors
///
/// `EAGAIN` at the deadline; `EINTR` if another signal comes first.
pub fn wait_for(ctx: &Ctx, wanted: SigSet, deadline: Option<Duration>) -> Result<SigInfo> {
    let wanted = wanted.without(SigSet::UNMASKABLE);
    ctx.thread.signals.set_waited(wanted);
    let sleeper = crate::wait::Sleeper::new();
    let result = sleeper.sleep_until(deadline, || take(ctx.thread, wanted));
    ctx.thread.signals.set_waited(SigSet::EMPTY);
    result.map_err(|error| match error {
        ETIMEDOUT => EAGAIN,
        _ => EINTR,
    })
}

/// Waits for a signal that runs a handler or ends the process (`pause`, `sigsuspend`). Never succeeds.
///
/// # Errors
///
/// `ERESTARTNOHAND`.
pub fn suspend() -> Result<usize> {
    match crate::wait::Sleeper::new().sleep_until(None, || None::<usize>) {
        Ok(value) => Ok(value),
        Err(_) => Err(ERESTARTNOHAND),
    }
}

/// Changes the alternate stack of the calling thread, whose stack pointer is `sp`, and answers the one before as
/// `sigaltstack(2)` tells it.
///
/// # Errors
///
/// As [`AltStack::replaced`].
pub fn set_stack(thread: &Thread, new: Option<AltStack>, sp: Vaddr) -> Result<AltStack> {
    let old = thread.signals.stack();
    if let Some(new) = new {
        thread.signals.set_stack(old.replaced(new, sp)?);
    }
    Ok(old.described(sp))
}
