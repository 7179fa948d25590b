// SPDX-License-Identifier: MPL-2.0

//! What happens when memory has run out: one process is ended so that the others can go on.
//!
//! As in Linux, the victim is the one with the most memory, and `/proc/PID/oom_score_adj` shifts the balance: a thousand
//! points count as all the memory there is. The first process is never ended.
//!
//! Among those that are alike, within a hundredth of all memory, it is the youngest: when what has filled memory belongs to
//! nobody (files, the kernel's own notes of many small processes), a shell goes after what it has started.

use crate::{
    mm,
    prelude::*,
    process::{exit, table},
    time,
    wait::Sleeper,
};

/// The value of `oom_score_adj` that protects a process altogether.
const NEVER: i32 = -1000;

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the memory of a process that has ended may take to come back, during which nobody else is ended: whoever was to go on
/// would go next.
const AFTERMATH: Duration = Duration::from_millis(50);

/// What is to be expected when memory has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// A process is about to end.
    Hopeful,
    /// It has been for long and does not get there. Perhaps it waits for a lock that the caller has.
    Stuck,
}

/// The process that is about to end.
#[derive(Clone, Copy)]
struct Awaited {
    pid: Pid,
    /// Tells it from another with the same number.
    start_time: Duration,
    since: Duration,
    /// When it was last seen with its memory.
    seen: Duration,
}

static AWAITED: SpinLock<Awaited, LocalIrqDisabled> = SpinLock::new(Awaited {
    pid: 0,
    start_time: Duration::ZERO,
    since: Duration::ZERO,
    seen: Duration::ZERO,
});

impl Awaited {
    fn new(process: &Process) -> Self {
        let now = time::monotonic();
        Self { pid: process.pid(), start_time: process.start_time, since: now, seen: now }
    }

    fn is(&self, process: &Process) -> bool {
        self.pid == process.pid() && self.start_time == process.start_time
    }

    fn outlook(&self) -> Outlook {
        match time::monotonic().saturating_sub(self.since) > PATIENCE {
            true => Outlook::Stuck,
            false => Outlook::Hopeful,
        }
    }
}

/// Ends the process with the most memory, unless one is about to end anyway, and waits a moment for it to do so.
///
/// If the caller is the victim, it returns at once: the caller must come to its end.
pub fn make_room() -> Outlook {
    let awaited = *AWAITED.lock();
    let now = time::monotonic();
    let is_being_freed = now < awaited.seen + AFTERMATH;
    let is_ending = |process: &Process| process.is_exiting() && process.has_vm();
    let (ending, victim) = table::with(|table| {
        let known = table.node(awaited.pid).map(|node| &node.process);
        let known = known.filter(|process| awaited.is(process) && is_ending(process));
        match known.cloned().or_else(|| table.find(is_ending)) {
            Some(ending) => (Some(ending), None),
            None if is_being_freed => (None, None),
            None => (None, table.heaviest(badness)),
        }
    });
    let outlook = match (ending, victim) {
        (Some(ending), _) if awaited.is(&ending) => {
            let mut latest = AWAITED.lock();
            if latest.is(&ending) {
                latest.seen = now;
            }
            awaited.outlook()
        }
        (Some(ending), _) => {
            *AWAITED.lock() = Awaited::new(&ending);
            Outlook::Hopeful
        }
        (None, Some(victim)) => {
            warn!("memory has run out: ending process {}", victim.pid());
            *AWAITED.lock() = Awaited::new(&victim);
            exit::kill(&victim);
            Outlook::Hopeful
        }
        (None, None) if is_being_freed => Outlook::Hopeful,
        (None, None) => {
            error!("memory has run out, and there is no process to end");
            Outlook::Hopeful
        }
    };
    let sleeper = Sleeper::new();
    let _timer = time::timer::wake_at(time::monotonic() + Duration::from_millis(1), sleeper.waker());
    sleeper.sleep();
    outlook
}

/// How much is to be gained by ending a process, in hundredths of all memory, and when it started. `None` if it is not to be
/// ended.
fn badness(process: &Process) -> Option<(i64, Duration)> {
    let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
    if process.pid() == table::INIT || adjustment == NEVER {
        return None;
    }
    let pages = process.resident_pages()? as i64;
    let all = (mm::total_memory() / PAGE_SIZE) as i64;
    let hundredths = (pages + all * i64::from(adjustment) / 1000) * 100 / all.max(1);
    Some((hundredths.max(0), process.start_time))
}
