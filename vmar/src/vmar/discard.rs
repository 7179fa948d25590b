// SPDX-License-Identifier: MPL-2.0

//! Giving pages back while the mapping stays.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, entries::unmap_part, mappings::Mappings};
use crate::{
    error::Error,
    machine::Machine,
    mapping::{MappedMemory, MappingFlags, VmMapping},
};

/// What a program says of pages it does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Their content is gone now (`MADV_DONTNEED`).
    Now,
    /// The same, for locked memory too (`MADV_DONTNEED_LOCKED`).
    NowEvenLocked,
    /// Their content may go at any time until they are written again (`MADV_FREE`); here it goes now. For anonymous
    /// memory only.
    AnyTime,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Drops the pages of `range` (bytes, page-aligned): a later access finds private memory as it was when it was
    /// mapped, and objects as they are.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if there is a hole; what is mapped **is dropped** all the same.
    /// - [`Error::Sealed`] if any of it is sealed and can only be written by discarding it; nothing is dropped.
    /// - [`Error::NotSupported`] at a mapping that is locked, a device, or (for [`Discard::AnyTime`]) an object's; what
    ///   comes before it **is dropped**.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    #[require(R > Write)]
    pub fn discard(&self, range: Range<usize>, how: Discard) -> Result<(), Error> {
        self.inner.discard(range, how)
    }
}

impl<M: Machine> Vmar_<M> {
    pub(crate) fn discard(&self, range: Range<usize>, how: Discard) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.discard(range.clone(), how))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        self.check_discardable(&mappings, &range)?;
        // Most of what is discarded lies within one mapping, which need not be looked up for each step then.
        if mappings.borrow.is_none()
            && let Some((found, mapping)) = mappings.find_mut(range.start)
            && range.end <= found.end
        {
            if !can_discard(mapping, how) {
                return Err(Error::NotSupported);
            }
            self.discard_part(mapping, &found, &range);
            if mapping.is_handed() && matches!(mapping.memory(), MappedMemory::Anonymous) {
                mappings.clear_marks(&range);
            }
            return Ok(());
        }
        let (end, outcome) = discardable(&mappings, &range, how);
        let range = range.start..end;
        if !range.is_empty() {
            self.unmap_entries(&mappings, &range);
            mappings.forget_entries_within(&range);
            if mappings.watch.is_some() {
                mappings.clear_marks_of_anonymous(&range);
            }
        }
        outcome
    }

    /// Drops the pages of `range`, a part of a mapping that covers `found`.
    fn discard_part(&self, mapping: &mut VmMapping<M>, found: &Range<usize>, range: &Range<usize>) {
        let Some(span) = mapping.resident_span(range) else { return };
        let is_all = mapping.resident_span(found).as_ref() == Some(&span);
        let mut delta = self.rss.delta();
        self.transact(span.clone(), |cursor| unmap_part(cursor, mapping, span, &mut delta));
        if is_all {
            mapping.forget_entries();
        }
    }
}

/// Returns up to where `range` can be discarded, and what is wrong with it.
fn discardable<M: Machine>(
    mappings: &Mappings<M>,
    range: &Range<usize>,
    how: Discard,
) -> (usize, Result<(), Error>) {
    let mut outcome = Ok(());
    let mut at = range.start;
    for (found, mapping) in mappings.range(range.clone()) {
        if !can_discard(mapping, how) {
            return (found.start.max(range.start), Err(Error::NotSupported));
        }
        if found.start > at {
            outcome = Err(Error::NotMapped);
        }
        at = found.end;
    }
    if at < range.end {
        outcome = Err(Error::NotMapped);
    }
    (range.end, outcome)
}

fn can_discard<M: Machine>(mapping: &VmMapping<M>, how: Discard) -> bool {
    match mapping.memory() {
        MappedMemory::Device { .. } => return false,
        MappedMemory::Vmo { .. } if how == Discard::AnyTime => return false,
        _ => {}
    }
    how == Discard::NowEvenLocked || !mapping.flags().intersects(MappingFlags::ANY_LOCK)
}

#[cfg(test)]
mod tests;
