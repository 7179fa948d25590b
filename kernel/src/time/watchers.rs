// SPDX-License-Identifier: MPL-2.0

//! Those who want to hear of something for as long as they live.
//!
//! Telling them needs no memory, since interrupts do it, and adding one needs a little: they are in a map, by their addresses. A
//! watcher's place keeps its address from being another's.

use crate::prelude::*;

/// A set of watchers.
pub(super) struct Watchers<T: ?Sized>(SpinLock<BTreeMap<usize, Weak<T>>, LocalIrqDisabled>);

impl<T: ?Sized> Watchers<T> {
    /// Nobody.
    pub(super) const fn new() -> Self {
        Self(SpinLock::new(BTreeMap::new()))
    }

    /// Adds a watcher, if it is not among them, and calls `then` before others see that.
    pub(super) fn add(&self, watcher: Weak<T>, then: impl FnOnce()) {
        let mut watchers = self.0.lock();
        watchers.retain(|_, other| other.strong_count() > 0);
        watchers.insert(watcher.as_ptr().cast::<()>().addr(), watcher);
        then();
    }

    /// Calls `tell` for each, with nothing locked.
    pub(super) fn for_each(&self, mut tell: impl FnMut(&T)) {
        let from = |address: usize| {
            let watchers = self.0.lock();
            watchers.range(address..).next().map(|(address, watcher)| (*address, watcher.clone()))
        };
        let mut next = 0;
        while let Some((address, watcher)) = from(next) {
            if let Some(watcher) = watcher.upgrade() {
                tell(&watcher);
            }
            next = address + 1;
        }
    }

    /// Keeps those that `stays` says so of, and tells `then` whether there are any, before others see that.
    pub(super) fn retain(&self, stays: impl Fn(&T) -> bool, then: impl FnOnce(bool)) {
        let mut watchers = self.0.lock();
        watchers.retain(|_, watcher| watcher.upgrade().is_some_and(|watcher| stays(&watcher)));
        then(!watchers.is_empty());
    }
}
