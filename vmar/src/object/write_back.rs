// SPDX-License-Identifier: MPL-2.0

//! Pages that storage lies behind: read when they are missed, written back when they have changed.
//!
//! ```text
//!   program ─ first write to a page ─► note_write ─► dirty ── write_back ─► Store::write_page
//!                       ▲                                        │
//!                       └── the entry leaves the page tables ◄───┘     so that the next write is noted again
//! ```
//!
//! Where the storage says [`Capabilities::NO_WRITEBACK`], because memory is all there is, no page is ever dirty.

use alloc::sync::Arc;
use core::{fmt, ops::Range};

use aster_rights::{TRightSet, TRights, require};

use super::{Lookup, Pager, Vmo, page_map::PageMap};
use crate::{
    backing::Capabilities,
    error::Error,
    fallible::try_arc,
    machine::{Machine, SleepLock},
};

/// Where pages are kept when memory does not hold them.
pub trait Store<M: Machine>: fmt::Debug + Send + Sync + 'static {
    /// Returns what the storage can do.
    fn capabilities(&self) -> Capabilities;

    /// Fills `frame`, which holds zeros, with page `index`.
    ///
    /// # Errors
    ///
    /// Any, as for [`Pager::read_page`].
    fn read_page(&self, index: usize, frame: &M::Frame) -> Result<(), Error>;

    /// Keeps what `frame` holds as page `index`. Somebody may be writing to it; then it is dirty again.
    ///
    /// # Errors
    ///
    /// Any: the page stays dirty then.
    fn write_page(&self, index: usize, frame: &M::Frame) -> Result<(), Error>;
}

/// The pager of an object that a [`Store`] lies behind: it knows which pages are dirty.
pub struct WriteBack<M: Machine, S> {
    store: S,
    dirty: M::Lock<Dirty>,
}

#[derive(Default)]
struct Dirty {
    pages: PageMap<()>,
    /// There was no memory to take note of a page: any may be dirty.
    is_unknown: bool,
}

impl<M: Machine, S: Store<M>> WriteBack<M, S> {
    /// Puts a pager before the storage.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new(store: S) -> Result<Arc<Self>, Error> {
        Ok(try_arc(Self { store, dirty: SleepLock::new(Dirty::default()) })?)
    }

    /// Returns the storage.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Returns the first page at or after `index` that is to be written back.
    pub fn next_dirty(&self, index: usize) -> Option<usize> {
        self.dirty.read().pages.next(index).map(|(index, _)| index)
    }

    /// Takes the first such page at or after `index` off the list.
    fn take_dirty(&self, index: usize) -> Option<usize> {
        let mut dirty = self.dirty.write();
        let (found, _) = dirty.pages.next(index)?;
        dirty.pages.remove_range(found..found + 1);
        Some(found)
    }

    fn note(&self, index: usize) {
        if self.store.capabilities().contains(Capabilities::NO_WRITEBACK) {
            return;
        }
        let mut dirty = self.dirty.write();
        if dirty.pages.get(index).is_none() && dirty.pages.insert(index, ()).is_err() {
            dirty.is_unknown = true;
        }
    }
}

impl<M: Machine, S: Store<M>> Pager<M> for WriteBack<M, S> {
    fn read_page(&self, index: usize, frame: &M::Frame) -> Result<(), Error> {
        self.store.read_page(index, frame)
    }

    fn note_write(&self, index: usize) {
        self.note(index);
    }

    fn freed(&self, range: Range<usize>) {
        self.dirty.write().pages.remove_range(range);
    }
}

impl<M: Machine, R: TRights> Vmo<M, TRightSet<R>> {
    /// Writes the dirty pages of the object, whose pager is `cache`, back to its storage, and returns how many there were. What is
    /// written meanwhile may be dirty again afterwards.
    ///
    /// # Errors
    ///
    /// What the storage answers for a page, which then is still dirty; those before it are not.
    #[require(R > Read)]
    pub fn write_back<S: Store<M>>(&self, cache: &WriteBack<M, S>) -> Result<usize, Error> {
        let mut written = 0;
        if core::mem::take(&mut cache.dirty.write().is_unknown) {
            written += self.write_back_all(cache).inspect_err(|_| cache.dirty.write().is_unknown = true)?;
        }
        let mut at = 0;
        while let Some(index) = cache.take_dirty(at) {
            written += self.write_back_page(cache, index).inspect_err(|_| cache.note(index))?;
            at = index + 1;
        }
        Ok(written)
    }

    /// Writes every page in memory back.
    fn write_back_all<S: Store<M>>(&self, cache: &WriteBack<M, S>) -> Result<usize, Error> {
        let (mut written, mut at) = (0, 0);
        while let Some(index) = self.object.next_resident(at) {
            written += self.write_back_page(cache, index)?;
            at = index + 1;
        }
        Ok(written)
    }

    /// Writes a page back that is in memory.
    fn write_back_page<S: Store<M>>(&self, cache: &WriteBack<M, S>, index: usize) -> Result<usize, Error> {
        // From here on the next write through a mapping is a fault, and so noted.
        self.object.zap(index..index + 1, super::Zap::Object);
        let Lookup::Resident(frame) = self.object.lookup(index) else { return Ok(0) };
        cache.store.write_page(index, &frame)?;
        Ok(1)
    }
}

impl<M: Machine, S: fmt::Debug> fmt::Debug for WriteBack<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBack").field("store", &self.store).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
