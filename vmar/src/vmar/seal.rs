// SPDX-License-Identifier: MPL-2.0

//! Sealing mappings: what `mseal` in Linux 6.10 promises.
//!
//! A sealed mapping stays where it is, as it is, until its space ends: nothing takes it away, moves or resizes it, puts another in
//! its place or gives it other permissions. Where it could not be written, it cannot be emptied either. There is no way back, and a
//! forked space is sealed where its parent is.
//!
//! Each refusing operation asks here before it does anything. A space without seals pays the look at one flag.

use core::{ops::Range, sync::atomic::Ordering::Relaxed};

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, mappings::Mappings};
use crate::{
    error::Error,
    machine::Machine,
    mapping::{MappedMemory, MappingFlags, VmMapping},
    perms::VmPerms,
};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Seals the mappings of `range` (bytes, page-aligned), for good.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if there is a hole; nothing is sealed then.
    /// - [`Error::LimitExceeded`] if mappings would be split and there are too many.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write | Exec)]
    pub fn seal(&self, range: Range<usize>) -> Result<(), Error> {
        self.inner.seal(range)
    }
}

impl<M: Machine> Vmar_<M> {
    fn seal(&self, range: Range<usize>) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.seal(range.clone()))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        if mappings.covered_until(&range) < range.end {
            return Err(Error::NotMapped);
        }
        self.reserve_splits(&mut mappings, &range)?;
        // From here on nothing fails.
        self.has_sealed.store(true, Relaxed);
        mappings.change(&range, |_, mapping| {
            mapping.set_flags(mapping.flags() | MappingFlags::SEALED);
        });
        Ok(())
    }

    /// Checks that nothing in `range` is sealed.
    #[inline(always)]
    pub(super) fn check_unsealed(&self, mappings: &Mappings<M>, range: &Range<usize>) -> Result<(), Error> {
        if self.has_sealed.load(Relaxed) { check_each(mappings, range, |_| true) } else { Ok(()) }
    }

    /// Checks that nothing in `range` is sealed with a content that cannot be changed otherwise than by dropping it.
    #[inline(always)]
    pub(super) fn check_discardable(
        &self,
        mappings: &Mappings<M>,
        range: &Range<usize>,
    ) -> Result<(), Error> {
        if !self.has_sealed.load(Relaxed) {
            return Ok(());
        }
        check_each(mappings, range, |mapping| {
            matches!(mapping.memory(), MappedMemory::Anonymous) && !mapping.perms().contains(VmPerms::WRITE)
        })
    }
}

/// Checks that nothing in `range` is sealed of what `concerns` holds for.
#[cold]
#[inline(never)]
fn check_each<M: Machine>(
    mappings: &Mappings<M>,
    range: &Range<usize>,
    concerns: fn(&VmMapping<M>) -> bool,
) -> Result<(), Error> {
    let mut found = mappings.range(range.clone()).map(|(_, mapping)| mapping);
    match found.any(|mapping| mapping.flags().contains(MappingFlags::SEALED) && concerns(mapping)) {
        true => Err(Error::Sealed),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
