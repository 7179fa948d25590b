// SPDX-License-Identifier: MPL-2.0

//! A timer on any clock, once or again and again: what interval timers, POSIX timers and timerfds have in common.
//!
//! ```text
//! set ─► armed on ─┬─ monotonic time   timer::Timer at that point
//!                  ├─ real time        the same, and again whenever the clock is set
//!                  └─ CPU time         looked at in each tick of a CPU that the process runs on
//! due ─► action(how many periods have passed) ─► armed for the next period, if there is one
//! ```
//!
//! A time relative to now counts on the monotonic clock even where the clock is that of real time: setting the clock does
//! not change how long it takes (`timer_settime(2)`).
//!
//! The action runs in interrupt context, with no lock of the countdown held.

use super::{
    Clock, monotonic_nanos, real_to_monotonic,
    timer::{self, Timer},
    watchers::Watchers,
};
use crate::prelude::*;

type Action = Box<dyn Fn(u64) + Send + Sync>;

/// When a countdown ends, and how often again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// When it ends, or how long that takes; zero for never.
    pub value: Duration,
    /// The time between two ends; zero for only once.
    pub interval: Duration,
}

/// What a countdown's value counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From now.
    Now,
    /// From the zero of its clock.
    Zero,
}

/// What the end of a countdown is a point of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Monotonic,
    /// Real time and so much more.
    Real(i64),
    Cpu,
}

struct State {
    base: Base,
    /// When it ends, in nanoseconds of the base; 0 if it is not armed.
    end: u64,
    /// In nanoseconds; 0 for once.
    interval: u64,
    timer: Option<Timer>,
}

/// A timer on a clock.
pub struct Countdown {
    clock: Clock,
    state: SpinLock<State, LocalIrqDisabled>,
    action: Action,
    this: Weak<Countdown>,
}

impl Countdown {
    /// A countdown on `clock` that is not armed. At each end `action` gets the number of periods that have passed, most
    /// often 1. It runs in interrupt context.
    pub fn new(clock: Clock, action: impl Fn(u64) + Send + Sync + 'static) -> Arc<Self> {
        let state = State { base: Base::Monotonic, end: 0, interval: 0, timer: None };
        Arc::new_cyclic(|this| Self {
            clock,
            state: SpinLock::new(state),
            action: Box::new(action),
            this: this.clone(),
        })
    }

    /// Arms it, or disarms it if the value is zero. Answers what was left.
    pub fn set(&self, setting: Setting, start: Start) -> Setting {
        let base = match (self.clock.is_cpu_time(), start, self.clock.beyond_real_time()) {
            (true, ..) => Base::Cpu,
            (false, Start::Zero, Some(beyond)) => Base::Real(beyond),
            _ => Base::Monotonic,
        };
        let now = match start {
            Start::Now => self.now(base),
            Start::Zero => 0,
        };
        let end = match nanos(setting.value) {
            0 => 0,
            value => now.saturating_add(value).max(1),
        };
        let old_base = self.state.lock().base;
        let old_now = self.now(old_base);
        let (old, old_timer) = {
            let mut state = self.state.lock();
            let old = state.left_at(old_now);
            (state.base, state.end, state.interval) = (base, end, nanos(setting.interval));
            let timer = self.timer_for(&state);
            (old, core::mem::replace(&mut state.timer, timer))
        };
        drop(old_timer);
        if end != 0 {
            match base {
                Base::Monotonic => {}
                Base::Real(_) => watch_clock(self.this.clone()),
                Base::Cpu => self.watch_cpu(),
            }
        }
        old
    }

    /// What is left, and how often again.
    pub fn left(&self) -> Setting {
        let base = self.state.lock().base;
        let now = self.now(base);
        self.state.lock().left_at(now)
    }

    /// Whether it is armed.
    pub fn is_armed(&self) -> bool {
        self.state.lock().end != 0
    }

    /// Disarms it.
    pub fn stop(&self) {
        let _ = self.set(Setting::default(), Start::Now);
    }

    /// Does what is to be done if the end has come.
    pub(super) fn check(&self) {
        let base = self.state.lock().base;
        let now = self.now(base);
        let (periods, old_timer) = {
            let mut state = self.state.lock();
            if state.end == 0 || state.base != base {
                return;
            }
            let periods = state.advance(now);
            let timer = self.timer_for(&state);
            (periods, core::mem::replace(&mut state.timer, timer))
        };
        drop(old_timer);
        if periods != 0 {
            (self.action)(periods);
        }
    }

    fn now(&self, base: Base) -> u64 {
        match base {
            Base::Monotonic => monotonic_nanos(),
            Base::Real(beyond) => super::realtime_nanos().saturating_add_signed(beyond),
            Base::Cpu => nanos(self.clock.now()),
        }
    }

    /// What will look at the countdown when its end has come; nothing for CPU time, where the tick does.
    fn timer_for(&self, state: &State) -> Option<Timer> {
        let deadline = match (state.end, state.base) {
            (0, _) | (_, Base::Cpu) => return None,
            (end, Base::Monotonic) => end,
            (end, Base::Real(beyond)) => real_to_monotonic(end.saturating_add_signed(-beyond)),
        };
        let this = self.this.clone();
        Some(timer::run_at(Duration::from_nanos(deadline), move || {
            if let Some(this) = this.upgrade() {
                this.check();
            }
        }))
    }

    fn watch_cpu(&self) {
        let process = match &self.clock {
            Clock::Process(process, _) => process.upgrade(),
            Clock::Thread(thread, _) => thread.upgrade().map(|thread| thread.process().clone()),
            _ => None,
        };
        if let Some(process) = process {
            process.timers.watch(self.this.clone());
        }
    }
}

impl State {
    fn left_at(&self, now: u64) -> Setting {
        let left = match self.end {
            0 => 0,
            // What is due has one nanosecond left: zero would say that it is not armed.
            end => end.saturating_sub(now).max(1),
        };
        Setting { value: Duration::from_nanos(left), interval: Duration::from_nanos(self.interval) }
    }

    /// Moves on to the first end after `now`, and answers how many were passed.
    fn advance(&mut self, now: u64) -> u64 {
        if now < self.end {
            return 0;
        }
        if self.interval == 0 {
            self.end = 0;
            return 1;
        }
        let periods = 1 + (now - self.end) / self.interval;
        self.end = self.end.saturating_add(periods.saturating_mul(self.interval));
        periods
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Something that must know when the real-time clock is set.
pub(super) trait OnClockSet: Send + Sync {
    /// Called after the clock was set.
    fn clock_was_set(&self);
}

impl OnClockSet for Countdown {
    fn clock_was_set(&self) {
        self.check();
    }
}

static CLOCK_WATCHERS: Watchers<dyn OnClockSet> = Watchers::new();

/// Has `watcher` told when the real-time clock is set, for as long as it lives.
pub(super) fn watch_clock(watcher: Weak<dyn OnClockSet>) {
    CLOCK_WATCHERS.add(watcher, || {});
}

/// Tells all watchers that the real-time clock was set.
pub(super) fn clock_was_set() {
    CLOCK_WATCHERS.for_each(|watcher| watcher.clock_was_set());
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    fn state(end: u64, interval: u64) -> State {
        State { base: Base::Monotonic, end, interval, timer: None }
    }

    #[ktest]
    fn periods_that_were_missed_are_counted() {
        let mut periodic = state(100, 10);
        assert_eq!(periodic.advance(99), 0);
        assert_eq!((periodic.advance(100), periodic.end), (1, 110));
        assert_eq!((periodic.advance(145), periodic.end), (4, 150));
        let mut once = state(100, 0);
        assert_eq!((once.advance(1000), once.end), (1, 0));
    }

    #[ktest]
    fn what_is_due_is_still_armed() {
        assert_eq!(state(100, 7).left_at(60).value, Duration::from_nanos(40));
        assert_eq!(state(100, 7).left_at(200).value, Duration::from_nanos(1));
        assert_eq!(state(0, 7).left_at(200).value, Duration::ZERO);
    }

    #[ktest]
    fn an_end_beyond_all_time_never_comes() {
        let mut far = state(u64::MAX, u64::MAX);
        assert_eq!(far.advance(u64::MAX - 1), 0);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}
