// SPDX-License-Identifier: MPL-2.0

//! Page faults: what an access found missing is made, and no more.
//!
//! ```text
//!   lock for reading ─► mapping? ─► permission? ─► entry there? ──── can serve ────────────────────► done
//!     ▲   │ none, but a stack above                   │ no, or to be copied
//!     │   ▼                                           ▼
//!     │  grow (lock for writing)        frame: zeros, a copy, or the object's
//!     │                                   │ the object must read it    │
//!     └──── wait, without the lock ◄──────┘                            ▼
//!     ▲                                                   transaction: as it was? map it ───────► done
//!     └───────────────────────────────── no ─────────────────────────────┘
//! ```
//!
//! Faults of several CPUs on one page race between their look and their transaction. The transaction looks again; the
//! loser starts over, and finds the page there.

use alloc::sync::Arc;
use core::{fmt, ops::Range};

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_};
use crate::{
    error::Error,
    machine::{AddressSpace, Cursor, Entry, Frame, Machine, PageFlags, PageProps, SleepLock},
    mapping::{MappedMemory, MappingFlags, VmMapping},
    object::{Lookup, Vmo_},
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
    /// Memory has run out.
    OutOfMemory,
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped there",
            Self::NoPermission => "the mapping does not allow the access",
            Self::BusError => "the object has no page there",
            Self::OutOfMemory => "memory has run out",
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
            FaultError::OutOfMemory => Self::OutOfMemory,
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
    /// The object must read the page first.
    Wait(Arc<Vmo_<M>>, usize),
}

/// What the page table has for the page, once what can be served without a frame has been.
enum Found<F> {
    Served,
    Nothing,
    /// A page that must be replaced by a copy before it is written.
    Copy(F),
}

/// How many pages, the faulting one included, a fault maps around.
const AROUND: usize = 16;

/// Whom a page is made present for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
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
        self.make_present(addr - addr % M::PAGE_SIZE, access, Cause::Program)
    }

    /// Makes `page` (an address, page-aligned) present for an access.
    pub(super) fn make_present(&self, page: usize, access: Access, cause: Cause) -> Result<(), FaultError> {
        loop {
            match self.try_fault(page, access, cause)? {
                Step::Done => return Ok(()),
                Step::Again => {}
                Step::Grow if cause == Cause::Program => self.grow_down(page)?,
                Step::Grow => return Err(FaultError::NotMapped),
                Step::Wait(object, index) => drop(object.commit(index)?),
            }
        }
    }

    fn try_fault(&self, page: usize, access: Access, cause: Cause) -> Result<Step<M>, FaultError> {
        let mappings = self.mappings.read();
        let Some((range, mapping)) = mappings.find(page) else {
            return match mappings.next(page) {
                Some((_, above)) if above.flags().contains(MappingFlags::GROWS_DOWN) => Ok(Step::Grow),
                _ => Err(FaultError::NotMapped),
            };
        };
        if !may_access(mapping, access, cause) {
            return Err(FaultError::NoPermission);
        }
        let allowed = mapping.perms().page_flags();
        let fault = Fault { space: self, mapping, range, page, access, allowed };
        match mapping.memory() {
            MappedMemory::Anonymous => fault.anonymous(),
            MappedMemory::Vmo { object, offset } => {
                let index = (offset + (page - fault.range.start)) / M::PAGE_SIZE;
                fault.object(object.object(), index)
            }
            MappedMemory::Device { io, offset, cache } => {
                if matches!(fault.present(|_| false)?, Found::Nothing) {
                    let offset = offset + (page - fault.range.start);
                    let props = PageProps { flags: allowed, cache: *cache };
                    mapping.note_entries(&fault.one(), allowed);
                    self.space.transact(fault.one(), 1, |cursor| {
                        if matches!(cursor.query(), Entry::Empty) {
                            cursor.map_device(io, offset, props);
                        }
                    })?;
                }
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
}

impl<M: Machine> Fault<'_, M> {
    fn one(&self) -> Range<usize> {
        self.page..self.page + M::PAGE_SIZE
    }

    fn anonymous(&self) -> Result<Step<M>, FaultError> {
        let machine = &self.space.machine;
        // A page that is the mapping's own may be written when nobody else holds it; zeros may not.
        let old = match self.present(|props| props.contains(PageFlags::PRIVATE))? {
            Found::Served => return Ok(Step::Done),
            Found::Nothing => None,
            Found::Copy(frame) => Some(frame),
        };
        if self.access != Access::Write {
            let flags = (self.allowed - PageFlags::WRITE) | PageFlags::ACCESSED;
            return self.put(old.as_ref(), machine.zero_frame(), flags);
        }
        let new = match &old {
            Some(old) if old.id() != machine.zero_frame().id() => machine.alloc_copy(old)?,
            _ => machine.alloc_zeroed()?,
        };
        self.put(old.as_ref(), new, self.written() | PageFlags::PRIVATE)
    }

    fn object(&self, object: &Arc<Vmo_<M>>, index: usize) -> Result<Step<M>, FaultError> {
        let is_shared = self.mapping.is_shared();
        let is_write = self.access == Access::Write;
        if is_shared && is_write {
            object.note_write(index);
        }
        let old = match self.present(|props| is_shared || props.contains(PageFlags::PRIVATE))? {
            Found::Served => return Ok(Step::Done),
            Found::Nothing => None,
            Found::Copy(frame) => Some(frame),
        };
        if let Some(old) = &old {
            let copy = self.space.machine.alloc_copy(old)?;
            return self.put(Some(old), copy, self.written() | PageFlags::PRIVATE);
        }
        let frame = match object.lookup(index) {
            Lookup::Resident(frame) => frame,
            Lookup::PastEnd => return Err(FaultError::BusError),
            Lookup::Paged => return Ok(Step::Wait(object.clone(), index)),
            Lookup::Absent if !is_shared && is_write => {
                let zeros = self.space.machine.alloc_zeroed()?;
                return self.put(None, zeros, self.written() | PageFlags::PRIVATE);
            }
            Lookup::Absent => object.commit(index)?,
        };
        match (is_shared, is_write) {
            (false, true) => {
                let copy = self.space.machine.alloc_copy(&frame)?;
                self.put(None, copy, self.written() | PageFlags::PRIVATE)
            }
            (true, true) => self.put(None, frame, self.written()),
            // Where the object wants to know of writes, the first write must fault as well.
            (true, false) if !object.notes_writes() => self.put_around(object, index, frame, self.allowed),
            (_, false) => self.put_around(object, index, frame, self.allowed - PageFlags::WRITE),
        }
    }

    /// Returns the flags of an entry that is made for a write.
    fn written(&self) -> PageFlags {
        self.allowed | PageFlags::ACCESSED | PageFlags::DIRTY
    }

    /// Serves the fault from the entry that is there, if it can be. `may_write` says of an entry's flags whether it may
    /// be made writable when nobody else holds the page (a shared mapping's: in any case).
    fn present(&self, may_write: impl FnOnce(PageFlags) -> bool) -> Result<Found<M::Frame>, FaultError> {
        if self.mapping.resident_span(&self.one()).is_none() {
            return Ok(Found::Nothing);
        }
        let is_shared = self.mapping.is_shared();
        let found = self.space.space.transact(self.one(), 0, |cursor| {
            let added = match cursor.query() {
                Entry::Empty => return Found::Nothing,
                Entry::Device { .. } => self.allowed,
                Entry::Page { frame, props } => {
                    let is_writable = props.flags.contains(PageFlags::WRITE);
                    if self.access != Access::Write || is_writable {
                        self.allowed - PageFlags::WRITE
                    } else if may_write(props.flags) && (is_shared || frame.holders() == 1) {
                        self.allowed
                    } else {
                        return Found::Copy(frame.clone());
                    }
                }
            };
            cursor.protect(self.page + M::PAGE_SIZE, |flags| *flags |= added | PageFlags::ACCESSED);
            Found::Served
        })?;
        Ok(found)
    }

    /// Maps `new` in place of `old`, if that is still what the entry has.
    fn put(&self, old: Option<&M::Frame>, new: M::Frame, flags: PageFlags) -> Result<Step<M>, FaultError> {
        self.mapping.note_entries(&self.one(), flags);
        let mut new = Some(new);
        let mut delta = self.space.rss.delta();
        let is_done = self.space.space.transact(self.one(), 1, |cursor| {
            let replaced = match (cursor.query(), old) {
                (Entry::Empty, None) => None,
                (Entry::Page { frame, props }, Some(old))
                    if frame.id() == old.id() && !props.flags.contains(PageFlags::WRITE) =>
                {
                    Some(props.flags)
                }
                _ => return false,
            };
            let Some(new) = new.take() else { return false };
            if let Some(flags) = replaced {
                cursor.unmap(self.page + M::PAGE_SIZE);
                cursor.seek(self.page);
                delta.add(self.mapping.kind_of(flags), -1);
            }
            cursor.map(new, PageProps::new(flags));
            delta.add(self.mapping.kind_of(flags), 1);
            true
        })?;
        Ok(if is_done { Step::Done } else { Step::Again })
    }

    /// Maps the object's page `index`, which is `frame`, and those of its neighbours that are in memory and not mapped.
    fn put_around(
        &self,
        object: &Vmo_<M>,
        index: usize,
        frame: M::Frame,
        flags: PageFlags,
    ) -> Result<Step<M>, FaultError> {
        let traits = self.mapping.flags();
        if !traits.contains(MappingFlags::FAULT_AROUND) || traits.contains(MappingFlags::RANDOM) {
            return self.put(None, frame, flags | PageFlags::ACCESSED);
        }
        let size = AROUND * M::PAGE_SIZE;
        let start = (self.page - self.page % size).max(self.range.start);
        let end = (self.page - self.page % size).saturating_add(size).min(self.range.end);
        let before = (self.page - start) / M::PAGE_SIZE;
        let count = (end - start) / M::PAGE_SIZE;

        let first_index = index - before;
        let mut frames = [const { None }; AROUND];
        object.for_each_resident(first_index..first_index + count, |index, frame: &M::Frame| {
            frames[index - first_index] = Some(frame.clone());
            true
        });
        frames[before] = Some(frame);
        let first = frames.iter().position(Option::is_some).unwrap_or(before);
        let last = frames.iter().rposition(Option::is_some).unwrap_or(before);
        let span = start + first * M::PAGE_SIZE..start + (last + 1) * M::PAGE_SIZE;
        let growth = frames.iter().flatten().count();

        self.mapping.note_entries(&span, flags);
        let mut delta = self.space.rss.delta();
        self.space.space.transact(span, growth, |cursor| {
            for (slot, frame) in frames.iter_mut().enumerate() {
                if frame.is_none() {
                    continue;
                }
                let addr = start + slot * M::PAGE_SIZE;
                if cursor.position() != addr {
                    cursor.seek(addr);
                }
                if matches!(cursor.query(), Entry::Empty)
                    && let Some(frame) = frame.take()
                {
                    let young = if addr == self.page { PageFlags::ACCESSED } else { PageFlags::empty() };
                    cursor.map(frame, PageProps::new(flags | young));
                    delta.add(self.mapping.kind_of(flags), 1);
                }
            }
        })?;
        // If the entry was taken by another fault, what it has is enough to read.
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests;
