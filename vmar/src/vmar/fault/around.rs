// SPDX-License-Identifier: MPL-2.0

//! What a fault does for the pages around its own: those that cost nothing are mapped, or may be written, ahead of the program.
//!
//! To map a page ahead and to take it away again is half of what a fault takes. So it is done where most pages will be used:
//!
//! | the fault | what it maps, if nothing of that is mapped already |
//! | --- | --- |
//! | a read of zeros | the block of [`AROUND`] pages that it is in; across mappings, where its own is small |
//! | a read of an object right behind all that is resident of the mapping | up to the end of the block of [`AHEAD`] pages |
//! | any other read of an object, or a fetch of code | the block of [`NEAR`] pages that it is in |
//!
//! Where something is mapped already, somebody writes, and what is made to be read is replaced soon: it maps its own page, and of
//! those behind it, up to the next one mapped, so few that they are [`NEAR`] in all. A write looks at a block of
//! [`WRITE_AROUND`] pages. Blocks are aligned to their size, and but for those zeros end where the mapping does; none crosses
//! from one page-table node to the next. `MADV_RANDOM` turns it off.

use alloc::sync::Arc;
use core::{
    iter,
    ops::{ControlFlow, Range},
};

use super::{Access, Fault, FaultError, Step};
use crate::{
    machine::{AddressSpace, Cursor, Entry, Machine, PageFlags, PageProps},
    mapping::{MappedMemory, MappingFlags, VmMapping},
    object::{Purpose, Vmo_},
    vmar::{
        Mappings,
        entries::{self, CursorOf, clip},
    },
};

/// How many pages, the faulting one included, a fault maps of zeros.
const AROUND: usize = 16;

/// How many pages of an object a fault maps that stands alone: a program that has just begun looks here and there.
pub(super) const NEAR: usize = 4;

/// How many pages of an object a fault maps at most that goes on where the last one ended.
pub(super) const AHEAD: usize = 32;

/// How many pages, the faulting one included, a write looks at.
const WRITE_AROUND: usize = 2 * AROUND;

/// How many pages are too few for a block of their own.
pub(super) const SMALL: usize = 4;

impl<M: Machine> Fault<'_, M> {
    /// Maps the shared zeros for a read of memory that is not there.
    pub(super) fn read_zeros(&self, mappings: &Mappings<M>) -> Result<Step<M>, FaultError> {
        let (window, flags) = (self.block(AROUND), self.allowed - PageFlags::WRITE);
        let zeros = || self.space.machine.zero_frame();
        match window.len() / M::PAGE_SIZE {
            1..SMALL if !self.may_be_resident() => match shows_zeros(self.mapping) && !self.is_among_borrowed
            {
                true => self.read_zeros_among(mappings),
                false => self.fill(zeros(), flags | PageFlags::ACCESSED),
            },
            growth => {
                let zeros = zeros();
                self.map_around(window, growth, flags, iter::repeat_with(|| Some(zeros.clone())))
            }
        }
    }

    /// Maps the shared zeros wherever there is nothing in the block, which is that of many small mappings: a page may be read in
    /// each of them.
    #[inline(never)]
    fn read_zeros_among(&self, mappings: &Mappings<M>) -> Result<Step<M>, FaultError> {
        let block = clip(&block_of::<M>(self.page, AROUND), &self.space.range);
        let zeros = self.space.machine.zero_frame();
        let mut is_served = false;
        self.space.space.transact(block.clone(), AROUND, |cursor| {
            for (found, mapping) in mappings.range(block.clone()).filter(|(_, mapping)| shows_zeros(mapping))
            {
                let flags = mapping.perms().page_flags() - PageFlags::WRITE;
                let part = clip(&found, &block);
                mapping.note_entries(&part, flags);
                for addr in part.step_by(M::PAGE_SIZE) {
                    cursor.seek(addr);
                    if !matches!(cursor.query(), Entry::Empty) {
                        continue;
                    }
                    let is_own = addr == self.page;
                    let young = if is_own { PageFlags::ACCESSED } else { PageFlags::empty() };
                    cursor.map(zeros.clone(), PageProps::new(flags | young));
                    is_served |= is_own;
                }
            }
        })?;
        Ok(if is_served { Step::Done } else { Step::Again })
    }

    /// Maps the object's page `index`, and those of its neighbours that are in memory and not mapped.
    pub(super) fn read_object(&self, object: &Arc<Vmo_<M>>, index: usize) -> Result<Step<M>, FaultError> {
        // Where the object wants to know of writes, the first write must fault as well.
        let may_write = self.mapping.is_shared() && !object.notes_writes() && !self.mapping.is_tracked();
        let flags = if may_write { self.allowed } else { self.allowed - PageFlags::WRITE };
        let is_around = self.mapping.flags().contains(MappingFlags::FAULT_AROUND);
        let is_next = self.access == Access::Read && self.mapping.ends_at(self.page);
        let block = self.block(if is_next { AHEAD } else { NEAR });
        if !is_around || block == self.one() {
            return self.put_page(object, index, flags | PageFlags::ACCESSED);
        }
        match is_next {
            true => self.read_pages::<AHEAD>(object, index, self.page..block.end, flags),
            false => self.read_pages::<NEAR>(object, index, block, flags),
        }
    }

    /// Maps the object's page `index`, and those in `window`, `MOST` pages at most, that are in memory and not mapped.
    fn read_pages<const MOST: usize>(
        &self,
        object: &Arc<Vmo_<M>>,
        index: usize,
        window: Range<usize>,
        flags: PageFlags,
    ) -> Result<Step<M>, FaultError> {
        let own = (self.page - window.start) / M::PAGE_SIZE;
        let base = index - own;
        let mut frames = [const { None }; MOST];
        let (mut last, mut growth) = (own, 0);
        let missing = object.look_around(index, base..base + window.len() / M::PAGE_SIZE, |index, frame| {
            last = index - base;
            frames[last] = Some(frame.clone());
            growth += 1;
        });
        if frames[own].is_none() {
            frames[own] = match self.page_of(object, index, missing, Purpose::Read)? {
                ControlFlow::Continue(frame) => Some(frame),
                ControlFlow::Break(step) => return Ok(step),
            };
            growth += 1;
        }
        if growth == 1
            && let Some(frame) = frames[own].take()
        {
            return self.put(frame, flags | PageFlags::ACCESSED);
        }
        let first = frames.iter().position(Option::is_some).unwrap_or(own);
        let end = last.max(own) + 1;
        let span = window.start + first * M::PAGE_SIZE..window.start + end * M::PAGE_SIZE;
        self.map_around(span, growth, flags, frames[first..end].iter_mut().map(Option::take))
    }

    /// Returns the addresses that a write may settle at once.
    pub(super) fn write_window(&self) -> Range<usize> {
        self.block(WRITE_AROUND)
    }

    /// Returns a block of so many pages, that of the fault among them, as far as the mapping reaches.
    pub(super) fn block(&self, pages: usize) -> Range<usize> {
        const ALONE: MappingFlags = MappingFlags::RANDOM.union(MappingFlags::TRACKED);
        let is_alone = self.mapping.flags().intersects(ALONE) || self.mapping.is_handed();
        if is_alone || self.is_among_borrowed {
            return self.one();
        }
        clip(&block_of::<M>(self.page, pages), &self.range)
    }

    /// Lets the pages from this one to the end of `window` be written that nobody else holds, if this write follows on another:
    /// somebody goes through them.
    pub(super) fn widen_ahead(&self, cursor: &mut CursorOf<'_, M>, window: &Range<usize>) {
        let front = &self.space.write_front;
        if !front.is_at(self.page) {
            return front.note(self.page + M::PAGE_SIZE);
        }
        front.note(window.end);
        let mut at = self.page + M::PAGE_SIZE;
        while at < window.end {
            let start = at;
            while at < window.end && {
                cursor.seek(at);
                entries::lacks_write(&cursor.query())
            } {
                at += M::PAGE_SIZE;
            }
            if at != start {
                cursor.seek(start);
                // None that could not be executed can be now.
                cursor.widen(at, self.allowed - PageFlags::EXEC);
            }
            at += M::PAGE_SIZE;
        }
    }

    /// Maps at each address of `span`, the fault's own among them, what `pages` has for it: `growth` pages at most, and few if
    /// something is mapped there. The neighbours are told from that by the ACCESSED flag, which they have not.
    fn map_around(
        &self,
        span: Range<usize>,
        growth: usize,
        flags: PageFlags,
        pages: impl Iterator<Item = Option<M::Frame>>,
    ) -> Result<Step<M>, FaultError> {
        self.mapping.note_entries(&span, flags);
        let props = |addr| {
            let young = if addr == self.page { PageFlags::ACCESSED } else { PageFlags::empty() };
            PageProps::new(flags | young)
        };
        let mut added = 0;
        self.space.space.transact(span.clone(), growth, |cursor| {
            if cursor.next_mapped(span.end).is_some() {
                cursor.seek(self.page);
                let entry = cursor.query();
                if !matches!(entry, Entry::Empty) {
                    let gained = (self.allowed - PageFlags::WRITE) | PageFlags::ACCESSED;
                    entries::prepare(&entry, gained);
                    drop(entry);
                    cursor.widen(self.page + M::PAGE_SIZE, gained);
                    return;
                }
                drop(entry);
                let end = span.end.min(self.page + NEAR * M::PAGE_SIZE);
                let end = cursor.next_mapped(end).unwrap_or(end);
                cursor.seek(self.page);
                let own = (self.page - span.start) / M::PAGE_SIZE;
                let found = (self.page..end).step_by(M::PAGE_SIZE).zip(pages.skip(own));
                let found = found.map_while(|(addr, page)| Some((page?, props(addr))));
                let most = (end - self.page) / M::PAGE_SIZE;
                cursor.map_run(most, found);
                added = ((cursor.position() - self.page) / M::PAGE_SIZE) as isize;
                return;
            }
            if cursor.position() != span.start {
                cursor.seek(span.start);
            }
            added = growth as isize;
            let found = span.clone().step_by(M::PAGE_SIZE).zip(pages);
            // Mostly there is a page for each address.
            if growth * M::PAGE_SIZE == span.len() {
                return cursor.map_run(growth, found.map_while(|(addr, page)| Some((page?, props(addr)))));
            }
            let mut at = span.start;
            for (addr, page) in found {
                let Some(frame) = page else { continue };
                if at != addr {
                    cursor.seek(addr);
                }
                cursor.map(frame, props(addr));
                at = addr + M::PAGE_SIZE;
            }
        })?;
        self.space.rss.add(self.mapping.kind_of(flags), added);
        Ok(Step::Done)
    }
}

/// Returns the block of so many pages that `page` is in.
pub(super) fn block_of<M: Machine>(page: usize, pages: usize) -> Range<usize> {
    let size = pages * M::PAGE_SIZE;
    let start = page - page % size;
    start..start.saturating_add(size)
}

/// Returns whether reads of a mapping's empty entries may be served ahead, with zeros.
fn shows_zeros<M: Machine>(mapping: &VmMapping<M>) -> bool {
    matches!(mapping.memory(), MappedMemory::Anonymous)
        && mapping.perms().page_flags().contains(PageFlags::READ)
        && !mapping.flags().contains(MappingFlags::RANDOM)
        && !mapping.is_handed()
}
