// SPDX-License-Identifier: MPL-2.0

//! Row B3 of the ranges of a space: each operation, what it does across kinds of mappings, and where it stops.

use alloc::{vec, vec::Vec};

use aster_rights::TRights;

use super::{super::testing::*, *};
use crate::{
    error::Limit,
    machine::CachePolicy,
    object::{Vmo, VmoKind},
    placement::Placement,
    sim::{PAGE_SIZE, Process, SimIoMem},
    vmar::{advise::Advice, discard::Discard, fault::FaultError, lock::LockMode, populate::Populate},
};

/// The pages of the test's range that are in the page table.
fn resident(process: &Process) -> Vec<usize> {
    process.vmar.space().walk().iter().map(|entry| (entry.addr - BASE) / PAGE_SIZE).collect()
}

/// Anonymous memory at pages 0 to 3, a private mapping of an object full of nines at 4 to 7, a shared one at 8 to 11.
fn three_kinds() -> (Process, Vmo<crate::sim::Sim, TRightSet<aster_rights::FullRights>>) {
    let process = process();
    let vmo = Vmo::new(process.vmar.machine(), 4 * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    vmo.write_bytes(0, &[9; 4 * PAGE_SIZE]).unwrap();
    map(&process, 0..4, RW);
    let object = || process.vmar.new_map(4 * PAGE_SIZE).perms(RW).vmo(vmo.dup());
    object().placement(Placement::Exactly(at(4))).build().unwrap();
    object().shared().placement(Placement::Exactly(at(8))).build().unwrap();
    (process, vmo)
}

#[test]
fn b3_commit_makes_a_range_resident_across_mappings() {
    let (process, _vmo) = three_kinds();
    process.vmar.populate(pages(2..10), Populate::Write).unwrap();
    assert_eq!(resident(&process), [2, 3, 4, 5, 6, 7, 8, 9]);
    let before = process.vmar.machine().transactions();
    for page in 2..10 {
        process.write(at(page), &[1]).unwrap();
    }
    assert_eq!(process.vmar.machine().transactions(), before, "a page was not there to be written");
    process.audit();
}

#[test]
fn b3_commit_stops_at_a_hole_and_where_access_is_not_allowed() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 3..5, RW);
    map(&process, 5..6, R);
    assert_eq!(process.vmar.populate(pages(0..5), Populate::Write), Err(Error::NotMapped));
    assert_eq!(process.vmar.populate(pages(4..6), Populate::Write), Err(Error::AccessDenied));
    assert_eq!(resident(&process), [0, 1, 4]);
    assert_eq!(process.vmar.populate(at(0)..at(0), Populate::Write), Err(Error::InvalidSize));
    assert_eq!(process.vmar.populate(at(0) + 1..at(1), Populate::Write), Err(Error::InvalidAlignment));
}

#[test]
fn b3_decommit_gives_a_range_back_across_mappings() {
    let (process, _vmo) = three_kinds();
    for page in 0..12 {
        process.write(at(page), &[1]).unwrap();
    }
    process.vmar.discard(pages(1..11), Discard::Now).unwrap();
    assert_eq!(resident(&process), [0, 11]);
    // Private memory is as it was when it was mapped, an object as it is.
    assert_eq!(process.read_byte(at(1)), Ok(0));
    assert_eq!(process.read_byte(at(5)), Ok(1));
    assert_eq!(process.read_byte(at(5) + 1), Ok(9));
    assert_eq!(process.read_byte(at(9)), Ok(1));
    process.audit();
    let narrow = process.vmar.dup().restrict::<TRights![Read]>().to_dynamic();
    assert_eq!(narrow.require::<TRights![Write]>().err(), Some(Error::AccessDenied));
}

#[test]
fn b3_zero_is_as_if_zeros_were_written() {
    let (process, vmo) = three_kinds();
    for page in 0..4 {
        process.write(at(page), &[1; PAGE_SIZE]).unwrap();
    }
    process.write(at(7), &[1]).unwrap();
    process.vmar.zero(pages(1..10)).unwrap();
    for (page, expected) in [(0, 1), (1, 0), (3, 0), (4, 0), (7, 0), (8, 0), (9, 0), (10, 9)] {
        assert_eq!(process.read(at(page), PAGE_SIZE).unwrap(), vec![expected; PAGE_SIZE], "page {page}");
    }
    // The object was written through the shared mapping alone.
    let mut bytes = [1; 2];
    vmo.read_bytes(2 * PAGE_SIZE - 1, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 9]);
    process.audit();
}

#[test]
fn b3_zero_gives_anonymous_memory_back_unless_it_is_locked() {
    let process = process();
    map(&process, 0..8, RW);
    process.vmar.lock(pages(6..8), LockMode::Now).unwrap();
    for page in 0..8 {
        process.write(at(page), &[1]).unwrap();
    }
    let before = process.vmar.machine().transactions();
    process.vmar.zero(pages(0..4)).unwrap();
    assert_eq!(process.vmar.machine().transactions() - before, 1);
    process.vmar.zero(pages(4..8)).unwrap();
    assert_eq!(resident(&process), [6, 7]);
    assert_eq!(process.read_byte(at(6)), Ok(0));
    process.audit();
    // What is shared with a child stays the child's.
    process.write(at(0), &[5]).unwrap();
    let child = process.fork_on(1).unwrap();
    process.vmar.zero(pages(0..8)).unwrap();
    assert_eq!((process.read_byte(at(0)), child.read_byte(at(0))), (Ok(0), Ok(5)));
    process.audit();
    child.audit();
}

#[test]
fn b3_zero_stops_where_it_cannot_be_written() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 2..3, R);
    map(&process, 4..5, RW);
    let device = process.vmar.new_map(PAGE_SIZE).perms(RW).shared();
    let device = device.device(SimIoMem::new(1), 0, CachePolicy::Uncacheable);
    device.placement(Placement::Exactly(at(5))).build().unwrap();
    for page in [0, 1, 4] {
        process.write(at(page), &[1]).unwrap();
    }
    assert_eq!(process.vmar.zero(pages(1..4)), Err(Error::AccessDenied));
    assert_eq!(process.vmar.zero(pages(3..5)), Err(Error::NotMapped));
    assert_eq!(process.vmar.zero(pages(4..6)), Err(Error::NotSupported));
    assert_eq!((process.read_byte(at(0)), process.read_byte(at(1))), (Ok(1), Ok(0)));
    assert_eq!(process.read_byte(at(4)), Ok(0));
    let vmo = Vmo::new(process.vmar.machine(), PAGE_SIZE, VmoKind::File).unwrap();
    let short = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo).placement(Placement::Exactly(at(8)));
    short.build().unwrap();
    assert_eq!(process.vmar.zero(pages(8..10)), Err(Error::BusError));
    for (range, error) in [
        (at(0) + 1..at(1), Error::InvalidAlignment),
        (at(0)..at(0), Error::InvalidSize),
        (at(0)..usize::MAX - PAGE_SIZE + 1, Error::OutOfRange),
    ] {
        assert_eq!(process.vmar.zero(range), Err(error));
    }
    process.audit();
}

#[test]
fn b3_zero_reaches_into_regions() {
    let process = process();
    let region = process.vmar.new_region(4 * PAGE_SIZE).placement(Placement::Exactly(at(2))).build().unwrap();
    map(&process, 0..2, RW);
    region.new_map(4 * PAGE_SIZE).perms(RW).placement(Placement::Exactly(at(2))).build().unwrap();
    for page in 0..6 {
        process.write(at(page), &[1]).unwrap();
    }
    process.vmar.zero(pages(1..4)).unwrap();
    let read: Vec<_> = (0..6).map(|page| process.read_byte(at(page)).unwrap()).collect();
    assert_eq!(read, [1, 0, 0, 0, 1, 1]);
    assert!(!region.is_destroyed());
    assert_eq!(region.zero(pages(0..2)), Err(Error::OutOfRange));
    region.destroy().unwrap();
    assert_eq!(region.zero(pages(2..4)), Err(Error::Destroyed));
    process.audit();
}

#[test]
fn b3_prefetch_maps_nothing_and_passes_over_holes() {
    let (process, vmo) = three_kinds();
    vmo.decommit(0..4 * PAGE_SIZE).unwrap();
    process.vmar.populate(pages(0..12), Populate::Prefetch).unwrap();
    assert_eq!((resident(&process).len(), vmo.resident_count()), (0, 0));
    assert_eq!(process.vmar.populate(pages(0..16), Populate::Prefetch), Err(Error::NotMapped));
    assert_eq!(process.read_byte(at(12)), Err(FaultError::NotMapped));
}

#[test]
fn b3_advice_is_noted_of_exactly_the_range() {
    let (process, _vmo) = three_kinds();
    process.vmar.advise(pages(2..9), Advice::Sequential).unwrap();
    let advised: usize = process
        .vmar
        .query(pages(0..12))
        .iter()
        .filter(|info| info.flags().contains(MappingFlags::SEQUENTIAL))
        .map(|info| info.range().len())
        .sum();
    assert_eq!(advised, 7 * PAGE_SIZE);
    assert_eq!(process.vmar.advise(pages(8..16), Advice::Random), Err(Error::NotMapped));
    process.vmar.limits().set(Limit::Mappings, process.vmar.usage().mappings);
    let exceeded = Err(Error::LimitExceeded(Limit::Mappings));
    assert_eq!(process.vmar.advise(pages(5..6), Advice::Normal), exceeded);
    process.audit();
}
