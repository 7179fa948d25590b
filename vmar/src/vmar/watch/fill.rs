// SPDX-License-Identifier: MPL-2.0

//! Pages that whoever watches a space puts where there are none.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Watch, WatchModes, WriteProtection};
use crate::{
    error::Error,
    machine::{AddressSpace, Blank, Cursor, Entry, Machine, PageFlags, PageProps},
    mapping::{MappedMemory, VmMapping},
    object::{Lookup, Purpose, Vmo_},
    vmar::{Mappings, Vmar, Vmar_},
};

/// What a page is filled with.
#[derive(Clone, Debug)]
pub enum Fill<F> {
    /// This page, which nobody else holds. It becomes the mapping's own, or the object's if the mapping is shared.
    Page(F),
    /// Zeros.
    Zeros,
    /// The page that the object has.
    Object,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Puts something at `page` (its address), where there is nothing; marks the page as well if `protection` says so, and otherwise
    /// takes its mark away.
    ///
    /// `within` (bytes, page-aligned), which `page` is in, is what one mapping must cover.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// - [`Error::NotMapped`] unless `within` lies in one mapping, and that is watched.
    /// - [`Error::InvalidOptions`] if the page is to be marked in what is not watched for [`WatchModes::WRITES`], or an object's page
    ///   to be shown by anonymous memory or from past its end.
    /// - [`Error::BusError`] past the end of the object otherwise, or if the object was to have the page and has not.
    /// - [`Error::Occupied`] if there is a page.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Write)]
    pub fn fill(
        &self,
        within: Range<usize>,
        page: usize,
        content: Fill<M::Frame>,
        protection: WriteProtection,
    ) -> Result<(), Error> {
        self.inner.check_range(&within)?;
        if !within.contains(&page) || !page.is_multiple_of(M::PAGE_SIZE) {
            return Err(Error::InvalidAlignment);
        }
        let mut mappings = self.inner.change_within(&within)?;
        let Some(mut watch) = mappings.watch.take() else { return Err(Error::NotMapped) };
        let result = self.inner.fill_locked(&mappings, &mut watch, &within, page, (content, protection));
        mappings.watch = Some(watch);
        result
    }
}

impl<M: Machine> Vmar_<M> {
    fn fill_locked(
        &self,
        mappings: &Mappings<M>,
        watch: &mut Watch,
        within: &Range<usize>,
        page: usize,
        (content, protection): (Fill<M::Frame>, WriteProtection),
    ) -> Result<(), Error> {
        let Some((found, mapping)) = mappings.find(within.start) else { return Err(Error::NotMapped) };
        if within.end > found.end || !mapping.is_handed() {
            return Err(Error::NotMapped);
        }
        let is_protected = protection == WriteProtection::Set;
        if is_protected && !watch.modes(mapping.watch).contains(WatchModes::WRITES) {
            return Err(Error::InvalidOptions);
        }
        let number = page / M::PAGE_SIZE;
        let was_marked = watch.marks.has(number);
        if is_protected {
            watch.marks.prepare(number)?;
        }
        let mut flags = mapping.perms().page_flags() | PageFlags::ACCESSED | PageFlags::DIRTY;
        flags.set(PageFlags::WRITE, flags.contains(PageFlags::WRITE) && !is_protected);
        let result = match mapping.memory() {
            MappedMemory::Anonymous => match content {
                Fill::Page(frame) => self.fill_entry(mapping, page, frame, flags | PageFlags::PRIVATE),
                Fill::Zeros => {
                    let flags = flags - PageFlags::WRITE - PageFlags::DIRTY;
                    self.fill_entry(mapping, page, self.machine.zero_frame(), flags)
                }
                Fill::Object => Err(Error::InvalidOptions),
            },
            MappedMemory::Vmo { object, offset } => {
                let index = (offset + (page - found.start)) / M::PAGE_SIZE;
                match (content, object.look(index, Purpose::Write)) {
                    (Fill::Object, Lookup::PastEnd) => Err(Error::InvalidOptions),
                    (_, Lookup::PastEnd) => Err(Error::BusError),
                    (Fill::Object, Lookup::Resident(frame)) => {
                        flags.set(PageFlags::WRITE, flags.contains(PageFlags::WRITE) && mapping.is_shared());
                        self.fill_entry(mapping, page, frame, flags)
                    }
                    (Fill::Object, _) => Err(Error::BusError),
                    // A mark is all that Linux sees there: not nothing.
                    (Fill::Zeros, _) if !mapping.is_shared() && was_marked => Err(Error::Occupied),
                    (content, _) if mapping.is_shared() => {
                        self.fill_shared(mapping, (object.object(), index), page, content, flags)
                    }
                    (content, _) => self
                        .frame_of(content)
                        .and_then(|frame| self.fill_entry(mapping, page, frame, flags | PageFlags::PRIVATE)),
                }
            }
            MappedMemory::Device { .. } | MappedMemory::Region(_) => Err(Error::InvalidOptions),
        };
        let numbers = number..number + 1;
        match result {
            Ok(()) if is_protected => watch.marks.commit(&numbers),
            Ok(()) => watch.marks.clear(&numbers),
            Err(_) if is_protected => watch.marks.abandon(&numbers),
            Err(_) => {}
        }
        result
    }

    fn frame_of(&self, content: Fill<M::Frame>) -> Result<M::Frame, Error> {
        match content {
            Fill::Page(frame) => Ok(frame),
            Fill::Zeros | Fill::Object => Ok(self.machine.alloc()?.zeroed()),
        }
    }

    /// Gives page `index` to an object that has none there, and shows it.
    fn fill_shared(
        &self,
        mapping: &VmMapping<M>,
        (object, index): (&Vmo_<M>, usize),
        page: usize,
        content: Fill<M::Frame>,
        flags: PageFlags,
    ) -> Result<(), Error> {
        let frame = self.frame_of(content)?;
        object.note_write(index);
        object.give(index, &frame)?;
        // The object has it. Where it could not be shown now, it is when it is touched.
        let _ = self.fill_entry(mapping, page, frame, flags);
        Ok(())
    }

    /// Maps `frame` where there is nothing.
    fn fill_entry(
        &self,
        mapping: &VmMapping<M>,
        page: usize,
        frame: M::Frame,
        flags: PageFlags,
    ) -> Result<(), Error> {
        let one = page..page + M::PAGE_SIZE;
        mapping.note_entries(&one, flags);
        let is_filled = self.space.transact(one, 1, |cursor| {
            let is_empty = matches!(cursor.query(), Entry::Empty);
            if is_empty {
                cursor.map(frame, PageProps::new(flags));
            }
            is_empty
        })?;
        if !is_filled {
            return Err(Error::Occupied);
        }
        self.rss.add(mapping.kind_of(flags), 1);
        Ok(())
    }
}
