// SPDX-License-Identifier: MPL-2.0

//! Making mappings.
//!
//! ```text
//!   check ─► negotiate ─► direct: where is it? ──► a mapping of the file's own memory
//!               │              │ it declines
//!               │              ▼
//!               ├─► copy: is there an equal one? ─► a mapping of the same region
//!               │              │ no
//!               │              ▼
//!               └─► pages ─► filled ──────────────► a mapping of a region of its own
//! ```
//!
//! Everything that can fail comes before anything that is seen: a mapping that is refused has changed nothing.

use alloc::sync::Arc;
use core::ops::Range;

use aster_rights::Rights;
use vmar::{
    backing::{self, Addressing, Method, Plan, Region as Shared, Terms},
    error::{Error, Limit},
    mapping::Sharing,
    perms::VmPerms,
};

use crate::{
    File, Flat, Memory, Region,
    program::{Key, Mapping, Place, Program},
};

bitflags::bitflags! {
    /// How something is to be mapped, as programs say it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MapFlags: u8 {
        /// Writes are seen by others (`MAP_SHARED`).
        const SHARED = 1 << 0;
        /// Writes are the mapping's own (`MAP_PRIVATE`).
        const PRIVATE = 1 << 1;
        /// Exactly at the address (`MAP_FIXED`): always refused.
        const FIXED = 1 << 2;
        /// Anonymous memory need not be zeros (`MAP_UNINITIALIZED`).
        const UNINITIALIZED = 1 << 3;
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Where it is wanted (bytes). There is no choice: zero is all that is accepted.
    pub addr: usize,
    /// Its size in bytes.
    pub len: usize,
    /// What it is to allow.
    pub perms: VmPerms,
    /// How it is to be mapped.
    pub flags: MapFlags,
    /// What it shows, and from which offset on (bytes, page-aligned); anonymous memory if there is none.
    pub file: Option<(&'a Arc<dyn File>, usize)>,
}

/// How many bytes are read from a file at once.
const CHUNK: usize = 256;

impl<M: Memory> Flat<M> {
    /// Maps what is asked for, and returns its address (bytes).
    ///
    /// Read-only private mappings that show the same file from the same offset on, and are of one size, are given one copy, or
    /// the file's own memory. A mapping that a program writes to is a copy of its own. Anonymous memory is never shared, even
    /// if that is asked for.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidOptions`] if an address is asked for, or not exactly one of [`MapFlags::SHARED`] and
    ///   [`MapFlags::PRIVATE`].
    /// - [`Error::InvalidSize`] if the size is zero, or too large to be rounded up to pages.
    /// - [`Error::InvalidOffset`] if offset and size together overflow.
    /// - [`Error::InvalidAlignment`] if the offset is not page-aligned.
    /// - [`Error::Refused`] and [`Error::AccessDenied`] as for [`negotiate`](backing::negotiate).
    /// - [`Error::LimitExceeded`].
    /// - [`Error::OutOfMemory`] if there are not enough pages that lie together.
    /// - The file's own, if it cannot be read or located.
    pub fn map(&mut self, program: &mut Program, request: &Request<'_>) -> Result<usize, Error> {
        let (sharing, size) = self.check(request)?;
        program.limits.check(Limit::Mappings, program.mappings.len(), 1)?;
        program.limits.check(Limit::AddressSpace, program.size, size)?;
        program.try_reserve()?;
        let terms = terms(program, request, sharing);
        let mut plan = backing::negotiate(&terms)?;
        if plan.method == Method::Direct
            && let Some((file, offset)) = request.file
        {
            match file.locate(offset, request.len)? {
                Some(start) => {
                    let range = start..start.checked_add(request.len).ok_or(Error::OutOfRange)?;
                    let place = Place::Direct { file: file.clone(), offset };
                    program.insert(Mapping { range, perms: plan.perms, sharing, place });
                    return Ok(start);
                }
                None => plan = backing::negotiate_declined(&terms)?,
            }
        }
        let start = self.copied(request, &plan, size)?;
        let place = Place::Copied;
        program.insert(Mapping { range: start..start + size, perms: plan.perms, sharing, place });
        Ok(start)
    }

    /// Checks what has nothing to do with rights, and returns the sharing and the size in whole pages.
    fn check(&self, request: &Request<'_>) -> Result<(Sharing, usize), Error> {
        if request.addr != 0 || request.flags.contains(MapFlags::FIXED) {
            return Err(Error::InvalidOptions);
        }
        let is_shared = request.flags.contains(MapFlags::SHARED);
        if is_shared == request.flags.contains(MapFlags::PRIVATE) {
            return Err(Error::InvalidOptions);
        }
        if request.len == 0 {
            return Err(Error::InvalidSize);
        }
        let size = request.len.checked_next_multiple_of(self.page_size).ok_or(Error::InvalidSize)?;
        let Some((_, offset)) = request.file else { return Ok((Sharing::Private, size)) };
        if offset.checked_add(size).is_none() {
            return Err(Error::InvalidOffset);
        }
        if !offset.is_multiple_of(self.page_size) {
            return Err(Error::InvalidAlignment);
        }
        Ok((if is_shared { Sharing::Shared } else { Sharing::Private }, size))
    }

    /// Returns the start of a region that shows what is asked for: one that is there, or a new one.
    fn copied(&mut self, request: &Request<'_>, plan: &Plan, size: usize) -> Result<usize, Error> {
        let executes = plan.perms.contains(VmPerms::EXEC);
        let key = request.file.filter(|_| plan.region == Shared::Shared).map(|(file, offset)| Key {
            file: file.id(),
            offset,
            size,
        });
        if let Some(range) = self.region_of(key) {
            if let Some((_, region)) = self.regions.find_mut(range.start) {
                region.users += 1;
            }
            if executes {
                self.memory.sync_instructions(range.clone());
            }
            return Ok(range.start);
        }
        self.regions.try_reserve(1)?;
        let page = self.pages.allocate(size / self.page_size).ok_or(Error::OutOfMemory)?;
        let start = self.base + page * self.page_size;
        let range = start..start + size;
        if let Err(error) = self.fill(request, range.clone()) {
            self.free(&range);
            return Err(error);
        }
        if executes {
            self.memory.sync_instructions(range.clone());
        }
        match self.regions.insert(range.clone(), Region { users: 1, key }) {
            Ok(()) => Ok(start),
            Err(_) => {
                self.free(&range);
                Err(Error::OutOfMemory)
            }
        }
    }

    /// Returns where the region with this key is.
    fn region_of(&self, key: Option<Key>) -> Option<Range<usize>> {
        let key = key?;
        self.regions.iter().find(|(_, region)| region.key == Some(key)).map(|(range, _)| range)
    }

    /// Puts into `range`, which is whole pages, what is asked for: what the file holds, and zeros behind its end; else zeros, if
    /// they are wanted.
    fn fill(&mut self, request: &Request<'_>, range: Range<usize>) -> Result<(), Error> {
        let Some((file, offset)) = request.file else {
            if !request.flags.contains(MapFlags::UNINITIALIZED) {
                self.memory.zero(range);
            }
            return Ok(());
        };
        let mut buf = [0; CHUNK];
        let mut at = range.start;
        while at < range.end {
            let part = &mut buf[..CHUNK.min(range.end - at)];
            let count = file.read_at(offset + (at - range.start), part)?.min(part.len());
            if count == 0 {
                break;
            }
            self.memory.write(at, &part[..count]);
            at += count;
        }
        self.memory.zero(at..range.end);
        Ok(())
    }
}

/// Returns what there is to negotiate about.
fn terms(program: &Program, request: &Request<'_>, sharing: Sharing) -> Terms {
    Terms {
        handle: Rights::all(),
        ceiling: program.ceiling,
        object: Rights::all(),
        backing: request.file.map(|(file, _)| file.backing()),
        sharing,
        wanted: request.perms.access() | VmPerms::MAY,
        personality: program.personality,
        tracing: program.tracing,
        addressing: Addressing::Flat,
    }
}
