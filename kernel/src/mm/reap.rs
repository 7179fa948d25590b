// SPDX-License-Identifier: MPL-2.0

//! Memory of a program that is about to end, given back before it gets there.
//!
//! Nobody must see that it is gone: its threads never return to user mode, and a call that one of them is in finds no memory
//! any more. What is shared stays, others have it too.

use core::ops::Range;

use vmar::vmar::discard::Discard;

use super::layout::TASK_SIZE;
use crate::{mm::AddressSpace, prelude::*};

impl AddressSpace {
    /// Gives back the private memory of a program whose threads all are about to end. From now on nothing can be accessed that is
    /// not in memory.
    pub fn reap(&self) {
        self.is_reaped.store(true, Ordering::Relaxed);
        let mut at = 0;
        while let Some(range) = self.next_private(at) {
            at = range.end;
            // What was unmapped meanwhile is gone already; devices have nothing to give back.
            let _ = self.vmar().discard(range, Discard::NowEvenLocked);
        }
    }

    /// Whether that was done.
    pub fn is_reaped(&self) -> bool {
        self.is_reaped.load(Ordering::Relaxed)
    }

    fn next_private(&self, at: Vaddr) -> Option<Range<Vaddr>> {
        let guard = self.vmar().query(at..TASK_SIZE);
        guard.iter().find(|mapping| !mapping.is_shared()).map(|mapping| mapping.range())
    }
}
