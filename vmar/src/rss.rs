// SPDX-License-Identifier: MPL-2.0

//! The resident set: how many pages of each kind a space has in its page table.
//!
//! Counted per CPU and summed on demand. An operation collects its changes in an [`RssDelta`] and they are added in one
//! go when that is dropped, whichever way the operation ends.

use crate::{
    error::OutOfMemory,
    machine::{Counter, Machine},
    object::VmoKind,
};

/// A kind of resident page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RssKind {
    /// Pages of files.
    File,
    /// Anonymous pages and private copies.
    Anonymous,
    /// Pages of shared memory.
    SharedMemory,
}

impl RssKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::File, Self::Anonymous, Self::SharedMemory];
}

impl From<VmoKind> for RssKind {
    fn from(kind: VmoKind) -> Self {
        match kind {
            VmoKind::File => Self::File,
            VmoKind::SharedMemory => Self::SharedMemory,
        }
    }
}

/// How many pages are resident, by kind.
pub struct Rss<M: Machine> {
    counters: [M::Counter; 3],
}

impl<M: Machine> Rss<M> {
    /// Makes counters that stand at zero.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub fn new(machine: &M) -> Result<Self, OutOfMemory> {
        Ok(Self { counters: [machine.new_counter()?, machine.new_counter()?, machine.new_counter()?] })
    }

    /// Returns the number of resident pages of a kind: exact when the space is quiet, close to it otherwise.
    pub fn pages(&self, kind: RssKind) -> usize {
        self.counters[kind as usize].sum().max(0) as usize
    }

    /// Returns the number of resident pages of all kinds.
    pub fn total_pages(&self) -> usize {
        RssKind::ALL.iter().map(|&kind| self.pages(kind)).sum()
    }

    /// Adds `pages` more (or, negative, fewer) pages of a kind; `None` is what is not counted.
    pub fn add(&self, kind: Option<RssKind>, pages: isize) {
        if let Some(kind) = kind {
            self.counters[kind as usize].add(pages);
        }
    }

    /// Sets all counts to zero, while nobody else changes them.
    pub(crate) fn clear(&self) {
        self.counters.iter().for_each(|counter| counter.add(-counter.sum()));
    }

    /// Starts to collect changes.
    pub fn delta(&self) -> RssDelta<'_, M> {
        RssDelta { rss: self, changes: [0; 3] }
    }
}

/// Changes to a resident set, added to it when dropped.
#[must_use = "the changes are added when this is dropped"]
pub struct RssDelta<'a, M: Machine> {
    rss: &'a Rss<M>,
    changes: [isize; 3],
}

impl<M: Machine> RssDelta<'_, M> {
    /// Notes `pages` more (or, negative, fewer) pages of a kind; `None` is what is not counted.
    pub fn add(&mut self, kind: Option<RssKind>, pages: isize) {
        if let Some(kind) = kind {
            self.changes[kind as usize] += pages;
        }
    }
}

impl<M: Machine> Drop for RssDelta<'_, M> {
    fn drop(&mut self) {
        for (counter, &change) in self.rss.counters.iter().zip(&self.changes) {
            if change != 0 {
                counter.add(change);
            }
        }
    }
}
