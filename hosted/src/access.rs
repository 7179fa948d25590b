// SPDX-License-Identifier: MPL-2.0

//! Reading and writing the guest's memory, as an emulator does for the guest's system calls, and asking what is mapped.
//!
//! The guest's own permissions are what counts, not those of the host's pages. Nothing that the guest does to its memory or its
//! files ends the emulator: what cannot be reached is an error.

use std::ops::Range;

use vmar::{error, mapping::Sharing, perms::VmPerms};

use crate::{
    error::Error,
    host::{Errno, Host},
    mapping::{Mapping, OnFork, Prot, Source},
    observer::Change,
    space::{Call, GuestSpace},
};

/// A mapping, as the guest knows it.
#[derive(Clone, Debug)]
pub struct MappingInfo {
    /// Where it is.
    pub range: Range<usize>,
    /// What the guest asked to be allowed.
    pub prot: Prot,
    /// What it may ever be allowed.
    pub may: VmPerms,
    /// What it shows.
    pub source: Source,
    /// Whether others see writes.
    pub sharing: Sharing,
    /// What a child has of it.
    pub on_fork: OnFork,
}

impl<H: Host> GuestSpace<H> {
    /// Reads bytes from `addr` on, and returns how many could be read before something stood in the way.
    ///
    /// # Errors
    ///
    /// [`Error::Space`] if there is nothing to be read at the address itself.
    pub fn read(&self, addr: usize, buf: &mut [u8]) -> Result<usize, Error> {
        let call = self.enter()?;
        let len = call.allowed(addr, buf.len(), VmPerms::READ)?;
        call.host().read(call.area(), call.layout().offset(addr), &mut buf[..len]).or_else(no_bytes)
    }

    /// Writes bytes from `addr` on, and returns how many could be written before something stood in the way.
    ///
    /// # Errors
    ///
    /// [`Error::Space`] if nothing can be written at the address itself.
    pub fn write(&self, addr: usize, bytes: &[u8]) -> Result<usize, Error> {
        let mut call = self.enter()?;
        let len = call.allowed(addr, bytes.len(), VmPerms::WRITE)?;
        let written =
            call.host().write(call.area(), call.layout().offset(addr), &bytes[..len]).or_else(no_bytes)?;
        let range = addr..addr + written;
        if call
            .state
            .table
            .map()
            .range(range.clone())
            .any(|(_, mapping)| mapping.perms.contains(VmPerms::EXEC))
        {
            call.tell(Change::Written(range));
        }
        Ok(written)
    }

    /// Returns how many bytes from `addr` on, at most `len`, the guest has all of `perms` to.
    ///
    /// # Errors
    ///
    /// [`Error::Space`] if it has not to the first.
    pub fn allowed(&self, addr: usize, len: usize, perms: VmPerms) -> Result<usize, Error> {
        self.enter()?.allowed(addr, len, perms)
    }

    /// Returns the mappings in `range`, whole.
    pub fn query(&self, range: Range<usize>) -> Vec<MappingInfo> {
        let call = self.lock();
        let mut found: Vec<(Range<usize>, &Mapping)> = Vec::new();
        for (range, mapping) in call.state.table.map().range(range) {
            match found.last_mut() {
                Some((last, before))
                    if last.end == range.start && before.continues_with(last.len(), mapping) =>
                {
                    last.end = range.end;
                }
                _ => found.push((range, mapping)),
            }
        }
        let info = |(range, mapping): (Range<usize>, &Mapping)| MappingInfo {
            range,
            prot: Prot { perms: mapping.perms.access(), arch: mapping.arch },
            may: mapping.perms & VmPerms::MAY,
            source: mapping.source.clone(),
            sharing: mapping.sharing,
            on_fork: mapping.on_fork,
        };
        found.into_iter().map(info).collect()
    }
}

/// Takes memory that is not there after all, behind the end of a file, for what it is.
fn no_bytes(errno: Errno) -> Result<usize, Error> {
    match errno {
        Errno::FAULT => Err(error::Error::BusError.into()),
        errno => Err(errno.into()),
    }
}

impl<H: Host> Call<'_, H> {
    fn allowed(&self, addr: usize, len: usize, perms: VmPerms) -> Result<usize, Error> {
        let mut end = addr;
        let until = addr.saturating_add(len);
        for (found, mapping) in self.state.table.map().range(addr..until) {
            if found.start > end || !mapping.perms.contains(perms) {
                break;
            }
            end = found.end.min(until);
        }
        if end == addr && len > 0 { Err(error::Error::NotMapped.into()) } else { Ok(end - addr) }
    }
}
