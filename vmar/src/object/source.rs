// SPDX-License-Identifier: MPL-2.0

//! What a memory object can be backed by: one small trait, and every kind behind it.
//!
//! ```text
//!   Vmo_ ── pages it has ──────────────── found here by nearly every fault
//!     │
//!     └── Source: asked for the rest
//!           none             zeros                                the plain kind; costs a fault nothing
//!           Anonymous        zeros, from memory that was reserved
//!           Paged            what a Pager reads                   files, user-level pagers
//!           ImageSegment     the pages of an ELF file
//!           PhysicalMemory   frames that exist beforehand
//!           Slice            the pages of another object
//! ```
//!
//! The operations are few, and the same for every kind:
//!
//! | operation | when |
//! | --- | --- |
//! | [`create`](Source::create), [`resize`](Source::resize), [`destroy`](Source::destroy) | the object's size comes, changes, goes |
//! | [`may_resize`](Source::may_resize), [`may_share`](Source::may_share) | two questions, asked before |
//! | [`look`](Source::look), [`fault`](Source::fault), [`free`](Source::free) | a page is wanted now; it is waited for; it leaves the object |
//! | [`share`](Source::share), [`create_shared`](Source::create_shared), [`destroy_shared`](Source::destroy_shared) | a mapping shares the object; the first does; the last no longer does |
//!
//! The part that sharers share is the object's own map of pages: it is asked first, and a hit is one more holder of the frame.

use alloc::sync::Arc;
use core::{fmt::Debug, ops::Range};

use super::{
    pager::Pager,
    vmo::{Lookup, Vmo_},
};
use crate::{
    error::Error,
    machine::{Blank, Frame, Machine},
};

/// What a page is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read, or copied.
    Read,
    /// To be written, for all to see.
    Write,
}

/// What a source answers to a fault.
#[derive(Debug)]
pub enum Page<F> {
    /// A page that becomes the object's own.
    Own(F),
    /// A page that belongs to somebody else, and can be used as it is for what it was wanted for.
    Lent(F),
}

/// What a private copy of a page can be made of without the object being given a page.
#[derive(Debug)]
pub enum CopySource<F> {
    /// Zeros.
    Zeros,
    /// These bytes of the page, between zeros.
    Part(F, Range<usize>),
}

/// Another object whose pages a source shows.
#[derive(Debug)]
pub struct Beneath<'a, M: Machine> {
    /// The other object.
    pub object: &'a Arc<Vmo_<M>>,
    /// Whether what is written goes to the other object.
    pub is_written_through: bool,
}

/// Whether an object can be snapshotted.
#[derive(Debug)]
pub enum Snapshots<'a, M: Machine> {
    /// It can.
    Here,
    /// What can is the other object, where the pages are so many further on.
    Beneath(&'a Arc<Vmo_<M>>, usize),
    /// It cannot.
    Refused,
}

/// What an object's pages come from, when it has them not.
///
/// Pages are named by their index in the object. Unless it says otherwise, a method may be called with the locks of spaces and
/// objects held: it does not wait for a fault.
pub trait Source<M: Machine>: Debug + Send + Sync {
    /// Takes what an object of `pages` pages needs from the start.
    ///
    /// # Errors
    ///
    /// Any: the object is not made then.
    fn create(&self, pages: usize) -> Result<(), Error> {
        let _ = pages;
        Ok(())
    }

    /// Adapts to another number of pages.
    ///
    /// # Errors
    ///
    /// Any: the size stays then.
    fn resize(&self, from: usize, to: usize) -> Result<(), Error> {
        let _ = (from, to);
        Ok(())
    }

    /// Gives back what it holds for an object of `pages` pages, which is gone.
    fn destroy(&self, pages: usize) {
        let _ = pages;
    }

    /// Returns whether the object's size can change.
    fn may_resize(&self) -> bool {
        true
    }

    /// Returns whether mappings can share the object.
    fn may_share(&self) -> bool {
        true
    }

    /// Notes one more mapping that shares the object.
    fn share(&self) {}

    /// Begins what sharers have in common: called for the first of them.
    fn create_shared(&self) {}

    /// Ends what sharers have in common: called when the last of them is gone.
    fn destroy_shared(&self) {}

    /// Notes that a mapping is gone, and how many are left.
    fn unmapped(&self, left: usize) {
        let _ = left;
    }

    /// Returns what it has for page `index` without waiting: [`Lookup::Resident`] only for a page that can be used as it is for
    /// what it is wanted for.
    fn look(&self, index: usize, purpose: Purpose) -> Lookup<M::Frame>;

    /// Returns page `index`. May wait; no lock is held.
    ///
    /// # Errors
    ///
    /// Any; a fault turns most into a bus error.
    fn fault(&self, index: usize, purpose: Purpose) -> Result<Page<M::Frame>, Error>;

    /// Returns what a private copy of page `index` can be made of without the object being given the page, if
    /// [`look`](Self::look) has not found it and the copy can be made without waiting.
    ///
    /// # Errors
    ///
    /// Any, as for a fault.
    fn copy_source(&self, index: usize) -> Result<Option<CopySource<M::Frame>>, Error> {
        let _ = index;
        Ok(None)
    }

    /// Notes that pages in `range`, `count` of them, have left the object.
    fn free(&self, range: Range<usize>, count: usize) {
        let _ = (range, count);
    }

    /// Returns whether it may itself have pages in memory, for [`look`](Self::look) to find.
    fn has_pages(&self) -> bool {
        true
    }

    /// Returns the first page at or after `index` that is in memory.
    fn next_resident(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// Notes that page `index` is about to be written, or may be from now on through a mapping.
    fn note_write(&self, index: usize) {
        let _ = index;
    }

    /// Returns whether it lends pages that must be copied before the object writes them.
    fn lends(&self) -> bool {
        false
    }

    /// Returns the object that it shows pages of.
    fn beneath(&self) -> Option<Beneath<'_, M>> {
        None
    }

    /// Returns which pages show the pages `pages` of the object beneath.
    fn shown(&self, pages: Range<usize>) -> Range<usize> {
        pages
    }

    /// Returns the object, and from which page on, that it shows as it is.
    fn window_beneath(&self) -> Option<(Arc<Vmo_<M>>, usize)> {
        None
    }

    /// Returns the size in bytes, if it is not the object that says it.
    fn size(&self) -> Option<usize> {
        None
    }

    /// Returns whether the object can be snapshotted.
    fn snapshots(&self) -> Snapshots<'_, M> {
        Snapshots::Refused
    }
}

/// Pages that a [`Pager`] reads.
#[derive(Debug)]
pub(super) struct Paged<M: Machine> {
    machine: M,
    pager: Arc<dyn Pager<M>>,
}

impl<M: Machine> Paged<M> {
    pub(super) fn new(machine: M, pager: Arc<dyn Pager<M>>) -> Self {
        Self { machine, pager }
    }
}

impl<M: Machine> Source<M> for Paged<M> {
    fn look(&self, _index: usize, _purpose: Purpose) -> Lookup<M::Frame> {
        Lookup::Paged
    }

    fn fault(&self, index: usize, _purpose: Purpose) -> Result<Page<M::Frame>, Error> {
        let frame = self.machine.alloc()?.zeroed();
        self.pager.read_page(index, &frame)?;
        Ok(Page::Own(frame))
    }

    fn has_pages(&self) -> bool {
        false
    }

    fn free(&self, range: Range<usize>, _count: usize) {
        self.pager.freed(range);
    }

    fn note_write(&self, index: usize) {
        self.pager.note_write(index);
    }

    fn snapshots(&self) -> Snapshots<'_, M> {
        Snapshots::Here
    }
}

/// Frames that exist before the object does: memory of which it matters where it is.
///
/// Its size is fixed. Whoever made it is told of each mapping that goes.
#[derive(Debug)]
pub struct PhysicalMemory<M: Machine, W> {
    frames: alloc::vec::Vec<FrameOf<M>>,
    watcher: W,
}

/// A frame, which need not be printable.
struct FrameOf<M: Machine>(M::Frame);

impl<M: Machine> Debug for FrameOf<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({})", self.0.id())
    }
}

/// Who wants to know when physical memory is no longer mapped.
pub trait UnmapWatcher: Debug + Send + Sync {
    /// Notes that a mapping is gone, and how many are left. Must not wait for a fault.
    fn unmapped(&self, left: usize);
}

impl<M: Machine, W: UnmapWatcher> PhysicalMemory<M, W> {
    /// Makes a source of `frames`, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new(frames: impl IntoIterator<Item = M::Frame>, watcher: W) -> Result<Self, Error> {
        Ok(Self { frames: crate::fallible::try_collect(frames.into_iter().map(FrameOf))?, watcher })
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.frames.len() * M::PAGE_SIZE
    }
}

impl<M: Machine, W: UnmapWatcher> Source<M> for PhysicalMemory<M, W> {
    fn may_resize(&self) -> bool {
        false
    }

    fn look(&self, index: usize, _purpose: Purpose) -> Lookup<M::Frame> {
        match self.frames.get(index) {
            Some(frame) => Lookup::Resident(frame.0.clone()),
            None => Lookup::PastEnd,
        }
    }

    fn fault(&self, index: usize, _purpose: Purpose) -> Result<Page<M::Frame>, Error> {
        self.frames.get(index).map(|frame| Page::Lent(frame.0.clone())).ok_or(Error::BusError)
    }

    fn next_resident(&self, index: usize) -> Option<usize> {
        (index < self.frames.len()).then_some(index)
    }

    fn unmapped(&self, left: usize) {
        self.watcher.unmapped(left);
    }
}

#[cfg(test)]
mod tests;
