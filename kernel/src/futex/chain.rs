// SPDX-License-Identifier: MPL-2.0

//! Who waits for a lock of whom: chains of threads that pass their urgency on, and circles that must not come to be.
//!
//! ```text
//! thread ─ claim ─► owner ─ claim ─► owner        each owner is scheduled as if it were as urgent as the most urgent
//!                     ▲                           thread that waits for it, directly or not
//! thread ─ claim ─────┘
//! ```
//!
//! All claims are in one list, whose lock protects the owners that they name. It is taken inside a bucket's lock.

use super::{Key, Leaving, Waiter, pi::Claim};
use crate::prelude::*;

/// The longest chain there may be, as in Linux (`/proc/sys/kernel/max_lock_depth`): all of it is gone through, with the lock
/// held, whenever somebody joins it.
const MAX_DEPTH: usize = 1024;

/// All who wait for a lock.
static CLAIMS: SpinLock<Vec<Arc<Waiter>>> = SpinLock::new(Vec::new());

/// Notes that `waiter`, which has a claim, waits for what `owner` has; for nobody, if the owner has died and another is about
/// to take over.
///
/// # Errors
///
/// `EDEADLK` if the owner waits for the waiter, or the chain would be too long; `EAGAIN` if it has given its futexes up just now; `ENOMEM`.
pub(super) fn enroll(waiter: &Arc<Waiter>, owner: Option<Arc<Thread>>) -> Result<()> {
    let Some(claim) = &waiter.claim else { return Err(EINVAL) };
    let mut claims = CLAIMS.lock();
    if let Some(owner) = &owner {
        if owner.has_left_futexes.load(Ordering::Relaxed) {
            return Err(EAGAIN);
        }
        if leads_to(&claims, owner, claim.thread()) {
            return Err(EDEADLK);
        }
    }
    claims.try_reserve(1).map_err(|_| ENOMEM)?;
    claims.push(waiter.clone());
    claim.set_owner(owner.clone());
    pass_on(&claims, owner);
    Ok(())
}

/// Notes that `waiter` waits no more, and has not got what it waited for.
pub(super) fn give_up(waiter: &Arc<Waiter>) {
    let mut claims = CLAIMS.lock();
    remove(&mut claims, waiter);
    let owner = waiter.claim.as_ref().and_then(Claim::owner);
    pass_on(&claims, owner);
}

/// Notes that `winner` has got what it waited for, and the others wait for it now.
pub(super) fn hand_over<'a>(winner: &Arc<Waiter>, others: impl Iterator<Item = &'a Arc<Waiter>>) {
    let Some(claim) = &winner.claim else { return };
    let mut claims = CLAIMS.lock();
    remove(&mut claims, winner);
    for other in others.filter_map(|other| other.claim.as_ref()) {
        other.set_owner(Some(claim.thread().clone()));
    }
    pass_on(&claims, claim.owner());
    pass_on(&claims, Some(claim.thread().clone()));
}

/// Has one who waits for `thread` not do so any more. Answers what it waits for, which has no owner now; `None` if nobody waits
/// for the thread, and nobody will if it leaves for good.
pub(super) fn disown_one(thread: &Arc<Thread>, leaving: Leaving) -> Option<Key> {
    let claims = CLAIMS.lock();
    if leaving == Leaving::Exit {
        thread.has_left_futexes.store(true, Ordering::Relaxed);
    }
    let Some(waiter) = claims.iter().find(|waiter| waits_for(waiter, thread)) else {
        thread.sched.set_boost(0);
        return None;
    };
    if let Some(claim) = &waiter.claim {
        claim.set_owner(None);
    }
    Some(waiter.key())
}

/// Passes on that `thread` is more or less urgent than it was.
pub fn urgency_changed(thread: &Arc<Thread>) {
    let claims = CLAIMS.lock();
    pass_on(&claims, owner_for(&claims, thread));
}

fn remove(claims: &mut Vec<Arc<Waiter>>, waiter: &Arc<Waiter>) {
    if let Some(place) = claims.iter().position(|other| Arc::ptr_eq(other, waiter)) {
        claims.swap_remove(place);
    }
}

fn waits_for(waiter: &Waiter, thread: &Arc<Thread>) -> bool {
    waiter.claim.as_ref().and_then(Claim::owner).is_some_and(|owner| Arc::ptr_eq(&owner, thread))
}

/// Whom `thread` waits for.
fn owner_for(claims: &[Arc<Waiter>], thread: &Arc<Thread>) -> Option<Arc<Thread>> {
    claims
        .iter()
        .filter_map(|waiter| waiter.claim.as_ref())
        .find(|claim| Arc::ptr_eq(claim.thread(), thread))?
        .owner()
}

/// Whether `from` is, or waits for, `to`, or so long a chain begins at it that one must not know.
fn leads_to(claims: &[Arc<Waiter>], from: &Arc<Thread>, to: &Arc<Thread>) -> bool {
    let mut at = Some(from.clone());
    for _ in 0..MAX_DEPTH {
        match at {
            Some(thread) if !Arc::ptr_eq(&thread, to) => at = owner_for(claims, &thread),
            reached => return reached.is_some(),
        }
    }
    at.is_some()
}

/// Makes `owner` as urgent as those who wait for it, and so on with whom it waits for. It ends, for there are no circles.
fn pass_on(claims: &[Arc<Waiter>], owner: Option<Arc<Thread>>) {
    let mut next = owner;
    while let Some(owner) = next {
        let waiting = claims.iter().filter(|waiter| waits_for(waiter, &owner));
        let urgency =
            waiting.filter_map(|waiter| waiter.claim.as_ref()).map(|claim| claim.thread().sched.urgency());
        if !owner.sched.set_boost(urgency.max().unwrap_or(0)) {
            return;
        }
        next = owner_for(claims, &owner);
    }
}
