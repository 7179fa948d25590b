// SPDX-License-Identifier: MPL-2.0

//! Memory objects: what lies behind a mapping when it is not the mapping's own.
//!
//! ```text
//!   Vmo<M, R> ──────► Vmo_<M> ◄────── MappedVmo ◄── VmMapping
//!   capability         │ │ │            (on the object's list of who maps it)
//!                      │ │ └── Source: what the rest comes from; none is zeros
//!                      │ └──── layers: pages in common with snapshots
//!                      └────── PageMap: pages by index, the object's own
//! ```
//!
//! A [`Vmo`] is a capability: its rights bound what may be done with the content through it, and what a mapping made
//! with it may ever be allowed to do. The content of a file, a tmpfs file, a memfd and a System V segment are each one
//! object; reading, writing and mapping them see one truth.
//!
//! The module `vmo` says which locks there are and in what order they are taken.

pub mod account;
pub mod anonymous;
mod content;
pub mod grant;
mod hidden;
pub mod image;
mod layer;
pub mod mapped;
pub mod page_map;
pub mod pager;
mod range;
mod resize;
mod slice;
mod snapshot;
pub mod source;
mod vmo;
pub mod write_back;

use alloc::sync::Arc;
use core::ops::Range;

use aster_rights::{FullRights, MissingRights, Rights, RightsOp, TRightSet, TRights, require};

pub use self::{
    account::Account,
    anonymous::{Anonymous, Reservation, Reserve},
    grant::{Grant, Lease, Revoker},
    image::{ElfImage, Outside, PrivateSegment, Segment, SegmentVmo},
    mapped::{MappedVmo, Mapper, WriteAccess, Zap},
    pager::Pager,
    source::{CopySource, PhysicalMemory, Purpose, Source, UnmapWatcher},
    vmo::{Lookup, Vmo_, VmoKind},
    write_back::{Store, WriteBack},
};
use self::{slice::Slice, source::Paged};
use crate::{error::Error, fallible::try_arc, machine::Machine};

/// A capability to a memory object.
#[derive(Debug)]
pub struct Vmo<M: Machine, R = Rights> {
    object: Arc<Vmo_<M>>,
    rights: R,
}

impl<M: Machine> Vmo<M, TRightSet<FullRights>> {
    /// Creates an object of `size` bytes of zeros, and gives every right to it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new(machine: &M, size: usize, kind: VmoKind) -> Result<Self, Error> {
        Self::create(Vmo_::new(machine.clone(), size, kind, None))
    }

    /// Creates an object of `size` bytes whose pages come from `source`, and gives every right to it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], and what the source answers to [`Source::create`].
    pub fn with_source(
        machine: &M,
        size: usize,
        kind: VmoKind,
        source: impl Source<M> + 'static,
    ) -> Result<Self, Error> {
        let source = try_arc(source)?;
        source.create(size.div_ceil(M::PAGE_SIZE))?;
        Self::create(Vmo_::new(machine.clone(), size, kind, Some(source)))
    }

    /// Creates an object of `size` bytes whose pages `pager` fills, and gives every right to it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn with_pager(
        machine: &M,
        size: usize,
        kind: VmoKind,
        pager: Arc<dyn Pager<M>>,
    ) -> Result<Self, Error> {
        Self::with_source(machine, size, kind, Paged::new(machine.clone(), pager))
    }

    /// Has `account` count the object's pages, from now until they are gone.
    ///
    /// An object that is counted cannot be snapshotted.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if somebody else knows the object, or it has pages.
    pub fn counted_by(mut self, account: Arc<dyn Account>) -> Result<Self, Error> {
        let object = Arc::get_mut(&mut self.object).filter(|object| object.resident_count() == 0);
        object.ok_or(Error::Occupied)?.set_account(account);
        Ok(self)
    }

    fn create(object: Vmo_<M>) -> Result<Self, Error> {
        Ok(Self { object: try_arc(object)?, rights: TRightSet::new() })
    }
}

/// What every capability to an object can do, however its rights are known.
impl<M: Machine, R: RightsOp> Vmo<M, R> {
    /// Returns the rights.
    pub fn rights(&self) -> Rights {
        self.rights.rights()
    }

    /// Returns the capability with its rights as values.
    pub fn to_dynamic(self) -> Vmo<M> {
        Vmo { rights: self.rights(), object: self.object }
    }

    /// Returns the capability with just the rights `S`, and these in its type.
    ///
    /// # Errors
    ///
    /// The rights that are lacking.
    pub fn require<S: TRights>(self) -> Result<Vmo<M, TRightSet<S>>, MissingRights> {
        Ok(Vmo { rights: self.rights().require::<S>()?, object: self.object })
    }

    /// Gives up all rights but those in `rights`.
    pub fn limit(self, rights: Rights) -> Vmo<M> {
        Vmo { rights: self.rights().intersection(rights), object: self.object }
    }

    /// Returns what kind of memory it is.
    pub fn kind(&self) -> VmoKind {
        self.object.kind()
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.object.size()
    }

    /// Returns how many pages are in memory.
    pub fn resident_count(&self) -> usize {
        self.object.resident_count()
    }

    /// Returns whether both name the same object.
    pub fn is_same_object<S: RightsOp>(&self, other: &Vmo<M, S>) -> bool {
        Arc::ptr_eq(&self.object, &other.object)
    }

    /// Returns a number that tells the object from every other living one.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.object).addr()
    }

    /// Returns a capability to `object`.
    pub(crate) fn of(object: Arc<Vmo_<M>>, rights: Rights) -> Vmo<M> {
        Vmo { object, rights }
    }

    /// Returns another capability to the object, for the framework, which looks at the rights itself.
    pub(crate) fn duplicate(&self, rights: Rights) -> Vmo<M> {
        Vmo { object: self.object.clone(), rights }
    }

    /// Returns the object, for the framework, which looks at the rights itself.
    pub(crate) fn object(&self) -> &Arc<Vmo_<M>> {
        &self.object
    }
}

impl<M: Machine, R: TRights> Vmo<M, TRightSet<R>> {
    /// Returns a second capability with the same rights.
    #[require(R > Dup)]
    pub fn dup(&self) -> Self {
        Self { object: self.object.clone(), rights: self.rights }
    }

    /// Gives up all rights but those of the set `S`.
    #[require(R >= S)]
    pub fn restrict<S: TRights>(self) -> Vmo<M, TRightSet<S>> {
        Vmo { object: self.object, rights: self.rights.restrict() }
    }

    /// Reads what the object holds from `offset` (bytes) on into `buf`, up to the object's end, and returns how many
    /// bytes that was.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] or what the pager answers, if not one byte could be read.
    #[require(R > Read)]
    pub fn read_bytes(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error> {
        self.object.read_bytes(offset, buf)
    }

    /// Writes `buf` at `offset` (bytes), up to the object's end, and returns how many bytes that was. The object does
    /// not grow.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] or what the pager answers, if not one byte could be written.
    #[require(R > Write)]
    pub fn write_bytes(&self, offset: usize, buf: &[u8]) -> Result<usize, Error> {
        self.object.write_bytes(offset, buf)
    }

    /// Makes the object `size` bytes long.
    ///
    /// What lies past a new, smaller size is gone, from every page table as well, private copies included: a later
    /// access to it is a bus error. What a larger size adds reads as zeros (or as what the source gives).
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// - [`Error::NotSupported`] if the object's size is fixed: that of physical memory, a segment, a slice.
    /// - What the source answers, as [`Error::OutOfMemory`] for memory that is reserved.
    /// - [`Error::OutOfMemory`] where pages are in common with a snapshot. A plain object's size always changes.
    #[require(R > Write)]
    pub fn resize(&self, size: usize) -> Result<(), Error> {
        self.object.resize(size)
    }

    /// Makes `range` (bytes) a hole: its whole pages leave memory and the page tables, private copies of them aside;
    /// what it has of other pages becomes zeros.
    ///
    /// Without a source the hole reads as zeros; with one, its whole pages read as what the source gives.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] where pages are in common with a snapshot; nothing has changed then. Of a plain object, holes can
    /// always be made.
    #[require(R > Write)]
    pub fn decommit(&self, range: Range<usize>) -> Result<(), Error> {
        self.object.decommit(range)
    }

    /// Makes an object that holds now what this one does: pages are in common until one of the two is written.
    ///
    /// Whoever holds the rights to read it holds them to the snapshot. It can be written if `access` says so, whatever the rights
    /// to this one are, but then not executed.
    ///
    /// Pages that a pager has yet to read are as it reads them then, for both.
    ///
    /// # Errors
    ///
    /// - [`Error::NotSupported`] if the object shows memory that others change: physical memory, a segment; or its pages are
    ///   counted. Of a slice it is the object behind it that decides.
    /// - [`Error::OutOfMemory`]; nothing has changed then.
    #[require(R > Read)]
    pub fn snapshot(&self, access: SnapshotAccess) -> Result<Vmo<M>, Error> {
        let size = self.size();
        let object = self.object.snapshot(0..size.div_ceil(M::PAGE_SIZE), size)?;
        let rights = match access {
            SnapshotAccess::ReadOnly => self.rights() - Rights::WRITE,
            SnapshotAccess::Writable => (self.rights() | Rights::WRITE) - Rights::EXEC,
        };
        Ok(Vmo { object, rights })
    }

    /// Makes an object that is the part `range` (bytes, page-aligned; the end may be that of the object) of this one: what is
    /// written to either is seen in both. Its size is fixed.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidAlignment`], [`Error::InvalidOffset`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Dup)]
    pub fn slice(&self, range: Range<usize>) -> Result<Self, Error> {
        let size = self.size();
        if !range.start.is_multiple_of(M::PAGE_SIZE)
            || !(range.end.is_multiple_of(M::PAGE_SIZE) || range.end == size)
        {
            return Err(Error::InvalidAlignment);
        }
        if range.start > range.end || range.end > size {
            return Err(Error::InvalidOffset);
        }
        let pages = range.start / M::PAGE_SIZE..range.end.div_ceil(M::PAGE_SIZE);
        self.show(range.len(), Slice::window(&self.object, pages))
    }

    /// Makes an object that is this one by another name: with its own mappings and its own number, and whatever size this one has.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    #[require(R > Dup)]
    pub fn reference(&self) -> Result<Self, Error> {
        self.show(usize::MAX, Slice::whole(&self.object))
    }

    fn show(&self, size: usize, slice: Slice<M>) -> Result<Self, Error> {
        let object = Vmo::with_source(self.object.machine(), size, self.kind(), slice)?.object;
        Ok(Self { object, rights: self.rights })
    }

    /// Returns page `index` if it is in memory and the object's own.
    ///
    /// A frame can be read and written.
    #[require(R > Read | Write)]
    pub fn page(&self, index: usize) -> Option<M::Frame> {
        match self.object.look(index, Purpose::Write) {
            Lookup::Resident(frame) => Some(frame),
            _ => None,
        }
    }

    /// Returns page `index`, read or allocated if need be.
    ///
    /// Callers that race agree on one frame. A frame can be read and written; whoever writes says so with
    /// [`note_write`](Self::note_write) first.
    ///
    /// # Errors
    ///
    /// - [`Error::BusError`] past the end of the object.
    /// - [`Error::OutOfMemory`].
    /// - What the pager answers.
    #[require(R > Read | Write)]
    pub fn commit(&self, index: usize) -> Result<M::Frame, Error> {
        self.object.commit(index, Purpose::Write)
    }

    /// Tells the pager of a coming write to page `index`.
    #[require(R > Write)]
    pub fn note_write(&self, index: usize) {
        self.object.note_write(index);
    }

    /// Returns the index of the first page in memory at or after `index`: what lies between is a hole if there is no
    /// pager.
    #[require(R > Read)]
    pub fn next_resident(&self, index: usize) -> Option<usize> {
        self.object.next_resident(index)
    }

    /// Returns how many shared mappings may write the object, now or after a change of their permissions.
    #[require(R > Read)]
    pub fn count_writers(&self) -> usize {
        self.object.count_writers()
    }

    /// Refuses, from now on and for good, new shared mappings that may write (`F_SEAL_WRITE`).
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] if there are such mappings already.
    #[require(R > Write)]
    pub fn deny_writers(&self) -> Result<(), Error> {
        self.object.deny_writers()
    }
}

/// What a snapshot allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotAccess {
    /// What the object allows, but not to write.
    ReadOnly,
    /// What the object allows and to write, but not to execute.
    Writable,
}

impl<M: Machine, R: TRights> From<Vmo<M, TRightSet<R>>> for Vmo<M> {
    fn from(vmo: Vmo<M, TRightSet<R>>) -> Self {
        vmo.to_dynamic()
    }
}

#[cfg(test)]
mod tests;
