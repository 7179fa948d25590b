// SPDX-License-Identifier: MPL-2.0

//! A page of the mapping's own in place of one that it may not write, and what is best done with it.
//!
//! To take one page out of a page table can take far more than each further one: the TLBs are flushed. So the same transaction
//! does for the neighbours what their own faults would do for much more, within the [window](Fault::write_window):
//!
//! ```text
//!   what was there          what is done for its neighbours                      when
//!   ─────────────────────   ──────────────────────────────────────────────────   ─────────────────────────────────
//!   a page shared by fork   the next ones are copied as well, AHEAD at most      the fault follows on another one
//!   the page of zeros       those that were read are taken out: their writes     always
//!   an object's page          then find nothing there, and reads find it again   the fault follows on another one
//! ```
//!
//! Whether one fault follows on another is told by the space's [`WriteFront`]. It is a guess and may be wrong: what is done for
//! a neighbour changes nothing that a program can read.

use core::{
    iter, mem,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{Fault, around::SMALL};
use crate::{
    machine::{Blank, Cursor, Entry, Frame, Machine, PageFlags, PageProps},
    mapping::{MappedMemory, MappingFlags},
    rss::RssDelta,
    vmar::entries::CursorOf,
};

/// How many pages are copied beside the one that is written.
const AHEAD: usize = 3;

/// Blank pages for the copies ahead.
pub(super) type BlanksAhead<M> = [Option<<M as Machine>::Blank>; AHEAD];

/// Where the program is going to write next, if it goes through its pages in order.
#[derive(Debug, Default)]
pub(crate) struct WriteFront(AtomicUsize);

impl WriteFront {
    /// Set in an address whose page before was copied.
    const COPIED: usize = 1;

    /// Takes note that the pages before `next` were dealt with.
    pub(super) fn note(&self, next: usize) {
        self.0.store(next, Relaxed);
    }

    pub(super) fn note_copied(&self, next: usize) {
        self.0.store(next | Self::COPIED, Relaxed);
    }

    /// Returns whether a write to `page` follows on another.
    pub(super) fn is_at(&self, page: usize) -> bool {
        self.0.load(Relaxed) & !Self::COPIED == page
    }

    pub(super) fn copies_at(&self, page: usize) -> bool {
        self.0.load(Relaxed) == page | Self::COPIED
    }
}

impl<M: Machine> Fault<'_, M> {
    /// Returns the blank pages that [`replace`](Self::replace) may want beside the first. What cannot be had is done without.
    pub(super) fn blanks_ahead(&self) -> BlanksAhead<M> {
        let mut blanks = BlanksAhead::<M>::default();
        if self.space.write_front.copies_at(self.page) {
            blanks.fill_with(|| self.space.machine.alloc().ok());
        }
        blanks
    }

    /// Puts `frame` in the place of a page with the flags `replaced`. The cursor may stand anywhere in `window`, and does so after.
    pub(super) fn replace(
        &self,
        cursor: &mut CursorOf<'_, M>,
        window: &Range<usize>,
        (frame, replaced): (M::Frame, PageFlags),
        blanks: &mut BlanksAhead<M>,
        delta: &mut RssDelta<'_, M>,
    ) {
        let flags = self.written() | PageFlags::PRIVATE;
        let was_copy = replaced.contains(PageFlags::PRIVATE);
        let mut copies = [const { None }; AHEAD];
        let (out, own) = if was_copy {
            let end = self.copy_ahead(cursor, window, blanks, &mut copies);
            (self.page..end, self.page..end)
        } else {
            (self.found_again(cursor, window), self.one())
        };
        self.mapping.note_entries(&own, flags);
        cursor.seek(out.start);
        let taken = cursor.unmap(out.end);
        cursor.seek(self.page);
        if own == self.one() {
            cursor.map(frame, PageProps::new(flags));
        } else {
            let frames = iter::once(frame).chain(copies.into_iter().flatten());
            cursor.map_run(own.len() / M::PAGE_SIZE, frames.map(|frame| (frame, PageProps::new(flags))));
        }
        delta.add(self.mapping.kind_of(replaced), -(taken as isize));
        delta.add(self.mapping.kind_of(flags), (own.len() / M::PAGE_SIZE) as isize);
        match was_copy {
            true => self.space.write_front.note_copied(own.end),
            false => self.space.write_front.note(own.end),
        }
    }

    /// Copies the pages behind this one that are shared as it was, as far as there are `blanks`; returns where the copies end.
    fn copy_ahead(
        &self,
        cursor: &mut CursorOf<'_, M>,
        window: &Range<usize>,
        blanks: &mut BlanksAhead<M>,
        copies: &mut [Option<M::Frame>; AHEAD],
    ) -> usize {
        let mut end = self.page + M::PAGE_SIZE;
        for (blank, copy) in blanks.iter_mut().zip(copies) {
            if blank.is_none() || end == window.end {
                break;
            }
            cursor.seek(end);
            let Entry::Page { frame, props } = cursor.query() else { break };
            let is_own = props.flags.contains(PageFlags::PRIVATE);
            if !is_own || props.flags.contains(PageFlags::WRITE) || frame.holders() == 1 {
                break;
            }
            *copy = mem::take(blank).map(|blank| blank.copy_of(&frame));
            end += M::PAGE_SIZE;
        }
        end
    }

    /// Returns the pages around this one, itself included, that were read and can be found again.
    fn found_again(&self, cursor: &mut CursorOf<'_, M>, window: &Range<usize>) -> Range<usize> {
        let mut run = self.one();
        let is_zeros = matches!(self.mapping.memory(), MappedMemory::Anonymous);
        // An object's pages count as resident: a single write leaves them.
        let is_wanted = is_zeros || self.space.write_front.is_at(self.page);
        let is_small = window.len() < SMALL * M::PAGE_SIZE;
        if !is_wanted || is_small || self.mapping.flags().intersects(MappingFlags::ANY_LOCK) {
            return run;
        }
        let mut was_read = |page: usize| {
            cursor.seek(page);
            matches!(cursor.query(), Entry::Page { props: PageProps { flags, .. }, .. }
                if flags.contains(PageFlags::ACCESSED) && !flags.contains(PageFlags::PRIVATE))
        };
        while run.end < window.end && was_read(run.end) {
            run.end += M::PAGE_SIZE;
        }
        while run.start > window.start && was_read(run.start - M::PAGE_SIZE) {
            run.start -= M::PAGE_SIZE;
        }
        run
    }
}

#[cfg(test)]
mod tests;
