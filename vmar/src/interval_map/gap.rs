// SPDX-License-Identifier: MPL-2.0

//! The search for a free range.
//!
//! Each node is known to its parent with its widest gap, so a subtree without a wide enough one is passed over. What
//! remains is one walk in address order that stops at the first gap that fits:
//!
//! - a gap of at least `size` that the limits do not cut and whose aligned part is still `size` long ends the search;
//! - the limits can cut a gap short only in the two subtrees of each level that they run through;
//! - alignment can make a gap useless only if the gap is below `size + align - granule`, where `granule` is what all
//!   starts and ends are multiples of. Such a gap is tried, since it may fit, and passed over if it does not.
//!
//! So a search visits at most three nodes a level, and one path more for each gap of the last kind before the place it
//! finds. With `align` equal to the granule (pages, in nearly all searches) there is none, and the bound is O(log n).
//! Whoever looks for a free range is likely to fill it: where it was found in a leaf is kept as the hint where to begin.
//!
//! The worst case is a wide alignment in a space in which many gaps are just a little too badly placed: O(m log n) for
//! `m` of them. The answer is right in any case: the lowest or highest address there is.

use core::ops::Range;

use super::tree::{Position, Tree};

/// What a free range must satisfy.
pub(super) struct Wanted {
    size: usize,
    align: usize,
    limits: Range<usize>,
}

impl Wanted {
    /// Nothing if there cannot be such a range: no size, an alignment that is not a power of two.
    pub(super) fn new(size: usize, align: usize, limits: Range<usize>) -> Option<Self> {
        let fits = limits.end.checked_sub(limits.start).is_some_and(|room| size <= room);
        (size > 0 && align.is_power_of_two() && fits).then_some(Self { size, align, limits })
    }

    /// The lowest fitting address in a gap.
    fn lowest_in(&self, gap: Range<usize>) -> Option<usize> {
        let end = gap.end.min(self.limits.end);
        let addr = gap.start.max(self.limits.start).checked_next_multiple_of(self.align)?;
        (addr <= end && end - addr >= self.size).then_some(addr)
    }

    /// The highest fitting address in a gap.
    fn highest_in(&self, gap: Range<usize>) -> Option<usize> {
        let start = gap.start.max(self.limits.start);
        let addr = gap.end.min(self.limits.end).checked_sub(self.size)? & !(self.align - 1);
        (addr >= start).then_some(addr)
    }
}

impl<const LEAF: usize, const FAN: usize> Tree<LEAF, FAN> {
    pub(super) fn lowest_gap(&self, wanted: &Wanted) -> Option<usize> {
        if self.is_empty() {
            return wanted.lowest_in(0..usize::MAX);
        }
        let before = || wanted.lowest_in(0..self.span.start);
        let inside = || {
            let limits = &wanted.limits;
            let worth =
                self.span.gap >= wanted.size && self.span.start < limits.end && self.span.end > limits.start;
            if worth { self.lowest_below(self.root, self.height, wanted) } else { None }
        };
        let after = || wanted.lowest_in(self.span.end..usize::MAX);
        before().or_else(inside).or_else(after)
    }

    pub(super) fn highest_gap(&self, wanted: &Wanted) -> Option<usize> {
        if self.is_empty() {
            return wanted.highest_in(0..usize::MAX);
        }
        let before = || wanted.highest_in(0..self.span.start);
        let inside = || {
            let limits = &wanted.limits;
            let worth =
                self.span.gap >= wanted.size && self.span.start < limits.end && self.span.end > limits.start;
            if worth { self.highest_below(self.root, self.height, wanted) } else { None }
        };
        let after = || wanted.highest_in(self.span.end..usize::MAX);
        after().or_else(inside).or_else(before)
    }

    /// The lowest address in the gaps below a node that has `height` levels of inner nodes, itself included.
    fn lowest_below(&self, node: u32, height: usize, wanted: &Wanted) -> Option<usize> {
        let limits = &wanted.limits;
        if height == 0 {
            let leaf = self.leaf(node);
            let first = leaf.rank(limits.start).saturating_sub(1);
            for at in first..leaf.len() - 1 {
                let gap = leaf.ends[at]..leaf.starts[at + 1];
                if gap.start >= limits.end {
                    break;
                }
                if gap.len() >= wanted.size
                    && let Some(addr) = wanted.lowest_in(gap)
                {
                    self.expect(Position { leaf: node, at });
                    return Some(addr);
                }
            }
            return None;
        }
        let inner = self.inner(node);
        let first = if inner.starts[1] > limits.start { 0 } else { inner.toward(limits.start) };
        for at in first..inner.len() {
            let child = inner.child_span(at);
            if child.start >= limits.end {
                break;
            }
            if child.gap >= wanted.size
                && child.end > limits.start
                && let Some(addr) = self.lowest_below(inner.children[at], height - 1, wanted)
            {
                return Some(addr);
            }
            if at + 1 < inner.len()
                && inner.starts[at + 1] - child.end >= wanted.size
                && let Some(addr) = wanted.lowest_in(child.end..inner.starts[at + 1])
            {
                return Some(addr);
            }
        }
        None
    }

    /// The highest address in the gaps below a node that has `height` levels of inner nodes, itself included.
    fn highest_below(&self, node: u32, height: usize, wanted: &Wanted) -> Option<usize> {
        let limits = &wanted.limits;
        let last = limits.end - 1;
        if height == 0 {
            let leaf = self.leaf(node);
            for at in (0..leaf.rank(last).min(leaf.len() - 1)).rev() {
                let gap = leaf.ends[at]..leaf.starts[at + 1];
                if gap.end <= limits.start {
                    break;
                }
                if gap.len() >= wanted.size
                    && let Some(addr) = wanted.highest_in(gap)
                {
                    self.expect(Position { leaf: node, at });
                    return Some(addr);
                }
            }
            return None;
        }
        let inner = self.inner(node);
        // Most searches are limited by little more than the highest entry.
        let top = inner.len() - 1;
        let first = if inner.starts[top] <= last { top } else { inner.toward(last) };
        for at in (0..=first).rev() {
            let child = inner.child_span(at);
            if at + 1 < inner.len()
                && inner.starts[at + 1] - child.end >= wanted.size
                && let Some(addr) = wanted.highest_in(child.end..inner.starts[at + 1])
            {
                return Some(addr);
            }
            if child.gap >= wanted.size
                && child.start < limits.end
                && child.end > limits.start
                && let Some(addr) = self.highest_below(inner.children[at], height - 1, wanted)
            {
                return Some(addr);
            }
            if child.start <= limits.start {
                break;
            }
        }
        None
    }
}
