// SPDX-License-Identifier: MPL-2.0

//! One transaction that brings an entry into a state that allows an access, whatever it finds.

use core::{
    mem,
    ops::{Deref, Range},
};

use super::{Access, Fault, FaultError, part_of};
use crate::{
    machine::{AddressSpace, Blank, Cursor, Entry, Frame, Machine, PageFlags, PageProps},
    mapping::MappedMemory,
    vmar::entries,
};

/// What goes where the entry is empty.
pub(super) enum Fresh<M: Machine> {
    /// Nothing yet.
    None,
    /// This page, with these flags.
    Ready(M::Frame, PageFlags),
    /// The mapping's own page of zeros.
    Zeros,
    /// The mapping's own copy of a page.
    CopyOf(M::Frame),
    /// The mapping's own copy of these bytes of a page, between zeros.
    PartOf(M::Frame, Range<usize>),
}

/// What is to be done to the entry.
enum Action<F> {
    /// Nothing: what it takes is not at hand.
    None,
    /// These flags are added.
    Widen(PageFlags),
    /// The page goes where nothing is.
    Fill(F, PageFlags),
    /// The mapping's own page takes the place of one with the flags given, which it may not write.
    Replace(F, PageFlags),
}

impl<M: Machine> Fault<'_, M> {
    /// Brings the entry into a state that allows the access, in one transaction. `blank` becomes the page of the mapping's
    /// own, where it takes one. Returns whether the fault is served.
    pub(super) fn settle(&self, fresh: Fresh<M>, blank: Option<M::Blank>) -> Result<bool, FaultError> {
        // Whoever has a blank page at hand may find that the page there is his own to write, and so are the next.
        let window = if blank.is_some() { self.write_window() } else { self.one() };
        let mut ahead = if blank.is_some() { self.blanks_ahead() } else { Default::default() };
        let growth =
            usize::from(blank.is_some() || !matches!(fresh, Fresh::None)) + ahead.iter().flatten().count();
        let mut at_hand = (fresh, blank);
        let mut delta = self.space.rss.delta();
        let is_served = self.space.space.transact(window.clone(), growth, |cursor| {
            if window.start != self.page {
                cursor.seek(self.page);
            }
            match self.decide(cursor.query(), &mut at_hand) {
                Action::None => return false,
                Action::Widen(flags) => {
                    cursor.widen(self.page + M::PAGE_SIZE, flags);
                    if flags.contains(PageFlags::WRITE) {
                        self.widen_ahead(cursor, &window);
                    }
                }
                Action::Fill(frame, flags) => {
                    self.mapping.note_entries(&self.one(), flags);
                    cursor.map(frame, PageProps::new(flags));
                    delta.add(self.mapping.kind_of(flags), 1);
                }
                Action::Replace(frame, replaced) => {
                    self.replace(cursor, &window, (frame, replaced), &mut ahead, &mut delta);
                }
            }
            true
        })?;
        Ok(is_served)
    }

    /// Says what is to be done to an entry.
    fn decide<F>(
        &self,
        entry: Entry<F>,
        (fresh, blank): &mut (Fresh<M>, Option<M::Blank>),
    ) -> Action<M::Frame>
    where
        F: Deref<Target = M::Frame>,
    {
        let own = self.written() | PageFlags::PRIVATE;
        // Should it not be given them, or not all, no harm is done.
        entries::prepare(&entry, self.allowed);
        match entry {
            Entry::Empty => match (mem::replace(fresh, Fresh::None), blank.take()) {
                (Fresh::Ready(frame, flags), _) => Action::Fill(frame, flags),
                (Fresh::Zeros, Some(blank)) => Action::Fill(blank.zeroed(), own),
                (Fresh::CopyOf(frame), Some(blank)) => Action::Fill(blank.copy_of(&frame), own),
                (Fresh::PartOf(frame, keep), Some(blank)) => {
                    Action::Fill(part_of::<M>(blank, &frame, keep), own)
                }
                _ => Action::None,
            },
            Entry::Device { .. } => Action::None,
            Entry::Page { props: PageProps { flags, .. }, .. }
                if self.access != Access::Write || flags.contains(PageFlags::WRITE) =>
            {
                Action::Widen((self.allowed - PageFlags::WRITE) | PageFlags::ACCESSED)
            }
            Entry::Page { frame, props: PageProps { flags, .. } } => {
                let is_private = flags.contains(PageFlags::PRIVATE);
                // A page that is the mapping's own may be written when nobody else holds it.
                if self.mapping.is_shared() || (is_private && frame.holders() == 1) {
                    return Action::Widen(self.written());
                }
                let Some(blank) = blank.take() else { return Action::None };
                // What anonymous memory shows and does not own is the frame of zeros.
                let is_zeros = !is_private && matches!(self.mapping.memory(), MappedMemory::Anonymous);
                let new = if is_zeros { blank.zeroed() } else { blank.copy_of(&frame) };
                Action::Replace(new, flags)
            }
        }
    }
}
