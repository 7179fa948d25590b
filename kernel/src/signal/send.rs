// SPDX-License-Identifier: MPL-2.0

//! Sending: from somebody's wish to a signal in a queue and a thread that wakes for it.
//!
//! ```text
//! send ─► SIGKILL: ends the process at once
//!      ─► stop and continue signals throw each other out of all queues; SIGCONT continues
//!      ─► ignored: gone         (unless blocked: the disposition may change before it is unblocked)
//!      ─► queue ─► signalfd readers, and one thread that takes it
//! ```
//!
//! All of it may run in interrupt context: timers and the terminal send from there.

use linux_raw_sys::general::{SIGCONT, SIGHUP, SIGKILL};

use super::{
    Disposition, SigInfo, SigSet,
    pending::{Pushed, Queued},
};
use crate::{
    prelude::*,
    process::{ExitStatus, exit, table},
};

const CONT: u8 = SIGCONT as u8;
const KILL: u8 = SIGKILL as u8;

/// Sends a signal to a process. Any context.
pub fn send_to_process(process: &Arc<Process>, info: SigInfo) {
    post(process, None, info.into());
}

/// Sends a signal to one thread. Any context.
pub fn send_to_thread(thread: &Thread, info: SigInfo) {
    post(thread.process(), Some(thread), info.into());
}

/// Sends a signal to all processes of a group. Any context.
pub fn send_to_group(group: Pid, info: SigInfo) {
    table::visit_group(group, |process| send_to_process(process, info));
}

/// Sends the calling thread a signal that it has caused itself. If it blocks or ignores the signal, the default action
/// is taken.
pub fn force(thread: &Thread, info: SigInfo) {
    let signal = info.signal;
    let process = thread.process();
    let blocked = thread.signals.blocked();
    let ignored = process.signals.action(signal).disposition() == Disposition::Ignore;
    if blocked.contains(signal) || ignored {
        process.signals.update_action(signal, |action| action.set_default());
        thread.signals.store_blocked(blocked.without(SigSet::single(signal)));
    }
    let (_, rest) = thread.signals.pending.push(info.into());
    drop(rest);
    process.signals.arrivals.wake_all();
}

/// Has a thread that has not run yet find a signal pending that says nothing of its origin.
pub fn preset(thread: &Thread, signal: u8) {
    let (_, rest) = thread.signals.pending.push(SigInfo::user(signal, 0, 0).into());
    drop(rest);
}

/// `SIGHUP` and `SIGCONT` to the members of a group that has just been orphaned while a member was stopped.
pub fn hang_up_orphaned_group(group: Pid) {
    send_to_group(group, SigInfo::kernel(SIGHUP as u8));
    send_to_group(group, SigInfo::kernel(CONT));
}

/// Sends a signal to a process, or to one of its threads. Answers whether it was new, where that is of interest: a timer
/// counts the expiries that were not.
pub(crate) fn post(process: &Arc<Process>, thread: Option<&Thread>, queued: Queued) -> bool {
    let signal = queued.info.signal;
    if process.is_exiting() || process.is_zombie() || prepare(process, &queued.info) {
        return discard(queued);
    }
    if is_ignored(process, thread, &queued.info) {
        return discard(queued);
    }
    let pending = thread.map_or(&process.signals.pending, |thread| &thread.signals.pending);
    let (pushed, rest) = pending.push(queued);
    if pushed == Pushed::Merged {
        return rest.is_some_and(discard);
    }
    drop(rest);
    process.signals.arrivals.wake_all();
    match thread {
        Some(thread) if thread.signals.wanted().contains(signal) => thread.interrupt(),
        Some(_) => {}
        None => wake_one(process, SigSet::single(signal), None),
    }
    true
}

fn discard(queued: Queued) -> bool {
    if let Some(owner) = &queued.owner {
        owner.discarded();
    }
    false
}

/// What a signal does by merely being sent. Answers whether that was all.
fn prepare(process: &Arc<Process>, info: &SigInfo) -> bool {
    let signal = info.signal;
    if signal == KILL {
        if !is_protected(process, info) {
            exit::exit_group(process, ExitStatus::Killed { signal, core: false });
        }
        return true;
    }
    if SigSet::STOPS.contains(signal) {
        discard_everywhere(process, SigSet::CONT);
    } else if signal == CONT {
        discard_everywhere(process, SigSet::STOPS);
        super::stop::resume(process);
    }
    false
}

fn discard_everywhere(process: &Process, unwanted: SigSet) {
    process.signals.pending.discard(unwanted);
    process.with_threads(|threads| {
        threads.iter().for_each(|thread| thread.signals.pending.discard(unwanted));
    });
}

/// The first process gets no signal that it has no handler for, except from the kernel itself.
pub(super) fn is_protected(process: &Process, info: &SigInfo) -> bool {
    process.pid() == table::INIT && info.code <= 0
}

fn is_ignored(process: &Arc<Process>, thread: Option<&Thread>, info: &SigInfo) -> bool {
    let signal = info.signal;
    // A tracer sees what is ignored, too.
    let blocks = |thread: &Thread| thread.signals.blocked().contains(signal) || thread.tracing.is_traced();
    let blocked = match thread {
        Some(thread) => blocks(thread),
        None => process.with_threads(|threads| threads.first().is_some_and(|thread| blocks(thread))),
    };
    if blocked {
        return false;
    }
    let action = process.signals.action(signal);
    let protected = action.disposition() == Disposition::Default && is_protected(process, info);
    action.ignores(signal) || protected
}

/// Wakes a thread that takes one of `signals`: the oldest if it does, else any. `except` is passed over.
fn wake_one(process: &Process, signals: SigSet, except: Option<&Thread>) {
    process.with_threads(|threads| {
        let takes = |thread: &&Arc<Thread>| {
            !signals.intersection(thread.signals.wanted()).is_empty()
                && !thread.must_exit.load(Ordering::Relaxed)
                && except.is_none_or(|except| !core::ptr::eq(Arc::as_ptr(thread), except))
        };
        if let Some(thread) = threads.iter().find(takes) {
            thread.interrupt();
        }
    });
}

/// Wakes another thread for signals of the process that `thread` was woken for and no longer takes.
pub(super) fn offer_to_others(thread: &Thread, signals: SigSet) {
    wake_one(thread.process(), signals, Some(thread));
}

/// What the end of `thread` means for the others of its process: they take over what it was woken for, and a stop no
/// longer waits for it. Called when the thread has left its process.
pub fn thread_exited(thread: &Thread) {
    let process = thread.process();
    let left = process.signals.pending.set();
    if !left.is_empty() {
        offer_to_others(thread, left);
    }
    thread.signals.pending.discard(SigSet::from_bits(u64::MAX));
    super::stop::recount(process);
}
