// SPDX-License-Identifier: MPL-2.0

//! Clocks by number, as in `clock_gettime(2)` and `clock_getcpuclockid(3)`.

use linux_raw_sys::general::*;

use super::{NANOS_PER_SECOND, cpu, monotonic, realtime, tai_offset};
use crate::{
    prelude::*,
    process::{credentials::CapSet, table},
};

/// A clock.
#[derive(Clone)]
pub enum Clock {
    /// Time since 1970, which can be set.
    Realtime,
    /// The same, as of the last tick.
    RealtimeCoarse,
    /// The same, for timers that would wake a sleeping machine.
    RealtimeAlarm,
    /// International Atomic Time.
    Tai,
    /// Time since boot.
    Monotonic,
    /// The same, as of the last tick.
    MonotonicCoarse,
    /// The same, never adjusted. Nothing is adjusted here.
    MonotonicRaw,
    /// The same with the time the machine was suspended, which it never is.
    Boottime,
    /// The same, for timers that would wake a sleeping machine.
    BoottimeAlarm,
    /// The time a process has run.
    Process(Weak<Process>, cpu::Part),
    /// The time a thread has run.
    Thread(Weak<Thread>, cpu::Part),
}

/// What somebody wants to do with a clock. Not every clock can do all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockAction {
    /// Read it.
    Read,
    /// Sleep until it says a time.
    Sleep,
    /// Set a timer on it.
    Timer,
}

/// The bits of the number of a process's or thread's clock.
const WHICH: i32 = 3;
const PER_THREAD: i32 = 4;
const PID_SHIFT: u32 = 3;

impl Clock {
    /// The clock with this number, if it can do `action`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none; `EOPNOTSUPP` if it cannot do that; `EPERM` if the caller may not.
    pub fn from_id(ctx: &Ctx, id: i32, action: ClockAction) -> Result<Self> {
        let clock = Self::parse(ctx, id)?;
        if action == ClockAction::Read {
            return Ok(clock);
        }
        match clock {
            Self::RealtimeCoarse | Self::MonotonicCoarse | Self::MonotonicRaw => Err(EOPNOTSUPP),
            Self::Thread(..) if action == ClockAction::Sleep => Err(EOPNOTSUPP),
            Self::RealtimeAlarm | Self::BoottimeAlarm => {
                ctx.credentials().require(CapSet::WAKE_ALARM).map(|()| clock)
            }
            clock => Ok(clock),
        }
    }

    fn parse(ctx: &Ctx, id: i32) -> Result<Self> {
        if id < 0 {
            return Self::parse_cpu(ctx, id);
        }
        match id as u32 {
            CLOCK_REALTIME => Ok(Self::Realtime),
            CLOCK_MONOTONIC => Ok(Self::Monotonic),
            CLOCK_PROCESS_CPUTIME_ID => Ok(Self::Process(Arc::downgrade(ctx.process), cpu::Part::Total)),
            CLOCK_THREAD_CPUTIME_ID => Ok(Self::Thread(Arc::downgrade(ctx.thread), cpu::Part::Total)),
            CLOCK_MONOTONIC_RAW => Ok(Self::MonotonicRaw),
            CLOCK_REALTIME_COARSE => Ok(Self::RealtimeCoarse),
            CLOCK_MONOTONIC_COARSE => Ok(Self::MonotonicCoarse),
            CLOCK_BOOTTIME => Ok(Self::Boottime),
            CLOCK_REALTIME_ALARM => Ok(Self::RealtimeAlarm),
            CLOCK_BOOTTIME_ALARM => Ok(Self::BoottimeAlarm),
            CLOCK_TAI => Ok(Self::Tai),
            _ => Err(EINVAL),
        }
    }

    fn parse_cpu(ctx: &Ctx, id: i32) -> Result<Self> {
        let part = match id & WHICH {
            0 | 2 => cpu::Part::Total,
            1 => cpu::Part::User,
            _ => return Err(EINVAL),
        };
        let number = !(id >> PID_SHIFT);
        if id & PER_THREAD != 0 {
            let thread = match number {
                0 => ctx.thread.clone(),
                tid => table::thread(tid as Tid).ok_or(EINVAL)?,
            };
            if !Arc::ptr_eq(thread.process(), ctx.process) {
                return Err(EINVAL);
            }
            return Ok(Self::Thread(Arc::downgrade(&thread), part));
        }
        let process = match number {
            0 => ctx.process.clone(),
            pid => table::process(pid as Pid).ok_or(EINVAL)?,
        };
        Ok(Self::Process(Arc::downgrade(&process), part))
    }

    /// What it says; zero if its process or thread is gone.
    pub fn now(&self) -> Duration {
        match self {
            Self::Realtime | Self::RealtimeAlarm => realtime(),
            Self::RealtimeCoarse => coarse(realtime()),
            Self::Tai => {
                let offset = tai_offset();
                let seconds = Duration::from_secs(u64::from(offset.unsigned_abs()));
                if offset < 0 { realtime().saturating_sub(seconds) } else { realtime() + seconds }
            }
            Self::Monotonic | Self::MonotonicRaw | Self::Boottime | Self::BoottimeAlarm => monotonic(),
            Self::MonotonicCoarse => coarse(monotonic()),
            Self::Process(process, part) => {
                process.upgrade().map_or(Duration::ZERO, |process| cpu::of_process(&process, *part))
            }
            Self::Thread(thread, part) => {
                thread.upgrade().map_or(Duration::ZERO, |thread| cpu::of_thread(&thread, *part))
            }
        }
    }

    /// How finely it counts.
    pub fn resolution(&self) -> Duration {
        match self {
            Self::RealtimeCoarse | Self::MonotonicCoarse => TICK,
            _ => Duration::from_nanos(1),
        }
    }

    /// Whether what it says can be changed.
    pub fn is_settable(&self) -> bool {
        matches!(self, Self::Realtime)
    }

    /// Whether it counts time that somebody runs.
    pub fn is_cpu_time(&self) -> bool {
        matches!(self, Self::Process(..) | Self::Thread(..))
    }

    /// What to subtract from its time for real time, in nanoseconds; `None` if it does not follow real time.
    pub(super) fn beyond_real_time(&self) -> Option<i64> {
        match self {
            Self::Realtime | Self::RealtimeAlarm | Self::RealtimeCoarse => Some(0),
            Self::Tai => Some(i64::from(tai_offset()) * NANOS_PER_SECOND as i64),
            _ => None,
        }
    }
}

/// The time between two ticks.
const TICK: Duration = Duration::from_nanos(NANOS_PER_SECOND / ostd::timer::TIMER_FREQ);

/// `now`, as of the last tick.
fn coarse(now: Duration) -> Duration {
    now.saturating_sub(Duration::from_nanos(u64::from(now.subsec_nanos()) % TICK.as_nanos() as u64))
}
