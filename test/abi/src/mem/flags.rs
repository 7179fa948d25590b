// SPDX-License-Identifier: MPL-2.0

//! Flags that are seldom used, call by call: mmap(2), mlockall(2), msync(2), memfd_create(2), membarrier(2), and the advice of
//! madvise(2) that leaves nothing but a mark.

use libc::{
    MADV_DONTNEED, MADV_HUGEPAGE, MADV_MERGEABLE, MADV_NOHUGEPAGE, MADV_UNMERGEABLE, MAP_GROWSDOWN,
    MAP_HUGETLB, MAP_NONBLOCK, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE,
    MAP_STACK, MAP_SYNC, MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MFD_HUGETLB, MS_ASYNC, MS_INVALIDATE, MS_SYNC,
};

use super::{
    ANON, ANON_SHARED, PAGE, RW, anon, anon_shared, lone_anon, number_pages, page_numbers, peek, poke,
};
use crate::{child::in_child, harness::Case, procfs, sys, tmp};

pub const CASES: &[Case] = cases!["mem/flags":
    map_sync_is_ignored_unless_it_is_validated,
    map_uninitialized_is_zero,
    map_validated_takes_every_old_flag,
    map_growsdown_of_a_file_or_shared_is_einval,
    map_hugetlb_of_no_such_size_is_einval,
    mlockall_current_onfault_locks_and_waits,
    mlockall_future_onfault_waits_for_the_touch,
    mlockall_again_replaces_the_future,
    dontneed_locked_empties_what_is_locked,
    msync_without_flags_succeeds,
    msync_invalidate_with_either_succeeds,
    memfd_hugetlb_sizes_need_the_flag,
    memfd_hugetlb_is_given_or_not_there,
    barrier_of_instructions_needs_registration,
    hugepage_advice_shows_in_smaps,
    hugepage_advice_keeps_neighbours_apart,
    collapse_of_too_little_is_einval,
    merge_advice_shows_in_smaps,
    merge_advice_spares_shared_memory,
    merge_advice_keeps_the_content,
];

const MADV_DONTNEED_LOCKED: i32 = 24;
const MADV_COLLAPSE: i32 = 25;
const MAP_UNINITIALIZED: i32 = 0x400_0000;

fn has(at: usize, flag: &str) -> bool {
    procfs::vm_flags(at).iter().any(|have| have == flag)
}

fn resident(at: usize, pages: usize) -> usize {
    ok!(sys::mincore(at, pages * PAGE)).iter().filter(|&&page| page & 1 != 0).count()
}

fn map_sync_is_ignored_unless_it_is_validated() {
    // Some file systems on disks refuse it by themselves.
    let name = sys::c_string("sync");
    let fd = ok!(syscall!(SYS_memfd_create, name.as_ptr(), 0)) as i32;
    check_eq!(sys::pwrite(fd, &[b's'; PAGE], 0), Ok(PAGE));
    for sharing in [MAP_PRIVATE, MAP_SHARED] {
        check_eq!(peek(ok!(sys::mmap(0, PAGE, RW, sharing | MAP_SYNC, fd, 0))), b's');
    }
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0), EOPNOTSUPP);
    check_eq!(peek(ok!(sys::mmap(0, PAGE, RW, ANON | MAP_SYNC, -1, 0))), 0);
}

fn map_uninitialized_is_zero() {
    for _ in 0..8 {
        let at = ok!(sys::mmap(0, 4 * PAGE, RW, ANON | MAP_UNINITIALIZED, -1, 0));
        check_eq!(page_numbers(at, 4), [0; 4]);
        number_pages(at, 4, 1);
        ok!(sys::munmap(at, 4 * PAGE));
    }
}

fn map_validated_takes_every_old_flag() {
    let fd = tmp::file(&[b'v'; PAGE]);
    let flags = [MAP_NORESERVE, MAP_POPULATE, MAP_POPULATE | MAP_NONBLOCK, MAP_STACK, libc::MAP_LOCKED];
    for flags in flags {
        let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | flags, fd, 0));
        check_eq!(peek(at), b'v');
        check_eq!(procfs::vma_at(at).map(|vma| vma.perms), Some("rw-s".to_string()));
    }
    for flags in [libc::MAP_FIXED_NOREPLACE, 1 << 22, 1 << 25] {
        errno_is!(sys::mmap(super::free_range(1), PAGE, RW, MAP_SHARED_VALIDATE | flags, fd, 0), EOPNOTSUPP);
    }
}

fn map_growsdown_of_a_file_or_shared_is_einval() {
    let fd = tmp::file(&[1; PAGE]);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0), EINVAL);
    errno_is!(sys::mmap(0, PAGE, RW, MAP_SHARED | MAP_GROWSDOWN, fd, 0), EINVAL);
    errno_is!(sys::mmap(0, PAGE, RW, ANON_SHARED | MAP_GROWSDOWN, -1, 0), EINVAL);
}

fn map_hugetlb_of_no_such_size_is_einval() {
    errno_is!(sys::mmap(0, 2 << 20, RW, ANON | MAP_HUGETLB | 5 << 26, -1, 0), EINVAL);
    let fd = tmp::file(&[1; PAGE]);
    errno_is!(sys::mmap(0, 2 << 20, RW, MAP_PRIVATE | MAP_HUGETLB, fd, 0), EINVAL);
}

fn mlockall_current_onfault_locks_and_waits() {
    let at = lone_anon(8);
    poke(at, 1);
    ok!(syscall!(SYS_mlockall, MCL_CURRENT | MCL_ONFAULT));
    check_eq!((has(at, "lo"), resident(at, 8)), (true, 1));
    poke(at + PAGE, 1);
    check_eq!(resident(at, 8), 2);
    // What is mapped later is not locked.
    check!(!has(lone_anon(1), "lo"));
    ok!(syscall!(SYS_munlockall));
    check!(!has(at, "lo"));
}

fn mlockall_future_onfault_waits_for_the_touch() {
    ok!(syscall!(SYS_mlockall, MCL_FUTURE | MCL_ONFAULT));
    let at = lone_anon(8);
    check_eq!((has(at, "lo"), resident(at, 8)), (true, 0));
    poke(at + 3 * PAGE, 1);
    check_eq!(resident(at, 8), 1);
    in_child(|| check!(!has(at, "lo")));
}

fn mlockall_again_replaces_the_future() {
    ok!(syscall!(SYS_mlockall, MCL_FUTURE));
    check_eq!(resident(anon(4), 4), 4);
    ok!(syscall!(SYS_mlockall, MCL_FUTURE | MCL_ONFAULT));
    check_eq!(resident(lone_anon(4), 4), 0);
    ok!(syscall!(SYS_mlockall, MCL_CURRENT));
    check!(!has(lone_anon(1), "lo"));
}

fn dontneed_locked_empties_what_is_locked() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    ok!(sys::mlock(at, 4 * PAGE));
    errno_is!(sys::madvise(at, PAGE, MADV_DONTNEED), EINVAL);
    check_eq!(sys::madvise(at + PAGE, 2 * PAGE, MADV_DONTNEED_LOCKED), Ok(0));
    check_eq!(resident(at, 4), 2);
    check_eq!((page_numbers(at, 4), has(at + PAGE, "lo")), (vec![1, 0, 0, 4], true));
    // It takes what is not locked as well.
    let plain = anon(1);
    poke(plain, 1);
    check_eq!(sys::madvise(plain, PAGE, MADV_DONTNEED_LOCKED), Ok(0));
    check_eq!(peek(plain), 0);
}

fn msync_without_flags_succeeds() {
    let fd = tmp::file(&[1; PAGE]);
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    poke(at, b'm');
    check_eq!(sys::msync(at, PAGE, 0), Ok(0));
    let mut byte = [0];
    check_eq!((sys::pread(fd, &mut byte, 0), byte), (Ok(1), *b"m"));
}

fn msync_invalidate_with_either_succeeds() {
    let at = ok!(sys::mmap(0, PAGE, RW, MAP_SHARED, tmp::file(&[1; PAGE]), 0));
    for flags in [MS_INVALIDATE, MS_INVALIDATE | MS_SYNC, MS_INVALIDATE | MS_ASYNC, MS_SYNC, MS_ASYNC] {
        check_eq!(sys::msync(at, PAGE, flags), Ok(0));
    }
    errno_is!(sys::msync(at, PAGE, MS_SYNC | MS_ASYNC | MS_INVALIDATE), EINVAL);
    check_eq!(peek(at), 1);
}

fn memfd_hugetlb_sizes_need_the_flag() {
    let name = sys::c_string("huge");
    errno_is!(syscall!(SYS_memfd_create, name.as_ptr(), 21_u32 << 26), EINVAL);
    errno_is!(syscall!(SYS_memfd_create, name.as_ptr(), 1_u32 << 26), EINVAL);
}

fn memfd_hugetlb_is_given_or_not_there() {
    let name = sys::c_string("huge");
    match syscall!(SYS_memfd_create, name.as_ptr(), MFD_HUGETLB) {
        Ok(fd) => errno_is!(sys::write(fd as i32, b"x"), EINVAL),
        // Linux without CONFIG_HUGETLBFS.
        Err(error) => check_eq!(error, sys::Errno(libc::ENOSYS)),
    }
}

fn barrier_of_instructions_needs_registration() {
    const SYNC_CORE: i32 = 1 << 5;
    const REGISTER_SYNC_CORE: i32 = 1 << 6;
    let barrier = |command: i32| syscall!(SYS_membarrier, command, 0, 0);
    let known = ok!(barrier(0));
    if known & SYNC_CORE as usize == 0 {
        skip!("no barrier of instructions");
    }
    errno_is!(barrier(SYNC_CORE), EPERM);
    check_eq!((barrier(REGISTER_SYNC_CORE), barrier(SYNC_CORE)), (Ok(0), Ok(0)));
    in_child(|| check_eq!(barrier(SYNC_CORE), Ok(0)));
    errno_is!(syscall!(SYS_membarrier, SYNC_CORE, 2, 0), EINVAL);
}

/// Skips the case where large pages are not even known.
fn large_pages(at: usize) {
    if sys::madvise(at, PAGE, MADV_NOHUGEPAGE) == Err(sys::Errno(libc::EINVAL)) {
        skip!("no advice on large pages");
    }
}

fn hugepage_advice_shows_in_smaps() {
    let at = lone_anon(2);
    large_pages(at);
    check_eq!((has(at, "hg"), has(at, "nh")), (false, true));
    check_eq!(sys::madvise(at, 2 * PAGE, MADV_HUGEPAGE), Ok(0));
    check_eq!((has(at, "hg"), has(at, "nh")), (true, false));
    check_eq!(sys::madvise(at, 2 * PAGE, MADV_NOHUGEPAGE), Ok(0));
    check_eq!((has(at, "hg"), has(at, "nh")), (false, true));
}

fn hugepage_advice_keeps_neighbours_apart() {
    let at = lone_anon(4);
    large_pages(anon(1));
    number_pages(at, 4, 1);
    ok!(sys::madvise(at + PAGE, PAGE, MADV_NOHUGEPAGE));
    check_eq!(procfs::layout(at..at + 4 * PAGE).len(), 3);
    ok!(sys::madvise(at, 4 * PAGE, MADV_NOHUGEPAGE));
    check_eq!(procfs::layout(at..at + 4 * PAGE).len(), 1);
    in_child(|| check!(has(at, "nh")));
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

fn collapse_of_too_little_is_einval() {
    let at = lone_anon(4);
    number_pages(at, 4, 1);
    errno_is!(sys::madvise(at, 4 * PAGE, MADV_COLLAPSE), EINVAL);
    check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
}

/// Skips the case where merging is not even known.
fn merging(at: usize) {
    if sys::madvise(at, PAGE, MADV_UNMERGEABLE) == Err(sys::Errno(libc::EINVAL)) {
        skip!("no advice on merging");
    }
}

fn merge_advice_shows_in_smaps() {
    let at = lone_anon(2);
    merging(at);
    check!(!has(at, "mg"));
    check_eq!(sys::madvise(at, PAGE, MADV_MERGEABLE), Ok(0));
    check_eq!((has(at, "mg"), has(at + PAGE, "mg")), (true, false));
    check_eq!(sys::madvise(at, 2 * PAGE, MADV_UNMERGEABLE), Ok(0));
    check_eq!((has(at, "mg"), procfs::layout(at..at + 2 * PAGE).len()), (false, 1));
}

fn merge_advice_spares_shared_memory() {
    merging(anon(1));
    let at = anon_shared(1);
    check_eq!(sys::madvise(at, PAGE, MADV_MERGEABLE), Ok(0));
    check!(!has(at, "mg"));
}

fn merge_advice_keeps_the_content() {
    let at = lone_anon(4);
    merging(at);
    for page in 0..4 {
        poke(at + page * PAGE, 7);
    }
    ok!(sys::madvise(at, 4 * PAGE, MADV_MERGEABLE));
    poke(at + PAGE, 8);
    check_eq!(page_numbers(at, 4), [7, 8, 7, 7]);
    ok!(sys::madvise(at, 4 * PAGE, MADV_UNMERGEABLE));
    check_eq!(page_numbers(at, 4), [7, 8, 7, 7]);
}
