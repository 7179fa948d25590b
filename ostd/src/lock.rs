// SPDX-License-Identifier: MPL-2.0

//! The sleeping lock: OSTD's reader-writer mutex.

use ostd::sync::{RwMutex, RwMutexReadGuard, RwMutexWriteGuard};
use vmar::machine::SleepLock;

/// A reader-writer lock whose waiters sleep.
#[derive(Debug)]
pub struct OstdLock<T>(RwMutex<T>);

impl<T: Send + Sync + 'static> SleepLock<T> for OstdLock<T> {
    type ReadGuard<'a> = RwMutexReadGuard<'a, T>;
    type WriteGuard<'a> = RwMutexWriteGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(RwMutex::new(value))
    }

    fn read(&self) -> Self::ReadGuard<'_> {
        self.0.read()
    }

    fn write(&self) -> Self::WriteGuard<'_> {
        self.0.write()
    }
}
