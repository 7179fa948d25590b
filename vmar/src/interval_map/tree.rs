// SPDX-License-Identifier: MPL-2.0

//! The tree itself: from ranges to the numbers of their values.
//!
//! All leaves are at the same depth and are linked in address order. A node other than the root is at least a quarter
//! full, so with `n` entries the path from the root to a leaf has at most `2 + log(n / 32) / log(8)` nodes at the sizes
//! in use.
//!
//! This file finds things; `edit` changes the tree, `gap` looks for free ranges.

use core::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{
    arena::{Arena, NIL},
    node::{Inner, Leaf, Node, Span},
};
use crate::fallible::OutOfMemory;

/// How many levels a tree can have, leaves included: `u32::MAX` entries in nodes of the smallest size, each as empty as
/// it may be, need no more.
pub(super) const LEVELS: usize = 17;

const LEAF_CHUNK: u32 = 4;
const INNER_CHUNK: u32 = 3;

pub(super) struct Tree<const LEAF: usize, const FAN: usize> {
    leaves: Arena<Leaf<LEAF>, LEAF_CHUNK>,
    inners: Arena<Inner<FAN>, INNER_CHUNK>,
    /// An inner node if `height` is above 0, else a leaf, or `NIL` if the tree is empty.
    pub(super) root: u32,
    /// How many levels of inner nodes there are.
    pub(super) height: usize,
    /// What is known of the root, if there is one.
    pub(super) span: Span,
    pub(super) entries: usize,
    /// The sum of the sizes of all entries.
    pub(super) total: usize,
    /// How many nodes each level has, leaves first.
    pub(super) counts: [u32; LEVELS],
    /// Where something was found last, or next to what something changed: a hint that is checked before it is believed,
    /// so that it need not be right. The leaf is one in use, or `NIL`.
    last: AtomicUsize,
    /// Which child was taken in each inner node when something was searched for last, packed: a hint like that.
    way: AtomicUsize,
    #[cfg(test)]
    visits: AtomicUsize,
}

/// One step down: which child was taken in which inner node.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) node: u32,
    at: u32,
}

impl Step {
    #[inline]
    pub(super) fn at(self) -> usize {
        self.at as usize
    }
}

/// The way from the root to a leaf.
pub(super) struct Path {
    steps: [Step; LEVELS - 1],
    height: usize,
}

impl Path {
    /// The steps, root first.
    #[inline]
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps[..self.height]
    }
}

/// The place of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) leaf: u32,
    pub(super) at: usize,
}

/// No position, packed: its leaf is `NIL`.
const NOWHERE: usize = usize::MAX;

/// How many bits of a packed position say where in its leaf it is.
const AT_BITS: u32 = 8;

/// How many bits of a packed way each step takes. There is room for eight: in a tree of more levels, the like of which no
/// memory holds, the hint is just never right.
const STEP_BITS: u32 = 8;

impl Position {
    /// Returns the position as one number.
    #[inline]
    fn pack(self) -> usize {
        (self.leaf as usize) << AT_BITS | self.at
    }

    /// Returns the position that was packed.
    #[inline]
    fn unpack(packed: usize) -> Self {
        Self { leaf: (packed >> AT_BITS) as u32, at: packed & ((1 << AT_BITS) - 1) }
    }
}

impl<const LEAF: usize, const FAN: usize> Tree<LEAF, FAN> {
    pub(super) const fn new() -> Self {
        const { assert!(LEAF < 1 << AT_BITS && FAN <= 1 << STEP_BITS) };
        Self {
            leaves: Arena::new(),
            inners: Arena::new(),
            root: NIL,
            height: 0,
            span: Span { start: 0, end: 0, gap: 0 },
            entries: 0,
            total: 0,
            counts: [0; LEVELS],
            last: AtomicUsize::new(NOWHERE),
            way: AtomicUsize::new(0),
            #[cfg(test)]
            visits: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// The last entry that starts at `addr` or below, and its leaf. To ask for it again, or for its neighbour below, takes no search.
    #[inline]
    pub(super) fn at_or_below(&self, addr: usize) -> Option<(Position, &Leaf<LEAF>)> {
        self.hinted(addr).or_else(|| self.search(addr))
    }

    /// The same if it is what the hint says, or right below that.
    #[inline]
    fn hinted(&self, addr: usize) -> Option<(Position, &Leaf<LEAF>)> {
        let (Position { leaf: number, at }, leaf) = self.hint()?;
        if leaf.starts[at] > addr {
            let below = at.checked_sub(1)?;
            let is_it = leaf.starts[below] <= addr && at < leaf.len();
            return is_it.then_some((Position { leaf: number, at: below }, leaf));
        }
        let is_it = addr < leaf.ends[at] || (at + 1 < leaf.len() && addr < leaf.starts[at + 1]);
        is_it.then_some((Position { leaf: number, at }, leaf))
    }

    /// The hint, and its leaf.
    #[inline]
    fn hint(&self) -> Option<(Position, &Leaf<LEAF>)> {
        let hint = Position::unpack(self.last.load(Relaxed));
        let leaf = self.leaves.try_get(hint.leaf)?;
        self.visit();
        Some((hint, leaf))
    }

    /// The last entry that starts at `addr` or below, and its leaf, from the root on.
    fn search(&self, addr: usize) -> Option<(Position, &Leaf<LEAF>)> {
        self.search_here(addr)
    }

    /// The same, for the place where it is asked most often.
    #[inline]
    fn search_here(&self, addr: usize) -> Option<(Position, &Leaf<LEAF>)> {
        if self.is_empty() {
            return None;
        }
        let addr = addr.min(usize::MAX - 1);
        let number = self.leaf_toward(addr);
        let leaf = self.leaf(number);
        let found = Position { leaf: number, at: leaf.rank(addr).checked_sub(1)? };
        self.expect(found);
        Some((found, leaf))
    }

    /// Lets the next question be answered from a place.
    #[inline]
    pub(super) fn expect(&self, entry: Position) {
        self.last.store(entry.pack(), Relaxed);
    }

    /// The entry that starts at `start`, and its leaf.
    #[inline]
    pub(super) fn starting_at(&self, start: usize) -> Option<(Position, &Leaf<LEAF>)> {
        match self.hint() {
            Some((hint, leaf)) if leaf.starts[hint.at] == start && start != usize::MAX => Some((hint, leaf)),
            _ => self.search(start).filter(|(entry, leaf)| leaf.starts[entry.at] == start),
        }
    }

    /// The entry that `addr` lies in, and its leaf. Of all questions the most frequent: each fault asks it.
    #[inline]
    pub(super) fn containing(&self, addr: usize) -> Option<(Position, &Leaf<LEAF>)> {
        match self.hint() {
            Some((hint, leaf)) if leaf.range(hint.at).contains(&addr) => Some((hint, leaf)),
            _ => self.search_here(addr).filter(|(entry, leaf)| leaf.ends[entry.at] > addr),
        }
    }

    /// The first entry that starts at `addr` or above.
    pub(super) fn at_or_above(&self, addr: usize) -> Option<Position> {
        match addr.checked_sub(1).and_then(|below| self.at_or_below(below)) {
            Some((before, _)) => self.after(before),
            None => self.first(),
        }
    }

    /// The last entry that ends at `addr` or below.
    pub(super) fn ending_by(&self, addr: usize) -> Option<Position> {
        let (entry, leaf) = self.at_or_below(addr.checked_sub(1)?)?;
        if leaf.ends[entry.at] <= addr { Some(entry) } else { self.before(entry) }
    }

    /// The first entry that ends above `addr`.
    pub(super) fn ending_above(&self, addr: usize) -> Option<Position> {
        match self.at_or_below(addr) {
            Some((entry, leaf)) if leaf.ends[entry.at] > addr => Some(entry),
            Some((entry, _)) => self.after(entry),
            None => self.first(),
        }
    }

    pub(super) fn first(&self) -> Option<Position> {
        (!self.is_empty()).then(|| Position { leaf: self.leaf_toward(0), at: 0 })
    }

    pub(super) fn last(&self) -> Option<Position> {
        self.at_or_below(usize::MAX).map(|(entry, _)| entry)
    }

    #[inline]
    pub(super) fn after(&self, entry: Position) -> Option<Position> {
        let leaf = self.leaf(entry.leaf);
        if entry.at + 1 < leaf.len() {
            Some(Position { leaf: entry.leaf, at: entry.at + 1 })
        } else {
            (leaf.next != NIL).then_some(Position { leaf: leaf.next, at: 0 })
        }
    }

    #[inline]
    pub(super) fn before(&self, entry: Position) -> Option<Position> {
        if entry.at > 0 {
            return Some(Position { leaf: entry.leaf, at: entry.at - 1 });
        }
        let prev = self.leaf(entry.leaf).prev;
        (prev != NIL).then(|| Position { leaf: prev, at: self.leaf(prev).len() - 1 })
    }

    #[inline]
    pub(super) fn range(&self, entry: Position) -> Range<usize> {
        self.leaf(entry.leaf).range(entry.at)
    }

    #[inline]
    pub(super) fn slot(&self, entry: Position) -> u32 {
        self.leaf(entry.leaf).slots[entry.at]
    }

    /// The leaf that `addr` would be in. The tree is not empty and `addr` is less than `usize::MAX`.
    #[inline]
    fn leaf_toward(&self, addr: usize) -> u32 {
        let mut node = self.root;
        let mut way = 0;
        for _ in 0..self.height {
            let inner = self.inner(node);
            let at = inner.toward(addr);
            way = way << STEP_BITS | at;
            node = inner.children[at];
        }
        self.way.store(way, Relaxed);
        node
    }

    /// The way to a leaf, which is the one that `addr` would be in. That is less than `usize::MAX`.
    pub(super) fn path(&self, leaf: u32, addr: usize) -> Path {
        let step = Step { node: NIL, at: 0 };
        let mut path = Path { steps: [step; LEVELS - 1], height: self.height };
        if !self.retrace(leaf, &mut path.steps[..self.height]) {
            let mut node = self.root;
            for step in &mut path.steps[..self.height] {
                let inner = self.inner(node);
                let at = inner.toward(addr);
                *step = Step { node, at: at as u32 };
                node = inner.children[at];
            }
        }
        path
    }

    /// Fills in the way to a leaf if it is that of the last search.
    #[inline]
    fn retrace(&self, leaf: u32, steps: &mut [Step]) -> bool {
        let mut way = self.way.load(Relaxed).rotate_right(STEP_BITS * self.height as u32);
        let mut node = self.root;
        for step in steps {
            let inner = self.inner(node);
            way = way.rotate_left(STEP_BITS);
            let at = way & ((1 << STEP_BITS) - 1);
            if at >= inner.len() {
                return false;
            }
            *step = Step { node, at: at as u32 };
            node = inner.children[at];
        }
        node == leaf
    }

    /// Makes room for any `count` insertions to come, whatever is removed or resized in between.
    ///
    /// An insertion adds at most one node to each level. And since no node but the root is less than a quarter full,
    /// the number of entries bounds the number of nodes too. Either bound holds at all times until then, so the lower
    /// one is enough.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let entries = self.entries.checked_add(count).ok_or(OutOfMemory)?;
        let bound = |level: usize, below: usize, min: usize| {
            (self.counts[level] as usize).saturating_add(count).min((below / min).max(1))
        };
        let mut nodes = bound(0, entries, <Leaf<LEAF> as Node>::MIN);
        let leaves = nodes.saturating_sub(self.counts[0] as usize);
        let mut inners = 0;
        for level in 1..LEVELS {
            if nodes <= 1 {
                break;
            }
            nodes = bound(level, nodes, <Inner<FAN> as Node>::MIN);
            inners += nodes.saturating_sub(self.counts[level] as usize);
        }
        self.leaves.reserve(leaves)?;
        self.inners.reserve(inners)
    }

    /// Makes room for `leaves` and `inners` more nodes.
    #[inline]
    pub(super) fn reserve_nodes(&mut self, leaves: usize, inners: usize) -> Result<(), OutOfMemory> {
        self.leaves.reserve(leaves)?;
        self.inners.reserve(inners)
    }

    #[inline]
    pub(super) fn leaf(&self, node: u32) -> &Leaf<LEAF> {
        self.visit();
        self.leaves.get(node)
    }

    #[inline]
    pub(super) fn leaf_mut(&mut self, node: u32) -> &mut Leaf<LEAF> {
        self.visit();
        self.leaves.get_mut(node)
    }

    pub(super) fn leaf_pair(&mut self, left: u32, right: u32) -> (&mut Leaf<LEAF>, &mut Leaf<LEAF>) {
        self.visit();
        self.visit();
        self.leaves.pair_mut(left, right)
    }

    #[inline]
    pub(super) fn inner(&self, node: u32) -> &Inner<FAN> {
        self.visit();
        self.inners.get(node)
    }

    #[inline]
    pub(super) fn inner_mut(&mut self, node: u32) -> &mut Inner<FAN> {
        self.visit();
        self.inners.get_mut(node)
    }

    pub(super) fn inner_pair(&mut self, left: u32, right: u32) -> (&mut Inner<FAN>, &mut Inner<FAN>) {
        self.visit();
        self.visit();
        self.inners.pair_mut(left, right)
    }

    pub(super) fn new_leaf(&mut self) -> u32 {
        self.counts[0] += 1;
        self.leaves.put(const { Leaf::new() })
    }

    pub(super) fn new_inner(&mut self, level: usize) -> u32 {
        self.counts[level] += 1;
        self.inners.put(const { Inner::new() })
    }

    pub(super) fn discard(&mut self, level: usize, node: u32) {
        self.counts[level] -= 1;
        match level {
            0 => {
                *self.last.get_mut() = NOWHERE;
                self.leaves.discard(node);
            }
            _ => self.inners.discard(node),
        }
    }

    /// Counts a look at a node, in tests.
    #[inline]
    fn visit(&self) {
        #[cfg(test)]
        self.visits.fetch_add(1, Relaxed);
    }

    /// How often a node has been looked at since the last time this was asked.
    #[cfg(test)]
    pub(super) fn take_visits(&self) -> usize {
        self.visits.swap(0, Relaxed)
    }

    /// How many nodes are in use: leaves and inner ones.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> (usize, usize) {
        (self.leaves.len(), self.inners.len())
    }
}
