// SPDX-License-Identifier: MPL-2.0

//! mremap(2): growing, shrinking, moving, MREMAP_FIXED, MREMAP_DONTUNMAP, and every error it names.

use libc::{
    MAP_PRIVATE, MAP_SHARED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ, RLIMIT_AS,
};

use super::{
    ANON, BEYOND, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{
    child::in_child,
    fault::{expect_accerr, expect_bus, expect_maperr},
    harness::Case,
    procfs, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/mremap":
    shrinks_in_place,
    grows_in_place_where_there_is_room,
    grown_part_is_zero,
    without_room_and_maymove_is_enomem,
    without_room_moves,
    moved_source_is_gone,
    same_size_changes_nothing,
    fixed_moves_there,
    fixed_replaces_what_is_there,
    fixed_grows_and_moves,
    fixed_shrinks_and_moves,
    fixed_moves_the_middle,
    move_keeps_rights,
    move_keeps_prot_none_content,
    move_of_untouched_pages,
    file_mapping_grows_over_the_file,
    file_mapping_moves_with_its_offset,
    shared_memory_moves_and_stays_shared,
    shared_anonymous_grown_is_sigbus,
    old_size_zero_duplicates_shared,
    old_size_zero_of_private_is_einval,
    old_size_zero_without_maymove_is_refused,
    sizes_are_rounded_up,
    unaligned_address_is_einval,
    new_size_zero_is_einval,
    unknown_flag_is_einval,
    fixed_without_maymove_is_einval,
    fixed_unaligned_target_is_einval,
    fixed_target_beyond_the_address_space_is_einval,
    fixed_overlap_is_einval,
    new_size_too_large_fails,
    unmapped_is_efault,
    growing_across_mappings_is_efault,
    grown_from_the_middle_moves_only_that,
    address_space_limit_is_enomem,
    refused_call_changes_nothing,
    dontunmap_leaves_zeros_behind,
    dontunmap_with_fixed,
    dontunmap_without_maymove_is_einval,
    dontunmap_with_new_size_is_einval,
    grows_step_by_step,
    heap_like_growth_keeps_content,
];

const MOVE_TO: i32 = MREMAP_MAYMOVE | MREMAP_FIXED;

fn spans(at: usize, pages: usize) -> Vec<(usize, usize)> {
    procfs::layout(at..at + pages * PAGE).into_iter().map(|(start, end, _)| (start, end)).collect()
}

/// That many mapped pages with as many free ones behind.
fn with_room(pages: usize, room: usize) -> usize {
    let at = lone_anon(pages + room);
    ok!(sys::munmap(at + pages * PAGE, room * PAGE));
    at
}

fn shrinks_in_place() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    check_eq!(sys::mremap(at, 4 * PAGE, 2 * PAGE, 0, 0), Ok(at));
    check_eq!(spans(at, 4), [(0, 2)]);
    check_eq!(page_numbers(at, 2), [1, 2]);
    expect_maperr(at + 2 * PAGE, || _ = peek(at + 2 * PAGE));
}

fn grows_in_place_where_there_is_room() {
    let at = with_room(2, 4);
    number_pages(at, 2, 1);
    check_eq!(sys::mremap(at, 2 * PAGE, 5 * PAGE, 0, 0), Ok(at));
    check_eq!(spans(at, 6), [(0, 5)]);
    check_eq!(page_numbers(at, 5), [1, 2, 0, 0, 0]);
}

fn grown_part_is_zero() {
    let at = with_room(2, 2);
    number_pages(at, 2, 1);
    check_eq!(sys::mremap(at, 2 * PAGE, PAGE, 0, 0), Ok(at));
    check_eq!(sys::mremap(at, PAGE, 4 * PAGE, 0, 0), Ok(at));
    check_eq!(page_numbers(at, 4), [1, 0, 0, 0]);
}

fn without_room_and_maymove_is_enomem() {
    let at = lone_anon(4);
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_NONE));
    number_pages(at, 2, 1);
    errno_is!(sys::mremap(at, 2 * PAGE, 3 * PAGE, 0, 0), ENOMEM);
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn without_room_moves() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_READ));
    let to = ok!(sys::mremap(at, 2 * PAGE, 8 * PAGE, MREMAP_MAYMOVE, 0));
    check!(to + 8 * PAGE <= at || to >= at + 4 * PAGE, "{to:#x}");
    check_eq!(page_numbers(to, 8), [1, 2, 0, 0, 0, 0, 0, 0]);
    check_eq!(spans(at, 4), [(2, 3), (3, 4)]);
}

fn moved_source_is_gone() {
    let at = lone_anon(2);
    number_pages(at, 2, 1);
    let to = free_range(2);
    check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MOVE_TO, to), Ok(to));
    expect_maperr(at, || _ = peek(at));
    expect_maperr(at + PAGE, || poke(at + PAGE, 1));
    number_pages(to, 2, 9);
    check_eq!(page_numbers(to, 2), [9, 10]);
}

fn same_size_changes_nothing() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    check_eq!(sys::mremap(at, 3 * PAGE, 3 * PAGE, 0, 0), Ok(at));
    check_eq!(sys::mremap(at, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0), Ok(at));
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn fixed_moves_there() {
    let (at, to) = (lone_anon(3), free_range(3));
    number_pages(at, 3, 1);
    check_eq!(sys::mremap(at, 3 * PAGE, 3 * PAGE, MOVE_TO, to), Ok(to));
    check_eq!(page_numbers(to, 3), [1, 2, 3]);
    check_eq!(spans(at, 3), []);
}

fn fixed_replaces_what_is_there() {
    let (at, to) = (lone_anon(2), lone_anon(5));
    number_pages(at, 2, 1);
    number_pages(to, 5, 50);
    check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MOVE_TO, to + PAGE), Ok(to + PAGE));
    check_eq!(page_numbers(to, 5), [50, 1, 2, 53, 54]);
}

fn fixed_grows_and_moves() {
    let (at, to) = (lone_anon(2), free_range(4));
    number_pages(at, 2, 1);
    check_eq!(sys::mremap(at, 2 * PAGE, 4 * PAGE, MOVE_TO, to), Ok(to));
    check_eq!(page_numbers(to, 4), [1, 2, 0, 0]);
    check_eq!(spans(at, 2), []);
}

fn fixed_shrinks_and_moves() {
    let (at, to) = (lone_anon(4), free_range(4));
    number_pages(at, 4, 1);
    check_eq!(sys::mremap(at, 4 * PAGE, 2 * PAGE, MOVE_TO, to), Ok(to));
    check_eq!(page_numbers(to, 2), [1, 2]);
    check_eq!((spans(at, 4), spans(to, 4)), (vec![], vec![(0, 2)]));
}

fn fixed_moves_the_middle() {
    let (at, to) = (lone_anon(5), free_range(2));
    number_pages(at, 5, 1);
    check_eq!(sys::mremap(at + PAGE, 2 * PAGE, 2 * PAGE, MOVE_TO, to), Ok(to));
    check_eq!(page_numbers(to, 2), [2, 3]);
    check_eq!(spans(at, 5), [(0, 1), (3, 5)]);
    check_eq!((peek(at), page_numbers(at + 3 * PAGE, 2)), (1, vec![4, 5]));
}

fn move_keeps_rights() {
    let (at, to) = (lone_anon(1), free_range(1));
    poke(at, 1);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(sys::mremap(at, PAGE, PAGE, MOVE_TO, to), Ok(to));
    check_eq!(peek(to), 1);
    expect_accerr(to, || poke(to, 2));
}

fn move_keeps_prot_none_content() {
    let (at, to) = (lone_anon(2), free_range(2));
    number_pages(at, 2, 1);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_NONE));
    check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MOVE_TO, to), Ok(to));
    ok!(sys::mprotect(to, 2 * PAGE, PROT_READ));
    check_eq!(page_numbers(to, 2), [1, 2]);
}

fn move_of_untouched_pages() {
    let (at, to) = (lone_anon(4), free_range(4));
    poke(at + 2 * PAGE, 3);
    check_eq!(sys::mremap(at, 4 * PAGE, 4 * PAGE, MOVE_TO, to), Ok(to));
    check_eq!(page_numbers(to, 4), [0, 0, 3, 0]);
}

fn numbered_file(pages: usize) -> i32 {
    tmp::file(&(0..pages * PAGE).map(|offset| (offset / PAGE + 1) as u8).collect::<Vec<_>>())
}

fn file_mapping_grows_over_the_file() {
    let fd = numbered_file(4);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, PAGE as i64));
    let to = ok!(sys::mremap(at, PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0));
    check_eq!(page_numbers(to, 3), [2, 3, 4]);
    expect_bus(to + 3 * PAGE, || _ = peek(to + 3 * PAGE));
}

fn file_mapping_moves_with_its_offset() {
    let at = ok!(sys::mmap(0, 5 * PAGE, RW, MAP_PRIVATE, numbered_file(5), 0));
    let to = free_range(2);
    poke(at + 3 * PAGE, 99);
    check_eq!(sys::mremap(at + 2 * PAGE, 2 * PAGE, 2 * PAGE, MOVE_TO, to), Ok(to));
    check_eq!(page_numbers(to, 2), [3, 99]);
    check_eq!(procfs::vma_at(to).map(|vma| vma.offset), Some(2 * PAGE));
}

fn shared_memory_moves_and_stays_shared() {
    let (at, to) = (anon_shared(2), free_range(2));
    poke(at, 1);
    let done = crate::child::Turn::new();
    let child = crate::child::Child::spawn(|| {
        done.wait();
        poke(at + PAGE, peek(at) + 1);
    });
    check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MOVE_TO, to), Ok(to));
    poke(to, 5);
    done.post();
    child.join();
    check_eq!(page_numbers(to, 2), [5, 6]);
}

fn shared_anonymous_grown_is_sigbus() {
    let at = anon_shared(2);
    number_pages(at, 2, 1);
    let to = ok!(sys::mremap(at, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0));
    check_eq!(page_numbers(to, 2), [1, 2]);
    // The object behind it keeps its size.
    expect_bus(to + 2 * PAGE, || _ = peek(to + 2 * PAGE));
}

fn old_size_zero_duplicates_shared() {
    let at = anon_shared(2);
    number_pages(at, 2, 1);
    let twin = ok!(sys::mremap(at, 0, 2 * PAGE, MREMAP_MAYMOVE, 0));
    check!(twin != at);
    check_eq!(page_numbers(twin, 2), [1, 2]);
    poke(twin, 9);
    check_eq!(page_numbers(at, 2), [9, 2]);
}

fn old_size_zero_of_private_is_einval() {
    let at = anon(2);
    errno_is!(sys::mremap(at, 0, 2 * PAGE, MREMAP_MAYMOVE, 0), EINVAL);
}

fn old_size_zero_without_maymove_is_refused() {
    let at = anon_shared(2);
    // The manual says EINVAL, the kernel finds no room.
    match sys::mremap(at, 0, 2 * PAGE, 0, 0) {
        Err(error) if error.0 == libc::EINVAL || error.0 == libc::ENOMEM => {}
        other => panic!("an old size of 0 gives {other:?}"),
    }
}

fn sizes_are_rounded_up() {
    let at = with_room(3, 3);
    check_eq!(sys::mremap(at, 2 * PAGE + 1, PAGE + 1, 0, 0), Ok(at));
    check_eq!(spans(at, 6), [(0, 2)]);
    check_eq!(sys::mremap(at, PAGE + 1, 3 * PAGE - 5, 0, 0), Ok(at));
    check_eq!(spans(at, 6), [(0, 3)]);
}

fn unaligned_address_is_einval() {
    errno_is!(sys::mremap(anon(2) + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), EINVAL);
}

fn new_size_zero_is_einval() {
    errno_is!(sys::mremap(anon(2), PAGE, 0, MREMAP_MAYMOVE, 0), EINVAL);
}

fn unknown_flag_is_einval() {
    errno_is!(sys::mremap(anon(2), PAGE, PAGE, 8, 0), EINVAL);
    errno_is!(sys::mremap(anon(2), PAGE, PAGE, MREMAP_MAYMOVE | 0x100, 0), EINVAL);
}

fn fixed_without_maymove_is_einval() {
    errno_is!(sys::mremap(anon(1), PAGE, PAGE, MREMAP_FIXED, free_range(1)), EINVAL);
}

fn fixed_unaligned_target_is_einval() {
    errno_is!(sys::mremap(anon(1), PAGE, PAGE, MOVE_TO, free_range(2) + 1), EINVAL);
}

fn fixed_target_beyond_the_address_space_is_einval() {
    errno_is!(sys::mremap(anon(1), PAGE, PAGE, MOVE_TO, BEYOND), EINVAL);
    errno_is!(sys::mremap(anon(1), PAGE, PAGE, MOVE_TO, 0xffff_8000_0000_0000), EINVAL);
}

fn fixed_overlap_is_einval() {
    let at = lone_anon(6);
    number_pages(at, 6, 1);
    errno_is!(sys::mremap(at, 3 * PAGE, 3 * PAGE, MOVE_TO, at + 2 * PAGE), EINVAL);
    errno_is!(sys::mremap(at + 2 * PAGE, 3 * PAGE, 3 * PAGE, MOVE_TO, at), EINVAL);
    errno_is!(sys::mremap(at, PAGE, PAGE, MOVE_TO, at), EINVAL);
    check_eq!(page_numbers(at, 6), [1, 2, 3, 4, 5, 6]);
}

fn new_size_too_large_fails() {
    let at = anon(1);
    poke(at, 1);
    for size in [BEYOND, 1 << 62, usize::MAX & !(PAGE - 1)] {
        match sys::mremap(at, PAGE, size, MREMAP_MAYMOVE, 0) {
            Err(error) if error.0 == libc::ENOMEM || error.0 == libc::EINVAL => {}
            other => panic!("growing to {size:#x} gives {other:?}"),
        }
    }
    check_eq!(peek(at), 1);
}

fn unmapped_is_efault() {
    errno_is!(sys::mremap(free_range(2), PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), EFAULT);
    errno_is!(sys::mremap(0, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), EFAULT);
}

fn growing_across_mappings_is_efault() {
    let at = lone_anon(4);
    ok!(sys::mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ));
    errno_is!(sys::mremap(at, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE, 0), EFAULT);
    let hole = lone_anon(2);
    errno_is!(sys::mremap(hole, 3 * PAGE, 6 * PAGE, MREMAP_MAYMOVE, 0), EFAULT);
}

fn grown_from_the_middle_moves_only_that() {
    let at = lone_anon(5);
    number_pages(at, 5, 1);
    errno_is!(sys::mremap(at + PAGE, 2 * PAGE, 3 * PAGE, 0, 0), ENOMEM);
    let to = ok!(sys::mremap(at + PAGE, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0));
    check_eq!(page_numbers(to, 3), [2, 3, 0]);
    // What was left behind may be the place of the moved pages' hole only.
    check_eq!((peek(at), page_numbers(at + 3 * PAGE, 2)), (1, vec![4, 5]));
}

fn address_space_limit_is_enomem() {
    let at = anon(4);
    number_pages(at, 4, 1);
    in_child(|| {
        let now = procfs::statm()[0] * PAGE;
        ok!(sys::setrlimit(RLIMIT_AS, (now + 16 * PAGE) as u64, (now + 16 * PAGE) as u64));
        errno_is!(sys::mremap(at, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE, 0), ENOMEM);
        check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
        let to = ok!(sys::mremap(at, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE, 0));
        check_eq!(page_numbers(to, 4), [1, 2, 3, 4]);
    });
}

fn refused_call_changes_nothing() {
    let (at, to) = (lone_anon(2), lone_anon(2));
    number_pages(at, 2, 1);
    number_pages(to, 2, 50);
    errno_is!(sys::mremap(at, 2 * PAGE, 3 * PAGE, MOVE_TO, BEYOND), EINVAL);
    errno_is!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MREMAP_FIXED, to), EINVAL);
    errno_is!(sys::mremap(at, 2 * PAGE, 0, MOVE_TO, to), EINVAL);
    check_eq!((page_numbers(at, 2), page_numbers(to, 2)), (vec![1, 2], vec![50, 51]));
}

fn dontunmap_leaves_zeros_behind() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    let to = ok!(sys::mremap(at, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
    check!(to != at);
    check_eq!(page_numbers(to, 3), [1, 2, 3]);
    check_eq!(page_numbers(at, 3), [0, 0, 0]);
    poke(at, 9);
    check_eq!(page_numbers(to, 3), [1, 2, 3]);
}

fn dontunmap_with_fixed() {
    let (at, to) = (lone_anon(2), lone_anon(2));
    number_pages(at, 2, 1);
    number_pages(to, 2, 50);
    check_eq!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MOVE_TO | MREMAP_DONTUNMAP, to), Ok(to));
    check_eq!((page_numbers(at, 2), page_numbers(to, 2)), (vec![0, 0], vec![1, 2]));
}

fn dontunmap_without_maymove_is_einval() {
    errno_is!(sys::mremap(anon(1), PAGE, PAGE, MREMAP_DONTUNMAP, 0), EINVAL);
}

fn dontunmap_with_new_size_is_einval() {
    errno_is!(sys::mremap(anon(2), PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0), EINVAL);
}

fn grows_step_by_step() {
    let at = with_room(1, 99);
    for pages in 1..100 {
        poke(at + (pages - 1) * PAGE, pages as u8);
        check_eq!(sys::mremap(at, pages * PAGE, (pages + 1) * PAGE, MREMAP_MAYMOVE, 0), Ok(at));
    }
    check_eq!(spans(at, 100), [(0, 100)]);
    check!((0..99).all(|page| peek(at + page * PAGE) == page as u8 + 1));
}

fn heap_like_growth_keeps_content() {
    let (mut at, mut pages) = (anon(1), 1);
    poke(at, 1);
    while pages < 2000 {
        ok!(sys::mmap(0, PAGE, PROT_READ, ANON, -1, 0));
        at = ok!(sys::mremap(at, pages * PAGE, 2 * pages * PAGE, MREMAP_MAYMOVE, 0));
        check!((0..pages).all(|page| peek(at + page * PAGE) == (page + 1) as u8));
        (pages..2 * pages).for_each(|page| poke(at + page * PAGE, (page + 1) as u8));
        pages *= 2;
    }
}
