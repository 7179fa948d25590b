// SPDX-License-Identifier: MPL-2.0

//! Memory objects: what lies behind a mapping when it is not the mapping's own.
//!
//! ```text
//!   Vmo<M, R> ──────► Vmo_<M> ◄────── MappedVmo ◄── VmMapping
//!   capability         │   │            (on the object's list of who maps it)
//!                      │   └── Pager: where pages come from when memory does not hold them
//!                      └────── PageMap: pages by index
//! ```
//!
//! A [`Vmo`] is a capability: its rights bound what may be done with the content through it, and what a mapping made
//! with it may ever be allowed to do. The content of a file, a tmpfs file, a memfd and a System V segment are each one
//! object; reading, writing and mapping them see one truth.
//!
//! The module `vmo` says which locks there are and in what order they are taken.

mod content;
pub mod grant;
pub mod mapped;
pub mod page_map;
pub mod pager;
mod vmo;

use alloc::sync::Arc;
use core::ops::Range;

use aster_rights::{FullRights, MissingRights, Rights, RightsOp, TRightSet, TRights, require};

pub use self::{
    grant::{Grant, Lease, Revoker},
    mapped::{MappedVmo, Mapper, WriteAccess, Zap},
    pager::Pager,
    vmo::{Lookup, Vmo_, VmoKind},
};
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
        Self::create(Vmo_::new(machine.clone(), size, kind, Some(pager)))
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
    /// access to it is a bus error. What a larger size adds reads as zeros (or as what the pager fills in).
    #[require(R > Write)]
    pub fn resize(&self, size: usize) {
        self.object.resize(size);
    }

    /// Makes `range` (bytes) a hole: its whole pages leave memory and the page tables, private copies of them aside;
    /// what it has of other pages becomes zeros.
    ///
    /// Without a pager the hole reads as zeros; with one, its whole pages read as what the pager fills in.
    #[require(R > Write)]
    pub fn decommit(&self, range: Range<usize>) {
        self.object.decommit(range);
    }

    /// Returns page `index` if it is in memory.
    ///
    /// A frame can be read and written.
    #[require(R > Read | Write)]
    pub fn page(&self, index: usize) -> Option<M::Frame> {
        match self.object.lookup(index) {
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
        self.object.commit(index)
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

impl<M: Machine, R: TRights> From<Vmo<M, TRightSet<R>>> for Vmo<M> {
    fn from(vmo: Vmo<M, TRightSet<R>>) -> Self {
        vmo.to_dynamic()
    }
}

#[cfg(test)]
mod tests;
