// SPDX-License-Identifier: MPL-2.0

//! remap_file_pages(2), as Linux has emulated it since 4.0: other pages of the same file, by a mapping of their own.

use libc::{MAP_PRIVATE, MAP_SHARED, O_RDONLY, PROT_READ};

use super::{PAGE, RW, anon, anon_shared, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{harness::Case, procfs, sys, sys::Result, tmp};

pub const CASES: &[Case] = cases!["mem/remap_file_pages":
    shows_other_pages,
    of_shared_anonymous_memory,
    several_pages_over_several_mappings,
    what_is_written_is_in_the_file,
    keeps_the_rights,
    unaligned_arguments_are_rounded_down,
    beyond_the_end_of_the_file,
    private_mapping_is_einval,
    read_only_open_is_einval,
    rights_are_einval,
    hole_or_nothing_is_einval,
    different_mappings_are_einval,
    zero_size_is_einval,
    page_that_wraps_is_einval,
    page_beyond_all_files_is_eoverflow,
];

fn remap(addr: usize, size: usize, prot: i32, page: usize, flags: i32) -> Result {
    syscall!(SYS_remap_file_pages, addr, size, prot, page, flags)
}

/// A file whose pages hold their number from 1 on.
fn numbered(pages: usize) -> i32 {
    let content: Vec<u8> = (0..pages * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    tmp::file(&content)
}

/// Shared pages of such a file, alone in their place.
fn shared(pages: usize, fd: i32) -> usize {
    let at = super::free_range(pages);
    ok!(sys::mmap(at, pages * PAGE, RW, MAP_SHARED | libc::MAP_FIXED, fd, 0))
}

fn shows_other_pages() {
    let at = shared(4, numbered(8));
    check_eq!(remap(at, PAGE, 0, 5, 0), Ok(0));
    check_eq!(page_numbers(at, 4), [6, 2, 3, 4]);
    let offsets: Vec<usize> = procfs::maps()
        .iter()
        .filter(|vma| (at..at + 4 * PAGE).contains(&vma.start))
        .map(|vma| vma.offset)
        .collect();
    check_eq!(offsets, [5 * PAGE, PAGE]);
    // Back where it was it is one with its neighbour again.
    check_eq!(remap(at, PAGE, 0, 0, 0), Ok(0));
    check_eq!(procfs::layout(at..at + 4 * PAGE).len(), 1);
}

fn of_shared_anonymous_memory() {
    let at = anon_shared(4);
    number_pages(at, 4, 1);
    check_eq!(remap(at, 2 * PAGE, 0, 2, 0), Ok(0));
    check_eq!(page_numbers(at, 4), [3, 4, 3, 4]);
    poke(at, 9);
    check_eq!(page_numbers(at, 4), [9, 4, 9, 4]);
}

fn several_pages_over_several_mappings() {
    let fd = numbered(8);
    let at = shared(2, fd);
    check_eq!(
        sys::mmap(at + 2 * PAGE, PAGE, RW, MAP_SHARED | libc::MAP_FIXED, fd, (6 * PAGE) as i64),
        Ok(at + 2 * PAGE)
    );
    check_eq!(remap(at + PAGE, 2 * PAGE, 0, 3, 0), Ok(0));
    check_eq!(page_numbers(at, 3), [1, 4, 5]);
}

fn what_is_written_is_in_the_file() {
    let fd = numbered(4);
    let at = shared(4, fd);
    ok!(remap(at, PAGE, 0, 3, 0));
    poke(at, b'w');
    let mut byte = [0];
    check_eq!(sys::pread(fd, &mut byte, 3 * PAGE), Ok(1));
    check_eq!((byte[0], peek(at + 3 * PAGE)), (b'w', b'w'));
}

fn keeps_the_rights() {
    let at = shared(2, numbered(4));
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    ok!(remap(at, PAGE, 0, 2, 0));
    check_eq!(peek(at), 3);
    crate::fault::expect_accerr(at, || poke(at, 1));
    ok!(sys::mprotect(at, PAGE, RW));
    poke(at, 1);
}

fn unaligned_arguments_are_rounded_down() {
    let at = shared(4, numbered(8));
    check_eq!(remap(at + 100, PAGE + 5, 0, 7, 0), Ok(0));
    check_eq!(page_numbers(at, 4), [8, 2, 3, 4]);
}

fn beyond_the_end_of_the_file() {
    let at = shared(2, numbered(2));
    check_eq!(remap(at, PAGE, 0, 9, 0), Ok(0));
    crate::fault::expect_bus(at, || _ = peek(at));
}

fn private_mapping_is_einval() {
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_PRIVATE, numbered(2), 0));
    errno_is!(remap(at, PAGE, 0, 1, 0), EINVAL);
    errno_is!(remap(anon(1), PAGE, 0, 1, 0), EINVAL);
    check_eq!(peek(at), 1);
}

fn read_only_open_is_einval() {
    let (_, path) = tmp::named_file(&[1; 2 * PAGE]);
    let fd = ok!(sys::open(&path, O_RDONLY, 0));
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    errno_is!(remap(at, PAGE, 0, 1, 0), EINVAL);
}

fn rights_are_einval() {
    let at = shared(1, numbered(2));
    errno_is!(remap(at, PAGE, PROT_READ, 1, 0), EINVAL);
    check_eq!(peek(at), 1);
}

fn hole_or_nothing_is_einval() {
    let at = shared(2, numbered(8));
    errno_is!(remap(at, 3 * PAGE, 0, 4, 0), EINVAL);
    errno_is!(remap(at + 2 * PAGE, PAGE, 0, 4, 0), EINVAL);
    errno_is!(remap(at - PAGE, 2 * PAGE, 0, 4, 0), EINVAL);
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn different_mappings_are_einval() {
    let fd = numbered(8);
    let at = shared(3, fd);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    errno_is!(remap(at, 2 * PAGE, 0, 4, 0), EINVAL);
    ok!(sys::mmap(at + PAGE, PAGE, RW, super::ANON_SHARED | libc::MAP_FIXED, -1, 0));
    errno_is!(remap(at, 2 * PAGE, 0, 4, 0), EINVAL);
    check_eq!(peek(at), 1);
}

fn zero_size_is_einval() {
    let at = shared(1, numbered(2));
    errno_is!(remap(at, 0, 0, 1, 0), EINVAL);
    errno_is!(remap(at, PAGE - 1, 0, 1, 0), EINVAL);
    errno_is!(remap(lone_anon(1), usize::MAX, 0, 1, 0), EINVAL);
}

fn page_that_wraps_is_einval() {
    let at = shared(1, numbered(2));
    errno_is!(remap(at, PAGE, 0, usize::MAX, 0), EINVAL);
}

fn page_beyond_all_files_is_eoverflow() {
    let at = shared(1, numbered(2));
    errno_is!(remap(at, PAGE, 0, 1 << 52, 0), EOVERFLOW);
    check_eq!(peek(at), 1);
}
