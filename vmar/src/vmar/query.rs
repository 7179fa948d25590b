// SPDX-License-Identifier: MPL-2.0

//! Looking at what is mapped, for `/proc/PID/maps` and `smaps` and for whoever copies between spaces.
//!
//! A [`VmarQueryGuard`] keeps the mappings as they are while it lives: others can look and faults go on, but nothing is
//! mapped or unmapped. What child regions have there is shown too, as it was when the guard was made; they go on meanwhile.

use alloc::{sync::Arc, vec::Vec};
use core::{ops::Range, slice};

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, mappings::Mappings};
use crate::{
    error::OutOfMemory,
    fallible,
    machine::{Cursor, Entry, Frame, Machine, PageFlags, PageProps, SleepLock},
    mapping::{Mappable, MappedMemory, MappingFlags, VmMapping},
    perms::VmPerms,
    rss::RssKind,
};

/// The mappings of a range, held still.
#[must_use = "mappings are held still only while this lives"]
pub struct VmarQueryGuard<'a, M: Machine> {
    space: &'a Vmar_<M>,
    mappings: <M::Lock<Mappings<M>> as SleepLock<Mappings<M>>>::ReadGuard<'a>,
    range: Range<usize>,
    /// Copies of all mappings of the range, where there are child regions.
    flat: Option<Listed<M>>,
}

/// Copies of mappings, and where they are.
type Listed<M> = Vec<(Range<usize>, VmMapping<M>)>;

/// Iterates over mappings where they are, or over copies.
enum Listing<'a, M: Machine, I> {
    Live(I),
    Flat(slice::Iter<'a, (Range<usize>, VmMapping<M>)>),
}

impl<'a, M: Machine, I> Iterator for Listing<'a, M, I>
where
    I: Iterator<Item = (Range<usize>, &'a VmMapping<M>)>,
{
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        match self {
            Self::Live(mappings) => mappings.next(),
            Self::Flat(copies) => copies.next().map(|(range, mapping)| (range.clone(), mapping)),
        }
    }
}

impl<'a, M: Machine, I> DoubleEndedIterator for Listing<'a, M, I>
where
    I: DoubleEndedIterator<Item = (Range<usize>, &'a VmMapping<M>)>,
{
    #[inline]
    fn next_back(&mut self) -> Option<I::Item> {
        match self {
            Self::Live(mappings) => mappings.next_back(),
            Self::Flat(copies) => copies.next_back().map(|(range, mapping)| (range.clone(), mapping)),
        }
    }
}

/// One mapping, as it is while a [`VmarQueryGuard`] lives.
pub struct MappingInfo<'a, M: Machine> {
    space: &'a Vmar_<M>,
    pub(super) mappings: &'a Mappings<M>,
    range: Range<usize>,
    pub(super) mapping: &'a VmMapping<M>,
}

/// How many pages of a mapping are resident, and in what way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Resident pages, the frame of zeros aside.
    pub resident: usize,
    /// Of these, pages that belong to the mapping alone.
    pub anonymous: usize,
    /// Pages that others hold as well, never written through this mapping.
    pub shared_clean: usize,
    /// Pages that others hold as well, written.
    pub shared_dirty: usize,
    /// Pages that only this mapping shows, never written through it.
    pub private_clean: usize,
    /// Pages that only this mapping shows, written.
    pub private_dirty: usize,
    /// Pages that have been accessed.
    pub referenced: usize,
    /// Bytes, each page divided by how many hold it.
    pub share: usize,
    /// Of these, the bytes of written pages.
    pub dirty_share: usize,
}

/// A resident page, and who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSharing {
    /// Whether it is the object's, not the mapping's own.
    pub belongs_to_object: bool,
    /// Whether it is the frame of zeros, which is nobody's.
    pub is_zeros: bool,
    /// How many hold it, the object aside.
    pub holders: usize,
    /// What its entry says.
    pub flags: PageFlags,
    /// The number of its frame.
    pub frame: u64,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Looks at the mappings that overlap `range` (bytes), those inside child regions among them.
    ///
    /// Should there be no memory to list what is inside child regions, each of these is shown as one mapping that allows nothing.
    #[require(R > Read)]
    pub fn query(&self, range: Range<usize>) -> VmarQueryGuard<'_, M> {
        let mappings = self.inner.mappings.read();
        let flat = if mappings.has_regions() { flatten(&mappings, &range).ok() } else { None };
        VmarQueryGuard { space: &self.inner, mappings, range, flat }
    }
}

impl<M: Machine> VmarQueryGuard<'_, M> {
    /// Iterates over the mappings, ascending. Those at the ends of the range may reach beyond it.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = MappingInfo<'_, M>> {
        let listing = match &self.flat {
            None => Listing::Live(self.mappings.range(self.range.clone())),
            Some(flat) => Listing::Flat(flat.iter()),
        };
        listing.map(|(range, mapping)| MappingInfo {
            space: self.space,
            mappings: &self.mappings,
            range,
            mapping,
        })
    }

    /// Returns the first mapping of the range.
    pub fn first(&self) -> Option<MappingInfo<'_, M>> {
        self.iter().next()
    }

    /// Returns whether every address of the range is mapped.
    pub fn is_fully_mapped(&self) -> bool {
        if self.flat.is_none() {
            return self.mappings.covered_until(&self.range) >= self.range.end;
        }
        let reach =
            |at: usize, info: MappingInfo<'_, M>| if info.range.start <= at { info.range.end } else { at };
        self.iter().fold(self.range.start, reach) >= self.range.end
    }
}

impl<'a, M: Machine> MappingInfo<'a, M> {
    /// Returns the addresses (bytes).
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Returns what it allows now, and may ever allow.
    pub fn perms(&self) -> VmPerms {
        self.mapping.perms()
    }

    /// Returns whether writes are seen by others.
    pub fn is_shared(&self) -> bool {
        self.mapping.is_shared()
    }

    /// Returns its traits.
    pub fn flags(&self) -> MappingFlags {
        self.mapping.flags()
    }

    /// Returns the kernel's own mark on it: see [`label`](super::Vmar::label).
    pub fn label(&self) -> u8 {
        self.mapping.label()
    }

    /// Returns where in its object or device it starts (bytes).
    pub fn offset(&self) -> usize {
        self.mapping.offset()
    }

    /// Returns what the kernel knows of it.
    pub fn mappable(&self) -> Option<&'a Arc<dyn Mappable>> {
        self.mapping.mappable()
    }

    /// Returns what it shows.
    pub fn memory(&self) -> &'a MappedMemory<M> {
        self.mapping.memory()
    }

    /// Walks the page table and counts what is resident.
    pub fn count_pages(&self) -> PageCounts {
        let mut counts = PageCounts::default();
        let Some(span) = self.mapping.resident_span(&self.range) else { return counts };
        self.space.for_each_page(self.mappings, &span, |_, page| self.count(&mut counts, &page));
        counts
    }

    /// Calls `visit` with the address of each resident page in `range` (bytes), ascending, and who holds it. Zeros that were
    /// mapped ahead of a read are passed over.
    pub fn for_each_page(&self, range: &Range<usize>, mut visit: impl FnMut(usize, PageSharing)) {
        let range = self.range.start.max(range.start)..self.range.end.min(range.end);
        let Some(span) = self.mapping.resident_span(&range) else { return };
        self.space.for_each_page(self.mappings, &span, |addr, page| {
            let is_zeros = self.mapping.kind_of(page.props.flags).is_none();
            if !is_zeros || page.props.flags.contains(PageFlags::ACCESSED) {
                visit(addr, PageSharing { is_zeros, ..sharing(&page) });
            }
        });
    }

    /// Counts the nodes of the page table's last level that hold something of the mapping. One that two mappings share
    /// counts for both.
    pub fn count_tables(&self) -> usize {
        let span_of_node = M::PAGE_SIZE * (M::PAGE_SIZE / size_of::<u64>());
        let Some(span) = self.mapping.resident_span(&self.range) else { return 0 };
        self.space.transact(span.clone(), |cursor| {
            let mut count = 0;
            while let Some(addr) = cursor.next_mapped(span.end) {
                count += 1;
                let next = (addr / span_of_node + 1) * span_of_node;
                if next >= span.end {
                    break;
                }
                cursor.seek(next);
            }
            count
        })
    }

    fn count(&self, counts: &mut PageCounts, page: &ResidentPage<'_, M>) {
        let flags = page.props.flags;
        let Some(kind) = self.mapping.kind_of(flags) else { return };
        let PageSharing { holders, .. } = sharing(page);
        let is_shared = holders > 1;
        // A page of the mapping's own was written, whatever has been forgotten since.
        let is_dirty = flags.intersects(PageFlags::DIRTY | PageFlags::PRIVATE);
        let share = M::PAGE_SIZE / holders;
        counts.resident += 1;
        counts.share += share;
        counts.dirty_share += if is_dirty { share } else { 0 };
        counts.anonymous += usize::from(kind == RssKind::Anonymous);
        counts.referenced += usize::from(flags.contains(PageFlags::ACCESSED));
        *match (is_shared, is_dirty) {
            (true, false) => &mut counts.shared_clean,
            (true, true) => &mut counts.shared_dirty,
            (false, false) => &mut counts.private_clean,
            (false, true) => &mut counts.private_dirty,
        } += 1;
    }
}

/// Lists copies of the mappings that overlap `range`, in the place of child regions those inside them.
fn flatten<M: Machine>(mappings: &Mappings<M>, range: &Range<usize>) -> Result<Listed<M>, OutOfMemory> {
    let mut list = Vec::new();
    add_flat(&mut list, mappings, range)?;
    Ok(list)
}

fn add_flat<M: Machine>(
    list: &mut Listed<M>,
    mappings: &Mappings<M>,
    range: &Range<usize>,
) -> Result<(), OutOfMemory> {
    for (found, mapping) in mappings.range(range.clone()) {
        if let Some(region) = mapping.region() {
            add_flat(list, &region.mappings.read(), range)?;
            continue;
        }
        let mut copy = mapping.copy_at(0);
        copy.absorb(&mapping.noted());
        fallible::try_push(list, (found, copy))?;
    }
    Ok(())
}

/// A page that is resident in a space.
pub(crate) struct ResidentPage<'a, M: Machine> {
    pub(crate) frame: &'a M::Frame,
    pub(crate) props: PageProps,
    /// How many spaces have the page through one holder of the frame more than can be told by these.
    pub(super) more_holders: usize,
}

impl<M: Machine> ResidentPage<'_, M> {
    /// Returns whether nobody else holds the page, in whatever way.
    pub(super) fn is_only_here(&self) -> bool {
        self.frame.holders() + self.more_holders == 1
    }
}

/// Who holds a page.
fn sharing<M: Machine>(page: &ResidentPage<'_, M>) -> PageSharing {
    let ResidentPage { frame, props, more_holders } = page;
    let is_own = props.flags.contains(PageFlags::PRIVATE);
    // An object holds its pages as well.
    let holders = if is_own { frame.holders() + more_holders } else { frame.holders().saturating_sub(1) };
    PageSharing {
        belongs_to_object: !is_own,
        is_zeros: false,
        holders: holders.max(1),
        flags: props.flags,
        frame: frame.id(),
    }
}

impl<M: Machine> Vmar_<M> {
    /// Calls `visit` with the address and entry of each page in `span`, ascending; device memory is passed over.
    pub(super) fn for_each_page(
        &self,
        mappings: &Mappings<M>,
        span: &Range<usize>,
        mut visit: impl FnMut(usize, ResidentPage<'_, M>),
    ) {
        let borrow = mappings.borrow.as_ref().filter(|borrow| borrow.may_have(span));
        self.transact(span.clone(), |cursor| {
            let mut at = span.start;
            while let Some(run) = cursor.next_run(span.end) {
                if let Some(borrow) = borrow {
                    borrow.for_each_page(&(at..run.start), &mut visit);
                }
                at = run.end;
                for addr in run.clone().step_by(M::PAGE_SIZE) {
                    if addr != run.start {
                        cursor.seek(addr);
                    }
                    if let Entry::Page { frame, props } = cursor.query() {
                        visit(addr, ResidentPage { frame: &frame, props, more_holders: 0 });
                    }
                }
                if run.end >= span.end {
                    break;
                }
                cursor.seek(run.end);
            }
            if let Some(borrow) = borrow {
                borrow.for_each_page(&(at..span.end), &mut visit);
            }
        });
    }
}

#[cfg(test)]
mod tests;
