// SPDX-License-Identifier: MPL-2.0

//! munmap(2): ends, middles, holes, several mappings at once, and every error it names.

use libc::{MAP_FIXED, PROT_NONE, PROT_READ};

use super::{
    ANON, BEYOND, PAGE, RW, address_space_end, anon, anon_shared, free_range, lone_anon, number_pages,
    page_numbers, peek, poke,
};
use crate::{child::in_child, fault::expect_maperr, harness::Case, procfs, sys};

pub const CASES: &[Case] = cases!["mem/munmap":
    access_afterwards_is_maperr,
    touched_and_untouched_pages_go,
    head_goes,
    tail_goes,
    middle_goes_and_leaves_two,
    every_other_page_goes,
    across_several_mappings,
    across_holes,
    nothing_mapped_succeeds,
    twice_succeeds,
    length_is_rounded_up,
    zero_length_is_einval,
    unaligned_address_is_einval,
    range_that_wraps_is_einval,
    beyond_the_address_space_is_einval,
    refused_call_changes_nothing,
    prot_none_goes,
    whole_of_a_shared_mapping_goes_only_here,
    child_unmaps_only_its_own,
    place_is_free_again,
];

fn layout(at: usize, pages: usize) -> Vec<(usize, usize)> {
    procfs::layout(at..at + pages * PAGE).into_iter().map(|(start, end, _)| (start, end)).collect()
}

fn access_afterwards_is_maperr() {
    let at = lone_anon(2);
    poke(at, 1);
    ok!(sys::munmap(at, 2 * PAGE));
    expect_maperr(at, || _ = peek(at));
    expect_maperr(at + PAGE + 5, || poke(at + PAGE + 5, 1));
}

fn touched_and_untouched_pages_go() {
    let at = lone_anon(64);
    for page in (0..64).step_by(3) {
        poke(at + page * PAGE, 1);
    }
    ok!(sys::munmap(at, 64 * PAGE));
    check_eq!(layout(at, 64), []);
    for page in 0..64 {
        check_eq!(crate::fault::try_read(at + page * PAGE).is_err(), true);
    }
}

fn head_goes() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    ok!(sys::munmap(at, PAGE));
    check_eq!(layout(at, 4), [(1, 4)]);
    check_eq!(page_numbers(at + PAGE, 3), [2, 3, 4]);
}

fn tail_goes() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    ok!(sys::munmap(at + 3 * PAGE, PAGE));
    check_eq!(layout(at, 4), [(0, 3)]);
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn middle_goes_and_leaves_two() {
    let at = lone_anon(5);
    number_pages(at, 5, 1);
    ok!(sys::munmap(at + 2 * PAGE, PAGE));
    check_eq!(layout(at, 5), [(0, 2), (3, 5)]);
    check_eq!(page_numbers(at, 2), [1, 2]);
    check_eq!(page_numbers(at + 3 * PAGE, 2), [4, 5]);
    expect_maperr(at + 2 * PAGE, || _ = peek(at + 2 * PAGE));
}

fn every_other_page_goes() {
    let at = lone_anon(100);
    number_pages(at, 100, 1);
    for page in (1..100).step_by(2) {
        ok!(sys::munmap(at + page * PAGE, PAGE));
    }
    check_eq!(layout(at, 100).len(), 50);
    for page in (0..100).step_by(2) {
        check_eq!(peek(at + page * PAGE), page as u8 + 1);
    }
    ok!(sys::munmap(at, 100 * PAGE));
    check_eq!(layout(at, 100), []);
}

fn across_several_mappings() {
    let at = lone_anon(8);
    number_pages(at, 8, 1);
    ok!(sys::mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ));
    ok!(sys::mprotect(at + 5 * PAGE, PAGE, PROT_NONE));
    ok!(sys::munmap(at + PAGE, 6 * PAGE));
    check_eq!(layout(at, 8), [(0, 1), (7, 8)]);
    check_eq!((peek(at), peek(at + 7 * PAGE)), (1, 8));
}

fn across_holes() {
    let at = lone_anon(8);
    ok!(sys::munmap(at + PAGE, PAGE));
    ok!(sys::munmap(at + 4 * PAGE, 2 * PAGE));
    check_eq!(sys::munmap(at, 7 * PAGE), Ok(0));
    check_eq!(layout(at, 8), [(7, 8)]);
}

fn nothing_mapped_succeeds() {
    let at = free_range(16);
    check_eq!(sys::munmap(at, 16 * PAGE), Ok(0));
    check_eq!(sys::munmap(0, PAGE), Ok(0));
}

fn twice_succeeds() {
    let at = lone_anon(2);
    check_eq!(sys::munmap(at, 2 * PAGE), Ok(0));
    check_eq!(sys::munmap(at, 2 * PAGE), Ok(0));
}

fn length_is_rounded_up() {
    let at = lone_anon(4);
    ok!(sys::munmap(at, 1));
    check_eq!(layout(at, 4), [(1, 4)]);
    ok!(sys::munmap(at + PAGE, PAGE + 1));
    check_eq!(layout(at, 4), [(3, 4)]);
}

fn zero_length_is_einval() {
    let at = lone_anon(1);
    errno_is!(sys::munmap(at, 0), EINVAL);
    check_eq!(layout(at, 1), [(0, 1)]);
}

fn unaligned_address_is_einval() {
    let at = lone_anon(2);
    errno_is!(sys::munmap(at + 1, PAGE), EINVAL);
    errno_is!(sys::munmap(at + PAGE - 1, PAGE), EINVAL);
    check_eq!(layout(at, 2), [(0, 2)]);
}

fn range_that_wraps_is_einval() {
    let at = lone_anon(1);
    errno_is!(sys::munmap(at, usize::MAX), EINVAL);
    errno_is!(sys::munmap(at, usize::MAX - at), EINVAL);
    check_eq!(layout(at, 1), [(0, 1)]);
}

fn beyond_the_address_space_is_einval() {
    errno_is!(sys::munmap(BEYOND, PAGE), EINVAL);
    errno_is!(sys::munmap(0xffff_8000_0000_0000, PAGE), EINVAL);
    errno_is!(sys::munmap(address_space_end() - PAGE, 2 * PAGE), EINVAL);
}

fn refused_call_changes_nothing() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    errno_is!(sys::munmap(at, BEYOND), EINVAL);
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn prot_none_goes() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    ok!(sys::mprotect(at, 3 * PAGE, PROT_NONE));
    ok!(sys::munmap(at + PAGE, PAGE));
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(peek(at), 1);
    check_eq!(layout(at, 3), [(0, 1), (2, 3)]);
}

fn whole_of_a_shared_mapping_goes_only_here() {
    let at = anon_shared(2);
    number_pages(at, 2, 1);
    in_child(|| {
        ok!(sys::munmap(at, 2 * PAGE));
    });
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn child_unmaps_only_its_own() {
    let at = anon(4);
    number_pages(at, 4, 1);
    in_child(|| {
        ok!(sys::munmap(at + PAGE, 2 * PAGE));
        check_eq!((peek(at), peek(at + 3 * PAGE)), (1, 4));
    });
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn place_is_free_again() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    ok!(sys::munmap(at + PAGE, 2 * PAGE));
    ok!(sys::mmap(at + PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0));
    check_eq!(page_numbers(at, 4), [1, 0, 0, 4]);
}
