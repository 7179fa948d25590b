// SPDX-License-Identifier: MPL-2.0

//! The nodes of the tree: sorted arrays, one for each field.
//!
//! ```text
//!   inner   starts  [  s0  |  s1  |  s2  | MAX ..]     lowest start below each child
//!           ends    [  e0  |  e1  |  e2  |      ]      highest end below each child
//!           gaps    [  g0  |  g1  |  g2  |      ]      widest gap between two entries below each child
//!           children[  c0  |  c1  |  c2  |      ]
//!
//!   leaf    starts  [  s0  |  s1  |  s2  | MAX ..]
//!           ends    [  e0  |  e1  |  e2  |      ]
//!           slots   [  v0  |  v1  |  v2  |      ]      where each value is
//! ```
//!
//! A search looks at `starts` alone, which is why each field has its own array. Unused places of `starts` hold
//! `usize::MAX`, which no entry can start at, so that a search runs over the whole array in a fixed number of steps.
//!
//! A gap counts towards the lowest node that has an entry on either side of it. So all that is known of a node
//! ([`Span`]) can be computed from the node alone, and a change only concerns the nodes above it. A node keeps its widest
//! gap itself too: a change that leaves the span as it was does not concern any other node at all.

use core::{mem, ops::Range};

use super::arena::{Link, NIL};

/// How many keys a cache line holds.
const LINE: usize = 8;

/// Up to how many entries are shifted one by one: more than these a block move takes less time for, once it has started.
const FEW: usize = 16;

/// What a node's parent keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The start of its first entry.
    pub(super) start: usize,
    /// The end of its last entry.
    pub(super) end: usize,
    /// The widest gap between two neighbouring entries of it.
    pub(super) gap: usize,
}

/// What both kinds of node can do.
pub(super) trait Node: Link {
    /// How many items a node has room for.
    const SIZE: usize;
    /// How few items any node but the root may have.
    const MIN: usize = Self::SIZE / 4;
    /// Up to how many items two neighbours are merged. Fewer than fit, so that the merged node does not split at once.
    const MERGE: usize = Self::SIZE / 4 * 3;

    fn len(&self) -> usize;

    /// Its span, once its widest gap is right. The node is not empty.
    fn span(&self) -> Span;

    /// Finds its widest gap from scratch and returns its span. The node is not empty.
    fn measure(&mut self) -> Span;

    /// Moves items between two neighbours until the left one has `count`, and leaves their widest gaps to
    /// [`measure`](Self::measure).
    fn share(left: &mut Self, right: &mut Self, count: usize);

    /// Where to split a full node that an item is about to enter at `at`: in the middle, or close to the end where it
    /// enters, since mappings are mostly made in runs, upwards or downwards.
    fn split_at(at: usize) -> usize {
        match at {
            0 | 1 => Self::SIZE / 4,
            at if at == Self::SIZE => Self::SIZE / 4 * 3,
            _ => Self::SIZE / 2,
        }
    }
}

#[repr(C, align(64))]
pub(super) struct Leaf<const SIZE: usize> {
    pub(super) starts: [usize; SIZE],
    pub(super) ends: [usize; SIZE],
    pub(super) slots: [u32; SIZE],
    len: usize,
    /// The widest gap between two neighbouring entries.
    gap: usize,
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl<const SIZE: usize> Leaf<SIZE> {
    pub(super) const fn new() -> Self {
        const { assert!(SIZE.is_power_of_two() && SIZE >= 8) };
        Self {
            starts: [usize::MAX; SIZE],
            ends: [0; SIZE],
            slots: [NIL; SIZE],
            len: 0,
            gap: 0,
            prev: NIL,
            next: NIL,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many entries start at `addr` or below, where `addr` is less than `usize::MAX`.
    #[inline]
    pub(super) fn rank(&self, addr: usize) -> usize {
        rank(&self.starts, addr)
    }

    #[inline]
    pub(super) fn range(&self, at: usize) -> Range<usize> {
        self.starts[at]..self.ends[at]
    }

    /// Adds an entry and returns whether the span may have changed.
    #[inline]
    pub(super) fn insert(&mut self, at: usize, range: Range<usize>, slot: u32) -> bool {
        let (old, new) = {
            let left = (at > 0).then(|| range.start - self.ends[at - 1]);
            let right = (at < self.len).then(|| self.starts[at] - range.end);
            match (left, right) {
                (Some(left), Some(right)) => (left + right + (range.end - range.start), left.max(right)),
                (left, right) => (0, left.or(right).unwrap_or(0)),
            }
        };
        let is_outermost = at == 0 || at == self.len;
        if self.len - at <= FEW {
            self.open_few(at, range, slot);
        } else {
            open(&mut self.starts, self.len, at, range.start);
            open(&mut self.ends, self.len, at, range.end);
            open(&mut self.slots, self.len, at, slot);
        }
        self.len += 1;
        self.settle(old, new) || is_outermost
    }

    /// Takes an entry out and returns its slot, and whether the span may have changed.
    #[inline]
    pub(super) fn remove(&mut self, at: usize) -> (u32, bool) {
        let slot = self.slots[at];
        let (left, right) = self.gaps_beside(at);
        let merged = match (left, right) {
            (Some(left), Some(right)) => left + right + (self.ends[at] - self.starts[at]),
            _ => 0,
        };
        if self.len - at <= FEW {
            self.close_few(at);
        } else {
            close(&mut self.starts, self.len, at);
            close(&mut self.ends, self.len, at);
            close(&mut self.slots, self.len, at);
            self.starts[self.len - 1] = usize::MAX;
        }
        self.len -= 1;
        let is_outermost = at == 0 || at == self.len;
        (slot, self.settle(left.max(right).unwrap_or(0), merged) || is_outermost)
    }

    /// Shifts the entries from `at` on up by one, and puts another in the place that becomes free.
    #[inline]
    fn open_few(&mut self, at: usize, range: Range<usize>, slot: u32) {
        let places = at..self.len + 1;
        let starts = self.starts[places.clone()].iter_mut();
        let ends = self.ends[places.clone()].iter_mut();
        let slots = self.slots[places].iter_mut();
        let mut shifted = (range.start, range.end, slot);
        for ((start, end), slot) in starts.zip(ends).zip(slots) {
            shifted =
                (mem::replace(start, shifted.0), mem::replace(end, shifted.1), mem::replace(slot, shifted.2));
        }
    }

    /// Shifts the entries above `at` down by one.
    #[inline]
    fn close_few(&mut self, at: usize) {
        let places = at..self.len;
        let starts = self.starts[places.clone()].iter_mut();
        let ends = self.ends[places.clone()].iter_mut();
        let slots = self.slots[places].iter_mut();
        let mut shifted = (usize::MAX, 0, NIL);
        for ((start, end), slot) in starts.zip(ends).zip(slots).rev() {
            shifted =
                (mem::replace(start, shifted.0), mem::replace(end, shifted.1), mem::replace(slot, shifted.2));
        }
    }

    /// Gives an entry another range between its neighbours and returns whether the span may have changed.
    #[inline]
    pub(super) fn resize(&mut self, at: usize, range: Range<usize>) -> bool {
        let (left, right) = self.gaps_beside(at);
        let old = left.max(right).unwrap_or(0);
        self.starts[at] = range.start;
        self.ends[at] = range.end;
        let (left, right) = self.gaps_beside(at);
        let is_outermost = at == 0 || at + 1 == self.len;
        self.settle(old, left.max(right).unwrap_or(0)) || is_outermost
    }

    /// Brings the widest gap up to date, `old` being the widest of the gaps that went and `new` the widest of those
    /// that came, and returns whether it has changed.
    #[inline]
    fn settle(&mut self, old: usize, new: usize) -> bool {
        let gap = settle(self.gap, old, new, |most| self.widest(most));
        gap != mem::replace(&mut self.gap, gap)
    }

    /// The gaps before and after an entry, where this leaf has an entry on their other side.
    #[inline]
    fn gaps_beside(&self, at: usize) -> (Option<usize>, Option<usize>) {
        (
            (at > 0).then(|| self.starts[at] - self.ends[at - 1]),
            (at + 1 < self.len).then(|| self.starts[at + 1] - self.ends[at]),
        )
    }

    /// The widest gap from scratch, none being wider than `most`.
    pub(super) fn widest(&self, most: usize) -> usize {
        widest_between(&self.starts[..self.len], &self.ends[..self.len], most)
    }
}

impl<const SIZE: usize> Node for Leaf<SIZE> {
    const SIZE: usize = SIZE;

    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn span(&self) -> Span {
        Span { start: self.starts[0], end: self.ends[self.len - 1], gap: self.gap }
    }

    fn measure(&mut self) -> Span {
        self.gap = self.widest(usize::MAX);
        self.span()
    }

    fn share(left: &mut Self, right: &mut Self, count: usize) {
        let lens = (left.len, right.len);
        share(&mut left.starts, &mut right.starts, lens, count);
        share(&mut left.ends, &mut right.ends, lens, count);
        share(&mut left.slots, &mut right.slots, lens, count);
        (left.len, right.len) = (count, lens.0 + lens.1 - count);
        left.starts[left.len..].fill(usize::MAX);
        right.starts[right.len..].fill(usize::MAX);
    }
}

impl<const SIZE: usize> Link for Leaf<SIZE> {
    fn free(&mut self, next: u32) {
        self.next = next;
    }

    fn next_free(&self) -> u32 {
        self.next
    }
}

#[repr(C, align(64))]
pub(super) struct Inner<const SIZE: usize> {
    pub(super) starts: [usize; SIZE],
    pub(super) ends: [usize; SIZE],
    pub(super) gaps: [usize; SIZE],
    pub(super) children: [u32; SIZE],
    len: usize,
    /// The widest gap below it.
    gap: usize,
}

impl<const SIZE: usize> Inner<SIZE> {
    pub(super) const fn new() -> Self {
        const { assert!(SIZE.is_power_of_two() && SIZE >= 16) };
        Self {
            starts: [usize::MAX; SIZE],
            ends: [0; SIZE],
            gaps: [0; SIZE],
            children: [NIL; SIZE],
            len: 0,
            gap: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Which child to look into for `addr`, which is less than `usize::MAX`: the last one that starts at it or below, or
    /// the first of all.
    #[inline]
    pub(super) fn toward(&self, addr: usize) -> usize {
        rank(&self.starts, addr).saturating_sub(1)
    }

    #[inline]
    pub(super) fn child_span(&self, at: usize) -> Span {
        Span { start: self.starts[at], end: self.ends[at], gap: self.gaps[at] }
    }

    /// Sets what is known of a child, and leaves the widest gap of this node to [`measure`](Node::measure).
    pub(super) fn set(&mut self, at: usize, span: Span) {
        self.starts[at] = span.start;
        self.ends[at] = span.end;
        self.gaps[at] = span.gap;
    }

    /// Sets what is known of a child and returns what is now known of this node.
    #[inline]
    pub(super) fn update(&mut self, at: usize, span: Span) -> Span {
        let old = self.widest_at(at);
        self.set(at, span);
        let new = self.widest_at(at);
        self.gap = settle(self.gap, old, new, |most| self.widest(most));
        self.span()
    }

    /// Adds a child, and leaves the widest gap to [`measure`](Node::measure).
    pub(super) fn insert(&mut self, at: usize, child: u32, span: Span) {
        open(&mut self.starts, self.len, at, span.start);
        open(&mut self.ends, self.len, at, span.end);
        open(&mut self.gaps, self.len, at, span.gap);
        open(&mut self.children, self.len, at, child);
        self.len += 1;
    }

    /// Takes a child out, and leaves the widest gap to [`measure`](Node::measure).
    pub(super) fn remove(&mut self, at: usize) {
        close(&mut self.starts, self.len, at);
        close(&mut self.ends, self.len, at);
        close(&mut self.gaps, self.len, at);
        close(&mut self.children, self.len, at);
        self.len -= 1;
        self.starts[self.len] = usize::MAX;
    }

    /// The widest gap in a child and on either side of it.
    #[inline]
    fn widest_at(&self, at: usize) -> usize {
        let mut widest = self.gaps[at];
        if at > 0 {
            widest = widest.max(self.starts[at] - self.ends[at - 1]);
        }
        if at + 1 < self.len {
            widest = widest.max(self.starts[at + 1] - self.ends[at]);
        }
        widest
    }

    /// The widest gap from scratch, none being wider than `most`.
    pub(super) fn widest(&self, most: usize) -> usize {
        let within = widest_of(self.gaps[..self.len].iter().copied(), most);
        if within >= most {
            return within;
        }
        within.max(widest_between(&self.starts[..self.len], &self.ends[..self.len], most))
    }
}

impl<const SIZE: usize> Node for Inner<SIZE> {
    const SIZE: usize = SIZE;

    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn span(&self) -> Span {
        Span { start: self.starts[0], end: self.ends[self.len - 1], gap: self.gap }
    }

    fn measure(&mut self) -> Span {
        self.gap = self.widest(usize::MAX);
        self.span()
    }

    fn share(left: &mut Self, right: &mut Self, count: usize) {
        let lens = (left.len, right.len);
        share(&mut left.starts, &mut right.starts, lens, count);
        share(&mut left.ends, &mut right.ends, lens, count);
        share(&mut left.gaps, &mut right.gaps, lens, count);
        share(&mut left.children, &mut right.children, lens, count);
        (left.len, right.len) = (count, lens.0 + lens.1 - count);
        left.starts[left.len..].fill(usize::MAX);
        right.starts[right.len..].fill(usize::MAX);
    }
}

impl<const SIZE: usize> Link for Inner<SIZE> {
    fn free(&mut self, next: u32) {
        self.children[0] = next;
    }

    fn next_free(&self) -> u32 {
        self.children[0]
    }
}

/// How many keys are at most `addr`.
///
/// First the block of [`LINE`] keys, by the last key of each block but the last, then the place in it. The loads of
/// either step do not depend on each other, so that the cache lines they miss come together, and no branch depends on a
/// key. A binary search has fewer comparisons but waits for each before the next.
#[inline]
fn rank<const SIZE: usize>(keys: &[usize; SIZE], addr: usize) -> usize {
    let (blocks, _) = keys.as_chunks::<LINE>();
    let below = |keys: &[usize; LINE]| keys.iter().map(|key| usize::from(*key <= addr)).sum::<usize>();
    let block =
        blocks[..SIZE / LINE - 1].iter().map(|block| usize::from(block[LINE - 1] <= addr)).sum::<usize>();
    block * LINE + below(&blocks[block])
}

/// The widest gap of a node after a change to it, without a look at the whole node where that can be avoided: `gap` was
/// the widest, `old` the widest of the gaps that went and `new` the widest of those that came.
#[inline]
fn settle(gap: usize, old: usize, new: usize, whole: impl FnOnce(usize) -> usize) -> usize {
    if new >= gap {
        new
    } else if old < gap {
        gap
    } else {
        whole(gap)
    }
}

/// The widest gap between neighbours, of which none is wider than `most`: often an equal one comes early.
fn widest_between(starts: &[usize], ends: &[usize], most: usize) -> usize {
    let gaps = starts.iter().skip(1).zip(ends).map(|(start, end)| start - end);
    widest_of(gaps, most)
}

fn widest_of(gaps: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut widest = 0;
    for gap in gaps {
        widest = widest.max(gap);
        if widest >= most {
            break;
        }
    }
    widest
}

/// Inserts into the first `len` items of an array that has room for one more.
#[inline]
fn open<T: Copy, const SIZE: usize>(items: &mut [T; SIZE], len: usize, at: usize, item: T) {
    items.copy_within(at..len, at + 1);
    items[at] = item;
}

/// Removes from the first `len` items of an array.
#[inline]
fn close<T: Copy, const SIZE: usize>(items: &mut [T; SIZE], len: usize, at: usize) {
    items.copy_within(at + 1..len, at);
}

/// Moves items between two neighbouring arrays of `lens` items until the left one has `count`.
fn share<T: Copy, const SIZE: usize>(
    left: &mut [T; SIZE],
    right: &mut [T; SIZE],
    lens: (usize, usize),
    count: usize,
) {
    if count >= lens.0 {
        let moved = count - lens.0;
        left[lens.0..count].copy_from_slice(&right[..moved]);
        right.copy_within(moved..lens.1, 0);
    } else {
        let moved = lens.0 - count;
        right.copy_within(..lens.1, moved);
        right[..moved].copy_from_slice(&left[count..lens.0]);
    }
}
