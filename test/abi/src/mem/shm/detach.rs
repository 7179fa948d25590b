// SPDX-License-Identifier: MPL-2.0

//! shmdt(2) and munmap(2) of what is attached.

use libc::PROT_READ;

use super::{attach, detach, segment};
use crate::{
    fault::expect_maperr,
    harness::Case,
    mem::{ANON, PAGE, RW, free_range, lone_anon, number_pages, page_numbers, peek, poke},
    procfs, sys,
};

pub const CASES: &[Case] = cases!["mem/shm":
    detach_takes_it_away,
    detach_errors,
    detach_finds_what_is_left,
    detach_leaves_other_attaches,
    munmap_of_a_part,
];

fn detach_takes_it_away() {
    let at = ok!(attach(segment(2), 0, 0));
    poke(at, 1);
    check_eq!(detach(at), Ok(0));
    check_eq!(procfs::vma_at(at), None);
    expect_maperr(at, || _ = peek(at));
}

fn detach_errors() {
    let at = ok!(attach(segment(2), 0, 0));
    errno_is!(detach(at + 1), EINVAL);
    errno_is!(detach(at + PAGE), EINVAL);
    errno_is!(detach(lone_anon(1)), EINVAL);
    errno_is!(detach(free_range(1)), EINVAL);
    check_eq!(detach(at), Ok(0));
    errno_is!(detach(at), EINVAL);
}

fn detach_finds_what_is_left() {
    let (id, at) = (segment(4), free_range(4));
    ok!(attach(id, at, 0));
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    ok!(sys::munmap(at + 2 * PAGE, PAGE));
    ok!(sys::mmap(at + 2 * PAGE, PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    poke(at + 2 * PAGE, 9);
    check_eq!(detach(at), Ok(0));
    check_eq!(procfs::layout(at..at + 4 * PAGE), [(2, 3, "rw-p".to_string())]);
    check_eq!(peek(at + 2 * PAGE), 9);
}

fn detach_leaves_other_attaches() {
    let (id, at) = (segment(1), free_range(3));
    ok!(attach(id, at, 0));
    ok!(attach(id, at + 2 * PAGE, 0));
    ok!(detach(at));
    poke(at + 2 * PAGE, 1);
    check_eq!(procfs::layout(at..at + 3 * PAGE), [(2, 3, "rw-s".to_string())]);
}

fn munmap_of_a_part() {
    let at = ok!(attach(segment(3), 0, 0));
    number_pages(at, 3, 1);
    ok!(sys::munmap(at, PAGE));
    check_eq!(page_numbers(at + PAGE, 2), [2, 3]);
    // What began at its start is found by where that was.
    check_eq!(detach(at), Ok(0));
    check_eq!(procfs::vma_at(at + PAGE), None);
}
