// SPDX-License-Identifier: MPL-2.0

//! Signals that wait to be delivered, to a process or to one thread.
//!
//! Which signals wait is a word of bits, to be looked at without a lock at each return to user mode. What they carry is
//! a list in the order of arrival. A standard signal waits at most once; real-time signals queue.
//!
//! - Invariant: each signal in the list has its bit set. A bit without a list entry is a signal that lost what it
//!   carried for want of memory.
//! - Each queued signal counts against its sender's user (`RLIMIT_SIGPENDING`) until it is taken out.

use super::{SigInfo, SigSet, action::FIRST_REAL_TIME};
use crate::{prelude::*, process::credentials::Uid};

/// Something that wants to know when its signal is taken out of the queue; a POSIX timer.
pub trait OnDequeue: Send + Sync {
    /// Called when the signal is taken out, to bring what it carries up to date.
    fn dequeued(&self, info: &mut SigInfo);

    /// Called when the signal is thrown away.
    fn discarded(&self);
}

/// A signal on its way into a queue.
pub struct Queued {
    /// What it carries.
    pub info: SigInfo,
    /// Its place among its user's queued signals.
    pub slot: Option<Slot>,
    /// Who wants to know when it is taken out.
    pub owner: Option<Arc<dyn OnDequeue>>,
}

impl From<SigInfo> for Queued {
    fn from(info: SigInfo) -> Self {
        Self { info, slot: None, owner: None }
    }
}

/// What became of a signal that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    New,
    /// It is a standard signal that waits already.
    Merged,
}

/// Signals that wait.
pub(super) struct Pending {
    bits: AtomicU64,
    list: SpinLock<VecDeque<Queued>, LocalIrqDisabled>,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self { bits: AtomicU64::new(0), list: SpinLock::new(VecDeque::new()) }
    }

    /// The signals that wait.
    pub(super) fn set(&self) -> SigSet {
        SigSet::from_bits(self.bits.load(Ordering::Relaxed))
    }

    /// How many entries wait.
    #[cfg(ktest)]
    pub(super) fn len(&self) -> usize {
        self.list.lock().len()
    }

    /// Adds a signal. A standard one that waits already is merged with it: the new one is given back. So is a real-time
    /// one without a slot, when one waits.
    pub(super) fn push(&self, queued: Queued) -> (Pushed, Option<Queued>) {
        let signal = queued.info.signal;
        let mut list = self.list.lock();
        if (signal < FIRST_REAL_TIME || queued.slot.is_none()) && self.set().contains(signal) {
            return (Pushed::Merged, Some(queued));
        }
        let mut lost = None;
        match list.try_reserve(1) {
            Ok(()) => list.push_back(queued),
            Err(_) => lost = Some(queued),
        }
        self.bits.fetch_or(SigSet::single(signal).bits(), Ordering::Relaxed);
        (Pushed::New, lost)
    }

    /// Takes out the first signal that is in `wanted`.
    pub(super) fn take(&self, wanted: SigSet) -> Option<SigInfo> {
        if self.set().intersection(wanted).is_empty() {
            return None;
        }
        let (signal, queued) = {
            let mut list = self.list.lock();
            let signal = self.set().intersection(wanted).first()?;
            let place = list.iter().position(|queued| queued.info.signal == signal);
            let queued = place.and_then(|place| list.remove(place));
            if !list.iter().any(|queued| queued.info.signal == signal) {
                self.bits.fetch_and(!SigSet::single(signal).bits(), Ordering::Relaxed);
            }
            (signal, queued)
        };
        let Some(mut queued) = queued else { return Some(SigInfo::user(signal, 0, 0)) };
        if let Some(owner) = &queued.owner {
            owner.dequeued(&mut queued.info);
        }
        Some(queued.info)
    }

    /// What the signal at a place in the list carries.
    pub(super) fn nth(&self, index: u64) -> Option<SigInfo> {
        self.list.lock().get(usize::try_from(index).ok()?).map(|queued| queued.info)
    }

    /// Throws away the signals in `unwanted`.
    pub(super) fn discard(&self, unwanted: SigSet) {
        while !self.set().intersection(unwanted).is_empty() {
            let thrown_away = {
                let mut list = self.list.lock();
                let place = list.iter().position(|queued| unwanted.contains(queued.info.signal));
                let thrown_away = place.and_then(|place| list.remove(place));
                if thrown_away.is_none() {
                    self.bits.fetch_and(!unwanted.bits(), Ordering::Relaxed);
                }
                thrown_away
            };
            if let Some(owner) = thrown_away.as_ref().and_then(|queued| queued.owner.as_ref()) {
                owner.discarded();
            }
        }
    }
}

/// How many signals are queued for the processes of each user.
static QUEUED: SpinLock<BTreeMap<Uid, u64>, LocalIrqDisabled> = SpinLock::new(BTreeMap::new());

/// One place among a user's queued signals; given back when dropped.
#[must_use]
pub struct Slot(Uid);

impl Slot {
    /// A place for `uid`, if it has fewer than `limit`.
    pub fn take(uid: Uid, limit: u64) -> Option<Self> {
        let mut queued = QUEUED.lock();
        // A user without a place has no entry: there are very many users.
        if queued.get(&uid).copied().unwrap_or(0) >= limit {
            return None;
        }
        *queued.entry(uid).or_insert(0) += 1;
        Some(Self(uid))
    }

    /// How many places `uid` has taken.
    pub fn count(uid: Uid) -> u64 {
        QUEUED.lock().get(&uid).copied().unwrap_or(0)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut queued = QUEUED.lock();
        match queued.get_mut(&self.0) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                queued.remove(&self.0);
            }
        }
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn standard_signals_merge_and_real_time_signals_queue() {
        let pending = Pending::new();
        for pid in 1..=3 {
            let _ = pending.push(SigInfo::user(10, pid, 0).into());
            let slot = Slot::take(4243, 9);
            let _ = pending.push(Queued { slot, ..SigInfo::user(40, pid, 0).into() });
        }
        assert_eq!(pending.len(), 4);
        let all = SigSet::from_bits(u64::MAX);
        assert_eq!(pending.take(all), Some(SigInfo::user(10, 1, 0)));
        for pid in 1..=3 {
            assert!(pending.set().contains(40));
            assert_eq!(pending.take(all), Some(SigInfo::user(40, pid, 0)));
        }
        assert_eq!((pending.take(all), pending.set()), (None, SigSet::EMPTY));
    }

    #[ktest]
    fn discarding_leaves_the_others() {
        let pending = Pending::new();
        for signal in [40, 10, 40, 18] {
            let _ = pending.push(SigInfo::kernel(signal).into());
        }
        pending.discard(SigSet::single(40).union(SigSet::CONT));
        assert_eq!((pending.set(), pending.len()), (SigSet::single(10), 1));
    }

    #[ktest]
    fn slots_are_counted_and_given_back() {
        let first = Slot::take(4242, 2);
        let second = Slot::take(4242, 2);
        assert!(first.is_some() && second.is_some() && Slot::take(4242, 2).is_none());
        drop(first);
        assert_eq!(Slot::count(4242), 1);
        drop(second);
        assert_eq!(Slot::count(4242), 0);
    }
}
