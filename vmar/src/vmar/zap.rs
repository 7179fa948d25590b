// SPDX-License-Identifier: MPL-2.0

//! Pages that leave an object leave the page table.

use core::ops::Range;

use super::{Vmar_, entries::clip, mappings::Mappings};
use crate::{
    machine::{Cursor, Entry, Machine, PageFlags, SleepLock},
    mapping::{MappedMemory, VmMapping},
    object::{Lease, Mapper, Vmo_, Zap},
    rss::RssDelta,
};

impl<M: Machine> Mapper<M> for Vmar_<M> {
    /// Holds the mappings' lock for writing: faults that are under way come first, later ones find the object changed.
    fn zap(&self, object: &Vmo_<M>, pages: Range<usize>, which: Zap) {
        let mut mappings = self.mappings.write();
        let mut delta = self.rss.delta();
        self.visit_all(&mut mappings, &mut |mappings| {
            self.zap_mappings(mappings, object, &pages, which, &mut delta)
        });
    }

    fn obey(&self, lease: &Lease) {
        self.obey_lease(lease);
    }
}

impl<M: Machine> Vmar_<M> {
    fn zap_mappings(
        &self,
        mappings: &Mappings<M>,
        object: &Vmo_<M>,
        pages: &Range<usize>,
        which: Zap,
        delta: &mut RssDelta<'_, M>,
    ) {
        for (range, mapping) in mappings.iter() {
            let MappedMemory::Vmo { object: mapped, offset } = mapping.memory() else { continue };
            if !core::ptr::eq(&raw const **mapped, object) {
                continue;
            }
            let first = offset / M::PAGE_SIZE;
            let count = range.len() / M::PAGE_SIZE;
            let hit = clip(pages, &(first..first + count));
            if hit.is_empty() {
                continue;
            }
            let part = range.start + (hit.start - first) * M::PAGE_SIZE
                ..range.start + (hit.end - first) * M::PAGE_SIZE;
            self.zap_part(mapping, part.clone(), which, delta);
            if let Some(borrow) = &mappings.borrow {
                borrow.release_part(mapping, &part, |flags| leaves(flags, which), delta);
            }
        }
    }

    fn zap_part(&self, mapping: &VmMapping<M>, part: Range<usize>, which: Zap, delta: &mut RssDelta<'_, M>) {
        let Some(span) = mapping.resident_span(&part) else { return };
        self.transact(span.clone(), |cursor| {
            let mut next = cursor.next_mapped(span.end);
            while let Some(addr) = next {
                let end = addr + M::PAGE_SIZE;
                let flags = match cursor.query() {
                    Entry::Page { props, .. } => Some(props.flags),
                    _ => None,
                };
                if let Some(flags) = flags.filter(|flags| leaves(*flags, which)) {
                    delta.add(mapping.kind_of(flags), -1);
                    cursor.unmap(end);
                }
                next = None;
                if end < span.end {
                    cursor.seek(end);
                    next = cursor.next_mapped(span.end);
                }
            }
        });
    }
}

/// Returns whether an entry with `flags` leaves the page table.
fn leaves(flags: PageFlags, which: Zap) -> bool {
    which == Zap::All || !flags.contains(PageFlags::PRIVATE)
}
