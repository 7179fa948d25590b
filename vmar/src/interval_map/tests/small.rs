// SPDX-License-Identifier: MPL-2.0

//! All small cases, and the cases at the edges.

use alloc::{string::String, vec::Vec};

use super::{
    super::{InsertError, IntervalMap, SetRangeError},
    Deep, Naive, scaled,
};

/// Every arrangement of entries in a space of eight bytes, and every question about it.
#[test]
fn v7_all_small_cases() {
    const SPACE: usize = if cfg!(miri) { 4 } else { 8 };
    let step = if cfg!(miri) { 17 } else { 1 };
    // Each byte is free, starts an entry, or continues one.
    for code in (0..3usize.pow(SPACE as u32)).step_by(step) {
        let mut naive = Naive::default();
        let mut digits = code;
        for addr in 0..SPACE {
            match digits % 3 {
                1 => naive.0.push((addr..addr + 1, code)),
                2 => match naive.0.last_mut() {
                    Some((range, _)) if range.end == addr => range.end += 1,
                    _ => continue,
                },
                _ => {}
            }
            digits /= 3;
        }
        let mut map: IntervalMap<usize> = IntervalMap::new();
        for (range, value) in naive.0.iter().rev() {
            map.insert(range.clone(), *value).unwrap();
        }
        map.check();
        for addr in 0..=SPACE {
            let found = map.find(addr).map(|(range, _)| range);
            assert_eq!(
                found,
                naive.0.iter().map(|(range, _)| range.clone()).find(|range| range.contains(&addr))
            );
            for end in addr..=SPACE {
                for (size, align) in [(1, 1), (2, 1), (3, 1), (1, 4), (2, 2)] {
                    let limits = addr..end;
                    let lowest = naive.lowest_gap(size, align, limits.clone());
                    assert_eq!(map.lowest_gap(size, align, limits.clone()), lowest);
                    let highest = naive.highest_gap(size, align, limits.clone());
                    assert_eq!(map.highest_gap(size, align, limits), highest);
                }
            }
        }
    }
}

#[test]
fn refusals_give_the_value_back() {
    let mut map: Deep<String> = IntervalMap::default();
    map.insert(10..20, "first".into()).unwrap();
    for range in [10..20, 19..20, 0..11, 0..100, 12..13] {
        let refused = map.insert(range, "second".into());
        assert!(matches!(&refused, Err(InsertError::Overlaps(value)) if value == "second"));
    }
    for start in [0, 5, 15, usize::MAX] {
        let refused = map.insert(start..start, "third".into());
        assert!(matches!(&refused, Err(InsertError::Empty(value)) if value == "third"));
    }
    assert_eq!(map.entries(), [(10..20, "first".into())]);
}

#[test]
fn touching_entries_stay_apart() {
    let mut map: Deep<u8> = IntervalMap::default();
    for start in [20, 0, 10] {
        map.insert(start..start + 10, 1).unwrap();
    }
    assert_eq!((map.len(), map.total_size()), (3, 30));
    assert_eq!(map.lowest_gap(1, 1, 0..30), None);
    assert_eq!(map.highest_gap(1, 1, 0..31), Some(30));
}

#[test]
fn the_ends_of_the_space_are_addresses_like_others() {
    let top = usize::MAX;
    let mut map: Deep<u8> = IntervalMap::default();
    map.insert(top - 1..top, 1).unwrap();
    map.insert(0..1, 2).unwrap();
    assert_eq!(map.find(top - 1).unwrap().0, top - 1..top);
    assert_eq!(map.find(top), None);
    assert_eq!(map.next(top), None);
    assert_eq!(map.prev(top).unwrap().0, top - 1..top);
    assert_eq!(map.prev(0), None);
    assert_eq!(map.remove(top), None);
    assert_eq!(map.iter().count(), 2);

    assert_eq!(map.lowest_gap(top, 1, 0..top), None);
    assert_eq!(map.lowest_gap(top - 2, 1, 0..top), Some(1));
    assert_eq!(map.highest_gap(top - 2, 1, 0..top), Some(1));
    assert_eq!(map.highest_gap(1, 1, 0..top), Some(top - 2));
    assert_eq!(map.lowest_gap(1, 1 << 63, 1..top), Some(1 << 63));
    assert_eq!(map.lowest_gap(1, 1 << 63, (1 << 63) + 1..top), None);
    assert_eq!(map.highest_gap(1, 1 << 63, 0..top), Some(1 << 63));
    assert_eq!(map.highest_gap(1, 1 << 63, 0..1 << 63), None);
    assert_eq!(map.lowest_gap(1, 1, top..top), None);
}

#[test]
fn senseless_searches_find_nothing() {
    let map: Deep<u8> = IntervalMap::default();
    let backwards = core::ops::Range { start: 10, end: 5 };
    assert_eq!(map.lowest_gap(0, 1, 0..10), None);
    assert_eq!(map.highest_gap(0, 1, 0..10), None);
    assert_eq!(map.lowest_gap(1, 0, 0..10), None);
    assert_eq!(map.lowest_gap(1, 3, 0..10), None);
    assert_eq!(map.lowest_gap(1, 1, backwards.clone()), None);
    assert_eq!(map.highest_gap(11, 1, 0..10), None);
    assert_eq!(map.range(backwards).count(), 0);
}

#[test]
fn an_entry_moves_only_between_its_neighbours() {
    let mut map: Deep<u8> = IntervalMap::default();
    for start in [0, 100, 200] {
        map.insert(start..start + 10, 0).unwrap();
    }
    assert_eq!(map.set_range(100, 9..20), Err(SetRangeError::Overlaps));
    assert_eq!(map.set_range(100, 150..201), Err(SetRangeError::Overlaps));
    assert_eq!(map.set_range(100, 300..310), Err(SetRangeError::Overlaps));
    assert_eq!(map.set_range(100, 150..150), Err(SetRangeError::Empty));
    assert_eq!(map.set_range(101, 150..160), Err(SetRangeError::NoEntry));
    assert_eq!(map.set_range(100, 10..200), Ok(()));
    assert_eq!(map.lowest_gap(1, 1, 0..210), None);
    assert_eq!(map.set_range(10, 150..160), Ok(()));
    assert_eq!(map.total_size(), 30);
    assert_eq!(map.lowest_gap(140, 1, 0..210), Some(10));
    map.check();
}

#[test]
fn entries_leave_by_value_in_order() {
    let mut map: Deep<String> = IntervalMap::default();
    for start in (0..100).rev() {
        map.insert(start * 3..start * 3 + 2, alloc::format!("{start}")).unwrap();
    }
    let mut entries = map.into_iter();
    assert_eq!(entries.len(), 100);
    assert_eq!(entries.next(), Some((0..2, "0".into())));
    let rest: Vec<_> = entries.map(|(range, _)| range.start / 3).collect();
    assert!(rest.into_iter().eq(1..100));
    assert_eq!(Deep::<u8>::default().into_iter().next(), None);
}

#[test]
fn values_are_dropped_once() {
    use alloc::rc::Rc;

    let value = Rc::new(());
    let mut map: Deep<Rc<()>> = IntervalMap::default();
    for start in 0..50 {
        map.insert(start..start + 1, value.clone()).unwrap();
    }
    for start in 0..10 {
        drop(map.remove(start));
    }
    assert_eq!(Rc::strong_count(&value), 41);
    map.clear();
    assert_eq!(Rc::strong_count(&value), 1);
    for start in 0..50 {
        map.insert(start..start + 1, value.clone()).unwrap();
    }
    let mut entries = map.into_iter();
    entries.nth(4);
    drop(entries);
    assert_eq!(Rc::strong_count(&value), 1);
}

/// Runs of mappings are what programs make: they must not leave the leaves half empty.
#[test]
fn runs_fill_their_leaves() {
    let mut upwards: IntervalMap<u8> = IntervalMap::new();
    let mut downwards: IntervalMap<u8> = IntervalMap::new();
    let entries = scaled(10_000);
    for start in 0..entries {
        upwards.insert(start * 2..start * 2 + 1, 0).unwrap();
        downwards.insert(100_000 - start * 2..100_001 - start * 2, 0).unwrap();
    }
    for map in [upwards, downwards] {
        map.check();
        let (leaves, inners) = map.tree.nodes();
        assert!(leaves <= entries / 45 && inners <= 1 + leaves / 15, "{leaves} {inners}");
    }
}
