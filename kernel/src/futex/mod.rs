// SPDX-License-Identifier: MPL-2.0

//! Futexes: waiting for a word of user memory to change, as in `futex(2)`.
//!
//! ```text
//! word ─► Key (what memory it is) ─► bucket ─► waiters, in the order they came
//! ```
//!
//! - A waiter enters its bucket and compares the word under the bucket's lock; a waker changes the word first and takes
//!   the lock then. So a waker either sees the waiter or has changed what the waiter compares: no waking is lost.
//! - The lock of a bucket sleeps, since reading the word can fault. Two buckets are locked in the order of their places.
//! - A waiter that gives up takes itself out under the lock. If it has been woken meanwhile, it was woken.

mod key;
mod ops;
mod pi;
mod robust;
mod word;

use ostd::sync::{MutexGuard, Waker};

pub use self::{
    key::{Key, Scope},
    ops::{CompareRequeue, WakeOp, requeue, wake_op},
    pi::{Attempt, lock_pi, unlock_pi},
    robust::{ROBUST_LIST_HEAD_LEN, thread_exits},
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
    /// Set for a waiter on a lock (`FUTEX_LOCK_PI`).
    claim: Option<pi::Claim>,
}

impl Waiter {
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
        self.waiters.try_reserve(1).map_err(|_| ENOMEM)?;
        self.waiters.push_back(waiter);
        Ok(())
    }

    /// Takes out the first waiters for `key` that `wanted` accepts, at most `max`.
    fn take(&mut self, key: &Key, max: usize, wanted: impl Fn(&Waiter) -> bool) -> Vec<Arc<Waiter>> {
        let mut taken = Vec::new();
        self.waiters.retain(|waiter| {
            let takes = taken.len() < max && *waiter.key.lock() == *key && wanted(waiter);
            if takes {
                taken.push(waiter.clone());
            }
            !takes
        });
        taken
    }

    /// Wakes the first `max` waiters for `key`.
    fn wake(&mut self, key: &Key, max: usize, bitset: u32) -> usize {
        let woken = self.take(key, max, |waiter| waiter.claim.is_none() && waiter.bitset & bitset != 0);
        woken.iter().for_each(|waiter| waiter.wake());
        woken.len()
    }
}

fn bucket(key: &Key) -> MutexGuard<'static, Bucket> {
    TABLE[key.hash() % BUCKETS].lock()
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
    let waiter = Arc::new(Waiter {
        key: SpinLock::new(key.clone()),
        bitset: wait.bitset,
        woken: AtomicBool::new(false),
        waker: sleeper.waker(),
        claim: None,
    });
    {
        let mut bucket = bucket(&key);
        if word::load(vm, wait.addr)? != wait.expected {
            return Err(EAGAIN);
        }
        bucket.push(waiter.clone())?;
    }
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
        if let Some(place) = bucket.waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            bucket.waiters.remove(place);
            return result;
        }
    }
}

/// Wakes at most `max` of those who wait for the word; answers how many.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` if the address is not aligned.
pub fn wake(vm: &AddressSpace, addr: Vaddr, scope: Scope, max: usize, bitset: u32) -> Result<usize> {
    let key = Key::of(vm, addr, scope)?;
    Ok(bucket(&key).wake(&key, max, bitset))
}

/// Wakes one waiter on the futex at `addr` in `vm`: a thread there has ended.
pub fn wake_at(vm: &AddressSpace, addr: Vaddr) {
    // A bad address is the program's own fault, and it has gone.
    let _ = wake(vm, addr, Scope::Shared, 1, u32::MAX);
}
