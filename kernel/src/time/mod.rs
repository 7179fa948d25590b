// SPDX-License-Identifier: MPL-2.0

//! Time: clocks, and timers on them.
//!
//! ```text
//!  TSC ──► monotonic ──+ offset──► real time        timer interrupt of the first CPU ──► timer::Timer (once, at a deadline)
//!                          ▲                                                                │
//!           RTC at boot, clock_settime                interval timers, POSIX timers, timerfds: Countdown ──► signals, reads
//!                                                                                           ▲
//!  time that a process has run ──────────────── tick of each CPU ───────────────────────────┘
//! ```
//!
//! The monotonic clock is the CPU's time-stamp counter, so it reads in nanoseconds. Timers fire in the timer interrupt,
//! so their grain is one millisecond; none fires early.

mod clock;
mod countdown;
mod cpu;
mod deadline;
mod posix;
mod process_timers;
mod rtc;
mod spec;
pub mod timer;
pub mod timerfd;
mod watchers;

use ostd::arch::{read_tsc, tsc_freq};

pub use self::{
    clock::{Clock, ClockAction},
    countdown::{Countdown, Setting, Start},
    deadline::Deadline,
    posix::{Notify, PosixTimer},
    process_timers::{IntervalTimer, ProcessTimers},
    spec::TimeSpec,
};
use crate::{prelude::*, wait::WaitQueue};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

static BOOT_TSC: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds in a tick of the TSC, as a fixed-point number with 32 binary places.
static NANOS_PER_TICK: AtomicU64 = AtomicU64::new(0);
/// What to add to the monotonic clock for real time, in nanoseconds since 1970.
static REAL_OFFSET: AtomicU64 = AtomicU64::new(0);
/// How often the real-time clock was set.
static CLOCK_SETS: AtomicU64 = AtomicU64::new(0);
/// Woken when the real-time clock is set.
static CLOCK_SET: WaitQueue = WaitQueue::new();
/// International Atomic Time less UTC, in seconds; 0 until a program says it (`adjtimex(2)`).
static TAI_OFFSET: AtomicI32 = AtomicI32::new(0);

/// Starts the clock and the timers. Called once, early, on the first CPU.
pub fn init() {
    BOOT_TSC.store(read_tsc(), Ordering::Relaxed);
    let per_tick = (u128::from(NANOS_PER_SECOND) << 32) / u128::from(tsc_freq().max(1));
    NANOS_PER_TICK.store(per_tick as u64, Ordering::Relaxed);
    match rtc::read() {
        Some(seconds) => REAL_OFFSET.store(seconds * NANOS_PER_SECOND, Ordering::Relaxed),
        None => warn!("no real-time clock: the time starts at 1970"),
    }
    timer::init();
}

/// Starts the accounting of CPU time on the current CPU.
pub fn init_on_cpu() {
    ostd::timer::register_callback_on_cpu(cpu::tick);
}

/// The time since boot.
pub fn monotonic() -> Duration {
    Duration::from_nanos(monotonic_nanos())
}

/// The time since boot in nanoseconds.
pub fn monotonic_nanos() -> u64 {
    let ticks = read_tsc().saturating_sub(BOOT_TSC.load(Ordering::Relaxed));
    let per_tick = NANOS_PER_TICK.load(Ordering::Relaxed);
    ((u128::from(ticks) * u128::from(per_tick)) >> 32) as u64
}

/// The time since 1970.
pub fn realtime() -> Duration {
    Duration::from_nanos(realtime_nanos())
}

/// The time since 1970 in nanoseconds.
pub fn realtime_nanos() -> u64 {
    monotonic_nanos().saturating_add(REAL_OFFSET.load(Ordering::Relaxed))
}

/// International Atomic Time less UTC, in seconds.
pub fn tai_offset() -> i32 {
    TAI_OFFSET.load(Ordering::Relaxed)
}

/// Sets what [`tai_offset`] tells.
pub fn set_tai_offset(seconds: i32) {
    TAI_OFFSET.store(seconds, Ordering::Relaxed);
}

/// Sets the real-time clock, and has all that waits for a point in real time look again.
///
/// # Errors
///
/// `EINVAL` if `now` is so early that the machine would have been started before 1970, or too late to be counted.
pub fn set_realtime(now: Duration) -> Result<()> {
    let nanos = u64::try_from(now.as_nanos()).map_err(|_| EINVAL)?;
    let offset = nanos.checked_sub(monotonic_nanos()).ok_or(EINVAL)?;
    if offset > i64::MAX as u64 {
        return Err(EINVAL);
    }
    REAL_OFFSET.store(offset, Ordering::Relaxed);
    CLOCK_SETS.fetch_add(1, Ordering::SeqCst);
    CLOCK_SET.wake_all();
    countdown::clock_was_set();
    Ok(())
}

/// The point of the monotonic clock at which real time will be `nanos`, as the clocks stand now.
fn real_to_monotonic(nanos: u64) -> u64 {
    nanos.saturating_sub(REAL_OFFSET.load(Ordering::Relaxed))
}
