// SPDX-License-Identifier: MPL-2.0

//! `struct timespec` and what it converts to.

use super::{NANOS_PER_SECOND, monotonic};
use crate::prelude::*;

/// `struct timespec`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSpec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, less than a second.
    pub nanos: i64,
}

impl TimeSpec {
    /// Reads one from a program.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `EINVAL` if it is negative or its nanoseconds are more than a second.
    pub fn read(ctx: &Ctx, addr: Vaddr) -> Result<Self> {
        let spec: Self = ctx.vm.read_val(addr)?;
        spec.to_duration().map(|_| spec)
    }

    /// The same as a duration.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is negative or its nanoseconds are more than a second.
    pub fn to_duration(self) -> Result<Duration> {
        let seconds = u64::try_from(self.seconds).map_err(|_| EINVAL)?;
        match u32::try_from(self.nanos) {
            Ok(nanos) if u64::from(nanos) < NANOS_PER_SECOND => Ok(Duration::new(seconds, nanos)),
            _ => Err(EINVAL),
        }
    }

    /// The point of the monotonic clock that is so far away; at once if the time is not valid.
    pub fn deadline_from_now(self) -> Duration {
        monotonic().saturating_add(self.to_duration().unwrap_or_default())
    }
}

impl From<Duration> for TimeSpec {
    fn from(duration: Duration) -> Self {
        Self { seconds: duration.as_secs() as i64, nanos: i64::from(duration.subsec_nanos()) }
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn what_is_no_time_is_refused() {
        let spec = |seconds, nanos| TimeSpec { seconds, nanos }.to_duration();
        assert_eq!(spec(1, 999_999_999), Ok(Duration::new(1, 999_999_999)));
        assert_eq!(spec(0, 1_000_000_000), Err(EINVAL));
        assert_eq!(spec(0, -1), Err(EINVAL));
        assert_eq!(spec(-1, 0), Err(EINVAL));
        assert!(spec(i64::MAX, 0).is_ok());
    }
}
