// SPDX-License-Identifier: MPL-2.0

//! The timers of a process: three interval timers (`setitimer(2)`) and its POSIX timers (`timer_create(2)`).
//!
//! A child has none of its parent's. Exec keeps the interval timers and deletes the POSIX timers.

use linux_raw_sys::general::{ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, SIGALRM, SIGPROF, SIGVTALRM};

use super::{Clock, Countdown, PosixTimer, Setting, Start, cpu, watchers::Watchers};
use crate::{
    prelude::*,
    signal::{self, SigInfo},
};

/// One of the three interval timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalTimer {
    /// Counts time that passes; `SIGALRM`.
    Real,
    /// Counts time in user mode; `SIGVTALRM`.
    Virtual,
    /// Counts time in user mode and in the kernel; `SIGPROF`.
    Prof,
}

impl IntervalTimer {
    /// The timer with this number (`ITIMER_*`).
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub fn from_number(number: i32) -> Result<Self> {
        match number as u32 {
            ITIMER_REAL => Ok(Self::Real),
            ITIMER_VIRTUAL => Ok(Self::Virtual),
            ITIMER_PROF => Ok(Self::Prof),
            _ => Err(EINVAL),
        }
    }

    fn signal(self) -> u32 {
        match self {
            Self::Real => SIGALRM,
            Self::Virtual => SIGVTALRM,
            Self::Prof => SIGPROF,
        }
    }

    fn clock(self, process: &Arc<Process>) -> Clock {
        match self {
            Self::Real => Clock::Monotonic,
            Self::Virtual => Clock::Process(Arc::downgrade(process), cpu::Part::User),
            Self::Prof => Clock::Process(Arc::downgrade(process), cpu::Part::Total),
        }
    }
}

/// The timers of a process.
pub struct ProcessTimers {
    interval: SpinLock<[Option<Arc<Countdown>>; 3]>,
    posix: SpinLock<PosixTimers>,
    /// Countdowns on the CPU time of the process or of its threads, whoever's they are.
    watched: Watchers<Countdown>,
    has_watched: AtomicBool,
    /// The last second of CPU time at which `SIGXCPU` was sent.
    limit_second: AtomicU64,
}

#[derive(Default)]
struct PosixTimers {
    next_id: i32,
    timers: BTreeMap<i32, Arc<PosixTimer>>,
}

impl ProcessTimers {
    /// No timers.
    pub fn new() -> Self {
        Self {
            interval: SpinLock::new([const { None }; 3]),
            posix: SpinLock::new(PosixTimers::default()),
            watched: Watchers::new(),
            has_watched: AtomicBool::new(false),
            limit_second: AtomicU64::new(0),
        }
    }

    /// Sets an interval timer of `process`, to which this belongs; answers what was left.
    pub fn set_interval(&self, process: &Arc<Process>, which: IntervalTimer, setting: Setting) -> Setting {
        let countdown = {
            let mut timers = self.interval.lock();
            timers[which as usize].get_or_insert_with(|| new_interval_timer(process, which)).clone()
        };
        countdown.set(setting, Start::Now)
    }

    /// What is left of an interval timer.
    pub fn interval(&self, which: IntervalTimer) -> Setting {
        let countdown = self.interval.lock()[which as usize].clone();
        countdown.map_or_else(Setting::default, |countdown| countdown.left())
    }

    /// Adds the POSIX timer that `make` makes for a new number, and answers the number.
    ///
    /// # Errors
    ///
    /// Those of `make`.
    pub fn add(&self, make: impl FnOnce(i32) -> Result<Arc<PosixTimer>>) -> Result<i32> {
        let id = {
            let mut posix = self.posix.lock();
            while posix.timers.contains_key(&posix.next_id) {
                posix.next_id = posix.next_id.checked_add(1).unwrap_or(0);
            }
            let id = posix.next_id;
            posix.next_id = id.checked_add(1).unwrap_or(0);
            id
        };
        let timer = make(id)?;
        self.posix.lock().timers.insert(id, timer);
        Ok(id)
    }

    /// The POSIX timer with this number.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub fn get(&self, id: i32) -> Result<Arc<PosixTimer>> {
        self.posix.lock().timers.get(&id).cloned().ok_or(EINVAL)
    }

    /// Deletes a POSIX timer.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none with this number.
    pub fn delete(&self, id: i32) -> Result<()> {
        let timer = self.posix.lock().timers.remove(&id).ok_or(EINVAL)?;
        timer.stop();
        Ok(())
    }

    /// What exec does: no POSIX timers.
    pub fn reset_for_exec(&self) {
        let timers = core::mem::take(&mut self.posix.lock().timers);
        timers.values().for_each(|timer| timer.stop());
    }

    /// What the end of the process does: no timers.
    pub fn clear(&self) {
        self.reset_for_exec();
        let timers = core::mem::take(&mut *self.interval.lock());
        timers.iter().flatten().for_each(|countdown| countdown.stop());
    }

    /// Has `countdown` looked at in each tick of the process.
    pub(super) fn watch(&self, countdown: Weak<Countdown>) {
        self.watched.add(countdown, || self.has_watched.store(true, Ordering::Relaxed));
    }

    /// Looks at the countdowns on CPU time.
    pub(super) fn tick(&self) {
        if !self.has_watched.load(Ordering::Relaxed) {
            return;
        }
        self.watched.for_each(Countdown::check);
        let note = |has_watched| self.has_watched.store(has_watched, Ordering::Relaxed);
        self.watched.retain(Countdown::is_armed, note);
    }

    /// Whether `SIGXCPU` was not yet sent for this second of CPU time.
    pub(super) fn note_limit_second(&self, second: u64) -> bool {
        self.limit_second.swap(second, Ordering::Relaxed) != second
    }
}

impl Default for ProcessTimers {
    fn default() -> Self {
        Self::new()
    }
}

fn new_interval_timer(process: &Arc<Process>, which: IntervalTimer) -> Arc<Countdown> {
    let target = Arc::downgrade(process);
    Countdown::new(which.clock(process), move |_| {
        if let Some(process) = target.upgrade() {
            signal::send_to_process(&process, SigInfo::kernel(which.signal() as u8));
        }
    })
}
