// SPDX-License-Identifier: MPL-2.0

//! Which pages of a space are write-protected for those who watch them.
//!
//! The page table cannot tell: an entry that lacks WRITE may lack it for many reasons, and a page of an object can be marked
//! where there is no entry at all. So the marks are kept apart, a small sparse map that spaces without watchers have not.
//!
//! To mark pages takes memory, to take marks away takes none. What marks several pages goes in two steps, so that it fails
//! before it has changed anything:
//!
//! ```text
//!   prepare(page) ... ─► commit(range)      all of them are marked
//!        │
//!        └ no memory ──► abandon(range)     none of them is, but for those that were before
//! ```

use core::ops::Range;

use crate::{error::OutOfMemory, object::page_map::PageMap};

/// Marks of pages, by the page's number.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pages: PageMap<Mark>,
    /// Whether some are prepared.
    has_prepared: bool,
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// It is marked.
    Set,
    /// It is about to be.
    Prepared,
    /// It is marked, and about to be marked again, should something take the mark away in between.
    Both,
}

impl Marks {
    /// Returns whether a page is marked.
    pub(super) fn has(&self, page: usize) -> bool {
        matches!(self.pages.get(page), Some(Mark::Set | Mark::Both))
    }

    /// Calls `visit` for each marked page in `range`, ascending.
    pub(super) fn for_each(&self, range: Range<usize>, mut visit: impl FnMut(usize)) {
        self.pages.for_each(range, &mut |page, mark| {
            if *mark != Mark::Prepared {
                visit(page);
            }
        });
    }

    /// Sees to it that a page can be marked by [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; whoever has prepared others [abandons](Self::abandon) them then.
    pub(super) fn prepare(&mut self, page: usize) -> Result<(), OutOfMemory> {
        self.has_prepared = true;
        let mark = if self.has(page) { Mark::Both } else { Mark::Prepared };
        self.pages.insert(page, mark).map(drop)
    }

    /// Marks the pages of `range` that were prepared.
    pub(super) fn commit(&mut self, range: &Range<usize>) {
        self.settle(range, |mark| match mark {
            Mark::Prepared | Mark::Both => Some(Mark::Set),
            Mark::Set => None,
        });
    }

    /// Leaves the pages of `range` as if none had been prepared.
    pub(super) fn abandon(&mut self, range: &Range<usize>) {
        self.settle(range, |mark| (mark == Mark::Both).then_some(Mark::Set));
        self.take_away(range, Mark::Prepared);
    }

    /// Takes the marks of `range` away. What is prepared stays so.
    pub(super) fn clear(&mut self, range: &Range<usize>) {
        if self.has_prepared {
            self.settle_kept(range, |mark| (mark == Mark::Both).then_some(Mark::Prepared));
            self.take_away(range, Mark::Set);
        } else {
            self.pages.remove_range(range.clone());
        }
    }

    /// Ends a change of several pages in `range`.
    fn settle(&mut self, range: &Range<usize>, becomes: impl Fn(Mark) -> Option<Mark>) {
        self.settle_kept(range, becomes);
        self.has_prepared = false;
    }

    /// Replaces marks of `range` by what `becomes` says.
    fn settle_kept(&mut self, range: &Range<usize>, becomes: impl Fn(Mark) -> Option<Mark>) {
        let mut at = range.start;
        while let Some((page, mark)) = self.pages.next(at).filter(|(page, _)| *page < range.end) {
            if let Some(new) = becomes(*mark) {
                let replaced = self.pages.insert(page, new);
                debug_assert!(replaced.is_ok(), "what replaces a mark needs no memory");
            }
            at = page + 1;
        }
    }

    /// Takes away those in `range` that are `which`.
    fn take_away(&mut self, range: &Range<usize>, which: Mark) {
        let mut at = range.start;
        while let Some((page, mark)) = self.pages.next(at).filter(|(page, _)| *page < range.end) {
            if *mark == which {
                self.pages.remove_range(page..page + 1);
            }
            at = page + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn marked(marks: &Marks) -> Vec<usize> {
        let mut pages = Vec::new();
        marks.for_each(0..usize::MAX, |page| pages.push(page));
        pages
    }

    #[test]
    fn prepared_marks_are_none_until_they_are_committed() {
        let mut marks = Marks::default();
        [3, 5, 900].into_iter().for_each(|page| marks.prepare(page).unwrap());
        assert!(!marks.has(3) && marked(&marks).is_empty());
        marks.commit(&(0..1000));
        assert_eq!(marked(&marks), [3, 5, 900]);
        marks.clear(&(4..6));
        assert_eq!(marked(&marks), [3, 900]);
        marks.clear(&(0..1000));
        assert!(marks.pages.is_empty());
    }

    #[test]
    fn marks_that_were_there_survive_what_is_abandoned() {
        let mut marks = Marks::default();
        marks.prepare(1).unwrap();
        marks.commit(&(0..10));
        [1, 2].into_iter().for_each(|page| marks.prepare(page).unwrap());
        marks.abandon(&(0..10));
        assert_eq!(marked(&marks), [1]);
    }

    #[test]
    fn what_is_prepared_survives_what_is_cleared() {
        let mut marks = Marks::default();
        [1, 7].into_iter().for_each(|page| marks.prepare(page).unwrap());
        marks.commit(&(0..10));
        [1, 2].into_iter().for_each(|page| marks.prepare(page).unwrap());
        marks.clear(&(0..10));
        assert!(marked(&marks).is_empty());
        marks.commit(&(0..10));
        assert_eq!(marked(&marks), [1, 2]);
    }
}
