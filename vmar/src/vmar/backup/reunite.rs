// SPDX-License-Identifier: MPL-2.0

//! The end of a backup: one of the two who borrow is gone, and the other one gets what is left.
//!
//! Whoever goes does this for the one who stays, so that it costs no fault of his and memory that only the other one needed is free at
//! once. It goes whichever way is less work:
//!
//! - What is in the page table moves into the backup, which then becomes the page table again: mostly a few pages.
//! - What is still borrowed moves into the page table, where little is borrowed any more.
//!
//! Should there be no memory for page-table nodes, all stays as it is: a borrower who is alone takes pages as they are wanted.

use alloc::sync::Arc;
use core::{ops::Range, sync::atomic::Ordering::Relaxed};

use super::{Backup, Borrow, Side, Vmar_, WRITTEN, flags_of};
use crate::{
    error::OutOfMemory,
    machine::{AddressSpace, Cursor, Entry, Machine, PageFlags, SleepLock},
    vmar::{
        entries::{CursorOf, resident_span},
        mappings::Mappings,
    },
};

impl<M: Machine> Borrow<M> {
    /// Ends what a space borrowed that needs it no more, and hands the rest to the other borrower. To be called without a lock.
    pub(in crate::vmar) fn end(self) {
        let other = self.backup.borrower(self.side.other()).vmar.clone();
        drop(self);
        if let Some(other) = other.upgrade() {
            other.reunite();
        }
    }
}

impl<M: Machine> Vmar_<M> {
    /// Borrows nothing any more, for a space that ends, and returns about how many pages it was.
    pub(in crate::vmar) fn leave_backup(&self) -> usize {
        let Some(borrow) = self.mappings.write().borrow.take() else { return 0 };
        let pages = borrow.backup.borrower(borrow.side).pages.load(Relaxed);
        borrow.end();
        pages
    }

    /// Takes over what is left of the backup if the other borrower is gone.
    fn reunite(&self) {
        self.reunite_locked(&mut self.mappings.write());
    }

    /// The same, with the mappings locked. The backup goes with the lock held: whoever forks next finds its page table free to be
    /// gone on with.
    pub(in crate::vmar) fn reunite_locked(&self, mappings: &mut Mappings<M>) {
        let Some(borrow) = &mut mappings.borrow else { return };
        let Some(backup) = Arc::get_mut(&mut borrow.backup) else { return };
        if !borrow.is_alone {
            backup.drop_what_only_the_other_needs(borrow.side);
            borrow.is_alone = true;
        }
        let lent = backup.borrower(borrow.side).pages.load(Relaxed);
        let own = self.rss.total_pages().saturating_sub(lent);
        // What child regions have goes on being touched: that page table must stay.
        let result = match own <= lent && !mappings.has_regions() {
            true => self.take_back(mappings),
            false => self.show_all(mappings, &self.space.user_range()),
        };
        if result.is_ok() {
            mappings.borrow = None;
        }
    }

    /// Makes the backup the page table again.
    fn take_back(&self, mappings: &mut Mappings<M>) -> Result<(), OutOfMemory> {
        let hull = resident_span(mappings, &self.space.user_range(), |_| true);
        let Some(borrow) = &mut mappings.borrow else { return Ok(()) };
        let Some(backup) = Arc::get_mut(&mut borrow.backup) else { return Ok(()) };
        if let Some(hull) = hull {
            let growth = self.transact(hull.clone(), |own| count_pages::<M>(own, &hull));
            if growth != 0 {
                backup.space().transact(hull.clone(), growth, |lent| {
                    self.transact(hull.clone(), |own| copy_pages::<M>(own, lent, &hull));
                })?;
            }
            // Nobody can touch a page in between: the mappings are locked.
            self.transact(hull.clone(), |own| {
                while let Some(run) = own.next_run(hull.end) {
                    own.unmap(run.end);
                    if run.end >= hull.end {
                        break;
                    }
                }
            });
        }
        if let Some(space) = backup.space.take() {
            self.space.attach(space);
        }
        Ok(())
    }
}

/// Counts the pages of memory in `hull`.
fn count_pages<M: Machine>(cursor: &mut CursorOf<'_, M>, hull: &Range<usize>) -> usize {
    let mut pages = 0;
    while let Some(run) = cursor.next_run(hull.end) {
        pages += run.len() / M::PAGE_SIZE;
        if run.end >= hull.end {
            break;
        }
        cursor.seek(run.end);
    }
    pages
}

/// Maps all pages of memory in `hull` of one page table in another, where there is nothing. Device memory is left to be faulted in.
fn copy_pages<M: Machine>(from: &mut CursorOf<'_, M>, to: &mut CursorOf<'_, M>, hull: &Range<usize>) {
    while let Some(run) = from.next_run(hull.end) {
        for addr in run.clone().step_by(M::PAGE_SIZE) {
            if addr != run.start {
                from.seek(addr);
            }
            if let Entry::Page { frame, props } = from.query() {
                if to.position() != addr {
                    to.seek(addr);
                }
                to.map(frame.clone(), props);
            }
        }
        if run.end >= hull.end {
            break;
        }
        from.seek(run.end);
    }
}

impl<M: Machine> Backup<M> {
    /// Drops what `side` does not borrow, and makes the entries what they are in a page table: the other one is gone.
    fn drop_what_only_the_other_needs(&mut self, side: Side) {
        match side {
            // All of it was this one's at first.
            Side::First => {
                for side in [Side::First, Side::Second] {
                    let touched = self.borrower(side).touched.read();
                    touched.iter().for_each(|range| self.keep_only(Side::First, range));
                }
            }
            // What was never the child's can be anywhere.
            Side::Second => self.keep_only(side, self.hull.clone()),
        }
    }

    fn keep_only(&self, side: Side, range: Range<usize>) {
        let Some(first) = self.space().peek(&range) else { return };
        self.transact(first..range.end, |cursor| {
            while let Some(addr) = cursor.next_mapped(range.end) {
                let next = addr + M::PAGE_SIZE;
                let flags = flags_of::<M>(cursor);
                let is_private = flags.contains(PageFlags::PRIVATE);
                let is_kept = if is_private { flags.contains(side.mark()) } else { side == Side::First };
                if !is_kept {
                    cursor.unmap(next);
                } else if is_private && !flags.contains(WRITTEN) {
                    cursor.widen(next, WRITTEN);
                }
                if next >= range.end {
                    break;
                }
                cursor.seek(next);
            }
        });
    }
}
