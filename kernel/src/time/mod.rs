// SPDX-License-Identifier: MPL-2.0

//! Time: the monotonic clock, and timers on it.
//!
//! The clock is the CPU's time-stamp counter. Timers fire in the timer interrupt of the first CPU, so their grain is one
//! millisecond.

pub mod timer;

use ostd::arch::{read_tsc, tsc_freq};

use crate::prelude::*;

static BOOT_TSC: AtomicU64 = AtomicU64::new(0);

/// Starts the clock and the timers. Called once, early, on the first CPU.
pub fn init() {
    BOOT_TSC.store(read_tsc(), Ordering::Relaxed);
    timer::init();
}

/// The time since boot.
pub fn monotonic() -> Duration {
    Duration::from_nanos(monotonic_nanos())
}

/// The time since boot in nanoseconds.
pub fn monotonic_nanos() -> u64 {
    let ticks = read_tsc().saturating_sub(BOOT_TSC.load(Ordering::Relaxed));
    let frequency = tsc_freq().max(1);
    (u128::from(ticks) * 1_000_000_000 / u128::from(frequency)) as u64
}
