// SPDX-License-Identifier: MPL-2.0

use alloc::{sync::Arc, vec::Vec};

use super::*;
use crate::{
    mapping::Mappable,
    placement::Constraint,
    sim::{PAGE_SIZE, Process},
    vmar::testing::{R, at, map, pages, process},
};

/// The test's pages that anything may be placed in.
const PAGES: usize = 40;

#[derive(Debug)]
struct Picky(Constraint);

impl Mappable for Picky {
    fn constraint(&self) -> Constraint {
        self.0.clone()
    }
}

fn map_picky(
    process: &Process,
    constraint: &Constraint,
    count: usize,
    placement: Placement,
) -> Result<usize, Error> {
    let map = process.vmar.new_map(count * PAGE_SIZE).perms(R).mappable(Arc::new(Picky(constraint.clone())));
    map.placement(placement).build()
}

/// Looks at every page: the highest start below the window's base, else the lowest from its bottom on.
fn naive(used: &[bool], window: Window, constraint: &Constraint, count: usize) -> Option<usize> {
    let fits = |page: usize, low: usize, high: usize| {
        let range = pages(page..page + count);
        range.start.is_multiple_of(constraint.align)
            && range.start >= low.max(constraint.within.start)
            && range.end <= high.min(constraint.within.end)
            && used[page..page + count].iter().all(|used| !used)
    };
    let mut starts = 0..=PAGES - count;
    let top_down = starts.clone().rev().find(|page| fits(*page, window.floor, window.base));
    top_down.or_else(|| starts.find(|page| fits(*page, window.bottom, window.ceiling)))
}

#[test]
fn r11_an_object_limits_where_it_is_placed() {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut found, mut refused) = (0, 0);
    for _ in 0..if cfg!(miri) { 5 } else { 500 } {
        let process = process();
        let window = Window { floor: at(4), base: at(30), bottom: at(24), ceiling: at(PAGES) };
        process.vmar.set_window(window);
        let mut used = [false; PAGES];
        for _ in 0..random(12) {
            let page = random(PAGES - 3);
            map(&process, page..page + 3, R);
            used[page..page + 3].fill(true);
        }
        let low = random(PAGES);
        let within = at(low)..at(low + random(PAGES));
        let constraint = Constraint { align: PAGE_SIZE << random(4), within };
        let count = 1 + random(5);
        let expected = naive(&used, window, &constraint, count).map(at).ok_or(Error::NoRoom);
        assert_eq!(map_picky(&process, &constraint, count, Placement::Anywhere), expected);
        *if expected.is_ok() { &mut found } else { &mut refused } += 1;
        process.audit();
    }
    assert!(cfg!(miri) || found > 100 && refused > 50, "{found} found, {refused} refused");
}

#[test]
fn r11_addresses_that_were_insisted_on_must_suit_the_object() {
    let process = process();
    let constraint = Constraint { align: 4 * PAGE_SIZE, within: pages(8..32) };
    let outcomes: Vec<_> = [
        Placement::Exactly(at(8)),
        Placement::Exactly(at(13)),
        Placement::Exactly(at(4)),
        Placement::Replacing(at(8)),
        Placement::Replacing(at(31)),
        Placement::Replacing(at(28)),
        Placement::Below(at(8)),
    ]
    .map(|placement| map_picky(&process, &constraint, 5, placement))
    .into();
    let expected = [
        Ok(at(8)),
        Err(Error::InvalidAlignment),
        Err(Error::OutOfRange),
        Ok(at(8)),
        Err(Error::InvalidAlignment),
        Err(Error::OutOfRange),
        Err(Error::NoRoom),
    ];
    assert_eq!(outcomes, expected);
    let hinted = map_picky(&process, &constraint, 1, Placement::Hint(at(13))).unwrap();
    assert!(hinted.is_multiple_of(constraint.align) && constraint.within.contains(&hinted));
    process.audit();
}
