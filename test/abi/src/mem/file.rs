// SPDX-License-Identifier: MPL-2.0

//! File mappings: offsets, the end of the file, private copies, and one truth with read and write.

use libc::{MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MS_SYNC, O_CLOEXEC, O_RDONLY, O_RDWR, O_TRUNC, PROT_READ};

use super::{PAGE, RW, anon, bytes, fill, free_range, number_pages, page_numbers, peek, poke};
use crate::{
    child::in_child,
    fault::{expect_bus, expect_maperr},
    harness::Case,
    procfs, sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/file":
    shows_the_content,
    offset_selects_the_page,
    two_offsets_in_one_range,
    tail_of_the_last_page_is_zero,
    write_to_the_tail_stays_out_of_the_file,
    beyond_the_last_page_is_sigbus,
    private_beyond_the_last_page_is_sigbus,
    empty_file_is_sigbus,
    mapping_outlives_its_descriptor,
    mapping_outlives_its_name,
    shared_write_is_seen_by_read,
    write_is_seen_by_shared_mapping,
    write_is_seen_by_untouched_private_mapping,
    write_is_not_seen_by_touched_private_page,
    private_write_is_not_seen_by_read,
    private_write_copies_the_whole_page,
    two_shared_mappings_are_one_memory,
    shared_mappings_of_two_opens_are_one_memory,
    shared_and_private_see_one_file,
    grown_file_becomes_accessible,
    truncated_page_is_sigbus,
    truncate_zeroes_the_tail_in_the_mapping,
    truncate_drops_private_copies,
    truncate_and_grow_gives_zeros,
    open_with_trunc_empties_the_mapping,
    hole_reads_as_zero,
    store_into_a_hole_is_written,
    read_into_a_mapping_of_the_same_file,
    write_from_a_mapping_of_the_same_file,
    write_from_private_mapping_gives_the_copy,
    appended_data_shows_in_the_mapping,
    mapping_can_be_larger_than_the_file,
    middle_of_a_file_mapping_can_go,
    offset_shows_in_maps_after_a_split,
    neighbours_of_one_file_are_one_line,
    neighbours_with_a_gap_in_offsets_are_two_lines,
    shared_mapping_survives_in_a_child,
    large_file_through_a_mapping,
    private_file_pages_count_as_anonymous_once_written,
];

/// A file of numbered pages: page n is full of byte n + 1.
fn numbered(pages: usize) -> i32 {
    let content: Vec<u8> = (0..pages * PAGE).map(|offset| (offset / PAGE + 1) as u8).collect();
    tmp::file(&content)
}

fn map(fd: i32, pages: usize, flags: i32) -> usize {
    ok!(sys::mmap(0, pages * PAGE, RW, flags, fd, 0))
}

/// One byte of the file as read sees it.
fn byte_of(fd: i32, offset: usize) -> u8 {
    let mut byte = [0xee];
    check_eq!(sys::pread(fd, &mut byte, offset), Ok(1));
    byte[0]
}

fn shows_the_content() {
    let content: Vec<u8> = (0..3 * PAGE).map(|offset| (offset % 241) as u8).collect();
    let fd = tmp::file(&content);
    for flags in [MAP_PRIVATE, MAP_SHARED] {
        check!(bytes(map(fd, 3, flags), 3 * PAGE) == content.as_slice());
    }
}

fn offset_selects_the_page() {
    let fd = numbered(5);
    let at = ok!(sys::mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 3 * PAGE as i64));
    check_eq!(page_numbers(at, 2), [4, 5]);
}

fn two_offsets_in_one_range() {
    let fd = numbered(4);
    let at = free_range(2);
    ok!(sys::mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 3 * PAGE as i64));
    ok!(sys::mmap(at + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, PAGE as i64));
    check_eq!(page_numbers(at, 2), [4, 2]);
}

fn tail_of_the_last_page_is_zero() {
    let fd = tmp::file(&[b'a'; PAGE + 100]);
    for flags in [MAP_PRIVATE, MAP_SHARED] {
        let at = map(fd, 2, flags);
        check_eq!(peek(at + PAGE + 99), b'a');
        check!(bytes(at + PAGE + 100, PAGE - 100).iter().all(|&byte| byte == 0));
    }
}

fn write_to_the_tail_stays_out_of_the_file() {
    let fd = tmp::file(&[b'a'; 100]);
    let at = map(fd, 1, MAP_SHARED);
    poke(at + 200, b'z');
    ok!(sys::msync(at, PAGE, MS_SYNC));
    let mut content = [0; 300];
    check_eq!(sys::pread(fd, &mut content, 0), Ok(100));
}

fn beyond_the_last_page_is_sigbus() {
    let fd = tmp::file(&[b'a'; PAGE + 1]);
    let at = map(fd, 4, MAP_SHARED);
    expect_bus(at + 2 * PAGE, || _ = peek(at + 2 * PAGE));
    expect_bus(at + 3 * PAGE + 17, || poke(at + 3 * PAGE + 17, 1));
    check_eq!(peek(at + PAGE), b'a');
}

fn private_beyond_the_last_page_is_sigbus() {
    let fd = tmp::file(&[b'a'; PAGE]);
    let at = map(fd, 2, MAP_PRIVATE);
    expect_bus(at + PAGE, || _ = peek(at + PAGE));
    expect_bus(at + PAGE + 8, || poke(at + PAGE + 8, 1));
}

fn empty_file_is_sigbus() {
    let fd = tmp::file(b"");
    let at = map(fd, 1, MAP_SHARED);
    expect_bus(at, || _ = peek(at));
}

fn mapping_outlives_its_descriptor() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_SHARED);
    sys::close(fd);
    check_eq!(page_numbers(at, 2), [1, 2]);
    poke(at, 9);
    check_eq!(peek(at), 9);
}

fn mapping_outlives_its_name() {
    let (fd, path) = tmp::named_file(&[b'n'; PAGE]);
    let at = map(fd, 1, MAP_SHARED);
    if let Err(error) = std::fs::remove_file(&path) {
        panic!("removing {path}: {error}");
    }
    sys::close(fd);
    check_eq!(peek(at + 5), b'n');
    check_eq!(procfs::vma_at(at).map(|vma| vma.path), Some(format!("{path} (deleted)")));
}

fn shared_write_is_seen_by_read() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_SHARED);
    poke(at + PAGE + 7, b'w');
    check_eq!(byte_of(fd, PAGE + 7), b'w');
    check_eq!(byte_of(fd, PAGE + 8), 2);
}

fn write_is_seen_by_shared_mapping() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_SHARED);
    check_eq!(peek(at + 10), 1);
    check_eq!(sys::pwrite(fd, b"hello", 10), Ok(5));
    check_eq!(bytes(at + 10, 5), b"hello");
}

fn write_is_seen_by_untouched_private_mapping() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_PRIVATE);
    check_eq!(sys::pwrite(fd, b"p", PAGE), Ok(1));
    check_eq!(peek(at + PAGE), b'p');
}

fn write_is_not_seen_by_touched_private_page() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_PRIVATE);
    poke(at, 50);
    check_eq!(sys::pwrite(fd, b"pppp", 0), Ok(4));
    check_eq!(bytes(at, 4), [50, 1, 1, 1]);
}

fn private_write_is_not_seen_by_read() {
    let fd = numbered(2);
    let (private, shared) = (map(fd, 2, MAP_PRIVATE), map(fd, 2, MAP_SHARED));
    fill(private, 2 * PAGE, 0x77);
    check_eq!(byte_of(fd, 0), 1);
    check_eq!(byte_of(fd, 2 * PAGE - 1), 2);
    check_eq!(page_numbers(shared, 2), [1, 2]);
}

fn private_write_copies_the_whole_page() {
    let fd = numbered(1);
    let at = map(fd, 1, MAP_PRIVATE);
    poke(at + 2000, 99);
    check!((0..PAGE).all(|offset| peek(at + offset) == if offset == 2000 { 99 } else { 1 }));
}

fn two_shared_mappings_are_one_memory() {
    let fd = numbered(2);
    let (first, second) = (map(fd, 2, MAP_SHARED), map(fd, 2, MAP_SHARED));
    check_eq!(peek(second + PAGE), 2);
    poke(first + PAGE, 42);
    check_eq!(peek(second + PAGE), 42);
    poke(second, 43);
    check_eq!(peek(first), 43);
}

fn shared_mappings_of_two_opens_are_one_memory() {
    let (fd, path) = tmp::named_file(&[1; PAGE]);
    let other = ok!(sys::open(&path, O_RDONLY | O_CLOEXEC, 0));
    let (writer, reader) = (map(fd, 1, MAP_SHARED), ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, other, 0)));
    poke(writer + 1, 5);
    check_eq!(bytes(reader, 3), [1, 5, 1]);
}

fn shared_and_private_see_one_file() {
    let fd = numbered(2);
    let (shared, private) = (map(fd, 2, MAP_SHARED), map(fd, 2, MAP_PRIVATE));
    poke(shared, 70);
    check_eq!(page_numbers(private, 2), [70, 2]);
    poke(private, 80);
    poke(shared, 90);
    check_eq!(peek(private), 80);
    check_eq!(peek(shared), 90);
}

fn grown_file_becomes_accessible() {
    let fd = numbered(1);
    let at = map(fd, 3, MAP_SHARED);
    expect_bus(at + PAGE, || _ = peek(at + PAGE));
    ok!(sys::ftruncate(fd, 2 * PAGE));
    check_eq!(peek(at + PAGE), 0);
    poke(at + PAGE, 8);
    check_eq!(byte_of(fd, PAGE), 8);
    expect_bus(at + 2 * PAGE, || _ = peek(at + 2 * PAGE));
}

fn truncated_page_is_sigbus() {
    let fd = numbered(3);
    let at = map(fd, 3, MAP_SHARED);
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
    ok!(sys::ftruncate(fd, PAGE));
    check_eq!(peek(at), 1);
    expect_bus(at + PAGE, || _ = peek(at + PAGE));
    expect_bus(at + 2 * PAGE + 5, || poke(at + 2 * PAGE + 5, 1));
}

fn truncate_zeroes_the_tail_in_the_mapping() {
    let fd = numbered(1);
    let at = map(fd, 1, MAP_SHARED);
    check_eq!(peek(at + 1000), 1);
    ok!(sys::ftruncate(fd, 10));
    check_eq!(peek(at + 9), 1);
    check!(bytes(at + 10, PAGE - 10).iter().all(|&byte| byte == 0));
}

fn truncate_drops_private_copies() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_PRIVATE);
    number_pages(at, 2, 60);
    ok!(sys::ftruncate(fd, PAGE));
    check_eq!(peek(at), 60);
    expect_bus(at + PAGE, || _ = peek(at + PAGE));
    ok!(sys::ftruncate(fd, 2 * PAGE));
    check_eq!(peek(at + PAGE), 0, "the private copy went with the page of the file");
}

fn truncate_and_grow_gives_zeros() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_SHARED);
    ok!(sys::ftruncate(fd, 0));
    ok!(sys::ftruncate(fd, 2 * PAGE));
    check!(bytes(at, 2 * PAGE).iter().all(|&byte| byte == 0));
}

fn open_with_trunc_empties_the_mapping() {
    let (fd, path) = tmp::named_file(&[1; PAGE]);
    let at = map(fd, 1, MAP_SHARED);
    check_eq!(peek(at), 1);
    sys::close(ok!(sys::open(&path, O_RDWR | O_TRUNC, 0)));
    expect_bus(at, || _ = peek(at));
}

fn hole_reads_as_zero() {
    let fd = tmp::file(b"");
    ok!(sys::ftruncate(fd, 100 * PAGE));
    check_eq!(sys::pwrite(fd, b"x", 50 * PAGE), Ok(1));
    let at = map(fd, 100, MAP_PRIVATE);
    check_eq!(peek(at + 49 * PAGE), 0);
    check_eq!(peek(at + 50 * PAGE), b'x');
    check_eq!(peek(at + 99 * PAGE), 0);
}

fn store_into_a_hole_is_written() {
    let fd = tmp::file(b"");
    ok!(sys::ftruncate(fd, 10 * PAGE));
    let at = map(fd, 10, MAP_SHARED);
    poke(at + 5 * PAGE + 1, b'h');
    check_eq!(byte_of(fd, 5 * PAGE + 1), b'h');
    check_eq!(byte_of(fd, 5 * PAGE), 0);
}

fn read_into_a_mapping_of_the_same_file() {
    let fd = numbered(3);
    let at = map(fd, 3, MAP_SHARED);
    check_eq!(syscall!(SYS_pread64, fd, at, PAGE, 2 * PAGE), Ok(PAGE));
    check_eq!(page_numbers(at, 3), [3, 2, 3]);
    check_eq!(byte_of(fd, 0), 3);
}

fn write_from_a_mapping_of_the_same_file() {
    let fd = numbered(3);
    let at = map(fd, 3, MAP_SHARED);
    // Not a page of the mapping has been touched yet.
    check_eq!(syscall!(SYS_pwrite64, fd, at + 2 * PAGE, PAGE, 0), Ok(PAGE));
    check_eq!(page_numbers(at, 3), [3, 2, 3]);
    check_eq!(syscall!(SYS_pwrite64, fd, at + PAGE, PAGE, 100), Ok(PAGE));
    check_eq!(peek(at + 100), 2);
}

fn write_from_private_mapping_gives_the_copy() {
    let fd = numbered(1);
    let at = map(fd, 1, MAP_PRIVATE);
    poke(at, 66);
    check_eq!(syscall!(SYS_pwrite64, fd, at, 2, 0), Ok(2));
    check_eq!((byte_of(fd, 0), byte_of(fd, 1)), (66, 1));
}

fn appended_data_shows_in_the_mapping() {
    let fd = tmp::file(&[b'a'; 10]);
    let at = map(fd, 1, MAP_SHARED);
    check_eq!(peek(at + 10), 0);
    check_eq!(sys::pwrite(fd, b"bcd", 10), Ok(3));
    check_eq!(bytes(at + 9, 5), b"abcd\0");
}

fn mapping_can_be_larger_than_the_file() {
    let fd = numbered(1);
    let at = ok!(sys::mmap(0, 1 << 30, PROT_READ, MAP_SHARED, fd, 0));
    check_eq!(peek(at), 1);
    expect_bus(at + (1 << 29), || _ = peek(at + (1 << 29)));
}

fn middle_of_a_file_mapping_can_go() {
    let fd = numbered(5);
    let at = map(fd, 5, MAP_SHARED);
    ok!(sys::munmap(at + PAGE, 2 * PAGE));
    expect_maperr(at + PAGE, || _ = peek(at + PAGE));
    check_eq!(page_numbers(at + 3 * PAGE, 2), [4, 5]);
    poke(at + 4 * PAGE, 9);
    check_eq!(byte_of(fd, 4 * PAGE), 9);
}

fn offset_shows_in_maps_after_a_split() {
    let fd = numbered(5);
    let at = map(fd, 5, MAP_PRIVATE);
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, PROT_READ));
    let offset = |page: usize| procfs::vma_at(at + page * PAGE).map(|vma| vma.offset);
    check_eq!((offset(0), offset(2), offset(3)), (Some(0), Some(2 * PAGE), Some(3 * PAGE)));
}

fn neighbours_of_one_file_are_one_line() {
    let fd = numbered(4);
    let at = free_range(4);
    ok!(sys::mmap(at, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
    ok!(sys::mmap(at + 2 * PAGE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2 * PAGE as i64));
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(0, 4, "r--s".into())]);
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn neighbours_with_a_gap_in_offsets_are_two_lines() {
    let fd = numbered(4);
    let at = free_range(2);
    ok!(sys::mmap(at, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
    ok!(sys::mmap(at + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2 * PAGE as i64));
    check_eq!(procfs::layout(at..at + 2 * PAGE).len(), 2);
    check_eq!(page_numbers(at, 2), [1, 3]);
}

fn shared_mapping_survives_in_a_child() {
    let fd = numbered(2);
    let at = map(fd, 2, MAP_SHARED);
    in_child(|| {
        check_eq!(page_numbers(at, 2), [1, 2]);
        poke(at + PAGE, 31);
    });
    check_eq!(peek(at + PAGE), 31);
    check_eq!(byte_of(fd, PAGE), 31);
}

fn large_file_through_a_mapping() {
    const PAGES: usize = 2048;
    let fd = tmp::file(b"");
    ok!(sys::ftruncate(fd, PAGES * PAGE));
    let at = map(fd, PAGES, MAP_SHARED);
    number_pages(at, PAGES, 1);
    ok!(sys::munmap(at, PAGES * PAGE));
    for page in (0..PAGES).step_by(7) {
        check_eq!(byte_of(fd, page * PAGE), 1_u8.wrapping_add(page as u8));
    }
}

fn private_file_pages_count_as_anonymous_once_written() {
    let fd = numbered(8);
    let at = map(fd, 8, MAP_PRIVATE);
    check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    check_eq!(procfs::smaps_kib(at, "Anonymous"), 0);
    poke(at, 1);
    poke(at + 3 * PAGE, 1);
    check_eq!(procfs::smaps_kib(at, "Anonymous"), 8);
    check_eq!(procfs::smaps_kib(at, "Rss"), 32);
    anon(1);
}
