// SPDX-License-Identifier: MPL-2.0

//! Segments of System V shared memory (Q17).
//!
//! A segment is the host's, with the host's number: whoever else has it attached, guest or not, sees what is written. It starts
//! at a multiple of `SHMLBA`, which is at least the larger page size.

use std::ops::Range;

use vmar::{error, mapping::Sharing, perms::VmPerms, placement::Placement};

use crate::{
    error::Error,
    host::Host,
    mapping::{HostMemory, Mapping, OnFork, Prot, Source},
    space::{Call, GuestSpace},
};

/// Where a segment is to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachAt {
    /// Anywhere.
    Anywhere,
    /// There, if it is free.
    Exactly(usize),
    /// There, in place of what is there (`SHM_REMAP`).
    Replacing(usize),
}

/// What becomes of an address that is no multiple of `SHMLBA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// It is refused.
    #[default]
    Refuse,
    /// It is rounded down (`SHM_RND`).
    Down,
}

impl<H: Host> GuestSpace<H> {
    /// Attaches a segment, and returns its address. It can be read, and all of `perms` be done with it.
    ///
    /// # Errors
    ///
    /// [`Error::Space`]: a bad address, one in use, no room. [`Error::SharedHostPage`] if its last host page has another
    /// mapping in it. [`Error::Host`]: no such segment, or not for us.
    pub fn attach(
        &self,
        id: i32,
        at: AttachAt,
        rounding: Rounding,
        perms: impl Into<Prot>,
    ) -> Result<usize, Error> {
        self.enter()?.attach_at(id, at, rounding, perms.into())
    }

    /// Detaches the segment that was attached at `addr`: what is left of it, where parts have been unmapped or replaced. Should the
    /// host refuse one of several parts, those before it are detached.
    ///
    /// # Errors
    ///
    /// [`Error::NotAttached`] if the address is not where one starts. [`Error::Host`].
    pub fn detach(&self, addr: usize) -> Result<(), Error> {
        let mut call = self.enter()?;
        let parts: Vec<Range<usize>> = call.attachment_at(addr);
        if parts.is_empty() {
            return Err(Error::NotAttached);
        }
        for part in parts {
            call.remove(part)?;
        }
        Ok(())
    }
}

impl<H: Host> Call<'_, H> {
    fn attach_at(&mut self, id: i32, at: AttachAt, rounding: Rounding, prot: Prot) -> Result<usize, Error> {
        let align = self.space().segment_align();
        let rounded = |addr: usize| match rounding {
            _ if addr.is_multiple_of(align) => Ok(addr),
            Rounding::Down => Ok(addr & !(align - 1)),
            Rounding::Refuse => Err(error::Error::InvalidAlignment),
        };
        let placement = match at {
            AttachAt::Anywhere => Placement::Anywhere,
            AttachAt::Exactly(addr) => Placement::Exactly(rounded(addr)?),
            AttachAt::Replacing(addr) => match rounded(addr)? {
                0 => return Err(error::Error::InvalidOptions.into()),
                addr => Placement::Replacing(addr),
            },
        };
        self.check_arch(prot)?;
        let size = self.host().segment_size(id)?;
        let size = self.layout().guest_size(size).ok_or(error::Error::InvalidSize)?;
        let perms = prot.perms.access() | VmPerms::READ;
        let mut may = VmPerms::MAY;
        if !perms.contains(VmPerms::WRITE) {
            may.remove(VmPerms::MAY_WRITE);
        }
        let range = self.place(size, align, placement, Sharing::Shared)?;
        self.state.attachments += 1;
        let mapping = Mapping {
            perms: perms | may,
            arch: prot.arch,
            source: Source::Segment { id, offset: 0, attachment: self.state.attachments },
            sharing: Sharing::Shared,
            memory: HostMemory::Shared,
            on_fork: OnFork::Keep,
        };
        self.check_limits(&range, &mapping, Some(&range))?;
        let start = range.start;
        self.set(range, mapping)?;
        Ok(start)
    }

    /// Returns what is left of the segment that was attached at `addr`.
    fn attachment_at(&self, addr: usize) -> Vec<Range<usize>> {
        let starts_here = |range: &Range<usize>, mapping: &Mapping| match mapping.source {
            Source::Segment { offset, attachment, .. } if range.start - offset as usize == addr => {
                Some(attachment)
            }
            _ => None,
        };
        let mut found = Vec::new();
        let mut which = None;
        for (range, mapping) in self.state.table.map().range(addr..self.layout().range.end) {
            let Some(attachment) = starts_here(&range, mapping) else { continue };
            if *which.get_or_insert(attachment) == attachment {
                found.push(range);
            }
        }
        found
    }
}
