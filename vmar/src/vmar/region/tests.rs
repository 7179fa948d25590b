// SPDX-License-Identifier: MPL-2.0

mod parent;

use alloc::{vec, vec::Vec};
use core::ops::Range;

use aster_rights::{Rights, TRights};

use crate::{
    error::{Error, Limit},
    machine::{AddressSpace, CachePolicy},
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{LockId, PAGE_SIZE, Process, Sim, SimIoMem, SimSpace, record_locks},
    vmar::{
        FullVmar,
        advise::Advice,
        discard::Discard,
        fault::{Access, FaultError},
        lock::LockMode,
        populate::Populate,
        remap::RemapTarget,
        testing::{BASE, NONE, R, RW, RX, at},
    },
};

fn process() -> (Sim, Process) {
    let sim = Sim::new(2);
    let process = Process::new(&sim, 0).unwrap();
    (sim, process)
}

/// Makes a region of pages `pages`.
fn region(process: &Process, pages: Range<usize>) -> FullVmar<Sim> {
    region_in(&process.vmar, pages)
}

fn region_in(parent: &FullVmar<Sim>, pages: Range<usize>) -> FullVmar<Sim> {
    let size = pages.len() * PAGE_SIZE;
    parent.new_region(size).placement(Placement::Exactly(at(pages.start))).build().unwrap()
}

fn pages(pages: Range<usize>) -> Range<usize> {
    at(pages.start)..at(pages.end)
}

/// Maps pages `pages` through a capability.
fn map(vmar: &FullVmar<Sim>, pages: Range<usize>, perms: VmPerms) -> Result<usize, Error> {
    let map = vmar.new_map(pages.len() * PAGE_SIZE).perms(perms);
    map.placement(Placement::Exactly(at(pages.start))).build()
}

/// Lists the mappings that a query shows, as pages.
fn seen(vmar: &FullVmar<Sim>) -> Vec<(Range<usize>, VmPerms)> {
    let page = |addr| (addr - BASE) / PAGE_SIZE;
    let query = vmar.query(vmar.user_range());
    let mappings = query.iter().map(|info| {
        let range = info.range();
        (page(range.start)..page(range.end), info.perms().access())
    });
    mappings.collect()
}

#[test]
fn b1_what_is_mapped_through_a_region_stays_within_it() {
    let (_sim, process) = process();
    let region = region(&process, 10..20);
    assert_eq!(region.user_range(), pages(10..20));
    let anywhere = region.new_map(4 * PAGE_SIZE).perms(RW).build().unwrap();
    assert_eq!(anywhere, at(16));
    let hint = region.new_map(PAGE_SIZE).perms(RW).placement(Placement::Hint(at(40))).build().unwrap();
    assert_eq!(hint, at(15));
    assert_eq!(map(&region, 9..11, RW), Err(Error::OutOfRange));
    assert_eq!(map(&region, 19..21, RW), Err(Error::OutOfRange));
    let replacing = region.new_map(2 * PAGE_SIZE).placement(Placement::Replacing(at(9))).build();
    assert_eq!(replacing, Err(Error::OutOfRange));
    assert_eq!(region.new_map(6 * PAGE_SIZE).build(), Err(Error::NoRoom));
    assert_eq!(region.find_room(5 * PAGE_SIZE, PAGE_SIZE), Ok(at(10)));
    for outside in [9..11, 19..21, 9..21, 30..31] {
        assert_eq!(region.unmap(pages(outside.clone())), Err(Error::OutOfRange));
        assert_eq!(region.protect(pages(outside), R), Err(Error::OutOfRange));
    }
    assert_eq!(region.remap(pages(16..17), PAGE_SIZE, RemapTarget::Fixed(at(20))), Err(Error::OutOfRange));
    assert_eq!(region.remap(pages(19..20), 2 * PAGE_SIZE, RemapTarget::InPlace), Err(Error::NoRoom));
    assert_eq!(region.remap(pages(19..20), 2 * PAGE_SIZE, RemapTarget::MayMove), Ok(at(13)));
    process.write(at(13), &[1]).unwrap();
    process.audit();
}

#[test]
fn b1_no_mapping_goes_beyond_the_ceiling_of_its_region() {
    let (sim, process) = process();
    let ceiling = Rights::READ | Rights::WRITE;
    let place = |start| Placement::Exactly(at(start));
    let region =
        process.vmar.new_region(16 * PAGE_SIZE).ceiling(ceiling).placement(place(0)).build().unwrap();
    assert_eq!(map(&region, 0..1, RX), Err(Error::AccessDenied));
    map(&region, 0..1, RW).unwrap();
    assert_eq!(region.protect(pages(0..1), RX), Err(Error::AccessDenied));
    // Nor through the parent's capability, which has every right: what a mapping may be was decided when it was made.
    assert_eq!(process.vmar.protect(pages(0..1), RX), Err(Error::AccessDenied));
    process.vmar.protect(pages(0..1), R).unwrap();
    // A region inside has no more than the one around it, whatever it asks for.
    let inner = region.new_region(4 * PAGE_SIZE).ceiling(Rights::READ | Rights::EXEC).placement(place(4));
    let inner = inner.build().unwrap();
    assert_eq!(inner.ceiling(), Rights::READ);
    assert_eq!(map(&inner, 4..5, RX), Err(Error::AccessDenied));
    assert_eq!(map(&inner, 4..5, RW), Err(Error::AccessDenied));
    map(&inner, 4..5, R).unwrap();
    let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    let shared = inner.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().build();
    assert_eq!(shared, Err(Error::AccessDenied));
    process.audit();
}

#[test]
fn b1_a_capability_to_a_region_has_no_more_rights_than_it_was_made_with() {
    let (_sim, process) = process();
    type Few = TRights![Dup, Write];
    let few = process.vmar.dup().restrict::<Few>();
    let region = few.new_region(PAGE_SIZE).build().unwrap();
    assert_eq!(region.rights(), Rights::DUP | Rights::WRITE);
    assert_eq!(region.dup().require::<TRights![Read]>().err(), Some(Error::AccessDenied));
    let found = few.region_at(region.user_range().start).unwrap();
    assert_eq!(found.rights(), Rights::DUP | Rights::WRITE);
}

#[test]
fn b1_a_region_outlives_its_handle_as_a_reservation() {
    let (_sim, process) = process();
    let handle = region(&process, 10..20);
    map(&handle, 10..11, RW).unwrap();
    process.write(at(10), &[7]).unwrap();
    drop(handle);
    assert_eq!(process.read_byte(at(10)), Ok(7));
    // Nothing else is placed there.
    assert_eq!(map(&process.vmar, 15..16, RW), Err(Error::Occupied));
    assert_eq!(map(&process.vmar, 9..11, RW), Err(Error::Occupied));
    let hint = process.vmar.new_map(PAGE_SIZE).placement(Placement::Hint(at(15))).build().unwrap();
    assert!(!pages(10..20).contains(&hint));
    let below = process.vmar.new_map(2 * PAGE_SIZE).placement(Placement::Below(at(19))).build().unwrap();
    assert_eq!(below, at(8));
    map(&process.vmar, 20..21, RW).unwrap();
    assert_eq!(process.vmar.remap(pages(8..10), 3 * PAGE_SIZE, RemapTarget::InPlace), Err(Error::NoRoom));
    // Whoever may can have a new handle.
    assert!(process.vmar.region_at(at(9)).is_none() && process.vmar.region_at(at(20)).is_none());
    let again = process.vmar.region_at(at(19)).unwrap();
    map(&again, 11..12, RW).unwrap();
    process.audit();
}

#[test]
fn b1_destroying_a_region_unmaps_all_inside() {
    let (sim, process) = process();
    let region = region(&process, 10..30);
    let inner = region_in(&region, 20..25);
    let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
    for (vmar, start) in [(&region, 10), (&inner, 20)] {
        map(vmar, start..start + 2, RW).unwrap();
        let file = vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
        file.placement(Placement::Exactly(at(start + 2))).build().unwrap();
        process.write(at(start), &[1]).unwrap();
        process.write(at(start + 2), &[1]).unwrap();
        process.read_byte(at(start + 3)).unwrap();
    }
    let device =
        region.new_map(PAGE_SIZE).perms(RW).shared().device(SimIoMem::new(1), 0, CachePolicy::Uncacheable);
    device.build().unwrap();
    map(&process.vmar, 30..31, RW).unwrap();
    process.write(at(30), &[5]).unwrap();
    region.destroy().unwrap();
    process.audit();
    assert_eq!(seen(&process.vmar), [(30..31, RW)]);
    assert_eq!(process.vmar.rss().total_pages(), 1);
    assert_eq!(process.vmar.usage().address_space, PAGE_SIZE);
    for page in [10, 12, 20, 22] {
        assert_eq!(process.read_byte(at(page)), Err(FaultError::NotMapped));
    }
    assert_eq!(process.read_byte(at(30)), Ok(5));
    // The range is the parent's again.
    map(&process.vmar, 10..30, R).unwrap();
    vmo.resize(0).unwrap();
    drop((vmo, process, region, inner));
    sim.assert_no_leaks();
}

/// Does everything there is to do through a capability, and checks that each answers that the region has been destroyed.
fn assert_destroyed(vmar: &FullVmar<Sim>) {
    const DESTROYED: Error = Error::Destroyed;
    let range = vmar.user_range();
    let (start, one) = (range.start, range.start..range.start + PAGE_SIZE);
    assert!(vmar.is_destroyed());
    for placement in [
        Placement::Anywhere,
        Placement::Hint(start),
        Placement::Exactly(start),
        Placement::Replacing(start),
        Placement::Below(range.end),
    ] {
        assert_eq!(vmar.new_map(PAGE_SIZE).read().placement(placement).build(), Err(DESTROYED));
    }
    assert_eq!(vmar.new_region(PAGE_SIZE).build().err(), Some(DESTROYED));
    assert!(vmar.region_at(start).is_none());
    assert_eq!(vmar.unmap(one.clone()), Err(DESTROYED));
    assert_eq!(vmar.protect(one.clone(), R), Err(DESTROYED));
    assert_eq!(vmar.remap(one.clone(), PAGE_SIZE, RemapTarget::MayMove), Err(DESTROYED));
    assert_eq!(vmar.discard(one.clone(), Discard::Now), Err(DESTROYED));
    assert_eq!(vmar.advise(one.clone(), Advice::Random), Err(DESTROYED));
    assert_eq!(vmar.lock(one.clone(), LockMode::OnFault), Err(DESTROYED));
    assert_eq!(vmar.unlock(one.clone()), Err(DESTROYED));
    assert_eq!(vmar.lock_all(LockMode::Now), Err(DESTROYED));
    assert_eq!(vmar.resident(one.clone(), &mut [false]), Err(DESTROYED));
    for how in [Populate::Read, Populate::Write, Populate::AsNeeded, Populate::Prefetch] {
        assert_eq!(vmar.populate(one.clone(), how), Err(DESTROYED));
    }
    assert_eq!(vmar.read_bytes(start, &mut [0]), Err(DESTROYED));
    assert_eq!(vmar.write_bytes(start, &[0]), Err(DESTROYED));
    assert_eq!(vmar.read_bytes_forced(start, &mut [0]), Err(DESTROYED));
    assert_eq!(vmar.write_bytes_forced(start, &[0]), Err(DESTROYED));
    for access in [Access::Read, Access::Write, Access::Exec] {
        assert_eq!(vmar.handle_page_fault(start, access), Err(FaultError::Destroyed));
    }
    assert_eq!(vmar.destroy(), Err(DESTROYED));
    assert_eq!(vmar.dissolve(), Err(DESTROYED));
    vmar.clear();
    assert_eq!(vmar.query(range).iter().count(), 0);
    assert_eq!(vmar.usage().address_space, 0);
}

#[test]
fn b1_every_handle_to_a_destroyed_region_says_so() {
    let (_sim, process) = process();
    let region = region(&process, 10..30);
    let inner = region_in(&region, 20..25);
    map(&region, 10..11, RW).unwrap();
    map(&inner, 20..21, RW).unwrap();
    let others = [region.dup(), process.vmar.region_at(at(10)).unwrap()];
    assert!(!region.is_destroyed() && !inner.is_destroyed());
    region.destroy().unwrap();
    assert_destroyed(&region);
    others.iter().for_each(assert_destroyed);
    assert_destroyed(&inner);
    // Not even when something is there again.
    map(&process.vmar, 10..30, RW).unwrap();
    process.write(at(10), &[1]).unwrap();
    assert_destroyed(&region);
    assert_eq!(process.read_byte(at(10)), Ok(1));
    process.audit();
}

#[test]
fn b1_the_root_is_no_region_that_can_end() {
    let (_sim, process) = process();
    map(&process.vmar, 0..1, RW).unwrap();
    assert_eq!(process.vmar.destroy(), Err(Error::NotSupported));
    assert_eq!(process.vmar.dissolve(), Err(Error::NotSupported));
    assert_eq!(seen(&process.vmar), [(0..1, RW)]);
    let region = region(&process, 1..2);
    assert_eq!(region.fork().err(), Some(Error::NotSupported));
    assert!(region.is_same_space(&process.vmar));
}

#[test]
fn b1_regions_end_with_the_last_capability_to_the_space() {
    let (sim, process) = process();
    let region = region(&process, 10..30);
    let inner = region_in(&region, 20..25);
    map(&region, 10..11, RW).unwrap();
    map(&inner, 20..21, RW).unwrap();
    process.write(at(10), &[1]).unwrap();
    process.write(at(20), &[1]).unwrap();
    drop(process);
    sim.quiesce();
    assert_eq!(sim.live_frames(), 0);
    assert_destroyed(&region);
    assert_destroyed(&inner);
    drop((region, inner));
    sim.assert_no_leaks();
}

#[test]
fn b1_clear_destroys_regions() {
    let (sim, process) = process();
    let region = region(&process, 10..30);
    map(&region, 10..11, RW).unwrap();
    map(&process.vmar, 0..1, RW).unwrap();
    process.write(at(10), &[1]).unwrap();
    process.vmar.clear();
    assert_destroyed(&region);
    assert_eq!((seen(&process.vmar), sim.live_frames()), (vec![], 0));
    process.audit();
}

#[test]
fn b1_a_region_that_makes_no_sense_is_refused() {
    let (_sim, process) = process();
    map(&process.vmar, 5..6, RW).unwrap();
    let new = |size| process.vmar.new_region(size);
    assert_eq!(new(0).build().err(), Some(Error::InvalidSize));
    assert_eq!(new(PAGE_SIZE + 1).build().err(), Some(Error::InvalidSize));
    assert_eq!(new(PAGE_SIZE).align(3).build().err(), Some(Error::InvalidAlignment));
    let exactly = |addr| new(PAGE_SIZE).placement(Placement::Exactly(addr));
    assert_eq!(exactly(at(0) + 1).build().err(), Some(Error::InvalidAlignment));
    assert_eq!(exactly(at(1)).own_tables().build().err(), Some(Error::InvalidAlignment));
    assert_eq!(exactly(at(5)).build().err(), Some(Error::Occupied));
    let replacing = new(PAGE_SIZE).placement(Placement::Replacing(at(5)));
    assert_eq!(replacing.build().err(), Some(Error::InvalidOptions));
    // Regions are nested eight deep at most.
    let mut inner = vec![region(&process, 8..100)];
    while inner.len() < 8 {
        let next = region_in(inner.last().unwrap(), 8..100 - inner.len());
        inner.push(next);
    }
    let deepest = inner.last().unwrap();
    assert_eq!(deepest.new_region(PAGE_SIZE).build().err(), Some(Error::InvalidOptions));
    map(deepest, 8..9, RW).unwrap();
    process.write(at(8), &[8]).unwrap();
    assert_eq!(process.read_byte(at(8)), Ok(8));
    process.audit();
    inner[0].destroy().unwrap();
    inner.iter().for_each(assert_destroyed);
}

#[test]
fn b1_limits_hold_over_all_regions_together() {
    let (_sim, process) = process();
    let root = &process.vmar;
    let limits = root.limits();
    let regions = [region(&process, 10..40), region(&process, 40..70)];
    limits.set(Limit::AddressSpace, 10 * PAGE_SIZE);
    limits.set(Limit::Data, 8 * PAGE_SIZE);
    map(root, 0..3, RW).unwrap();
    map(&regions[0], 10..13, RW).unwrap();
    map(&regions[1], 40..42, RW).unwrap();
    let exceeded = |limit| Err(Error::LimitExceeded(limit));
    for (vmar, page) in [(root, 4), (&regions[0], 20), (&regions[1], 50)] {
        assert_eq!(map(vmar, page..page + 1, RW), exceeded(Limit::Data));
        assert_eq!(map(vmar, page..page + 3, R), exceeded(Limit::AddressSpace));
    }
    map(&regions[0], 20..22, R).unwrap();
    assert_eq!(map(&regions[1], 50..51, NONE), exceeded(Limit::AddressSpace));
    assert_eq!(regions[0].protect(pages(20..21), RW).map(|()| 0), exceeded(Limit::Data));
    assert_eq!(root.usage().address_space, 10 * PAGE_SIZE);
    // What one gives back another can have.
    regions[1].unmap(pages(40..41)).unwrap();
    map(root, 4..5, RW).unwrap();
    // What replaces counts only what it adds.
    let replacing = regions[0].new_map(3 * PAGE_SIZE).perms(R).placement(Placement::Replacing(at(10)));
    replacing.build().unwrap();
    limits.set(Limit::Locked, 2 * PAGE_SIZE);
    root.lock(pages(0..1), LockMode::OnFault).unwrap();
    regions[0].lock(pages(20..21), LockMode::OnFault).unwrap();
    assert_eq!(regions[1].lock(pages(41..42), LockMode::OnFault).map(|()| 0), exceeded(Limit::Locked));
    limits.set(Limit::AddressSpace, 100 * PAGE_SIZE);
    limits.set(Limit::Mappings, root.usage().mappings);
    map(&regions[1], 60..61, R).unwrap();
    assert_eq!(map(&regions[0], 30..31, R), exceeded(Limit::Mappings));
    assert_eq!(map(root, 7..8, R), exceeded(Limit::Mappings));
    process.audit();
    assert!(root.usage().peak_address_space >= 11 * PAGE_SIZE);
    // When the regions have ended, the root's sums are those of the space again.
    regions[0].dissolve().unwrap();
    regions[1].destroy().unwrap();
    limits.set(Limit::Mappings, usize::MAX);
    limits.set(Limit::AddressSpace, root.usage().address_space + PAGE_SIZE);
    assert_eq!(map(root, 80..82, R), exceeded(Limit::AddressSpace));
    map(root, 80..81, R).unwrap();
    process.audit();
}

#[test]
fn b1_siblings_share_no_lock() {
    let (_sim, process) = process();
    let work = |region: &FullVmar<Sim>| {
        let recording = record_locks();
        let start = region.new_map(64 * PAGE_SIZE).perms(RW).build().unwrap();
        let page = |number| start + number * PAGE_SIZE;
        for number in [0, 1, 5] {
            region.handle_page_fault(page(number), Access::Write).unwrap();
        }
        region.handle_page_fault(page(20), Access::Read).unwrap();
        region.protect(page(1)..page(3), R).unwrap();
        region.write_bytes(page(5), &[1]).unwrap();
        region.discard(page(5)..page(6), Discard::Now).unwrap();
        region.populate(page(8)..page(10), Populate::Write).unwrap();
        region.remap(page(8)..page(10), 4 * PAGE_SIZE, RemapTarget::MayMove).unwrap();
        region.unmap(page(0)..page(7)).unwrap();
        region.clear();
        let taken = recording.taken();
        assert!(taken.len() >= 2, "{taken:x?}");
        taken
    };
    let new = || process.vmar.new_region(PAGE_SIZE).own_tables().build().unwrap();
    let regions = [new(), new()];
    assert!(regions[0].user_range().start.is_multiple_of(SimSpace::ISOLATION));
    assert_eq!(regions[0].user_range().len(), SimSpace::ISOLATION);
    let taken = regions.each_ref().map(work);
    assert_eq!(taken[0].intersection(&taken[1]).count(), 0, "{taken:x?}");
    // The same in two places of one region: the test can tell.
    let taken = [&regions[0], &regions[0]].map(work);
    assert!(taken[0].intersection(&taken[1]).any(|lock| matches!(lock, LockId::Sleeping(_))));
    assert!(taken[0].intersection(&taken[1]).any(|lock| matches!(lock, LockId::Node { .. })));
    process.audit();
}
