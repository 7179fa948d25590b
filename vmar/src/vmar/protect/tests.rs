// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::super::{discard::Discard, fault::FaultError, testing::*};
use crate::{
    backing::Personality,
    error::{Error, Limit},
    machine::PageFlags,
    mapping::MappingFlags,
    object::VmoKind,
    perms::VmPerms,
    placement::Placement,
    sim::PAGE_SIZE,
};

#[test]
fn v13_protect_decides_what_accesses_do() {
    let process = process();
    map(&process, 0..3, RW);
    touch(&process, 0..3);
    process.vmar.protect(pages(1..2), R).unwrap();
    assert_eq!(process.write(at(1), &[9]), Err(FaultError::NoPermission));
    assert_eq!(process.read_byte(at(1)), Ok(2));
    process.write(at(0), &[8]).unwrap();
    process.vmar.protect(pages(1..2), NONE).unwrap();
    assert_eq!(process.read_byte(at(1)), Err(FaultError::NoPermission));
    process.vmar.protect(pages(1..2), RX).unwrap();
    assert_eq!(process.fetch_byte(at(1)), Ok(2));
    assert_eq!(process.fetch_byte(at(2)), Err(FaultError::NoPermission));
    process.vmar.protect(pages(1..2), RW).unwrap();
    process.write(at(1), &[9]).unwrap();
    assert_eq!(pages_and_perms(&process), [(0..3, RW)]);
    process.audit();
}

#[test]
fn v13_protect_stops_at_a_hole_with_the_rest_done() {
    let process = process();
    map(&process, 0..2, RW);
    map(&process, 3..5, RW);
    touch(&process, 0..2);
    touch(&process, 3..5);
    assert_eq!(process.vmar.protect(pages(1..5), R), Err(Error::NotMapped));
    assert_eq!(pages_and_perms(&process), [(0..1, RW), (1..2, R), (3..5, RW)]);
    // A hole at the very start: nothing is done.
    assert_eq!(process.vmar.protect(pages(2..5), R), Err(Error::NotMapped));
    assert_eq!(pages_and_perms(&process), [(0..1, RW), (1..2, R), (3..5, RW)]);
    process.audit();
}

#[test]
fn v13_protect_never_goes_beyond_the_may_mask() {
    let process = process();
    map(&process, 0..2, R);
    over(&process, 2..4, R).may_perms(VmPerms::MAY_READ).build().unwrap();
    assert_eq!(process.vmar.protect(pages(0..4), RW), Err(Error::AccessDenied));
    // What comes before the mapping that refuses is done, as Linux does it.
    assert_eq!(pages_and_perms(&process), [(0..2, RW), (2..4, R)]);
    assert_eq!(process.vmar.protect(pages(2..4), RW), Err(Error::AccessDenied));
    process.vmar.protect(pages(2..4), NONE).unwrap();
    process.vmar.protect(pages(2..4), R).unwrap();
}

#[test]
fn n6_reading_implies_execution_where_a_mapping_may_be_executed() {
    let process = process();
    map(&process, 0..2, NONE);
    over(&process, 2..4, NONE).may_perms(VmPerms::MAY_READ).build().unwrap();
    let protect = |range, perms| process.vmar.protect_as(pages(range), perms, Personality::ReadImpliesExec);
    protect(0..1, R).unwrap();
    assert_eq!(pages_and_perms(&process), [(0..1, RX), (1..2, NONE), (2..4, NONE)]);
    // Through several mappings at once, and back.
    protect(1..4, R).unwrap();
    assert_eq!(pages_and_perms(&process), [(0..2, RX), (2..4, R)]);
    assert_eq!(process.fetch_byte(at(1)), Ok(0));
    protect(0..4, NONE).unwrap();
    assert_eq!(process.fetch_byte(at(1)), Err(FaultError::NoPermission));
    assert_eq!(protect(2..3, RX), Err(Error::AccessDenied));
    process.audit();
}

#[test]
fn v5_protect_obeys_the_mask_for_every_mask_and_wish() {
    let process = process();
    for mask in 0..8u8 {
        let may = VmPerms::from_bits_truncate(mask << 4);
        for wish in 0..8u8 {
            let wish = VmPerms::from_bits_truncate(wish);
            over(&process, 0..1, NONE).may_perms(may).build().unwrap();
            let result = process.vmar.protect(pages(0..1), wish);
            match may.contains(wish.to_may()) {
                true => assert_eq!(result, Ok(()), "{wish:?} within {may:?}"),
                false => assert_eq!(result, Err(Error::AccessDenied), "{wish:?} beyond {may:?}"),
            }
        }
    }
}

#[test]
fn v13_protect_only_touches_what_changes() {
    let process = process();
    let sim = process.vmar.machine().clone();
    map(&process, 0..8, RW);
    let transactions = sim.transactions();
    // Nothing resident.
    process.vmar.protect(pages(2..4), R).unwrap();
    process.vmar.protect(pages(2..4), RW).unwrap();
    assert_eq!(sim.transactions(), transactions);
    touch(&process, 0..8);
    let (transactions, flushes) = (sim.transactions(), sim.flushes());
    // No change.
    process.vmar.protect(pages(0..8), RW).unwrap();
    assert_eq!(sim.transactions(), transactions);
    // Taking away: one transaction, one flush.
    process.vmar.protect(pages(0..8), R).unwrap();
    assert_eq!((sim.transactions(), sim.flushes()), (transactions + 1, flushes + 1));
    // Granting: none; the fault does it.
    process.vmar.protect(pages(0..8), RW).unwrap();
    assert_eq!((sim.transactions(), sim.flushes()), (transactions + 1, flushes + 1));
    let writable = |entry: &crate::sim::Mapped| entry.props.flags.contains(PageFlags::WRITE);
    assert!(!process.vmar.space().walk().iter().any(writable));
    touch(&process, 3..4);
    assert_eq!(process.vmar.space().walk().iter().filter(|entry| writable(entry)).count(), 1);
    process.audit();
}

#[test]
fn v13_protect_to_writable_does_not_let_zeros_or_objects_be_written() {
    let process = process();
    let vmo = object(&process, 2, VmoKind::File);
    map(&process, 0..2, R);
    over(&process, 2..4, R).vmo(vmo.dup()).build().unwrap();
    for page in 0..4 {
        process.read_byte(at(page)).unwrap();
    }
    process.vmar.protect(pages(0..4), RW).unwrap();
    process.audit();
    for page in 0..4 {
        process.write(at(page), &[0x55]).unwrap();
    }
    let mut byte = [0];
    vmo.read_bytes(0, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    assert_eq!(process.read_byte(at(1)), Ok(0x55));
    process.audit();
}

#[test]
fn v13_protect_refuses_bad_ranges() {
    let process = process();
    let end = process.vmar.user_range().end;
    map(&process, 0..2, R);
    let protect = |range| process.vmar.protect(range, RW);
    assert_eq!(protect(at(0) + 1..at(1)), Err(Error::InvalidAlignment));
    assert_eq!(protect(at(1)..at(1)), Err(Error::InvalidSize));
    assert_eq!(protect(end - PAGE_SIZE..end + PAGE_SIZE), Err(Error::OutOfRange));
}

#[test]
fn v11_protect_keeps_the_limits_on_data_and_mappings() {
    let process = process();
    map(&process, 0..2, R);
    map(&process, 3..6, R);
    process.vmar.limits().set(Limit::Data, 4 * PAGE_SIZE);
    process.vmar.protect(pages(0..2), RW).unwrap();
    assert_eq!(process.vmar.protect(pages(3..6), RW), Err(Error::LimitExceeded(Limit::Data)));
    process.vmar.protect(pages(3..5), RW).unwrap();
    process.vmar.limits().set(Limit::Mappings, 3);
    assert_eq!(process.vmar.protect(pages(1..2), R), Err(Error::LimitExceeded(Limit::Mappings)));
    process.audit();
}

#[test]
fn v13_protect_fails_whole_or_not_at_all() {
    fail_each_allocation(
        |process| {
            map(process, 0..9, RW);
            touch(process, 0..9);
        },
        |process| process.vmar.protect(pages(3..5), R),
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v13_protect_is_as_the_model_says(
        steps in prop::collection::vec((0usize..30, 1usize..12, 0u8..10), 1..if cfg!(miri) { 10 } else { 40 }),
    ) {
        let process = process();
        let mut model: Model = vec![None; 60];
        for (start, count, what) in steps {
            let range = start..start + count;
            let perms = VmPerms::from_bits_truncate(what);
            match what {
                8 => {
                    let place = Placement::Replacing(at(start));
                    process.vmar.new_map(count * PAGE_SIZE).perms(RW).placement(place).build().unwrap();
                    touch(&process, start..start + 1);
                    model[range].fill(Some(RW));
                }
                9 => {
                    process.vmar.unmap(pages(range.clone())).unwrap();
                    model[range].fill(None);
                }
                _ => {
                    let hole = range.clone().find(|page| model[*page].is_none());
                    let result = process.vmar.protect(pages(range.clone()), perms);
                    prop_assert_eq!(result, if hole.is_some() { Err(Error::NotMapped) } else { Ok(()) });
                    model[start..hole.unwrap_or(range.end)].fill(Some(perms));
                }
            }
            process.audit();
            prop_assert_eq!(pages_and_perms(&process), runs(&model));
        }
    }
}

#[test]
fn v13_a_single_page_of_the_mappings_own_can_be_written_at_once() {
    let process = process();
    map(&process, 0..4, RW);
    touch(&process, 0..3);
    let child = process.fork_on(1).unwrap();
    touch(&process, 1..2);
    for page in 0..4 {
        process.vmar.protect(pages(page..page + 1), R).unwrap();
        process.vmar.protect(pages(page..page + 1), RW).unwrap();
    }
    let entries = process.vmar.space().walk();
    let can_write: Vec<_> =
        entries.iter().map(|entry| entry.props.flags.contains(PageFlags::WRITE)).collect();
    assert_eq!(can_write, [false, true, false], "what the child has as well must be copied first");
    assert_eq!(child.read_byte(at(0)), Ok(1));
    process.audit();
}

#[test]
fn v18_locked_memory_that_becomes_writable_has_pages_of_its_own() {
    let process = process();
    let map = |start: usize, flags| {
        let placement = Placement::Exactly(at(start));
        process.vmar.new_map(3 * PAGE_SIZE).perms(R).flags(flags).placement(placement).build().unwrap();
    };
    map(0, MappingFlags::LOCKED);
    map(4, MappingFlags::ANY_LOCK);
    assert_eq!(process.vmar.rss().total_pages(), 0);
    process.vmar.protect(pages(1..3), RW).unwrap();
    assert_eq!(process.vmar.rss().total_pages(), 2);
    // What is locked as it is touched waits for that; and what can be written already keeps what it has.
    process.vmar.protect(pages(4..7), RW).unwrap();
    process.vmar.discard(pages(1..2), Discard::NowEvenLocked).unwrap();
    process.vmar.protect(pages(1..3), VmPerms::ACCESS).unwrap();
    assert_eq!(process.vmar.rss().total_pages(), 1);
    process.audit();
}
