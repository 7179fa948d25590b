// SPDX-License-Identifier: MPL-2.0

//! Faults on pages that are borrowed from a [backup](crate::vmar::backup).
//!
//! | the fault | what moves into the page table |
//! | --- | --- |
//! | a read or fetch | what is borrowed in the block of [`NEAR`] pages that it is in |
//! | a write to a private page | a copy of the page, or the page itself if the other borrower has left it; where writes follow on each other, [`WRITTEN_AHEAD`] more |
//! | any other write | as a read; the fault that follows finds the page there |
//!
//! Where nothing is borrowed of the page itself, the fault is like any other, but for its neighbours: those that are borrowed
//! must not be taken for missing.

use core::{mem, ops::Range};

use super::{
    Access, Fault, FaultError, Step,
    around::{AHEAD, NEAR, block_of},
};
use crate::{
    machine::{AddressSpace, Blank, Cursor, Entry, Frame, Machine, PageFlags, PageProps},
    vmar::{backup::Borrow, entries::CursorOf},
};

/// How many pages are copied beside the one that is written, where writes follow on each other.
const WRITTEN_AHEAD: usize = 7;

/// What became of a write to a page.
enum Written {
    /// The page is not borrowed.
    NotBorrowed,
    /// The page is not the mapping's own: it must be shown, and then replaced.
    NotPrivate,
    /// The pages from the fault's own to this address can be written.
    Until(usize),
}

impl<M: Machine> Fault<'_, M> {
    /// Serves the fault if its page is borrowed, and returns how that ended.
    pub(super) fn among_borrowed(&mut self, borrow: &Borrow<M>) -> Result<Option<Step<M>>, FaultError> {
        if !borrow.may_have(&block_of::<M>(self.page, AHEAD)) {
            return Ok(None);
        }
        let block = self.block(NEAR);
        self.is_among_borrowed = true;
        if self.mapping.resident_span(&self.one()).is_none() || !borrow.may_have(&self.one()) {
            return Ok(None);
        }
        self.serve_borrowed(borrow, block)
    }

    #[inline(never)]
    fn serve_borrowed(&self, borrow: &Borrow<M>, block: Range<usize>) -> Result<Option<Step<M>>, FaultError> {
        let is_write = self.access == Access::Write && !self.mapping.is_shared();
        if is_write {
            match self.write_borrowed(borrow, &block)? {
                Written::NotBorrowed => return Ok(None),
                Written::NotPrivate => {}
                Written::Until(end) => {
                    self.space.write_front.note_copied(end);
                    return Ok(Some(Step::Done));
                }
            }
        }
        let mut is_shown = false;
        self.space.show(borrow, self.mapping, &block, |addr| is_shown |= addr == self.page)?;
        Ok(match is_shown {
            false => None,
            true if is_write => Some(Step::Again),
            true => Some(Step::Done),
        })
    }

    /// Makes the page one that can be written, if it is borrowed and private.
    fn write_borrowed(&self, borrow: &Borrow<M>, block: &Range<usize>) -> Result<Written, FaultError> {
        let mut blanks = [const { None }; 1 + WRITTEN_AHEAD];
        blanks[0] = Some(self.space.machine.alloc()?);
        let mut window = self.one();
        if self.space.write_front.copies_at(self.page) {
            window.end = block.end.min(self.page + blanks.len() * M::PAGE_SIZE);
            let more = window.len() / M::PAGE_SIZE - 1;
            // What cannot be had is done without.
            blanks[1..].iter_mut().take(more).for_each(|blank| *blank = self.space.machine.alloc().ok());
        }
        let mut outcome = Written::NotBorrowed;
        let mut moved = 0;
        let growth = window.len() / M::PAGE_SIZE;
        self.space.space.transact(window.clone(), growth, |own| {
            borrow.transact(window.clone(), |lent| {
                for (addr, blank) in window.clone().step_by(M::PAGE_SIZE).zip(&mut blanks) {
                    if lent.position() != addr {
                        lent.seek(addr);
                    }
                    match self.write_here(borrow, lent, own, blank) {
                        Written::Until(end) => outcome = Written::Until(end),
                        stopped if moved == 0 => {
                            outcome = stopped;
                            break;
                        }
                        _ => break,
                    }
                    moved += 1;
                }
            });
        })?;
        borrow.note(&window, moved);
        Ok(outcome)
    }

    /// Makes the page that `lent`, a cursor of the backup, stands at one that can be written.
    fn write_here(
        &self,
        borrow: &Borrow<M>,
        lent: &mut CursorOf<'_, M>,
        own: &mut CursorOf<'_, M>,
        blank: &mut Option<M::Blank>,
    ) -> Written {
        let addr = lent.position();
        let (frame, flags) = match lent.query() {
            Entry::Page { frame, props: PageProps { flags, .. } } if borrow.is_borrowed(flags) => {
                if !flags.contains(PageFlags::PRIVATE) {
                    return Written::NotPrivate;
                }
                let can_take = !borrow.is_borrowed_by_both(flags) && frame.holders() == 1;
                let taken = can_take.then(|| frame.clone());
                let copied = || mem::take(blank).map(|blank| blank.copy_of(&frame));
                match taken.or_else(copied) {
                    Some(frame) => (frame, flags),
                    None => return Written::NotBorrowed,
                }
            }
            _ => return Written::NotBorrowed,
        };
        borrow.let_go(lent, flags);
        let props = PageProps::new(self.written() | PageFlags::PRIVATE);
        if own.position() != addr {
            own.seek(addr);
        }
        own.map(frame, props);
        Written::Until(addr + M::PAGE_SIZE)
    }
}
