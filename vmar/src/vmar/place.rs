// SPDX-License-Identifier: MPL-2.0

//! The search for a place.
//!
//! Mappings that grow down keep a gap of [`GUARD_PAGES`] below them free of others, so that a stack which runs over hits
//! nothing (Linux: `stack_guard_gap`). The gap binds the search and hints, not whoever names an address.

use core::ops::Range;

use super::{entries::clip, mappings::Mappings};
use crate::{
    error::Error,
    machine::Machine,
    mapping::MappingFlags,
    placement::{Placement, Window},
};

/// How many pages below a mapping that grows down are kept free.
pub(crate) const GUARD_PAGES: usize = 256;

impl<M: Machine> Mappings<M> {
    /// Finds the range for `size` bytes. Only [`Placement::Replacing`] gives a range that may be in use.
    ///
    /// The size is checked to be a multiple of the page size, `align` to be a power of two and a multiple of it.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidAlignment`] if an address is none of whole pages.
    /// - [`Error::OutOfRange`] if an address that was insisted on leaves `user`, the addresses that can be used.
    /// - [`Error::Occupied`] if it is taken.
    /// - [`Error::NoRoom`] if there is no place.
    pub(super) fn place(
        &self,
        size: usize,
        align: usize,
        placement: Placement,
        user: &Range<usize>,
    ) -> Result<Range<usize>, Error> {
        if !self.policy.is_indifferent() {
            return self.place_by_policy(size, align, placement, user);
        }
        self.place_anyhow(size, align, placement, user)
    }

    /// The same, whatever the policy is.
    #[inline(always)]
    pub(super) fn place_anyhow(
        &self,
        size: usize,
        align: usize,
        placement: Placement,
        user: &Range<usize>,
    ) -> Result<Range<usize>, Error> {
        let at = |addr: usize| -> Result<Range<usize>, Error> {
            if !addr.is_multiple_of(M::PAGE_SIZE) {
                return Err(Error::InvalidAlignment);
            }
            let end = addr.checked_add(size).ok_or(Error::OutOfRange)?;
            if addr < user.start || end > user.end { Err(Error::OutOfRange) } else { Ok(addr..end) }
        };
        let found = match placement {
            Placement::Exactly(addr) => {
                let range = at(addr)?;
                if self.map.overlaps(&range) {
                    return Err(Error::Occupied);
                }
                return Ok(range);
            }
            Placement::Apart(addr, behind) => {
                let range = at(addr)?;
                if !self.is_free(&(addr..range.end.saturating_add(behind))) {
                    return Err(Error::Occupied);
                }
                return Ok(range);
            }
            Placement::Replacing(addr) => return at(addr),
            Placement::Anywhere => self.find_room(size, align, user),
            Placement::Hint(addr) => match at(addr.max(self.window.floor)) {
                Ok(range) if addr.is_multiple_of(align) && self.is_free(&range) => Some(range.start),
                Err(Error::InvalidAlignment) => return Err(Error::InvalidAlignment),
                _ => self.find_room(size, align, user),
            },
            Placement::Below(addr) => {
                let Window { floor, ceiling, .. } = self.window;
                self.highest(size, align, clip(user, &(floor..addr.min(ceiling))))
            }
            Placement::Between { hint, from, below } => {
                let hinted = hint.map(|hint| at(hint.max(self.window.floor))).transpose()?;
                match hinted {
                    Some(range)
                        if range.start.is_multiple_of(align)
                            && range.end <= below
                            && self.is_free(&range) =>
                    {
                        Some(range.start)
                    }
                    _ => self.lowest(size, align, clip(user, &(from..below))),
                }
            }
        };
        let start = found.ok_or(Error::NoRoom)?;
        Ok(start..start + size)
    }

    /// Returns whether nothing lies in `range`, guard gaps included.
    fn is_free(&self, range: &Range<usize>) -> bool {
        match self.find_or_next(range.start) {
            Some((found, mapping)) => range.end <= guarded_start::<M>(found.start, mapping.flags()),
            None => true,
        }
    }

    fn find_room(&self, size: usize, align: usize, user: &Range<usize>) -> Option<usize> {
        let Window { floor, base, bottom, ceiling } = self.window;
        let top_down = self.highest(size, align, clip(user, &(floor..base)));
        top_down.or_else(|| self.lowest(size, align, clip(user, &(bottom..ceiling))))
    }

    /// Returns the highest free address within `limits`, guard gaps respected.
    fn highest(&self, size: usize, align: usize, mut limits: Range<usize>) -> Option<usize> {
        loop {
            let start = self.map.highest_gap(size, align, limits.clone())?;
            let Some((_, guarded)) = self.guard_within(start..start + size) else { return Some(start) };
            // What is left below the guard gap, or in gaps further down.
            limits.end = guarded;
            if limits.end <= limits.start {
                return None;
            }
        }
    }

    /// Returns the lowest free address within `limits`, guard gaps respected.
    fn lowest(&self, size: usize, align: usize, mut limits: Range<usize>) -> Option<usize> {
        loop {
            let start = self.map.lowest_gap(size, align, limits.clone())?;
            let Some((next, _)) = self.guard_within(start..start + size) else { return Some(start) };
            limits.start = next.end;
            if limits.end <= limits.start {
                return None;
            }
        }
    }

    /// Returns the mapping whose guard gap reaches into `range`, which is free, and where that gap starts.
    fn guard_within(&self, range: Range<usize>) -> Option<(Range<usize>, usize)> {
        if range.end.saturating_add(GUARD_PAGES * M::PAGE_SIZE) <= self.lowest_grows_down() {
            return None;
        }
        let (next, mapping) = self.next(range.start)?;
        let guarded = guarded_start::<M>(next.start, mapping.flags());
        (range.end > guarded).then_some((next, guarded))
    }
}

/// Returns where the guard gap of a mapping starts, or the mapping itself if it has none.
fn guarded_start<M: Machine>(start: usize, flags: MappingFlags) -> usize {
    if flags.contains(MappingFlags::GROWS_DOWN) {
        start.saturating_sub(GUARD_PAGES * M::PAGE_SIZE)
    } else {
        start
    }
}

#[cfg(test)]
mod tests;
