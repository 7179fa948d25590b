// SPDX-License-Identifier: MPL-2.0

//! mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2): what is locked is resident, and every error they name.

use libc::{
    MAP_FIXED, MAP_LOCKED, MCL_CURRENT, MCL_FUTURE, MLOCK_ONFAULT, MREMAP_MAYMOVE, PROT_NONE, PROT_READ,
    RLIMIT_MEMLOCK,
};

use super::{ANON, PAGE, RW, anon, free_range, lone_anon, number_pages, page_numbers, peek, poke};
use crate::{child::in_child, harness::Case, procfs, sys};

pub const CASES: &[Case] = cases!["mem/mlock":
    locks_and_makes_resident,
    counts_in_vmlck,
    twice_counts_once,
    unlock_counts_back,
    unmapping_counts_back,
    replacing_counts_back,
    middle_splits_the_mapping,
    unaligned_range_is_widened,
    zero_length_succeeds,
    read_only_memory_can_be_locked,
    prot_none_is_enomem,
    unmapped_is_enomem,
    hole_is_enomem,
    munlock_of_a_hole_is_enomem,
    range_that_wraps_is_einval,
    mlock2_is_mlock_without_flags,
    mlock2_onfault_waits_for_the_touch,
    mlock2_unknown_flag_is_einval,
    mlockall_current_makes_resident,
    mlockall_future_makes_new_memory_resident,
    mlockall_future_holds_for_brk,
    mlockall_without_flags_is_einval,
    mlockall_onfault_alone_is_einval,
    mlockall_unknown_flag_is_einval,
    munlockall_unlocks_everything,
    not_inherited_by_a_child,
    kept_by_mremap,
    limit_is_enomem_for_others,
    limit_comes_before_a_bad_range,
    limit_zero_is_eperm_for_others,
    limit_on_map_locked_is_eagain_for_others,
    limit_on_map_locked_zero_is_eperm_for_others,
    limit_on_mlockall_is_enomem_for_others,
    limit_on_mremap_is_eagain_for_others,
    others_may_unlock,
    root_has_no_limit,
];

const MCL_ONFAULT: i32 = 4;

fn locked_kib() -> usize {
    procfs::status_kib("VmLck")
}

fn resident(at: usize, pages: usize) -> usize {
    ok!(sys::mincore(at, pages * PAGE)).iter().filter(|&&page| page & 1 == 1).count()
}

fn is_locked(at: usize) -> bool {
    procfs::vm_flags(at).iter().any(|flag| flag == "lo")
}

fn locks_and_makes_resident() {
    let at = anon(8);
    poke(at + PAGE, 3);
    check_eq!(sys::mlock(at, 8 * PAGE), Ok(0));
    check_eq!(resident(at, 8), 8);
    check!(is_locked(at));
    check_eq!(page_numbers(at, 3), [0, 3, 0]);
}

fn counts_in_vmlck() {
    let at = anon(8);
    check_eq!(locked_kib(), 0);
    ok!(sys::mlock(at, 8 * PAGE));
    check_eq!(locked_kib(), 32);
}

fn twice_counts_once() {
    let at = anon(8);
    ok!(sys::mlock(at, 8 * PAGE));
    ok!(sys::mlock(at + 2 * PAGE, 2 * PAGE));
    check_eq!(locked_kib(), 32);
    ok!(sys::munlock(at, 8 * PAGE));
    check_eq!(locked_kib(), 0);
}

fn unlock_counts_back() {
    let at = anon(8);
    number_pages(at, 8, 1);
    ok!(sys::mlock(at, 8 * PAGE));
    check_eq!(sys::munlock(at, 4 * PAGE), Ok(0));
    check_eq!(locked_kib(), 16);
    check_eq!(page_numbers(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
}

fn unmapping_counts_back() {
    let at = anon(8);
    ok!(sys::mlock(at, 8 * PAGE));
    ok!(sys::munmap(at + 2 * PAGE, 3 * PAGE));
    check_eq!(locked_kib(), 20);
}

fn replacing_counts_back() {
    let at = anon(8);
    ok!(sys::mlock(at, 8 * PAGE));
    ok!(sys::mmap(at, 4 * PAGE, RW, ANON | MAP_FIXED, -1, 0));
    check_eq!(locked_kib(), 16);
}

fn middle_splits_the_mapping() {
    let at = lone_anon(5);
    ok!(sys::mlock(at + PAGE, 2 * PAGE));
    let spans: Vec<_> =
        procfs::layout(at..at + 5 * PAGE).into_iter().map(|(start, end, _)| (start, end)).collect();
    check_eq!(spans, [(0, 1), (1, 3), (3, 5)]);
    check_eq!((is_locked(at), is_locked(at + PAGE), is_locked(at + 3 * PAGE)), (false, true, false));
}

fn unaligned_range_is_widened() {
    let at = anon(4);
    check_eq!(sys::mlock(at + PAGE + 100, PAGE), Ok(0));
    check_eq!(locked_kib(), 8);
    check_eq!(resident(at, 4), 2);
    check_eq!(sys::munlock(at + PAGE + 5, 1), Ok(0));
    check_eq!(locked_kib(), 4);
}

fn zero_length_succeeds() {
    check_eq!(sys::mlock(anon(1), 0), Ok(0));
    check_eq!(sys::munlock(anon(1), 0), Ok(0));
    check_eq!(locked_kib(), 0);
}

fn read_only_memory_can_be_locked() {
    let at = ok!(sys::mmap(0, 4 * PAGE, PROT_READ, ANON, -1, 0));
    check_eq!(sys::mlock(at, 4 * PAGE), Ok(0));
    check_eq!(resident(at, 4), 4);
}

fn prot_none_is_enomem() {
    let at = ok!(sys::mmap(0, 4 * PAGE, PROT_NONE, ANON, -1, 0));
    errno_is!(sys::mlock(at, 4 * PAGE), ENOMEM);
}

fn unmapped_is_enomem() {
    errno_is!(sys::mlock(free_range(2), 2 * PAGE), ENOMEM);
    errno_is!(sys::munlock(free_range(2), 2 * PAGE), ENOMEM);
    errno_is!(syscall!(SYS_mlock2, free_range(2), 2 * PAGE, 0), ENOMEM);
}

fn hole_is_enomem() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(sys::mlock(at, 3 * PAGE), ENOMEM);
}

fn munlock_of_a_hole_is_enomem() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    errno_is!(sys::munlock(at, 3 * PAGE), ENOMEM);
}

fn range_that_wraps_is_einval() {
    let at = anon(1);
    errno_is!(sys::mlock(at, usize::MAX - 2 * PAGE), EINVAL);
    errno_is!(sys::munlock(at, usize::MAX - 2 * PAGE), EINVAL);
}

fn mlock2_is_mlock_without_flags() {
    let at = anon(4);
    check_eq!(syscall!(SYS_mlock2, at, 4 * PAGE, 0), Ok(0));
    check_eq!((resident(at, 4), locked_kib()), (4, 16));
}

fn mlock2_onfault_waits_for_the_touch() {
    let at = anon(4);
    check_eq!(syscall!(SYS_mlock2, at, 4 * PAGE, MLOCK_ONFAULT), Ok(0));
    check_eq!((resident(at, 4), locked_kib()), (0, 16));
    poke(at + PAGE, 1);
    check_eq!(resident(at, 4), 1);
}

fn mlock2_unknown_flag_is_einval() {
    errno_is!(syscall!(SYS_mlock2, anon(1), PAGE, 2), EINVAL);
    errno_is!(syscall!(SYS_mlock2, anon(1), PAGE, 0x100), EINVAL);
}

fn mlockall_current_makes_resident() {
    let at = anon(8);
    check_eq!(syscall!(SYS_mlockall, MCL_CURRENT), Ok(0));
    check_eq!(resident(at, 8), 8);
    let later = anon(8);
    check_eq!(resident(later, 8), 0);
}

fn mlockall_future_makes_new_memory_resident() {
    check_eq!(syscall!(SYS_mlockall, MCL_FUTURE), Ok(0));
    let at = anon(8);
    check_eq!(resident(at, 8), 8);
    check!(is_locked(at));
    check_eq!(syscall!(SYS_munlockall), Ok(0));
    let later = anon(8);
    check_eq!(resident(later, 8), 0);
}

fn mlockall_future_holds_for_brk() {
    let start = sys::brk(0).next_multiple_of(PAGE);
    check_eq!(syscall!(SYS_mlockall, MCL_FUTURE), Ok(0));
    check_eq!(sys::brk(start + 4 * PAGE), start + 4 * PAGE);
    check_eq!(resident(start, 4), 4);
}

fn mlockall_without_flags_is_einval() {
    errno_is!(syscall!(SYS_mlockall, 0), EINVAL);
}

fn mlockall_onfault_alone_is_einval() {
    errno_is!(syscall!(SYS_mlockall, MCL_ONFAULT), EINVAL);
}

fn mlockall_unknown_flag_is_einval() {
    errno_is!(syscall!(SYS_mlockall, 8), EINVAL);
    errno_is!(syscall!(SYS_mlockall, MCL_CURRENT | 0x40), EINVAL);
}

fn munlockall_unlocks_everything() {
    let (first, second) = (anon(4), anon(4));
    ok!(sys::mlock(first, 4 * PAGE));
    ok!(sys::mlock(second, PAGE));
    check_eq!(syscall!(SYS_munlockall), Ok(0));
    check_eq!(locked_kib(), 0);
    check!(!is_locked(first));
}

fn not_inherited_by_a_child() {
    let at = anon(4);
    number_pages(at, 4, 1);
    ok!(sys::mlock(at, 4 * PAGE));
    in_child(|| {
        check_eq!(locked_kib(), 0);
        check!(!is_locked(at));
        check_eq!(page_numbers(at, 4), [1, 2, 3, 4]);
    });
    check_eq!(locked_kib(), 16);
}

fn kept_by_mremap() {
    let at = anon(4);
    ok!(sys::mlock(at, 4 * PAGE));
    let to = ok!(sys::mremap(at, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE, 0));
    check_eq!((locked_kib(), resident(to, 8)), (32, 8));
    check!(is_locked(to));
}

/// Sets the limit on locked memory, in pages, and gives up root.
fn others_with(pages: usize) {
    let limit = (pages * PAGE) as u64;
    ok!(sys::setrlimit(RLIMIT_MEMLOCK, limit, limit));
    sys::become_unprivileged();
}

fn limit_is_enomem_for_others() {
    let at = anon(8);
    others_with(4);
    errno_is!(sys::mlock(at, 5 * PAGE), ENOMEM);
    check_eq!(locked_kib(), 0);
    check_eq!(sys::mlock(at, 3 * PAGE), Ok(0));
    errno_is!(sys::mlock(at + 4 * PAGE, 2 * PAGE), ENOMEM);
    // What is locked already does not count again.
    check_eq!(sys::mlock(at, 4 * PAGE), Ok(0));
}

/// What is locked and the length count first, wherever the range is.
fn limit_comes_before_a_bad_range() {
    let at = anon(8);
    let last_page = 0usize.wrapping_sub(PAGE);
    others_with(4);
    ok!(sys::mlock(at, 3 * PAGE));
    errno_is!(sys::mlock(last_page, PAGE), EINVAL);
    errno_is!(sys::mlock(last_page, 2 * PAGE), ENOMEM);
    check_eq!(sys::mlock(at, 0), Ok(0));
    ok!(sys::setrlimit(RLIMIT_MEMLOCK, 2 * PAGE as u64, 2 * PAGE as u64));
    errno_is!(sys::mlock(at, 0), ENOMEM);
    errno_is!(sys::mlock(last_page, PAGE), ENOMEM);
    check_eq!(locked_kib(), 12);
}

fn limit_zero_is_eperm_for_others() {
    let at = anon(1);
    others_with(0);
    errno_is!(sys::mlock(at, PAGE), EPERM);
    errno_is!(syscall!(SYS_mlockall, MCL_CURRENT), EPERM);
}

fn limit_on_map_locked_is_eagain_for_others() {
    others_with(4);
    errno_is!(sys::mmap(0, 5 * PAGE, RW, ANON | MAP_LOCKED, -1, 0), EAGAIN);
    let at = ok!(sys::mmap(0, 4 * PAGE, RW, ANON | MAP_LOCKED, -1, 0));
    check_eq!(resident(at, 4), 4);
}

fn limit_on_map_locked_zero_is_eperm_for_others() {
    others_with(0);
    errno_is!(sys::mmap(0, PAGE, RW, ANON | MAP_LOCKED, -1, 0), EPERM);
}

fn limit_on_mlockall_is_enomem_for_others() {
    others_with(4);
    errno_is!(syscall!(SYS_mlockall, MCL_CURRENT), ENOMEM);
    check_eq!(locked_kib(), 0);
}

fn limit_on_mremap_is_eagain_for_others() {
    let at = anon(4);
    others_with(4);
    ok!(sys::mlock(at, 4 * PAGE));
    errno_is!(sys::mremap(at, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE, 0), EAGAIN);
    check_eq!(peek(at), 0);
}

fn others_may_unlock() {
    let at = anon(4);
    ok!(sys::mlock(at, 4 * PAGE));
    others_with(0);
    check_eq!(sys::munlock(at, 4 * PAGE), Ok(0));
    check_eq!(syscall!(SYS_munlockall), Ok(0));
}

fn root_has_no_limit() {
    ok!(sys::setrlimit(RLIMIT_MEMLOCK, 0, 0));
    check_eq!(sys::mlock(anon(64), 64 * PAGE), Ok(0));
    check_eq!(locked_kib(), 256);
}
