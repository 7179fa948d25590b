// SPDX-License-Identifier: MPL-2.0

//! Words that are not in memory when they are used, or not yet in memory that can be written.

use libc::*;

use super::*;
use crate::{
    child::in_child,
    mem::{ANON, ANON_SHARED, PAGE, RW},
    signal::own_tid,
};

pub const CASES: &[Case] = cases!["futex/absent":
    new_memory_is_waited_on,
    new_memory_is_changed,
    new_memory_is_locked,
    memory_shared_with_a_child_is_changed,
    words_in_new_pages_are_compared,
    read_only_memory_is_only_read,
    memory_that_is_not_there_is_efault,
];

/// What a `wake_op` does that adds 5 to the second word.
const ADD_5: u32 = (FUTEX_OP_ADD as u32) << 28 | 5 << 12;

/// A word of memory that nobody has touched.
fn untouched(flags: c_int) -> &'static AtomicU32 {
    word_at(ok!(sys::mmap(0, PAGE, RW, flags, -1, 0)))
}

fn word_at(addr: usize) -> &'static AtomicU32 {
    // SAFETY: the address is that of a page of the case's own that stays mapped, or is only given to the kernel.
    unsafe { &*(addr as *const AtomicU32) }
}

fn lock(word: &AtomicU32) -> sys::Result {
    syscall!(SYS_futex, at(word), FUTEX_LOCK_PI, 0, 0)
}

fn wake_op(first: &AtomicU32, second: &AtomicU32) -> sys::Result {
    syscall!(SYS_futex, at(first), FUTEX_WAKE_OP, 1, 1, at(second), ADD_5)
}

fn new_memory_is_waited_on() {
    for flags in [ANON, ANON_SHARED] {
        errno_is!(wait_for(untouched(flags), 1, 0), EAGAIN);
        let no_time = timespec { tv_sec: 0, tv_nsec: 1 };
        let waited = syscall!(SYS_futex, at(untouched(flags)), FUTEX_WAIT, 0, &raw const no_time);
        errno_is!(waited, ETIMEDOUT);
    }
}

fn new_memory_is_changed() {
    for flags in [ANON, ANON_SHARED] {
        let (first, second) = (untouched(flags), untouched(flags));
        check_eq!(wake_op(first, second), Ok(0));
        check_eq!((value(first), value(second)), (0, 5));
    }
}

fn new_memory_is_locked() {
    for flags in [ANON, ANON_SHARED] {
        let word = untouched(flags);
        ok!(lock(word));
        check_eq!(value(word), own_tid() as u32);
        ok!(syscall!(SYS_futex, at(word), FUTEX_UNLOCK_PI));
        check_eq!(value(word), 0);
    }
}

fn memory_shared_with_a_child_is_changed() {
    let (first, second) = (untouched(ANON), untouched(ANON));
    second.store(1, SeqCst);
    in_child(|| {
        check_eq!(wake_op(first, second), Ok(0));
        check_eq!(value(second), 6);
        ok!(lock(first));
    });
    check_eq!((value(first), value(second)), (0, 1));
    in_child(|| sys::sleep_us(1000));
    check_eq!(wake_op(first, second), Ok(0));
    check_eq!(value(second), 6);
}

fn words_in_new_pages_are_compared() {
    let requeue = |expected: u32| {
        let (first, second) = (untouched(ANON), untouched(ANON));
        syscall!(SYS_futex, at(first), FUTEX_CMP_REQUEUE, 1, 1, at(second), expected)
    };
    errno_is!(requeue(1), EAGAIN);
    check_eq!(requeue(0), Ok(0));
    let (first, second) = (untouched(ANON), untouched(ANON));
    check_eq!(syscall!(SYS_futex, at(first), FUTEX_CMP_REQUEUE_PI, 1, 1, at(second), 0), Ok(0));
}

fn read_only_memory_is_only_read() {
    let word = untouched(ANON);
    ok!(sys::mprotect(at(word), PAGE, PROT_READ));
    errno_is!(wait_for(word, 1, FUTEX_PRIVATE_FLAG), EAGAIN);
    errno_is!(wake_op(untouched(ANON), word), EFAULT);
    errno_is!(lock(word), EFAULT);
    check_eq!(value(word), 0);
}

fn memory_that_is_not_there_is_efault() {
    let word = untouched(ANON);
    let other = untouched(ANON);
    ok!(sys::mprotect(at(word), PAGE, PROT_NONE));
    for _ in 0..2 {
        errno_is!(wait_for(word, 0, FUTEX_PRIVATE_FLAG), EFAULT);
        errno_is!(wake_op(other, word), EFAULT);
        errno_is!(lock(word), EFAULT);
        let requeued = syscall!(SYS_futex, at(word), FUTEX_CMP_REQUEUE, 1, 1, at(other), 0);
        errno_is!(requeued, EFAULT);
        ok!(sys::munmap(at(word), PAGE));
    }
}
