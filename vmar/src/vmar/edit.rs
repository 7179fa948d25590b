// SPDX-License-Identifier: MPL-2.0

//! The steps by which operations change the mappings: insert, split, cut, change, merge.
//!
//! Each keeps the totals right. Those that may insert say how many insertions to reserve first
//! ([`Mappings::try_reserve`]); with that none of them fails. None of them looks at the page table.

use alloc::vec::Vec;
use core::ops::Range;

use super::mappings::Mappings;
use crate::{
    error::OutOfMemory,
    fallible,
    interval_map::InsertError,
    machine::Machine,
    mapping::{Joint, MappingFlags, Noted, VmMapping},
    perms::VmPerms,
};

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
        if self.is_tracked && mapping.is_tracked() {
            self.untrack_like_neighbour(&range, &mut mapping);
        }
        self.count(&range, &mapping);
        self.note_peak(range.len());
        if !self.insert_into_neighbour(&range, &mapping) {
            self.insert_plainly(range, mapping);
        }
    }

    /// The same for a mapping that no neighbour could stand for.
    pub(crate) fn insert_apart(&mut self, range: Range<usize>, mapping: VmMapping<M>) {
        self.count(&range, &mapping);
        self.note_peak(range.len());
        self.insert_plainly(range, mapping);
    }

    /// The same for anonymous memory, the most common kind: its mapping is made where it is stored. Needs no room to be
    /// reserved.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if none was and there is none; nothing has changed.
    pub(crate) fn insert_anonymous(
        &mut self,
        range: &Range<usize>,
        perms: VmPerms,
        flags: MappingFlags,
    ) -> Result<(), OutOfMemory> {
        let mapping = VmMapping::anonymous(perms, flags);
        if !self.insert_into_neighbour(range, &mapping) {
            let result = self.map.insert_with(range.clone(), || VmMapping::anonymous(perms, flags));
            debug_assert!(
                !matches!(result, Err(InsertError::Overlaps(()))),
                "the range was known to be free"
            );
            result.map_err(|_| OutOfMemory)?;
        }
        self.count(range, &mapping);
        self.note_peak(0);
        Ok(())
    }

    /// Counts a mapping that is added at `range`.
    fn count(&mut self, range: &Range<usize>, mapping: &VmMapping<M>) {
        self.totals.add(mapping, range.len());
        if mapping.flags().contains(MappingFlags::GROWS_DOWN) {
            self.note_grows_down(range.start);
        }
    }

    /// Makes a mapping at a free range a part of a neighbour if one mapping can stand for both; returns whether it could.
    fn insert_into_neighbour(&mut self, range: &Range<usize>, mapping: &VmMapping<M>) -> bool {
        if self.is_tracked && !mapping.is_tracked() {
            self.untrack_beside(range, mapping);
        }
        let [below, above] = self.map.beside(range);
        let below = below
            .filter(|(found, neighbour)| neighbour.continues_with(found.len(), mapping))
            .map(|(found, _)| found);
        let above = above
            .filter(|(_, neighbour)| mapping.continues_with(range.len(), neighbour))
            .map(|(found, _)| found);
        let end = above.as_ref().map_or(range.end, |above| above.end);
        match (below, above) {
            (None, None) => return false,
            (None, Some(above)) => {
                let Some((_, neighbour)) = self.map.find_mut(above.start) else { return false };
                neighbour.extend_front(range.len());
                neighbour.absorb(&mapping.noted());
                self.resize(above.start, range.start..end);
            }
            // The neighbour need not know of a mapping that has no entries.
            (Some(below), None) if !mapping.has_entries() => self.resize(below.start, below.start..end),
            (Some(below), above) => {
                let upper = above.and_then(|above| self.take_out(above.start));
                let Some((_, neighbour)) = self.map.find_mut(below.start) else { return false };
                neighbour.absorb(&mapping.noted());
                if let Some(upper) = &upper {
                    neighbour.absorb(upper);
                }
                self.resize(below.start, below.start..end);
            }
        }
        true
    }

    /// Iterates over the mappings that overlap `range` or touch it.
    fn around(&self, range: &Range<usize>) -> impl Iterator<Item = (Range<usize>, &VmMapping<M>)> {
        self.map.range(range.start.saturating_sub(1)..range.end.saturating_add(1))
    }

    /// Makes `at` a boundary between mappings if it lies within one. Needs room for one insertion. Returns whether that was a
    /// [cut](Self::settle_cut) in one of those that count.
    fn split(&mut self, at: usize) -> bool {
        let Some((range, mapping)) = self.map.find_mut(at) else { return false };
        if range.start == at {
            return false;
        }
        let upper = mapping.split_off(at - range.start, at);
        let counts = upper.joint() == Joint::Counted;
        self.resize(range.start, range.start..at);
        self.insert_plainly(at..range.end, upper);
        counts
    }

    /// Takes out all that lies in `range`. What reaches beyond it stays there. Needs room for one insertion, and in
    /// `removed`.
    pub(crate) fn cut(&mut self, range: &Range<usize>, removed: &mut Removed<M>) {
        let mut at = range.start;
        while at < range.end {
            let Some((found, _)) = self.find_or_next(at) else { return };
            if found.start >= range.end {
                return;
            }
            at = found.end;
            self.cut_one(&found, range, removed);
        }
    }

    /// Takes out what lies in `range` of the one mapping that is at `found`. Needs room for one insertion if that
    /// reaches beyond both ends.
    pub(crate) fn cut_one(&mut self, found: &Range<usize>, range: &Range<usize>, removed: &mut Removed<M>) {
        self.clear_marks(range);
        if found.start >= range.start && found.end <= range.end {
            let totals = &mut self.totals;
            let heavy = self.map.remove_keeping(found.start, |mapping| {
                totals.sub(mapping, found.len());
                mapping.is_heavy()
            });
            if let Some(mapping) = heavy {
                removed.push(mapping);
            }
            return;
        }
        let Some((_, mapping)) = self.map.find_mut(found.start) else { return };
        let part = found.start.max(range.start)..found.end.min(range.end);
        self.totals.sub(mapping, part.len());
        let mut upper = None;
        mapping.note_cut();
        if found.start >= range.start {
            mapping.cut_front(range.end - found.start, range.end);
            self.resize(found.start, range.end..found.end);
            return;
        }
        if found.end > range.end {
            upper = Some(mapping.split_off(range.end - found.start, range.end));
        }
        mapping.cut_back(range.start);
        self.resize(found.start, found.start..range.start);
        if let Some(upper) = upper {
            self.insert_plainly(range.end..found.end, upper);
        }
    }

    /// Changes the mappings of exactly `range`, splitting those at its ends and merging what has become alike. Needs
    /// room for two insertions.
    pub(crate) fn change(
        &mut self,
        range: &Range<usize>,
        mut change: impl FnMut(&Range<usize>, &mut VmMapping<M>),
    ) {
        let cuts = [range.start, range.end].map(|at| self.split(at).then_some(at));
        let totals = &mut self.totals;
        self.map.for_each_mut(range.clone(), |found, mapping| {
            totals.sub(mapping, found.len());
            change(&found, mapping);
            totals.add(mapping, found.len());
        });
        cuts.into_iter().flatten().for_each(|at| self.settle_cut(at));
        self.merge_within(range);
    }

    /// The same for a `range` that lies within the one mapping at `found`. Needs room for one insertion for each end of
    /// `found` that `range` does not reach.
    pub(crate) fn change_part_of_one(
        &mut self,
        found: &Range<usize>,
        range: &Range<usize>,
        change: impl FnOnce(&mut VmMapping<M>),
    ) {
        let Some((_, mapping)) = self.map.find_mut(found.start) else { return };
        self.totals.sub(mapping, range.len());
        let upper = (found.end > range.end).then(|| mapping.split_off(range.end - found.start, range.end));
        if upper.is_some() || found.start < range.start {
            mapping.note_cut();
        }
        if found.start < range.start {
            let mut middle = mapping.split_off(range.start - found.start, range.start);
            change(&mut middle);
            self.totals.add(&middle, range.len());
            self.resize(found.start, found.start..range.start);
            self.insert_plainly(range.clone(), middle);
        } else {
            change(mapping);
            self.totals.add(mapping, range.len());
            if upper.is_some() {
                self.resize(found.start, range.clone());
            }
        }
        if let Some(upper) = upper {
            self.insert_plainly(range.end..found.end, upper);
        }
        if self.is_tracked {
            self.untrack_around(range);
        }
        self.merge_one(range);
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
        self.note_grows_down(new_start);
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
        core::mem::swap(&mut self.watch, &mut all.watch);
        self.totals.clear();
        all
    }

    /// Merges at each boundary of `range`, its ends included.
    fn merge_within(&mut self, range: &Range<usize>) {
        if self.is_tracked {
            self.untrack_around(range);
        }
        while let Some(seam) = self.first_seam(range) {
            self.merge_one(&seam);
        }
    }

    /// Returns the first mapping that could be one with the mapping below it, of those that start within `range` or at
    /// its end.
    fn first_seam(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let mut below: Option<(Range<usize>, &VmMapping<M>)> = None;
        for (found, mapping) in self.around(range) {
            if let Some((below_range, below)) = below
                && below_range.end == found.start
                && below.continues_with(below_range.len(), mapping)
            {
                return Some(found);
            }
            below = Some((found, mapping));
        }
        None
    }

    /// Merges the one mapping that is exactly `range` with its neighbours, where one mapping can stand for both.
    fn merge_one(&mut self, range: &Range<usize>) {
        let Some((mapping, [below, above])) = self.map.with_neighbours(range.start) else { return };
        let below = below
            .filter(|(found, neighbour)| neighbour.continues_with(found.len(), mapping))
            .map(|(found, _)| found.start);
        let end = above
            .filter(|(_, neighbour)| mapping.continues_with(range.len(), neighbour))
            .map_or(range.end, |(found, _)| found.end);
        if below.is_none() && end == range.end {
            return;
        }
        let upper = if end > range.end { self.take_out(range.end) } else { None };
        let middle = if below.is_some() { self.take_out(range.start) } else { None };
        let start = below.unwrap_or(range.start);
        let Some((_, mapping)) = self.map.find_mut(start) else { return };
        if let Some(absorbed) = &middle {
            mapping.absorb(absorbed);
        }
        if let Some(absorbed) = &upper {
            mapping.absorb(absorbed);
        }
        self.resize(start, start..end);
    }

    /// Makes one mapping of those that meet at `at`, if one can stand for both.
    fn merge_at(&mut self, at: usize) {
        if self.is_tracked {
            self.untrack_around(&(at..at));
        }
        if let Some((found, _)) = self.map.find(at).filter(|(found, _)| found.start == at) {
            self.merge_one(&found);
        }
    }

    /// Takes out a mapping that another is to stand for, and returns what was noted of its entries, if it may have any.
    pub(super) fn take_out(&mut self, start: usize) -> Option<Noted> {
        let mut noted = None;
        self.map.remove_keeping(start, |mapping| {
            noted = mapping.has_entries().then(|| mapping.noted());
            false
        });
        noted
    }

    /// Tracks all mappings of `range`, which splits none of them.
    pub(super) fn track(&mut self, range: &Range<usize>) {
        self.is_tracked = true;
        self.change(range, |_, mapping| {
            mapping.set_flags(mapping.flags() | MappingFlags::TRACKED);
        });
    }

    /// Tracks those no more that are beside `range` and that `mapping`, which is not tracked, continues there.
    #[cold]
    #[inline(never)]
    fn untrack_beside(&mut self, range: &Range<usize>, mapping: &VmMapping<M>) {
        let [below, above] = self.map.beside(range);
        let below = below.filter(|(found, neighbour)| neighbour.would_continue_with(found.len(), mapping));
        let above = above.filter(|(_, neighbour)| mapping.would_continue_with(range.len(), neighbour));
        let starts = [below, above].map(|found| found.map(|(found, _)| found.start));
        self.untrack(starts.into_iter().flatten());
    }

    /// Tracks `mapping`, which comes to `range`, no more if a neighbour there is not tracked and continues it.
    #[cold]
    #[inline(never)]
    fn untrack_like_neighbour(&self, range: &Range<usize>, mapping: &mut VmMapping<M>) {
        let [below, above] = self.map.beside(range);
        let is_uneven = below.is_some_and(|(found, neighbour)| {
            !neighbour.is_tracked() && neighbour.would_continue_with(found.len(), mapping)
        }) || above.is_some_and(|(_, neighbour)| {
            !neighbour.is_tracked() && mapping.would_continue_with(range.len(), neighbour)
        });
        if is_uneven {
            mapping.set_flags(mapping.flags() - MappingFlags::TRACKED);
        }
    }

    /// Tracks those mappings no more that are in `range` or touch it, and could be one with a neighbour that is not tracked.
    #[cold]
    #[inline(never)]
    fn untrack_around(&mut self, range: &Range<usize>) {
        while let Some(pair) = self.first_uneven(range) {
            self.untrack(pair.into_iter());
        }
    }

    /// Returns where two neighbours start of which one is tracked, and which could be one mapping but for that.
    fn first_uneven(&self, range: &Range<usize>) -> Option<[usize; 2]> {
        let mut below: Option<(Range<usize>, &VmMapping<M>)> = None;
        for (found, mapping) in self.around(range) {
            if let Some((below_range, below)) = below
                && below_range.end == found.start
                && below.is_tracked() != mapping.is_tracked()
                && below.would_continue_with(below_range.len(), mapping)
            {
                return Some([below_range.start, found.start]);
            }
            below = Some((found, mapping));
        }
        None
    }

    /// Tracks the mappings no more that start at `starts`.
    fn untrack(&mut self, starts: impl Iterator<Item = usize>) {
        for start in starts {
            if let Some((_, mapping)) = self.map.find_mut(start) {
                mapping.set_flags(mapping.flags() - MappingFlags::TRACKED);
            }
        }
    }

    pub(super) fn resize(&mut self, start: usize, range: Range<usize>) {
        let result = self.map.set_range(start, range);
        debug_assert!(result.is_ok(), "the range was known to be free: {result:?}");
    }

    fn insert_plainly(&mut self, range: Range<usize>, mapping: VmMapping<M>) {
        let result = self.map.insert(range, mapping);
        debug_assert!(result.is_ok(), "the range was known to be free and room reserved: {result:?}");
    }
}
