// SPDX-License-Identifier: MPL-2.0

//! Anonymous memory: zero at first, there on demand, counted as resident only once touched.

use libc::{MAP_ANONYMOUS, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ};

use super::{ANON, PAGE, RW, anon, anon_shared, bytes, fill, lone_anon, page_numbers, peek, poke};
use crate::{harness::Case, procfs, sys};

pub const CASES: &[Case] = cases!["mem/anon":
    private_is_zero,
    shared_is_zero,
    every_byte_holds,
    length_is_rounded_up_to_a_page,
    memory_mapped_again_is_zero,
    reading_gives_zero_and_writing_stays,
    a_read_does_not_stop_a_later_write,
    untouched_pages_are_not_resident,
    touched_pages_are_resident,
    populate_makes_pages_resident,
    populate_read_only_makes_pages_readable,
    populate_of_prot_none_succeeds,
    fd_is_ignored,
    sparse_terabyte_can_be_touched_anywhere,
    noreserve_terabyte_maps,
    three_thousand_pieces,
    large_region_keeps_its_content,
];

fn private_is_zero() {
    let at = anon(16);
    check!(bytes(at, 16 * PAGE).iter().all(|&byte| byte == 0));
}

fn shared_is_zero() {
    let at = anon_shared(16);
    check!(bytes(at, 16 * PAGE).iter().all(|&byte| byte == 0));
}

fn every_byte_holds() {
    let at = anon(3);
    for offset in 0..3 * PAGE {
        poke(at + offset, (offset % 251) as u8);
    }
    check!(bytes(at, 3 * PAGE).iter().enumerate().all(|(offset, &byte)| byte == (offset % 251) as u8));
}

fn length_is_rounded_up_to_a_page() {
    let at = ok!(sys::mmap(0, 1, RW, ANON, -1, 0));
    check_eq!(at % PAGE, 0);
    poke(at + PAGE - 1, 7);
    check_eq!(peek(at + PAGE - 1), 7);
    check_eq!(sys::munmap(at, 1), Ok(0));
    errno_is!(sys::msync(at, PAGE, libc::MS_SYNC), ENOMEM);
}

fn memory_mapped_again_is_zero() {
    let at = anon(64);
    fill(at, 64 * PAGE, 0x5a);
    check_eq!(sys::mmap(at, 64 * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0), Ok(at));
    check!(bytes(at, 64 * PAGE).iter().all(|&byte| byte == 0));
    fill(at, 64 * PAGE, 0x5a);
    ok!(sys::munmap(at, 64 * PAGE));
    check_eq!(sys::mmap(at, 64 * PAGE, RW, ANON, -1, 0), Ok(at));
    check!(bytes(at, 64 * PAGE).iter().all(|&byte| byte == 0));
}

fn reading_gives_zero_and_writing_stays() {
    let at = anon(2);
    check_eq!(peek(at + 100), 0);
    poke(at + 100, 1);
    check_eq!(peek(at + 100), 1);
    check_eq!(peek(at + 99), 0);
    check_eq!(peek(at + PAGE + 100), 0);
}

fn a_read_does_not_stop_a_later_write() {
    let (first, second) = (anon(4), anon(4));
    check_eq!(page_numbers(first, 4), [0; 4]);
    check_eq!(page_numbers(second, 4), [0; 4]);
    poke(first, 9);
    check_eq!(page_numbers(first, 4), [9, 0, 0, 0]);
    check_eq!(page_numbers(second, 4), [0; 4], "all pages that were only read may be one page");
}

fn untouched_pages_are_not_resident() {
    let at = lone_anon(256);
    check_eq!(procfs::smaps_kib(at, "Size"), 1024);
    check_eq!(procfs::smaps_kib(at, "Rss"), 0);
}

fn touched_pages_are_resident() {
    let at = lone_anon(256);
    for page in 0..10 {
        poke(at + page * 7 * PAGE, 1);
    }
    check_eq!(procfs::smaps_kib(at, "Rss"), 40);
    check_eq!(procfs::smaps_kib(at, "Anonymous"), 40);
}

fn populate_makes_pages_resident() {
    let at = ok!(sys::mmap(0, 32 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    check_eq!(sys::mincore(at, 32 * PAGE).map(|pages| pages.iter().all(|page| page & 1 == 1)), Ok(true));
    check!(bytes(at, 32 * PAGE).iter().all(|&byte| byte == 0));
}

fn populate_read_only_makes_pages_readable() {
    let at = ok!(sys::mmap(0, 8 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    check_eq!(sys::mincore(at, 8 * PAGE).map(|pages| pages.iter().all(|page| page & 1 == 1)), Ok(true));
    check_eq!(page_numbers(at, 8), [0; 8]);
}

fn populate_of_prot_none_succeeds() {
    let at = ok!(sys::mmap(0, 8 * PAGE, PROT_NONE, ANON | MAP_POPULATE, -1, 0));
    ok!(sys::mprotect(at, 8 * PAGE, RW));
    check_eq!(page_numbers(at, 8), [0; 8]);
}

fn fd_is_ignored() {
    let at = ok!(sys::mmap(0, PAGE, RW, ANON, 12345, 0));
    check_eq!(peek(at), 0);
}

fn sparse_terabyte_can_be_touched_anywhere() {
    const TIB: usize = 1 << 40;
    let at = ok!(sys::mmap(0, TIB, RW, ANON | MAP_NORESERVE, -1, 0));
    for step in 0..16 {
        poke(at + step * (TIB / 16) + step * PAGE, step as u8 + 1);
    }
    poke(at + TIB - 1, 99);
    for step in 0..16 {
        check_eq!(peek(at + step * (TIB / 16) + step * PAGE), step as u8 + 1);
        check_eq!(peek(at + step * (TIB / 16) + (step + 1) * PAGE), 0);
    }
    check_eq!(peek(at + TIB - 1), 99);
    ok!(sys::munmap(at, TIB));
    errno_is!(sys::msync(at, PAGE, libc::MS_SYNC), ENOMEM);
}

fn noreserve_terabyte_maps() {
    let at = ok!(sys::mmap(0, 1 << 40, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
    ok!(sys::mprotect(at + (1 << 39), PAGE, RW));
    poke(at + (1 << 39), 1);
    check_eq!(peek(at + (1 << 39)), 1);
}

fn three_thousand_pieces() {
    const PIECES: usize = 3000;
    let at = lone_anon(2 * PIECES);
    for piece in 0..PIECES {
        ok!(sys::mprotect(at + 2 * piece * PAGE, PAGE, PROT_READ));
    }
    check_eq!(procfs::layout(at..at + 2 * PIECES * PAGE).len(), 2 * PIECES);
    for piece in 0..PIECES {
        poke(at + (2 * piece + 1) * PAGE, piece as u8);
    }
    for piece in 0..PIECES {
        check_eq!(peek(at + 2 * piece * PAGE), 0);
        check_eq!(peek(at + (2 * piece + 1) * PAGE), piece as u8);
    }
    ok!(sys::mprotect(at, 2 * PIECES * PAGE, RW));
    // Linux need not merge pieces that were touched apart.
    check!(procfs::layout(at..at + 2 * PIECES * PAGE).iter().all(|(.., perms)| perms == "rw-p"));
    ok!(sys::munmap(at, 2 * PIECES * PAGE));
    check_eq!(procfs::layout(at..at + 2 * PIECES * PAGE), []);
}

fn large_region_keeps_its_content() {
    const PAGES: usize = 4096;
    let at = anon(PAGES);
    for page in 0..PAGES {
        poke(at + page * PAGE, (page % 255) as u8);
        poke(at + page * PAGE + PAGE - 1, (page % 253) as u8);
    }
    for page in 0..PAGES {
        check_eq!(peek(at + page * PAGE), (page % 255) as u8);
        check_eq!(peek(at + page * PAGE + PAGE - 1), (page % 253) as u8);
    }
}
