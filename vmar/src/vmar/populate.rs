// SPDX-License-Identifier: MPL-2.0

//! Making pages resident before the program touches them.
//!
//! Each page that takes is a fault, which is [counted](Machine::count_faults) as one. What is there already is passed over.

use alloc::sync::Arc;
use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    entries::clip,
    fault::{Access, Cause},
    region::Region,
};
use crate::{
    error::Error,
    machine::{Cursor, Entry, Machine, PageFlags, SleepLock},
    mapping::{MappedMemory, MappingFlags, Sharing},
    object::{Purpose, Vmo_},
    perms::VmPerms,
};

/// How pages are made resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populate {
    /// As if each were read (`MADV_POPULATE_READ`).
    Read,
    /// As if each were written (`MADV_POPULATE_WRITE`).
    Write,
    /// As if each were written where that makes a private page, read elsewhere (`MAP_POPULATE`, `mlock`).
    AsNeeded,
    /// Objects read their pages; none is mapped (`MADV_WILLNEED`).
    Prefetch,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes the pages of `range` (bytes, page-aligned) resident, from the lowest up.
    ///
    /// # Errors
    ///
    /// What comes before the page that fails **is resident**.
    ///
    /// - [`Error::NotMapped`] at a hole. With [`Populate::Prefetch`] holes are skipped first.
    /// - [`Error::AccessDenied`] where the mapping does not allow the access.
    /// - [`Error::BusError`] past the end of an object, or if it cannot read its page.
    /// - [`Error::OutOfMemory`].
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    #[require(R > Read)]
    pub fn populate(&self, range: Range<usize>, how: Populate) -> Result<(), Error> {
        self.inner.populate(range, how)
    }
}

/// What makes the pages of a part of a range resident.
enum HowTo<M: Machine> {
    /// As if each were accessed.
    Access(Access, Presence),
    /// The child region that the part lies in does it.
    Inside(Region<M>),
}

/// What is known of the pages of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// None is there.
    None,
    /// Some may be there, and others come with one that is made present.
    Near,
    /// Some may be there.
    Any,
}

/// Which of some pages are there, and allow what they are wanted for.
#[derive(Clone, Copy, Default)]
struct Present {
    /// A bit for each.
    pages: u64,
    /// Whether some of them may be borrowed, and so are yet to be mapped.
    is_borrowed: bool,
}

impl Present {
    /// How many pages it tells of.
    const MOST: usize = u64::BITS as usize;

    fn has(&self, nth: usize) -> bool {
        self.pages & 1 << nth != 0
    }

    fn is_enough_for(&self, nth: usize) -> bool {
        self.has(nth) && !self.is_borrowed
    }
}

impl<M: Machine> Vmar_<M> {
    pub(crate) fn populate(&self, range: Range<usize>, how: Populate) -> Result<(), Error> {
        self.check_range(&range)?;
        if how == Populate::Prefetch {
            return self.prefetch(range);
        }
        let mut at = range.start;
        while at < range.end {
            let (part, how_to) = self.next_part(at..range.end, how)?;
            match how_to {
                HowTo::Access(access, presence) => self.populate_part(part.clone(), access, presence)?,
                HowTo::Inside(region) => match region.populate(part.clone(), how) {
                    // It ended meanwhile. What was in it may be here now.
                    Err(Error::Destroyed) => continue,
                    result => result?,
                },
            }
            at = part.end;
        }
        Ok(())
    }

    /// Makes the pages of `part`, which belong to one mapping, present for an access.
    fn populate_part(&self, part: Range<usize>, access: Access, presence: Presence) -> Result<(), Error> {
        let step = match presence {
            Presence::Near => M::PAGE_SIZE,
            Presence::None | Presence::Any => Present::MOST * M::PAGE_SIZE,
        };
        let mut chunks = part.clone().step_by(step).map(|start| start..part.end.min(start + step)).peekable();
        let look = |pages: &Range<usize>| match presence {
            Presence::None => Present::default(),
            Presence::Near | Presence::Any => self.present_in(pages, access),
        };
        let (mut seen, mut faults, mut result) = (None, 0, Ok(()));
        while let Some(pages) = chunks.next() {
            let present = seen.take().unwrap_or_else(|| look(&pages));
            if presence == Presence::Any {
                // Pages that are copied together with others are as many faults.
                seen = chunks.peek().map(look);
            }
            let mut wanted = pages.step_by(M::PAGE_SIZE).enumerate();
            result = wanted.try_for_each(|(nth, page)| {
                if !present.is_enough_for(nth) {
                    self.make_present(page, access, Cause::Other)?;
                    faults += usize::from(!present.has(nth));
                }
                Ok(())
            });
            if result.is_err() {
                break;
            }
        }
        if faults > 0 {
            self.machine.count_faults(faults);
        }
        result
    }

    /// Returns which pages of `range`, [`Present::MOST`] at most, are there and allow the access.
    fn present_in(&self, range: &Range<usize>, access: Access) -> Present {
        let mut present = Present::default();
        let mappings = self.mappings.read();
        let Some((_, mapping)) = mappings.find(range.start) else { return present };
        let Some(span) = mapping.resident_span(range) else { return present };
        let mut look = |addr: usize, flags: PageFlags| {
            // Zeros that were mapped ahead of a read are there for nobody yet.
            let is_ahead = mapping.kind_of(flags).is_none() && !flags.contains(PageFlags::ACCESSED);
            if flags.contains(access.flag()) && !is_ahead {
                present.pages |= 1 << ((addr - range.start) / M::PAGE_SIZE);
            }
        };
        if access != Access::Write {
            self.for_each_page(&mappings, &span, |addr, page| look(addr, page.props.flags));
            present.is_borrowed = mappings.borrow.as_ref().is_some_and(|borrow| borrow.may_have(&span));
            return present;
        }
        // What is borrowed is copied to be written.
        self.transact(span.clone(), |cursor| {
            for addr in span.clone().step_by(M::PAGE_SIZE) {
                cursor.seek(addr);
                if let Entry::Page { props, .. } = cursor.query() {
                    look(addr, props.flags);
                }
            }
        });
        present
    }

    /// Returns the part of `range` that the mapping at its start covers, and what populates it.
    fn next_part(&self, range: Range<usize>, how: Populate) -> Result<(Range<usize>, HowTo<M>), Error> {
        let mappings = self.mappings.read();
        let (found, mapping) = mappings.find(range.start).ok_or_else(|| mappings.missing())?;
        if let Some(region) = mapping.region() {
            return Ok((clip(&found, &range), HowTo::Inside(region.clone())));
        }
        let access = match how {
            // The page table would let a program read what it may only write or execute.
            Populate::Read if !mapping.perms().contains(VmPerms::READ) => return Err(Error::AccessDenied),
            Populate::Write => Access::Write,
            Populate::AsNeeded
                if mapping.perms().contains(VmPerms::WRITE) && mapping.sharing() == Sharing::Private =>
            {
                Access::Write
            }
            Populate::Read | Populate::AsNeeded | Populate::Prefetch => Access::Read,
        };
        let part = clip(&found, &range);
        let is_own = matches!(mapping.memory(), MappedMemory::Anonymous) && access == Access::Write;
        let presence = match mapping.resident_span(&part) {
            None if is_own => Presence::None,
            _ if mapping.flags().contains(MappingFlags::FAULT_AROUND) => Presence::Near,
            _ => Presence::Any,
        };
        Ok((part, HowTo::Access(access, presence)))
    }

    fn prefetch(&self, range: Range<usize>) -> Result<(), Error> {
        let mut at = range.start;
        let mut outcome = Ok(());
        let mut can_read = true;
        while at < range.end {
            let Some((found, content)) = self.next_content(at..range.end)? else { break };
            if found.start > at {
                outcome = Err(Error::NotMapped);
            }
            at = found.end;
            let (object, first) = match content {
                Content::Paged(object, first) => (object, first),
                Content::AtHand => continue,
                Content::Inside(region) => {
                    match region.prefetch(found.clone()) {
                        // It ended meanwhile. What was in it may be here now.
                        Err(Error::Destroyed) => at = found.start,
                        result => outcome = outcome.and(result),
                    }
                    continue;
                }
            };
            let end = (first + found.len() / M::PAGE_SIZE).min(object.size().div_ceil(M::PAGE_SIZE));
            // An advice: a page that cannot be had now is asked for again by the fault.
            can_read = can_read && (first..end).all(|index| object.commit(index, Purpose::Read).is_ok());
        }
        if at < range.end { Err(Error::NotMapped) } else { outcome }
    }

    /// Returns the first part of `range` that is mapped, and what is in it.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn next_content(&self, range: Range<usize>) -> Result<Option<(Range<usize>, Content<M>)>, Error> {
        let mappings = self.mappings.read();
        if mappings.is_destroyed() {
            return Err(Error::Destroyed);
        }
        let Some((found, mapping)) = mappings.find_or_next(range.start) else { return Ok(None) };
        if found.start >= range.end {
            return Ok(None);
        }
        let part = clip(&found, &range);
        let content = match mapping.memory() {
            MappedMemory::Vmo { object, offset } if object.notes_writes() => {
                let index = (offset + (part.start - found.start)) / M::PAGE_SIZE;
                Content::Paged(object.object().clone(), index)
            }
            MappedMemory::Region(region) => Content::Inside(region.clone()),
            _ => Content::AtHand,
        };
        Ok(Some((part, content)))
    }
}

/// What is in a part of a range.
enum Content<M: Machine> {
    /// Nothing that would have to be read first.
    AtHand,
    /// An object with a pager, from the page with this index on.
    Paged(Arc<Vmo_<M>>, usize),
    /// What a child region has there.
    Inside(Region<M>),
}

#[cfg(test)]
mod tests;
