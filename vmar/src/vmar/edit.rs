// SPDX-License-Identifier: MPL-2.0

//! The steps by which operations change the mappings: insert, split, cut, change, merge.
//!
//! Each keeps the totals right. Those that may insert say how many insertions to reserve first
//! ([`Mappings::try_reserve`]); with that none of them fails. None of them looks at the page table.

use alloc::vec::Vec;
use core::ops::Range;

use super::mappings::Mappings;
use crate::{error::OutOfMemory, fallible, machine::Machine, mapping::VmMapping};

/// Mappings that were taken out, kept to be dropped once the mappings' lock is released.
///
/// Declare it before the lock is taken. One mapping needs no allocation.
pub(crate) struct Removed<M: Machine> {
    first: Option<VmMapping<M>>,
    rest: Vec<VmMapping<M>>,
}

impl<M: Machine> Removed<M> {
    pub(crate) const fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    /// Makes room for what [`Mappings::cut`] can take out of `range`.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(crate) fn try_reserve_for(
        &mut self,
        mappings: &Mappings<M>,
        range: &Range<usize>,
    ) -> Result<(), OutOfMemory> {
        self.try_reserve_for_all(mappings, [range])
    }

    /// Makes room for what [`Mappings::cut`] can take out of all `ranges`.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(crate) fn try_reserve_for_all<const N: usize>(
        &mut self,
        mappings: &Mappings<M>,
        ranges: [&Range<usize>; N],
    ) -> Result<(), OutOfMemory> {
        let overlapping = ranges.into_iter().flat_map(|range| mappings.range(range.clone()));
        let heavy = overlapping.filter(|(_, mapping)| mapping.is_heavy()).count();
        if heavy > 1 {
            fallible::try_reserve_exact(&mut self.rest, heavy - 1)?;
        }
        Ok(())
    }

    fn push(&mut self, mapping: VmMapping<M>) {
        if !mapping.is_heavy() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(mapping);
        } else {
            debug_assert!(self.rest.len() < self.rest.capacity(), "no room was reserved");
            self.rest.push(mapping);
        }
    }
}

impl<M: Machine> Mappings<M> {
    /// Adds a mapping at a free range, as a part of a neighbour where one mapping can stand for both. Needs room for
    /// one insertion.
    pub(crate) fn insert(&mut self, range: Range<usize>, mut mapping: VmMapping<M>) {
        self.totals.add(&mapping, range.len());
        self.note_peak(range.len());
        let mut start = range.start;
        let mut end = range.end;
        // The neighbour above gives way to the new mapping, and that to the neighbour below.
        let above = self
            .map
            .find(end)
            .filter(|(next, above)| next.start == end && mapping.continues_with(range.len(), above));
        if let Some((next, _)) = above {
            if !self.extend_below(&range, &mapping) {
                let Some((_, above)) = self.map.find_mut(end) else { return };
                above.extend_front(range.len());
                above.absorb(&mapping);
                self.resize(next.start, start..next.end);
                return;
            }
            // It closes the gap between two.
            if let Some((_, above)) = self.map.remove(next.start) {
                mapping.absorb(&above);
            }
            end = next.end;
        }
        match self.map.find_mut(start.wrapping_sub(1)) {
            Some((below_range, below)) if below.continues_with(below_range.len(), &mapping) => {
                below.absorb(&mapping);
                start = below_range.start;
                self.resize(start, start..end);
            }
            _ => self.insert_plainly(start..end, mapping),
        }
    }

    /// Returns whether the mapping below `range` could be one with `mapping`.
    fn extend_below(&self, range: &Range<usize>, mapping: &VmMapping<M>) -> bool {
        self.map
            .find(range.start.wrapping_sub(1))
            .is_some_and(|(below_range, below)| below.continues_with(below_range.len(), mapping))
    }

    /// Makes `at` a boundary between mappings if it lies within one. Needs room for one insertion.
    pub(crate) fn split(&mut self, at: usize) {
        let Some((range, mapping)) = self.map.find_mut(at) else { return };
        if range.start == at {
            return;
        }
        let upper = mapping.split_off(at - range.start, at);
        self.resize(range.start, range.start..at);
        self.insert_plainly(at..range.end, upper);
    }

    /// Takes out all that lies in `range`. What reaches beyond it stays there. Needs room for one insertion, and in
    /// `removed`.
    pub(crate) fn cut(&mut self, range: &Range<usize>, removed: &mut Removed<M>) {
        let mut at = range.start;
        while at < range.end {
            let Some(start) = self.find_or_next(at).map(|(found, _)| found.start) else { return };
            if start >= range.end {
                return;
            }
            let Some((found, mapping)) = self.map.find_mut(start) else { return };
            let part = found.start.max(range.start)..found.end.min(range.end);
            self.totals.sub(mapping, part.len());
            match (found.start < range.start, found.end > range.end) {
                (false, false) => {
                    if let Some((_, mapping)) = self.map.remove(found.start) {
                        removed.push(mapping);
                    }
                }
                (true, false) => {
                    mapping.cut_back(range.start);
                    self.resize(found.start, found.start..range.start);
                }
                (false, true) => {
                    mapping.cut_front(range.end - found.start, range.end);
                    self.resize(found.start, range.end..found.end);
                }
                (true, true) => {
                    let upper = mapping.split_off(range.end - found.start, range.end);
                    mapping.cut_back(range.start);
                    self.resize(found.start, found.start..range.start);
                    self.insert_plainly(range.end..found.end, upper);
                }
            }
            at = found.end;
        }
    }

    /// Changes the mappings of exactly `range`, splitting those at its ends and merging what has become alike. Needs
    /// room for two insertions.
    pub(crate) fn change(
        &mut self,
        range: &Range<usize>,
        mut change: impl FnMut(&Range<usize>, &mut VmMapping<M>),
    ) {
        self.split(range.start);
        self.split(range.end);
        let totals = &mut self.totals;
        self.map.for_each_mut(range.clone(), |found, mapping| {
            totals.sub(mapping, found.len());
            change(&found, mapping);
            totals.add(mapping, found.len());
        });
        self.merge_within(range);
    }

    /// Returns how many insertions [`change`](Self::change) over `range` would make.
    pub(crate) fn count_splits(&self, range: &Range<usize>) -> usize {
        let is_within = |at| self.map.find(at).is_some_and(|(found, _)| found.start < at);
        usize::from(is_within(range.start)) + usize::from(is_within(range.end))
    }

    /// Moves the end of the mapping that starts at `start` up to `end`, where there is nothing, and merges it with what
    /// follows.
    pub(crate) fn extend_end(&mut self, start: usize, end: usize) {
        let Some((range, mapping)) = self.map.find(start) else { return };
        self.totals.add(mapping, end - range.end);
        self.note_peak(end - range.end);
        self.resize(start, start..end);
        self.merge_at(end);
    }

    /// Moves the start of the mapping that starts at `start` down to `new_start`, where there is nothing.
    pub(crate) fn extend_start(&mut self, start: usize, new_start: usize) {
        let Some((range, mapping)) = self.map.find_mut(start) else { return };
        mapping.extend_front(start - new_start);
        self.totals.add(mapping, start - new_start);
        self.note_peak(start - new_start);
        self.resize(start, new_start..range.end);
        self.merge_at(new_start);
    }

    /// Notes that `range` has no entries left.
    pub(crate) fn forget_entries_within(&mut self, range: &Range<usize>) {
        self.map.for_each_mut(range.clone(), |found, mapping| {
            let span = mapping.resident_span(&found);
            if span.is_some_and(|span| range.start <= span.start && span.end <= range.end) {
                mapping.forget_entries();
            }
        });
    }

    /// Takes out everything.
    pub(crate) fn take_all(&mut self) -> Self {
        let mut all = Self::new(self.window);
        core::mem::swap(&mut self.map, &mut all.map);
        self.totals.clear();
        all
    }

    /// Merges at each boundary of `range`, its ends included.
    fn merge_within(&mut self, range: &Range<usize>) {
        let mut at = range.start;
        while at <= range.end {
            self.merge_at(at);
            match self.find_or_next(at) {
                Some((found, _)) if found.start > at => at = found.start,
                Some((found, _)) => at = found.end,
                None => return,
            }
        }
    }

    /// Makes one mapping of those that meet at `at`, if one can stand for both.
    fn merge_at(&mut self, at: usize) {
        let Some((above_range, above)) = self.map.find(at) else { return };
        if above_range.start != at {
            return;
        }
        let Some((below_range, below)) = self.map.find(at.wrapping_sub(1)) else { return };
        if !below.continues_with(below_range.len(), above) {
            return;
        }
        let Some((above_range, above)) = self.map.remove(at) else { return };
        if let Some((_, below)) = self.map.find_mut(below_range.start) {
            below.absorb(&above);
        }
        self.resize(below_range.start, below_range.start..above_range.end);
    }

    fn resize(&mut self, start: usize, range: Range<usize>) {
        let result = self.map.set_range(start, range);
        debug_assert!(result.is_ok(), "the range was known to be free: {result:?}");
    }

    fn insert_plainly(&mut self, range: Range<usize>, mapping: VmMapping<M>) {
        let result = self.map.insert(range, mapping);
        debug_assert!(result.is_ok(), "the range was known to be free and room reserved: {result:?}");
    }
}
