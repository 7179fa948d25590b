// SPDX-License-Identifier: MPL-2.0

//! Page faults: what an access found missing is made, and no more.
//!
//! ```text
//!   lock for reading ─► mapping? ─► permission? ─► what the entry may take: a blank page, the object's page
//!     ▲   │ none, but a stack above                   │                  │ the object must read it
//!     │   ▼                                           ▼                  ▼
//!     │  grow (lock for writing)                 transaction        wait, without the lock
//!     │   │                              empty? fill it             │
//!     ├───┘                              may be written? widen it   │
//!     ├── what it takes is not at hand ◄─ otherwise: copy it ──► done
//!     └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! What a fault may need is fetched first, then one transaction looks at the entry and settles it: faults of several CPUs on
//! one page come one after the other, and the later ones find the page there.

mod around;
mod borrowed;
mod copy;
mod replace;
mod settle;

use alloc::sync::Arc;
use core::{
    fmt,
    ops::{ControlFlow, Range},
};

use aster_rights::{TRightSet, TRights, require};

pub(crate) use self::replace::WriteFront;
use self::settle::Fresh;
use super::{
    Mappings, Vmar, Vmar_,
    region::Region,
    watch::{FaultHandler, HandReason},
};
use crate::{
    error::Error,
    machine::{AddressSpace, Blank, Cursor, Entry, Frame, Machine, PageFlags, PageProps, SleepLock},
    mapping::{MappedMemory, MappingFlags, VmMapping},
    object::{CopySource, Lookup, Purpose, Vmo_},
    perms::VmPerms,
};

/// What a program did when it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It read.
    Read,
    /// It wrote.
    Write,
    /// It fetched an instruction.
    Exec,
}

impl Access {
    /// Returns what an entry of the page table must allow for the access.
    pub const fn flag(self) -> PageFlags {
        match self {
            Self::Read => PageFlags::READ,
            Self::Write => PageFlags::WRITE,
            Self::Exec => PageFlags::EXEC,
        }
    }

    /// Returns the permission that stands for the access.
    pub const fn perms(self) -> VmPerms {
        match self {
            Self::Read => VmPerms::READ,
            Self::Write => VmPerms::WRITE,
            Self::Exec => VmPerms::EXEC,
        }
    }
}

/// Why a fault cannot be served. The comment on each variant names the signal that a Linux-like kernel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there (`SIGSEGV`, `SEGV_MAPERR`).
    NotMapped,
    /// The mapping does not allow the access (`SIGSEGV`, `SEGV_ACCERR`).
    NoPermission,
    /// The access is past the end of the object, or the object could not read its page (`SIGBUS`, `BUS_ADRERR`).
    BusError,
    /// The region that the capability is to is no more; never of a capability to all of a space.
    Destroyed,
    /// Memory has run out.
    OutOfMemory,
    /// Memory that was to be reserved at this touch cannot be (`SIGKILL`, without any fuss).
    ReserveExhausted,
    /// Who [watches](super::watch) the memory was waited for, and the wait ended early (no signal: the program tries again).
    Interrupted,
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped there",
            Self::NoPermission => "the mapping does not allow the access",
            Self::BusError => "the object has no page there",
            Self::Destroyed => "the region has been destroyed",
            Self::OutOfMemory => "memory has run out",
            Self::ReserveExhausted => "no memory is left to reserve",
            Self::Interrupted => "the wait was interrupted",
        })
    }
}

impl core::error::Error for FaultError {}

impl From<crate::error::OutOfMemory> for FaultError {
    fn from(_: crate::error::OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Error> for FaultError {
    /// What an object answers: anything but lack of memory is a bus error.
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory => Self::OutOfMemory,
            Error::ReserveExhausted => Self::ReserveExhausted,
            Error::Interrupted => Self::Interrupted,
            _ => Self::BusError,
        }
    }
}

impl From<FaultError> for Error {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::NotMapped => Self::NotMapped,
            FaultError::NoPermission => Self::AccessDenied,
            FaultError::BusError => Self::BusError,
            FaultError::Destroyed => Self::Destroyed,
            FaultError::OutOfMemory => Self::OutOfMemory,
            FaultError::ReserveExhausted => Self::ReserveExhausted,
            FaultError::Interrupted => Self::Interrupted,
        }
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Serves a fault at `addr` (bytes): when it returns, the access can be tried again.
    ///
    /// A fault that needs no service, because another CPU has served it or a TLB is out of date, succeeds.
    ///
    /// # Errors
    ///
    /// See [`FaultError`].
    #[require(R > Read)]
    pub fn handle_page_fault(&self, addr: usize, access: Access) -> Result<(), FaultError> {
        self.inner.fault(addr, access)
    }
}

/// How far a try at a fault got.
enum Step<M: Machine> {
    Done,
    /// Something changed in between.
    Again,
    /// The page belongs to a stack that must grow first.
    Grow,
    /// The object must get the page first.
    Wait(Arc<Vmo_<M>>, usize, Purpose),
    /// The page belongs to a child region.
    Inside(Region<M>),
    /// Somebody else serves the fault.
    Handed(Arc<dyn FaultHandler>, HandReason),
}

/// Whom a page is made present for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The program itself, which may run into a stack's growth.
    Program,
    /// Somebody who wants the page there before the program does, or looks at the space from outside.
    Other,
    /// A debugger, who may do what the mapping may ever allow: read what is not readable now, and write private copies
    /// of what is not writable now.
    Debugger,
}

impl<M: Machine> Vmar_<M> {
    pub(crate) fn fault(&self, addr: usize, access: Access) -> Result<(), FaultError> {
        self.make_present(addr, access, Cause::Program)
    }

    /// Makes the page that `addr` (bytes) lies in present for an access there.
    pub(super) fn make_present(&self, addr: usize, access: Access, cause: Cause) -> Result<(), FaultError> {
        let page = addr - addr % M::PAGE_SIZE;
        loop {
            match self.try_fault(page, access, cause)? {
                Step::Done => return Ok(()),
                Step::Again => {}
                Step::Grow if cause == Cause::Program => self.grow_down(page)?,
                Step::Grow => return Err(FaultError::NotMapped),
                Step::Wait(object, index, purpose) => drop(object.commit(index, purpose)?),
                Step::Handed(handler, reason) => self.hand_over(&handler, reason, (addr, access, cause))?,
                Step::Inside(region) => match region.make_present(addr, access, cause) {
                    // It ended meanwhile. What was in it may be here now.
                    Err(FaultError::Destroyed) => {}
                    result => return result,
                },
            }
        }
    }

    fn try_fault(&self, page: usize, access: Access, cause: Cause) -> Result<Step<M>, FaultError> {
        let mappings = self.mappings.read();
        let Some((range, mapping)) = mappings.find(page) else {
            return match mappings.next(page) {
                Some((_, above)) if above.flags().contains(MappingFlags::GROWS_DOWN) => Ok(Step::Grow),
                _ if mappings.is_destroyed() => Err(FaultError::Destroyed),
                _ => Err(FaultError::NotMapped),
            };
        };
        if !may_access(mapping, access, cause) {
            if let Some(region) = mapping.region() {
                return Ok(Step::Inside(region.clone()));
            }
            return Err(FaultError::NoPermission);
        }
        let allowed = mapping.perms().page_flags();
        let mut fault = Fault {
            space: self,
            mapping,
            range,
            page,
            access,
            allowed,
            is_among_borrowed: false,
            is_handed_next: false,
        };
        if mapping.is_handed()
            && let Some(step) = fault.of_watched(&mappings)
        {
            return Ok(step);
        }
        if let Some(borrow) = &mappings.borrow
            && let Some(step) = fault.among_borrowed(borrow)?
        {
            return Ok(step);
        }
        match mapping.memory() {
            MappedMemory::Anonymous => fault.anonymous(&mappings),
            MappedMemory::Region(region) => Ok(Step::Inside(region.clone())),
            MappedMemory::Vmo { object, offset } => {
                let index = (offset + (page - fault.range.start)) / M::PAGE_SIZE;
                match fault.object(object.object(), index)? {
                    Step::Done if fault.is_handed_next => Ok(Step::Again),
                    step => Ok(step),
                }
            }
            MappedMemory::Device { io, offset, cache } => {
                let offset = offset + (page - fault.range.start);
                let props = PageProps { flags: allowed, cache: *cache };
                mapping.note_entries(&fault.one(), allowed);
                self.space.transact(fault.one(), 1, |cursor| {
                    if matches!(cursor.query(), Entry::Empty) {
                        cursor.map_device(io, offset, props);
                    } else {
                        cursor.widen(page + M::PAGE_SIZE, allowed);
                    }
                })?;
                Ok(Step::Done)
            }
        }
    }
}

/// Returns whether a mapping allows an access.
pub(super) fn may_access<M: Machine>(mapping: &VmMapping<M>, access: Access, cause: Cause) -> bool {
    if mapping.perms().page_flags().contains(access.flag()) {
        return true;
    }
    // As Linux's FOLL_FORCE: a write goes to a private copy or nowhere.
    cause == Cause::Debugger
        && mapping.perms().from_may().page_flags().contains(access.flag())
        && (access != Access::Write || !mapping.is_shared())
}

/// A fault on a page that is mapped and allows the access.
struct Fault<'a, M: Machine> {
    space: &'a Vmar_<M>,
    mapping: &'a VmMapping<M>,
    range: Range<usize>,
    /// The page's address.
    page: usize,
    access: Access,
    /// What entries of the mapping may allow at most.
    allowed: PageFlags,
    /// Whether pages around it may be borrowed, so that only its own entry can be filled.
    is_among_borrowed: bool,
    /// Whether it is a write to a marked page, which is handed over when the page is there.
    is_handed_next: bool,
}

impl<M: Machine> Fault<'_, M> {
    /// Returns how the fault ends if it is for who watches the mapping; otherwise it allows no more than they do.
    #[cold]
    #[inline(never)]
    fn of_watched(&mut self, mappings: &Mappings<M>) -> Option<Step<M>> {
        if mappings.is_marked(self.page) {
            self.allowed -= PageFlags::WRITE;
            self.is_handed_next = self.access == Access::Write && mappings.hands_writes(self.mapping);
        }
        let (handler, reason) =
            self.space.find_handler(mappings, self.mapping, &self.range, self.page, self.access)?;
        Some(Step::Handed(handler, reason))
    }

    fn one(&self) -> Range<usize> {
        self.page..self.page + M::PAGE_SIZE
    }

    fn anonymous(&self, mappings: &Mappings<M>) -> Result<Step<M>, FaultError> {
        if self.access != Access::Write {
            return self.read_zeros(mappings);
        }
        let blank = self.space.machine.alloc()?;
        if self.may_be_resident() {
            return self.settle_or_retry(Fresh::Zeros, Some(blank));
        }
        // By far the most common case. The page is filled before the transaction, which shuts others out.
        self.fill(blank.zeroed(), self.written() | PageFlags::PRIVATE)
    }

    /// Maps `frame` if there is nothing.
    fn fill(&self, frame: M::Frame, flags: PageFlags) -> Result<Step<M>, FaultError> {
        self.mapping.note_entries(&self.one(), flags);
        let is_filled = self.space.space.transact(self.one(), 1, |cursor| {
            let is_empty = matches!(cursor.query(), Entry::Empty);
            if is_empty {
                cursor.map(frame, PageProps::new(flags));
            }
            is_empty
        })?;
        if !is_filled {
            return Ok(Step::Again);
        }
        self.space.rss.add(self.mapping.kind_of(flags), 1);
        Ok(Step::Done)
    }

    fn object(&self, object: &Arc<Vmo_<M>>, index: usize) -> Result<Step<M>, FaultError> {
        if self.copy_around(object, index)? {
            return Ok(Step::Done);
        }
        if self.mapping.flags().contains(MappingFlags::COPIED_IN) {
            return self.write_copy(object, index);
        }
        if self.access != Access::Write {
            return self.read_object(object, index);
        }
        if self.mapping.is_shared() {
            self.write_object(object, index)
        } else {
            self.write_copy(object, index)
        }
    }

    /// Maps the object's page `index`, to be written.
    fn write_object(&self, object: &Arc<Vmo_<M>>, index: usize) -> Result<Step<M>, FaultError> {
        object.note_write(index);
        match object.look(index, Purpose::Write) {
            Lookup::Resident(frame) => self.put(frame, self.written()),
            missing => match self.page_of(object, index, missing, Purpose::Write)? {
                ControlFlow::Continue(frame) => self.put(frame, self.written()),
                ControlFlow::Break(step) => Ok(step),
            },
        }
    }

    /// Maps the object's page `index` with `flags`, where the mapping has not a page there that will do.
    fn put_page(&self, object: &Arc<Vmo_<M>>, index: usize, flags: PageFlags) -> Result<Step<M>, FaultError> {
        match object.lookup(index) {
            Lookup::Resident(frame) => self.put(frame, flags),
            missing => match self.page_of(object, index, missing, Purpose::Read)? {
                ControlFlow::Continue(frame) => self.put(frame, flags),
                ControlFlow::Break(step) => Ok(step),
            },
        }
    }

    /// Returns the object's page `index`, of which it said `found`, or how the fault ends without it.
    fn page_of(
        &self,
        object: &Arc<Vmo_<M>>,
        index: usize,
        found: Lookup<M::Frame>,
        purpose: Purpose,
    ) -> Result<ControlFlow<Step<M>, M::Frame>, FaultError> {
        Ok(match found {
            Lookup::Resident(frame) => ControlFlow::Continue(frame),
            // The page may be there all the same: a copy, made before the object lost its own.
            _ if purpose == Purpose::Read && self.may_be_resident() && self.settle(Fresh::None, None)? => {
                ControlFlow::Break(Step::Done)
            }
            Lookup::PastEnd => return Err(FaultError::BusError),
            Lookup::Paged => ControlFlow::Break(Step::Wait(object.clone(), index, purpose)),
            Lookup::Absent => match object.commit_absent(index, purpose)? {
                Some(frame) => ControlFlow::Continue(frame),
                None => ControlFlow::Break(Step::Again),
            },
        })
    }

    /// Maps the object's page, where the mapping has not a page there that will do.
    fn put(&self, frame: M::Frame, flags: PageFlags) -> Result<Step<M>, FaultError> {
        if !self.may_be_resident() {
            return self.fill(frame, flags);
        }
        self.settle_or_retry(Fresh::Ready(frame, flags), None)
    }

    /// Maps a copy of the object's page `index`, to be written, where there is none.
    fn write_copy(&self, object: &Arc<Vmo_<M>>, index: usize) -> Result<Step<M>, FaultError> {
        let may_be_there = self.may_be_resident();
        let found = object.lookup(index);
        let is_absent = matches!(found, Lookup::Absent);
        let (fresh, otherwise) = match found {
            Lookup::Resident(frame) => (Fresh::CopyOf(frame), Ok(Step::Again)),
            // The copy may have been made before the object lost its own.
            Lookup::PastEnd => (Fresh::None, Err(FaultError::BusError)),
            Lookup::Absent | Lookup::Paged => match object.copy_source(index)? {
                Some(CopySource::Zeros) => (Fresh::Zeros, Ok(Step::Again)),
                Some(CopySource::Part(frame, keep)) => (Fresh::PartOf(frame, keep), Ok(Step::Again)),
                None if is_absent => {
                    // The object gets the page as well, as when it is read, unless there is a copy.
                    if may_be_there && self.settle(Fresh::None, Some(self.space.machine.alloc()?))? {
                        return Ok(Step::Done);
                    }
                    match object.commit_absent(index, Purpose::Read)? {
                        Some(frame) => (Fresh::CopyOf(frame), Ok(Step::Again)),
                        None => return Ok(Step::Again),
                    }
                }
                None => (Fresh::None, Ok(Step::Wait(object.clone(), index, Purpose::Read))),
            },
        };
        if !may_be_there && matches!(fresh, Fresh::None) {
            return otherwise;
        }
        let blank = self.space.machine.alloc()?;
        match fresh {
            Fresh::CopyOf(frame) if !may_be_there => {
                self.space.write_front.note(self.page + M::PAGE_SIZE);
                self.fill(blank.copy_of(&frame), self.written() | PageFlags::PRIVATE)
            }
            Fresh::Zeros if !may_be_there => self.fill(blank.zeroed(), self.written() | PageFlags::PRIVATE),
            Fresh::PartOf(frame, keep) if !may_be_there => {
                self.fill(part_of::<M>(blank, &frame, keep), self.written() | PageFlags::PRIVATE)
            }
            fresh => {
                if self.settle(fresh, Some(blank))? {
                    Ok(Step::Done)
                } else {
                    otherwise
                }
            }
        }
    }

    fn settle_or_retry(&self, fresh: Fresh<M>, blank: Option<M::Blank>) -> Result<Step<M>, FaultError> {
        Ok(if self.settle(fresh, blank)? { Step::Done } else { Step::Again })
    }

    /// Returns the flags of an entry that is made for a write.
    fn written(&self) -> PageFlags {
        self.allowed | PageFlags::ACCESSED | PageFlags::DIRTY
    }

    /// Returns whether the page table may hold something for the page.
    fn may_be_resident(&self) -> bool {
        self.mapping.resident_span(&self.one()).is_some() && self.space.space.may_be_mapped(self.page)
    }
}

/// Makes a page that has `keep` (bytes) of `source` between zeros.
pub(super) fn part_of<M: Machine>(blank: M::Blank, source: &M::Frame, keep: Range<usize>) -> M::Frame {
    let frame = blank.copy_of(source);
    frame.zero(0..keep.start);
    frame.zero(keep.end..M::PAGE_SIZE);
    frame
}

#[cfg(test)]
mod tests;
