// SPDX-License-Identifier: MPL-2.0

//! Futexes: waiting for a word of user memory to change, as in `futex(2)`.
//!
//! ```text
//! word ─► Key (what memory it is) ─► bucket ─► waiters, in the order they came
//! ```
//!
//! - A waiter enters its bucket and compares the word under the bucket's lock; a waker changes the word first and takes
//!   the lock then. So a waker either sees the waiter or has changed what the waiter compares: no waking is lost.
//! - The lock of a bucket sleeps, for a bucket may be long. Two buckets are locked in the order of their places. Nobody waits
//!   for memory with a bucket locked ([`word`]).
//! - A waiter that gives up takes itself out under the lock. If it has been woken meanwhile, it was woken.
//! - Who waits for a lock has a [`Claim`] on it ([`pi`]), and is not for waking.

mod chain;
mod key;
mod ops;
mod pi;
mod requeue_pi;
mod robust;
mod vector;
mod word;

use core::ops::{Deref, DerefMut};

use ostd::sync::{MutexGuard, Waker};

pub use self::{
    chain::urgency_changed,
    key::{Key, Scope},
    ops::{CompareRequeue, WakeOp, requeue, wake_op},
    pi::{Attempt, lock_pi, unlock_pi},
    requeue_pi::{requeue_to_pi, wait_requeue_pi},
    robust::{Leaving, ROBUST_LIST_HEAD_LEN, thread_leaves},
    vector::wait_any,
};
use self::{
    pi::Claim,
    word::{Use, with_words},
};
use crate::{mm::AddressSpace, prelude::*, time::Deadline, wait::Sleeper};

const BUCKETS: usize = 256;

static TABLE: [Mutex<Bucket>; BUCKETS] = [const { Mutex::new(Bucket { waiters: VecDeque::new() }) }; BUCKETS];

/// The waiters whose keys have the same hash.
struct Bucket {
    waiters: VecDeque<Arc<Waiter>>,
}

/// A thread that waits.
struct Waiter {
    key: SpinLock<Key>,
    /// Which wakings it takes (`FUTEX_WAIT_BITSET`).
    bitset: u32,
    woken: AtomicBool,
    waker: Arc<Waker>,
    /// Set for who waits for a lock, or to be moved to one.
    claim: Option<Claim>,
}

impl Waiter {
    fn new(key: Key, bitset: u32, sleeper: &Sleeper, claim: Option<Claim>) -> Arc<Self> {
        let woken = AtomicBool::new(false);
        Arc::new(Self { key: SpinLock::new(key), bitset, woken, waker: sleeper.waker(), claim })
    }

    fn key(&self) -> Key {
        self.key.lock().clone()
    }

    /// Lets it go. It must have left its bucket, whose lock is held.
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake_up();
    }

    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

impl Bucket {
    fn push(&mut self, waiter: Arc<Waiter>) -> Result<()> {
        self.reserve(1)?;
        self.waiters.push_back(waiter);
        Ok(())
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        self.waiters.try_reserve(count).map_err(|_| ENOMEM)
    }

    /// Takes `waiter` out. Answers whether it was there.
    fn remove(&mut self, waiter: &Arc<Waiter>) -> bool {
        let place = self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter));
        place.and_then(|place| self.waiters.remove(place)).is_some()
    }

    /// Takes out the first waiters for `key` with a bit of `bitset`, at most `max`, and hands each to `each`; answers how many.
    /// Stops with `EINVAL` at one that waits for a lock: whoever wakes it does not know what it is doing.
    fn take(
        &mut self,
        key: &Key,
        max: usize,
        bitset: u32,
        mut each: impl FnMut(Arc<Waiter>),
    ) -> (usize, Result<()>) {
        let mut taken = 0;
        let mut place = 0;
        while taken < max
            && let Some(waiter) = self.waiters.get(place)
        {
            let is_meant = *waiter.key.lock() == *key;
            if is_meant && waiter.claim.is_some() {
                return (taken, Err(EINVAL));
            }
            if is_meant && waiter.bitset & bitset != 0 {
                self.waiters.remove(place).into_iter().for_each(&mut each);
                taken += 1;
            } else {
                place += 1;
            }
        }
        (taken, Ok(()))
    }

    /// Wakes the first `max` waiters for `key`; answers how many.
    fn wake(&mut self, key: &Key, max: usize, bitset: u32) -> Result<usize> {
        let (woken, stopped) = self.take(key, max, bitset, |waiter| waiter.wake());
        stopped.map(|()| woken)
    }
}

/// A bucket that is locked. The memory of a long queue goes when nobody is left in it.
struct Locked(MutexGuard<'static, Bucket>);

impl Locked {
    /// How many waiters an empty bucket has room for, at most.
    const KEPT: usize = 8;

    fn at(place: usize) -> Self {
        Self(TABLE[place].lock())
    }
}

impl Deref for Locked {
    type Target = Bucket;

    fn deref(&self) -> &Bucket {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Bucket {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let waiters = &mut self.0.waiters;
        if waiters.is_empty() && waiters.capacity() > Self::KEPT {
            *waiters = VecDeque::new();
        }
    }
}

/// Where the waiters for a key are, locked.
fn bucket(key: &Key) -> Locked {
    Locked::at(key.hash() % BUCKETS)
}

/// What a wait is for.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The word's address.
    pub addr: Vaddr,
    /// Who else may wait for it.
    pub scope: Scope,
    /// What the word must be for the wait to begin.
    pub expected: u32,
    /// Which wakings end it.
    pub bitset: u32,
    /// How long it lasts at most.
    pub deadline: Deadline,
}

/// Waits to be woken, if the word is as expected.
///
/// # Errors
///
/// `EAGAIN` if the word is not; `ETIMEDOUT`; `ERESTARTSYS`; `EFAULT`; `EINVAL` if the address is not aligned.
pub fn wait(vm: &AddressSpace, wait: &Wait) -> Result<()> {
    let key = Key::of(vm, wait.addr, wait.scope)?;
    let sleeper = Sleeper::new();
    let waiter = Waiter::new(key.clone(), wait.bitset, &sleeper, None);
    with_words(vm, &[(wait.addr, Use::Read)], || {
        let mut bucket = bucket(&key);
        if word::load(vm, wait.addr)? != wait.expected {
            return Err(EAGAIN);
        }
        bucket.push(waiter.clone())
    })?;
    finish(&waiter, wait.deadline.sleep(&sleeper, || waiter.is_woken().then_some(())))
}

/// The end of a wait that has gone as `result` says. Who was woken at the last moment was woken.
fn finish(waiter: &Arc<Waiter>, result: Result<()>) -> Result<()> {
    if result.is_ok() {
        return Ok(());
    }
    loop {
        let key = waiter.key();
        let mut bucket = bucket(&key);
        if waiter.is_woken() {
            return Ok(());
        }
        // It may have been moved to another bucket since.
        if bucket.remove(waiter) {
            return result;
        }
    }
}

/// Wakes at most `max` of those who wait for the word; answers how many.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` if the address is not aligned, or somebody waits for a lock there.
pub fn wake(vm: &AddressSpace, addr: Vaddr, scope: Scope, max: usize, bitset: u32) -> Result<usize> {
    let key = Key::of(vm, addr, scope)?;
    bucket(&key).wake(&key, max, bitset)
}

/// Wakes one waiter on the futex at `addr` in `vm`: a thread there has ended.
pub fn wake_at(vm: &AddressSpace, addr: Vaddr) {
    // A bad address is the program's own fault, and it has gone.
    let _ = wake(vm, addr, Scope::Shared, 1, u32::MAX);
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn an_empty_bucket_keeps_no_long_queue() {
        let room = |count| {
            Locked::at(0).reserve(count).unwrap();
            TABLE[0].lock().waiters.capacity()
        };
        let kept = room(1);
        assert!((1..=Locked::KEPT).contains(&kept));
        assert_eq!(room(1000), 0);
    }
}
