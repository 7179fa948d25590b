// SPDX-License-Identifier: MPL-2.0

//! Changes to the tree: insert, remove, resize.
//!
//! Each change is made in one leaf. Then [`Span`]s are brought up to date from there towards the root, and no further
//! than something changes. Splitting and merging are the rare cases; they compute spans from scratch.

use core::ops::Range;

use super::{
    arena::NIL,
    node::{Inner, Leaf, Node, Span},
    tree::{Path, Step, Tree},
};
use crate::fallible::OutOfMemory;

impl<const LEAF: usize, const FAN: usize> Tree<LEAF, FAN> {
    /// Finds where a range that is not empty would go: fills in the path, which is new, and returns the place in the
    /// leaf, or `None` if the range overlaps an entry.
    #[inline]
    pub(super) fn vacancy(&self, range: &Range<usize>, path: &mut Path) -> Option<usize> {
        if self.is_empty() {
            return Some(0);
        }
        self.find_path(range.start, path);
        let leaf = self.leaf(path.leaf);
        let at = leaf.rank(range.start);
        let low = if at > 0 { leaf.ends[at - 1] } else { path.low };
        let high = if at < leaf.len() { leaf.starts[at] } else { path.high };
        (low <= range.start && range.end <= high).then_some(at)
    }

    /// Makes sure that [`Tree::insert`] finds the nodes it needs at the end of that path.
    #[inline]
    pub(super) fn reserve_at(&mut self, path: &Path) -> Result<(), OutOfMemory> {
        if path.leaf == NIL {
            return self.reserve_nodes(1, 0);
        }
        if self.leaf(path.leaf).len() < LEAF {
            return Ok(());
        }
        let full = path.steps().iter().rev().take_while(|step| self.inner(step.node).len() == FAN).count();
        let new_root = usize::from(full == path.steps().len());
        self.reserve_nodes(1, full + new_root)
    }

    /// Adds an entry at a place found by [`Tree::vacancy`]. There is room, by [`Tree::reserve_at`] or
    /// [`Tree::reserve`].
    #[inline]
    pub(super) fn insert(&mut self, path: &Path, at: usize, range: Range<usize>, slot: u32) {
        self.entries += 1;
        self.total += range.len();
        if path.leaf == NIL {
            self.span = Span { start: range.start, end: range.end, gap: 0 };
            self.root = self.new_leaf();
            let root = self.root;
            self.leaf_mut(root).insert(0, range, slot, 0);
            return;
        }
        let leaf = self.leaf_mut(path.leaf);
        if leaf.len() == LEAF {
            return self.insert_splitting(path, at, range, slot);
        }
        let old = leaf.span_with(path.gap);
        let gap = leaf.insert(at, range, slot, path.gap);
        let new = leaf.span_with(gap);
        if new != old {
            self.propagate(path.steps(), new);
        }
    }

    /// Splits a full leaf and whichever nodes above it are full too.
    #[cold]
    fn insert_splitting(&mut self, path: &Path, at: usize, range: Range<usize>, slot: u32) {
        let mut right = self.new_leaf();
        let mut left = path.leaf;
        let next = self.leaf(left).next;
        if next != NIL {
            self.leaf_mut(next).prev = right;
        }
        let (one, two) = self.leaf_pair(left, right);
        (two.prev, two.next, one.next) = (left, next, right);
        let keep = <Leaf<LEAF> as Node>::split_at(at);
        Leaf::share(one, two, keep);
        if at <= keep {
            one.insert(at, range, slot, 0);
        } else {
            two.insert(at - keep, range, slot, 0);
        }
        let (mut left_span, mut right_span) = (one.span(), two.span());

        for (above, step) in path.steps().iter().enumerate().rev() {
            let at = step.at() + 1;
            let inner = self.inner_mut(step.node);
            inner.set(step.at(), left_span);
            if inner.len() < FAN {
                inner.insert(at, right, right_span);
                let span = inner.span();
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
            (left_span, right_span) = (one.span(), two.span());
        }

        self.height += 1;
        self.root = self.new_inner(self.height);
        let root = self.root;
        let inner = self.inner_mut(root);
        inner.insert(0, left, left_span);
        inner.insert(1, right, right_span);
        self.span = inner.span();
    }

    /// Takes out the entry that starts at `start` and returns its range and slot.
    #[inline]
    pub(super) fn remove(&mut self, start: usize) -> Option<(Range<usize>, u32)> {
        let mut path = Path::new();
        let at = self.find_entry(start, &mut path)?;
        let leaf = self.leaf_mut(path.leaf);
        let range = leaf.range(at);
        let old = leaf.span_with(path.gap);
        let (slot, gap) = leaf.remove(at, path.gap);
        let len = leaf.len();
        if len >= <Leaf<LEAF> as Node>::MIN || (path.steps().is_empty() && len > 0) {
            let new = leaf.span_with(gap);
            if new != old {
                self.propagate(path.steps(), new);
            }
        } else if path.steps().is_empty() {
            self.discard(0, path.leaf);
            self.root = NIL;
        } else {
            self.refill(path.steps());
        }
        self.entries -= 1;
        self.total -= range.len();
        Some((range, slot))
    }

    /// Sees to it that the leaf at the end of `steps`, and then each node above it, has as many items as it must.
    #[cold]
    fn refill(&mut self, steps: &[Step]) {
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
                let span = self.inner(child).span();
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
                let span = parent.span();
                return self.propagate(&steps[..above], span);
            }
            parent.remove(left_at + 1);
            self.discard(level, right);
        }

        let root = self.inner(self.root);
        let (span, children, only) = (root.span(), root.len(), root.children[0]);
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
        let mut path = Path::new();
        let at = self.find_entry(start, &mut path).ok_or(Misfit::NoEntry)?;
        let leaf = self.leaf_mut(path.leaf);
        let low = if at > 0 { leaf.ends[at - 1] } else { path.low };
        let high = if at + 1 < leaf.len() { leaf.starts[at + 1] } else { path.high };
        if range.start < low || high < range.end {
            return Err(Misfit::Overlaps);
        }
        let (old_size, new_size) = (leaf.range(at).len(), range.len());
        let gap = leaf.resize(at, range, path.gap);
        let span = leaf.span_with(gap);
        self.total = self.total - old_size + new_size;
        self.propagate(path.steps(), span);
        Ok(())
    }

    /// Finds the entry that starts at `start`: fills in the path, which is new, and returns the place in the leaf.
    #[inline]
    fn find_entry(&self, start: usize, path: &mut Path) -> Option<usize> {
        if self.is_empty() || start == usize::MAX {
            return None;
        }
        self.find_path(start, path);
        let leaf = self.leaf(path.leaf);
        let at = leaf.rank(start).checked_sub(1)?;
        (leaf.starts[at] == start).then_some(at)
    }

    /// Tells the nodes above what has become of the one that the last step leads to.
    fn propagate(&mut self, mut steps: &[Step], mut span: Span) {
        while let Some((step, above)) = steps.split_last() {
            if self.inner(step.node).child_span(step.at()) == span {
                return;
            }
            let gap = match above.last() {
                Some(step) => self.inner(step.node).gaps[step.at()],
                None => self.span.gap,
            };
            span = self.inner_mut(step.node).update(step.at(), span, gap);
            steps = above;
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
        return (left.span(), None);
    }
    N::share(left, right, total / 2);
    (left.span(), Some(right.span()))
}
