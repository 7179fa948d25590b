// SPDX-License-Identifier: MPL-2.0

//! Reading and writing another space's memory: `process_vm_readv`, `/proc/PID/mem`, `ptrace`.
//!
//! ```text
//!   read    lock ─► transaction: hold up to 16 frames ─► unlock ─► hand them out, one after the other
//!   write   lock ─► transaction: write to the frame of one page ─► unlock
//! ```
//!
//! Reading makes nothing resident in the space; an object has the page from then on, as after a fault. What is read is what was
//! in the page when it was looked up, or later: a frame that is held is nobody else's, even when it is unmapped or copied
//! meanwhile, and whoever reads it may fault and sleep. Writing is done inside the transaction: neither a fault nor a fork can take
//! the page away halfway.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    fault::{Access, Cause, may_access},
};
use crate::{
    error::Error,
    machine::{AddressSpace, Blank, Cursor, Entry, Frame, Machine, PageFlags, PageProps, SleepLock},
    mapping::{MappedMemory, VmMapping},
    object::{Lookup, Purpose},
};

/// How many pages are looked up at once.
const AT_ONCE: usize = 16;

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

    /// Hands the `len` bytes from `addr` (bytes) on that the program could read to `visit`, piece by piece: a page, and which
    /// bytes of it. `visit` answers how many it took, and is done with fewer than there were. Returns how many it took in all:
    /// fewer than asked for also if something stands in the way. No lock is held meanwhile.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes), if there was nothing to hand out.
    #[require(R > Read)]
    pub fn read_with(
        &self,
        addr: usize,
        len: usize,
        visit: impl FnMut(&M::Frame, Range<usize>) -> usize,
    ) -> Result<usize, Error> {
        self.inner.read_with(addr, len, Cause::Other, visit)
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
        let mut at = 0;
        self.read_with(addr, buf.len(), cause, |frame, piece| {
            let count = piece.len();
            frame.read(piece.start, &mut buf[at..at + count]);
            at += count;
            count
        })
    }

    fn read_with(
        &self,
        addr: usize,
        len: usize,
        cause: Cause,
        mut visit: impl FnMut(&M::Frame, Range<usize>) -> usize,
    ) -> Result<usize, Error> {
        let mut done = 0;
        while done < len {
            let Some(at) = addr.checked_add(done) else { break };
            let within = at % M::PAGE_SIZE;
            let wanted = (within + (len - done)).div_ceil(M::PAGE_SIZE).min(AT_ONCE);
            let mut held = [const { None }; AT_ONCE];
            match self.hold(at - within, &mut held[..wanted], cause) {
                Ok(()) => {}
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            for frame in held.iter().map_while(Option::as_ref) {
                let start = (addr + done) % M::PAGE_SIZE;
                let piece = start..M::PAGE_SIZE.min(start + (len - done));
                let wanted = piece.len();
                let taken = visit(frame, piece);
                done += taken;
                if taken < wanted {
                    return Ok(done);
                }
            }
        }
        if done == 0 && len != 0 { Err(Error::NotMapped) } else { Ok(done) }
    }

    pub(super) fn write_bytes(&self, addr: usize, buf: &[u8], cause: Cause) -> Result<usize, Error> {
        each_page::<M>(addr, buf.len(), |page, within, done| {
            let part = &buf[done..done + (M::PAGE_SIZE - within).min(buf.len() - done)];
            while !self.try_write(page, within, part, cause)? {
                self.make_present(page, Access::Write, cause)?;
            }
            Ok(())
        })
    }

    /// Takes hold of the frames that can be read from `page` on: of the first, and of those behind it up to the first that
    /// cannot be had without waiting, or belongs to another mapping.
    fn hold(&self, page: usize, held: &mut [Option<M::Frame>], cause: Cause) -> Result<(), Error> {
        loop {
            let mappings = self.mappings.read();
            let Some((range, mapping)) = mappings.find(page) else {
                let missing = mappings.missing();
                drop(mappings);
                self.grow_for(page, cause).map_err(|()| missing)?;
                continue;
            };
            if let Some(region) = mapping.region().cloned() {
                drop(mappings);
                match region.hold(page, held, cause) {
                    // It ended meanwhile. What was in it may be here now.
                    Err(Error::Destroyed) => continue,
                    result => return result,
                }
            }
            check_access(mapping, Access::Read, cause)?;
            if mapping.is_handed() {
                held[0] = self.frame_at(mapping, page);
                drop(mappings);
                match held[0] {
                    Some(_) => return Ok(()),
                    None => self.make_present(page, Access::Read, cause)?,
                }
                continue;
            }
            let count = held.len().min((range.end - page) / M::PAGE_SIZE);
            if let Some(span) = mapping.resident_span(&(page..page + count * M::PAGE_SIZE)) {
                self.for_each_page(&mappings, &span, |addr, found| {
                    held[(addr - page) / M::PAGE_SIZE] = Some(found.frame.clone());
                });
            }
            let MappedMemory::Vmo { object, offset } = mapping.memory() else {
                held[..count].iter_mut().for_each(|slot| {
                    slot.get_or_insert_with(|| self.machine.zero_frame());
                });
                return Ok(());
            };
            let first = (offset + (page - range.start)) / M::PAGE_SIZE;
            for at in 0..count {
                if held[at].is_some() {
                    continue;
                }
                held[at] = match object.lookup(first + at) {
                    Lookup::Resident(frame) => Some(frame),
                    // As for a fault: the object has the page from then on.
                    Lookup::Absent => match object.commit_absent(first + at, Purpose::Read) {
                        Ok(frame) => frame,
                        Err(error) if at == 0 => return Err(error),
                        Err(_) => None,
                    },
                    Lookup::PastEnd if at == 0 => return Err(Error::BusError),
                    Lookup::PastEnd | Lookup::Paged => None,
                };
                if held[at].is_none() {
                    // Nothing that comes behind it is handed out before it.
                    held[at..].fill(None);
                    break;
                }
            }
            if held[0].is_some() {
                return Ok(());
            }
            let object = object.object().clone();
            drop(mappings);
            object.commit(first, Purpose::Read)?;
        }
    }

    /// Returns the page that is resident at `page` of a mapping that is watched, of which nothing is borrowed.
    fn frame_at(&self, mapping: &VmMapping<M>, page: usize) -> Option<M::Frame> {
        let one = page..page + M::PAGE_SIZE;
        mapping.resident_span(&one)?;
        self.transact(one, |cursor| match cursor.query() {
            Entry::Page { frame, .. } => Some(frame.clone()),
            _ => None,
        })
    }

    /// Writes within one page if it is there and may be written without being copied first, or if it can be made here and now.
    fn try_write(&self, page: usize, within: usize, buf: &[u8], cause: Cause) -> Result<bool, Error> {
        let mappings = self.mappings.read();
        let Some((range, mapping)) = mappings.find(page) else {
            let missing = mappings.missing();
            drop(mappings);
            return self.grow_for(page, cause).map(|()| false).map_err(|()| missing);
        };
        if let Some(region) = mapping.region().cloned() {
            drop(mappings);
            return match region.try_write(page, within, buf, cause) {
                // It ended meanwhile. What was in it may be here now.
                Err(Error::Destroyed) => Ok(false),
                result => result,
            };
        }
        check_access(mapping, Access::Write, cause)?;
        let one = page..page + M::PAGE_SIZE;
        let is_absent = mapping.resident_span(&one).is_none()
            || !self.space.may_be_mapped(page)
                && mappings.borrow.as_ref().is_none_or(|borrow| !borrow.may_have(&one));
        if mapping.is_handed() && (is_absent || mappings.is_marked(page)) {
            return Ok(false);
        }
        if is_absent {
            return self.fill_written(mapping, &range, one, within, buf);
        }
        if let MappedMemory::Vmo { object, offset } = mapping.memory()
            && mapping.is_shared()
        {
            let index = (offset + (page - range.start)) / M::PAGE_SIZE;
            // What is mapped may be a page that is only lent.
            if !object.look(index, Purpose::Write).is_resident() {
                return Ok(false);
            }
            object.note_write(index);
        }
        let is_written = self.transact(one.clone(), |cursor| {
            let is_written = match cursor.query() {
                Entry::Page { frame, props } => {
                    let is_own = props.flags.contains(PageFlags::PRIVATE)
                        && (props.flags.contains(PageFlags::WRITE) || frame.holders() == 1);
                    if is_own || mapping.is_shared() {
                        frame.write(within, buf);
                        frame.prepare_for(props.flags);
                    }
                    is_own || mapping.is_shared()
                }
                _ => false,
            };
            if is_written && mapping.is_tracked() {
                cursor.widen(one.end, PageFlags::DIRTY);
            }
            is_written
        });
        Ok(is_written)
    }

    /// Makes a stack reach down to `page`, where nothing is mapped, if it is a debugger who looks there.
    fn grow_for(&self, page: usize, cause: Cause) -> Result<(), ()> {
        if cause == Cause::Debugger { self.grow_down(page).map_err(drop) } else { Err(()) }
    }

    /// Maps a page of the mapping's own that has been written to before anybody sees it, if there is nothing and what it begins
    /// with is at hand.
    fn fill_written(
        &self,
        mapping: &VmMapping<M>,
        range: &Range<usize>,
        one: Range<usize>,
        within: usize,
        buf: &[u8],
    ) -> Result<bool, Error> {
        let source = match mapping.memory() {
            _ if mapping.is_shared() => return Ok(false),
            MappedMemory::Anonymous => None,
            MappedMemory::Vmo { object, offset } => {
                let index = (offset + (one.start - range.start)) / M::PAGE_SIZE;
                match object.lookup(index) {
                    Lookup::PastEnd | Lookup::Absent => return Ok(false),
                    // What is overwritten is not read first; but it may have to be reserved.
                    Lookup::Paged if buf.len() == M::PAGE_SIZE => {
                        object.copy_source(index)?;
                        None
                    }
                    _ if buf.len() == M::PAGE_SIZE => None,
                    Lookup::Resident(frame) => Some(frame),
                    Lookup::Paged => return Ok(false),
                }
            }
            MappedMemory::Device { .. } | MappedMemory::Region(_) => return Ok(false),
        };
        let blank = self.machine.alloc()?;
        let frame = match source {
            None => blank.zeroed(),
            Some(source) => blank.copy_of(&source),
        };
        frame.write(within, buf);
        let own = PageFlags::ACCESSED | PageFlags::DIRTY | PageFlags::PRIVATE;
        let flags = mapping.perms().page_flags() | own;
        mapping.note_entries(&one, flags);
        let is_filled = self.space.transact(one, 1, |cursor| {
            let is_empty = matches!(cursor.query(), Entry::Empty);
            if is_empty {
                cursor.map(frame, PageProps::new(flags));
            }
            is_empty
        })?;
        if is_filled {
            self.rss.add(mapping.kind_of(flags), 1);
        }
        Ok(is_filled)
    }
}

fn check_access<M: Machine>(mapping: &VmMapping<M>, access: Access, cause: Cause) -> Result<(), Error> {
    if matches!(mapping.memory(), MappedMemory::Device { .. }) {
        return Err(Error::NotSupported);
    }
    // Who looks from outside needs the permission itself, where a program may do what the page table cannot keep from it.
    let is_allowed = match cause {
        Cause::Other => mapping.perms().contains(access.perms()),
        Cause::Program | Cause::Debugger => may_access(mapping, access, cause),
    };
    if is_allowed { Ok(()) } else { Err(Error::AccessDenied) }
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
