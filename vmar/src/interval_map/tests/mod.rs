// SPDX-License-Identifier: MPL-2.0

//! Tests of the interval map: against a naive model, in all small cases, with each allocation failing, and by the
//! number of nodes visited.
//!
//! Most of them run with the smallest nodes, so that a few hundred entries already make a deep tree, and then with the
//! sizes in use.

mod memory;
mod model;
mod small;
mod visits;

use alloc::vec::Vec;
use core::{fmt::Debug, ops::Range};

use super::{
    IntervalMap,
    arena::NIL,
    node::{Inner, Leaf, Node, Span},
    tree::LEVELS,
};

/// How many of `count` steps a test takes: far fewer under Miri, which takes a thousand times as long for each.
const fn scaled(count: usize) -> usize {
    if cfg!(miri) { count / 40 } else { count }
}

/// The smallest nodes there can be.
type Deep<V> = IntervalMap<V, 8, 16>;

/// The same entries in a sorted vector, searched from end to end.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive<V>(Vec<(Range<usize>, V)>);

impl<V: Clone> Naive<V> {
    fn overlapping(&self, range: &Range<usize>) -> Vec<(Range<usize>, V)> {
        let overlaps = |entry: &Range<usize>| entry.start < range.end && range.start < entry.end;
        self.0.iter().filter(|(entry, _)| !range.is_empty() && overlaps(entry)).cloned().collect()
    }

    fn insert(&mut self, range: Range<usize>, value: V) -> bool {
        if range.is_empty() || !self.overlapping(&range).is_empty() {
            return false;
        }
        let at = self.0.partition_point(|(entry, _)| entry.start < range.start);
        self.0.insert(at, (range, value));
        true
    }

    fn remove(&mut self, start: usize) -> Option<(Range<usize>, V)> {
        let at = self.0.iter().position(|(entry, _)| entry.start == start)?;
        Some(self.0.remove(at))
    }

    fn set_range(&mut self, start: usize, range: Range<usize>) -> bool {
        let Some(at) = self.0.iter().position(|(entry, _)| entry.start == start) else {
            return false;
        };
        let low = if at > 0 { self.0[at - 1].0.end } else { 0 };
        let high = self.0.get(at + 1).map_or(usize::MAX, |(next, _)| next.start);
        let fits = !range.is_empty() && low <= range.start && range.end <= high;
        if fits {
            self.0[at].0 = range;
        }
        fits
    }

    /// All gaps, cut to the limits.
    fn gaps(&self, limits: Range<usize>) -> Vec<Range<usize>> {
        let starts = self.0.iter().map(|(entry, _)| entry.start).chain([usize::MAX]);
        let ends = [0].into_iter().chain(self.0.iter().map(|(entry, _)| entry.end));
        ends.zip(starts).map(|(end, start)| end.max(limits.start)..start.min(limits.end)).collect()
    }

    fn lowest_gap(&self, size: usize, align: usize, limits: Range<usize>) -> Option<usize> {
        let fit = |gap: Range<usize>| {
            let addr = gap.start.checked_next_multiple_of(align)?;
            (addr.checked_add(size)? <= gap.end).then_some(addr)
        };
        if size == 0 { None } else { self.gaps(limits).into_iter().find_map(fit) }
    }

    fn highest_gap(&self, size: usize, align: usize, limits: Range<usize>) -> Option<usize> {
        let fit = |gap: Range<usize>| {
            let addr = gap.end.checked_sub(size)? / align * align;
            (addr >= gap.start).then_some(addr)
        };
        if size == 0 { None } else { self.gaps(limits).into_iter().rev().find_map(fit) }
    }
}

impl<V: Clone + PartialEq + Debug, const LEAF: usize, const FAN: usize> IntervalMap<V, LEAF, FAN> {
    fn entries(&self) -> Vec<(Range<usize>, V)> {
        self.iter().map(|(range, value)| (range, value.clone())).collect()
    }

    /// Checks every invariant of the structure.
    fn check(&self) {
        let tree = &self.tree;
        let mut counts = [0; LEVELS];
        let mut leaves = Vec::new();
        if tree.root == NIL {
            assert_eq!((tree.entries, tree.total, tree.height), (0, 0, 0));
        } else {
            assert_eq!(self.check_node(tree.root, tree.height, true, &mut counts, &mut leaves), tree.span);
        }
        assert_eq!(counts, tree.counts);
        assert_eq!(tree.nodes().0, counts[0] as usize);
        assert_eq!(tree.nodes().1, counts[1..].iter().sum::<u32>() as usize);

        for (at, leaf) in leaves.iter().enumerate() {
            let prev = at.checked_sub(1).map_or(NIL, |before| leaves[before]);
            let next = leaves.get(at + 1).copied().unwrap_or(NIL);
            assert_eq!((tree.leaf(*leaf).prev, tree.leaf(*leaf).next), (prev, next));
        }
        let entries = self.entries();
        assert!(entries.iter().all(|(range, _)| !range.is_empty()));
        assert!(entries.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start));
        assert_eq!(tree.entries, entries.len());
        assert_eq!(self.values.len(), entries.len());
        assert_eq!(tree.total, entries.iter().map(|(range, _)| range.len()).sum::<usize>());
    }

    fn check_node(
        &self,
        node: u32,
        height: usize,
        is_root: bool,
        counts: &mut [u32; LEVELS],
        leaves: &mut Vec<u32>,
    ) -> Span {
        counts[height] += 1;
        let tree = &self.tree;
        if height == 0 {
            leaves.push(node);
            let leaf = tree.leaf(node);
            assert!(leaf.len() >= if is_root { 1 } else { <Leaf<LEAF> as Node>::MIN });
            assert!(leaf.starts[leaf.len()..].iter().all(|start| *start == usize::MAX));
            assert_eq!(leaf.span().gap, leaf.widest(usize::MAX));
            return leaf.span();
        }
        let inner = tree.inner(node);
        assert!(inner.len() >= if is_root { 2 } else { <Inner<FAN> as Node>::MIN });
        assert!(inner.starts[inner.len()..].iter().all(|start| *start == usize::MAX));
        for at in 0..inner.len() {
            let span = self.check_node(inner.children[at], height - 1, false, counts, leaves);
            assert_eq!(inner.child_span(at), span);
        }
        assert_eq!(inner.span().gap, inner.widest(usize::MAX));
        inner.span()
    }
}
