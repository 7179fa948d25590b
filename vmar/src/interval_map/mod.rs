// SPDX-License-Identifier: MPL-2.0

//! An interval map with a gap index: what lies where in an address space, and where there is room.
//!
//! [`IntervalMap`] holds disjoint half-open ranges of `usize` (bytes; page alignment is the caller's affair), each with
//! a value. It answers which entry an address lies in, and where the lowest or highest free range of a size and
//! alignment is, both in O(log n) of the number of entries.
//!
//! ```text
//!                     [ a | gap 9 | b | gap 2 | c ]            inner nodes: lowest start, highest end and
//!                      /           |           \               widest gap of each child; gaps between children
//!        [x gap 4 y gap 1 z]   [x gap 7 y]   [x gap 2 y]       leaves: starts and ends, linked in order
//!           |       |     |
//!           v       v     v
//!          [   values, in a chunked arena of their own   ]
//! ```
//!
//! It is a B+-tree rather than a balanced binary tree because a look at a node costs a cache miss, and a node of many
//! entries needs few of them. Values live apart from the tree: shifting a leaf's entries moves twenty bytes each
//! whatever the size of a value. Nodes and values come from arenas of small chunks, so even a million entries never
//! need a large contiguous block of the kernel's heap.
//!
//! # Invariants
//!
//! - Entries are not empty, do not overlap, and are in address order. Touching entries are not merged: whether two may
//!   become one depends on their values.
//! - No node but the root is less than a quarter full; each leaf is at the same depth.
//! - What a parent knows of a child (start, end, widest gap) is exact after each operation.
//! - An operation that fails, for lack of memory or otherwise, has changed nothing. After
//!   [`IntervalMap::try_reserve`] so many insertions cannot fail for lack of memory.

mod arena;
mod edit;
mod gap;
mod iter;
mod node;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use core::{fmt, ops::Range};

use edit::Misfit;
use gap::Wanted;
pub use iter::{IntoIter, Iter};
use node::Leaf;
use tree::{Position, Tree};
use values::Values;

use crate::fallible::OutOfMemory;

/// How many entries a leaf has room for, and how many children an inner node: what the benchmark found best.
const LEAF_SIZE: usize = 64;
const INNER_SIZE: usize = 32;

/// Disjoint half-open ranges of `usize`, each with a value, and an index of the gaps between them.
///
/// `LEAF` and `FAN` are the sizes of nodes, powers of two, at least 8 and 16. They are parameters so that tests can have
/// deep trees of few entries; everybody else leaves them alone.
///
/// ```
/// use vmar::interval_map::IntervalMap;
///
/// let mut map = IntervalMap::new();
/// map.insert(0x1000..0x3000, "text").unwrap();
/// map.insert(0x8000..0x9000, "stack").unwrap();
/// assert_eq!(map.find(0x2fff), Some((0x1000..0x3000, &"text")));
/// assert_eq!(map.lowest_gap(0x2000, 0x1000, 0x1000..0x10000), Some(0x3000));
/// assert_eq!(map.highest_gap(0x2000, 0x1000, 0x1000..0x9000), Some(0x6000));
/// assert_eq!(map.total_size(), 0x3000);
/// ```
pub struct IntervalMap<V, const LEAF: usize = LEAF_SIZE, const FAN: usize = INNER_SIZE> {
    tree: Tree<LEAF, FAN>,
    values: Values<V>,
}

/// Why [`IntervalMap::insert`] refused, with the value it was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum InsertError<V> {
    /// The range overlaps an entry.
    Overlaps(V),
    /// The range is empty.
    Empty(V),
    /// There was no memory for the entry.
    OutOfMemory(V),
}

/// Why [`IntervalMap::set_range`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetRangeError {
    /// No entry starts there.
    NoEntry,
    /// The new range overlaps a neighbour, or lies beyond one.
    Overlaps,
    /// The new range is empty.
    Empty,
}

/// The entries that a range touches: the one that ends where it starts, and the one that starts where it ends.
pub type Neighbours<'a, V> = [Option<(Range<usize>, &'a V)>; 2];

impl<V> IntervalMap<V> {
    /// An empty map, which has allocated nothing.
    pub const fn new() -> Self {
        Self::with_node_sizes()
    }
}

impl<V, const LEAF: usize, const FAN: usize> IntervalMap<V, LEAF, FAN> {
    /// An empty map with node sizes of the caller's choice; see the type.
    pub const fn with_node_sizes() -> Self {
        Self { tree: Tree::new(), values: Values::new() }
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.tree.entries
    }

    /// Whether there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The sum of the sizes of all entries, in bytes.
    #[inline]
    pub fn total_size(&self) -> usize {
        self.tree.total
    }

    /// The entry that `addr` lies in. To ask for the same entry again takes no search.
    #[inline]
    pub fn find(&self, addr: usize) -> Option<(Range<usize>, &V)> {
        self.tree.containing(addr).map(|(entry, leaf)| self.entry_of(leaf, entry.at))
    }

    /// The entry that `addr` lies in, to change its value.
    #[inline]
    pub fn find_mut(&mut self, addr: usize) -> Option<(Range<usize>, &mut V)> {
        let (entry, leaf) = self.tree.containing(addr)?;
        Some((leaf.range(entry.at), self.values.get_mut(leaf.slots[entry.at])))
    }

    /// Whether an entry overlaps `range`, which is not empty.
    #[inline]
    pub fn overlaps(&self, range: &Range<usize>) -> bool {
        let below = self.tree.at_or_below(range.end - 1);
        below.is_some_and(|(entry, leaf)| leaf.ends[entry.at] > range.start)
    }

    /// The first entry that starts at `addr` or above.
    pub fn next(&self, addr: usize) -> Option<(Range<usize>, &V)> {
        self.tree.at_or_above(addr).map(|entry| self.entry(entry))
    }

    /// The last entry that ends at `addr` or below.
    pub fn prev(&self, addr: usize) -> Option<(Range<usize>, &V)> {
        self.tree.ending_by(addr).map(|entry| self.entry(entry))
    }

    /// The entries that `range`, which is free, touches.
    #[inline]
    pub fn beside(&self, range: &Range<usize>) -> Neighbours<'_, V> {
        let Some((below, leaf)) = self.tree.at_or_below(range.start) else {
            return [None, self.touching_above(self.tree.first(), range.end)];
        };
        let above = below.at + 1;
        [
            (leaf.ends[below.at] == range.start).then(|| self.entry_of(leaf, below.at)),
            if above < leaf.len() {
                (leaf.starts[above] == range.end).then(|| self.entry_of(leaf, above))
            } else {
                self.touching_above(self.tree.after(below), range.end)
            },
        ]
    }

    /// The value of the entry that starts at `start`, and the entries it touches.
    #[inline]
    pub fn with_neighbours(&self, start: usize) -> Option<(&V, Neighbours<'_, V>)> {
        let (entry, leaf) = self.tree.starting_at(start)?;
        let at = entry.at;
        let below = match at.checked_sub(1) {
            Some(below) => (leaf.ends[below] == start).then(|| self.entry_of(leaf, below)),
            None => self
                .tree
                .before(entry)
                .filter(|below| self.tree.range(*below).end == start)
                .map(|below| self.entry(below)),
        };
        let (above, end) = (at + 1, leaf.ends[at]);
        let above = if above < leaf.len() {
            (leaf.starts[above] == end).then(|| self.entry_of(leaf, above))
        } else {
            self.touching_above(self.tree.after(entry), end)
        };
        Some((self.values.get(leaf.slots[at]), [below, above]))
    }

    #[cold]
    fn touching_above(&self, above: Option<Position>, end: usize) -> Option<(Range<usize>, &V)> {
        above.filter(|above| self.tree.range(*above).start == end).map(|above| self.entry(above))
    }

    /// The entry with the lowest addresses.
    pub fn first(&self) -> Option<(Range<usize>, &V)> {
        self.tree.first().map(|entry| self.entry(entry))
    }

    /// The entry with the highest addresses.
    pub fn last(&self) -> Option<(Range<usize>, &V)> {
        self.tree.last().map(|entry| self.entry(entry))
    }

    /// All entries in address order, from either end.
    pub fn iter(&self) -> Iter<'_, V, LEAF, FAN> {
        self.range(0..usize::MAX)
    }

    /// The entries that overlap `range` in address order, from either end. Those at its ends may reach beyond it; an
    /// empty range overlaps nothing.
    pub fn range(&self, range: Range<usize>) -> Iter<'_, V, LEAF, FAN> {
        Iter::new(self, range)
    }

    /// Calls `change` for each entry that overlaps `range`, in address order.
    pub fn for_each_mut(&mut self, range: Range<usize>, mut change: impl FnMut(Range<usize>, &mut V)) {
        let mut next = if range.is_empty() { None } else { self.tree.ending_above(range.start) };
        while let Some(entry) = next {
            let found = self.tree.range(entry);
            if found.start >= range.end {
                return;
            }
            change(found, self.values.get_mut(self.tree.slot(entry)));
            next = self.tree.after(entry);
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// The value comes back if the range overlaps an entry or is empty, or if there is no memory; the map is as it was.
    #[inline]
    pub fn insert(&mut self, range: Range<usize>, value: V) -> Result<(), InsertError<V>> {
        let at = match self.prepare(&range) {
            Ok(at) => at,
            Err(error) => return Err(error.with_value(value)),
        };
        let slot = self.values.put(value);
        self.tree.insert(at, range, slot);
        Ok(())
    }

    /// Adds an entry whose value is made where it is stored: a large one is not moved about.
    ///
    /// # Errors
    ///
    /// As [`IntervalMap::insert`]; no value has been made then.
    #[inline]
    pub fn insert_with(
        &mut self,
        range: Range<usize>,
        make: impl FnOnce() -> V,
    ) -> Result<(), InsertError<()>> {
        let at = self.prepare(&range)?;
        let slot = self.values.put(make());
        self.tree.insert(at, range, slot);
        Ok(())
    }

    /// Finds where an entry would go, and makes sure of room for it.
    #[inline]
    fn prepare(&mut self, range: &Range<usize>) -> Result<Position, InsertError<()>> {
        if range.is_empty() {
            return Err(InsertError::Empty(()));
        }
        let Some(at) = self.tree.vacancy(range) else {
            return Err(InsertError::Overlaps(()));
        };
        if self.values.reserve(1).and_then(|()| self.tree.reserve_at(at, range.start)).is_err() {
            return Err(InsertError::OutOfMemory(()));
        }
        Ok(at)
    }

    /// Takes out the entry that starts at `start`.
    ///
    /// Its memory stays with the map for entries to come, until the map is dropped or cleared.
    #[inline]
    pub fn remove(&mut self, start: usize) -> Option<(Range<usize>, V)> {
        let (entry, _) = self.tree.starting_at(start)?;
        let (range, slot) = self.tree.remove(entry);
        Some((range, self.values.take(slot)))
    }

    /// Takes out the entry that starts at `start`, and returns its value if `keep` wants it. If not it is dropped where it
    /// is: a large one is not moved about.
    ///
    /// Its memory stays with the map, as with [`IntervalMap::remove`].
    #[inline]
    pub fn remove_keeping(&mut self, start: usize, keep: impl FnOnce(&V) -> bool) -> Option<V> {
        let (entry, _) = self.tree.starting_at(start)?;
        let (_, slot) = self.tree.remove(entry);
        if keep(self.values.get(slot)) {
            Some(self.values.take(slot))
        } else {
            self.values.discard(slot);
            None
        }
    }

    /// Gives the entry that starts at `start` another range, which may begin, end or lie wherever its neighbours leave
    /// room.
    ///
    /// # Errors
    ///
    /// No entry starts there, or the new range is empty or does not fit between the entry's neighbours; the map is as it
    /// was. This needs no memory.
    pub fn set_range(&mut self, start: usize, range: Range<usize>) -> Result<(), SetRangeError> {
        if range.is_empty() {
            return Err(SetRangeError::Empty);
        }
        self.tree.resize(start, range).map_err(|misfit| match misfit {
            Misfit::NoEntry => SetRangeError::NoEntry,
            Misfit::Overlaps => SetRangeError::Overlaps,
        })
    }

    /// Takes out all entries and gives back all memory, what was reserved included.
    pub fn clear(&mut self) {
        *self = Self::with_node_sizes();
    }

    /// Makes sure that the next `count` insertions do not fail for lack of memory, wherever they go and whatever is
    /// removed or resized in between.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; no entry has changed.
    pub fn try_reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.values.reserve(count)?;
        self.tree.reserve(count)
    }

    /// The lowest address in `limits` that is a multiple of `align` and has `size` free bytes within `limits`.
    ///
    /// `align` is a power of two; with any other, and with a size of 0, there is no such address.
    ///
    /// Takes O(log n) if `align` divides the ends of all entries, as page alignment does. With a larger one, each gap
    /// below the address found that is long enough but lies too badly adds O(log n); a gap of `size + align - granule`
    /// bytes never does, where `granule` is the alignment of all entries.
    pub fn lowest_gap(&self, size: usize, align: usize, limits: Range<usize>) -> Option<usize> {
        self.tree.lowest_gap(&Wanted::new(size, align, limits)?)
    }

    /// The highest address in `limits` that is a multiple of `align` and has `size` free bytes within `limits`.
    ///
    /// The same holds as for [`IntervalMap::lowest_gap`], with the gaps above the address found.
    pub fn highest_gap(&self, size: usize, align: usize, limits: Range<usize>) -> Option<usize> {
        self.tree.highest_gap(&Wanted::new(size, align, limits)?)
    }

    #[inline]
    fn entry(&self, entry: Position) -> (Range<usize>, &V) {
        self.entry_of(self.tree.leaf(entry.leaf), entry.at)
    }

    #[inline]
    fn entry_of(&self, leaf: &Leaf<LEAF>, at: usize) -> (Range<usize>, &V) {
        (leaf.range(at), self.values.get(leaf.slots[at]))
    }
}

impl<V, const LEAF: usize, const FAN: usize> Default for IntervalMap<V, LEAF, FAN> {
    fn default() -> Self {
        Self::with_node_sizes()
    }
}

impl<V: fmt::Debug, const LEAF: usize, const FAN: usize> fmt::Debug for IntervalMap<V, LEAF, FAN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl InsertError<()> {
    fn with_value<V>(self, value: V) -> InsertError<V> {
        match self {
            Self::Overlaps(()) => InsertError::Overlaps(value),
            Self::Empty(()) => InsertError::Empty(value),
            Self::OutOfMemory(()) => InsertError::OutOfMemory(value),
        }
    }
}

impl<V> InsertError<V> {
    /// The value that was not inserted.
    pub fn into_value(self) -> V {
        match self {
            Self::Overlaps(value) | Self::Empty(value) | Self::OutOfMemory(value) => value,
        }
    }
}

impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlaps(_) => "Overlaps",
            Self::Empty(_) => "Empty",
            Self::OutOfMemory(_) => "OutOfMemory",
        })
    }
}

impl<V> fmt::Display for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlaps(_) => "range overlaps an entry",
            Self::Empty(_) => "range is empty",
            Self::OutOfMemory(_) => "out of memory",
        })
    }
}

impl<V> core::error::Error for InsertError<V> {}

impl fmt::Display for SetRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntry => "no entry starts there",
            Self::Overlaps => "range overlaps a neighbouring entry",
            Self::Empty => "range is empty",
        })
    }
}

impl core::error::Error for SetRangeError {}
