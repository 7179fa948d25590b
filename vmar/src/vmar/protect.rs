// SPDX-License-Identifier: MPL-2.0

//! Changing what mappings allow.
//!
//! Access that is taken away leaves the page table before the operation returns. Access that is granted is not put into
//! it: the fault that misses it does that for the pages it is wanted on. Only a single page is most likely wanted at once, and
//! then spared the fault.

use alloc::vec::Vec;
use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    entries::{self, clip},
    mappings::Mappings,
    populate::Populate,
    shared::Changing,
};
use crate::{
    backing::Personality,
    error::{Error, Limit},
    fallible,
    machine::{AddressSpace, Cursor, Machine, PageFlags},
    mapping::{self, MappingFlags, VmMapping},
    perms::VmPerms,
};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes the mappings of `range` (bytes, page-aligned) allow just `perms`; its MAY bits have no meaning here.
    ///
    /// Like `mprotect` in Linux it goes from mapping to mapping and stops at the first that cannot be changed. Of the
    /// errors marked with a star, what lies before that mapping or hole **is changed**; of the others nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`]* at a hole.
    /// - [`Error::AccessDenied`]* at a mapping whose MAY bits do not include `perms`.
    /// - [`Error::LimitExceeded`]* at a mapping that would make too much data writable.
    /// - [`Error::LimitExceeded`] if a mapping would be split and there are too many.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::Destroyed`].
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write | Exec)]
    pub fn protect(&self, range: Range<usize>, perms: VmPerms) -> Result<(), Error> {
        self.protect_as(range, perms, Personality::Usual)
    }

    /// Does the same for a program with a `personality`: where that has reading imply execution, a mapping that may be executed
    /// can be, and another one cannot.
    ///
    /// # Errors
    ///
    /// As for [`protect`](Self::protect).
    #[require(R > Read | Write | Exec)]
    #[inline]
    pub fn protect_as(
        &self,
        range: Range<usize>,
        perms: VmPerms,
        personality: Personality,
    ) -> Result<(), Error> {
        self.inner.protect(range, Wanted::new(perms.access(), personality))
    }
}

/// What a mapping is to allow.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    access: VmPerms,
    /// What comes with it where the mapping may allow it.
    implied: VmPerms,
}

impl Wanted {
    #[inline]
    fn new(access: VmPerms, personality: Personality) -> Self {
        let implies = personality == Personality::ReadImpliesExec && access.contains(VmPerms::READ);
        Self { access, implied: if implies { VmPerms::EXEC } else { VmPerms::empty() } }
    }

    /// Returns what that is for `mapping`.
    #[inline]
    fn of<M: Machine>(self, mapping: &VmMapping<M>) -> VmPerms {
        self.access | (self.implied & mapping.perms().from_may())
    }
}

impl<M: Machine> Vmar_<M> {
    pub(crate) fn protect(&self, range: Range<usize>, wanted: Wanted) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.protect(range.clone(), wanted))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        if mappings.usage().locked != 0 && wanted.access.contains(VmPerms::WRITE) {
            return self.protect_pinned(mappings, range, wanted);
        }
        self.protect_locked(&mut mappings, range, wanted)
    }

    /// Does that where memory is locked: private memory that becomes writable gets pages of its own at once, as in Linux.
    #[cold]
    #[inline(never)]
    fn protect_pinned(
        &self,
        mut mappings: Changing<'_, M>,
        range: Range<usize>,
        wanted: Wanted,
    ) -> Result<(), Error> {
        let is_affected = |mapping: &VmMapping<M>| {
            mapping.flags() & MappingFlags::ANY_LOCK == MappingFlags::LOCKED
                && !mapping.is_shared()
                && !mapping.perms().contains(VmPerms::WRITE)
        };
        let mut affected: Vec<Range<usize>> = Vec::new();
        for (found, mapping) in mappings.range(range.clone()) {
            if is_affected(mapping) {
                fallible::try_reserve_exact(&mut affected, 1)?;
                affected.push(clip(&found, &range));
            }
        }
        let result = self.protect_locked(&mut mappings, range, wanted);
        drop(mappings);
        for part in affected {
            // What cannot be had now is had by the fault.
            let _ = self.populate(part, Populate::AsNeeded);
        }
        result
    }

    #[inline(always)]
    fn protect_locked(
        &self,
        mappings: &mut Mappings<M>,
        range: Range<usize>,
        wanted: Wanted,
    ) -> Result<(), Error> {
        self.check_unsealed(mappings, &range)?;
        let promises = mappings.policy.promises();
        if let Some((found, mapping)) = mappings.find(range.start)
            && found.end >= range.end
        {
            // By far the most common case: all within one mapping.
            let access = wanted.of(mapping);
            if mapping.perms().access() == access {
                return Ok(());
            }
            self.check_access(mappings, mapping, access, range.len(), mappings.data())?;
            let splits = usize::from(found.start < range.start) + usize::from(found.end > range.end);
            let mapping = if splits == 0 {
                mapping
            } else {
                self.check_limit(mappings, Limit::Mappings, mappings.len(), splits)?;
                mappings.try_reserve(splits)?;
                let Some((_, mapping)) = mappings.find(range.start) else { return Ok(()) };
                mapping
            };
            // From here on nothing fails.
            self.narrow_entries_of(mappings, mapping, &range, access);
            if range.len() == M::PAGE_SIZE && access.contains(VmPerms::WRITE) {
                self.widen_own(mapping, &range, access);
            }
            mappings.change_part_of_one(&found, &range, |mapping| mapping.set_access(access, promises));
            return Ok(());
        }
        self.protect_several(mappings, range, wanted)
    }

    /// Goes from mapping to mapping.
    #[inline(never)]
    fn protect_several(
        &self,
        mappings: &mut Mappings<M>,
        range: Range<usize>,
        wanted: Wanted,
    ) -> Result<(), Error> {
        let (end, outcome) = self.protectable(mappings, &range, wanted);
        let range = range.start..end;
        if range.is_empty() || mappings.range(range.clone()).all(|(_, m)| m.perms().access() == wanted.of(m))
        {
            return outcome;
        }
        self.reserve_splits(mappings, &range)?;
        // From here on nothing fails.
        self.narrow_entries(mappings, &range, wanted.access);
        let promises = mappings.policy.promises();
        mappings.change(&range, |_, mapping| mapping.set_access(wanted.of(mapping), promises));
        outcome
    }

    /// Lets `page` of a mapping that is about to allow `access` be written without a fault, if it is the mapping's own.
    #[inline(never)]
    fn widen_own(&self, mapping: &VmMapping<M>, page: &Range<usize>, access: VmPerms) {
        // A write that is tracked, or may be handed over, must fault.
        let is_there = mapping.resident_span(page).is_some() && self.space.may_be_mapped(page.start);
        if !is_there || mapping.is_tracked() || mapping.is_handed() {
            return;
        }
        self.transact(page.clone(), |cursor| {
            if entries::lacks_write(&cursor.query()) {
                // Execution is left to the fault that misses it.
                cursor.widen(page.end, access.page_flags() - PageFlags::EXEC);
            }
        });
    }

    /// Checks that `size` bytes of `mapping` may be given `access` where there are `data` bytes of data.
    #[inline]
    fn check_access(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        access: VmPerms,
        size: usize,
        data: usize,
    ) -> Result<(), Error> {
        if !mapping.perms().contains(access.to_may()) || mappings.policy.refuses(access) {
            return Err(Error::AccessDenied);
        }
        if becomes_data(mapping, access) {
            self.check_limit(mappings, Limit::Data, data, size)?;
        }
        Ok(())
    }

    /// Returns up to where `range` can be given `access`, and what stands in the way there.
    fn protectable(
        &self,
        mappings: &Mappings<M>,
        range: &Range<usize>,
        wanted: Wanted,
    ) -> (usize, Result<(), Error>) {
        let mut data = mappings.data();
        let mut end = range.start;
        for (found, mapping) in mappings.range(range.clone()) {
            if found.start > end {
                break;
            }
            let part = clip(&found, range);
            let access = wanted.of(mapping);
            if let Err(error) = self.check_access(mappings, mapping, access, part.len(), data) {
                return (end, Err(error));
            }
            if becomes_data(mapping, access) {
                data += part.len();
            }
            end = part.end;
        }
        (end, if end < range.end { Err(Error::NotMapped) } else { Ok(()) })
    }
}

/// Returns whether a mapping counts as data with `access`, and does not now.
fn becomes_data<M: Machine>(mapping: &VmMapping<M>, access: VmPerms) -> bool {
    !mapping.is_data() && mapping::is_data(access, mapping.sharing(), mapping.flags())
}

#[cfg(test)]
mod tests;
