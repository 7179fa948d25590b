// SPDX-License-Identifier: MPL-2.0

//! Lack of memory: each allocation fails in turn, and none is made where none may be.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{
    super::{InsertError, IntervalMap},
    Deep, scaled,
};
use crate::fallible::inject;

/// Any insertion that finds no memory changes nothing, gives its value back, and works once there is memory again.
#[test]
fn v7_every_allocation_fails_in_turn() {
    let count = scaled(3000);
    let mut map: Deep<usize> = IntervalMap::default();
    let mut refusals = 0;
    for step in 0..count {
        let start = step * 7919 % count * 4;
        let before = if step % 50 == 0 { map.entries() } else { Vec::new() };
        for nth in 0.. {
            let failing = inject::fail_nth(nth);
            let done = map.insert(start..start + 2, step);
            if !failing.has_failed() {
                assert_eq!(done, Ok(()));
                break;
            }
            refusals += 1;
            assert_eq!(done, Err(InsertError::OutOfMemory(step)));
            assert_eq!((map.len(), map.find(start)), (step, None));
            if step % 50 == 0 {
                map.check();
                assert_eq!(map.entries(), before);
            }
        }
    }
    map.check();
    assert!(refusals > count / 50, "{refusals}");
}

/// A reservation that fails leaves the map as it was.
#[test]
fn a_failed_reservation_changes_nothing() {
    let mut map: Deep<usize> = IntervalMap::default();
    for start in 0..40 {
        map.insert(start * 4..start * 4 + 2, start).unwrap();
    }
    let before = map.entries();
    for nth in 0.. {
        let failing = inject::fail_nth(nth);
        let done = map.try_reserve(500);
        map.check();
        assert_eq!(map.entries(), before);
        if !failing.has_failed() {
            assert!(nth > 0 && done.is_ok());
            break;
        }
        assert!(done.is_err());
    }
    assert!(map.try_reserve(usize::MAX).is_err());
    assert_eq!(map.entries(), before);
}

#[derive(Clone, Debug)]
enum Op {
    Insert(usize),
    Remove(usize),
    Resize(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let place = 0usize..1 << 12;
    prop_oneof![
        3 => place.clone().prop_map(Op::Insert),
        2 => place.clone().prop_map(Op::Remove),
        1 => place.prop_map(Op::Resize),
    ]
}

/// Runs operations of which only the insertions count, with no memory to be had.
fn run_without_memory<const LEAF: usize, const FAN: usize>(before: &[Op], after: &[Op]) {
    let mut map: IntervalMap<usize, LEAF, FAN> = IntervalMap::default();
    let apply = |map: &mut IntervalMap<usize, LEAF, FAN>, op: &Op| match op {
        Op::Insert(place) => {
            let done = map.insert(place * 4..place * 4 + 2, *place);
            assert_ne!(done, Err(InsertError::OutOfMemory(*place)));
        }
        Op::Remove(place) => {
            if let Some((range, _)) = map.next(place * 4) {
                map.remove(range.start);
            }
        }
        Op::Resize(place) => {
            if let Some((range, _)) = map.next(place * 4) {
                map.set_range(range.start, range.start..range.start + 1).unwrap();
            }
        }
    };
    before.iter().for_each(|op| apply(&mut map, op));
    let insertions = after.iter().filter(|op| matches!(op, Op::Insert(_))).count();
    map.try_reserve(insertions).unwrap();
    let requests = inject::requests();
    let _failing = inject::fail_from(0);
    after.iter().for_each(|op| apply(&mut map, op));
    assert_eq!(inject::requests(), requests);
    map.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// After a reservation so many insertions ask for no memory at all, whatever happens in between.
    #[test]
    fn v7_reservations_hold(
        before in proptest::collection::vec(op(), 0..scaled(1200)),
        after in proptest::collection::vec(op(), 0..scaled(600)),
    ) {
        run_without_memory::<8, 16>(&before, &after);
        run_without_memory::<{ super::super::LEAF_SIZE }, { super::super::INNER_SIZE }>(&before, &after);
    }
}

/// The worst there is for a reservation: every leaf is full, and each insertion goes to another one.
#[test]
fn a_reservation_covers_full_nodes() {
    let entries = scaled(600);
    for count in [1, 2, 3, 10, entries / 6] {
        let mut map: Deep<usize> = IntervalMap::default();
        for start in 0..entries {
            map.insert(start * 64..start * 64 + 1, start).unwrap();
        }
        // Fill up each leaf from within.
        for start in 0..entries {
            let (_, leaf) = map.tree.at_or_below(start * 64).unwrap();
            if leaf.len() < 8 {
                map.insert(start * 64 + 2..start * 64 + 3, start).unwrap();
            }
        }
        let entries = map.entries();
        map.try_reserve(count).unwrap();
        let _failing = inject::fail_from(0);
        for (range, value) in entries.iter().step_by(5).take(count) {
            map.insert(range.start + 10..range.start + 11, *value).unwrap();
        }
        map.check();
    }
}

/// A small map is small: a process with a few mappings pays for a few.
#[test]
fn memory_grows_with_the_map() {
    let mut map: IntervalMap<u64> = IntervalMap::new();
    let requests = inject::requests();
    map.insert(0..1, 0).unwrap();
    assert!(inject::requests() - requests <= 4);
    map.try_reserve(3).unwrap();
    for start in 1..scaled(1000) {
        map.insert(start..start + 1, 0).unwrap();
    }
    let requests = inject::requests() - requests;
    assert!(requests < 60, "{requests}");
}

/// What is removed makes room for what comes.
#[test]
fn memory_is_used_again() {
    let mut map: Deep<usize> = IntervalMap::default();
    for start in 0..scaled(500) {
        map.insert(start * 2..start * 2 + 1, start).unwrap();
    }
    for start in 0..scaled(500) {
        map.remove(start * 2).unwrap();
    }
    assert!(map.is_empty());
    let _failing = inject::fail_from(0);
    for start in 0..scaled(500) {
        map.insert(start * 2..start * 2 + 1, start).unwrap();
    }
    map.check();
}
