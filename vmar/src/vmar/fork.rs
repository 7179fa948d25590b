// SPDX-License-Identifier: MPL-2.0

//! Fork: a second space that holds what the first does.
//!
//! | memory | the child gets |
//! | --- | --- |
//! | private pages (anonymous, copies of object pages) | the same frames, read-only in both spaces: whoever writes first copies |
//! | pages of an object, zeros | nothing: it faults them in itself |
//! | device memory | its entries |
//! | `WIPE_ON_FORK` | the mapping, empty |
//! | `DONT_FORK` | not even the mapping |
//!
//! Memory locks are not inherited.
//!
//! The parent's mappings are locked for writing throughout, so that no fault in it can come between: what the child sees
//! is the parent's memory at one point of time. Pages go over in chunks, each under two nested transactions, the
//! child's outside (it alone maps and so may run out of memory) and the parent's inside; when that ends, no CPU can
//! write the chunk's pages any more. A fork that fails leaves the parent with some pages write-protected, which the
//! next write repairs.

use alloc::sync::{Arc, Weak};
use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, entries::CursorOf};
use crate::{
    error::Error,
    machine::{AddressSpace, Cursor, Entry, Machine, PageFlags, PageProps, SleepLock},
    mapping::{MappedMemory, MappingFlags, Sharing, VmMapping},
    object::Mapper,
    rss::RssKind,
};

/// Pages that one pair of transactions copies at most.
const CHUNK: usize = 512;

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes a second space that holds what this one does; the limits are copied too.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; nothing has changed then.
    #[require(R > Dup | Read)]
    pub fn fork(&self) -> Result<Self, Error> {
        let child = Vmar_::new(self.inner.machine.clone(), self.inner.limits.clone(), self.inner.ceiling)?;
        self.inner.copy_into(&child)?;
        Ok(Self { inner: child, rights: self.rights })
    }
}

impl<M: Machine> Vmar_<M> {
    /// Copies all that a fork inherits into `child`, which is empty and known to nobody else.
    fn copy_into(&self, child: &Arc<Self>) -> Result<(), Error> {
        let mapper: Weak<dyn Mapper<M>> = Arc::<Self>::downgrade(child);
        // Declared first: should the copy fail, these are dropped after the locks are let go.
        let mut copies;
        let parent = self.mappings.write();
        copies = parent.fork_empty();
        copies.try_reserve(parent.len())?;
        for (range, mapping) in parent.iter() {
            if mapping.flags().contains(MappingFlags::DONT_FORK) {
                continue;
            }
            let mut copy = mapping.fork(mapper.clone())?;
            copy.set_flags(copy.flags() - MappingFlags::ANY_LOCK);
            self.copy_entries(child, &range, mapping, &copy)?;
            copies.insert(range, copy);
        }
        *child.mappings.write() = copies;
        Ok(())
    }

    fn copy_entries(
        &self,
        child: &Self,
        range: &Range<usize>,
        mapping: &VmMapping<M>,
        copy: &VmMapping<M>,
    ) -> Result<(), Error> {
        let is_wiped = mapping.flags().contains(MappingFlags::WIPE_ON_FORK);
        let Some(span) = mapping.resident_span(range) else { return Ok(()) };
        match mapping.memory() {
            MappedMemory::Device { io, offset, .. } => {
                copy.note_entries(&span, PageFlags::empty());
                let first = offset + (span.start - range.start);
                self.copy_device_entries(child, io, first, span)
            }
            _ if mapping.sharing() == Sharing::Shared || is_wiped => Ok(()),
            MappedMemory::Vmo { .. } if !mapping.is_mixed() => Ok(()),
            _ => {
                copy.note_entries(&span, PageFlags::PRIVATE);
                self.share_private_pages(child, span)
            }
        }
    }

    /// Maps the private pages of `span` in the child as well, and takes write access to them from both.
    fn share_private_pages(&self, child: &Self, span: Range<usize>) -> Result<(), Error> {
        let chunk_size = CHUNK * M::PAGE_SIZE;
        let mut delta = child.rss.delta();
        let mut at = span.start;
        // Where it is not known that there is nothing, larger and larger steps are taken.
        let mut step = chunk_size;
        while let Some(start) = self.space.peek(&(at..span.end)) {
            let window = start..span.end.min((start - start % chunk_size).saturating_add(step));
            let copied = child.space.transact(window.clone(), CHUNK, |to| {
                self.transact(window.clone(), |from| {
                    let first = from.next_mapped(window.end)?;
                    let end = window.end.min((first - first % chunk_size).saturating_add(chunk_size));
                    let mut shared = 0;
                    let mut was_writable = false;
                    let mut addr = first;
                    loop {
                        match look_at::<M>(from) {
                            Looked::Private(frame, props) => {
                                was_writable |= props.flags.contains(PageFlags::WRITE);
                                if to.position() != addr {
                                    to.seek(addr);
                                }
                                to.map(frame, PageProps { flags: props.flags - PageFlags::WRITE, ..props });
                                shared += 1;
                            }
                            Looked::Other => {}
                            Looked::Nothing => {
                                let Some(next) = from.next_mapped(end) else { break };
                                addr = next;
                                continue;
                            }
                        }
                        addr += M::PAGE_SIZE;
                        if addr >= end {
                            break;
                        }
                        from.seek(addr);
                    }
                    // Pages that have not been written since the last fork need nothing.
                    if was_writable {
                        from.seek(first);
                        from.narrow(end, PageFlags::WRITE);
                    }
                    Some((shared, end))
                })
            })?;
            match copied {
                Some((shared, end)) => {
                    delta.add(Some(RssKind::Anonymous), shared);
                    at = end;
                    step = chunk_size;
                }
                None => {
                    at = window.end;
                    step = step.saturating_mul(2);
                }
            }
        }
        Ok(())
    }

    /// Maps in the child what this space has of `io` in `span`, whose first page shows `offset`.
    fn copy_device_entries(
        &self,
        child: &Self,
        io: &M::IoMem,
        offset: usize,
        span: Range<usize>,
    ) -> Result<(), Error> {
        child.space.transact(span.clone(), span.len() / M::PAGE_SIZE, |to| {
            self.transact(span.clone(), |from| {
                let mut next = from.next_mapped(span.end);
                while let Some(addr) = next {
                    if let Entry::Device { props } = from.query() {
                        to.seek(addr);
                        to.map_device(io, offset + (addr - span.start), props);
                    }
                    next = None;
                    if addr + M::PAGE_SIZE < span.end {
                        from.seek(addr + M::PAGE_SIZE);
                        next = from.next_mapped(span.end);
                    }
                }
            });
        })?;
        Ok(())
    }
}

/// What a fork finds in an entry.
enum Looked<F> {
    Nothing,
    Private(F, PageProps),
    Other,
}

fn look_at<M: Machine>(cursor: &mut CursorOf<'_, M>) -> Looked<M::Frame> {
    match cursor.query() {
        Entry::Page { frame, props } if props.flags.contains(PageFlags::PRIVATE) => {
            Looked::Private(frame.clone(), props)
        }
        Entry::Page { .. } | Entry::Device { .. } => Looked::Other,
        Entry::Empty => Looked::Nothing,
    }
}

#[cfg(test)]
mod tests;
