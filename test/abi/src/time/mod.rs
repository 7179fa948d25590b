// SPDX-License-Identifier: MPL-2.0

//! Time: clocks, sleeps, interval timers, POSIX timers, timerfds.
//!
//! Machines are slow and busy: no case says how soon something happens, only that it does, and not too early.

use crate::{harness::Case, sys};

mod clock;
mod itimer;
mod posix;
mod sleep;
mod timerfd;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] = &[clock::CASES, sleep::CASES, itimer::CASES, posix::CASES, timerfd::CASES];

/// A time in nanoseconds.
pub type Nanos = i128;

/// A clock's time.
#[track_caller]
pub fn now(clock: i32) -> Nanos {
    let mut time = [0_i64; 2];
    ok!(syscall!(SYS_clock_gettime, clock, time.as_mut_ptr()));
    Nanos::from(time[0]) * 1_000_000_000 + Nanos::from(time[1])
}

/// `struct timespec` for so many nanoseconds.
pub fn spec(nanos: Nanos) -> [i64; 2] {
    [(nanos / 1_000_000_000) as i64, (nanos % 1_000_000_000) as i64]
}

/// Milliseconds in nanoseconds.
pub const fn ms(count: i128) -> Nanos {
    count * 1_000_000
}

/// Keeps the CPU busy until the process has used so much more CPU time.
pub fn burn(nanos: Nanos) {
    let end = now(libc::CLOCK_PROCESS_CPUTIME_ID) + nanos;
    while now(libc::CLOCK_PROCESS_CPUTIME_ID) < end {
        for _ in 0..2000 {
            std::hint::spin_loop();
        }
    }
}
