// SPDX-License-Identifier: MPL-2.0

//! Job control: stopping and continuing a process, as in `signal(7)` and `setpgid(2)`.
//!
//! ```text
//! running ── stop signal delivered to a thread ──► stopping ── last thread parked ──► stopped
//!    ▲                                                │                                 │
//!    └──────────────── SIGCONT sent (or the end of the process) ────────────────────────┘
//! ```
//!
//! Every thread parks on its way back to user mode. The last to do so tells the parent. A continued process tells its
//! parent from the first thread that goes on.

use linux_raw_sys::general::{CLD_CONTINUED, CLD_STOPPED, SIGCHLD, SIGCONT, SIGSTOP};

use super::send_to_process;
use crate::{
    prelude::*,
    process::{exit_hooks, table},
    wait::{Sleeper, WaitQueue},
};

/// The job-control state of a process.
pub(super) struct StopState {
    stop: SpinLock<Stop, LocalIrqDisabled>,
    /// Whether a stop is wanted or in effect; a copy to look at without the lock.
    requested: AtomicBool,
    /// Whether the parent is still to be told that the process goes on.
    untold_continue: AtomicBool,
    resumed: WaitQueue,
}

#[derive(Default)]
struct Stop {
    signal: Option<u8>,
    parked: usize,
    told: bool,
    /// How often the process was continued: a stop signal taken out before that must not stop it after.
    generation: u64,
}

impl StopState {
    pub(super) fn new() -> Self {
        Self {
            stop: SpinLock::new(Stop::default()),
            requested: AtomicBool::new(false),
            untold_continue: AtomicBool::new(false),
            resumed: WaitQueue::new(),
        }
    }

    /// Whether the threads must park.
    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// How often the process was continued so far.
    pub(super) fn generation(&self) -> u64 {
        self.stop.lock().generation
    }
}

/// Asks all threads of the process to park, unless it was continued since `generation`, or the stop is one that a process
/// of an orphaned group does not take.
pub(super) fn begin(process: &Arc<Process>, signal: u8, generation: u64) {
    if u32::from(signal) != SIGSTOP && is_orphan(process) {
        return;
    }
    let state = &process.signals.stop;
    {
        let mut stop = state.stop.lock();
        if stop.generation != generation || stop.signal.is_some() {
            return;
        }
        stop.signal = Some(signal);
        stop.parked = 0;
        stop.told = false;
        state.requested.store(true, Ordering::Relaxed);
    }
    process.with_threads(|threads| threads.iter().for_each(|thread| thread.interrupt()));
}

fn is_orphan(process: &Process) -> bool {
    table::with(|table| table.node(process.pid()).is_none_or(|node| table.is_orphaned(node.group, None)))
}

/// Parks the calling thread until the process goes on, or must end.
pub(super) fn park(ctx: &Ctx) {
    let process = ctx.process;
    let state = &process.signals.stop;
    let generation = {
        let mut stop = state.stop.lock();
        if stop.signal.is_none() {
            return;
        }
        stop.parked += 1;
        stop.generation
    };
    recount(process);
    let sleeper = Sleeper::new();
    let _interruptible = ctx.thread.interruptible(sleeper.waker());
    let _watching = sleeper.watch(&state.resumed);
    // A stop that follows at once is another: the thread has to be counted for it again.
    while state.generation() == generation && !ctx.thread.must_exit.load(Ordering::Relaxed) {
        sleeper.sleep();
    }
    if state.untold_continue.swap(false, Ordering::AcqRel) {
        tell_parent(process, CLD_CONTINUED, SIGCONT as u8);
    }
}

/// Tells the parent once all living threads are parked.
pub(super) fn recount(process: &Arc<Process>) {
    let state = &process.signals.stop;
    let signal = {
        let mut stop = state.stop.lock();
        let Some(signal) = stop.signal else { return };
        if stop.told || process.is_exiting() || stop.parked < process.thread_count() {
            return;
        }
        stop.told = true;
        process.stopped.store(true, Ordering::Relaxed);
        let mut report = process.report.lock();
        report.stopped = Some(signal);
        report.continued = false;
        signal
    };
    tell_parent(process, CLD_STOPPED, signal);
}

/// Lets a stopped process go on. Any context.
pub(super) fn resume(process: &Arc<Process>) {
    let state = &process.signals.stop;
    {
        let mut stop = state.stop.lock();
        stop.generation += 1;
        if stop.signal.take().is_none() {
            return;
        }
        if stop.told {
            process.stopped.store(false, Ordering::Relaxed);
            let mut report = process.report.lock();
            report.stopped = None;
            report.continued = true;
            state.untold_continue.store(true, Ordering::Release);
        }
        state.requested.store(false, Ordering::Relaxed);
    }
    state.resumed.wake_all();
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
