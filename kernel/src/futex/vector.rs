// SPDX-License-Identifier: MPL-2.0

//! Waiting for any of several words: `futex_waitv(2)`.

use super::{
    Key, Scope, Waiter, bucket,
    word::{self, Use, with_words},
};
use crate::{mm::AddressSpace, prelude::*, time::Deadline, wait::Sleeper};

/// A word to wait for: its address, who else may wait for it, and what it must be for the wait to begin.
pub type Word = (Vaddr, Scope, u32);

/// Waits to be woken at any of `words`, if all are as expected. Answers the place of one at which it was woken.
///
/// # Errors
///
/// `EAGAIN` if a word is not as expected; `ETIMEDOUT`; `ERESTARTSYS`; `EFAULT`; `EINVAL` if an address is not aligned;
/// `ENOMEM`.
pub fn wait_any(vm: &AddressSpace, words: &[Word], deadline: Deadline) -> Result<usize> {
    let sleeper = Sleeper::new();
    let mut waiters = Vec::new();
    waiters.try_reserve_exact(words.len()).map_err(|_| ENOMEM)?;
    for (addr, scope, _) in words {
        waiters.push(Waiter::new(Key::of(vm, *addr, *scope)?, u32::MAX, &sleeper, None));
    }
    for (place, (addr, _, expected)) in words.iter().enumerate() {
        if let Err(error) = enter(vm, *addr, *expected, &waiters[place]) {
            // Somebody may have been faster, and counts on having woken this one.
            return leave(&waiters[..place]).ok_or(error);
        }
    }
    let slept = deadline.sleep(&sleeper, || waiters.iter().any(|waiter| waiter.is_woken()).then_some(()));
    leave(&waiters).ok_or(slept.err().unwrap_or(EAGAIN))
}

fn enter(vm: &AddressSpace, addr: Vaddr, expected: u32, waiter: &Arc<Waiter>) -> Result<()> {
    with_words(vm, &[(addr, Use::Read)], || {
        let mut bucket = bucket(&waiter.key());
        if word::load(vm, addr)? != expected {
            return Err(EAGAIN);
        }
        bucket.push(waiter.clone())
    })
}

/// Takes the waiters out. Answers the place of the last that was woken.
fn leave(waiters: &[Arc<Waiter>]) -> Option<usize> {
    let mut woken = None;
    for (place, waiter) in waiters.iter().enumerate() {
        if super::finish(waiter, Err(EAGAIN)).is_ok() {
            woken = Some(place);
        }
    }
    woken
}
