// SPDX-License-Identifier: MPL-2.0

//! Load averages: how many tasks wanted to run, over 1, 5 and 15 minutes.
//!
//! Every five seconds the number of runnable tasks is mixed into three exponential averages, in fixed point with
//! [`FRACTION_BITS`] bits after the point (the same arithmetic, and the same constants, as in every Unix).

use crate::{prelude::*, time::monotonic};

/// Bits after the point.
pub const FRACTION_BITS: u32 = 11;

const ONE: u64 = 1 << FRACTION_BITS;
const PERIOD: Duration = Duration::from_secs(5);
/// `ONE / exp(5 s / n)` for n of 1, 5 and 15 minutes.
const DECAY: [u64; 3] = [1884, 2014, 2037];

struct Averages {
    next: Duration,
    loads: [u64; 3],
}

static AVERAGES: SpinLock<Averages, LocalIrqDisabled> =
    SpinLock::new(Averages { next: PERIOD, loads: [0; 3] });

/// The averages, in fixed point.
pub fn averages() -> [u32; 3] {
    AVERAGES.lock().loads.map(|load| load as u32)
}

/// Takes the samples that are due. Called at each tick of the first CPU.
pub(super) fn tick() {
    let now = monotonic();
    let mut averages = AVERAGES.lock();
    if now < averages.next {
        return;
    }
    averages.next = now + PERIOD;
    let active = super::runnable_count() as u64 * ONE;
    for (load, decay) in averages.loads.iter_mut().zip(DECAY) {
        *load = (*load * decay + active * (ONE - decay)) / ONE;
    }
}
