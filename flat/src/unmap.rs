// SPDX-License-Identifier: MPL-2.0

//! Taking mappings away.

use core::ops::Range;

use vmar::error::Error;

use crate::{
    Flat, Memory,
    program::{Mapping, Place, Program},
};

impl<M: Memory> Flat<M> {
    /// Takes the mapping of exactly `range` (addresses, bytes; its end may lie anywhere in its last page) away, or cuts whole
    /// pages off the front or the back of one that is its program's own.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if there is no such mapping.
    /// - [`Error::NotSupported`] for a part of what others see too, or one from the middle.
    /// - [`Error::InvalidSize`] and [`Error::InvalidAlignment`] for a bad range.
    pub fn unmap(&mut self, program: &mut Program, range: Range<usize>) -> Result<(), Error> {
        if range.is_empty() {
            return Err(Error::InvalidSize);
        }
        let rounded =
            range.start..range.end.checked_next_multiple_of(self.page_size).ok_or(Error::InvalidSize)?;
        let exact = program.exactly(&range).or_else(|| program.exactly(&rounded));
        if let Some(index) = exact {
            let mapping = program.remove(index);
            self.release(&mapping);
            return Ok(());
        }
        let index = program
            .mappings
            .iter()
            .position(|mapping| mapping.range.start <= rounded.start && rounded.end <= mapping.range.end);
        let index = index.ok_or(Error::NotMapped)?;
        if !rounded.start.is_multiple_of(self.page_size) {
            return Err(Error::InvalidAlignment);
        }
        let mapping = &program.mappings[index];
        let (start, end) = (mapping.range.start, mapping.range.end);
        let left = match (rounded.start == start, rounded.end == end) {
            (true, false) => rounded.end..end,
            (false, true) => start..rounded.start,
            _ => return Err(Error::NotSupported),
        };
        if !self.is_own(mapping) {
            return Err(Error::NotSupported);
        }
        let Some((region, _)) = self.regions.find(start) else { return Err(Error::NotMapped) };
        // What was kept behind a mapping that was made smaller goes as well.
        let kept = left.start..if rounded.end == end { left.end } else { region.end };
        // A smaller range is never occupied.
        if self.regions.set_range(region.start, kept.clone()).is_err() {
            return Err(Error::NotSupported);
        }
        self.free(&(region.start..kept.start));
        self.free(&(kept.end..region.end));
        let mut mapping = program.remove(index);
        mapping.range = left;
        program.insert(mapping);
        Ok(())
    }

    /// Ends a program: all of its memory that nobody else uses is free afterwards.
    pub fn exit(&mut self, program: Program) {
        program.mappings.iter().for_each(|mapping| self.release(mapping));
    }

    /// Returns whether nobody else is or can be shown what a mapping shows.
    pub(crate) fn is_own(&self, mapping: &Mapping) -> bool {
        let region = match mapping.place {
            Place::Direct { .. } => None,
            Place::Copied => self.regions.find(mapping.range.start),
        };
        region.is_some_and(|(_, region)| region.users == 1 && region.key.is_none())
    }

    /// Gives up a mapping's hold on its region, which goes with the last one.
    fn release(&mut self, mapping: &Mapping) {
        let Place::Copied = mapping.place else { return };
        let Some((range, region)) = self.regions.find_mut(mapping.range.start) else { return };
        region.users -= 1;
        if region.users == 0 {
            self.regions.remove(range.start);
            self.free(&range);
        }
    }
}
