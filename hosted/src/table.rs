// SPDX-License-Identifier: MPL-2.0

//! The guest's mappings: the framework's interval map, cut and merged at guest pages.
//!
//! Neighbours that are one mapping to the guest and one kind of memory to the host are one entry. What is counted is what the
//! guest asked for, not what the host rounds it to.

use std::ops::Range;

use vmar::{fallible::OutOfMemory, interval_map::IntervalMap, limits::Usage};

use crate::{
    host::HostProt,
    mapping::{HostMemory, Mapping},
};

#[derive(Default)]
pub(crate) struct Table {
    map: IntervalMap<Mapping>,
    data: usize,
}

impl Table {
    /// Returns how much is mapped.
    pub fn usage(&self) -> Usage {
        Usage {
            address_space: self.map.total_size(),
            data: self.data,
            mappings: self.map.len(),
            ..Usage::default()
        }
    }

    /// Returns the map, to search it.
    pub fn map(&self) -> &IntervalMap<Mapping> {
        &self.map
    }

    /// Makes sure that the next `count` changes of the table find memory.
    pub fn try_reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        // A change cuts one entry in three at most.
        self.map.try_reserve(3 * count + 3)
    }

    /// Returns the parts of mappings in `range`.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Mapping)> + '_ {
        let limits = range.clone();
        self.map.range(range).map(move |(found, mapping)| {
            let part = found.start.max(limits.start)..found.end.min(limits.end);
            let mapping = mapping.advanced(part.start - found.start);
            (part, mapping)
        })
    }

    /// Returns whether anything is mapped in `range`.
    pub fn overlaps(&self, range: &Range<usize>) -> bool {
        !range.is_empty() && self.map.overlaps(range)
    }

    /// Returns the end of what is mapped without a hole from `range.start` on, at most `range.end`.
    pub fn mapped_until(&self, range: &Range<usize>) -> usize {
        let mut end = range.start;
        for (found, _) in self.map.range(range.clone()) {
            if found.start > end {
                break;
            }
            end = found.end.min(range.end);
        }
        end
    }

    /// Returns what the host must allow in `range`, which is a host page or less: the union of what it must allow in parts.
    pub fn host_prot(&self, range: Range<usize>) -> HostProt {
        self.map.range(range).map(|(_, mapping)| mapping.host_prot()).fold(HostProt::None, HostProt::union)
    }

    /// Returns the end of the guest's one mapping that `start` lies in.
    pub fn mapping_end(&self, start: usize) -> Option<usize> {
        let (mut range, mut mapping) = self.map.find(start)?;
        while let Some((next, continued)) = self.map.find(range.end)
            && next.start == range.end
            && mapping.continues_with(range.len(), continued)
        {
            (range, mapping) = (next, continued);
        }
        Some(range.end)
    }

    /// Takes out all that lies in `range`, and returns whether there was anything. Room is reserved.
    pub fn cut(&mut self, range: &Range<usize>) -> bool {
        let mut any = false;
        while let Some((found, _)) = self.map.range(range.clone()).next() {
            any = true;
            let Some((_, mapping)) = self.map.remove(found.start) else { break };
            if mapping.is_data() {
                self.data -= found.end.min(range.end) - found.start.max(range.start);
            }
            if found.end > range.end {
                self.add(range.end..found.end, mapping.advanced(range.end - found.start));
            }
            if found.start < range.start {
                self.add(found.start..range.start, mapping);
            }
        }
        any
    }

    /// Adds a mapping at `range`, which is free, and merges it with its neighbours. Room is reserved.
    pub fn insert(&mut self, mut range: Range<usize>, mut mapping: Mapping) {
        if range.is_empty() {
            return;
        }
        if mapping.is_data() {
            self.data += range.len();
        }
        let [below, above] = self.map.beside(&range);
        let joins = |one: &Mapping, length, two: &Mapping| {
            one.memory == two.memory && one.continues_with(length, two)
        };
        let above = above.filter(|(_, next)| joins(&mapping, range.len(), next)).map(|(range, _)| range);
        let below = below.filter(|(at, before)| joins(before, at.len(), &mapping)).map(|(range, _)| range);
        if let Some(above) = above {
            self.map.remove(above.start);
            range.end = above.end;
        }
        if let Some(below) = below
            && let Some((_, before)) = self.map.remove(below.start)
        {
            range.start = below.start;
            mapping = before;
        }
        self.add(range, mapping);
    }

    /// Changes what lies in `range`. Room is reserved for each of its entries.
    pub fn change(&mut self, range: Range<usize>, mut change: impl FnMut(&mut Mapping)) {
        let parts: Vec<_> = self.pieces(range).collect();
        for (part, mut mapping) in parts {
            self.cut(&part);
            change(&mut mapping);
            self.insert(part, mapping);
        }
    }

    /// Notes that the host has private memory in `range` now.
    pub fn set_memory(&mut self, range: Range<usize>, memory: HostMemory) {
        self.change(range, |mapping| mapping.memory = memory);
    }

    /// Returns how many entries lie in `range`.
    pub fn count(&self, range: Range<usize>) -> usize {
        self.map.range(range).count()
    }

    fn add(&mut self, range: Range<usize>, mapping: Mapping) {
        let added = self.map.insert(range, mapping);
        debug_assert!(added.is_ok(), "an entry was not expected there");
    }
}
