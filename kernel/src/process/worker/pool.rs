// SPDX-License-Identifier: MPL-2.0

//! Which workers are idle, which of them is hired next, and which ends.

use alloc::collections::BTreeSet;

use crate::prelude::*;

/// How many idle workers are always kept.
pub(super) const SPARE: usize = 16;

/// The workers by their numbers, which ascend with their age: the youngest has the largest.
///
/// `T` stands for an idle worker.
pub(super) struct Pool<T> {
    busy: BTreeSet<u64>,
    idle: BTreeMap<u64, T>,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { busy: BTreeSet::new(), idle: BTreeMap::new() }
    }

    /// How many workers there are.
    pub(super) fn count(&self) -> usize {
        self.busy.len() + self.idle.len()
    }

    /// How many of them are idle.
    pub(super) fn count_idle(&self) -> usize {
        self.idle.len()
    }

    /// Adds a new worker, a busy one.
    pub(super) fn add(&mut self, number: u64) {
        self.busy.insert(number);
    }

    /// Forgets a busy worker.
    pub(super) fn remove(&mut self, number: u64) {
        self.busy.remove(&number);
    }

    /// Takes the oldest idle worker, which is busy then.
    pub(super) fn hire(&mut self) -> Option<T> {
        let (number, worker) = self.idle.pop_first()?;
        self.busy.insert(number);
        Some(worker)
    }

    /// Takes back a busy worker.
    pub(super) fn rest(&mut self, number: u64, worker: T) {
        self.busy.remove(&number);
        self.idle.insert(number, worker);
    }

    /// Takes out an idle worker that is to end: the youngest of more than enough, unless a busy one is younger.
    pub(super) fn take_surplus(&mut self) -> Option<T> {
        let youngest = *self.idle.last_key_value()?.0;
        let is_youngest = self.busy.last().is_none_or(|busy| *busy < youngest);
        if is_youngest { self.take_extra() } else { None }
    }

    /// Takes out the youngest idle worker if there are more than enough.
    pub(super) fn take_extra(&mut self) -> Option<T> {
        if self.idle.len() <= SPARE {
            return None;
        }
        self.idle.pop_last().map(|(_, worker)| worker)
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    const MANY: u64 = 3 * SPARE as u64;

    fn busy(count: u64) -> Pool<u64> {
        let mut pool = Pool::new();
        (0..count).for_each(|number| pool.add(number));
        pool
    }

    fn surplus(pool: &mut Pool<u64>) -> Vec<u64> {
        core::iter::from_fn(|| pool.take_surplus()).collect()
    }

    #[ktest]
    fn the_oldest_is_hired_and_the_youngest_ends() {
        let mut pool = busy(MANY);
        (0..MANY).for_each(|number| pool.rest(number, number));
        let ended: Vec<u64> = (SPARE as u64..MANY).rev().collect();
        assert_eq!(surplus(&mut pool), ended);
        assert_eq!((pool.count(), pool.hire(), pool.hire()), (SPARE, Some(0), Some(1)));
        assert_eq!((pool.count(), pool.count_idle(), pool.take_extra()), (SPARE, SPARE - 2, None));
    }

    #[ktest]
    fn none_ends_above_a_busy_one() {
        let mut pool = busy(MANY);
        (0..MANY - 1).for_each(|number| pool.rest(number, number));
        assert_eq!(surplus(&mut pool), []);
        assert_eq!(pool.take_extra(), Some(MANY - 2));
        // Once that ends as well, it and all but the spare ones go.
        pool.rest(MANY - 1, MANY - 1);
        assert_eq!(surplus(&mut pool).len(), MANY as usize - 1 - SPARE);
        assert_eq!(pool.count(), SPARE);
    }

    #[ktest]
    fn a_chain_of_overlapping_threads_needs_two_workers() {
        let mut pool = busy(2);
        let mut last = 1;
        pool.rest(0, 0);
        for _ in 0..100 {
            let next = pool.hire().unwrap();
            pool.rest(last, last);
            assert_eq!(surplus(&mut pool), []);
            last = next;
        }
        assert_eq!(pool.count(), 2);
    }

    #[ktest]
    fn one_that_was_never_started_is_forgotten() {
        let mut pool = busy(1);
        pool.remove(0);
        assert_eq!((pool.count(), pool.hire()), (0, None));
    }
}
