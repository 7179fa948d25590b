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

/// Ends the process with the most memory, unless one is about to end anyway, and waits a moment for it to do so.
///
/// If the caller is the victim, it returns at once: the caller must come to its end.
pub fn make_room() {
    let (is_one_ending, victim) = table::with(|table| {
        (table.any(|process| process.is_exiting() && process.vm().is_some()), table.heaviest(badness))
    });
    match victim {
        _ if is_one_ending => {}
        Some(victim) => {
            warn!("memory has run out: ending process {}", victim.pid());
            exit::kill(&victim);
        }
        None => error!("memory has run out, and there is no process to end"),
    }
    let sleeper = Sleeper::new();
    let _timer = time::timer::wake_at(time::monotonic() + Duration::from_millis(1), sleeper.waker());
    sleeper.sleep();
}

/// How much is to be gained by ending a process, in hundredths of all memory, and when it started. `None` if it is not to be
/// ended.
fn badness(process: &Process) -> Option<(i64, Duration)> {
    let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
    if process.pid() == table::INIT || adjustment == NEVER {
        return None;
    }
    let vm = process.vm()?;
    let pages = vm.vmar().rss().total_pages() as i64;
    let all = (mm::total_memory() / PAGE_SIZE) as i64;
    let hundredths = (pages + all * i64::from(adjustment) / 1000) * 100 / all.max(1);
    Some((hundredths.max(0), process.start_time))
}
