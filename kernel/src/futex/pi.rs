// SPDX-License-Identifier: MPL-2.0

//! Locks whose owner the kernel knows: `FUTEX_LOCK_PI`, `FUTEX_LOCK_PI2`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`.
//!
//! The word holds the owner's thread number, and bits that say whether somebody waits and whether an owner has died. A thread
//! that must wait has a claim in the word's bucket:
//!
//! ```text
//! parked ──requeued──► waiting ──unlocked───► owned
//! (see requeue_pi)        └─────owner died──► granted ──► owned, once the waiter has written its number
//! ```
//!
//! - Unlocking hands the lock to the most urgent waiter, the first of equals, which owns it before it runs.
//! - An owner that dies cannot reach the word in its waiters' memory, so the one that is granted the lock writes it itself.
//!   Until then its claim stays in the bucket, and whoever comes waits behind it.
//! - A claim's stage changes under the bucket's lock; the owner it names under that of [`chain`].

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use super::{
    Bucket, Key, Leaving, Scope, Waiter, bucket, chain,
    word::{self, Use, with_words},
};
use crate::{mm::AddressSpace, prelude::*, process::table, time::Deadline, wait::Sleeper};

/// What a waiter on a lock wants.
pub(super) struct Claim {
    thread: Arc<Thread>,
    /// The lock it wants to be moved to; none for the one it came to.
    target: Option<Key>,
    stage: SpinLock<Stage>,
    owner: SpinLock<Option<Arc<Thread>>>,
}

/// How far a claim has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits to be moved to its lock.
    Parked,
    /// It waits for its lock.
    Waiting,
    /// The owner has died: the lock is its own, as soon as the word says so.
    Granted,
    /// It has the lock.
    Owned,
}

impl Claim {
    /// A claim of `thread` on the lock it came to, or, parked, on another.
    pub(super) fn new(thread: &Arc<Thread>, target: Option<Key>) -> Self {
        let stage = if target.is_some() { Stage::Parked } else { Stage::Waiting };
        Self { thread: thread.clone(), target, stage: SpinLock::new(stage), owner: SpinLock::new(None) }
    }

    pub(super) fn thread(&self) -> &Arc<Thread> {
        &self.thread
    }

    pub(super) fn target(&self) -> Option<&Key> {
        self.target.as_ref()
    }

    pub(super) fn stage(&self) -> Stage {
        *self.stage.lock()
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    /// Who has the lock; nobody, while the one that takes over from a dead owner has not got there.
    pub(super) fn owner(&self) -> Option<Arc<Thread>> {
        self.owner.lock().clone()
    }

    pub(super) fn set_owner(&self, owner: Option<Arc<Thread>>) {
        let old = core::mem::replace(&mut *self.owner.lock(), owner);
        drop(old);
    }
}

/// Whether to wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Until it can be had, or the deadline.
    Until(Deadline),
    /// Not at all.
    Once,
}

/// Whether a lock that is taken is marked as waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nobody waits.
    Free,
    /// Somebody will.
    Waiters,
}

/// What became of an attempt to take a lock.
pub(super) enum Taken {
    /// It was free, and is the thread's now.
    Now,
    /// It is another's ([`Claim::owner`]).
    By(Option<Arc<Thread>>),
}

/// Takes the lock at `addr` for `thread`.
///
/// # Errors
///
/// `EDEADLK` if the thread has it already, or its owner waits for the thread; `EAGAIN` if it is not free and the attempt is
/// made once; `ESRCH` if its owner does not exist; `EINVAL` if the word does not fit what the kernel knows, or is not aligned;
/// `ETIMEDOUT`; `ERESTARTNOINTR`; `EFAULT`; `ENOMEM`.
pub fn lock_pi(
    vm: &AddressSpace,
    thread: &Arc<Thread>,
    addr: Vaddr,
    scope: Scope,
    attempt: Attempt,
) -> Result<()> {
    let key = Key::of(vm, addr, scope)?;
    let sleeper = Sleeper::new();
    let try_enter = || {
        loop {
            let mut bucket = bucket(&key);
            let owner = match bucket.take_lock(&key, vm, addr, thread, Mark::Free)? {
                Taken::Now => return Ok(None),
                Taken::By(owner) => owner,
            };
            let Attempt::Until(deadline) = attempt else { return Err(EAGAIN) };
            bucket.reserve(1)?;
            let waiter = Waiter::new(key.clone(), u32::MAX, &sleeper, Some(Claim::new(thread, None)));
            match chain::enroll(&waiter, owner) {
                Ok(()) => {}
                // The owner has gone meanwhile.
                Err(EAGAIN) => continue,
                Err(error) => return Err(error),
            }
            bucket.push(waiter.clone())?;
            return Ok(Some((waiter, deadline)));
        }
    };
    let Some((waiter, deadline)) = with_words(vm, &[(addr, Use::Change)], try_enter)? else { return Ok(()) };
    let slept = deadline.sleep(&sleeper, || waiter.is_woken().then_some(()));
    match (conclude(vm, addr, &waiter)?, slept) {
        (Stage::Owned, _) => Ok(()),
        (_, Err(ETIMEDOUT)) => Err(ETIMEDOUT),
        _ => Err(ERESTARTNOINTR),
    }
}

/// Gives up the lock at `addr`, to the most urgent who waits for it.
///
/// # Errors
///
/// `EPERM` if the thread does not have it; `EINVAL` if those who wait there do not wait for this thread; `EAGAIN` if the word
/// was changed meanwhile; `EFAULT`.
pub fn unlock_pi(vm: &AddressSpace, thread: &Arc<Thread>, addr: Vaddr, scope: Scope) -> Result<()> {
    let key = Key::of(vm, addr, scope)?;
    with_words(vm, &[(addr, Use::Change)], || try_unlock(vm, thread, addr, &key))
}

fn try_unlock(vm: &AddressSpace, thread: &Arc<Thread>, addr: Vaddr, key: &Key) -> Result<()> {
    let mut bucket = bucket(key);
    loop {
        let old = word::load(vm, addr)?;
        if old & FUTEX_TID_MASK != thread.tid() {
            return Err(EPERM);
        }
        let Some(next) = bucket.top(key) else {
            // Without waiters in the kernel, neither of the two bits has a meaning.
            return if word::compare_exchange(vm, addr, old, 0)? == old { Ok(()) } else { Err(EAGAIN) };
        };
        let claim = next.claim.as_ref().filter(|claim| claim.stage() != Stage::Parked).ok_or(EINVAL)?;
        if claim.owner().is_none_or(|owner| !Arc::ptr_eq(&owner, thread)) {
            return Err(EINVAL);
        }
        let new = claim.thread.tid() | FUTEX_WAITERS;
        if word::compare_exchange(vm, addr, old, new)? == old {
            bucket.hand_over(key, &next);
            return Ok(());
        }
    }
}

/// The end of a wait for the lock at `addr`: [`Stage::Owned`], or the stage in which the waiter has given up.
///
/// # Errors
///
/// `EFAULT` if a lock that was granted cannot be taken; another waiter is granted it then.
pub(super) fn conclude(vm: &AddressSpace, addr: Vaddr, waiter: &Arc<Waiter>) -> Result<Stage> {
    let Some(claim) = &waiter.claim else { return Err(EINVAL) };
    let concluded = with_words(vm, &[(addr, Use::Change)], || try_conclude(vm, addr, waiter, claim));
    if concluded.is_err() {
        // It was granted the lock, and nothing but this changes that.
        let key = waiter.key();
        let mut bucket = bucket(&key);
        bucket.remove(waiter);
        chain::give_up(waiter);
        bucket.grant(&key);
    }
    concluded
}

fn try_conclude(vm: &AddressSpace, addr: Vaddr, waiter: &Arc<Waiter>, claim: &Claim) -> Result<Stage> {
    loop {
        let key = waiter.key();
        let mut bucket = bucket(&key);
        if waiter.key() != key {
            continue;
        }
        let stage = claim.stage();
        match stage {
            Stage::Owned => {}
            Stage::Parked => {
                bucket.remove(waiter);
            }
            Stage::Waiting => {
                bucket.remove(waiter);
                chain::give_up(waiter);
            }
            Stage::Granted => {
                let new = claim.thread.tid() | FUTEX_WAITERS | FUTEX_OWNER_DIED;
                word::update(vm, addr, |_| Some(new))?;
                bucket.hand_over(&key, waiter);
                return Ok(Stage::Owned);
            }
        }
        return Ok(stage);
    }
}

/// Has those who wait for locks of `thread`, which leaves its futexes behind, take over.
pub(super) fn release_claims_on(thread: &Arc<Thread>, leaving: Leaving) {
    while let Some(key) = chain::disown_one(thread, leaving) {
        bucket(&key).grant(&key);
    }
}

impl Bucket {
    /// Takes the lock at `addr` for `thread` if it is free. Otherwise marks that somebody waits, and answers who has it.
    ///
    /// # Errors
    ///
    /// As [`lock_pi`].
    pub(super) fn take_lock(
        &self,
        key: &Key,
        vm: &AddressSpace,
        addr: Vaddr,
        thread: &Thread,
        mark: Mark,
    ) -> Result<Taken> {
        loop {
            let old = word::load(vm, addr)?;
            let tid = old & FUTEX_TID_MASK;
            if tid == thread.tid() {
                return Err(EDEADLK);
            }
            if let Some(top) = self.top(key) {
                let claim =
                    top.claim.as_ref().filter(|claim| claim.stage() != Stage::Parked).ok_or(EINVAL)?;
                let owner = claim.owner();
                let has_died = tid == 0 && old & FUTEX_OWNER_DIED != 0;
                if owner.as_ref().is_some_and(|owner| owner.tid() != tid) && !has_died {
                    return Err(EINVAL);
                }
                return Ok(Taken::By(owner));
            }
            let is_free = tid == 0;
            let new = match (is_free, mark) {
                (true, Mark::Free) => thread.tid() | old & FUTEX_OWNER_DIED,
                (true, Mark::Waiters) => thread.tid() | old & FUTEX_OWNER_DIED | FUTEX_WAITERS,
                (false, _) => old | FUTEX_WAITERS,
            };
            if word::compare_exchange(vm, addr, old, new)? != old {
                continue;
            }
            if is_free {
                return Ok(Taken::Now);
            }
            match table::thread(tid).filter(|owner| !owner.has_left_futexes.load(Ordering::Relaxed)) {
                Some(owner) => return Ok(Taken::By(Some(owner))),
                // Perhaps it has said so on its way out.
                None if word::load(vm, addr)? != new => {}
                None => return Err(ESRCH),
            }
        }
    }

    /// The most urgent waiter for `key`, the first of equals.
    pub(super) fn top(&self, key: &Key) -> Option<Arc<Waiter>> {
        let priority = |waiter: &&Arc<Waiter>| {
            waiter.claim.as_ref().map_or(0, |claim| claim.thread.sched.real_time_priority())
        };
        // Of several greatest, the last is taken.
        self.of(key).rev().max_by_key(priority).cloned()
    }

    fn of(&self, key: &Key) -> impl DoubleEndedIterator<Item = &Arc<Waiter>> {
        self.waiters.iter().filter(move |waiter| *waiter.key.lock() == *key)
    }

    /// Makes `winner` the owner of the lock that its word says it has.
    pub(super) fn hand_over(&mut self, key: &Key, winner: &Arc<Waiter>) {
        self.remove(winner);
        chain::hand_over(winner, self.of(key));
        if let Some(claim) = &winner.claim {
            claim.set_stage(Stage::Owned);
        }
        winner.wake();
    }

    /// Has the most urgent waiter take over a lock without an owner, if there is one and none does.
    fn grant(&self, key: &Key) {
        let is_granted = |claim: &Claim| claim.stage() == Stage::Granted;
        if self.of(key).filter_map(|waiter| waiter.claim.as_ref()).any(is_granted) {
            return;
        }
        if let Some(top) = self.top(key)
            && let Some(claim) = &top.claim
            && claim.stage() == Stage::Waiting
            && claim.owner().is_none()
        {
            claim.set_stage(Stage::Granted);
            top.wake();
        }
    }
}
