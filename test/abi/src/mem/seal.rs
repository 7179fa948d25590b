// SPDX-License-Identifier: MPL-2.0

//! mseal(2), of Linux 6.10: what a sealed mapping refuses, and what it goes on allowing.

use libc::{
    MADV_DONTFORK, MADV_DONTNEED, MADV_FREE, MADV_RANDOM, MADV_WILLNEED, MADV_WIPEONFORK, MAP_FIXED,
    MAP_FIXED_NOREPLACE, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ,
};

use super::{
    ANON, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{child::in_child, harness::Case, procfs, sys, sys::Result};

pub const CASES: &[Case] = cases!["mem/seal":
    refuses_munmap,
    refuses_mprotect,
    refuses_mremap,
    refuses_to_be_moved_onto,
    refuses_map_fixed,
    noreplace_is_eexist,
    refuses_to_be_emptied_when_read_only,
    may_be_emptied_when_writable,
    allows_what_changes_nothing,
    goes_on_working,
    of_a_part_leaves_the_rest_free,
    of_several_mappings,
    twice_succeeds,
    holds_in_a_child,
    ends_with_exec,
    of_the_heap_refuses_to_shrink_it,
    hole_is_enomem_and_nothing_is_sealed,
    flags_are_einval,
    unaligned_is_einval,
    zero_length_succeeds,
    length_is_rounded_up,
    length_that_wraps_is_einval,
];

fn seal(addr: usize, len: usize, flags: usize) -> Result {
    match syscall!(SYS_mseal, addr, len, flags) {
        Err(error) if error.0 == libc::ENOSYS => skip!("no mseal"),
        result => result,
    }
}

/// Pages with numbers in them, sealed.
fn sealed(pages: usize) -> usize {
    let at = lone_anon(pages);
    number_pages(at, pages, 1);
    check_eq!(seal(at, pages * PAGE, 0), Ok(0));
    at
}

fn refuses_munmap() {
    let at = sealed(3);
    for (start, pages) in [(0, 3), (0, 1), (1, 1), (2, 1)] {
        errno_is!(sys::munmap(at + start * PAGE, pages * PAGE), EPERM);
    }
    // Not even as a part of more.
    errno_is!(sys::munmap(at - PAGE, 5 * PAGE), EPERM);
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn refuses_mprotect() {
    let at = sealed(2);
    for prot in [PROT_NONE, PROT_READ, RW] {
        errno_is!(sys::mprotect(at, 2 * PAGE, prot), EPERM);
        errno_is!(sys::mprotect(at + PAGE, PAGE, prot), EPERM);
    }
    errno_is!(syscall!(SYS_pkey_mprotect, at, PAGE, PROT_READ, usize::MAX), EPERM);
    poke(at, 7);
    check_eq!(page_numbers(at, 2), [7, 2]);
}

fn refuses_mremap() {
    let at = sealed(2);
    let to = free_range(4);
    errno_is!(sys::mremap(at, 2 * PAGE, PAGE, 0, 0), EPERM);
    errno_is!(sys::mremap(at, 2 * PAGE, 3 * PAGE, 0, 0), EPERM);
    errno_is!(sys::mremap(at, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0), EPERM);
    errno_is!(sys::mremap(at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), EPERM);
    errno_is!(sys::mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), EPERM);
    check_eq!(procfs::vma_at(to), None);
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn refuses_to_be_moved_onto() {
    let at = sealed(1);
    let other = anon(1);
    poke(other, 9);
    errno_is!(sys::mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at), EPERM);
    check_eq!((peek(at), peek(other)), (1, 9));
}

fn refuses_map_fixed() {
    let at = sealed(3);
    for (start, pages) in [(0, 3), (1, 1), (2, 1)] {
        errno_is!(sys::mmap(at + start * PAGE, pages * PAGE, RW, ANON | MAP_FIXED, -1, 0), EPERM);
    }
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn noreplace_is_eexist() {
    let at = sealed(1);
    errno_is!(sys::mmap(at, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
}

fn refuses_to_be_emptied_when_read_only() {
    let at = lone_anon(2);
    number_pages(at, 2, 1);
    ok!(sys::mprotect(at, 2 * PAGE, PROT_READ));
    ok!(seal(at, 2 * PAGE, 0));
    for advice in [MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_WIPEONFORK] {
        errno_is!(sys::madvise(at, PAGE, advice), EPERM);
    }
    check_eq!(page_numbers(at, 2), [1, 2]);
    in_child(|| check_eq!(page_numbers(at, 2), [1, 2]));
}

fn may_be_emptied_when_writable() {
    let at = sealed(2);
    check_eq!(sys::madvise(at, PAGE, MADV_DONTNEED), Ok(0));
    check_eq!(page_numbers(at, 2), [0, 2]);
}

fn allows_what_changes_nothing() {
    let at = sealed(2);
    for advice in [MADV_RANDOM, MADV_WILLNEED] {
        check_eq!(sys::madvise(at, 2 * PAGE, advice), Ok(0));
    }
    check_eq!(sys::mlock(at, PAGE), Ok(0));
    check_eq!(sys::munlock(at, PAGE), Ok(0));
    check_eq!(sys::msync(at, PAGE, libc::MS_SYNC), Ok(0));
    check_eq!(sys::mincore(at, 2 * PAGE), Ok(vec![1, 1]));
}

fn goes_on_working() {
    let at = sealed(2);
    number_pages(at, 2, 5);
    check_eq!(page_numbers(at, 2), [5, 6]);
    let shared = anon_shared(1);
    ok!(seal(shared, PAGE, 0));
    in_child(|| poke(shared, 3));
    check_eq!(peek(shared), 3);
    errno_is!(sys::munmap(shared, PAGE), EPERM);
}

fn of_a_part_leaves_the_rest_free() {
    let at = lone_anon(5);
    number_pages(at, 5, 1);
    check_eq!(seal(at + 2 * PAGE, PAGE, 0), Ok(0));
    errno_is!(sys::munmap(at, 5 * PAGE), EPERM);
    check_eq!(page_numbers(at, 5), [1, 2, 3, 4, 5]);
    check_eq!(sys::munmap(at, 2 * PAGE), Ok(0));
    check_eq!(sys::mprotect(at + 3 * PAGE, 2 * PAGE, PROT_READ), Ok(0));
    check_eq!(sys::munmap(at + 4 * PAGE, PAGE), Ok(0));
    errno_is!(sys::munmap(at + 2 * PAGE, PAGE), EPERM);
}

fn of_several_mappings() {
    let at = lone_anon(3);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    check_eq!(seal(at, 3 * PAGE, 0), Ok(0));
    for page in 0..3 {
        errno_is!(sys::munmap(at + page * PAGE, PAGE), EPERM);
    }
}

fn twice_succeeds() {
    let at = sealed(2);
    check_eq!(seal(at, PAGE, 0), Ok(0));
    check_eq!(seal(at, 2 * PAGE, 0), Ok(0));
}

fn holds_in_a_child() {
    let at = sealed(1);
    in_child(|| {
        errno_is!(sys::munmap(at, PAGE), EPERM);
        errno_is!(sys::mprotect(at, PAGE, PROT_READ), EPERM);
        check_eq!(peek(at), 1);
    });
}

fn ends_with_exec() {
    // All of a program's memory can be sealed, and another program started in its place.
    let status = crate::child::Child::spawn(|| {
        sealed(4);
        let path = sys::c_string("/proc/self/exe");
        let argv = [path.as_ptr(), sys::c_string("--list").into_raw(), std::ptr::null()];
        ok!(sys::open("/dev/null", libc::O_WRONLY, 0).and_then(|null| syscall!(SYS_dup2, null, 1)));
        let _ = syscall!(SYS_execve, path.as_ptr(), argv.as_ptr(), [std::ptr::null::<u8>()].as_ptr());
        sys::exit_group(9);
    });
    status.join();
}

fn of_the_heap_refuses_to_shrink_it() {
    let start = sys::brk(0).next_multiple_of(PAGE);
    check_eq!(sys::brk(start + 4 * PAGE), start + 4 * PAGE);
    ok!(seal(start + 2 * PAGE, PAGE, 0));
    check_eq!(sys::brk(start), start + 4 * PAGE);
    check_eq!(sys::brk(start + 3 * PAGE), start + 3 * PAGE);
}

fn hole_is_enomem_and_nothing_is_sealed() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(seal(at, 3 * PAGE, 0), ENOMEM);
    errno_is!(seal(at + PAGE, PAGE, 0), ENOMEM);
    errno_is!(seal(super::BEYOND, PAGE, 0), ENOMEM);
    check_eq!(sys::munmap(at, 3 * PAGE), Ok(0));
}

fn flags_are_einval() {
    let at = anon(1);
    errno_is!(seal(at, PAGE, 1), EINVAL);
    check_eq!(sys::munmap(at, PAGE), Ok(0));
}

fn unaligned_is_einval() {
    let at = anon(1);
    errno_is!(seal(at + 1, PAGE, 0), EINVAL);
}

fn zero_length_succeeds() {
    let at = anon(1);
    check_eq!(seal(at, 0, 0), Ok(0));
    check_eq!(sys::munmap(at, PAGE), Ok(0));
}

fn length_is_rounded_up() {
    let at = lone_anon(2);
    check_eq!(seal(at, 1, 0), Ok(0));
    errno_is!(sys::munmap(at, PAGE), EPERM);
    check_eq!(sys::munmap(at + PAGE, PAGE), Ok(0));
}

fn length_that_wraps_is_einval() {
    let at = anon(1);
    errno_is!(seal(at, usize::MAX, 0), EINVAL);
    errno_is!(seal(at, usize::MAX - 2 * PAGE, 0), EINVAL);
}
