// SPDX-License-Identifier: MPL-2.0

//! Timers: `setitimer(2)`, `alarm(2)`, `timer_create(2)`, `timerfd_create(2)`.

use linux_raw_sys::general::{
    SIGALRM, SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID, TIMER_ABSTIME,
};

use super::{time::timeval_to_duration, usage::TimeVal};
use crate::{
    prelude::*,
    process::table,
    signal::SIGNAL_COUNT,
    time::{Clock, ClockAction, IntervalTimer, Notify, PosixTimer, Setting, Start, TimeSpec, timerfd},
};

/// `struct itimerval`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct ITimerVal {
    interval: TimeVal,
    value: TimeVal,
}

impl ITimerVal {
    fn to_setting(self) -> Result<Setting> {
        Ok(Setting { value: timeval_to_duration(self.value)?, interval: timeval_to_duration(self.interval)? })
    }

    /// What is left of an armed timer is never told as zero.
    fn from_setting(setting: Setting) -> Self {
        let micros = |duration: Duration| {
            let least = if duration.is_zero() { 0 } else { 1000 };
            TimeVal::from_nanos((duration.as_nanos() as u64).max(least))
        };
        Self { interval: micros(setting.interval), value: micros(setting.value) }
    }
}

/// `struct itimerspec`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct ITimerSpec {
    interval: TimeSpec,
    value: TimeSpec,
}

impl ITimerSpec {
    fn read(ctx: &Ctx, addr: Vaddr) -> Result<Setting> {
        let spec: Self = ctx.vm.read_val(addr)?;
        Ok(Setting { value: spec.value.to_duration()?, interval: spec.interval.to_duration()? })
    }

    fn write(ctx: &Ctx, addr: Vaddr, setting: Setting) -> Result<()> {
        let spec = Self { interval: setting.interval.into(), value: setting.value.into() };
        ctx.vm.write_val(addr, &spec)
    }
}

/// `getitimer(2)`.
pub fn sys_getitimer(ctx: &Ctx, which: i32, addr: Vaddr) -> Result<usize> {
    let which = IntervalTimer::from_number(which)?;
    let left = ctx.process.timers.interval(which);
    ctx.vm.write_val(addr, &ITimerVal::from_setting(left))?;
    Ok(0)
}

/// `setitimer(2)`. As in Linux, no new value means zero.
pub fn sys_setitimer(ctx: &Ctx, which: i32, new: Vaddr, old: Vaddr) -> Result<usize> {
    let new = if new != 0 { ctx.vm.read_val::<ITimerVal>(new)? } else { ITimerVal::default() };
    let setting = new.to_setting()?;
    let which = IntervalTimer::from_number(which)?;
    let before = ctx.process.timers.set_interval(ctx.process, which, setting);
    if old != 0 {
        ctx.vm.write_val(old, &ITimerVal::from_setting(before))?;
    }
    Ok(0)
}

/// `alarm(2)`.
pub fn sys_alarm(ctx: &Ctx, seconds: u32) -> Result<usize> {
    let setting = Setting { value: Duration::from_secs(u64::from(seconds)), interval: Duration::ZERO };
    let left = ctx.process.timers.set_interval(ctx.process, IntervalTimer::Real, setting).value;
    if left.is_zero() {
        return Ok(0);
    }
    // Rounded to the nearest second, but never down to "none".
    let rounded = left.as_secs() + u64::from(left.subsec_millis() >= 500);
    Ok(rounded.max(1) as usize)
}

/// `struct sigevent`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct SigEvent {
    value: u64,
    signal: i32,
    notify: i32,
    tid: i32,
    pad: [u32; 11],
}

fn notify_of(ctx: &Ctx, event: &SigEvent) -> Result<Notify> {
    let thread = match event.notify as u32 {
        SIGEV_NONE => return Ok(Notify::Nothing),
        SIGEV_SIGNAL | SIGEV_THREAD => None,
        SIGEV_THREAD_ID => {
            let thread = table::thread(event.tid as Tid).ok_or(EINVAL)?;
            if !Arc::ptr_eq(thread.process(), ctx.process) {
                return Err(EINVAL);
            }
            Some(Arc::downgrade(&thread))
        }
        _ => return Err(EINVAL),
    };
    if !(1..=SIGNAL_COUNT as i32).contains(&event.signal) {
        return Err(EINVAL);
    }
    Ok(Notify::Signal { signal: event.signal as u8, value: Some(event.value), thread })
}

/// `timer_create(2)`.
pub fn sys_timer_create(ctx: &Ctx, clock: i32, event: Vaddr, id: Vaddr) -> Result<usize> {
    let clock = Clock::from_id(ctx, clock, ClockAction::Timer)?;
    let notify = match event {
        0 => Notify::Signal { signal: SIGALRM as u8, value: None, thread: None },
        addr => notify_of(ctx, &ctx.vm.read_val(addr)?)?,
    };
    let timers = &ctx.process.timers;
    let new = timers.add(|id| PosixTimer::new(ctx, id, clock, notify))?;
    if let Err(error) = ctx.vm.write_val(id, &new) {
        timers.delete(new)?;
        return Err(error);
    }
    Ok(0)
}

/// `timer_settime(2)`.
pub fn sys_timer_settime(ctx: &Ctx, id: i32, flags: u32, new: Vaddr, old: Vaddr) -> Result<usize> {
    if new == 0 {
        return Err(EINVAL);
    }
    let setting = ITimerSpec::read(ctx, new)?;
    let start = if flags & TIMER_ABSTIME != 0 { Start::Zero } else { Start::Now };
    let before = ctx.process.timers.get(id)?.set(setting, start);
    if old != 0 {
        ITimerSpec::write(ctx, old, before)?;
    }
    Ok(0)
}

/// `timer_gettime(2)`.
pub fn sys_timer_gettime(ctx: &Ctx, id: i32, addr: Vaddr) -> Result<usize> {
    let left = ctx.process.timers.get(id)?.left();
    ITimerSpec::write(ctx, addr, left)?;
    Ok(0)
}

/// `timer_getoverrun(2)`.
pub fn sys_timer_getoverrun(ctx: &Ctx, id: i32) -> Result<usize> {
    Ok(ctx.process.timers.get(id)?.overrun() as usize)
}

/// `timer_delete(2)`.
pub fn sys_timer_delete(ctx: &Ctx, id: i32) -> Result<usize> {
    ctx.process.timers.delete(id).map(|()| 0)
}

/// `timerfd_create(2)`.
pub fn sys_timerfd_create(ctx: &Ctx, clock: i32, flags: u32) -> Result<usize> {
    timerfd::create(ctx, clock, flags)
}

/// `timerfd_settime(2)`.
pub fn sys_timerfd_settime(ctx: &Ctx, fd: i32, flags: u32, new: Vaddr, old: Vaddr) -> Result<usize> {
    let setting = ITimerSpec::read(ctx, new)?;
    let before = timerfd::set(ctx, fd, flags, setting)?;
    if old != 0 {
        ITimerSpec::write(ctx, old, before)?;
    }
    Ok(0)
}

/// `timerfd_gettime(2)`.
pub fn sys_timerfd_gettime(ctx: &Ctx, fd: i32, addr: Vaddr) -> Result<usize> {
    ITimerSpec::write(ctx, addr, timerfd::get(ctx, fd)?)?;
    Ok(0)
}
