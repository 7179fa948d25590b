// SPDX-License-Identifier: MPL-2.0

//! The object behind the capability: its pages, its size, its pager.
//!
//! # Locks
//!
//! ```text
//!   resizing  ►  mappings of a space  ►  mappers, pages      (taken from left to right; the last two never together)
//! ```
//!
//! A fault holds its space's lock and looks at the pages. Whoever takes pages away therefore removes them from the
//! object first, lets go of `pages`, and then has each space drop its entries under that space's lock: a fault that
//! found a page before is over by then, and a later one finds it gone.
//!
//! A pager is called with none of these locks held.

use alloc::sync::Arc;
use core::{fmt, ops::Range};

use super::{
    mapped::{Mappers, Zap},
    page_map::PageMap,
    pager::Pager,
};
use crate::{
    error::Error,
    machine::{Blank, Frame, Machine, SleepLock},
};

/// What an object is, for the resident set counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmoKind {
    /// The content of a file.
    File,
    /// Shared memory.
    SharedMemory,
}

/// A memory object: `size` bytes in pages that exist as they are needed.
pub struct Vmo_<M: Machine> {
    machine: M,
    kind: VmoKind,
    pager: Option<Arc<dyn Pager<M>>>,
    /// Held for writing while the size changes, so that shrinking (pages, then page tables) is one step to others
    /// that change the size.
    resizing: M::Lock<()>,
    pages: M::Lock<Pages<M>>,
    pub(super) mappers: M::Lock<Mappers<M>>,
}

struct Pages<M: Machine> {
    /// In bytes.
    size: usize,
    map: PageMap<M::Frame>,
    /// How many times pages have been taken away: tells a reader that what it read may be stale.
    removals: u64,
}

/// What an object has at an index.
pub enum Lookup<F> {
    /// The page is in memory.
    Resident(F),
    /// The page is not in memory, and only needs a frame of zeros.
    Absent,
    /// The page is not in memory, and the pager must be asked, which may take long.
    Paged,
    /// The index is past the end of the object.
    PastEnd,
}

impl<M: Machine> Vmo_<M> {
    pub(super) fn new(machine: M, size: usize, kind: VmoKind, pager: Option<Arc<dyn Pager<M>>>) -> Self {
        Self {
            machine,
            kind,
            pager,
            resizing: SleepLock::new(()),
            pages: SleepLock::new(Pages { size, map: PageMap::new(), removals: 0 }),
            mappers: SleepLock::new(Mappers::new()),
        }
    }

    /// Returns what kind of memory it is.
    pub fn kind(&self) -> VmoKind {
        self.kind
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.pages.read().size
    }

    /// Returns how many pages are in memory.
    pub fn resident_count(&self) -> usize {
        self.pages.read().map.len()
    }

    /// Looks at page `index`, and waits for nothing but a short lock.
    pub fn lookup(&self, index: usize) -> Lookup<M::Frame> {
        let pages = self.pages.read();
        match pages.map.get(index) {
            Some(frame) => Lookup::Resident(frame.clone()),
            None => self.missing(&pages, index),
        }
    }

    /// Hands the pages in memory whose indices lie in `around` to `visit`, ascending, and then says of page `index`, which `visit` has
    /// not been handed, why.
    pub fn look_around(
        &self,
        index: usize,
        around: Range<usize>,
        mut visit: impl FnMut(usize, &M::Frame),
    ) -> Lookup<M::Frame> {
        let pages = self.pages.read();
        pages.map.for_each(around.start..around.end.min(pages.count()), &mut visit);
        self.missing(&pages, index)
    }

    /// Says why there is no page `index`.
    fn missing(&self, pages: &Pages<M>, index: usize) -> Lookup<M::Frame> {
        if index >= pages.count() {
            Lookup::PastEnd
        } else if self.pager.is_some() {
            Lookup::Paged
        } else {
            Lookup::Absent
        }
    }

    /// Hands each page in memory whose index lies in `range` to `visit`, ascending.
    pub fn for_each_resident(&self, range: Range<usize>, mut visit: impl FnMut(usize, &M::Frame)) {
        let pages = self.pages.read();
        pages.map.for_each(range.start..range.end.min(pages.count()), &mut visit);
    }

    /// Returns the first page in memory at or after `index`.
    pub fn next_resident(&self, index: usize) -> Option<usize> {
        self.pages.read().map.next(index).map(|(index, _)| index)
    }

    /// Returns page `index`, read or allocated if need be.
    ///
    /// Callers that race agree on one frame.
    ///
    /// # Errors
    ///
    /// - [`Error::BusError`] past the end of the object.
    /// - [`Error::OutOfMemory`].
    /// - What the pager answers.
    pub fn commit(&self, index: usize) -> Result<M::Frame, Error> {
        loop {
            let removals = {
                let pages = self.pages.read();
                if index >= pages.count() {
                    return Err(Error::BusError);
                }
                if let Some(frame) = pages.map.get(index) {
                    return Ok(frame.clone());
                }
                pages.removals
            };
            let frame = self.machine.alloc()?.zeroed();
            if let Some(pager) = &self.pager {
                pager.read_page(index, &frame)?;
            }
            let mut pages = self.pages.write();
            if pages.removals != removals {
                continue;
            }
            if let Some(frame) = pages.map.get(index) {
                return Ok(frame.clone());
            }
            pages.map.insert(index, frame.clone())?;
            if index == pages.count() - 1 {
                // What the pager read past the end does not belong to the object.
                pages.zero_tail();
            }
            return Ok(frame);
        }
    }

    /// Returns whether somebody wants to be told of writes.
    pub fn notes_writes(&self) -> bool {
        self.pager.is_some()
    }

    /// Notes a coming write to page `index`.
    pub fn note_write(&self, index: usize) {
        if let Some(pager) = &self.pager {
            pager.note_write(index);
        }
    }

    pub(super) fn resize(&self, size: usize) {
        let _resizing = self.resizing.write();
        let gone = {
            let mut pages = self.pages.write();
            let old_count = pages.count();
            // What a mapping wrote past the old end must not come to light when the object grows.
            pages.zero_tail();
            pages.size = size;
            let count = pages.count();
            if count < old_count {
                pages.map.remove_range(count..usize::MAX);
                pages.removals += 1;
            }
            pages.zero_tail();
            count..old_count
        };
        self.zap(gone, Zap::All);
    }

    pub(super) fn decommit(&self, range: Range<usize>) {
        let _resizing = self.resizing.write();
        let whole = range.start.div_ceil(M::PAGE_SIZE)..range.end / M::PAGE_SIZE;
        {
            let mut pages = self.pages.write();
            if whole.start > whole.end {
                pages.zero(range);
                return;
            }
            pages.zero(range.start..whole.start * M::PAGE_SIZE);
            pages.zero(whole.end * M::PAGE_SIZE..range.end);
            if pages.map.remove_range(whole.clone()) == 0 {
                return;
            }
            pages.removals += 1;
        }
        self.zap(whole, Zap::Object);
    }
}

impl<M: Machine> Pages<M> {
    /// Returns the size in pages, rounded up.
    fn count(&self) -> usize {
        self.size.div_ceil(M::PAGE_SIZE)
    }

    /// Fills what the last page has past the end of the object with zeros.
    fn zero_tail(&self) {
        self.zero(self.size..self.count().saturating_mul(M::PAGE_SIZE));
    }

    /// Fills `range` (bytes, within one page) with zeros if its page is in memory.
    fn zero(&self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if let Some(frame) = self.map.get(range.start / M::PAGE_SIZE) {
            let start = range.start % M::PAGE_SIZE;
            frame.zero(start..start + range.len());
        }
    }
}

impl<M: Machine> fmt::Debug for Vmo_<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmo").field("kind", &self.kind).field("pager", &self.pager).finish_non_exhaustive()
    }
}
