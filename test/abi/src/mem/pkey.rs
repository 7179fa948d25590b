// SPDX-License-Identifier: MPL-2.0

//! Protection keys (pkeys(7)), on a CPU that has none; where there are some, what must hold with them too.

use libc::{PROT_GROWSDOWN, PROT_GROWSUP, PROT_NONE, PROT_READ};

use super::{PAGE, RW, anon, lone_anon, peek, poke};
use crate::{child::in_child, fault::expect_accerr, harness::Case, procfs, sys::Result};

pub const CASES: &[Case] = cases!["mem/pkey":
    alloc_without_keys_is_einval_then_enospc,
    alloc_again_in_a_child_is_enospc,
    alloc_with_keys_gives_one_that_can_be_freed,
    alloc_unknown_flag_is_einval,
    alloc_unknown_right_is_einval,
    free_of_what_nobody_has_is_einval,
    mprotect_without_a_key_is_mprotect,
    mprotect_with_a_key_nobody_has_is_einval_and_changes_nothing,
    mprotect_looks_at_the_range_first,
];

/// Whether the CPU has keys, and the kernel uses them.
fn has_keys() -> bool {
    let info = ok!(std::fs::read_to_string("/proc/cpuinfo"));
    info.split_whitespace().any(|word| word == "ospke")
}

fn alloc(flags: usize, rights: usize) -> Result {
    syscall!(SYS_pkey_alloc, flags, rights)
}

fn free(key: i32) -> Result {
    syscall!(SYS_pkey_free, key)
}

fn protect(addr: usize, len: usize, prot: i32, key: i32) -> Result {
    syscall!(SYS_pkey_mprotect, addr, len, prot, key)
}

fn alloc_without_keys_is_einval_then_enospc() {
    if has_keys() {
        skip!("this CPU has protection keys");
    }
    errno_is!(alloc(0, 0), EINVAL);
    errno_is!(alloc(0, 0), ENOSPC);
    errno_is!(alloc(0, 3), ENOSPC);
}

fn alloc_again_in_a_child_is_enospc() {
    if has_keys() {
        skip!("this CPU has protection keys");
    }
    in_child(|| errno_is!(alloc(0, 0), EINVAL));
    errno_is!(alloc(0, 0), EINVAL);
    in_child(|| errno_is!(alloc(0, 0), ENOSPC));
}

fn alloc_with_keys_gives_one_that_can_be_freed() {
    if !has_keys() {
        skip!("this CPU has no protection keys");
    }
    let key = ok!(alloc(0, 0)) as i32;
    check!((1..16).contains(&key));
    let at = anon(1);
    check_eq!(protect(at, PAGE, PROT_READ, key), Ok(0));
    check_eq!((free(key), protect(at, PAGE, PROT_READ, -1)), (Ok(0), Ok(0)));
}

fn alloc_unknown_flag_is_einval() {
    errno_is!(alloc(1, 0), EINVAL);
    errno_is!(alloc(1 << 40, 0), EINVAL);
}

fn alloc_unknown_right_is_einval() {
    errno_is!(alloc(0, 4), EINVAL);
    errno_is!(alloc(0, 1 << 40), EINVAL);
}

fn free_of_what_nobody_has_is_einval() {
    for key in [-1, 1, 15, 16, 1 << 20, i32::MIN] {
        errno_is!(free(key), EINVAL);
    }
}

fn mprotect_without_a_key_is_mprotect() {
    let at = lone_anon(3);
    poke(at + PAGE, 5);
    check_eq!(protect(at + PAGE, PAGE, PROT_READ, -1), Ok(0));
    expect_accerr(at + PAGE, || poke(at + PAGE, 1));
    check_eq!(peek(at + PAGE), 5);
    let layout = procfs::layout(at..at + 3 * PAGE);
    let expected = [(0, 1, "rw-p"), (1, 2, "r--p"), (2, 3, "rw-p")];
    check_eq!(layout, expected.map(|(start, end, perms)| (start, end, perms.to_string())));
    check_eq!(protect(at + PAGE, PAGE, RW, -1), Ok(0));
    poke(at + PAGE, 6);
    errno_is!(protect(at, 5 * PAGE, PROT_READ, -1), ENOMEM);
}

fn mprotect_with_a_key_nobody_has_is_einval_and_changes_nothing() {
    let at = lone_anon(1);
    for key in [-2, 1, 15, 16, i32::MIN] {
        errno_is!(protect(at, PAGE, PROT_NONE, key), EINVAL);
    }
    if !has_keys() {
        errno_is!(protect(at, PAGE, PROT_NONE, 0), EINVAL);
    }
    poke(at, 1);
}

fn mprotect_looks_at_the_range_first() {
    let at = anon(1);
    check_eq!(protect(at, 0, PROT_READ, 15), Ok(0));
    errno_is!(protect(at + 1, PAGE, PROT_READ, -1), EINVAL);
    errno_is!(protect(at, PAGE, PROT_GROWSDOWN | PROT_GROWSUP, -1), EINVAL);
    errno_is!(protect(at, usize::MAX - PAGE, PROT_READ, 15), ENOMEM);
    errno_is!(protect(at, PAGE, 0x100, -1), EINVAL);
}
