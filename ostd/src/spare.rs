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
use core::{mem, ops::Range};

use ostd::{mm::VmSpace, sync::SpinLock};

use crate::space::NODE_SPAN;

/// The most resident pages of a space that is emptied rather than dropped.
pub(crate) const MOST_PAGES: usize = 512;

/// The most nodes of the lowest level that a spare may have. Every use leaves some, where programs are laid out at random.
const MOST_AREAS: usize = 32;

/// The most spares.
const MOST_SPARES: usize = 8;

static SPARES: SpinLock<Vec<Spare>> = SpinLock::new(Vec::new());

/// An empty page table.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) vm_space: Arc<VmSpace>,
    pub(crate) areas: Areas,
}

/// Where a page table may have nodes of the lowest level.
#[derive(Clone, Debug)]
pub(crate) struct Areas {
    /// Numbers of nodes, in no order.
    nodes: [u32; MOST_AREAS],
    len: usize,
}

impl Areas {
    pub(crate) const fn new() -> Self {
        Self { nodes: [0; MOST_AREAS], len: 0 }
    }

    /// Notes the nodes of `range` (bytes). Returns whether there was room.
    pub(crate) fn add(&mut self, range: &Range<usize>) -> bool {
        let nodes = range.start / NODE_SPAN..range.end.div_ceil(NODE_SPAN);
        nodes.len() <= MOST_AREAS && nodes.into_iter().all(|node| self.add_node(node as u32))
    }

    fn add_node(&mut self, node: u32) -> bool {
        if self.nodes[..self.len].contains(&node) {
            return true;
        }
        let has_room = self.len < MOST_AREAS;
        if has_room {
            self.nodes[self.len] = node;
            self.len += 1;
        }
        has_room
    }
}

/// Takes a spare: the one that was kept last.
pub(crate) fn take() -> Option<Spare> {
    SPARES.lock().pop()
}

/// Keeps an empty page table, if there are not enough of them.
pub(crate) fn keep(spare: Spare) {
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
