// SPDX-License-Identifier: MPL-2.0

//! What keeps a mapping that grows down apart from its neighbours: the guard gap of 256 pages, and the limits on its growth.

use libc::{MAP_FIXED, MAP_GROWSDOWN, PROT_NONE, PROT_READ, RLIMIT_AS, RLIMIT_STACK};

use super::{ANON, PAGE, RW, free_range, peek, poke};
use crate::{fault::expect_maperr, harness::Case, procfs, sys};

pub const CASES: &[Case] = cases!["mem/guard":
    does_not_grow_into_the_gap_above_a_mapping,
    grows_up_to_the_gap,
    a_mapping_without_rights_needs_no_gap,
    another_that_grows_down_needs_no_gap,
    nothing_is_placed_in_the_gap,
    fixed_goes_into_the_gap_all_the_same,
    grows_to_the_limit_on_the_stack,
    grows_to_the_limit_on_the_address_space,
    locked_it_grows_locked,
];

/// The gap, in pages.
const GAP: usize = 256;

/// Two pages that grow down, `below` free pages above what is mapped at the start of them with these rights: the address of that
/// and of the two.
fn above(below: usize, prot: i32, flags: i32) -> (usize, usize) {
    let base = free_range(below + 3);
    ok!(sys::mmap(base, PAGE, prot, ANON | MAP_FIXED | flags, -1, 0));
    let at = base + (below + 1) * PAGE;
    ok!(sys::mmap(at, 2 * PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0));
    (base, at)
}

fn does_not_grow_into_the_gap_above_a_mapping() {
    let (base, at) = above(300, RW, 0);
    for page in [1, 2, 100, GAP] {
        expect_maperr(base + page * PAGE, || poke(base + page * PAGE, 1));
    }
    check_eq!(procfs::vma_at(at).map(|vma| vma.start), Some(at));
}

fn grows_up_to_the_gap() {
    let (base, at) = above(300, PROT_READ, 0);
    let lowest = base + (1 + GAP) * PAGE;
    poke(lowest, 7);
    check_eq!(procfs::vma_at(at).map(|vma| vma.start), Some(lowest));
    check_eq!((peek(lowest), peek(lowest + PAGE)), (7, 0));
    expect_maperr(lowest - PAGE, || _ = peek(lowest - PAGE));
}

fn a_mapping_without_rights_needs_no_gap() {
    let (base, at) = above(20, PROT_NONE, 0);
    poke(base + PAGE, 1);
    check_eq!(procfs::vma_at(at).map(|vma| vma.start), Some(base + PAGE));
}

fn another_that_grows_down_needs_no_gap() {
    let (base, at) = above(20, RW, MAP_GROWSDOWN);
    poke(base + PAGE, 1);
    check!(procfs::vma_at(at).is_some_and(|vma| vma.start <= base + PAGE));
}

fn nothing_is_placed_in_the_gap() {
    // A hole that is large enough but for the gap, and one that is large enough with it.
    for (pages, fits) in [(GAP, false), (GAP + 8, true)] {
        let (base, at) = above(pages, PROT_READ, 0);
        let hint = base + PAGE;
        let got = ok!(sys::mmap(hint, 4 * PAGE, RW, ANON, -1, 0));
        check_eq!(got == hint, fits, "{pages} pages");
        check!(got + 4 * PAGE + GAP * PAGE <= at || got > at, "{got:#x} is below {at:#x}");
        let near = ok!(sys::mmap(at - 4 * PAGE, 4 * PAGE, RW, ANON, -1, 0));
        check!(near != at - 4 * PAGE);
    }
}

fn fixed_goes_into_the_gap_all_the_same() {
    let (_, at) = above(300, PROT_READ, 0);
    check_eq!(sys::mmap(at - 2 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at - 2 * PAGE));
    poke(at - 2 * PAGE, 1);
    expect_maperr(at - PAGE, || poke(at - PAGE, 1));
}

fn grows_to_the_limit_on_the_stack() {
    let (_, at) = above(600, PROT_NONE, 0);
    ok!(sys::setrlimit(RLIMIT_STACK, (10 * PAGE) as u64, libc::RLIM_INFINITY));
    let end = at + 2 * PAGE;
    poke(end - 10 * PAGE, 1);
    expect_maperr(end - 11 * PAGE, || poke(end - 11 * PAGE, 1));
}

fn grows_to_the_limit_on_the_address_space() {
    let (_, at) = above(600, PROT_NONE, 0);
    let size = procfs::status_kib("VmSize") as u64 * 1024 + 8 * PAGE as u64;
    ok!(sys::setrlimit(RLIMIT_AS, size, size));
    expect_maperr(at - 100 * PAGE, || poke(at - 100 * PAGE, 1));
    poke(at - 4 * PAGE, 1);
}

fn locked_it_grows_locked() {
    let (_, at) = above(600, PROT_NONE, 0);
    ok!(sys::mlock(at, 2 * PAGE));
    poke(at - 8 * PAGE, 1);
    check_eq!(procfs::status_kib("VmLck"), 40);
    check!(procfs::vm_flags(at - 8 * PAGE).iter().any(|flag| flag == "lo"));
}
