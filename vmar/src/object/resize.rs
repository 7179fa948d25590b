// SPDX-License-Identifier: MPL-2.0

//! Taking pages away from an object: cutting it off, making holes.
//!
//! The pages go first, then what the page tables have of them. A page that is only changed in part must be the object's own.

use core::ops::Range;

use super::{
    mapped::Zap,
    source::Purpose,
    vmo::{Lookup, Pages, Vmo_},
};
use crate::{
    error::Error,
    machine::{Machine, SleepLock},
};

impl<M: Machine> Vmo_<M> {
    pub(super) fn resize(&self, size: usize) -> Result<(), Error> {
        if !self.may_resize() {
            return Err(Error::NotSupported);
        }
        if let Some(beneath) = self.source().and_then(|source| source.beneath()) {
            return beneath.object.resize(size);
        }
        loop {
            let edge = size..if size < self.size() { size.next_multiple_of(M::PAGE_SIZE) } else { size };
            self.make_own_for(&edge)?;
            let _resizing = self.resizing.write();
            let gone = {
                let mut pages = self.pages.write();
                if self.lacks_own(&pages, &edge) {
                    continue;
                }
                let old_count = pages.count();
                let count = size.div_ceil(M::PAGE_SIZE);
                if let Some(below) = &mut pages.below {
                    below.try_reserve()?;
                }
                if let Some(source) = self.source() {
                    source.resize(old_count, count)?;
                }
                // From here on nothing fails. What a mapping wrote past the old end must not come to light when the object
                // grows.
                pages.zero_tail();
                pages.size = size;
                if count < old_count {
                    self.remove(&mut pages, count..usize::MAX);
                }
                pages.zero_tail();
                count..old_count
            };
            self.zap(gone, Zap::All);
            return Ok(());
        }
    }

    pub(super) fn decommit(&self, range: Range<usize>) -> Result<(), Error> {
        if let Some(source) = self.source()
            && let Some(beneath) = source.beneath()
            && beneath.is_written_through
        {
            let size = self.size();
            let (start, end) = (range.start.min(size), range.end.min(size));
            let base = source.window_beneath().map_or(0, |(_, base)| base) * M::PAGE_SIZE;
            return beneath.object.decommit(base + start..base + end.max(start));
        }
        let whole = range.start.div_ceil(M::PAGE_SIZE)..range.end / M::PAGE_SIZE;
        let edges = if whole.start > whole.end {
            [range.clone(), range.end..range.end]
        } else {
            [range.start..whole.start * M::PAGE_SIZE, whole.end * M::PAGE_SIZE..range.end]
        };
        loop {
            for edge in &edges {
                self.make_own_for(edge)?;
            }
            let _resizing = self.resizing.write();
            {
                let mut pages = self.pages.write();
                if edges.iter().any(|edge| self.lacks_own(&pages, edge)) {
                    continue;
                }
                if let Some(below) = &mut pages.below {
                    below.try_reserve()?;
                }
                // From here on nothing fails.
                edges.into_iter().for_each(|edge| pages.zero(edge));
                if whole.is_empty() || !self.remove(&mut pages, whole.clone()) {
                    return Ok(());
                }
            }
            self.zap(whole, Zap::Object);
            return Ok(());
        }
    }

    /// Takes the pages of `range` away, of its own and from below, and returns whether there may have been any.
    fn remove(&self, pages: &mut Pages<M>, range: Range<usize>) -> bool {
        let count = pages.map.remove_range(range.clone());
        if let Some(account) = self.account() {
            account.discharge(count);
        }
        // Also of what is on its way.
        pages.removals += 1;
        if let Some(below) = &mut pages.below {
            below.hide(range.clone());
        } else if count == 0 {
            return false;
        }
        if let Some(source) = self.source() {
            source.free(range, count);
        }
        true
    }

    /// Gives the object a page of its own for the bytes `edge`, which lie within one page and are to be changed, if it has a page
    /// there that is lent to it.
    fn make_own_for(&self, edge: &Range<usize>) -> Result<(), Error> {
        while self.lacks_own(&self.pages.read(), edge) {
            self.make_own(edge.start / M::PAGE_SIZE)?;
        }
        Ok(())
    }

    /// Returns whether the bytes `edge`, which lie within one page, are in a page that is lent.
    fn lacks_own(&self, pages: &Pages<M>, edge: &Range<usize>) -> bool {
        let index = edge.start / M::PAGE_SIZE;
        !edge.is_empty()
            && (pages.below.is_some() || self.source().is_some_and(|source| source.lends()))
            && pages.map.get(index).is_none()
            && matches!(self.missing(pages, index, Purpose::Read), Lookup::Resident(_) | Lookup::Paged)
    }

    /// Takes pages of its own away whose originals have left the object beneath.
    pub(super) fn drop_copies(&self, range: Range<usize>) {
        let mut pages = self.pages.write();
        let count = pages.map.remove_range(range);
        if let Some(account) = self.account() {
            account.discharge(count);
        }
        pages.removals += 1;
    }
}
