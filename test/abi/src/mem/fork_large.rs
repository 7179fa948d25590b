// SPDX-License-Identifier: MPL-2.0

//! fork(2) of spaces with many resident pages: what both sides see, what the kernel tells of it, and what is left when one of
//! the two ends.

use libc::{MADV_DONTNEED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ};

use super::{PAGE, RW, free_range, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    procfs::{smaps_kib, status_kib},
    sys,
};

pub const CASES: &[Case] = cases!["mem/fork_large":
    child_is_as_resident_as_its_parent,
    proportional_share_is_half,
    what_a_child_wrote_is_its_own_alone,
    mincore_is_inherited,
    both_write_everything,
    a_second_child_while_the_first_lives,
    a_grandchild_outlives_the_child,
    eight_generations,
    a_child_outlives_its_parent,
    discarded_in_the_child_stays_in_the_parent,
    unmapped_and_mapped_again_is_empty,
    moved_in_the_child,
    protected_while_the_child_lives,
    a_thousand_forks_with_writes_on_both_sides,
];

/// Pages enough that a copy of each at the time of the fork would be felt.
const PAGES: usize = 500;

/// A range of so many pages, page `i` of which holds `i % 251`.
fn numbered() -> usize {
    let at = lone_anon(PAGES);
    (0..PAGES).for_each(|page| poke(at + page * PAGE, (page % 251) as u8));
    at
}

fn check_numbered(at: usize) {
    check!((0..PAGES).all(|page| peek(at + page * PAGE) == (page % 251) as u8));
}

fn about(value: usize, expected: usize) -> bool {
    value.abs_diff(expected) <= 600
}

fn child_is_as_resident_as_its_parent() {
    let at = numbered();
    let before = status_kib("RssAnon");
    in_child(|| {
        let own = status_kib("RssAnon");
        check!(about(own, before), "{own} KiB, the parent has {before} KiB");
        (0..PAGES / 2).for_each(|page| poke(at + page * PAGE, 1));
        let own = status_kib("RssAnon");
        check!(about(own, before), "{own} KiB, the parent has {before} KiB");
        ok!(sys::munmap(at, PAGES / 2 * PAGE));
        let (own, left) = (status_kib("RssAnon"), before - PAGES / 2 * 4);
        check!(about(own, left), "{own} KiB, not {left} KiB");
    });
    let after = status_kib("RssAnon");
    check!(about(after, before), "{after} KiB, before it {before} KiB");
}

fn proportional_share_is_half() {
    let at = numbered();
    check_eq!(smaps_kib(at, "Pss"), PAGES * 4);
    in_child(|| {
        check_eq!(smaps_kib(at, "Rss"), PAGES * 4);
        check_eq!(smaps_kib(at, "Pss"), PAGES * 2);
        check_eq!(smaps_kib(at, "Private_Dirty"), 0);
    });
    check_eq!(smaps_kib(at, "Pss"), PAGES * 4);
}

fn what_a_child_wrote_is_its_own_alone() {
    let at = numbered();
    in_child(|| {
        (0..100).for_each(|page| poke(at + page * PAGE, 1));
        check_eq!(smaps_kib(at, "Rss"), PAGES * 4);
        // A kernel may copy a few pages ahead of somebody who writes one after the other.
        let own = smaps_kib(at, "Private_Dirty");
        check!((400..=428).contains(&own), "{own} KiB for 100 pages");
        check_eq!(smaps_kib(at, "Shared_Dirty"), PAGES * 4 - own);
    });
    check_eq!(smaps_kib(at, "Private_Dirty"), PAGES * 4);
}

fn mincore_is_inherited() {
    let at = lone_anon(PAGES);
    (0..PAGES).step_by(3).for_each(|page| poke(at + page * PAGE, 1));
    let resident = |pages: Vec<u8>| pages.iter().map(|page| page & 1).collect::<Vec<_>>();
    let expected = resident(ok!(sys::mincore(at, PAGES * PAGE)));
    in_child(|| check_eq!(resident(ok!(sys::mincore(at, PAGES * PAGE))), expected));
    check_eq!(resident(ok!(sys::mincore(at, PAGES * PAGE))), expected);
}

fn both_write_everything() {
    let (at, go) = (numbered(), Turn::new());
    let child = Child::spawn(|| {
        go.wait();
        check_numbered(at);
        (0..PAGES).for_each(|page| poke(at + page * PAGE, 7));
        check!((0..PAGES).all(|page| peek(at + page * PAGE) == 7));
    });
    (0..PAGES).for_each(|page| poke(at + page * PAGE, 9));
    go.post();
    child.join();
    check!((0..PAGES).all(|page| peek(at + page * PAGE) == 9));
}

fn a_second_child_while_the_first_lives() {
    let (at, go) = (numbered(), Turn::new());
    let first = Child::spawn(|| {
        go.wait();
        check_numbered(at);
    });
    poke(at + 3 * PAGE, 100);
    let second = Child::spawn(|| {
        check_eq!((peek(at + 3 * PAGE), peek(at + 4 * PAGE)), (100, 4));
        poke(at + 5 * PAGE, 101);
    });
    second.join();
    check_eq!(peek(at + 5 * PAGE), 5);
    go.post();
    first.join();
    check_eq!((peek(at + 3 * PAGE), peek(at + 4 * PAGE)), (100, 4));
}

fn a_grandchild_outlives_the_child() {
    let (at, gone, seen) = (numbered(), Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        poke(at, 50);
        let _ = Child::spawn(|| {
            gone.wait();
            check_eq!((peek(at), peek(at + PAGE)), (50, 1));
            (1..PAGES).for_each(|page| check_eq!(peek(at + page * PAGE), (page % 251) as u8));
            seen.post();
        });
    });
    child.join();
    (0..PAGES).for_each(|page| poke(at + page * PAGE, 60));
    gone.post();
    seen.wait();
    check!((0..PAGES).all(|page| peek(at + page * PAGE) == 60));
}

fn eight_generations() {
    fn descend(at: usize, generation: u8) {
        if generation == 8 {
            return;
        }
        poke(at + usize::from(generation) * PAGE, 200 + generation);
        in_child(|| {
            let seen = page_numbers(at, usize::from(generation) + 1);
            check!(seen.iter().zip(200..).all(|(seen, expected)| *seen == expected), "{seen:?}");
            poke(at + 20 * PAGE, generation);
            descend(at, generation + 1);
            check_eq!(peek(at + 20 * PAGE), generation);
        });
    }
    let at = numbered();
    descend(at, 0);
    check_eq!((peek(at), peek(at + PAGE), peek(at + 20 * PAGE)), (200, 1, 20));
}

fn a_child_outlives_its_parent() {
    let (at, gone, seen) = (numbered(), Turn::new(), Turn::new());
    in_child(|| {
        let _ = Child::spawn(|| {
            gone.wait();
            check_numbered(at);
            number_pages(at, 100, 1);
            in_child(|| check_eq!((peek(at), peek(at + 100 * PAGE)), (1, 100)));
            seen.post();
        });
        // The child in between has touched all of it when it ends.
        (0..PAGES).for_each(|page| poke(at + page * PAGE, 3));
    });
    gone.post();
    seen.wait();
    check_numbered(at);
}

fn discarded_in_the_child_stays_in_the_parent() {
    let at = numbered();
    in_child(|| {
        ok!(sys::madvise(at + 10 * PAGE, 20 * PAGE, MADV_DONTNEED));
        check_eq!((peek(at + 9 * PAGE), peek(at + 10 * PAGE), peek(at + 30 * PAGE)), (9, 0, 30));
    });
    check_numbered(at);
}

fn unmapped_and_mapped_again_is_empty() {
    let at = numbered();
    in_child(|| {
        ok!(sys::munmap(at + 10 * PAGE, 20 * PAGE));
        let again = libc::MAP_FIXED | super::ANON;
        ok!(sys::mmap(at + 10 * PAGE, 20 * PAGE, RW, again, -1, 0));
        check!((10..30).all(|page| peek(at + page * PAGE) == 0));
        check_eq!((peek(at + 9 * PAGE), peek(at + 30 * PAGE)), (9, 30));
    });
    check_numbered(at);
}

fn moved_in_the_child() {
    let (at, to) = (numbered(), free_range(50));
    in_child(|| {
        ok!(sys::mremap(at + 100 * PAGE, 50 * PAGE, 50 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
        check!((0..50).all(|page| peek(to + page * PAGE) == (100 + page) as u8));
        poke(to, 1);
    });
    check_numbered(at);
}

fn protected_while_the_child_lives() {
    let (at, go) = (numbered(), Turn::new());
    let child = Child::spawn(|| {
        go.wait();
        poke(at + 5 * PAGE, 50);
    });
    ok!(sys::mprotect(at, 10 * PAGE, PROT_READ));
    go.post();
    child.join();
    crate::fault::expect_accerr(at + 5 * PAGE, || poke(at + 5 * PAGE, 1));
    ok!(sys::mprotect(at, 10 * PAGE, RW));
    check_numbered(at);
    poke(at + 5 * PAGE, 51);
    check_eq!(peek(at + 5 * PAGE), 51);
}

fn a_thousand_forks_with_writes_on_both_sides() {
    let at = numbered();
    for round in 0..1000 {
        let page = round * 37 % PAGES;
        let child = Child::spawn(|| {
            let old = peek(at + page * PAGE);
            poke(at + page * PAGE, !old);
            check_eq!(peek(at + page * PAGE), !old);
        });
        poke(at + (page + 1) % PAGES * PAGE + 1, round as u8);
        child.join();
    }
    check_numbered(at);
    check_eq!(smaps_kib(at, "Rss"), PAGES * 4);
}
