// SPDX-License-Identifier: MPL-2.0

//! Asking which pages are in memory: `mincore`, and the figures of `/proc/PID/smaps`.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, entries::clip};
use crate::{
    error::Error,
    machine::{Cursor, Entry, Frame, Machine, PageFlags, SleepLock},
    mapping::{MappedMemory, VmMapping},
};

/// How many pages a part of a space has in its page table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentPages {
    /// Private pages that this space alone holds.
    pub private: usize,
    /// Private pages that a forked space holds too.
    pub private_shared: usize,
    /// Pages of objects.
    pub object: usize,
}

impl ResidentPages {
    /// Returns the sum.
    pub const fn total(&self) -> usize {
        self.private + self.private_shared + self.object
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Sets `is_resident[i]` for each page `i` of `range` (bytes, page-aligned) to whether it is in memory: mapped, or
    /// held by its object.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if there is a hole.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    ///
    /// # Panics
    ///
    /// Panics if the slice has fewer elements than the range has pages.
    #[require(R > Read)]
    pub fn resident(&self, range: Range<usize>, is_resident: &mut [bool]) -> Result<(), Error> {
        self.inner.resident(range, is_resident)
    }

    /// Counts the pages that `range` (bytes, page-aligned) has in the page table; holes count for nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    #[require(R > Read)]
    pub fn count_resident(&self, range: Range<usize>) -> Result<ResidentPages, Error> {
        self.inner.count_resident(range)
    }
}

impl<M: Machine> Vmar_<M> {
    fn resident(&self, range: Range<usize>, is_resident: &mut [bool]) -> Result<(), Error> {
        self.check_range(&range)?;
        let mappings = self.mappings.read();
        if mappings.covered_until(&range) < range.end {
            return Err(Error::NotMapped);
        }
        is_resident.fill(false);
        for (found, mapping) in mappings.range(range.clone()) {
            let part = clip(&found, &range);
            if let MappedMemory::Vmo { object, offset } = mapping.memory() {
                let first = (offset + (part.start - found.start)) / M::PAGE_SIZE;
                let base = (part.start - range.start) / M::PAGE_SIZE;
                object.for_each_resident(first..first + part.len() / M::PAGE_SIZE, |index, _| {
                    is_resident[base + (index - first)] = true;
                    true
                });
            }
            self.each_entry(mapping, &part, |addr, _| {
                is_resident[(addr - range.start) / M::PAGE_SIZE] = true;
            });
        }
        Ok(())
    }

    pub(crate) fn count_resident(&self, range: Range<usize>) -> Result<ResidentPages, Error> {
        self.check_range(&range)?;
        let mappings = self.mappings.read();
        let mut pages = ResidentPages::default();
        for (found, mapping) in mappings.range(range.clone()) {
            self.each_entry(mapping, &clip(&found, &range), |_, entry| match entry {
                Some((flags, holders)) if flags.contains(PageFlags::PRIVATE) && holders > 1 => {
                    pages.private_shared += 1;
                }
                Some((flags, _)) if flags.contains(PageFlags::PRIVATE) => pages.private += 1,
                Some((flags, _)) if mapping.kind_of(flags).is_some() => pages.object += 1,
                _ => {}
            });
        }
        Ok(pages)
    }

    /// Calls `visit` with the address of each entry that `mapping` has in `part`, and with its flags and how many hold
    /// its page if it is one of memory.
    fn each_entry(
        &self,
        mapping: &VmMapping<M>,
        part: &Range<usize>,
        mut visit: impl FnMut(usize, Option<(PageFlags, usize)>),
    ) {
        let Some(span) = mapping.resident_span(part) else { return };
        self.transact(span.clone(), |cursor| {
            let mut next = cursor.next_mapped(span.end);
            while let Some(addr) = next {
                visit(
                    addr,
                    match cursor.query() {
                        Entry::Page { frame, props } => Some((props.flags, frame.holders())),
                        _ => None,
                    },
                );
                next = None;
                if addr + M::PAGE_SIZE < span.end {
                    cursor.seek(addr + M::PAGE_SIZE);
                    next = cursor.next_mapped(span.end);
                }
            }
        });
    }
}
