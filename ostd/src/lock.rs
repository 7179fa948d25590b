// SPDX-License-Identifier: MPL-2.0

//! The sleeping lock: OSTD's reader-writer mutex.
//!
//! To sleep and to be woken takes two context switches and, where the CPU has nothing else to do, an interrupt to get it out
//! of its halt: longer than an operation holds the lock. So whoever finds it taken looks again for a while before it sleeps, as
//! Linux does.

use core::hint;

use ostd::{
    cpu::num_cpus,
    sync::{RwMutex, RwMutexReadGuard, RwMutexWriteGuard},
};
use vmar::machine::SleepLock;

/// How often a taken lock is looked at before its waiter sleeps: about as many instructions as two context switches.
const LOOKS: usize = 100;

/// A reader-writer lock whose waiters sleep.
#[derive(Debug)]
pub struct OstdLock<T>(RwMutex<T>);

impl<T: Send + Sync + 'static> SleepLock<T> for OstdLock<T> {
    type ReadGuard<'a> = RwMutexReadGuard<'a, T>;
    type WriteGuard<'a> = RwMutexWriteGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(RwMutex::new(value))
    }

    #[inline]
    fn read(&self) -> Self::ReadGuard<'_> {
        self.0.try_read().unwrap_or_else(|| look_again(|| self.0.try_read()).unwrap_or_else(|| self.0.read()))
    }

    #[inline]
    fn write(&self) -> Self::WriteGuard<'_> {
        self.0
            .try_write()
            .unwrap_or_else(|| look_again(|| self.0.try_write()).unwrap_or_else(|| self.0.write()))
    }
}

/// How often a lock was found taken.
#[cfg(ktest)]
pub(crate) static FOUND_TAKEN: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

/// Tries for a while to take what another CPU has.
#[cold]
fn look_again<G>(mut look: impl FnMut() -> Option<G>) -> Option<G> {
    #[cfg(ktest)]
    FOUND_TAKEN.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    if num_cpus() == 1 {
        return None;
    }
    (0..LOOKS).find_map(|_| {
        hint::spin_loop();
        look()
    })
}
