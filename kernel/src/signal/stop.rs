// SPDX-License-Identifier: MPL-2.0

//! Job control: stopping and continuing a process, as in `signal(7)` and `setpgid(2)`.
//!
//! ```text
//! running ── stop signal delivered to a thread ──► stopping ── last thread takes part ──► stopped
//!    ▲                                                │                                      │
//!    └──────────────── SIGCONT sent (or the end of the process) ─────────────────────────────┘
//! ```
//!
//! Every thread takes part on its way back to user mode: it parks, or it stops for its tracer ([`crate::process::ptrace`]), who may
//! let it go on alone. The last to do so tells the parent. A continued process tells its parent from the first thread that goes on.

use linux_raw_sys::general::{CLD_CONTINUED, CLD_STOPPED, SIGCHLD, SIGCONT, SIGSTOP};

use super::send_to_process;
use crate::{
    prelude::*,
    process::{exit_hooks, table},
    wait::{Sleeper, WaitQueue},
};

bitflags::bitflags! {
    /// Why a thread must stop.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Job: u32 {
        /// The process stops, and the thread has not taken part yet.
        const STOP = 1 << 0;
        /// The tracer wants it to.
        const TRAP = 1 << 1;
        /// A tracer that has seized it is to see that the process stops or goes on.
        const NOTIFY = 1 << 2;
    }
}

/// The job-control state of a process.
pub(super) struct StopState {
    stop: SpinLock<Stop, LocalIrqDisabled>,
    /// Whether the parent is still to be told that the process goes on.
    untold_continue: AtomicBool,
    resumed: WaitQueue,
}

#[derive(Default)]
struct Stop {
    signal: Option<u8>,
    /// Whether all threads have taken part, and the parent knows.
    told: bool,
    /// How often the process was continued: a stop signal taken out before that must not stop it after.
    generation: u64,
}

impl StopState {
    pub(super) fn new() -> Self {
        Self {
            stop: SpinLock::new(Stop::default()),
            untold_continue: AtomicBool::new(false),
            resumed: WaitQueue::new(),
        }
    }

    /// How often the process was continued so far.
    pub(super) fn generation(&self) -> u64 {
        self.stop.lock().generation
    }
}

/// Asks all threads of the process of `thread`, which is running, to stop, unless it was continued since `generation`, or the stop is
/// one that a process of an orphaned group does not take.
pub(super) fn begin(thread: &Arc<Thread>, signal: u8, generation: u64) {
    let process = thread.process();
    if u32::from(signal) != SIGSTOP && is_orphan(process) {
        return;
    }
    let mut stop = process.signals.stop.stop.lock();
    if stop.generation != generation {
        return;
    }
    if !stop.told {
        stop.signal = Some(signal);
    }
    process.with_threads(|threads| {
        for other in threads.iter().filter(|other| !other.signals.is_parked()) {
            let is_told = other.tracing.is_seized() && !Arc::ptr_eq(other, thread);
            other.signals.set_job(if is_told { Job::STOP.union(Job::NOTIFY) } else { Job::STOP });
            other.interrupt();
        }
    });
}

fn is_orphan(process: &Process) -> bool {
    table::with(|table| table.node(process.pid()).is_none_or(|node| table.is_orphaned(node.group, None)))
}

/// Parks the calling thread until the process goes on, or the thread must end or stop for a tracer.
pub(super) fn park(ctx: &Ctx) {
    let (thread, process) = (ctx.thread, ctx.process);
    let state = &process.signals.stop;
    let generation = {
        let stop = state.stop.lock();
        if stop.signal.is_none() {
            thread.signals.clear_job(Job::STOP);
            return;
        }
        thread.signals.set_parked(true);
        stop.generation
    };
    if let Some(signal) = take_part(thread) {
        tell_stop(process, signal);
    }
    {
        let sleeper = Sleeper::new();
        let _interruptible = thread.interruptible(sleeper.waker());
        let _watching = sleeper.watch(&state.resumed);
        // A stop that follows at once is another: the thread has to be counted for it again.
        while state.generation() == generation
            && thread.signals.job().is_empty()
            && !thread.tracing.is_traced()
            && !thread.must_exit.load(Ordering::Relaxed)
        {
            sleeper.sleep();
        }
    }
    thread.signals.set_parked(false);
    if thread.tracing.is_traced() {
        thread.signals.set_job(Job::TRAP);
    }
}

/// Has a thread take part in its process's stop, if there is one that waits for it. Answers the signal if that was the last, and
/// the parent is to be told.
pub fn take_part(thread: &Thread) -> Option<u8> {
    let process = thread.process();
    let mut stop = process.signals.stop.stop.lock();
    thread.signals.clear_job(Job::STOP);
    complete(process, &mut stop)
}

fn complete(process: &Process, stop: &mut Stop) -> Option<u8> {
    let signal = stop.signal?;
    let awaits = |thread: &Arc<Thread>| thread.signals.job().contains(Job::STOP);
    if stop.told || process.is_exiting() || process.with_threads(|threads| threads.iter().any(awaits)) {
        return None;
    }
    stop.told = true;
    process.stopped.store(true, Ordering::Relaxed);
    let mut report = process.report.lock();
    report.stopped = Some(signal);
    report.continued = false;
    Some(signal)
}

/// The signal that has stopped the process, or is about to.
pub fn stop_signal(process: &Process) -> Option<u8> {
    process.signals.stop.stop.lock().signal
}

/// Has a thread that was traced until now take part in its process's stop.
pub fn rejoin_stop(thread: &Thread) {
    let process = thread.process();
    let stop = process.signals.stop.stop.lock();
    if stop.signal.is_some() && !process.is_exiting() {
        thread.signals.set_job(Job::STOP);
    }
}

/// Tells the parent if the thread that has just gone was the last that a stop waited for.
pub(super) fn recount(process: &Arc<Process>) {
    let complete = complete(process, &mut process.signals.stop.stop.lock());
    if let Some(signal) = complete {
        tell_stop(process, signal);
    }
}

/// Lets a stopped process go on. Any context.
pub(super) fn resume(process: &Arc<Process>) {
    let state = &process.signals.stop;
    {
        let mut stop = state.stop.lock();
        stop.generation += 1;
        let was_told = core::mem::take(&mut stop.told);
        if stop.signal.take().is_some() && was_told {
            process.stopped.store(false, Ordering::Relaxed);
            let mut report = process.report.lock();
            report.stopped = None;
            report.continued = true;
            state.untold_continue.store(true, Ordering::Release);
        }
        process.with_threads(|threads| {
            for thread in threads {
                thread.signals.clear_job(Job::STOP);
                if thread.tracing.is_seized() {
                    thread.signals.set_job(Job::NOTIFY);
                    thread.interrupt();
                }
            }
        });
    }
    state.resumed.wake_all();
}

/// Tells the parent that the process has gone on, if it has and nobody has told it.
pub(super) fn tell_continue(process: &Arc<Process>) {
    let untold = &process.signals.stop.untold_continue;
    if untold.load(Ordering::Relaxed) && untold.swap(false, Ordering::AcqRel) {
        tell_parent(process, CLD_CONTINUED, SIGCONT as u8);
    }
}

/// Tells the parent that the process has stopped.
pub fn tell_stop(process: &Arc<Process>, signal: u8) {
    tell_parent(process, CLD_STOPPED, signal);
}

/// `SIGCHLD` for a stop or continuation, unless the parent does not want it, and the end of its `wait`.
fn tell_parent(process: &Arc<Process>, code: u32, status: u8) {
    let Some(parent) = process.parent() else { return };
    if !parent.signals.ignores_child_stops() {
        let info = exit_hooks::child_report(process, SIGCHLD as u8, code as i32, i32::from(status));
        send_to_process(&parent, info);
    }
    parent.child_events.wake_all();
}
