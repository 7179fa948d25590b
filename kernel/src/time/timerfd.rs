// SPDX-License-Identifier: MPL-2.0

//! Timers read from a file, as in `timerfd_create(2)`.

use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_ALARM,
    TFD_CREATE_FLAGS, TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET,
};

use super::{
    Clock, ClockAction, Countdown, Setting, Start,
    countdown::{OnClockSet, watch_clock},
};
use crate::{
    fs::{
        anon,
        file::{File, FileOps, OpenFlags},
        io::Sink,
        poll::{PollEvents, PollTable, wait_ready},
        synthetic::{Text, put},
    },
    prelude::*,
    wait::WaitQueue,
};

/// An open timerfd.
struct TimerFd {
    clock_id: i32,
    clock: Clock,
    countdown: Arc<Countdown>,
    ticks: Arc<Ticks>,
}

/// What the end of the countdown works on.
struct Ticks {
    /// Expiries that were not read yet.
    count: AtomicU64,
    /// Whether the next read fails because the clock was set (`TFD_TIMER_CANCEL_ON_SET`).
    canceled: AtomicBool,
    cancels_on_set: AtomicBool,
    queue: Arc<WaitQueue>,
}

/// `timerfd_create(2)`.
///
/// # Errors
///
/// `EINVAL` for unknown clocks or flags; `EPERM` for a clock that wakes the machine; `EMFILE`; `ENOMEM`.
pub fn create(ctx: &Ctx, clock_id: i32, flags: u32) -> Result<usize> {
    let known = [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM];
    if flags & !TFD_CREATE_FLAGS != 0 || !known.contains(&(clock_id as u32)) {
        return Err(EINVAL);
    }
    let clock = Clock::from_id(ctx, clock_id, ClockAction::Timer)?;
    let ticks = Arc::new(Ticks {
        count: AtomicU64::new(0),
        canceled: AtomicBool::new(false),
        cancels_on_set: AtomicBool::new(false),
        queue: Arc::new(WaitQueue::new()),
    });
    let at_end = ticks.clone();
    let countdown = Countdown::new(clock.clone(), move |periods| {
        at_end.count.fetch_add(periods, Ordering::Relaxed);
        at_end.queue.wake_all();
    });
    let ops = Arc::new(TimerFd { clock_id, clock, countdown, ticks });
    let flags = OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags);
    anon::install(ctx, "anon_inode:[timerfd]", ops, flags)
}

/// `timerfd_settime(2)`; answers what was left.
///
/// # Errors
///
/// `EBADF`; `EINVAL` for unknown flags, or if `fd` is no timerfd.
pub fn set(ctx: &Ctx, fd: i32, flags: u32, setting: Setting) -> Result<Setting> {
    let file = ctx.files().get(fd)?;
    let timer = file.downcast_ops::<TimerFd>().ok_or(EINVAL)?;
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(EINVAL);
    }
    let start = if flags & TFD_TIMER_ABSTIME != 0 { Start::Zero } else { Start::Now };
    let follows_real_time = timer.clock.beyond_real_time().is_some();
    let cancels = follows_real_time && flags & TFD_TIMER_CANCEL_ON_SET != 0 && start == Start::Zero;
    let ticks = &timer.ticks;
    let old = timer.countdown.set(Setting::default(), Start::Now);
    ticks.count.store(0, Ordering::Relaxed);
    ticks.canceled.store(false, Ordering::Relaxed);
    ticks.cancels_on_set.store(cancels, Ordering::Relaxed);
    if cancels {
        let watcher: Arc<dyn OnClockSet> = ticks.clone();
        watch_clock(Arc::downgrade(&watcher));
    }
    let _ = timer.countdown.set(setting, start);
    Ok(old)
}

/// `timerfd_gettime(2)`.
///
/// # Errors
///
/// `EBADF`; `EINVAL` if `fd` is no timerfd.
pub fn get(ctx: &Ctx, fd: i32) -> Result<Setting> {
    let file = ctx.files().get(fd)?;
    let timer = file.downcast_ops::<TimerFd>().ok_or(EINVAL)?;
    Ok(timer.countdown.left())
}

impl OnClockSet for Ticks {
    fn clock_was_set(&self) {
        if self.cancels_on_set.load(Ordering::Relaxed) {
            self.canceled.store(true, Ordering::Relaxed);
            self.queue.wake_all();
        }
    }
}

impl FileOps for TimerFd {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        if dst.avail() < size_of::<u64>() {
            return Err(EINVAL);
        }
        let ticks = &self.ticks;
        let count = wait_ready(&ticks.queue, file.blocking(), || {
            if ticks.canceled.swap(false, Ordering::Relaxed) {
                ticks.count.store(0, Ordering::Relaxed);
                return Err(ECANCELED);
            }
            match ticks.count.swap(0, Ordering::Relaxed) {
                0 => Err(EAGAIN),
                count => Ok(count),
            }
        })?;
        dst.write_bytes(&count.to_le_bytes())
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.ticks.queue);
        let ready =
            self.ticks.count.load(Ordering::Relaxed) != 0 || self.ticks.canceled.load(Ordering::Relaxed);
        if ready { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn fdinfo(&self, _file: &File, out: &mut Text) {
        let Setting { value, interval } = self.countdown.left();
        put!(
            out,
            "clockid: {}\nticks: {}\nsettime flags: 00\nit_value: ({}, {})\nit_interval: ({}, {})\n",
            self.clock_id,
            self.ticks.count.load(Ordering::Relaxed),
            value.as_secs(),
            value.subsec_nanos(),
            interval.as_secs(),
            interval.subsec_nanos(),
        );
    }

    fn release(&self, _file: &File) {
        self.countdown.stop();
    }
}
