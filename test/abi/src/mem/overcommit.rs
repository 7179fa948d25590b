// SPDX-License-Identifier: MPL-2.0

//! More memory than there is: what the heuristic of overcommit_memory 0 refuses (proc_sys_vm(5)).

use libc::{
    MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE,
};

use super::{PAGE, anon};
use crate::{harness::Case, sys};

pub const CASES: &[Case] = cases!["mem/overcommit":
    heuristic_is_the_default,
    writable_memory_beyond_all_is_enomem,
    shared_memory_beyond_all_is_enomem,
    without_reserve_there_is_no_bound,
    unwritable_memory_has_no_bound,
    protection_counts_what_becomes_writable,
    growth_counts,
    heap_counts,
    several_may_be_more_than_all,
];

/// More bytes than memory and swap together.
fn beyond() -> usize {
    let setting = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    if setting.trim() != "0" {
        skip!("overcommit_memory is {}", setting.trim());
    }
    let info = ok!(std::fs::read_to_string("/proc/meminfo"));
    let kib = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0)
    };
    (kib("MemTotal:") + kib("SwapTotal:")) * 1024 + (64 << 20)
}

fn map(len: usize, prot: i32, flags: i32) -> sys::Result {
    sys::mmap(0, len, prot, MAP_ANONYMOUS | flags, -1, 0)
}

fn heuristic_is_the_default() {
    let setting = ok!(std::fs::read_to_string("/proc/sys/vm/overcommit_memory"));
    check!(["0\n", "1\n", "2\n"].contains(&setting.as_str()), "{setting:?}");
}

fn writable_memory_beyond_all_is_enomem() {
    errno_is!(map(beyond(), PROT_READ | PROT_WRITE, MAP_PRIVATE), ENOMEM);
    errno_is!(map(beyond(), PROT_WRITE, MAP_PRIVATE), ENOMEM);
}

fn shared_memory_beyond_all_is_enomem() {
    errno_is!(map(beyond(), PROT_READ | PROT_WRITE, MAP_SHARED), ENOMEM);
}

fn without_reserve_there_is_no_bound() {
    let at = ok!(map(beyond(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE));
    ok!(sys::mprotect(at, beyond(), PROT_NONE));
    ok!(sys::mprotect(at, beyond(), PROT_READ | PROT_WRITE));
}

fn unwritable_memory_has_no_bound() {
    for prot in [PROT_NONE, PROT_READ] {
        ok!(map(beyond(), prot, MAP_PRIVATE));
    }
}

fn protection_counts_what_becomes_writable() {
    let len = beyond();
    let at = ok!(map(len, PROT_NONE, MAP_PRIVATE));
    ok!(sys::mprotect(at, len, PROT_READ));
    errno_is!(sys::mprotect(at, len, PROT_READ | PROT_WRITE), ENOMEM);
    // Nothing has changed, and a part can be had.
    check_eq!(crate::mem::peek(at), 0);
    ok!(sys::mprotect(at, PAGE, PROT_READ | PROT_WRITE));
}

fn growth_counts() {
    let at = anon(1);
    errno_is!(syscall!(SYS_mremap, at, PAGE, beyond(), MREMAP_MAYMOVE), ENOMEM);
    let unwritable = ok!(map(PAGE, PROT_READ, MAP_PRIVATE));
    ok!(syscall!(SYS_mremap, unwritable, PAGE, beyond(), MREMAP_MAYMOVE));
}

fn heap_counts() {
    let end = ok!(syscall!(SYS_brk, 0));
    check_eq!(syscall!(SYS_brk, end + beyond()), Ok(end));
}

fn several_may_be_more_than_all() {
    let len = beyond() / 2;
    for _ in 0..4 {
        ok!(map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE));
    }
}
