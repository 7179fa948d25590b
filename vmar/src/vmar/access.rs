// SPDX-License-Identifier: MPL-2.0

//! Reading and writing another space's memory: `process_vm_readv`, `/proc/PID/mem`, `ptrace`.
//!
//! The bytes are moved inside a transaction over their page, straight from and to its frame: neither a fault nor a fork
//! can take the page away halfway. Reading leaves no trace, it makes nothing resident.

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    fault::{Access, Cause, may_access},
};
use crate::{
    error::Error,
    machine::{Cursor, Entry, Frame, Machine, PageFlags, SleepLock},
    mapping::{MappedMemory, VmMapping},
    object::Lookup,
};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Reads from `addr` (bytes) on into `buf` what the program could read there, and returns how many bytes that was:
    /// fewer than asked for if something stands in the way.
    ///
    /// # Errors
    ///
    /// If not one byte could be read: [`Error::NotMapped`], [`Error::AccessDenied`] where the mapping does not allow it,
    /// [`Error::NotSupported`] for device memory, [`Error::BusError`], [`Error::OutOfMemory`].
    #[require(R > Read)]
    pub fn read_bytes(&self, addr: usize, buf: &mut [u8]) -> Result<usize, Error> {
        self.inner.read_bytes(addr, buf, Cause::Other)
    }

    /// Writes `buf` from `addr` (bytes) on where the program could write, and returns how many bytes that was: fewer
    /// than asked for if something stands in the way.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes), if not one byte could be written.
    #[require(R > Write)]
    pub fn write_bytes(&self, addr: usize, buf: &[u8]) -> Result<usize, Error> {
        self.inner.write_bytes(addr, buf, Cause::Other)
    }

    /// Reads as a debugger does: also what the program may not read now, but may ever be allowed to.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    #[require(R > Read)]
    pub fn read_bytes_forced(&self, addr: usize, buf: &mut [u8]) -> Result<usize, Error> {
        self.inner.read_bytes(addr, buf, Cause::Debugger)
    }

    /// Writes as a debugger does: also to private mappings which the program may not write now, but may ever be allowed
    /// to; they get a copy of the page that still is not writable.
    ///
    /// # Errors
    ///
    /// As [`write_bytes`](Self::write_bytes).
    #[require(R > Read | Write)]
    pub fn write_bytes_forced(&self, addr: usize, buf: &[u8]) -> Result<usize, Error> {
        self.inner.write_bytes(addr, buf, Cause::Debugger)
    }
}

impl<M: Machine> Vmar_<M> {
    fn read_bytes(&self, addr: usize, buf: &mut [u8], cause: Cause) -> Result<usize, Error> {
        let len = buf.len();
        each_page::<M>(addr, len, |page, within, done| {
            let part = &mut buf[done..done + (M::PAGE_SIZE - within).min(len - done)];
            while !self.try_read(page, within, part, cause)? {}
            Ok(())
        })
    }

    fn write_bytes(&self, addr: usize, buf: &[u8], cause: Cause) -> Result<usize, Error> {
        each_page::<M>(addr, buf.len(), |page, within, done| {
            let part = &buf[done..done + (M::PAGE_SIZE - within).min(buf.len() - done)];
            while !self.try_write(page, within, part, cause)? {
                self.make_present(page, Access::Write, cause)?;
            }
            Ok(())
        })
    }

    /// Reads within one page; answers `false` if the page has just been read by its object and is to be looked at again.
    fn try_read(&self, page: usize, within: usize, buf: &mut [u8], cause: Cause) -> Result<bool, Error> {
        let mappings = self.mappings.read();
        let Some((range, mapping)) = mappings.find(page) else { return Err(Error::NotMapped) };
        check_access(mapping, Access::Read, cause)?;
        let one = page..page + M::PAGE_SIZE;
        let is_read = mapping.resident_span(&one).is_some()
            && self.transact(one, |cursor| match cursor.query() {
                Entry::Page { frame, .. } => {
                    frame.read(within, buf);
                    true
                }
                _ => false,
            });
        if is_read {
            return Ok(true);
        }
        let MappedMemory::Vmo { object, offset } = mapping.memory() else {
            buf.fill(0);
            return Ok(true);
        };
        let index = (offset + (page - range.start)) / M::PAGE_SIZE;
        match object.lookup(index) {
            Lookup::Resident(frame) => frame.read(within, buf),
            Lookup::Absent => buf.fill(0),
            Lookup::PastEnd => return Err(Error::BusError),
            Lookup::Paged => {
                let object = object.object().clone();
                drop(mappings);
                object.commit(index)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes within one page if it is there and may be written without being copied first.
    fn try_write(&self, page: usize, within: usize, buf: &[u8], cause: Cause) -> Result<bool, Error> {
        let mappings = self.mappings.read();
        let Some((range, mapping)) = mappings.find(page) else { return Err(Error::NotMapped) };
        check_access(mapping, Access::Write, cause)?;
        let one = page..page + M::PAGE_SIZE;
        if mapping.resident_span(&one).is_none() {
            return Ok(false);
        }
        if let MappedMemory::Vmo { object, offset } = mapping.memory()
            && mapping.is_shared()
        {
            object.note_write((offset + (page - range.start)) / M::PAGE_SIZE);
        }
        let is_written = self.transact(one, |cursor| match cursor.query() {
            Entry::Page { frame, props } => {
                let is_own = props.flags.contains(PageFlags::PRIVATE)
                    && (props.flags.contains(PageFlags::WRITE) || frame.holders() == 1);
                if is_own || mapping.is_shared() {
                    frame.write(within, buf);
                }
                is_own || mapping.is_shared()
            }
            _ => false,
        });
        Ok(is_written)
    }
}

fn check_access<M: Machine>(mapping: &VmMapping<M>, access: Access, cause: Cause) -> Result<(), Error> {
    if matches!(mapping.memory(), MappedMemory::Device { .. }) {
        return Err(Error::NotSupported);
    }
    if !may_access(mapping, access, cause) {
        return Err(Error::AccessDenied);
    }
    Ok(())
}

/// Calls `body` for each page of `len` bytes from `addr` on with the page's address, where in it to start, and how many
/// bytes came before. Returns how many bytes were done before an error, or the error if none were.
fn each_page<M: Machine>(
    addr: usize,
    len: usize,
    mut body: impl FnMut(usize, usize, usize) -> Result<(), Error>,
) -> Result<usize, Error> {
    let mut done = 0;
    while done < len {
        let result = match addr.checked_add(done) {
            Some(at) => body(at - at % M::PAGE_SIZE, at % M::PAGE_SIZE, done),
            None => Err(Error::NotMapped),
        };
        match result {
            Ok(()) => done += (M::PAGE_SIZE - (addr + done) % M::PAGE_SIZE).min(len - done),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
