// SPDX-License-Identifier: MPL-2.0

//! Random operations against the naive model.

use alloc::vec::Vec;
use core::ops::Range;

use proptest::prelude::*;

use super::{super::IntervalMap, Deep, Naive, scaled};

/// A small space makes collisions frequent; the offset puts it where it matters.
const SPACE: usize = 4096;
/// The distance between addresses asked about.
const PROBE: usize = if cfg!(miri) { 1201 } else { 37 };

#[derive(Clone, Debug)]
enum Op {
    Insert(Range<usize>),
    /// Inserts where a gap search says, as `mmap` does.
    Place {
        size: usize,
        high: bool,
    },
    /// Removes the entry at or above an address.
    Remove(usize),
    /// Removes everything that overlaps.
    Clear(Range<usize>),
    /// Moves the ends of the entry at or above an address.
    Resize {
        addr: usize,
        start: isize,
        end: isize,
    },
    /// Changes the values of a range.
    Change(Range<usize>),
}

fn range() -> impl Strategy<Value = Range<usize>> {
    (0..SPACE, 0usize..12).prop_map(|(start, len)| start..(start + len).min(SPACE))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => range().prop_map(Op::Insert),
        4 => (1usize..6, any::<bool>()).prop_map(|(size, high)| Op::Place { size, high }),
        5 => (0..SPACE).prop_map(Op::Remove),
        1 => (0..SPACE, 0usize..400).prop_map(|(start, len)| Op::Clear(start..start + len)),
        2 => (0..SPACE, -6isize..6, -6isize..6).prop_map(|(addr, start, end)| Op::Resize { addr, start, end }),
        1 => range().prop_map(Op::Change),
    ]
}

fn run<const LEAF: usize, const FAN: usize>(offset: usize, ops: &[Op]) {
    let mut map: IntervalMap<usize, LEAF, FAN> = IntervalMap::default();
    let mut naive = Naive::default();
    let space = offset..offset + SPACE;
    let shifted = |range: &Range<usize>| range.start + offset..range.end.saturating_add(offset);
    for (step, op) in ops.iter().enumerate() {
        match op {
            Op::Insert(range) => {
                let range = shifted(range);
                let done = map.insert(range.clone(), step).map_err(|error| error.into_value());
                assert_eq!(done, if naive.insert(range, step) { Ok(()) } else { Err(step) });
            }
            Op::Place { size, high } => {
                let (found, expected) = if *high {
                    (map.highest_gap(*size, 1, space.clone()), naive.highest_gap(*size, 1, space.clone()))
                } else {
                    (map.lowest_gap(*size, 1, space.clone()), naive.lowest_gap(*size, 1, space.clone()))
                };
                assert_eq!(found, expected);
                if let Some(addr) = found {
                    map.insert(addr..addr + size, step).unwrap();
                    assert!(naive.insert(addr..addr + size, step));
                }
            }
            Op::Remove(addr) => {
                let addr = addr + offset;
                let start = map.next(addr).map_or(addr, |(range, _)| range.start);
                assert_eq!(map.remove(start), naive.remove(start));
                assert_eq!(map.remove(start), None);
            }
            Op::Clear(range) => {
                let range = shifted(range);
                for (entry, value) in naive.overlapping(&range) {
                    naive.remove(entry.start);
                    assert_eq!(map.remove(entry.start), Some((entry, value)));
                }
                assert!(map.range(range).next().is_none());
            }
            Op::Resize { addr, start, end } => {
                let Some((entry, _)) = map.next(addr + offset) else { continue };
                let new = entry.start.saturating_add_signed(*start)..entry.end.saturating_add_signed(*end);
                let done = map.set_range(entry.start, new.clone()).is_ok();
                assert_eq!(done, naive.set_range(entry.start, new));
            }
            Op::Change(range) => {
                let range = shifted(range);
                let mut seen = Vec::new();
                map.for_each_mut(range.clone(), |entry, value| {
                    seen.push((entry, *value));
                    *value += 1;
                });
                assert_eq!(seen, naive.overlapping(&range));
                for (entry, value) in &mut naive.0 {
                    if seen.iter().any(|(other, _)| other == entry) {
                        *value += 1;
                    }
                }
            }
        }
        assert_eq!(map.len(), naive.0.len());
    }
    map.check();
    compare(&map, &naive, &space);
}

/// Asks both the same questions at many addresses.
fn compare<const LEAF: usize, const FAN: usize>(
    map: &IntervalMap<usize, LEAF, FAN>,
    naive: &Naive<usize>,
    space: &Range<usize>,
) {
    let owned = |found: Option<(Range<usize>, &usize)>| found.map(|(range, value)| (range, *value));
    let entries = &naive.0;
    assert_eq!(&map.entries(), entries);
    assert_eq!(owned(map.first()).as_ref(), entries.first());
    assert_eq!(owned(map.last()).as_ref(), entries.last());
    let backwards: Vec<_> = map.iter().rev().map(|(range, value)| (range, *value)).collect();
    assert!(backwards.iter().rev().eq(entries));

    let probes = [0, 1, usize::MAX - 1, usize::MAX, space.start, space.end];
    for addr in probes.into_iter().chain(space.clone().step_by(PROBE)) {
        let within = entries.iter().find(|(range, _)| range.contains(&addr));
        assert_eq!(owned(map.find(addr)).as_ref(), within);
        assert_eq!(owned(map.next(addr)).as_ref(), entries.iter().find(|(range, _)| range.start >= addr));
        assert_eq!(owned(map.prev(addr)).as_ref(), entries.iter().rfind(|(range, _)| range.end <= addr));
        for len in [0, 1, 50] {
            let range = addr..addr.saturating_add(len);
            let found: Vec<_> = map.range(range.clone()).map(|(range, value)| (range, *value)).collect();
            assert_eq!(found, naive.overlapping(&range));
            assert!(range.is_empty() || map.overlaps(&range) != found.is_empty());
            let mut back: Vec<_> = map.range(range).rev().map(|(range, value)| (range, *value)).collect();
            back.reverse();
            assert_eq!(back, found);
        }
    }
    for (at, (range, _)) in entries.iter().enumerate() {
        let free = range.end..entries.get(at + 1).map_or(usize::MAX, |(next, _)| next.start);
        let near = |range: &Range<usize>| {
            let ends = entries.iter().find(|(entry, _)| entry.end == range.start);
            [ends, entries.iter().find(|(entry, _)| entry.start == range.end)].map(|found| found.cloned())
        };
        let (value, beside) = map.with_neighbours(range.start).unwrap();
        assert_eq!((*value, beside.map(owned)), (entries[at].1, near(range)));
        assert!(map.with_neighbours(range.start + 1).is_none() || range.len() == 1);
        for range in [free.clone(), free.start..free.start + free.len() / 2] {
            if !range.is_empty() {
                assert_eq!(map.beside(&range).map(owned), near(&range));
            }
        }
    }
    for (size, align) in [(1, 1), (2, 1), (7, 1), (3, 4), (4, 4), (5, 8), (9, 16), (40, 64), (SPACE, 1)] {
        for start in space.clone().step_by(PROBE * 13) {
            for len in [0, 3, 64, 1000, SPACE] {
                let limits = start..start.saturating_add(len);
                let found = map.lowest_gap(size, align, limits.clone());
                assert_eq!(found, naive.lowest_gap(size, align, limits.clone()));
                let found = map.highest_gap(size, align, limits.clone());
                assert_eq!(found, naive.highest_gap(size, align, limits.clone()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 96 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// V7: every operation does what the naive model does, at the bottom and the top of the space.
    #[test]
    fn v7_model(
        ops in proptest::collection::vec(op(), 1..scaled(900)),
        top in any::<bool>(),
    ) {
        let offset = if top { usize::MAX - SPACE } else { 0 };
        run::<8, 16>(offset, &ops);
    }

    /// V7: the same with the node sizes in use.
    #[test]
    fn v7_model_in_use(ops in proptest::collection::vec(op(), 1..scaled(1500))) {
        run::<{ super::super::LEAF_SIZE }, { super::super::INNER_SIZE }>(0x1000, &ops);
    }

    /// Taking from both ends in turn yields each entry once.
    #[test]
    fn an_iterator_meets_itself(
        starts in proptest::collection::btree_set(0usize..200, 0..60),
        turns in proptest::collection::vec(any::<bool>(), 70),
        from in 0usize..400,
        len in 0usize..400,
    ) {
        let mut map = Deep::default();
        let mut naive = Naive::default();
        for start in starts {
            map.insert(start * 2..start * 2 + 1, start).unwrap();
            naive.insert(start * 2..start * 2 + 1, start);
        }
        let mut entries = map.range(from..from + len);
        let (mut front, mut back) = (Vec::new(), Vec::new());
        for turn in turns {
            match turn {
                true => front.extend(entries.next()),
                false => back.extend(entries.next_back()),
            }
        }
        let left: Vec<_> = entries.collect();
        let found = front.into_iter().chain(left).chain(back.into_iter().rev());
        let found: Vec<_> = found.map(|(range, value)| (range, *value)).collect();
        prop_assert_eq!(found, naive.overlapping(&(from..from + len)));
    }
}

/// V7: thousands of entries come and go, so that inner nodes split, share, merge and vanish.
#[test]
fn v7_model_large() {
    let mut map: Deep<usize> = IntervalMap::default();
    let mut naive = Naive::default();
    let mut state = 1u64;
    let mut random = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let rounds = if cfg!(miri) { 100 } else { 30_000 };
    let mut tallest = 0;
    for round in 0..rounds {
        // Growing, then steady, then shrinking to nothing.
        let growing = random(rounds) > round;
        if growing {
            let start = random(1 << 16) * 4;
            let range = start..start + 1 + random(4);
            assert_eq!(map.insert(range.clone(), round).is_ok(), naive.insert(range, round));
        } else if !naive.0.is_empty() {
            let start = naive.0[random(naive.0.len())].0.start;
            assert_eq!(map.remove(start), naive.remove(start));
        }
        tallest = tallest.max(map.tree.height);
        if round % 1000 == 999 {
            map.check();
            assert_eq!(map.entries(), naive.0);
        }
    }
    while let Some((range, value)) = naive.0.pop() {
        assert_eq!(map.remove(range.start), Some((range, value)));
    }
    map.check();
    assert!(map.is_empty());
    assert!(tallest >= if cfg!(miri) { 1 } else { 3 }, "{tallest}");
}
