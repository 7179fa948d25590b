// SPDX-License-Identifier: MPL-2.0

//! How many nodes each operation looks at.

use super::{super::IntervalMap, Deep, scaled};

const PAGE: usize = 4096;

/// `count` entries of one page with gaps of one page, and one gap of `wide` pages before the last entry.
fn filled<const LEAF: usize, const FAN: usize>(count: usize, wide: usize) -> IntervalMap<usize, LEAF, FAN> {
    let mut map = IntervalMap::default();
    let stride = 7919; // prime, so each place is taken once and in no order
    for step in 0..count {
        let place = step * stride % count;
        let start = (place * 2 + if place + 1 == count { wide } else { 0 }) * PAGE;
        map.insert(start..start + PAGE, place).unwrap();
    }
    map
}

/// The most nodes that any operation visits in a map of `count` entries.
fn most_visits<const LEAF: usize, const FAN: usize>(count: usize) -> usize {
    let mut map = filled::<LEAF, FAN>(count, 8);
    let space = 0..(count * 2 + 8) * PAGE;
    let mut most = 0;
    map.tree.take_visits();
    for step in 0..scaled(400) {
        let start = (step * 104_729 % (count - 1)) * 2 * PAGE;
        let mut visit = |map: &mut IntervalMap<usize, LEAF, FAN>,
                         operation: &dyn Fn(&mut IntervalMap<usize, LEAF, FAN>)| {
            operation(map);
            most = most.max(map.tree.take_visits());
        };
        visit(&mut map, &|map| assert!(map.find(start).is_some()));
        visit(&mut map, &|map| assert!(map.find_mut(start + PAGE).is_none()));
        visit(&mut map, &|map| assert!(map.next(start + 1).is_some()));
        visit(&mut map, &|map| assert!(map.prev(start + PAGE).is_some()));
        visit(&mut map, &|map| assert!(map.range(start..start + 3 * PAGE).count() <= 2));
        visit(&mut map, &|map| assert!(map.range(start..start + 3 * PAGE).next_back().is_some()));
        visit(&mut map, &|map| map.set_range(start, start..start + PAGE / 2).unwrap());
        visit(&mut map, &|map| map.set_range(start, start..start + 2 * PAGE).unwrap());
        visit(&mut map, &|map| map.set_range(start, start..start + PAGE).unwrap());
        visit(&mut map, &|map| assert!(map.remove(start).is_some()));
        visit(&mut map, &|map| map.insert(start..start + PAGE, 0).unwrap());
        visit(&mut map, &|map| map.insert(start + PAGE..start + 2 * PAGE, 0).unwrap());
        visit(&mut map, &|map| assert!(map.remove(start + PAGE).is_some()));
        // The only gap that is wide enough is at the far end; or the limits keep it out of reach; or cut it.
        let wide = Some((count - 1) * 2 * PAGE - PAGE);
        let limits = start..space.end;
        visit(&mut map, &|map| assert_eq!(map.lowest_gap(9 * PAGE, PAGE, limits.clone()), wide));
        visit(&mut map, &|map| assert_eq!(map.highest_gap(9 * PAGE, PAGE, limits.clone()), wide));
        let limits = start + PAGE + 1..space.end - 9 * PAGE;
        visit(&mut map, &|map| {
            assert_eq!(
                map.lowest_gap(3 * PAGE, PAGE, limits.clone()),
                wide.filter(|addr| *addr + 3 * PAGE <= limits.end)
            )
        });
        let limits = start + PAGE + 1..space.end - 11 * PAGE;
        visit(&mut map, &|map| assert_eq!(map.highest_gap(2 * PAGE, PAGE, limits.clone()), None));
        visit(&mut map, &|map| {
            assert!(map.lowest_gap(PAGE, PAGE, limits.clone()).is_some() || limits.len() < 3 * PAGE)
        });
        // Limits that leave no room, with fitting gaps all around.
        let taken = start..start + PAGE;
        visit(&mut map, &|map| assert_eq!(map.lowest_gap(PAGE, PAGE, taken.clone()), None));
        visit(&mut map, &|map| assert_eq!(map.highest_gap(PAGE, PAGE, taken.clone()), None));
    }
    most
}

/// V7: the nodes visited grow as the logarithm of the number of entries: no more than 4 for each doubling with the
/// smallest nodes, and no more than 2 with the sizes in use.
#[test]
fn v7_visits_are_logarithmic() {
    let counts: &[usize] = if cfg!(miri) { &[64] } else { &[256, 1024, 4096, 16_384, 65_536, 262_144] };
    for count in counts {
        let log = count.ilog2() as usize;
        let deep = most_visits::<8, 16>(*count);
        let in_use = most_visits::<{ super::super::LEAF_SIZE }, { super::super::INNER_SIZE }>(*count);
        assert!(deep <= 4 * log, "{deep} visits at {count} entries");
        assert!(in_use <= 2 * log, "{in_use} visits at {count} entries");
    }
}

/// V7: with an alignment above a page a search tries each gap that might fit, and no other.
#[test]
fn v7_alignment_costs_only_misplaced_gaps() {
    const HUGE: usize = 512 * PAGE;
    let mut map: Deep<usize> = IntervalMap::default();
    // Gaps of just a huge page that start a page too late, then many small ones, then a gap that must fit.
    let mut end = 0;
    let mut add = |map: &mut Deep<usize>, gap: usize, size: usize| {
        map.insert(end + gap..end + gap + size, 0).unwrap();
        end += gap + size;
        end
    };
    add(&mut map, 0, PAGE);
    let misplaced = 10;
    for _ in 0..misplaced {
        add(&mut map, HUGE, HUGE);
    }
    for _ in 0..if cfg!(miri) { 50 } else { 20_000 } {
        add(&mut map, PAGE, PAGE);
    }
    let sure = add(&mut map, 0, PAGE);
    let top = add(&mut map, 2 * HUGE - PAGE, PAGE);
    map.check();
    map.tree.take_visits();
    let found = map.lowest_gap(HUGE, HUGE, 0..top).unwrap();
    assert!(found.is_multiple_of(HUGE) && (sure..sure + HUGE).contains(&found));
    let path = map.tree.height + 1;
    assert!(map.tree.take_visits() <= (misplaced + 2) * path);
    assert_eq!(map.highest_gap(HUGE, HUGE, 0..top), Some(found));
    assert!(map.tree.take_visits() <= 2 * path);
}
