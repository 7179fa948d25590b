// SPDX-License-Identifier: MPL-2.0

//! Checks what must hold of a space whenever nobody works on it.

use std::{ops::Range, vec::Vec};

use super::{PAGE_SIZE, Process, space::Mapped};
use crate::{
    limits::Usage,
    machine::{AddressSpace, Frame, PageFlags, SleepLock},
    mapping::{MappedMemory, MappingFlags, VmMapping},
    object::Lookup,
    perms::VmPerms,
    rss::RssKind,
    sim::{Sim, SimSpace},
    vmar::Mappings,
};

impl Process {
    /// Returns all that is resident, ascending: the entries of the page table, and those that are borrowed since a fork.
    pub fn resident(&self) -> Vec<Mapped> {
        let space = &self.vmar.inner;
        let mappings = space.mappings.read();
        let mut resident = space.space.walk();
        resident.extend(mappings.iter().flat_map(|(range, _)| borrowed(&mappings, &range)));
        resident.sort_unstable_by_key(|entry| entry.addr);
        resident
    }

    /// Checks the space: the mappings by themselves, each entry of the page table against its mapping, and the counts
    /// against a walk of both.
    ///
    /// # Panics
    ///
    /// Panics if anything is not as it must be.
    pub fn audit(&self) {
        self.cpu().sim.quiesce();
        let space = &self.vmar.inner;
        let total = self.vmar.usage();
        let mut usage = Usage { peak_address_space: total.peak_address_space, ..Usage::default() };
        let mut resident = [0; 3];
        let mut entries = space.space.walk();
        {
            let mappings = space.mappings.read();
            audit_region(&mappings, &space.range, &mut entries, &mut usage, &mut resident);
            audit_borrow(&mappings, &space.space, &mut resident);
        }
        assert_eq!(usage, total, "the totals are not the sums over the mappings");
        assert!(usage.peak_address_space >= usage.address_space, "the peak is below what there is");
        if let Some(entry) = entries.first() {
            panic!("{:#x} has an entry but no mapping", entry.addr);
        }
        for kind in RssKind::ALL {
            assert_eq!(
                space.rss.pages(kind),
                resident[kind as usize],
                "the count of {kind:?} pages is wrong"
            );
        }
    }
}

/// Returns what is borrowed in `range`.
fn borrowed(mappings: &Mappings<Sim>, range: &std::ops::Range<usize>) -> Vec<Mapped> {
    let mut borrowed = Vec::new();
    if let Some(borrow) = &mappings.borrow {
        borrow
            .for_each_page(range, |addr, page| borrowed.push(Mapped::of_page(addr, page.frame, page.props)));
    }
    borrowed
}

/// Checks what a space borrows, and adds up how much of it is resident.
fn audit_borrow(mappings: &Mappings<Sim>, table: &SimSpace, resident: &mut [usize; 3]) {
    let Some(borrow) = &mappings.borrow else { return };
    borrow.audit();
    for (range, mapping) in mappings.iter() {
        for mut entry in borrowed(mappings, &range) {
            let addr = entry.addr;
            assert!(table.peek(&(addr..addr + PAGE_SIZE)).is_none(), "{addr:#x} is there twice");
            if let Some(kind) = mapping.kind_of(entry.props.flags) {
                resident[kind as usize] += 1;
            }
            // The mapping may allow less since the other one borrows the entry as well; this one takes no more.
            entry.props.flags -= PageFlags::ACCESS - mapping.perms().page_flags();
            check_entry(&entry, range.start, mapping);
        }
    }
}

/// Checks a region and those inside it. Takes the entries of its mappings out of `entries`, and adds up what it holds.
fn audit_region(
    mappings: &Mappings<Sim>,
    bounds: &Range<usize>,
    entries: &mut Vec<Mapped>,
    usage: &mut Usage,
    resident: &mut [usize; 3],
) {
    let mut own = Usage { peak_address_space: mappings.usage().peak_address_space, ..Usage::default() };
    let mut previous: Option<(Range<usize>, &VmMapping<Sim>)> = None;
    for (range, mapping) in mappings.iter() {
        assert!(
            range.start >= bounds.start && range.end <= bounds.end,
            "{range:#x?} leaves its region, {bounds:#x?}"
        );
        if let Some(region) = mapping.region() {
            assert_eq!(range, region.range, "a region has lost its place");
            audit_region(&region.mappings.read(), &region.range, entries, usage, resident);
            previous = None;
            continue;
        }
        let perms = mapping.perms();
        assert!(
            perms.contains(perms.access().to_may()),
            "{range:#x?} allows {perms:?}, more than it may ever allow"
        );
        if let Some((below_range, below)) = &previous {
            assert!(
                below_range.end < range.start || !below.continues_with(below_range.len(), mapping),
                "{below_range:#x?} and {range:#x?} could be one"
            );
        }
        count(&mut own, range.len(), mapping);
        let first = entries.partition_point(|entry| entry.addr < range.start);
        let end = entries.partition_point(|entry| entry.addr < range.end);
        for entry in entries.drain(first..end) {
            check_entry(&entry, range.start, mapping);
            let is_marked = mapping.is_handed() && mappings.is_marked(entry.addr);
            assert!(
                !(is_marked && entry.props.flags.contains(PageFlags::WRITE)),
                "the marked page at {:#x} can be written",
                entry.addr
            );
            if let Some(kind) = mapping.kind_of(entry.props.flags) {
                resident[kind as usize] += 1;
            }
        }
        previous = Some((range, mapping));
    }
    assert_eq!(own, mappings.usage(), "the totals are not the sums over the mappings");
    usage.mappings += own.mappings;
    usage.address_space += own.address_space;
    usage.data += own.data;
    usage.exec += own.exec;
    usage.stack += own.stack;
    usage.locked += own.locked;
}

fn count(usage: &mut Usage, size: usize, mapping: &VmMapping<Sim>) {
    usage.mappings += 1;
    usage.address_space += size;
    if mapping.flags().contains(MappingFlags::GROWS_DOWN) {
        usage.stack += size;
    } else if mapping.is_data() {
        usage.data += size;
    } else if mapping.perms() & (VmPerms::EXEC | VmPerms::WRITE) == VmPerms::EXEC {
        usage.exec += size;
    }
    if mapping.flags().contains(MappingFlags::LOCKED) {
        usage.locked += size;
    }
}

fn check_entry(entry: &Mapped, start: usize, mapping: &VmMapping<Sim>) {
    let Mapped { addr, props, .. } = *entry;
    let flags = props.flags;
    let allowed = mapping.perms().page_flags();
    assert!(
        allowed.contains(flags & PageFlags::ACCESS),
        "the entry at {addr:#x} has {flags:?}, its mapping allows {allowed:?}"
    );
    assert!(
        mapping.resident_span(&(addr..addr + PAGE_SIZE)).is_some(),
        "the entry at {addr:#x} was not noted"
    );
    assert!(
        mapping.is_mixed() || mapping.kind_of(flags) == mapping.main_kind(),
        "the entry at {addr:#x} has {flags:?}, which was not noted"
    );
    let is_private = flags.contains(PageFlags::PRIVATE);
    let is_writable = flags.contains(PageFlags::WRITE);
    match mapping.memory() {
        MappedMemory::Anonymous => {
            assert!(is_private != entry.is_zero_frame, "the page at {addr:#x} is not the mapping's own");
        }
        MappedMemory::Vmo { object, offset } => {
            assert!(!(is_private && mapping.is_shared()), "the shared page at {addr:#x} is a private one");
            if !is_private {
                let page = match object.lookup((offset + (addr - start)) / PAGE_SIZE) {
                    Lookup::Resident(frame) => Some(frame.id()),
                    _ => None,
                };
                assert_eq!(entry.frame, page, "the page at {addr:#x} is not what the object has there");
            }
        }
        MappedMemory::Device { cache, .. } => {
            assert_eq!(entry.frame, None, "the page at {addr:#x} is not of the device");
            assert_eq!(props.cache, *cache, "the page at {addr:#x} is cached the wrong way");
            return;
        }
        MappedMemory::Region(_) => unreachable!("a region has no entries of its own"),
    }
    if is_writable && !mapping.is_shared() {
        assert!(is_private, "the entry at {addr:#x} lets a private mapping write to what others see");
        assert_eq!(entry.holders, 1, "the entry at {addr:#x} can write to a page that somebody else holds");
    }
}
