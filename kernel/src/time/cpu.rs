// SPDX-License-Identifier: MPL-2.0

//! The time that processes and threads have run, and the timers on it.
//!
//! The scheduler counts it, exactly in sum; what of it was in user mode is sampled. At each tick of a CPU the timers of the
//! running process are looked at, and its limit (`RLIMIT_CPU`).

use linux_raw_sys::general::{RLIMIT_CPU, SIGKILL, SIGXCPU};

use crate::{
    prelude::*,
    process::{Usage, rlimit},
    sched,
    signal::{self, SigInfo},
};

/// Which part of the time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In user mode and in the kernel.
    Total,
    /// In user mode.
    User,
}

impl Part {
    fn of(self, usage: &Usage) -> Duration {
        Duration::from_nanos(match self {
            Self::Total => usage.user_nanos + usage.system_nanos,
            Self::User => usage.user_nanos,
        })
    }
}

/// The time that the threads of `process` have run, those that have ended included.
pub(super) fn of_process(process: &Process, part: Part) -> Duration {
    sched::charge_current();
    part.of(&process.usage())
}

/// The time that `thread` has run.
pub(super) fn of_thread(thread: &Thread, part: Part) -> Duration {
    sched::charge_current();
    part.of(&thread.usage())
}

/// Looks at the timers and the limit of the process that runs on this CPU. Called at each tick.
pub(super) fn tick() {
    let Some(thread) = Thread::current() else { return };
    let process = thread.process();
    process.timers.tick();
    let limit = process.rlimits.get(RLIMIT_CPU);
    if limit.soft != rlimit::INFINITY {
        enforce_limit(process, limit);
    }
}

/// `SIGXCPU` at the soft limit and each second from then on, `SIGKILL` at the hard limit (`getrlimit(2)`).
fn enforce_limit(process: &Arc<Process>, limit: rlimit::Rlimit) {
    let seconds = of_process(process, Part::Total).as_secs();
    // As in Linux, a limit of none at all lets a second pass.
    if seconds >= limit.hard.max(1) {
        signal::send_to_process(process, SigInfo::kernel(SIGKILL as u8));
    } else if seconds >= limit.soft.max(1) && process.timers.note_limit_second(seconds) {
        signal::send_to_process(process, SigInfo::kernel(SIGXCPU as u8));
    }
}
