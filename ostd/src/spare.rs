// SPDX-License-Identifier: MPL-2.0

//! Page tables that nobody uses, kept with their nodes.
//!
//! To make a page table for a small program takes a dozen nodes, each allocated and cleared; to drop it, OSTD looks at all
//! entries of each. A program that has just ended most often makes room for one that is laid out the same way. So its page
//! table is emptied and kept:
//!
//! ```text
//!   program ends ──retire──► emptied, its nodes stay ──► spares ──new_space──► the next program
//!                               │ large, too many nodes,    │ memory is low
//!                               ▼ devices, enough spares    ▼
//!                             dropped                     dropped
//! ```
//!
//! Invariant: no spare maps anything, and no TLB holds anything of it.

use alloc::{sync::Arc, vec::Vec};
use core::mem;

use ostd::sync::SpinLock;

use crate::table::Table;

/// The most resident pages of a space that is emptied rather than dropped.
pub(crate) const MOST_PAGES: usize = 512;

/// The most areas with nodes that a spare may have. Every use leaves some, where programs are laid out at random.
pub(crate) const MOST_AREAS: usize = 32;

/// The most spares.
const MOST_SPARES: usize = 8;

static SPARES: SpinLock<Vec<Arc<Table>>> = SpinLock::new(Vec::new());

/// Takes a spare: the one that was kept last.
pub(crate) fn take() -> Option<Arc<Table>> {
    SPARES.lock().pop()
}

/// Keeps an empty page table, if there are not enough of them.
pub(crate) fn keep(spare: Arc<Table>) {
    let mut spares = SPARES.lock();
    if spares.len() < MOST_SPARES && spares.try_reserve(1).is_ok() {
        spares.push(spare);
    }
}

/// Drops all spares, for the sake of their memory.
pub(crate) fn drop_all() {
    let spares = mem::take(&mut *SPARES.lock());
    drop(spares);
}
