// SPDX-License-Identifier: MPL-2.0

//! What operations do to the page table: empty the entries of a range, and take access away from them.
//!
//! One operation makes at most one transaction, over no more than the part of its range in which anything was ever
//! resident, and none at all where nothing was. The caller holds the mappings' lock for writing.

use core::ops::{Deref, Range};

use super::{Vmar_, mappings::Mappings};
use crate::{
    machine::{AddressSpace, Cursor, Entry, Frame, Machine, PageFlags},
    mapping::VmMapping,
    perms::VmPerms,
    rss::RssDelta,
};

/// The cursor of a machine.
pub(crate) type CursorOf<'a, M> = <<M as Machine>::Space as AddressSpace>::Cursor<'a>;

/// Returns whether an entry holds a page that is its mapping's own and nobody else's, but cannot be written: whoever may write to the
/// mapping may be given that.
pub(super) fn lacks_write<F: Deref<Target: Frame>>(entry: &Entry<F>) -> bool {
    matches!(entry, Entry::Page { frame, props }
        if props.flags & (PageFlags::PRIVATE | PageFlags::WRITE) == PageFlags::PRIVATE && frame.holders() == 1)
}

/// Makes the page of an entry ready to be given `gained`.
pub(super) fn prepare<F: Deref<Target: Frame>>(entry: &Entry<F>, gained: PageFlags) {
    if let Entry::Page { frame, props } = entry {
        frame.prepare_for(gained - props.flags);
    }
}

impl<M: Machine> Vmar_<M> {
    /// Runs `body` with a cursor over `range`, of which it maps nothing.
    pub(crate) fn transact<T>(&self, range: Range<usize>, body: impl FnOnce(&mut CursorOf<'_, M>) -> T) -> T {
        match self.space.transact(range, 0, body) {
            Ok(value) => value,
            Err(_) => unreachable!("a transaction that maps nothing cannot run out of memory"),
        }
    }

    /// Empties all entries of `range`.
    pub(crate) fn unmap_entries(&self, mappings: &Mappings<M>, range: &Range<usize>) {
        let Some(span) = resident_span(mappings, range, |_| true) else { return };
        let mut delta = self.rss.delta();
        self.transact(span.clone(), |cursor| unmap_within(cursor, mappings, &span, &mut delta));
        self.release(mappings, &span, &mut delta);
    }

    /// Takes from all entries of `range` the access that `access` does not include.
    pub(crate) fn narrow_entries(&self, mappings: &Mappings<M>, range: &Range<usize>, access: VmPerms) {
        let lost = lost_access(access);
        let loses = |mapping: &VmMapping<M>| mapping.perms().page_flags().intersects(lost);
        let Some(span) = resident_span(mappings, range, loses) else { return };
        self.transact(span.clone(), |cursor| {
            for (found, mapping) in mappings.range(span.clone()) {
                if !loses(mapping) {
                    continue;
                }
                if let Some(part) = mapping.resident_span(&clip(&found, &span)) {
                    cursor.seek(part.start);
                    cursor.narrow(part.end, lost);
                }
            }
        });
        if let Some(borrow) = &mappings.borrow {
            borrow.narrow(&span, lost);
        }
    }

    /// Takes from all entries of `range`, a part of `mapping`, the access that `access` does not include.
    pub(crate) fn narrow_entries_of(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        range: &Range<usize>,
        access: VmPerms,
    ) {
        let lost = lost_access(access);
        if mapping.perms().page_flags().intersects(lost)
            && let Some(span) = mapping.resident_span(range)
        {
            self.transact(span.clone(), |cursor| cursor.narrow(span.end, lost));
            if let Some(borrow) = &mappings.borrow {
                borrow.narrow(&span, lost);
            }
        }
    }
}

/// Empties all entries of `span`, with a cursor over it.
pub(crate) fn unmap_within<M: Machine>(
    cursor: &mut CursorOf<'_, M>,
    mappings: &Mappings<M>,
    span: &Range<usize>,
    delta: &mut RssDelta<'_, M>,
) {
    for (found, mapping) in mappings.range(span.clone()) {
        if let Some(part) = mapping.resident_span(&clip(&found, span)) {
            unmap_part(cursor, mapping, part, delta);
        }
    }
}

/// Empties the entries of `part` of a mapping.
pub(crate) fn unmap_part<M: Machine>(
    cursor: &mut CursorOf<'_, M>,
    mapping: &VmMapping<M>,
    part: Range<usize>,
    delta: &mut RssDelta<'_, M>,
) {
    cursor.seek(part.start);
    if !mapping.is_mixed() {
        delta.add(mapping.main_kind(), -(cursor.unmap(part.end) as isize));
        return;
    }
    while let Some(addr) = cursor.next_mapped(part.end) {
        if let Entry::Page { props, .. } = cursor.query() {
            delta.add(mapping.kind_of(props.flags), -1);
        }
        if addr + M::PAGE_SIZE >= part.end {
            break;
        }
        cursor.seek(addr + M::PAGE_SIZE);
    }
    cursor.seek(part.start);
    cursor.unmap(part.end);
}

/// Returns the part of `range` in which the mappings that `counts` picks may have anything resident.
pub(crate) fn resident_span<M: Machine>(
    mappings: &Mappings<M>,
    range: &Range<usize>,
    counts: impl Fn(&VmMapping<M>) -> bool,
) -> Option<Range<usize>> {
    let mut span: Option<Range<usize>> = None;
    for (found, mapping) in mappings.range(range.clone()) {
        if !counts(mapping) {
            continue;
        }
        if let Some(part) = mapping.resident_span(&clip(&found, range)) {
            let start = span.map_or(part.start, |span| span.start);
            span = Some(start..part.end);
        }
    }
    span
}

/// Returns what two ranges have in common.
pub(crate) fn clip(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// Returns the access that an entry must not have where a mapping allows just `access`.
fn lost_access(access: VmPerms) -> PageFlags {
    PageFlags::ACCESS.difference(access.page_flags())
}

#[cfg(test)]
mod tests;
