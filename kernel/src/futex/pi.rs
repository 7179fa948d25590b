// SPDX-License-Identifier: MPL-2.0

//! Locks whose owner the kernel knows: `FUTEX_LOCK_PI`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`.
//!
//! The word holds the owner's thread number, and bits that say whether somebody waits and whether an owner has died. Unlocking
//! hands the lock to the first waiter, which owns it before it runs. The owner does not inherit its waiters' priority: all
//! threads are scheduled fairly here.

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use super::{Bucket, Key, Scope, TABLE, Waiter, bucket, finish, word};
use crate::{mm::AddressSpace, prelude::*, process::table, time::Deadline, wait::Sleeper};

/// What a waiter on a lock wants.
pub(super) struct Claim {
    /// The thread that wants the lock.
    tid: Tid,
    /// Who had the lock when it began to wait.
    owner: AtomicU32,
    /// Whether it was woken to try again: the owner has died.
    retries: AtomicBool,
}

/// Whether to wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Until it can be had, or the deadline.
    Until(Deadline),
    /// Not at all.
    Once,
}

/// How many threads wait for locks.
static CLAIMS: AtomicUsize = AtomicUsize::new(0);

/// Takes the lock at `addr` for `thread`.
///
/// # Errors
///
/// `EDEADLK` if the thread has it already; `EAGAIN` if it is not free and the attempt is made once; `ESRCH` if its owner does
/// not exist; `ETIMEDOUT`; `ERESTARTNOINTR`; `EFAULT`; `EINVAL`.
pub fn lock_pi(
    vm: &AddressSpace,
    thread: &Thread,
    addr: Vaddr,
    scope: Scope,
    attempt: Attempt,
) -> Result<()> {
    let key = Key::of(vm, addr, scope)?;
    let tid = thread.tid();
    let mut owner_may_be_dead = attempt == Attempt::Once;
    loop {
        let sleeper = Sleeper::new();
        let (waiter, deadline) = {
            let mut bucket = bucket(&key);
            let Some(owner) = take_if_free(vm, addr, tid, bucket.has_claims(&key), owner_may_be_dead)? else {
                return Ok(());
            };
            let Attempt::Until(deadline) = attempt else { return Err(EAGAIN) };
            let waiter = Arc::new(Waiter {
                key: SpinLock::new(key.clone()),
                bitset: u32::MAX,
                woken: AtomicBool::new(false),
                waker: sleeper.waker(),
                claim: Some(Claim { tid, owner: AtomicU32::new(owner), retries: AtomicBool::new(false) }),
            });
            bucket.push(waiter.clone())?;
            (waiter, deadline)
        };
        CLAIMS.fetch_add(1, Ordering::SeqCst);
        let slept = if is_alive(waiter.owner()) {
            deadline.sleep(&sleeper, || waiter.is_woken().then_some(()))
        } else {
            // It died before it could see the claim.
            waiter.set_retry();
            Err(EAGAIN)
        };
        let result = finish(&waiter, slept);
        CLAIMS.fetch_sub(1, Ordering::SeqCst);
        match result {
            Ok(()) if !waiter.retries() => return Ok(()),
            Ok(()) | Err(EAGAIN) => owner_may_be_dead = true,
            Err(ETIMEDOUT) => return Err(ETIMEDOUT),
            Err(_) => return Err(ERESTARTNOINTR),
        }
    }
}

/// Takes the lock for `tid` if nobody has it. Otherwise marks that somebody waits, and answers who has it.
fn take_if_free(
    vm: &AddressSpace,
    addr: Vaddr,
    tid: Tid,
    others_wait: bool,
    owner_may_be_dead: bool,
) -> Result<Option<Tid>> {
    let mut died = None;
    loop {
        let old = word::load(vm, addr)?;
        let owner = old & FUTEX_TID_MASK;
        if owner == tid {
            return Err(EDEADLK);
        }
        let is_free = owner == 0 || died == Some(owner);
        if !is_free && !is_alive(owner) {
            if !owner_may_be_dead {
                return Err(ESRCH);
            }
            died = Some(owner);
            continue;
        }
        let new = if is_free {
            let waiters = if others_wait { FUTEX_WAITERS } else { 0 };
            let dead = if died.is_some() { FUTEX_OWNER_DIED } else { old & FUTEX_OWNER_DIED };
            tid | waiters | dead
        } else {
            old | FUTEX_WAITERS
        };
        if word::compare_exchange(vm, addr, old, new)? == old {
            return Ok((!is_free).then_some(owner));
        }
    }
}

fn is_alive(tid: Tid) -> bool {
    table::thread(tid).is_some_and(|thread| !thread.must_exit.load(Ordering::Relaxed))
}

/// Gives up the lock at `addr`, to the first who waits for it.
///
/// # Errors
///
/// `EPERM` if the thread does not have it; `EFAULT`; `EINVAL`.
pub fn unlock_pi(vm: &AddressSpace, thread: &Thread, addr: Vaddr, scope: Scope) -> Result<()> {
    let key = Key::of(vm, addr, scope)?;
    let mut bucket = bucket(&key);
    if word::load(vm, addr)? & FUTEX_TID_MASK != thread.tid() {
        return Err(EPERM);
    }
    let next = bucket.first_claim(&key);
    let more = bucket.count_claims(&key) > 1;
    let new = next.as_ref().map_or(0, |waiter| waiter.tid() | if more { FUTEX_WAITERS } else { 0 });
    word::update(vm, addr, |_| Some(new))?;
    if let Some(next) = next {
        bucket.waiters.retain(|waiter| !Arc::ptr_eq(waiter, &next));
        for waiter in bucket.waiters.iter().filter(|waiter| *waiter.key.lock() == key) {
            waiter.set_owner(next.tid());
        }
        next.wake();
    }
    Ok(())
}

/// Has all who wait for a lock of the thread `tid`, which is about to end, try again.
pub(super) fn release_claims_on(tid: Tid) {
    if CLAIMS.load(Ordering::SeqCst) == 0 {
        return;
    }
    for bucket in &TABLE {
        bucket.lock().waiters.retain(|waiter| {
            let released = waiter.claim.is_some() && waiter.owner() == tid;
            if released {
                waiter.set_retry();
                waiter.wake();
            }
            !released
        });
    }
}

impl Bucket {
    fn first_claim(&self, key: &Key) -> Option<Arc<Waiter>> {
        self.waiters.iter().find(|waiter| waiter.claim.is_some() && *waiter.key.lock() == *key).cloned()
    }

    fn count_claims(&self, key: &Key) -> usize {
        self.waiters.iter().filter(|waiter| waiter.claim.is_some() && *waiter.key.lock() == *key).count()
    }

    fn has_claims(&self, key: &Key) -> bool {
        self.first_claim(key).is_some()
    }
}

impl Waiter {
    fn tid(&self) -> Tid {
        self.claim.as_ref().map_or(0, |claim| claim.tid)
    }

    fn owner(&self) -> Tid {
        self.claim.as_ref().map_or(0, |claim| claim.owner.load(Ordering::Relaxed))
    }

    fn set_owner(&self, owner: Tid) {
        if let Some(claim) = &self.claim {
            claim.owner.store(owner, Ordering::Relaxed);
        }
    }

    fn retries(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.retries.load(Ordering::Acquire))
    }

    fn set_retry(&self) {
        if let Some(claim) = &self.claim {
            claim.retries.store(true, Ordering::Release);
        }
    }
}
