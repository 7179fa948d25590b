// SPDX-License-Identifier: MPL-2.0

//! The interval map beside a `BTreeMap` of starts: what is found, the neighbours and the gaps are the same.

#![no_main]

use std::{collections::BTreeMap, ops::Range};

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use vmar::{fallible::inject, interval_map::IntervalMap};

/// Addresses are small, so that ranges meet.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Operation {
    Insert {
        start: u16,
        size: u8,
    },
    /// With one of its allocations failing.
    InsertShort {
        start: u16,
        size: u8,
        nth: u8,
    },
    /// Where there is a gap.
    Place {
        size: u8,
        align: u8,
        is_high: bool,
    },
    RemoveNext(u16),
    Resize {
        addr: u16,
        start: i8,
        end: i8,
    },
    Clear,
    Ask(u16),
}

/// Ends and values by start.
#[derive(Default)]
struct Naive(BTreeMap<usize, (usize, usize)>);

impl Naive {
    fn overlapping(&self, range: &Range<usize>) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .filter(|(start, (end, _))| **start < range.end && range.start < *end)
            .map(|(start, _)| *start)
    }

    fn is_free(&self, range: &Range<usize>) -> bool {
        self.overlapping(range).next().is_none()
    }

    fn next(&self, addr: usize) -> Option<(Range<usize>, usize)> {
        let found = self.0.range(addr..).next();
        found.map(|(start, (end, value))| (*start..*end, *value))
    }

    fn prev(&self, addr: usize) -> Option<(Range<usize>, usize)> {
        let found = self.0.iter().rev().find(|(_, (end, _))| *end <= addr);
        found.map(|(start, (end, value))| (*start..*end, *value))
    }

    fn at_or_below(&self, addr: usize) -> Option<(Range<usize>, usize)> {
        let found = self.0.range(..=addr).next_back();
        found.map(|(start, (end, value))| (*start..*end, *value))
    }

    /// The places that a gap can start at, ascending.
    fn gaps(&self, size: usize, align: usize) -> Vec<usize> {
        let places = (0..LIMITS.end.saturating_sub(size) + 1).step_by(align);
        places.filter(|at| self.is_free(&(*at..at + size))).collect()
    }
}

/// Within which gaps are looked for.
const LIMITS: Range<usize> = 0..2048;

fuzz_target!(|operations: Vec<Operation>| {
    let mut map: IntervalMap<usize> = IntervalMap::default();
    let mut naive = Naive::default();
    for (number, operation) in operations.into_iter().enumerate() {
        step(&mut map, &mut naive, number, operation);
        assert_eq!(map.len(), naive.0.len());
        assert_eq!(map.total_size(), naive.0.iter().map(|(start, (end, _))| end - start).sum());
    }
    let all = map.iter().map(|(range, value)| (range.start, (range.end, *value)));
    assert!(all.eq(naive.0));
});

fn step(map: &mut IntervalMap<usize>, naive: &mut Naive, number: usize, operation: Operation) {
    let place = |start: u16, size: u8| {
        let start = usize::from(start) % LIMITS.end;
        start..start + usize::from(size % 32)
    };
    match operation {
        Operation::Insert { start, size } => {
            let range = place(start, size);
            let fits = !range.is_empty() && naive.is_free(&range);
            assert_eq!(map.insert(range.clone(), number).is_ok(), fits, "{range:?}");
            if fits {
                naive.0.insert(range.start, (range.end, number));
            }
        }
        Operation::InsertShort { start, size, nth } => {
            let range = place(start, size);
            let fits = !range.is_empty() && naive.is_free(&range);
            let failing = inject::fail_nth(usize::from(nth % 8));
            let is_done = map.insert(range.clone(), number).is_ok();
            assert!(is_done == fits || !is_done && failing.has_failed(), "{range:?}");
            if is_done {
                naive.0.insert(range.start, (range.end, number));
            }
        }
        Operation::Place { size, align, is_high } => {
            let (size, align) = (1 + usize::from(size % 64), 1 << (align % 7));
            let gaps = naive.gaps(size, align);
            let (found, expected) = if is_high {
                (map.highest_gap(size, align, LIMITS), gaps.last().copied())
            } else {
                (map.lowest_gap(size, align, LIMITS), gaps.first().copied())
            };
            assert_eq!(found, expected, "{size} bytes at multiples of {align}");
            if let Some(at) = found {
                assert!(map.insert(at..at + size, number).is_ok());
                naive.0.insert(at, (at + size, number));
            }
        }
        Operation::RemoveNext(addr) => {
            let next = naive.next(usize::from(addr));
            assert_eq!(map.next(usize::from(addr)).map(|(range, value)| (range, *value)), next);
            if let Some((range, value)) = next {
                naive.0.remove(&range.start);
                assert_eq!(map.remove(range.start), Some((range, value)));
            }
        }
        Operation::Resize { addr, start, end } => {
            let Some((old, value)) = naive.next(usize::from(addr)) else { return };
            let moved = |at: usize, by: i8| at.saturating_add_signed(isize::from(by % 16));
            let new = moved(old.start, start)..moved(old.end, end);
            let below = naive.prev(old.start).map_or(0, |(range, _)| range.end);
            let above = naive.next(old.end).map_or(usize::MAX, |(range, _)| range.start);
            let fits = !new.is_empty() && below <= new.start && new.end <= above;
            assert_eq!(map.set_range(old.start, new.clone()).is_ok(), fits, "{old:?} becomes {new:?}");
            if fits {
                naive.0.remove(&old.start);
                naive.0.insert(new.start, (new.end, value));
            }
        }
        Operation::Clear => {
            map.clear();
            naive.0.clear();
        }
        Operation::Ask(addr) => {
            let addr = usize::from(addr) % LIMITS.end;
            let of = |found: Option<(Range<usize>, &usize)>| found.map(|(range, value)| (range, *value));
            assert_eq!(of(map.next(addr)), naive.next(addr), "from {addr} on");
            assert_eq!(of(map.prev(addr)), naive.prev(addr), "before {addr}");
            let here = naive.at_or_below(addr).filter(|(range, _)| range.contains(&addr));
            assert_eq!(of(map.find(addr)), here, "at {addr}");
        }
    }
}
