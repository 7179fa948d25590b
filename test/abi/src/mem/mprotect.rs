// SPDX-License-Identifier: MPL-2.0

//! mprotect(2): what each right allows, splits and merges, holes, what a file's opening allows, every error it names.

use libc::{
    MAP_PRIVATE, MAP_SHARED, O_CLOEXEC, O_RDONLY, O_RDWR, PROT_EXEC, PROT_GROWSDOWN, PROT_NONE, PROT_READ,
    PROT_WRITE,
};

use super::{
    ANON, BEYOND, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{
    child::in_child,
    fault::{expect_accerr, expect_maperr},
    harness::Case,
    procfs, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/mprotect":
    read_only_refuses_writes,
    none_refuses_reads_and_writes,
    none_keeps_the_content,
    write_comes_back,
    untouched_pages_obey,
    middle_splits_in_three,
    head_splits_in_two,
    same_rights_again_merge,
    same_rights_change_nothing,
    neighbour_with_equal_rights_merges,
    across_several_mappings,
    up_to_a_hole_is_enomem_with_the_part_before_done,
    starting_in_a_hole_is_enomem,
    nothing_mapped_is_enomem,
    zero_length_succeeds,
    length_is_rounded_up,
    unaligned_is_einval,
    range_that_wraps_is_enomem,
    unknown_right_is_einval,
    growsdown_and_growsup_is_einval,
    growsdown_on_a_plain_mapping_is_einval,
    beyond_the_address_space_is_enomem,
    shared_of_read_only_open_is_eacces,
    shared_of_read_only_open_was_prot_none_is_eacces,
    private_of_read_only_open_may_be_written,
    shared_of_read_write_open_may_be_written,
    eacces_leaves_the_part_before_done,
    child_changes_only_its_own,
    rights_are_inherited_by_a_child,
    shared_memory_rights_are_of_the_mapping,
    write_only_maps_and_writes,
    toggled_many_times,
];

fn layout(at: usize, pages: usize) -> Vec<(usize, usize, String)> {
    procfs::layout(at..at + pages * PAGE)
}

fn read_only_refuses_writes() {
    let at = lone_anon(2);
    number_pages(at, 2, 1);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    check_eq!(page_numbers(at, 2), [1, 2]);
    expect_accerr(at + PAGE + 9, || poke(at + PAGE + 9, 1));
}

fn none_refuses_reads_and_writes() {
    let at = lone_anon(1);
    poke(at, 1);
    ok!(sys::mprotect(at, PAGE, PROT_NONE));
    expect_accerr(at, || _ = peek(at));
    expect_accerr(at + 4095, || poke(at + 4095, 1));
}

fn none_keeps_the_content() {
    let at = anon(4);
    number_pages(at, 4, 1);
    ok!(sys::mprotect(at, 4 * PAGE, PROT_NONE));
    ok!(sys::mprotect(at, 4 * PAGE, PROT_READ));
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn write_comes_back() {
    let at = anon(1);
    poke(at, 1);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    ok!(sys::mprotect(at, PAGE, RW));
    poke(at, 2);
    check_eq!(peek(at), 2);
}

fn untouched_pages_obey() {
    let at = lone_anon(2);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_NONE));
    check_eq!(peek(at), 0);
    expect_accerr(at, || poke(at, 1));
    expect_accerr(at + PAGE, || _ = peek(at + PAGE));
}

fn middle_splits_in_three() {
    let at = lone_anon(6);
    number_pages(at, 6, 1);
    ok!(sys::mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ));
    check_eq!(layout(at, 6), [(0, 2, "rw-p".into()), (2, 4, "r--p".into()), (4, 6, "rw-p".into())]);
    check_eq!(page_numbers(at, 6), [1, 2, 3, 4, 5, 6]);
    poke(at + PAGE, 9);
    poke(at + 4 * PAGE, 9);
    expect_accerr(at + 2 * PAGE, || poke(at + 2 * PAGE, 1));
    expect_accerr(at + 4 * PAGE - 1, || poke(at + 4 * PAGE - 1, 1));
}

fn head_splits_in_two() {
    let at = lone_anon(4);
    ok!(sys::mprotect(at, PAGE, PROT_READ | PROT_EXEC));
    check_eq!(layout(at, 4), [(0, 1, "r-xp".into()), (1, 4, "rw-p".into())]);
}

fn same_rights_again_merge() {
    let at = lone_anon(6);
    ok!(sys::mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ));
    ok!(sys::mprotect(at + 2 * PAGE, 2 * PAGE, RW));
    check_eq!(layout(at, 6), [(0, 6, "rw-p".into())]);
}

fn same_rights_change_nothing() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    ok!(sys::mprotect(at + PAGE, PAGE, RW));
    check_eq!(layout(at, 3), [(0, 3, "rw-p".into())]);
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn neighbour_with_equal_rights_merges() {
    let at = lone_anon(4);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_READ));
    check_eq!(layout(at, 4), [(0, 3, "r--p".into()), (3, 4, "rw-p".into())]);
}

fn across_several_mappings() {
    let at = lone_anon(6);
    number_pages(at, 6, 1);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    ok!(sys::mprotect(at + 3 * PAGE, PAGE, PROT_NONE));
    ok!(sys::mprotect(at, 6 * PAGE, PROT_READ));
    check_eq!(page_numbers(at, 6), [1, 2, 3, 4, 5, 6]);
    check!(layout(at, 6).iter().all(|(.., perms)| perms == "r--p"));
    expect_accerr(at + 5 * PAGE, || poke(at + 5 * PAGE, 1));
}

fn up_to_a_hole_is_enomem_with_the_part_before_done() {
    let at = lone_anon(6);
    ok!(sys::munmap(at + 3 * PAGE, PAGE));
    errno_is!(sys::mprotect(at + PAGE, 5 * PAGE, PROT_READ), ENOMEM);
    check_eq!(layout(at, 6), [(0, 1, "rw-p".into()), (1, 3, "r--p".into()), (4, 6, "rw-p".into())]);
}

fn starting_in_a_hole_is_enomem() {
    let at = lone_anon(4);
    ok!(sys::munmap(at, PAGE));
    errno_is!(sys::mprotect(at, 4 * PAGE, PROT_READ), ENOMEM);
    check_eq!(layout(at, 4), [(1, 4, "rw-p".into())]);
}

fn nothing_mapped_is_enomem() {
    errno_is!(sys::mprotect(free_range(2), 2 * PAGE, PROT_READ), ENOMEM);
}

fn zero_length_succeeds() {
    let at = lone_anon(1);
    check_eq!(sys::mprotect(at, 0, PROT_NONE), Ok(0));
    poke(at, 1);
    check_eq!(sys::mprotect(free_range(1), 0, PROT_NONE), Ok(0));
}

fn length_is_rounded_up() {
    let at = lone_anon(3);
    ok!(sys::mprotect(at, PAGE + 1, PROT_READ));
    check_eq!(layout(at, 3), [(0, 2, "r--p".into()), (2, 3, "rw-p".into())]);
}

fn unaligned_is_einval() {
    let at = lone_anon(2);
    errno_is!(sys::mprotect(at + 1, PAGE, PROT_READ), EINVAL);
    errno_is!(sys::mprotect(at + 1, 0, PROT_READ), EINVAL);
    check_eq!(layout(at, 2), [(0, 2, "rw-p".into())]);
}

fn range_that_wraps_is_enomem() {
    let at = lone_anon(1);
    errno_is!(sys::mprotect(at, usize::MAX & !(PAGE - 1), PROT_READ), ENOMEM);
    check_eq!(layout(at, 1), [(0, 1, "rw-p".into())]);
}

fn unknown_right_is_einval() {
    let at = lone_anon(1);
    errno_is!(sys::mprotect(at, PAGE, 0x40), EINVAL);
    errno_is!(sys::mprotect(at, PAGE, PROT_READ | 0x1_0000), EINVAL);
    check_eq!(layout(at, 1), [(0, 1, "rw-p".into())]);
}

fn growsdown_and_growsup_is_einval() {
    let at = lone_anon(1);
    errno_is!(sys::mprotect(at, PAGE, PROT_READ | PROT_GROWSDOWN | libc::PROT_GROWSUP), EINVAL);
}

fn growsdown_on_a_plain_mapping_is_einval() {
    let at = lone_anon(2);
    errno_is!(sys::mprotect(at + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN), EINVAL);
    check_eq!(layout(at, 2), [(0, 2, "rw-p".into())]);
}

fn beyond_the_address_space_is_enomem() {
    errno_is!(sys::mprotect(BEYOND, PAGE, PROT_READ), ENOMEM);
    errno_is!(sys::mprotect(0xffff_8000_0000_0000, PAGE, PROT_READ), ENOMEM);
}

fn mapped_file(open: i32, prot: i32, flags: i32) -> usize {
    let (fd, path) = tmp::named_file(&[7; 2 * PAGE]);
    sys::close(fd);
    ok!(sys::mmap(0, 2 * PAGE, prot, flags, ok!(sys::open(&path, open | O_CLOEXEC, 0)), 0))
}

fn shared_of_read_only_open_is_eacces() {
    let at = mapped_file(O_RDONLY, PROT_READ, MAP_SHARED);
    errno_is!(sys::mprotect(at, PAGE, RW), EACCES);
    check_eq!(layout(at, 2), [(0, 2, "r--s".into())]);
    check_eq!(peek(at), 7);
}

fn shared_of_read_only_open_was_prot_none_is_eacces() {
    let at = mapped_file(O_RDONLY, PROT_NONE, MAP_SHARED);
    errno_is!(sys::mprotect(at, PAGE, PROT_WRITE), EACCES);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(peek(at), 7);
}

fn private_of_read_only_open_may_be_written() {
    let at = mapped_file(O_RDONLY, PROT_READ, MAP_PRIVATE);
    ok!(sys::mprotect(at, PAGE, RW));
    poke(at, 8);
    check_eq!((peek(at), peek(at + 1)), (8, 7));
}

fn shared_of_read_write_open_may_be_written() {
    let at = mapped_file(O_RDWR, PROT_READ, MAP_SHARED);
    ok!(sys::mprotect(at, PAGE, RW));
    poke(at, 8);
    check_eq!((peek(at), peek(at + 1)), (8, 7));
}

fn eacces_leaves_the_part_before_done() {
    let (fd, path) = tmp::named_file(&[7; PAGE]);
    sys::close(fd);
    let fd = ok!(sys::open(&path, O_RDONLY | O_CLOEXEC, 0));
    let at = free_range(2);
    ok!(sys::mmap(at, PAGE, PROT_READ, ANON | libc::MAP_FIXED, -1, 0));
    ok!(sys::mmap(at + PAGE, PAGE, PROT_READ, MAP_SHARED | libc::MAP_FIXED, fd, 0));
    errno_is!(sys::mprotect(at, 2 * PAGE, RW), EACCES);
    check_eq!(layout(at, 2), [(0, 1, "rw-p".into()), (1, 2, "r--s".into())]);
}

fn child_changes_only_its_own() {
    let at = anon(2);
    number_pages(at, 2, 1);
    in_child(|| {
        ok!(sys::mprotect(at, 2 * PAGE, PROT_NONE));
    });
    poke(at, 5);
    check_eq!(page_numbers(at, 2), [5, 2]);
}

fn rights_are_inherited_by_a_child() {
    let at = lone_anon(3);
    number_pages(at, 3, 1);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_NONE));
    in_child(|| {
        check_eq!(layout(at, 3), [(0, 1, "r--p".into()), (1, 2, "---p".into()), (2, 3, "rw-p".into())]);
        expect_accerr(at, || poke(at, 1));
        expect_accerr(at + PAGE, || _ = peek(at + PAGE));
        expect_maperr(at + 3 * PAGE, || _ = peek(at + 3 * PAGE));
        poke(at + 2 * PAGE, 1);
    });
}

fn shared_memory_rights_are_of_the_mapping() {
    let at = anon_shared(1);
    in_child(|| {
        ok!(sys::mprotect(at, PAGE, PROT_READ));
    });
    poke(at, 1);
    check_eq!(peek(at), 1);
}

fn write_only_maps_and_writes() {
    let at = ok!(sys::mmap(0, PAGE, PROT_WRITE, ANON, -1, 0));
    poke(at, 4);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(peek(at), 4);
}

fn toggled_many_times() {
    let at = anon(16);
    number_pages(at, 16, 1);
    for round in 0..500 {
        let page = round % 16;
        ok!(sys::mprotect(at + page * PAGE, PAGE, PROT_NONE));
        ok!(sys::mprotect(at + page * PAGE, PAGE, RW));
        poke(at + page * PAGE, peek(at + page * PAGE).wrapping_add(1));
    }
    let sum: usize = page_numbers(at, 16).iter().map(|&number| number as usize).sum();
    check_eq!(sum, (1..=16).sum::<usize>() + 500);
}
