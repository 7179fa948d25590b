// SPDX-License-Identifier: MPL-2.0

//! Between which addresses a mapping may have entries in the page table.

use core::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What the page table may hold for a mapping: an upper bound.
///
/// It spares operations the page table where nothing was ever resident. Faults, which hold the mappings' lock for
/// reading, only widen it; what shrinks it holds the lock for writing. The lock also orders the accesses.
#[derive(Debug)]
pub(super) struct Residency {
    /// No entry lies below this address.
    low: AtomicUsize,
    /// No entry lies at or above this address.
    pub(super) high: AtomicUsize,
}

impl Residency {
    pub(super) const fn none() -> Self {
        Self { low: AtomicUsize::new(usize::MAX), high: AtomicUsize::new(0) }
    }

    pub(super) fn note(&self, range: &Range<usize>) {
        if range.start < self.low.load(Relaxed) {
            self.low.fetch_min(range.start, Relaxed);
        }
        if range.end > self.high.load(Relaxed) {
            self.high.fetch_max(range.end, Relaxed);
        }
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.low.load(Relaxed)..self.high.load(Relaxed)
    }

    /// Returns the same for the part at or above `at`, and forgets that part.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let Range { start, end } = self.span();
        let upper = Self { low: AtomicUsize::new(start.max(at)), high: AtomicUsize::new(end) };
        self.cut_back(at);
        upper
    }

    pub(super) fn cut_back(&mut self, at: usize) {
        let high = self.high.get_mut();
        *high = (*high).min(at);
    }
}

/// What was noted of a mapping's entries, to be kept when the mapping itself goes: small beside it.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(super) span: Range<usize>,
    pub(super) mixed: bool,
}
