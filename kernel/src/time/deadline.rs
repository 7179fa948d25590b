// SPDX-License-Identifier: MPL-2.0

//! How long a wait may last.

use super::{CLOCK_SET, CLOCK_SETS, real_to_monotonic};
use crate::{prelude::*, wait::Sleeper};

/// When a wait ends, whatever else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Never.
    Never,
    /// At a point of the monotonic clock.
    Monotonic(Duration),
    /// At a point of real time, wherever the clock is set meanwhile.
    Real(Duration),
}

impl Deadline {
    /// Sleeps until `condition` gives a value, a signal is pending, or the deadline has passed.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal, `ETIMEDOUT` for the deadline.
    pub fn sleep<R>(self, sleeper: &Sleeper, mut condition: impl FnMut() -> Option<R>) -> Result<R> {
        let until = match self {
            Self::Never => return sleeper.sleep_until(None, condition),
            Self::Monotonic(until) => return sleeper.sleep_until(Some(until), condition),
            Self::Real(until) => u64::try_from(until.as_nanos()).unwrap_or(u64::MAX),
        };
        let _watching = sleeper.watch(&CLOCK_SET);
        loop {
            let sets = CLOCK_SETS.load(Ordering::SeqCst);
            let deadline = Duration::from_nanos(real_to_monotonic(until));
            let value = sleeper.sleep_until(Some(deadline), || match condition() {
                None if CLOCK_SETS.load(Ordering::SeqCst) == sets => None,
                value => Some(value),
            })?;
            if let Some(value) = value {
                return Ok(value);
            }
        }
    }
}
