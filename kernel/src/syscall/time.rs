// SPDX-License-Identifier: MPL-2.0

//! Reading and setting clocks, and sleeping: `clock_gettime(2)`, `nanosleep(2)`, `gettimeofday(2)`, `adjtimex(2)`.

use linux_raw_sys::general::{CLOCK_MONOTONIC, TIMER_ABSTIME};

use super::usage::TimeVal;
use crate::{
    prelude::*,
    process::credentials::CapSet,
    time::{self, Clock, ClockAction, Deadline, TimeSpec},
    wait::Sleeper,
};

/// `clock_gettime(2)`.
pub fn sys_clock_gettime(ctx: &Ctx, id: i32, addr: Vaddr) -> Result<usize> {
    let clock = Clock::from_id(ctx, id, ClockAction::Read)?;
    ctx.vm.write_val(addr, &TimeSpec::from(clock.now()))?;
    Ok(0)
}

/// `clock_getres(2)`.
pub fn sys_clock_getres(ctx: &Ctx, id: i32, addr: Vaddr) -> Result<usize> {
    let clock = Clock::from_id(ctx, id, ClockAction::Read)?;
    if addr != 0 {
        ctx.vm.write_val(addr, &TimeSpec::from(clock.resolution()))?;
    }
    Ok(0)
}

/// `clock_settime(2)`.
pub fn sys_clock_settime(ctx: &Ctx, id: i32, addr: Vaddr) -> Result<usize> {
    let clock = Clock::from_id(ctx, id, ClockAction::Read)?;
    if clock.is_cpu_time() {
        return Err(EPERM);
    }
    if !clock.is_settable() {
        return Err(EINVAL);
    }
    let now = TimeSpec::read(ctx, addr)?.to_duration()?;
    ctx.credentials().require(CapSet::SYS_TIME)?;
    time::set_realtime(now)?;
    Ok(0)
}

/// `gettimeofday(2)`. The time zone is that of Greenwich.
pub fn sys_gettimeofday(ctx: &Ctx, time: Vaddr, zone: Vaddr) -> Result<usize> {
    if time != 0 {
        ctx.vm.write_val(time, &TimeVal::from_nanos(time::realtime_nanos()))?;
    }
    if zone != 0 {
        ctx.vm.write_val(zone, &[0i32; 2])?;
    }
    Ok(0)
}

/// `settimeofday(2)`. A time zone is accepted and forgotten.
pub fn sys_settimeofday(ctx: &Ctx, time: Vaddr, zone: Vaddr) -> Result<usize> {
    let now = match time {
        0 => None,
        addr => Some(read_timeval(ctx, addr)?),
    };
    if zone != 0 {
        let [minutes_west, _]: [i32; 2] = ctx.vm.read_val(zone)?;
        if !(-15 * 60..=15 * 60).contains(&minutes_west) {
            return Err(EINVAL);
        }
    }
    ctx.credentials().require(CapSet::SYS_TIME)?;
    if let Some(now) = now {
        time::set_realtime(now)?;
    }
    Ok(0)
}

/// Reads a `struct timeval` as a duration.
pub(super) fn read_timeval(ctx: &Ctx, addr: Vaddr) -> Result<Duration> {
    let value: TimeVal = ctx.vm.read_val(addr)?;
    timeval_to_duration(value)
}

/// The same as a duration.
///
/// # Errors
///
/// `EINVAL` if it is negative or its microseconds are more than a second.
pub(super) fn timeval_to_duration(value: TimeVal) -> Result<Duration> {
    let nanos = value.micros.checked_mul(1000).ok_or(EINVAL)?;
    TimeSpec { seconds: value.seconds, nanos }.to_duration()
}

/// `time(2)`.
pub fn sys_time(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    let now = time::realtime().as_secs();
    if addr != 0 {
        ctx.vm.write_val(addr, &now)?;
    }
    Ok(now as usize)
}

/// `nanosleep(2)`.
pub fn sys_nanosleep(ctx: &Ctx, request: Vaddr, remain: Vaddr) -> Result<usize> {
    sys_clock_nanosleep(ctx, CLOCK_MONOTONIC as i32, 0, request, remain)
}

/// `clock_nanosleep(2)`.
pub fn sys_clock_nanosleep(ctx: &Ctx, id: i32, flags: u32, request: Vaddr, remain: Vaddr) -> Result<usize> {
    let clock = Clock::from_id(ctx, id, ClockAction::Sleep)?;
    let request = TimeSpec::read(ctx, request)?;
    let time = request.to_duration()?;
    let absolute = flags & TIMER_ABSTIME != 0;
    let slept = match (&clock, absolute) {
        (clock, _) if clock.is_cpu_time() => {
            let until = if absolute { time } else { clock.now().saturating_add(time) };
            return sleep_until_run(ctx, clock.clone(), until, if absolute { 0 } else { remain });
        }
        (_, false) => return sleep_until(ctx, request.deadline_from_now(), remain),
        (Clock::Realtime | Clock::RealtimeAlarm, true) => sleep(Deadline::Real(time)),
        (Clock::Tai, true) => {
            let offset = Duration::from_secs(time::tai_offset().max(0) as u64);
            sleep(Deadline::Real(time.saturating_sub(offset)))
        }
        (_, true) => sleep(Deadline::Monotonic(time)),
    };
    slept.map(|()| 0).map_err(|_| ERESTARTNOHAND)
}

/// Sleeps until `deadline`, or until a signal comes.
fn sleep(deadline: Deadline) -> Result<()> {
    match deadline.sleep(&Sleeper::new(), || None::<()>) {
        Err(ETIMEDOUT) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sleeps until `deadline`; if a signal interrupts, says how much was left, and goes on when no handler runs.
fn sleep_until(ctx: &Ctx, deadline: Duration, remain: Vaddr) -> Result<usize> {
    if sleep(Deadline::Monotonic(deadline)).is_ok() {
        return Ok(0);
    }
    let left = deadline.saturating_sub(time::monotonic());
    interrupted(ctx, left, remain, move |ctx| sleep_until(ctx, deadline, remain))
}

/// Sleeps until `clock`, which counts time that somebody runs, says `until`. No more time can have been run than has passed on
/// all CPUs together, so the sleeps get shorter and shorter.
fn sleep_until_run(ctx: &Ctx, clock: Clock, until: Duration, remain: Vaddr) -> Result<usize> {
    const SHORTEST: Duration = Duration::from_millis(1);
    loop {
        let left = until.saturating_sub(clock.now());
        if left.is_zero() {
            return Ok(0);
        }
        let nap = (left / ostd::cpu::num_cpus() as u32).max(SHORTEST);
        if sleep(Deadline::Monotonic(time::monotonic().saturating_add(nap))).is_err() {
            let left = until.saturating_sub(clock.now());
            return interrupted(ctx, left, remain, move |ctx| sleep_until_run(ctx, clock, until, remain));
        }
    }
}

fn interrupted(
    ctx: &Ctx,
    left: Duration,
    remain: Vaddr,
    go_on: impl FnOnce(&Ctx) -> Result<usize> + Send + 'static,
) -> Result<usize> {
    if left.is_zero() {
        return Ok(0);
    }
    if remain != 0 {
        ctx.vm.write_val(remain, &TimeSpec::from(left))?;
    }
    ctx.thread.signals.set_restart(Box::new(go_on));
    Err(ERESTART_RESTARTBLOCK)
}

/// `struct timex`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct Timex {
    modes: u32,
    pad: u32,
    offset: i64,
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    pad2: u32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    time: TimeVal,
    tick: i64,
    pps: [i64; 8],
    tai: i32,
    reserved: [u32; 11],
}

const ADJ_SETOFFSET: u32 = 0x0100;
const ADJ_TAI: u32 = 0x0080;
const ADJ_NANO: u32 = 0x2000;
const ADJ_OFFSET_SS_READ: u32 = 0xa001;
const STA_UNSYNC: i32 = 0x0040;
const TIME_ERROR: usize = 5;

/// `adjtimex(2)`: tells of a clock that nobody disciplines, steps it, and notes the offset of atomic time. The clock's rate
/// is not adjusted.
pub fn sys_adjtimex(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    let mut timex: Timex = ctx.vm.read_val(addr)?;
    let modes = timex.modes;
    if modes != 0 && modes != ADJ_OFFSET_SS_READ {
        ctx.credentials().require(CapSet::SYS_TIME)?;
        if modes & ADJ_SETOFFSET != 0 {
            step(timex.time, modes)?;
        } else if modes & ADJ_TAI != 0 {
            time::set_tai_offset(i32::try_from(timex.constant).map_err(|_| EINVAL)?);
        }
    }
    timex = Timex {
        modes,
        pad: 0,
        offset: 0,
        freq: 0,
        maxerror: 16_000_000,
        esterror: 16_000_000,
        status: STA_UNSYNC,
        pad2: 0,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        time: TimeVal::from_nanos(time::realtime_nanos()),
        tick: 10_000,
        pps: [0; 8],
        tai: time::tai_offset(),
        reserved: [0; 11],
    };
    ctx.vm.write_val(addr, &timex)?;
    Ok(TIME_ERROR)
}

/// `clock_adjtime(2)`.
pub fn sys_clock_adjtime(ctx: &Ctx, id: i32, addr: Vaddr) -> Result<usize> {
    let clock = Clock::from_id(ctx, id, ClockAction::Read)?;
    if clock.is_settable() { sys_adjtimex(ctx, addr) } else { Err(EOPNOTSUPP) }
}

/// Steps real time by a time that may be negative: the seconds are, the fraction never is.
fn step(by: TimeVal, modes: u32) -> Result<()> {
    let per_unit = if modes & ADJ_NANO != 0 { 1 } else { 1000 };
    let fraction = by.micros.checked_mul(per_unit).filter(|nanos| (0..1_000_000_000).contains(nanos));
    let fraction = Duration::from_nanos(fraction.ok_or(EINVAL)? as u64);
    let seconds = Duration::from_secs(by.seconds.unsigned_abs());
    let now = time::realtime().saturating_add(fraction);
    let now = match by.seconds {
        0.. => now.checked_add(seconds),
        _ => now.checked_sub(seconds),
    };
    time::set_realtime(now.ok_or(EINVAL)?)
}
