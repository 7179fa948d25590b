// SPDX-License-Identifier: MPL-2.0

//! Waiting for a word with a lock to be taken at the end: `FUTEX_WAIT_REQUEUE_PI` and `FUTEX_CMP_REQUEUE_PI`, which condition
//! variables are made of.
//!
//! The waiter says beforehand which lock it will be moved to. Whoever moves it takes the lock for it if that is free, so that
//! it wakes as the owner, and moves it to those who wait for the lock otherwise. It never wakes for nothing.

use super::{
    Key, Scope, Wait, Waiter, bucket, chain,
    ops::Pair,
    pi::{Claim, Mark, Stage, Taken, conclude},
    word::{self, Use, with_words},
};
use crate::{mm::AddressSpace, prelude::*, wait::Sleeper};

/// Waits for the word as `wait` says, and then for the lock at `lock`, to which the waiter is moved.
///
/// # Errors
///
/// `EAGAIN` if the word is not as expected, or a signal comes when the waiter has been moved; `ETIMEDOUT`; `ERESTARTNOINTR`
/// for a signal before; `EINVAL` if word and lock are the same; `EFAULT`; `ENOMEM`.
pub fn wait_requeue_pi(vm: &AddressSpace, thread: &Arc<Thread>, wait: &Wait, lock: Vaddr) -> Result<()> {
    if wait.addr == lock {
        return Err(EINVAL);
    }
    let target = Key::of(vm, lock, wait.scope)?;
    let key = Key::of(vm, wait.addr, wait.scope)?;
    let sleeper = Sleeper::new();
    let is_same = key == target;
    let waiter = Waiter::new(key.clone(), wait.bitset, &sleeper, Some(Claim::new(thread, Some(target))));
    with_words(vm, &[(wait.addr, Use::Read)], || {
        let mut bucket = bucket(&key);
        if word::load(vm, wait.addr)? != wait.expected {
            return Err(EAGAIN);
        }
        if is_same {
            return Err(EINVAL);
        }
        bucket.push(waiter.clone())
    })?;
    let slept = wait.deadline.sleep(&sleeper, || waiter.is_woken().then_some(()));
    match (conclude(vm, lock, &waiter)?, slept) {
        (Stage::Owned, _) => Ok(()),
        (_, Err(ETIMEDOUT)) => Err(ETIMEDOUT),
        (Stage::Parked, _) => Err(ERESTARTNOINTR),
        // To begin anew would find the word changed.
        _ => Err(EAGAIN),
    }
}

/// Moves one waiter on the word at `from` and at most `moves` others to the lock at `to`. Answers how many that were, one that
/// was given the lock included.
///
/// # Errors
///
/// `EAGAIN` if the first word is not as expected, or the lock's owner is about to end; `EINVAL` if word and lock are the same,
/// or somebody waits who does not want to be moved there; those of [`super::lock_pi`] for the lock.
pub fn requeue_to_pi(
    vm: &AddressSpace,
    (from, to): (Vaddr, Vaddr),
    scope: Scope,
    moves: usize,
    expected: u32,
) -> Result<usize> {
    let keys = (Key::of(vm, from, scope)?, Key::of(vm, to, scope)?);
    if keys.0 == keys.1 {
        return Err(EINVAL);
    }
    let words = [(from, Use::Read), (to, Use::Change)];
    with_words(vm, &words, || try_requeue(vm, (from, to), &keys, moves, expected))
}

fn try_requeue(
    vm: &AddressSpace,
    (from, to): (Vaddr, Vaddr),
    (from_key, to_key): &(Key, Key),
    moves: usize,
    expected: u32,
) -> Result<usize> {
    let mut pair = Pair::lock(from_key, to_key);
    if word::load(vm, from)? != expected {
        return Err(EAGAIN);
    }
    word::load(vm, to)?;
    let waiting = pair.first.waiters.len();
    pair.second().reserve(waiting)?;

    let Some(first) = pair.first.top(from_key) else { return Ok(0) };
    let claim = parked(&first, to_key)?;
    let mark = if moves > 0 { Mark::Waiters } else { Mark::Free };
    let mut count = 0;
    let owner = match pair.second().take_lock(to_key, vm, to, claim.thread(), mark)? {
        Taken::By(owner) => owner,
        Taken::Now => {
            pair.first.remove(&first);
            *first.key.lock() = to_key.clone();
            claim.set_stage(Stage::Owned);
            first.wake();
            count = 1;
            Some(claim.thread().clone())
        }
    };
    while count <= moves
        && let Some(next) = pair.first.top(from_key)
    {
        let claim = parked(&next, to_key)?;
        chain::enroll(&next, owner.clone())?;
        pair.first.remove(&next);
        *next.key.lock() = to_key.clone();
        claim.set_stage(Stage::Waiting);
        pair.second().push(next)?;
        count += 1;
    }
    Ok(count)
}

/// The claim of a waiter that wants to be moved to `target`.
fn parked<'a>(waiter: &'a Waiter, target: &Key) -> Result<&'a Claim> {
    let wants = |claim: &&Claim| claim.stage() == Stage::Parked && claim.target() == Some(target);
    waiter.claim.as_ref().filter(wants).ok_or(EINVAL)
}
