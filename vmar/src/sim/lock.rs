// SPDX-License-Identifier: MPL-2.0

//! The sleeping lock of the simulated machine: the host's, or shuttle's, which tries many schedules.
//!
//! Taking it while a cursor is open panics. So does taking it twice by one thread, which would hang.

use std::ops::{Deref, DerefMut};
#[cfg(not(shuttle))]
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(shuttle)]
use shuttle::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    record::{self, LockId},
    rules::assert_no_cursor,
};
use crate::machine::SleepLock;

/// A sleeping reader-writer lock.
#[derive(Debug)]
pub struct SimLock<T>(RwLock<T>);

/// Holds a [`SimLock`] for reading.
pub struct ReadGuard<'a, T> {
    guard: RwLockReadGuard<'a, T>,
    _held: Held,
}

/// Holds a [`SimLock`] for writing.
pub struct WriteGuard<'a, T> {
    guard: RwLockWriteGuard<'a, T>,
    _held: Held,
}

impl<T: Send + Sync + 'static> SleepLock<T> for SimLock<T> {
    type ReadGuard<'a> = ReadGuard<'a, T>;
    type WriteGuard<'a> = WriteGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    fn read(&self) -> ReadGuard<'_, T> {
        let held = Held::new(self);
        ReadGuard { guard: ignore_poison(self.0.read()), _held: held }
    }

    fn write(&self) -> WriteGuard<'_, T> {
        let held = Held::new(self);
        WriteGuard { guard: ignore_poison(self.0.write()), _held: held }
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(not(shuttle))]
fn ignore_poison<G>(result: Result<G, PoisonError<G>>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(shuttle)]
fn ignore_poison<G>(result: std::sync::LockResult<G>) -> G {
    result.unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(not(shuttle))]
std::thread_local! {
    static HELD: std::cell::RefCell<std::vec::Vec<usize>> = const { std::cell::RefCell::new(std::vec::Vec::new()) };
}

/// A lock that the current thread holds.
struct Held {
    #[cfg(not(shuttle))]
    lock: usize,
}

impl Held {
    fn new<T>(lock: &SimLock<T>) -> Self {
        assert_no_cursor("a sleeping lock is taken");
        record::note(LockId::Sleeping(std::ptr::from_ref(lock).addr()));
        #[cfg(not(shuttle))]
        {
            let lock = std::ptr::from_ref(lock).addr();
            HELD.with_borrow_mut(|held| {
                assert!(!held.contains(&lock), "rule broken: a thread takes a lock that it holds");
                held.push(lock);
            });
            Self { lock }
        }
        #[cfg(shuttle)]
        {
            let _ = lock;
            Self {}
        }
    }
}

#[cfg(not(shuttle))]
impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.retain(|lock| *lock != self.lock));
    }
}
