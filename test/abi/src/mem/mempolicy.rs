// SPDX-License-Identifier: MPL-2.0

//! Memory policies on a machine with one node: set_mempolicy(2), get_mempolicy(2), mbind(2), set_mempolicy_home_node(2),
//! migrate_pages(2); move_pages(2), and what is shared, have modules of their own.

pub(super) mod move_pages;
pub(super) mod shared;

use libc::PROT_NONE;

use super::{PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{child::in_child, harness::Case, procfs, sys, sys::Result, tmp};

pub const CASES: &[Case] = cases!["mem/mempolicy":
    default_is_the_default,
    what_is_set_is_got,
    preferred_without_nodes_is_local,
    nodes_of_its_own_are_kept_with_static_nodes,
    is_inherited_by_a_child_and_by_a_thread,
    set_errors,
    node_sets_are_checked,
    get_writes_a_word_and_zeros,
    get_errors,
    allowed_nodes_are_the_one,
    next_node_of_interleave,
    node_of_an_address,
    node_of_an_address_that_cannot_be_read_is_efault,
    mbind_is_got_by_address,
    mbind_keeps_nodes_of_its_own,
    mbind_splits_and_default_merges,
    mbind_goes_with_a_move_and_a_fork,
    mbind_keeps_the_content,
    mbind_hole_is_efault,
    mbind_default_passes_over_holes,
    mbind_errors,
    mbind_strict_without_the_node_is_eio_where_pages_are,
    home_node_needs_bind,
    home_node_splits,
    home_node_errors,
    migrate_pages_moves_nothing,
    migrate_pages_errors,
];

const DEFAULT: i32 = 0;
const PREFERRED: i32 = 1;
const BIND: i32 = 2;
const INTERLEAVE: i32 = 3;
const LOCAL: i32 = 4;
const PREFERRED_MANY: i32 = 5;
const BALANCING: i32 = 1 << 13;
const RELATIVE: i32 = 1 << 14;
const STATIC: i32 = 1 << 15;
const F_NODE: i32 = 1;
const F_ADDR: i32 = 2;
const F_MEMS_ALLOWED: i32 = 4;
const MF_STRICT: i32 = 1;
const MF_MOVE: i32 = 2;
const MF_MOVE_ALL: i32 = 4;

/// The one node, the second, and none.
const FIRST: u64 = 1;
const SECOND: u64 = 2;
const NONE: u64 = 0;

/// The size of a set of nodes, as the calls take it.
const MAX: usize = 64 + 1;

fn set(mode: i32, nodes: u64) -> Result {
    syscall!(SYS_set_mempolicy, mode, &raw const nodes, MAX)
}

fn get(addr: usize, flags: i32) -> Result<(i32, u64)> {
    let (mut mode, mut nodes) = (-1_i32, u64::MAX);
    syscall!(SYS_get_mempolicy, &raw mut mode, &raw mut nodes, MAX, addr, flags).map(|_| (mode, nodes))
}

fn mbind(addr: usize, len: usize, mode: i32, nodes: u64, flags: i32) -> Result {
    syscall!(SYS_mbind, addr, len, mode, &raw const nodes, MAX, flags)
}

fn home(addr: usize, len: usize, node: usize, flags: usize) -> Result {
    syscall!(SYS_set_mempolicy_home_node, addr, len, node, flags)
}

fn migrate(pid: i32, old: u64, new: u64) -> Result {
    syscall!(SYS_migrate_pages, pid, MAX, &raw const old, &raw const new)
}

/// Skips the case where there is more than one node.
fn one_node() {
    check_eq!(get(0, F_MEMS_ALLOWED).map(|(mode, _)| mode), Ok(0));
    if get(0, F_MEMS_ALLOWED) != Ok((0, FIRST)) {
        skip!("this machine has more than one node");
    }
}

fn default_is_the_default() {
    check_eq!(get(0, 0), Ok((DEFAULT, NONE)));
    check_eq!(get(anon(1), F_ADDR), Ok((DEFAULT, NONE)));
}

fn what_is_set_is_got() {
    one_node();
    for mode in [PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, BIND | BALANCING] {
        check_eq!(set(mode, FIRST), Ok(0));
        check_eq!(get(0, 0), Ok((mode, FIRST)));
    }
    check_eq!(set(LOCAL, NONE), Ok(0));
    check_eq!(get(0, 0), Ok((LOCAL, NONE)));
    check_eq!(set(DEFAULT, NONE), Ok(0));
    check_eq!(get(0, 0), Ok((DEFAULT, NONE)));
    // Mappings have none of it.
    ok!(set(BIND, FIRST));
    let at = anon(1);
    poke(at, 1);
    check_eq!(get(at, F_ADDR), Ok((DEFAULT, NONE)));
}

fn preferred_without_nodes_is_local() {
    check_eq!(set(PREFERRED, NONE), Ok(0));
    check_eq!(get(0, 0), Ok((LOCAL, NONE)));
    check_eq!(syscall!(SYS_set_mempolicy, PREFERRED, 0, 0), Ok(0));
}

fn nodes_of_its_own_are_kept_with_static_nodes() {
    one_node();
    check_eq!(set(BIND, FIRST | SECOND), Ok(0));
    check_eq!(get(0, 0), Ok((BIND, FIRST)));
    check_eq!(set(BIND | STATIC, FIRST | SECOND), Ok(0));
    check_eq!(get(0, 0), Ok((BIND | STATIC, FIRST | SECOND)));
    check_eq!(set(BIND | RELATIVE, SECOND), Ok(0));
    check_eq!(get(0, 0), Ok((BIND | RELATIVE, SECOND)));
}

fn is_inherited_by_a_child_and_by_a_thread() {
    one_node();
    ok!(set(INTERLEAVE, FIRST));
    in_child(|| {
        check_eq!(get(0, 0), Ok((INTERLEAVE, FIRST)));
        ok!(set(DEFAULT, NONE));
    });
    check_eq!(get(0, 0), Ok((INTERLEAVE, FIRST)));
    let seen = std::thread::spawn(|| {
        let seen = get(0, 0);
        ok!(set(BIND, FIRST));
        seen
    });
    check_eq!(seen.join().ok(), Some(Ok((INTERLEAVE, FIRST))));
    check_eq!(get(0, 0), Ok((INTERLEAVE, FIRST)));
}

fn set_errors() {
    one_node();
    ok!(set(BIND, FIRST));
    for (mode, nodes) in [
        (BIND, NONE),
        (INTERLEAVE, NONE),
        (PREFERRED_MANY, NONE),
        (BIND, SECOND),
        (PREFERRED, SECOND),
        (INTERLEAVE | STATIC, SECOND),
        (DEFAULT, FIRST),
        (LOCAL, FIRST),
        (LOCAL | STATIC, NONE),
        (PREFERRED | RELATIVE, NONE),
        (BIND | STATIC | RELATIVE, FIRST),
        (INTERLEAVE | BALANCING, FIRST),
        (9, FIRST),
        (-1, FIRST),
    ] {
        errno_is!(set(mode, nodes), EINVAL);
    }
    check_eq!(get(0, 0), Ok((BIND, FIRST)));
}

fn node_sets_are_checked() {
    one_node();
    let nodes = FIRST;
    errno_is!(syscall!(SYS_set_mempolicy, BIND, 8, MAX), EFAULT);
    errno_is!(syscall!(SYS_set_mempolicy, BIND, &raw const nodes, 1 << 20), EINVAL);
    errno_is!(syscall!(SYS_set_mempolicy, BIND, &raw const nodes, 0), EINVAL);
    // A size of one bit less than one is no set at all.
    errno_is!(syscall!(SYS_set_mempolicy, BIND, &raw const nodes, 1), EINVAL);
    check_eq!(syscall!(SYS_set_mempolicy, DEFAULT, &raw const nodes, 1), Ok(0));
    // One bit is looked at, and one that no kernel can have must be zero.
    let many = u64::MAX;
    check_eq!(syscall!(SYS_set_mempolicy, BIND, &raw const many, 2), Ok(0));
    let mut large = [0_u64; 64];
    large[0] = FIRST;
    check_eq!(syscall!(SYS_set_mempolicy, BIND, large.as_ptr(), 64 * 64 + 1), Ok(0));
    large[63] = 1;
    errno_is!(syscall!(SYS_set_mempolicy, BIND, large.as_ptr(), 64 * 64 + 1), EINVAL);
}

fn get_writes_a_word_and_zeros() {
    one_node();
    ok!(set(BIND, FIRST));
    let mut words = [u64::MAX; 4];
    check_eq!(syscall!(SYS_get_mempolicy, 0, words.as_mut_ptr(), 3 * 64 + 1, 0, 0), Ok(0));
    check_eq!(words, [1, 0, 0, u64::MAX]);
    check_eq!(syscall!(SYS_get_mempolicy, 0, 0, 0, 0, 0), Ok(0));
}

fn get_errors() {
    let (mut mode, mut nodes) = (0_i32, 0_u64);
    let at = anon(1);
    errno_is!(get(0, 8), EINVAL);
    errno_is!(get(at, 0), EINVAL);
    errno_is!(get(0, F_NODE), EINVAL);
    errno_is!(get(0, F_MEMS_ALLOWED | F_NODE), EINVAL);
    errno_is!(get(at, F_MEMS_ALLOWED | F_ADDR), EINVAL);
    errno_is!(get(free_range(1), F_ADDR), EFAULT);
    errno_is!(get(super::BEYOND, F_ADDR), EFAULT);
    errno_is!(syscall!(SYS_get_mempolicy, &raw mut mode, &raw mut nodes, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_get_mempolicy, 8, 0, 0, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_get_mempolicy, 0, 8, MAX, 0, 0), EFAULT);
}

fn allowed_nodes_are_the_one() {
    one_node();
    check_eq!(get(0, F_MEMS_ALLOWED), Ok((0, FIRST)));
}

fn next_node_of_interleave() {
    one_node();
    ok!(set(INTERLEAVE, FIRST));
    check_eq!(get(0, F_NODE), Ok((0, FIRST)));
    ok!(set(BIND, FIRST));
    errno_is!(get(0, F_NODE), EINVAL);
}

fn node_of_an_address() {
    one_node();
    let at = anon(2);
    poke(at, 1);
    for addr in [at, at + PAGE, at + 100] {
        check_eq!(get(addr, F_NODE | F_ADDR).map(|(node, _)| node), Ok(0));
    }
    check_eq!((peek(at), peek(at + PAGE)), (1, 0));
}

fn node_of_an_address_that_cannot_be_read_is_efault() {
    let at = anon(1);
    ok!(sys::mprotect(at, PAGE, PROT_NONE));
    errno_is!(get(at, F_NODE | F_ADDR), EFAULT);
    check_eq!(get(at, F_ADDR).map(|(mode, _)| mode), Ok(DEFAULT));
    errno_is!(get(free_range(1), F_NODE | F_ADDR), EFAULT);
    let file = ok!(sys::mmap(0, PAGE, RW, libc::MAP_SHARED, tmp::file(b""), 0));
    errno_is!(get(file, F_NODE | F_ADDR), EFAULT);
}

fn mbind_is_got_by_address() {
    one_node();
    let at = lone_anon(3);
    check_eq!(mbind(at + PAGE, PAGE, BIND, FIRST, 0), Ok(0));
    check_eq!(get(at + PAGE, F_ADDR), Ok((BIND, FIRST)));
    check_eq!(get(at + PAGE + 7, F_ADDR), Ok((BIND, FIRST)));
    for page in [0, 2] {
        check_eq!(get(at + page * PAGE, F_ADDR), Ok((DEFAULT, NONE)));
    }
    for mode in [PREFERRED, INTERLEAVE, PREFERRED_MANY, BIND | STATIC, BIND | BALANCING] {
        check_eq!(mbind(at, 3 * PAGE, mode, FIRST, 0), Ok(0));
        check_eq!(get(at, F_ADDR), Ok((mode, FIRST)));
    }
    check_eq!(mbind(at, PAGE, LOCAL, NONE, 0), Ok(0));
    check_eq!(get(at, F_ADDR), Ok((LOCAL, NONE)));
    check_eq!(get(0, 0), Ok((DEFAULT, NONE)));
}

fn mbind_keeps_nodes_of_its_own() {
    one_node();
    let at = lone_anon(4);
    check_eq!(mbind(at, PAGE, BIND | STATIC, FIRST | SECOND, 0), Ok(0));
    check_eq!(mbind(at + PAGE, PAGE, BIND | STATIC, FIRST | SECOND, 0), Ok(0));
    check_eq!(mbind(at + 2 * PAGE, PAGE, PREFERRED_MANY | RELATIVE, SECOND, 0), Ok(0));
    check_eq!(mbind(at + 3 * PAGE, PAGE, BIND | STATIC, FIRST, 0), Ok(0));
    errno_is!(mbind(at + 3 * PAGE, PAGE, BIND | STATIC, SECOND, 0), EINVAL);
    let expected = [
        (BIND | STATIC, FIRST | SECOND),
        (BIND | STATIC, FIRST | SECOND),
        (PREFERRED_MANY | RELATIVE, SECOND),
        (BIND | STATIC, FIRST),
    ];
    let policies = || [0, 1, 2, 3].map(|page| get(at + page * PAGE, F_ADDR));
    check_eq!(policies(), expected.map(Ok));
    check_eq!(procfs::layout(at..at + 4 * PAGE).len(), 3);
    in_child(|| check_eq!(policies(), expected.map(Ok)));
    // Without a word on how they count, nodes that do not exist are forgotten.
    check_eq!(mbind(at, 4 * PAGE, INTERLEAVE, FIRST | SECOND, 0), Ok(0));
    check_eq!(policies(), [Ok((INTERLEAVE, FIRST)); 4]);
}

fn mbind_splits_and_default_merges() {
    one_node();
    let at = lone_anon(4);
    let pieces = || procfs::layout(at..at + 4 * PAGE).len();
    ok!(mbind(at + PAGE, PAGE, BIND, FIRST, 0));
    check_eq!(pieces(), 3);
    ok!(mbind(at + 2 * PAGE, PAGE, BIND, FIRST, 0));
    check_eq!(pieces(), 3);
    ok!(mbind(at + 2 * PAGE, PAGE, INTERLEAVE, FIRST, 0));
    check_eq!(pieces(), 4);
    check_eq!(mbind(at, 4 * PAGE, DEFAULT, NONE, 0), Ok(0));
    check_eq!(pieces(), 1);
}

fn mbind_goes_with_a_move_and_a_fork() {
    one_node();
    let at = lone_anon(2);
    ok!(mbind(at, PAGE, BIND, FIRST, 0));
    poke(at, 4);
    in_child(|| check_eq!(get(at, F_ADDR), Ok((BIND, FIRST))));
    let to = ok!(sys::mremap(at, PAGE, 2 * PAGE, libc::MREMAP_MAYMOVE, 0));
    check_eq!((peek(to), get(to + PAGE, F_ADDR)), (4, Ok((BIND, FIRST))));
}

fn mbind_keeps_the_content() {
    one_node();
    let at = anon(4);
    number_pages(at, 4, 1);
    for flags in [0, MF_MOVE, MF_STRICT, MF_STRICT | MF_MOVE, MF_MOVE_ALL] {
        check_eq!(mbind(at, 4 * PAGE, BIND, FIRST, flags), Ok(0));
        check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
    }
    let shared = anon_shared(1);
    poke(shared, 3);
    check_eq!(mbind(shared, PAGE, BIND, FIRST, MF_MOVE), Ok(0));
    check_eq!((peek(shared), get(shared, F_ADDR)), (3, Ok((BIND, FIRST))));
}

fn mbind_hole_is_efault() {
    one_node();
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(mbind(at, 3 * PAGE, BIND, FIRST, 0), EFAULT);
    errno_is!(mbind(at + PAGE, 2 * PAGE, BIND, FIRST, 0), EFAULT);
    errno_is!(mbind(at + PAGE, PAGE, DEFAULT, NONE, 0), EFAULT);
    check_eq!(get(at, F_ADDR), Ok((DEFAULT, NONE)));
}

fn mbind_default_passes_over_holes() {
    one_node();
    let at = lone_anon(3);
    ok!(mbind(at, 3 * PAGE, BIND, FIRST, 0));
    ok!(sys::munmap(at + PAGE, PAGE));
    check_eq!(mbind(at, 3 * PAGE, DEFAULT, NONE, 0), Ok(0));
    check_eq!(get(at, F_ADDR), Ok((DEFAULT, NONE)));
    check_eq!(get(at + 2 * PAGE, F_ADDR), Ok((DEFAULT, NONE)));
}

fn mbind_errors() {
    one_node();
    let at = lone_anon(1);
    for (mode, nodes, flags) in
        [(BIND, NONE, 0), (BIND, SECOND, 0), (DEFAULT, FIRST, 0), (9, FIRST, 0), (BIND, FIRST, 16)]
    {
        errno_is!(mbind(at, PAGE, mode, nodes, flags), EINVAL);
    }
    errno_is!(mbind(at + 1, PAGE, BIND, FIRST, 0), EINVAL);
    errno_is!(mbind(at, usize::MAX - 2 * PAGE, BIND, FIRST, 0), EINVAL);
    check_eq!(mbind(at, 0, BIND, FIRST, 0), Ok(0));
    errno_is!(syscall!(SYS_mbind, at, PAGE, BIND, 8, MAX, 0), EFAULT);
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(mbind(at, PAGE, BIND, FIRST, MF_MOVE_ALL), EPERM);
        check_eq!(mbind(at, PAGE, BIND, FIRST, MF_MOVE), Ok(0));
    });
}

/// MPOL_MF_STRICT asks for pages on the nodes that are named, which may be none, or be counted in a way of their own.
fn mbind_strict_without_the_node_is_eio_where_pages_are() {
    one_node();
    let at = lone_anon(4);
    check_eq!(mbind(at, 4 * PAGE, LOCAL, NONE, MF_STRICT), Ok(0));
    check_eq!(peek(at), 0);
    check_eq!(mbind(at, 4 * PAGE, PREFERRED, NONE, MF_STRICT), Ok(0));
    poke(at + PAGE, 1);
    for (mode, nodes) in [(LOCAL, NONE), (PREFERRED, NONE), (BIND | RELATIVE, SECOND)] {
        errno_is!(mbind(at, 4 * PAGE, mode, nodes, MF_STRICT), EIO);
        check_eq!(get(at, F_ADDR), Ok((LOCAL, NONE)));
        check_eq!(mbind(at, PAGE, mode, nodes, MF_STRICT), Ok(0));
        check_eq!(mbind(at, 4 * PAGE, LOCAL, NONE, MF_STRICT | MF_MOVE), Ok(0));
    }
    check_eq!(mbind(at, 4 * PAGE, DEFAULT, NONE, MF_STRICT), Ok(0));
    // What comes first is found first.
    ok!(sys::munmap(at + 3 * PAGE, PAGE));
    errno_is!(mbind(at, 4 * PAGE, LOCAL, NONE, MF_STRICT), EFAULT);
    ok!(sys::mprotect(at + 2 * PAGE, PAGE, libc::PROT_READ));
    errno_is!(mbind(at, 4 * PAGE, LOCAL, NONE, MF_STRICT), EIO);
    errno_is!(mbind(at + 2 * PAGE, 2 * PAGE, LOCAL, NONE, MF_STRICT), EFAULT);
}

fn home_node_splits() {
    one_node();
    let at = lone_anon(4);
    let pieces = || procfs::layout(at..at + 4 * PAGE).len();
    ok!(mbind(at, 4 * PAGE, BIND, FIRST, 0));
    check_eq!(pieces(), 1);
    ok!(home(at + PAGE, PAGE, 0, 0));
    check_eq!((pieces(), get(at + PAGE, F_ADDR)), (3, Ok((BIND, FIRST))));
    // What comes before something that cannot have one has it.
    ok!(mbind(at + 3 * PAGE, PAGE, INTERLEAVE, FIRST, 0));
    errno_is!(home(at, 4 * PAGE, 0, 0), EOPNOTSUPP);
    check_eq!(pieces(), 2);
    ok!(mbind(at, 4 * PAGE, BIND, FIRST, 0));
    check_eq!(pieces(), 1);
}

fn home_node_needs_bind() {
    one_node();
    let at = lone_anon(2);
    errno_is!(home(at, PAGE, 0, 0), ENOENT);
    ok!(mbind(at, PAGE, BIND, FIRST, 0));
    check_eq!(home(at, PAGE, 0, 0), Ok(0));
    check_eq!(home(at, 2 * PAGE, 0, 0), Ok(0));
    ok!(mbind(at, PAGE, PREFERRED_MANY, FIRST, 0));
    check_eq!(home(at, PAGE, 0, 0), Ok(0));
    ok!(mbind(at, PAGE, INTERLEAVE, FIRST, 0));
    errno_is!(home(at, PAGE, 0, 0), EOPNOTSUPP);
}

fn home_node_errors() {
    let at = lone_anon(1);
    errno_is!(home(at + 1, PAGE, 0, 0), EINVAL);
    errno_is!(home(at, PAGE, 0, 1), EINVAL);
    errno_is!(home(at, PAGE, 5000, 0), EINVAL);
    check_eq!(home(at, 0, 0, 0), Ok(0));
    errno_is!(home(free_range(1), PAGE, 0, 0), ENOENT);
}

fn migrate_pages_moves_nothing() {
    one_node();
    let at = anon(2);
    number_pages(at, 2, 1);
    check_eq!(migrate(0, FIRST, FIRST), Ok(0));
    check_eq!(migrate(sys::getpid(), FIRST, FIRST), Ok(0));
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn migrate_pages_errors() {
    one_node();
    errno_is!(migrate(0, FIRST, NONE), EINVAL);
    errno_is!(migrate(0, FIRST, SECOND), EINVAL);
    errno_is!(migrate(0x3fff_ffff, FIRST, FIRST), ESRCH);
    errno_is!(syscall!(SYS_migrate_pages, 0, MAX, 8, 8), EFAULT);
    let nodes = FIRST;
    errno_is!(syscall!(SYS_migrate_pages, 0, 1 << 20, &raw const nodes, &raw const nodes), EINVAL);
    let parent = sys::getpid();
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(migrate(parent, FIRST, FIRST), EPERM);
        errno_is!(migrate(0, FIRST, SECOND), EPERM);
        check_eq!(migrate(0, FIRST, FIRST), Ok(0));
    });
}
