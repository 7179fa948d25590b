// SPDX-License-Identifier: MPL-2.0

//! The rules that a thread must keep while it has a cursor open, checked as they would be broken.

use std::{cell::RefCell, vec::Vec};

std::thread_local! {
    /// The spaces (by id) that this thread has a transaction open on, innermost last.
    static OPEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// A transaction of the current thread; dropped when it is over.
pub(super) struct Transaction {
    space: u64,
}

impl Transaction {
    /// Notes that the thread opens a transaction on `space`.
    ///
    /// # Panics
    ///
    /// Panics if it has one open on the same space.
    pub(super) fn open(space: u64) -> Self {
        OPEN.with_borrow_mut(|open| {
            assert!(
                !open.contains(&space),
                "rule broken: two transactions at once on one space by one thread"
            );
            open.push(space);
        });
        Self { space }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(|open| open.retain(|space| *space != self.space));
    }
}

/// Panics if the current thread has a cursor open; `what` says what it did.
///
/// # Panics
///
/// See above.
pub fn assert_no_cursor(what: &str) {
    assert!(!has_cursor() || std::thread::panicking(), "rule broken: {what} while a cursor is open");
}

/// Returns whether the current thread has a cursor open.
pub(super) fn has_cursor() -> bool {
    OPEN.with_borrow(|open| !open.is_empty())
}
