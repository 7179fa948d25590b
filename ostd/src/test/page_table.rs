// SPDX-License-Identifier: MPL-2.0

//! What is noted beside a page table agrees with it, and a page table that is used again has nothing of its former program.

use alloc::{collections::BTreeSet, vec::Vec};
use core::ops::Range;

use super::*;
use crate::{
    present::{NODE_SPAN, Present},
    spare,
};

/// A small generator of numbers (Knuth's MMIX).
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

/// The runs that the pages of `set` form within `range`.
fn runs(set: &BTreeSet<usize>, range: Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &addr in set.range(range) {
        match runs.last_mut() {
            Some(last) if last.end == addr => last.end += PAGE_SIZE,
            _ => runs.push(addr..addr + PAGE_SIZE),
        }
    }
    runs
}

#[ktest]
fn bits_tell_what_is_there() {
    // Pages around the borders of areas that are next to each other, and of one far away.
    const FAR: usize = 0x7fff_0000_0000;
    let page = |number: usize| match number % 4 {
        0 => FAR + number % 48 * PAGE_SIZE,
        area => area * NODE_SPAN + (number % 96) * PAGE_SIZE - 48 * PAGE_SIZE,
    };
    let (present, mut set, mut state) = (alloc::boxed::Box::new(Present::new()), BTreeSet::new(), 1);
    for _ in 0..2000 {
        let start = page(next(&mut state));
        match next(&mut state) % 3 {
            0 => {
                let range = start..start + next(&mut state) % 80 * PAGE_SIZE;
                present.clear(&range);
                set.retain(|addr| !range.contains(addr));
            }
            1 => {
                let range = start..start + next(&mut state) % 80 * PAGE_SIZE;
                present.set_all(&range);
                set.extend(range.step_by(PAGE_SIZE));
            }
            _ => {
                present.set(start);
                set.insert(start);
            }
        }
        let addr = page(next(&mut state));
        assert_eq!(present.is_clear(addr), !set.contains(&addr));
        let all = addr..addr + next(&mut state) % 2 * (FAR - addr % FAR) + 64 * PAGE_SIZE;
        let (mut at, mut found) = (all.start, Vec::new());
        while let Some(run) = present.first_run(&(at..all.end)) {
            at = run.end;
            found.push(run);
        }
        assert_eq!(found, runs(&set, all));
        assert!(set.iter().all(|addr| present.parts().any(|part| part.contains(addr))));
    }
    assert!(!present.has_given_up());
}

#[ktest]
fn bits_that_lose_track_deny_nothing() {
    let present = alloc::boxed::Box::new(Present::new());
    for area in 0..1000 {
        present.set(area * NODE_SPAN);
    }
    assert!(present.has_given_up());
    assert!(!present.is_clear(999 * NODE_SPAN));
    let range = ADDR..ADDR + NODE_SPAN;
    assert_eq!(present.first_run(&range), Some(range));
}

#[ktest]
fn pages_are_found_when_the_bits_are_lost() {
    const AREAS: usize = 200;
    let space = Ostd.new_space().unwrap();
    let frame = Ostd.alloc().unwrap().zeroed();
    for area in 0..AREAS {
        let at = ADDR + area * NODE_SPAN;
        space.transact(at..at + PAGE_SIZE, 1, |cursor| cursor.map(frame.clone(), READ_WRITE)).unwrap();
    }
    let all = ADDR..ADDR + AREAS * NODE_SPAN;
    let mut found = 0;
    let counted = |cursor: &mut crate::OstdCursor| {
        while let Some(addr) = cursor.next_mapped(all.end) {
            assert_eq!(addr, ADDR + found * NODE_SPAN);
            found += 1;
            cursor.seek(addr + PAGE_SIZE);
        }
    };
    space.transact(all.clone(), 0, counted).unwrap();
    assert_eq!(found, AREAS);
    assert_eq!(space.transact(all.clone(), 0, |cursor| cursor.unmap(all.end)), Ok(AREAS));
}

#[ktest]
fn a_run_of_fewer_pages_than_announced_ends_where_they_end() {
    let space = Ostd.new_space().unwrap();
    let frame = Ostd.alloc().unwrap().zeroed();
    // Over the border of two areas.
    let start = ADDR - ADDR % NODE_SPAN + NODE_SPAN - 2 * PAGE_SIZE;
    let all = start..start + 8 * PAGE_SIZE;
    let position = space.transact(all.clone(), 8, |cursor| {
        cursor.map_run(8, core::iter::repeat_n((frame.clone(), READ_WRITE), 5));
        cursor.position()
    });
    assert_eq!(position, Ok(start + 5 * PAGE_SIZE));
    let runs = space.transact(all.clone(), 0, |cursor| {
        cursor.seek(start);
        (cursor.next_run(all.end), cursor.unmap(all.end))
    });
    assert_eq!(runs, Ok((Some(start..start + 5 * PAGE_SIZE), 5)));
}

#[ktest]
fn what_is_used_again_is_empty() {
    spare::drop_all();
    let mut first = Ostd.new_space().unwrap();
    let frame = Ostd.alloc().unwrap().zeroed();
    let places = [ADDR, ADDR + 3 * PAGE_SIZE, ADDR + 5 * NODE_SPAN, MAX_USERSPACE_VADDR - PAGE_SIZE];
    for at in places {
        first.transact(at..at + PAGE_SIZE, 1, |cursor| cursor.map(frame.clone(), READ_WRITE)).unwrap();
    }
    first.activate();
    assert_eq!(read_as_program(&first, ADDR), Some(0));
    let page_table = first.vm_space().clone();
    first.retire(places.len());
    drop(first);
    let second = Ostd.new_space().unwrap();
    assert!(alloc::sync::Arc::ptr_eq(second.vm_space(), &page_table), "the page table was not used again");
    second.activate();
    for at in places {
        assert_eq!(read_as_program(&second, at), None);
        let is_empty = |cursor: &mut crate::OstdCursor| matches!(cursor.query(), Entry::Empty);
        assert!(second.transact(at..at + PAGE_SIZE, 0, is_empty).unwrap());
    }
    Ostd.new_space().unwrap().activate();
}

#[ktest]
fn large_spaces_and_spares_are_dropped() {
    spare::drop_all();
    let mut large = space_with_page(1);
    let page_table = large.vm_space().clone();
    large.retire(spare::MOST_PAGES + 1);
    drop(large);
    assert!(!alloc::sync::Arc::ptr_eq(Ostd.new_space().unwrap().vm_space(), &page_table));

    let mut small = space_with_page(1);
    let page_table = small.vm_space().clone();
    small.retire(1);
    drop(small);
    spare::drop_all();
    assert!(!alloc::sync::Arc::ptr_eq(Ostd.new_space().unwrap().vm_space(), &page_table));
}

#[ktest]
fn a_spare_is_lent_by_nobody_even_before_who_had_it_is_dropped() {
    spare::drop_all();
    let forking = Ostd.new_space().unwrap();
    let mut ending = Ostd.new_space().unwrap();
    let page_table = ending.vm_space().clone();
    ending.retire(0);
    let detached = forking.detach().unwrap();
    assert!(alloc::sync::Arc::ptr_eq(forking.vm_space(), &page_table), "the page table was not used again");
    assert!(!alloc::sync::Arc::ptr_eq(detached.vm_space(), &page_table));
    drop(ending);
    forking.attach(detached);
    // The other one is free again.
    drop(forking.detach().unwrap());
}
