// SPDX-License-Identifier: MPL-2.0

//! Asking which pages are in memory (`mincore`).

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, entries::clip};
use crate::{
    error::Error,
    machine::{Cursor, Entry, Machine, PageFlags, SleepLock},
    mapping::{MappedMemory, VmMapping},
};

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
}

impl<M: Machine> Vmar_<M> {
    fn resident(&self, range: Range<usize>, is_resident: &mut [bool]) -> Result<(), Error> {
        self.check_range(&range)?;
        let mappings = self.mappings.read();
        if mappings.covered_until(&range) < range.end {
            return Err(mappings.missing());
        }
        is_resident.fill(false);
        for (found, mapping) in mappings.range(range.clone()) {
            let part = clip(&found, &range);
            if let Some(region) = mapping.region() {
                let first = (part.start - range.start) / M::PAGE_SIZE;
                let count = part.len() / M::PAGE_SIZE;
                region.resident(part, &mut is_resident[first..first + count])?;
                continue;
            }
            if let MappedMemory::Vmo { object, offset } = mapping.memory() {
                let first = (offset + (part.start - found.start)) / M::PAGE_SIZE;
                let base = (part.start - range.start) / M::PAGE_SIZE;
                object.for_each_resident(first..first + part.len() / M::PAGE_SIZE, |index, _| {
                    is_resident[base + (index - first)] = true;
                });
            }
            let mut visit = |addr: usize| is_resident[(addr - range.start) / M::PAGE_SIZE] = true;
            self.each_entry(mapping, &part, &mut visit);
            if let Some(borrow) = &mappings.borrow {
                borrow.for_each_page(&part, |addr, page| {
                    if is_seen(mapping, page.props.flags) {
                        visit(addr);
                    }
                });
            }
        }
        Ok(())
    }

    /// Calls `visit` with the address of each entry that `mapping` has in `part` because of what the program did.
    fn each_entry(&self, mapping: &VmMapping<M>, part: &Range<usize>, mut visit: impl FnMut(usize)) {
        let Some(span) = mapping.resident_span(part) else { return };
        self.transact(span.clone(), |cursor| {
            let mut next = cursor.next_mapped(span.end);
            while let Some(addr) = next {
                let is_seen = match cursor.query() {
                    Entry::Page { props, .. } => is_seen(mapping, props.flags),
                    _ => true,
                };
                if is_seen {
                    visit(addr);
                }
                next = None;
                if addr + M::PAGE_SIZE < span.end {
                    cursor.seek(addr + M::PAGE_SIZE);
                    next = cursor.next_mapped(span.end);
                }
            }
        });
    }
}

/// Returns whether a page that `mapping` has with `flags` is there because of what the program did: zeros that were mapped around a
/// read, and not read themselves, are not.
fn is_seen<M: Machine>(mapping: &VmMapping<M>, flags: PageFlags) -> bool {
    flags.intersects(PageFlags::PRIVATE | PageFlags::ACCESSED) || mapping.object().is_some()
}

#[cfg(test)]
mod tests;
