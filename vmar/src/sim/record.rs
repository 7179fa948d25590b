// SPDX-License-Identifier: MPL-2.0

//! Which locks a thread takes, for those who say that two threads have none in common.

#[cfg(not(shuttle))]
use std::thread_local;
use std::{cell::RefCell, collections::BTreeSet};

#[cfg(shuttle)]
use shuttle::thread_local;

/// A lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockId {
    /// A sleeping lock, by its address.
    Sleeping(usize),
    /// A node of a page table.
    Node {
        /// The number of the space.
        space: u64,
        /// The level: 1 is that of nodes whose entries are pages.
        level: u32,
        /// Which node of the level.
        index: usize,
    },
}

#[cfg(not(shuttle))]
thread_local! {
    static TAKEN: RefCell<Option<BTreeSet<LockId>>> = const { RefCell::new(None) };
}

#[cfg(shuttle)]
thread_local! {
    static TAKEN: RefCell<Option<BTreeSet<LockId>>> = RefCell::new(None);
}

/// Records the locks that the current thread takes, until it is [asked](Self::taken) for them.
#[derive(Debug)]
#[must_use = "what is recorded is there to be looked at"]
pub struct Recording(());

/// Starts to record which locks the current thread takes.
pub fn record_locks() -> Recording {
    TAKEN.with(|taken| *taken.borrow_mut() = Some(BTreeSet::new()));
    Recording(())
}

impl Recording {
    /// Ends the recording and returns which locks were taken.
    pub fn taken(self) -> BTreeSet<LockId> {
        TAKEN.with(|taken| taken.borrow_mut().take()).unwrap_or_default()
    }
}

/// Notes that the current thread takes a lock.
pub(super) fn note(lock: LockId) {
    TAKEN.with(|taken| {
        if let Some(taken) = &mut *taken.borrow_mut() {
            taken.insert(lock);
        }
    });
}
