// SPDX-License-Identifier: MPL-2.0

//! brk(2), the call itself: it answers with the break there is, moved or not.

use libc::{MAP_FIXED, PROT_READ, RLIMIT_AS, RLIMIT_DATA};

use super::{ANON, BEYOND, PAGE, RW, bytes, fill, number_pages, page_numbers, peek, poke};
use crate::{child::in_child, fault::expect_maperr, harness::Case, procfs, sys};

pub const CASES: &[Case] = cases!["mem/brk":
    zero_gives_the_break,
    grows_with_zeros,
    answers_with_the_unaligned_break,
    shrinks_and_faults_beyond,
    grown_again_is_zero,
    within_one_page_keeps_the_page,
    below_the_start_is_refused,
    beyond_the_address_space_is_refused,
    into_another_mapping_is_refused,
    data_limit_is_obeyed,
    address_space_limit_is_obeyed,
    is_the_heap_in_maps,
    heap_follows_the_break_in_maps,
    inherited_and_apart_after_fork,
    refused_growth_changes_nothing,
    protected_heap_page_stays_protected,
    hole_in_the_heap_can_be_dropped,
];

/// The break, moved up to a page boundary.
fn aligned() -> usize {
    let start = sys::brk(0).next_multiple_of(PAGE);
    check_eq!(sys::brk(start), start);
    start
}

fn zero_gives_the_break() {
    let now = sys::brk(0);
    check!(now > PAGE && now < 1 << 47);
    check_eq!(sys::brk(0), now);
    check_eq!(sys::brk(now), now);
}

fn grows_with_zeros() {
    let start = aligned();
    check_eq!(sys::brk(start + 100 * PAGE), start + 100 * PAGE);
    check!(bytes(start, 100 * PAGE).iter().all(|&byte| byte == 0));
    fill(start, 100 * PAGE, 1);
    check_eq!(sys::brk(0), start + 100 * PAGE);
}

fn answers_with_the_unaligned_break() {
    let start = aligned();
    check_eq!(sys::brk(start + 10), start + 10);
    poke(start + PAGE - 1, 1);
    expect_maperr(start + PAGE, || poke(start + PAGE, 1));
    check_eq!(sys::brk(start + PAGE + 1), start + PAGE + 1);
    poke(start + PAGE, 1);
}

fn shrinks_and_faults_beyond() {
    let start = aligned();
    check_eq!(sys::brk(start + 4 * PAGE), start + 4 * PAGE);
    number_pages(start, 4, 1);
    check_eq!(sys::brk(start + 2 * PAGE), start + 2 * PAGE);
    check_eq!(page_numbers(start, 2), [1, 2]);
    expect_maperr(start + 2 * PAGE, || _ = peek(start + 2 * PAGE));
}

fn grown_again_is_zero() {
    let start = aligned();
    for _ in 0..5 {
        check_eq!(sys::brk(start + 4 * PAGE), start + 4 * PAGE);
        check_eq!(page_numbers(start, 4), [0; 4]);
        number_pages(start, 4, 1);
        check_eq!(sys::brk(start), start);
    }
}

fn within_one_page_keeps_the_page() {
    let start = aligned();
    check_eq!(sys::brk(start + 100), start + 100);
    poke(start + 3000, 7);
    check_eq!(sys::brk(start + 50), start + 50);
    check_eq!(sys::brk(start + 3500), start + 3500);
    check_eq!(peek(start + 3000), 7);
}

fn below_the_start_is_refused() {
    let now = sys::brk(0);
    check_eq!(sys::brk(1), now);
    check_eq!(sys::brk(PAGE), now);
    check_eq!(sys::brk(0x1_0000), now);
}

fn beyond_the_address_space_is_refused() {
    let now = sys::brk(0);
    check_eq!(sys::brk(BEYOND), now);
    check_eq!(sys::brk(usize::MAX), now);
    check_eq!(sys::brk(0xffff_8000_0000_0000), now);
}

fn into_another_mapping_is_refused() {
    let start = aligned();
    let wall = start + 64 * PAGE;
    check_eq!(sys::mmap(wall, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(wall));
    poke(wall, 5);
    check_eq!(sys::brk(wall + PAGE), start);
    check_eq!(sys::brk(wall + 2 * PAGE), start);
    check_eq!(sys::brk(start + 16 * PAGE), start + 16 * PAGE);
    check_eq!(peek(wall), 5);
}

fn data_limit_is_obeyed() {
    let start = aligned();
    in_child(|| {
        ok!(sys::setrlimit(RLIMIT_DATA, 0, 0));
        check_eq!(sys::brk(start + PAGE), start);
    });
    check_eq!(sys::brk(start + PAGE), start + PAGE);
}

fn address_space_limit_is_obeyed() {
    let start = aligned();
    in_child(|| {
        let limit = (procfs::statm()[0] + 8) * PAGE;
        ok!(sys::setrlimit(RLIMIT_AS, limit as u64, limit as u64));
        check_eq!(sys::brk(start + 64 * PAGE), start);
        check_eq!(sys::brk(start + 4 * PAGE), start + 4 * PAGE);
    });
}

fn is_the_heap_in_maps() {
    let start = aligned();
    check_eq!(sys::brk(start + PAGE), start + PAGE);
    let vma = procfs::vma_at(start);
    check_eq!(vma.map(|vma| (vma.path, vma.perms)), Some(("[heap]".into(), "rw-p".into())));
}

fn heap_follows_the_break_in_maps() {
    let start = aligned();
    let end = || procfs::maps().into_iter().rfind(|vma| vma.path == "[heap]").map(|vma| vma.end);
    check_eq!(sys::brk(start + 10 * PAGE + 1), start + 10 * PAGE + 1);
    check_eq!(end(), Some(start + 11 * PAGE));
    check_eq!(sys::brk(start + 3 * PAGE), start + 3 * PAGE);
    check_eq!(end(), Some(start + 3 * PAGE));
}

fn inherited_and_apart_after_fork() {
    let start = aligned();
    check_eq!(sys::brk(start + 2 * PAGE), start + 2 * PAGE);
    poke(start, 1);
    in_child(|| {
        check_eq!(sys::brk(0), start + 2 * PAGE);
        check_eq!(sys::brk(start + 8 * PAGE), start + 8 * PAGE);
        poke(start, 2);
    });
    check_eq!(sys::brk(0), start + 2 * PAGE);
    check_eq!(peek(start), 1);
}

fn refused_growth_changes_nothing() {
    let start = aligned();
    check_eq!(sys::brk(start + 2 * PAGE), start + 2 * PAGE);
    number_pages(start, 2, 1);
    check_eq!(sys::brk(start + (1 << 46)), start + 2 * PAGE);
    check_eq!(page_numbers(start, 2), [1, 2]);
}

fn protected_heap_page_stays_protected() {
    let start = aligned();
    check_eq!(sys::brk(start + 3 * PAGE), start + 3 * PAGE);
    ok!(sys::mprotect(start + PAGE, PAGE, PROT_READ));
    check_eq!(sys::brk(start + 5 * PAGE), start + 5 * PAGE);
    crate::fault::expect_accerr(start + PAGE, || poke(start + PAGE, 1));
    poke(start + 4 * PAGE, 1);
    check_eq!(sys::brk(start), start);
    expect_maperr(start + PAGE, || _ = peek(start + PAGE));
}

fn hole_in_the_heap_can_be_dropped() {
    let start = aligned();
    check_eq!(sys::brk(start + 6 * PAGE), start + 6 * PAGE);
    number_pages(start, 6, 1);
    ok!(sys::munmap(start + 2 * PAGE, 2 * PAGE));
    check_eq!(sys::brk(0), start + 6 * PAGE);
    check_eq!((page_numbers(start, 2), page_numbers(start + 4 * PAGE, 2)), (vec![1, 2], vec![5, 6]));
    check_eq!(sys::brk(start + PAGE), start + PAGE);
    check_eq!(peek(start), 1);
    expect_maperr(start + 5 * PAGE, || _ = peek(start + 5 * PAGE));
}
