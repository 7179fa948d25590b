// SPDX-License-Identifier: MPL-2.0

//! Taking mappings away.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, backup::Borrow, edit::Removed, entries::unmap_part, mappings::Mappings};
use crate::{
    error::{Error, Limit},
    machine::Machine,
    mapping::MappingFlags,
};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Takes away whatever is mapped in `range` (bytes, page-aligned). Holes are fine, and so is nothing but holes.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::Sealed`] if any of it is sealed.
    /// - [`Error::LimitExceeded`] if a mapping would be cut in two and there are too many.
    /// - [`Error::Destroyed`].
    /// - [`Error::OutOfMemory`].
    #[require(R > Write)]
    pub fn unmap(&self, range: Range<usize>) -> Result<(), Error> {
        self.inner.unmap(range)
    }

    /// Takes away what is mapped in `range`, and answers whether anything was.
    ///
    /// # Errors
    ///
    /// Those of [`unmap`](Self::unmap).
    #[require(R > Write)]
    pub fn unmap_any(&self, range: Range<usize>) -> Result<bool, Error> {
        self.inner.unmap_any(range)
    }

    /// Takes away everything, in one pass; child regions are destroyed.
    #[require(R > Write)]
    pub fn clear(&self) {
        self.inner.clear();
    }
}

impl<M: Machine> Vmar_<M> {
    pub(crate) fn unmap(&self, range: Range<usize>) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.unmap(range.clone()))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut removed = Removed::new();
        let mut mappings = self.change_within(&range)?;
        self.unmap_locked(&mut mappings, &range, &mut removed)
    }

    fn unmap_any(&self, range: Range<usize>) -> Result<bool, Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.unmap_any(range.clone()))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut removed = Removed::new();
        let mut mappings = self.change_within(&range)?;
        let before = mappings.usage().address_space;
        self.unmap_locked(&mut mappings, &range, &mut removed)?;
        Ok(mappings.usage().address_space != before)
    }

    /// Takes away what is mapped in `range`, of which only the end is checked.
    pub(super) fn unmap_locked(
        &self,
        mappings: &mut Mappings<M>,
        range: &Range<usize>,
        removed: &mut Removed<M>,
    ) -> Result<(), Error> {
        if range.end > self.range.end {
            return Err(Error::OutOfRange);
        }
        if let Some((found, mapping)) = mappings.find(range.start)
            && found.end >= range.end
        {
            if mapping.flags().contains(MappingFlags::SEALED) {
                return Err(Error::Sealed);
            }
            let span = mapping.resident_span(range);
            return self.unmap_part_of_one(mappings, &found, range, span, removed);
        }
        self.check_unsealed(mappings, range)?;
        // No mapping reaches beyond both ends, so none is cut in two.
        removed.try_reserve_for(mappings, range)?;
        // From here on nothing fails.
        self.unmap_entries(mappings, range);
        mappings.cut(range, removed);
        Ok(())
    }

    /// Takes away `range`, which lies within the one mapping at `found` and has something resident only in `span`: by
    /// far the most common case.
    fn unmap_part_of_one(
        &self,
        mappings: &mut Mappings<M>,
        found: &Range<usize>,
        range: &Range<usize>,
        span: Option<Range<usize>>,
        removed: &mut Removed<M>,
    ) -> Result<(), Error> {
        if found.start < range.start && found.end > range.end {
            self.check_limit(mappings, Limit::Mappings, mappings.len(), 1)?;
            mappings.try_reserve(1)?;
        }
        // From here on nothing fails.
        if let Some(span) = span
            && let Some((_, mapping)) = mappings.find(range.start)
        {
            let mut delta = self.rss.delta();
            self.transact(span.clone(), |cursor| unmap_part(cursor, mapping, span.clone(), &mut delta));
            self.release(mappings, &span, &mut delta);
        }
        mappings.cut_one(found, range, removed);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        loop {
            self.destroy_children();
            let Ok(mut mappings) = self.change() else { return };
            if mappings.has_regions() {
                continue;
            }
            let borrow = mappings.borrow.take();
            let all = self.take_everything(&mut mappings);
            if borrow.is_some() {
                self.rss.clear();
            }
            // What the mappings refer to is let go of without the lock.
            drop(mappings);
            drop(all);
            borrow.into_iter().for_each(Borrow::end);
            return;
        }
    }
}

impl<M: Machine> Vmar_<M> {
    /// Takes out all mappings and their entries.
    pub(super) fn take_everything(&self, mappings: &mut Mappings<M>) -> Mappings<M> {
        self.unmap_entries(mappings, &self.range);
        mappings.take_all()
    }
}

#[cfg(test)]
mod tests;
