// SPDX-License-Identifier: MPL-2.0

//! Placement: where mmap puts a mapping, for a hint, MAP_FIXED and its gentler form, and the flags that bound the place.

use libc::{
    MAP_32BIT, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_LOCKED, MAP_NONBLOCK, MAP_NORESERVE,
    MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_STACK, PROT_NONE, PROT_READ,
};

use super::{
    ANON, ANON_SHARED, BEYOND, PAGE, RW, address_space_end, anon, free_range, lone_anon, number_pages,
    page_numbers, peek, poke,
};
use crate::{child::in_child, fault::expect_maperr, harness::Case, procfs, sys, tmp};

pub const CASES: &[Case] = cases!["mem/mmap":
    result_is_page_aligned_and_in_user_space,
    mappings_do_not_overlap,
    hint_that_is_free_is_taken,
    hint_unaligned_is_rounded_down,
    hint_that_is_taken_goes_elsewhere,
    hint_beyond_the_address_space_goes_elsewhere,
    hint_below_mmap_min_addr_goes_elsewhere,
    hint_too_small_a_hole_goes_elsewhere,
    fixed_takes_the_place,
    fixed_replaces_the_whole_mapping,
    fixed_replaces_the_middle,
    fixed_replaces_across_several_mappings,
    fixed_replaces_across_a_hole,
    fixed_replaced_by_a_file,
    fixed_at_zero_is_allowed_for_root,
    fixed_noreplace_free_is_taken,
    fixed_noreplace_occupied_is_eexist,
    fixed_noreplace_partly_occupied_is_eexist,
    fixed_noreplace_beside_a_mapping_succeeds,
    map_32bit_lies_in_the_low_two_gigabytes,
    map_32bit_goes_on_until_enomem,
    growsdown_grows_on_access_below,
    growsdown_keeps_its_content_when_it_grows,
    growsdown_stops_at_a_mapping_below,
    growsdown_is_named_in_smaps,
    stack_flag_is_ignored,
    noreserve_maps_more_than_memory,
    locked_makes_pages_resident,
    nonblock_without_populate_maps,
    populate_nonblock_file_maps,
    adjacent_anonymous_mappings_are_one_line,
    adjacent_of_different_rights_are_two_lines,
    first_hole_from_the_top_is_used_again,
    last_user_page_can_be_mapped,
];

fn result_is_page_aligned_and_in_user_space() {
    for len in [1, 100, PAGE, PAGE + 1, 1 << 20, 3 << 20] {
        let at = ok!(sys::mmap(0, len, RW, ANON, -1, 0));
        check_eq!(at % PAGE, 0);
        check!(at >= 1 << 16 && at + len < 1 << 47, "{at:#x}");
    }
}

fn mappings_do_not_overlap() {
    let mut ranges: Vec<_> = (1..60).map(|pages| (anon(pages), pages * PAGE)).collect();
    ranges.sort();
    for pair in ranges.windows(2) {
        check!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
    }
}

fn hint_that_is_free_is_taken() {
    let at = free_range(4);
    check_eq!(sys::mmap(at, 4 * PAGE, RW, ANON, -1, 0), Ok(at));
}

fn hint_unaligned_is_rounded_down() {
    let at = free_range(4);
    let given = ok!(sys::mmap(at + PAGE + 123, PAGE, RW, ANON, -1, 0));
    // Linux rounds up or down, depending on where the hint is checked: the page is one of the two.
    check!(given == at + PAGE || given == at + 2 * PAGE, "{given:#x} for the hint {:#x}", at + PAGE + 123);
}

fn hint_that_is_taken_goes_elsewhere() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    let other = ok!(sys::mmap(at + PAGE, PAGE, RW, ANON, -1, 0));
    check!(other + PAGE <= at || other >= at + 4 * PAGE, "{other:#x}");
    poke(other, 77);
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn hint_beyond_the_address_space_goes_elsewhere() {
    for hint in [BEYOND, 0xffff_8000_0000_0000, usize::MAX & !(PAGE - 1)] {
        let at = ok!(sys::mmap(hint, PAGE, RW, ANON, -1, 0));
        check!(at < address_space_end());
        poke(at, 1);
    }
}

fn hint_below_mmap_min_addr_goes_elsewhere() {
    let at = ok!(sys::mmap(1, PAGE, RW, ANON, -1, 0));
    check!(at >= PAGE, "{at:#x}");
    poke(at, 1);
}

fn hint_too_small_a_hole_goes_elsewhere() {
    let at = anon(8);
    ok!(sys::munmap(at + 2 * PAGE, 2 * PAGE));
    let other = ok!(sys::mmap(at + 2 * PAGE, 3 * PAGE, RW, ANON, -1, 0));
    check!(other + 3 * PAGE <= at || other >= at + 8 * PAGE, "{other:#x}");
    check_eq!(sys::mmap(at + 2 * PAGE, 2 * PAGE, RW, ANON, -1, 0), Ok(at + 2 * PAGE));
}

fn fixed_takes_the_place() {
    let at = free_range(3);
    check_eq!(sys::mmap(at, 3 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at));
    check_eq!(page_numbers(at, 3), [0; 3]);
    expect_maperr(at - 1, || poke(at - 1, 0));
    expect_maperr(at + 3 * PAGE, || poke(at + 3 * PAGE, 0));
}

fn fixed_replaces_the_whole_mapping() {
    let at = anon(4);
    number_pages(at, 4, 1);
    check_eq!(sys::mmap(at, 4 * PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0), Ok(at));
    check_eq!(page_numbers(at, 4), [0; 4]);
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(0, 4, "r--p".into())]);
}

fn fixed_replaces_the_middle() {
    let at = lone_anon(5);
    number_pages(at, 5, 1);
    check_eq!(sys::mmap(at + PAGE, 2 * PAGE, RW, ANON_SHARED | MAP_FIXED, -1, 0), Ok(at + PAGE));
    check_eq!(page_numbers(at, 5), [1, 0, 0, 4, 5]);
    check_eq!(
        procfs::layout(at..at + 5 * PAGE),
        [(0, 1, "rw-p".into()), (1, 3, "rw-s".into()), (3, 5, "rw-p".into())]
    );
}

fn fixed_replaces_across_several_mappings() {
    let at = lone_anon(8);
    number_pages(at, 8, 1);
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_READ));
    ok!(sys::mprotect(at + 4 * PAGE, PAGE, PROT_NONE));
    check_eq!(sys::mmap(at + PAGE, 5 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at + PAGE));
    check_eq!(page_numbers(at, 8), [1, 0, 0, 0, 0, 0, 7, 8]);
}

fn fixed_replaces_across_a_hole() {
    let at = lone_anon(6);
    number_pages(at, 6, 1);
    ok!(sys::munmap(at + 2 * PAGE, PAGE));
    check_eq!(sys::mmap(at + PAGE, 3 * PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at + PAGE));
    check_eq!(page_numbers(at, 6), [1, 0, 0, 0, 5, 6]);
}

fn fixed_replaced_by_a_file() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    let fd = tmp::file(&[b'f'; PAGE]);
    check_eq!(sys::mmap(at + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0), Ok(at + PAGE));
    check_eq!(page_numbers(at, 3), [1, b'f', 3]);
}

fn fixed_at_zero_is_allowed_for_root() {
    match sys::mmap(0, PAGE, RW, ANON | MAP_FIXED, -1, 0) {
        Ok(at) => {
            check_eq!(at, 0);
            ok!(sys::munmap(0, PAGE));
        }
        // Not with CAP_SYS_RAWIO; what a hardened system answers.
        Err(error) => check!(error.0 == libc::EPERM || error.0 == libc::EACCES, "{error}"),
    }
}

fn fixed_noreplace_free_is_taken() {
    let at = free_range(2);
    check_eq!(sys::mmap(at, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), Ok(at));
    poke(at, 1);
}

fn fixed_noreplace_occupied_is_eexist() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    errno_is!(sys::mmap(at, 4 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    errno_is!(sys::mmap(at + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn fixed_noreplace_partly_occupied_is_eexist() {
    let at = free_range(4);
    check_eq!(sys::mmap(at + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(at + PAGE));
    poke(at + PAGE, 6);
    errno_is!(sys::mmap(at, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    errno_is!(sys::mmap(at + PAGE, 3 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    errno_is!(sys::mmap(at, 4 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    check_eq!(peek(at + PAGE), 6);
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(1, 2, "rw-p".into())]);
}

fn fixed_noreplace_beside_a_mapping_succeeds() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    check_eq!(sys::mmap(at + PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), Ok(at + PAGE));
}

fn map_32bit_lies_in_the_low_two_gigabytes() {
    for _ in 0..20 {
        let at = ok!(sys::mmap(0, 16 * PAGE, RW, ANON | MAP_32BIT, -1, 0));
        check!(at + 16 * PAGE <= 1 << 31, "{at:#x}");
        poke(at, 1);
    }
}

fn map_32bit_goes_on_until_enomem() {
    const STEP: usize = 64 << 20;
    let mut made = 0;
    let error = loop {
        match sys::mmap(0, STEP, PROT_NONE, ANON | MAP_32BIT | MAP_NORESERVE, -1, 0) {
            Ok(at) => {
                check!(at + STEP <= 1 << 31, "{at:#x}");
                made += 1;
            }
            Err(error) => break error,
        }
        check!(made <= (2 << 30) / STEP, "more than 2 GiB below 2 GiB");
    };
    check_eq!(error, sys::Errno(libc::ENOMEM));
    check!(made >= 8, "only {made} pieces of 64 MiB");
    anon(1);
}

/// A MAP_GROWSDOWN mapping of one page at the top of that many free pages, with more than the stack guard gap free below.
fn growing(pages: usize) -> usize {
    let at = ok!(sys::mmap(0, (pages + 600) * PAGE, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
    ok!(sys::munmap(at, (pages + 600) * PAGE));
    let top = at + (pages + 599) * PAGE;
    check_eq!(sys::mmap(top, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0), Ok(top));
    top
}

fn growsdown_grows_on_access_below() {
    let top = growing(16);
    poke(top - 1, 5);
    poke(top - 3 * PAGE, 6);
    check_eq!(peek(top - 2 * PAGE), 0);
    let vma = procfs::vma_at(top);
    check_eq!(vma.map(|vma| (vma.start, vma.end)), Some((top - 3 * PAGE, top + PAGE)));
}

fn growsdown_keeps_its_content_when_it_grows() {
    let top = growing(16);
    poke(top, 1);
    poke(top + 100, 2);
    for page in 1..=16 {
        poke(top - page * PAGE, page as u8);
    }
    check_eq!((peek(top), peek(top + 100)), (1, 2));
    for page in 1..=16 {
        check_eq!(peek(top - page * PAGE), page as u8);
    }
}

fn growsdown_stops_at_a_mapping_below() {
    let top = growing(16);
    let below = top - 4 * PAGE;
    check_eq!(sys::mmap(below, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(below));
    // The stack guard gap (256 pages unless the system says otherwise) keeps it from growing at all.
    expect_maperr(top - 1, || poke(top - 1, 1));
    check_eq!(procfs::vma_at(top).map(|vma| vma.start), Some(top));
}

fn growsdown_is_named_in_smaps() {
    let top = growing(16);
    check!(procfs::vm_flags(top).contains(&"gd".to_string()));
    check!(!procfs::vm_flags(lone_anon(1)).contains(&"gd".to_string()));
}

fn stack_flag_is_ignored() {
    let at = ok!(sys::mmap(0, 16 * PAGE, RW, ANON | MAP_STACK, -1, 0));
    number_pages(at, 16, 0);
    check_eq!(peek(at + 15 * PAGE), 15);
}

fn noreserve_maps_more_than_memory() {
    let at = ok!(sys::mmap(0, 8 << 40, RW, ANON | MAP_NORESERVE, -1, 0));
    poke(at + (4 << 40), 1);
    check_eq!(peek(at + (8 << 40) - 1), 0);
}

fn locked_makes_pages_resident() {
    let at = ok!(sys::mmap(0, 16 * PAGE, RW, ANON | MAP_LOCKED, -1, 0));
    check_eq!(sys::mincore(at, 16 * PAGE).map(|pages| pages.iter().all(|page| page & 1 == 1)), Ok(true));
    check_eq!(procfs::smaps_kib(at, "Rss") >= 64, true);
    check!(procfs::vm_flags(at).contains(&"lo".to_string()));
}

fn nonblock_without_populate_maps() {
    let at = ok!(sys::mmap(0, PAGE, RW, ANON | MAP_NONBLOCK, -1, 0));
    poke(at, 1);
}

fn populate_nonblock_file_maps() {
    let fd = tmp::file(&[b'q'; 3 * PAGE]);
    let at = ok!(sys::mmap(0, 3 * PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE | MAP_NONBLOCK, fd, 0));
    check_eq!(page_numbers(at, 3), [b'q'; 3]);
}

fn adjacent_anonymous_mappings_are_one_line() {
    let at = free_range(4);
    for page in [0, 3, 1, 2] {
        ok!(sys::mmap(at + page * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    }
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(0, 4, "rw-p".into())]);
}

fn adjacent_of_different_rights_are_two_lines() {
    let at = free_range(4);
    ok!(sys::mmap(at, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0));
    ok!(sys::mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0));
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(0, 2, "rw-p".into()), (2, 4, "r--p".into())]);
}

fn first_hole_from_the_top_is_used_again() {
    let first = anon(16);
    let second = anon(16);
    check!(second < first, "mappings go from the top down: {first:#x}, then {second:#x}");
    ok!(sys::munmap(first, 16 * PAGE));
    check_eq!(sys::mmap(0, 16 * PAGE, RW, ANON, -1, 0), Ok(first));
}

fn last_user_page_can_be_mapped() {
    let last = address_space_end() - PAGE;
    in_child(|| {
        check_eq!(sys::mmap(last, PAGE, RW, ANON | MAP_FIXED, -1, 0), Ok(last));
        poke(last + PAGE - 1, 3);
        check_eq!(peek(last + PAGE - 1), 3);
        ok!(sys::munmap(last, PAGE));
    });
}
