// SPDX-License-Identifier: MPL-2.0

//! Changes to the tree: insert, remove, resize.
//!
//! Each change is made in one leaf. Then [`Span`]s are brought up to date from there towards the root, and no further
//! than something changes: the way down is looked for only if the leaf's own has. Splitting and merging are the rare cases; they compute spans from scratch.

use core::ops::Range;

use super::{
    arena::NIL,
    node::{Inner, Leaf, Node, Span},
    tree::{Position, Step, Tree},
};
use crate::fallible::OutOfMemory;

impl<const LEAF: usize, const FAN: usize> Tree<LEAF, FAN> {
    /// Finds where a range that is not empty would go; `None` if it overlaps an entry. The leaf is `NIL` if the tree is
    /// empty.
    #[inline(always)]
    pub(super) fn vacancy(&self, range: &Range<usize>) -> Option<Position> {
        let Some((below, leaf)) = self.at_or_below(range.start) else {
            let Some(first) = self.first() else { return Some(Position { leaf: NIL, at: 0 }) };
            return (range.end <= self.span.start).then_some(first);
        };
        let high = match leaf.starts.get(below.at + 1) {
            Some(high) if below.at + 1 < leaf.len() => *high,
            _ => self.start_after(below),
        };
        let fits = leaf.ends[below.at] <= range.start && range.end <= high;
        fits.then_some(Position { at: below.at + 1, ..below })
    }

    /// Makes sure that [`Tree::insert`] finds the nodes it needs for an entry that starts at `start`, at that place.
    #[inline(always)]
    pub(super) fn reserve_at(&mut self, at: Position, start: usize) -> Result<(), OutOfMemory> {
        if at.leaf != NIL && self.leaf(at.leaf).len() < LEAF {
            return Ok(());
        }
        self.reserve_split(at, start)
    }

    #[cold]
    fn reserve_split(&mut self, at: Position, start: usize) -> Result<(), OutOfMemory> {
        if at.leaf == NIL {
            return self.reserve_nodes(1, 0);
        }
        let path = self.path(at.leaf, start);
        let full = path.steps().iter().rev().take_while(|step| self.inner(step.node).len() == FAN).count();
        let new_root = usize::from(full == path.steps().len());
        self.reserve_nodes(1, full + new_root)
    }

    /// Adds an entry at a place found by [`Tree::vacancy`]. There is room, by [`Tree::reserve_at`] or
    /// [`Tree::reserve`].
    #[inline]
    pub(super) fn insert(&mut self, at: Position, range: Range<usize>, slot: u32) {
        self.entries += 1;
        self.total += range.len();
        if at.leaf == NIL {
            return self.insert_first(range, slot);
        }
        let leaf = self.leaf_mut(at.leaf);
        if leaf.len() == LEAF {
            return self.insert_splitting(at, range, slot);
        }
        let start = range.start;
        let changed = leaf.insert(at.at, range, slot);
        self.expect(at);
        if changed {
            self.tell(at.leaf, start);
        }
    }

    #[cold]
    fn insert_first(&mut self, range: Range<usize>, slot: u32) {
        self.root = self.new_leaf();
        let root = self.root;
        let leaf = self.leaf_mut(root);
        leaf.insert(0, range, slot);
        self.span = leaf.span();
    }

    /// Splits a full leaf and whichever nodes above it are full too.
    #[cold]
    fn insert_splitting(&mut self, at: Position, range: Range<usize>, slot: u32) {
        let path = self.path(at.leaf, range.start);
        let mut right = self.new_leaf();
        let Position { leaf: mut left, at } = at;
        let next = self.leaf(left).next;
        if next != NIL {
            self.leaf_mut(next).prev = right;
        }
        let (one, two) = self.leaf_pair(left, right);
        (two.prev, two.next, one.next) = (left, next, right);
        let keep = <Leaf<LEAF> as Node>::split_at(at);
        Leaf::share(one, two, keep);
        if at <= keep {
            one.insert(at, range, slot);
        } else {
            two.insert(at - keep, range, slot);
        }
        let (mut left_span, mut right_span) = (one.measure(), two.measure());

        for (above, step) in path.steps().iter().enumerate().rev() {
            let at = step.at() + 1;
            let inner = self.inner_mut(step.node);
            inner.set(step.at(), left_span);
            if inner.len() < FAN {
                inner.insert(at, right, right_span);
                let span = inner.measure();
                return self.propagate(&path.steps()[..above], span);
            }
            let (child, child_span) = (right, right_span);
            left = step.node;
            right = self.new_inner(self.height - above);
            let (one, two) = self.inner_pair(left, right);
            let keep = <Inner<FAN> as Node>::split_at(at);
            Inner::share(one, two, keep);
            if at <= keep {
                one.insert(at, child, child_span);
            } else {
                two.insert(at - keep, child, child_span);
            }
            (left_span, right_span) = (one.measure(), two.measure());
        }

        self.height += 1;
        self.root = self.new_inner(self.height);
        let root = self.root;
        let inner = self.inner_mut(root);
        inner.insert(0, left, left_span);
        inner.insert(1, right, right_span);
        self.span = inner.measure();
    }

    /// Takes out an entry and returns its range and slot.
    #[inline]
    pub(super) fn remove(&mut self, entry: Position) -> (Range<usize>, u32) {
        let has_above = self.height > 0;
        let leaf = self.leaf_mut(entry.leaf);
        let range = leaf.range(entry.at);
        let (slot, changed) = leaf.remove(entry.at);
        let len = leaf.len();
        self.expect(Position { at: entry.at.saturating_sub(1), ..entry });
        if len < if has_above { <Leaf<LEAF> as Node>::MIN } else { 1 } {
            self.refill(entry.leaf, range.start);
        } else if changed {
            self.tell(entry.leaf, range.start);
        }
        self.entries -= 1;
        self.total -= range.len();
        (range, slot)
    }

    /// Sees to it that a leaf which has too few entries since that at `start` went, and then each node above it, has as
    /// many items as it must.
    #[cold]
    fn refill(&mut self, leaf: u32, start: usize) {
        if self.height == 0 {
            self.discard(0, leaf);
            self.root = NIL;
            return;
        }
        let path = self.path(leaf, start);
        let steps = path.steps();
        for (above, step) in steps.iter().enumerate().rev() {
            let level = self.height - above - 1;
            let parent = self.inner(step.node);
            let children = parent.len();
            let child = parent.children[step.at()];
            let (len, min) = match level {
                0 => (self.leaf(child).len(), <Leaf<LEAF> as Node>::MIN),
                _ => (self.inner(child).len(), <Inner<FAN> as Node>::MIN),
            };
            if len >= min {
                let span = self.inner_mut(child).measure();
                return self.propagate(&steps[..=above], span);
            }
            let left_at = if step.at() + 1 < children { step.at() } else { step.at() - 1 };
            let parent = self.inner(step.node);
            let (left, right) = (parent.children[left_at], parent.children[left_at + 1]);
            let (left_span, right_span) =
                if level == 0 { self.join_leaves(left, right) } else { self.join_inners(left, right) };
            let parent = self.inner_mut(step.node);
            parent.set(left_at, left_span);
            if let Some(right_span) = right_span {
                parent.set(left_at + 1, right_span);
                let span = parent.measure();
                return self.propagate(&steps[..above], span);
            }
            parent.remove(left_at + 1);
            self.discard(level, right);
        }

        let root = self.inner_mut(self.root);
        let (span, children, only) = (root.measure(), root.len(), root.children[0]);
        self.span = span;
        if children == 1 {
            self.discard(self.height, self.root);
            self.root = only;
            self.height -= 1;
        }
    }

    /// Merges two leaves, or evens them out if that would be too much for one. The right one has a span only if it is
    /// still in use.
    fn join_leaves(&mut self, left: u32, right: u32) -> (Span, Option<Span>) {
        let (one, two) = self.leaf_pair(left, right);
        let spans = join(one, two);
        if spans.1.is_none() {
            let next = two.next;
            one.next = next;
            if next != NIL {
                self.leaf_mut(next).prev = left;
            }
        }
        spans
    }

    /// The same for two inner nodes.
    fn join_inners(&mut self, left: u32, right: u32) -> (Span, Option<Span>) {
        let (one, two) = self.inner_pair(left, right);
        join(one, two)
    }

    /// Gives the entry at `start` another range that is not empty, if it fits between its neighbours.
    pub(super) fn resize(&mut self, start: usize, range: Range<usize>) -> Result<(), Misfit> {
        let (entry, _) = self.starting_at(start).ok_or(Misfit::NoEntry)?;
        if range.start < self.end_before(entry) || self.start_after(entry) < range.end {
            return Err(Misfit::Overlaps);
        }
        self.total = self.total - self.range(entry).len() + range.len();
        if self.leaf_mut(entry.leaf).resize(entry.at, range) {
            self.tell(entry.leaf, start);
        }
        Ok(())
    }

    /// The end of the entry before one, or 0.
    #[inline]
    fn end_before(&self, entry: Position) -> usize {
        self.before(entry).map_or(0, |before| self.leaf(before.leaf).ends[before.at])
    }

    /// The start of the entry after one, or `usize::MAX`.
    #[inline]
    fn start_after(&self, entry: Position) -> usize {
        self.after(entry).map_or(usize::MAX, |after| self.leaf(after.leaf).starts[after.at])
    }

    /// Tells the nodes above a leaf what has become of it. They still know it as the one that `addr` is in.
    fn tell(&mut self, leaf: u32, addr: usize) {
        let span = self.leaf(leaf).span();
        if self.height == 0 {
            self.span = span;
        } else {
            let path = self.path(leaf, addr);
            self.propagate(path.steps(), span);
        }
    }

    /// Tells the nodes above what has become of the one that the last step leads to.
    fn propagate(&mut self, steps: &[Step], mut span: Span) {
        for step in steps.iter().rev() {
            let inner = self.inner_mut(step.node);
            if inner.child_span(step.at()) == span {
                return;
            }
            span = inner.update(step.at(), span);
        }
        self.span = span;
    }
}

/// Why an entry cannot have another range.
pub(super) enum Misfit {
    NoEntry,
    Overlaps,
}

fn join<N: Node>(left: &mut N, right: &mut N) -> (Span, Option<Span>) {
    let total = left.len() + right.len();
    if total <= N::MERGE {
        N::share(left, right, total);
        return (left.measure(), None);
    }
    N::share(left, right, total / 2);
    (left.measure(), Some(right.measure()))
}
