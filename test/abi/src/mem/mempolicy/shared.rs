// SPDX-License-Identifier: MPL-2.0

//! Policies of what several mappings show: they belong to the pages of a file in memory, of shared anonymous memory, of a segment.

use libc::{MAP_PRIVATE, MAP_SHARED};

use super::{BIND, DEFAULT, F_ADDR, FIRST, INTERLEAVE, NONE, RELATIVE, SECOND, get, home, mbind, one_node};
use crate::{
    child::in_child,
    harness::Case,
    mem::{
        PAGE, RW, anon_shared,
        shm::{attach, segment},
    },
    procfs, sys,
};

pub const CASES: &[Case] = cases!["mem/mempolicy":
    policy_of_a_memfd_is_that_of_its_pages,
    policy_of_a_memfd_outlives_its_mappings,
    policy_of_a_memfd_holds_for_private_mappings,
    policy_of_shared_memory_is_shared_with_a_child,
    policy_of_a_segment_is_that_of_all_attaches,
    policy_of_a_mapping_is_another_matter,
    policy_of_what_merges_is_set_with_it,
    policy_of_shared_memory_keeps_nodes_of_its_own,
];

fn memfd(pages: usize) -> i32 {
    let fd = ok!(syscall!(SYS_memfd_create, c"policy".as_ptr(), libc::MFD_CLOEXEC)) as i32;
    ok!(sys::ftruncate(fd, pages * PAGE));
    fd
}

fn map(fd: i32, pages: std::ops::Range<usize>) -> usize {
    ok!(sys::mmap(0, pages.len() * PAGE, RW, MAP_SHARED, fd, (pages.start * PAGE) as i64))
}

/// The modes of some pages.
fn modes<const N: usize>(at: usize) -> [i32; N] {
    std::array::from_fn(|page| ok!(get(at + page * PAGE, F_ADDR)).0)
}

fn policy_of_a_memfd_is_that_of_its_pages() {
    one_node();
    let fd = memfd(8);
    let (whole, part) = (map(fd, 0..8), map(fd, 4..6));
    ok!(mbind(part, 2 * PAGE, BIND, FIRST, 0));
    check_eq!(modes(whole), [DEFAULT, DEFAULT, DEFAULT, DEFAULT, BIND, BIND, DEFAULT, DEFAULT]);
    check_eq!(get(whole + 4 * PAGE, F_ADDR), Ok((BIND, FIRST)));
    ok!(mbind(whole + 3 * PAGE, 2 * PAGE, INTERLEAVE, FIRST, 0));
    check_eq!(modes(whole), [DEFAULT, DEFAULT, DEFAULT, INTERLEAVE, INTERLEAVE, BIND, DEFAULT, DEFAULT]);
    check_eq!(modes(part), [INTERLEAVE, BIND]);
    // Within a larger one.
    ok!(mbind(whole, 8 * PAGE, BIND, FIRST, 0));
    ok!(mbind(whole + 2 * PAGE, PAGE, DEFAULT, NONE, 0));
    check_eq!(modes(whole), [BIND, BIND, DEFAULT, BIND, BIND, BIND, BIND, BIND]);
}

fn policy_of_a_memfd_outlives_its_mappings() {
    one_node();
    let fd = memfd(2);
    let at = map(fd, 0..2);
    ok!(mbind(at, PAGE, BIND, FIRST, 0));
    ok!(sys::munmap(at, 2 * PAGE));
    let at = map(fd, 0..2);
    check_eq!(modes(at), [BIND, DEFAULT]);
    // Even of pages that went meanwhile.
    ok!(sys::ftruncate(fd, 0));
    ok!(sys::ftruncate(fd, 2 * PAGE));
    check_eq!(modes(at), [BIND, DEFAULT]);
}

fn policy_of_a_memfd_holds_for_private_mappings() {
    one_node();
    let fd = memfd(2);
    let shared = map(fd, 0..2);
    let private = ok!(sys::mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    ok!(mbind(shared, PAGE, BIND, FIRST, 0));
    check_eq!(modes(private), [BIND, DEFAULT]);
    ok!(mbind(private + PAGE, PAGE, INTERLEAVE, FIRST, 0));
    check_eq!(modes(shared), [BIND, INTERLEAVE]);
}

fn policy_of_shared_memory_is_shared_with_a_child() {
    one_node();
    let at = anon_shared(3);
    ok!(mbind(at, PAGE, BIND, FIRST, 0));
    in_child(|| {
        check_eq!(modes(at), [BIND, DEFAULT, DEFAULT]);
        ok!(mbind(at + PAGE, PAGE, INTERLEAVE, FIRST, 0));
        ok!(sys::munmap(at, 3 * PAGE));
    });
    check_eq!(modes(at), [BIND, INTERLEAVE, DEFAULT]);
    check_eq!(procfs::layout(at..at + 3 * PAGE).len(), 2);
}

fn policy_of_a_segment_is_that_of_all_attaches() {
    one_node();
    let id = segment(2);
    let (one, other) = (ok!(attach(id, 0, 0)), ok!(attach(id, 0, 0)));
    ok!(mbind(one + PAGE, PAGE, BIND, FIRST, 0));
    check_eq!(modes(other), [DEFAULT, BIND]);
    in_child(|| check_eq!(modes(other), [DEFAULT, BIND]));
}

/// A mapping that has a policy already is passed over, whatever its pages have got since.
fn policy_of_a_mapping_is_another_matter() {
    one_node();
    let fd = memfd(2);
    let (one, other) = (map(fd, 0..2), map(fd, 0..2));
    ok!(mbind(one, 2 * PAGE, BIND, FIRST, 0));
    ok!(mbind(other, 2 * PAGE, INTERLEAVE, FIRST, 0));
    ok!(mbind(one, 2 * PAGE, BIND, FIRST, 0));
    check_eq!(modes(one), [INTERLEAVE, INTERLEAVE]);
    ok!(home(one, PAGE, 0, 0));
    check_eq!(modes(other), [BIND, INTERLEAVE]);
    ok!(mbind(one, 2 * PAGE, DEFAULT, NONE, 0));
    check_eq!(modes(other), [DEFAULT, DEFAULT]);
}

/// A mapping that becomes one with its neighbour takes the neighbour's pages along.
fn policy_of_what_merges_is_set_with_it() {
    one_node();
    let fd = memfd(3);
    let (one, other) = (map(fd, 0..3), map(fd, 0..3));
    ok!(mbind(one, PAGE, BIND, FIRST, 0));
    ok!(mbind(other, 3 * PAGE, INTERLEAVE, FIRST, 0));
    ok!(mbind(one + PAGE, PAGE, BIND, FIRST, 0));
    check_eq!(procfs::layout(one..one + 3 * PAGE).len(), 2);
    check_eq!(modes(other), [BIND, BIND, INTERLEAVE]);
}

fn policy_of_shared_memory_keeps_nodes_of_its_own() {
    one_node();
    let at = anon_shared(1);
    ok!(mbind(at, PAGE, BIND | RELATIVE, SECOND, 0));
    check_eq!(get(at, F_ADDR), Ok((BIND | RELATIVE, SECOND)));
    in_child(|| check_eq!(get(at, F_ADDR), Ok((BIND | RELATIVE, SECOND))));
}
