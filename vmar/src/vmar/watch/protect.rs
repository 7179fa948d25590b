// SPDX-License-Identifier: MPL-2.0

//! Marking pages, so that writes to them are handed over.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Watch, WatchModes};
use crate::{
    error::{Error, OutOfMemory},
    fallible,
    machine::{Cursor, Machine, PageFlags},
    mapping::{MappedMemory, VmMapping},
    vmar::{Mappings, Vmar, Vmar_, entries::clip},
};

/// What becomes of the marks of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteProtection {
    /// Its pages are marked.
    Set,
    /// No page is.
    Cleared,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Marks the pages of `range` (bytes, page-aligned), or takes their marks away: a write to one that is marked is handed over.
    /// Of anonymous memory, only pages that are resident can be marked.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// - [`Error::NotMapped`] unless `range` lies within one mapping that is watched for [`WatchModes::WRITES`].
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write)]
    pub fn write_protect(&self, range: Range<usize>, protection: WriteProtection) -> Result<(), Error> {
        self.inner.write_protect(range, protection)
    }
}

impl<M: Machine> Vmar_<M> {
    fn write_protect(&self, range: Range<usize>, protection: WriteProtection) -> Result<(), Error> {
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        let Some(mut watch) = mappings.watch.take() else { return Err(Error::NotMapped) };
        let result = self.write_protect_locked(&mappings, &mut watch, &range, protection);
        mappings.watch = Some(watch);
        result
    }

    fn write_protect_locked(
        &self,
        mappings: &Mappings<M>,
        watch: &mut Watch,
        range: &Range<usize>,
        protection: WriteProtection,
    ) -> Result<(), Error> {
        let Some((found, mapping)) = mappings.find(range.start) else { return Err(Error::NotMapped) };
        if range.end > found.end || !watch.modes(mapping.watch).contains(WatchModes::WRITES) {
            return Err(Error::NotMapped);
        }
        let numbers = Watch::numbers::<M>(range);
        if protection == WriteProtection::Cleared {
            watch.marks.clear(&numbers);
            return Ok(());
        }
        let span = mapping.resident_span(range);
        let result = match (mapping.memory(), &span) {
            (MappedMemory::Anonymous, Some(span)) => self.prepare_resident(mappings, watch, span),
            (MappedMemory::Anonymous, None) => Ok(()),
            _ => numbers.clone().try_for_each(|page| watch.marks.prepare(page)),
        };
        if let Err(error) = result {
            watch.marks.abandon(&numbers);
            return Err(error.into());
        }
        watch.marks.commit(&numbers);
        if let Some(span) = span {
            self.transact(span.clone(), |cursor| cursor.narrow(span.end, PageFlags::WRITE));
        }
        Ok(())
    }

    /// Prepares marks of the pages of `span` that are resident.
    fn prepare_resident(
        &self,
        mappings: &Mappings<M>,
        watch: &mut Watch,
        span: &Range<usize>,
    ) -> Result<(), OutOfMemory> {
        let mut count = 0;
        self.for_each_page(mappings, span, |_, _| count += 1);
        let mut pages = fallible::try_with_capacity(count)?;
        self.for_each_page(mappings, span, |addr, _| pages.push(addr / M::PAGE_SIZE));
        pages.into_iter().try_for_each(|page| watch.marks.prepare(page))
    }
}

impl<M: Machine> Mappings<M> {
    /// Returns whether a page (its address) of a watched mapping is marked.
    pub(crate) fn is_marked(&self, page: usize) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.marks.has(page / M::PAGE_SIZE))
    }

    /// Returns whether somebody is handed the writes to marked pages of a mapping.
    pub(crate) fn hands_writes(&self, mapping: &VmMapping<M>) -> bool {
        let modes = self.watch.as_ref().map(|watch| watch.modes(mapping.watch));
        modes.is_some_and(|modes| modes.contains(WatchModes::WRITES))
    }

    /// Takes the marks of `range` (bytes) away.
    #[inline(always)]
    pub(in crate::vmar) fn clear_marks(&mut self, range: &Range<usize>) {
        if self.watch.is_some() {
            self.clear_some_marks(range);
        }
    }

    #[cold]
    #[inline(never)]
    fn clear_some_marks(&mut self, range: &Range<usize>) {
        if let Some(watch) = &mut self.watch {
            watch.marks.clear(&Watch::numbers::<M>(range));
        }
    }

    /// Takes the marks away that anonymous memory has in `range` (bytes), whose pages are gone.
    #[cold]
    #[inline(never)]
    pub(in crate::vmar) fn clear_marks_of_anonymous(&mut self, range: &Range<usize>) {
        let Some(mut watch) = self.watch.take() else { return };
        for (found, mapping) in self.range(range.clone()) {
            if matches!(mapping.memory(), MappedMemory::Anonymous) {
                watch.marks.clear(&Watch::numbers::<M>(&clip(&found, range)));
            }
        }
        self.watch = Some(watch);
    }
}
