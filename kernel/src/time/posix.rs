// SPDX-License-Identifier: MPL-2.0

//! POSIX timers, as in `timer_create(2)`.
//!
//! At most one signal of a timer is queued. Expiries while it is queued are its overrun, which the signal tells when it is
//! taken out (`timer_getoverrun(2)`).

use linux_raw_sys::general::{RLIMIT_SIGPENDING, SI_TIMER};

use super::{Clock, Countdown, Setting, Start};
use crate::{
    prelude::*,
    signal::{self, OnDequeue, Queued, SigDetail, SigInfo, Slot},
};

/// What a timer does at its end.
#[derive(Clone)]
pub enum Notify {
    /// Nothing.
    Nothing,
    /// Sends a signal with a value, to the process or to one of its threads.
    Signal {
        /// The signal.
        signal: u8,
        /// `si_value`; the timer's number if there is none.
        value: Option<u64>,
        /// The thread, if it goes to one.
        thread: Option<Weak<Thread>>,
    },
}

/// A POSIX timer.
pub struct PosixTimer {
    countdown: Arc<Countdown>,
    expiry: Arc<Expiry>,
    /// The place of its signal among the user's queued signals.
    _slot: Slot,
}

/// What the end of a timer works on.
struct Expiry {
    id: i32,
    process: Weak<Process>,
    notify: Notify,
    queued: AtomicBool,
    /// Expiries since the signal was queued.
    missed: AtomicU64,
    /// What the signal that was taken out last told.
    overrun: AtomicI32,
    this: Weak<Expiry>,
}

impl PosixTimer {
    /// A timer of the caller on `clock`, not armed.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the user has as many signals queued as allowed (`RLIMIT_SIGPENDING`).
    pub fn new(ctx: &Ctx, id: i32, clock: Clock, notify: Notify) -> Result<Arc<Self>> {
        let limit = ctx.process.rlimits.soft(RLIMIT_SIGPENDING);
        let slot = Slot::take(ctx.credentials().uid, limit).ok_or(EAGAIN)?;
        let expiry = Arc::new_cyclic(|this| Expiry {
            id,
            process: Arc::downgrade(ctx.process),
            notify,
            queued: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            overrun: AtomicI32::new(0),
            this: this.clone(),
        });
        let at_end = expiry.clone();
        let countdown = Countdown::new(clock, move |periods| at_end.expire(periods));
        Ok(Arc::new(Self { countdown, expiry, _slot: slot }))
    }

    /// Arms or disarms it; answers what was left.
    pub fn set(&self, setting: Setting, start: Start) -> Setting {
        self.expiry.missed.store(0, Ordering::Relaxed);
        self.expiry.overrun.store(0, Ordering::Relaxed);
        self.countdown.set(setting, start)
    }

    /// What is left.
    pub fn left(&self) -> Setting {
        self.countdown.left()
    }

    /// How often it expired between the queueing and the taking out of its last signal.
    pub fn overrun(&self) -> i32 {
        self.expiry.overrun.load(Ordering::Relaxed)
    }

    /// Disarms it for good.
    pub(super) fn stop(&self) {
        self.countdown.stop();
    }
}

impl Expiry {
    fn expire(&self, periods: u64) {
        let Notify::Signal { signal, value, thread } = &self.notify else { return };
        if self.queued.swap(true, Ordering::AcqRel) {
            self.missed.fetch_add(periods, Ordering::Relaxed);
            return;
        }
        self.missed.store(periods - 1, Ordering::Relaxed);
        let value = value.unwrap_or(self.id as u64);
        let detail = SigDetail::Timer { id: self.id, overrun: 0, value };
        let info = SigInfo { signal: *signal, errno: 0, code: SI_TIMER, detail };
        let owner = self.this.upgrade().map(|this| this as Arc<dyn OnDequeue>);
        let queued = Queued { info, slot: None, owner };
        let Some(process) = self.process.upgrade() else { return };
        match thread {
            None => {
                signal::post(&process, None, queued);
            }
            Some(thread) => match thread.upgrade() {
                Some(thread) => {
                    signal::post(&process, Some(&thread), queued);
                }
                None => self.discarded(),
            },
        }
    }
}

impl OnDequeue for Expiry {
    fn dequeued(&self, info: &mut SigInfo) {
        let missed = self.missed.swap(0, Ordering::Relaxed);
        let overrun = i32::try_from(missed).unwrap_or(i32::MAX);
        self.overrun.store(overrun, Ordering::Relaxed);
        self.queued.store(false, Ordering::Release);
        if let SigDetail::Timer { overrun: told, .. } = &mut info.detail {
            *told = overrun;
        }
    }

    fn discarded(&self) {
        self.queued.store(false, Ordering::Release);
    }
}
