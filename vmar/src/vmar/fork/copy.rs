// SPDX-License-Identifier: MPL-2.0

//! Fork by copying: the child's page table is made from the parent's, entry by entry.
//!
//! Private pages become read-only in both: whoever writes first copies. They go over in chunks, each under two nested
//! transactions, the child's outside (it alone maps and so may run out of memory) and the parent's inside; when that ends, no
//! CPU can write the chunk's pages any more. A fork that fails leaves the parent with some pages write-protected, which the
//! next write repairs.

use core::ops::Range;

use super::{super::entries::CursorOf, Borrow, Mappings, Vmar_, is_inherited};
use crate::{
    error::Error,
    machine::{AddressSpace, Cursor, Entry, Machine, PageFlags, PageProps},
    mapping::{MappedMemory, VmMapping},
    rss::RssKind,
};

/// Pages that one pair of transactions copies at most.
const CHUNK: usize = 512;

impl<M: Machine> Vmar_<M> {
    /// Copies all pages that a fork inherits into `child`.
    pub(super) fn copy_into(&self, child: &Self, parent: &Mappings<M>) -> Result<(), Error> {
        for (range, mapping) in parent.iter().filter(|(_, mapping)| is_inherited(mapping)) {
            let Some(span) = mapping.resident_span(&range) else { continue };
            if let MappedMemory::Device { io, offset, .. } = mapping.memory() {
                self.copy_device_entries(child, io, offset + (span.start - range.start), span)?;
                continue;
            }
            if let Some(borrow) = &parent.borrow {
                borrow.share(child, &span)?;
            }
            self.share_private_pages(child, span, History::of(mapping))?;
        }
        Ok(())
    }

    /// Maps the private pages of `span` in the child as well, and takes write access to them from both.
    fn share_private_pages(&self, child: &Self, span: Range<usize>, history: History) -> Result<(), Error> {
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
                                to.map(frame, as_shared(props));
                                if history == History::Kept && !props.flags.contains(PageFlags::DIRTY) {
                                    // An entry is made as written, but here that is told.
                                    to.seek(addr);
                                    to.narrow(addr + M::PAGE_SIZE, PageFlags::DIRTY);
                                }
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

impl<M: Machine> Borrow<M> {
    /// Maps the private pages that are borrowed in `span` in the child as well, and takes write access to them from the backup.
    fn share(&self, child: &Vmar_<M>, span: &Range<usize>) -> Result<(), Error> {
        let mut delta = child.rss.delta();
        let mut at = span.start;
        while let Some(first) = self.next_in(&(at..span.end)) {
            let window = first..span.end.min(first.saturating_add(CHUNK * M::PAGE_SIZE));
            let shared = child.space.transact(window.clone(), CHUNK, |to| {
                let mut shared = 0;
                self.transact(window.clone(), |lent| {
                    while let Some(addr) = self.next(lent, window.end) {
                        if let Looked::Private(frame, props) = look_at::<M>(lent) {
                            to.seek(addr);
                            to.map(frame, as_shared(props));
                            lent.narrow(addr + M::PAGE_SIZE, PageFlags::WRITE);
                            shared += 1;
                        }
                        if addr + M::PAGE_SIZE >= window.end {
                            break;
                        }
                        lent.seek(addr + M::PAGE_SIZE);
                    }
                });
                shared
            })?;
            delta.add(Some(RssKind::Anonymous), shared);
            at = window.end;
            if at == span.end {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the properties of a page that has become shared.
fn as_shared(props: PageProps) -> PageProps {
    PageProps { flags: (props.flags | PageFlags::ACCESSED | PageFlags::DIRTY) - PageFlags::WRITE, ..props }
}

/// Whether it is known of a mapping's pages which were written since somebody asked. The child's pages then count as written if the
/// parent's do, as in Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    Kept,
    Forgotten,
}

impl History {
    fn of<M: Machine>(mapping: &VmMapping<M>) -> Self {
        if mapping.is_tracked() { Self::Kept } else { Self::Forgotten }
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
