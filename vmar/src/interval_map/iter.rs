// SPDX-License-Identifier: MPL-2.0

//! Iterators over entries in address order.

use core::{iter::FusedIterator, ops::Range};

use super::{IntervalMap, arena::NIL, tree::Position};

/// Entries that overlap a range, from either end; made by [`IntervalMap::range`] and [`IntervalMap::iter`].
pub struct Iter<'a, V, const LEAF: usize, const FAN: usize> {
    map: &'a IntervalMap<V, LEAF, FAN>,
    /// The next entry from the front.
    front: Option<Position>,
    /// The next entry from the back, once it has been looked for.
    back: Option<Position>,
    /// Where the entries that are left end: they start below this.
    limit: usize,
}

impl<'a, V, const LEAF: usize, const FAN: usize> Iter<'a, V, LEAF, FAN> {
    pub(super) fn new(map: &'a IntervalMap<V, LEAF, FAN>, range: Range<usize>) -> Self {
        let front = if range.is_empty() { None } else { map.tree.ending_above(range.start) };
        Self { map, front, back: None, limit: range.end }
    }
}

impl<V, const LEAF: usize, const FAN: usize> Clone for Iter<'_, V, LEAF, FAN> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, V, const LEAF: usize, const FAN: usize> Iterator for Iter<'a, V, LEAF, FAN> {
    type Item = (Range<usize>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let tree = &self.map.tree;
        let entry = self.front.filter(|entry| tree.range(*entry).start < self.limit);
        self.front = entry.and_then(|entry| tree.after(entry));
        entry.map(|entry| self.map.entry(entry))
    }
}

impl<V, const LEAF: usize, const FAN: usize> DoubleEndedIterator for Iter<'_, V, LEAF, FAN> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let tree = &self.map.tree;
        let first = tree.range(self.front?).start;
        let entry = self
            .back
            .or_else(|| tree.at_or_below(self.limit.checked_sub(1)?).map(|(entry, _)| entry))
            .filter(|entry| (first..self.limit).contains(&tree.range(*entry).start));
        match entry {
            Some(entry) => {
                self.limit = tree.range(entry).start;
                self.back = tree.before(entry);
            }
            None => self.front = None,
        }
        entry.map(|entry| self.map.entry(entry))
    }
}

impl<V, const LEAF: usize, const FAN: usize> FusedIterator for Iter<'_, V, LEAF, FAN> {}

/// All entries by value, in address order; made by [`IntervalMap::into_iter`].
pub struct IntoIter<V, const LEAF: usize, const FAN: usize> {
    map: IntervalMap<V, LEAF, FAN>,
    next: Position,
    left: usize,
}

impl<V, const LEAF: usize, const FAN: usize> IntoIterator for IntervalMap<V, LEAF, FAN> {
    type Item = (Range<usize>, V);
    type IntoIter = IntoIter<V, LEAF, FAN>;

    fn into_iter(self) -> Self::IntoIter {
        let next = self.tree.first().unwrap_or(Position { leaf: NIL, at: 0 });
        let left = self.len();
        IntoIter { map: self, next, left }
    }
}

impl<V, const LEAF: usize, const FAN: usize> Iterator for IntoIter<V, LEAF, FAN> {
    type Item = (Range<usize>, V);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.next;
        let range = self.map.tree.range(entry);
        let value = self.map.values.take(self.map.tree.slot(entry));
        self.next = self.map.tree.after(entry).unwrap_or(entry);
        Some((range, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<V, const LEAF: usize, const FAN: usize> ExactSizeIterator for IntoIter<V, LEAF, FAN> {}
impl<V, const LEAF: usize, const FAN: usize> FusedIterator for IntoIter<V, LEAF, FAN> {}

impl<'a, V, const LEAF: usize, const FAN: usize> IntoIterator for &'a IntervalMap<V, LEAF, FAN> {
    type Item = (Range<usize>, &'a V);
    type IntoIter = Iter<'a, V, LEAF, FAN>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
