// SPDX-License-Identifier: MPL-2.0

//! Locks whose owner the kernel knows: what the word says, circles, words that were tampered with, and priorities.

use std::thread;

use libc::{
    CLOCK_MONOTONIC, EAGAIN, ETIMEDOUT, FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI, SCHED_FIFO,
};

use super::*;
use crate::{
    child::Child,
    signal::{a_while, own_tid, until},
};

pub const CASES: &[Case] = cases!["futex/pi_state":
    stale_bits_of_a_free_lock,
    lock_that_was_handed_over_is_marked,
    dead_owner_is_noted,
    dead_owner_of_a_robust_lock_is_noted,
    trying_a_dead_owners_lock_is_esrch,
    circle_is_edeadlk,
    long_circle_is_edeadlk,
    waking_a_lock_is_einval,
    lock_with_a_plain_waiter_is_einval,
    lock_with_a_foreign_word_is_einval,
    lock_pi2_has_another_clock,
    bad_time_is_einval,
    bad_address,
    real_time_waiter_comes_first,
    owner_inherits_a_priority,
    priority_is_inherited_along_a_chain,
];

const LOCK_PI2: i32 = 13;
pub const WAITERS: u32 = 0x8000_0000;
pub const OWNER_DIED: u32 = 0x4000_0000;

pub fn lock(word: &AtomicU32) -> sys::Result {
    syscall!(SYS_futex, at(word), FUTEX_LOCK_PI, 0, 0)
}

pub fn unlock(word: &AtomicU32) -> sys::Result {
    syscall!(SYS_futex, at(word), FUTEX_UNLOCK_PI, 0, 0)
}

fn try_lock(word: &AtomicU32) -> sys::Result {
    syscall!(SYS_futex, at(word), FUTEX_TRYLOCK_PI, 0, 0)
}

pub fn tid() -> u32 {
    own_tid() as u32
}

/// A lock that the caller has.
fn held() -> AtomicU32 {
    AtomicU32::new(tid())
}

/// Waits until somebody has gone to sleep for the lock, most probably.
fn until_waited_for(word: &AtomicU32) {
    until("a waiter", || value(word) & WAITERS != 0);
    a_while();
}

fn stale_bits_of_a_free_lock() {
    for (before, after) in [(WAITERS, 0), (OWNER_DIED, OWNER_DIED), (WAITERS | OWNER_DIED, OWNER_DIED)] {
        for take in [lock, try_lock] {
            let word = AtomicU32::new(before);
            ok!(take(&word));
            check_eq!(value(&word), after | tid());
            word.store(value(&word) | WAITERS | OWNER_DIED, SeqCst);
            ok!(unlock(&word));
            check_eq!(value(&word), 0);
        }
    }
}

fn lock_that_was_handed_over_is_marked() {
    let word = held();
    thread::scope(|scope| {
        scope.spawn(|| {
            ok!(lock(&word));
            check_eq!(value(&word), tid() | WAITERS);
            ok!(unlock(&word));
            check_eq!(value(&word), 0);
        });
        until_waited_for(&word);
        ok!(unlock(&word));
    });
}

fn dead_owner_is_noted() {
    let word = shared_word();
    let owner = Child::spawn(|| {
        ok!(lock(word));
        until_waited_for(word);
    });
    until("the owner", || value(word) != 0);
    ok!(lock(word));
    check_eq!(value(word), tid() | WAITERS | OWNER_DIED);
    ok!(unlock(word));
    check_eq!(value(word), 0);
    owner.join();
}

/// The same with a robust list, whose entry says that its lock is of this kind. The lowest bit of the entry's address says so.
fn dead_owner_of_a_robust_lock_is_noted() {
    let words = crate::child::shared_words();
    let word = shared_word();
    // Head, distance, pending; then the one entry, which the lock's distance leads from.
    let (head, entry) = (words[0].as_ptr() as usize, words[8].as_ptr() as usize);
    let distance = at(word).wrapping_sub(entry);
    for (place, content) in [(0, entry | 1), (1, distance), (2, 0), (8, head)] {
        words[place].store(content, SeqCst);
    }
    for waits in [true, false] {
        let owner = Child::spawn(|| {
            ok!(syscall!(SYS_set_robust_list, head, 24));
            ok!(lock(word));
            if waits {
                until_waited_for(word);
            }
        });
        until("the owner", || value(word) != 0);
        if waits {
            ok!(lock(word));
            check_eq!(value(word), tid() | WAITERS | OWNER_DIED);
        } else {
            owner.join();
            check_eq!(value(word), OWNER_DIED);
            ok!(lock(word));
            check_eq!(value(word), tid() | OWNER_DIED);
            ok!(unlock(word));
            return;
        }
        ok!(unlock(word));
        owner.join();
    }
}

fn trying_a_dead_owners_lock_is_esrch() {
    let child = Child::spawn(|| {});
    let word = AtomicU32::new(child.pid as u32);
    child.join();
    errno_is!(try_lock(&word), ESRCH);
    check_eq!(value(&word) & WAITERS, WAITERS);
}

fn circle_is_edeadlk() {
    let (first, second) = (held(), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            ok!(lock(&second));
            ok!(lock(&first));
            ok!(unlock(&first));
            ok!(unlock(&second));
        });
        until_waited_for(&first);
        errno_is!(lock(&second), EDEADLK);
        ok!(unlock(&first));
        ok!(lock(&second));
        ok!(unlock(&second));
    });
}

fn long_circle_is_edeadlk() {
    const LEN: usize = 5;
    let locks = [const { AtomicU32::new(0) }; LEN];
    ok!(lock(&locks[0]));
    thread::scope(|scope| {
        for pair in locks.windows(2) {
            scope.spawn(move || {
                ok!(lock(&pair[1]));
                ok!(lock(&pair[0]));
                ok!(unlock(&pair[0]));
                ok!(unlock(&pair[1]));
            });
            until_waited_for(&pair[0]);
        }
        errno_is!(lock(&locks[LEN - 1]), EDEADLK);
        ok!(unlock(&locks[0]));
    });
}

fn waking_a_lock_is_einval() {
    let (word, other) = (held(), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            ok!(lock(&word));
            ok!(unlock(&word));
        });
        until_waited_for(&word);
        errno_is!(wake(&word, 1, 0), EINVAL);
        errno_is!(syscall!(SYS_futex, at(&word), libc::FUTEX_REQUEUE, 1, 1, at(&other)), EINVAL);
        errno_is!(syscall!(SYS_futex, at(&word), libc::FUTEX_REQUEUE, 0, 1, at(&other)), EINVAL);
        errno_is!(syscall!(SYS_futex, at(&word), libc::FUTEX_WAKE_OP, 1, 1, at(&other), 0), EINVAL);
        ok!(unlock(&word));
    });
}

fn lock_with_a_plain_waiter_is_einval() {
    let word = held();
    let expected = value(&word);
    thread::scope(|scope| {
        scope.spawn(|| while wait_for(&word, expected, 0) == Err(sys::Errno(EAGAIN)) {});
        // Unlocking frees it as long as nobody waits.
        until("the waiter", || match unlock(&word) {
            Err(error) => error == sys::Errno(libc::EINVAL),
            Ok(_) => {
                word.store(expected, SeqCst);
                false
            }
        });
        let result = scope.spawn(|| lock(&word)).join();
        check_eq!(result.ok(), Some(Err(sys::Errno(libc::EINVAL))));
        wake_exactly(&word, 1, 0);
    });
}

fn lock_with_a_foreign_word_is_einval() {
    let word = held();
    thread::scope(|scope| {
        scope.spawn(|| {
            ok!(lock(&word));
            ok!(unlock(&word));
        });
        until_waited_for(&word);
        let good = value(&word);
        word.store(1, SeqCst);
        errno_is!(lock(&word), EINVAL);
        errno_is!(unlock(&word), EPERM);
        let stranger = scope.spawn(|| {
            word.store(tid(), SeqCst);
            unlock(&word)
        });
        check_eq!(stranger.join().ok(), Some(Err(sys::Errno(libc::EINVAL))));
        word.store(good, SeqCst);
        ok!(unlock(&word));
    });
}

fn lock_pi2_has_another_clock() {
    let word = held();
    let mut end = [0_i64; 2];
    ok!(syscall!(SYS_clock_gettime, CLOCK_MONOTONIC, end.as_mut_ptr()));
    end[1] += 1_000_000;
    end = [end[0] + end[1] / 1_000_000_000, end[1] % 1_000_000_000];
    let (word, end) = (&word, &end);
    let attempt = |op| {
        thread::scope(|scope| {
            scope.spawn(move || syscall!(SYS_futex, at(word), op, 0, end.as_ptr())).join().ok()
        })
    };
    check_eq!(attempt(LOCK_PI2), Some(Err(sys::Errno(ETIMEDOUT))));
    let before = sys::monotonic_ms();
    // A point of the monotonic clock lies long ago in real time.
    check_eq!(attempt(LOCK_PI2 | libc::FUTEX_CLOCK_REALTIME), Some(Err(sys::Errno(ETIMEDOUT))));
    check_eq!(attempt(FUTEX_LOCK_PI), Some(Err(sys::Errno(ETIMEDOUT))));
    check!(sys::monotonic_ms() - before < 2000);
    check_eq!(attempt(FUTEX_TRYLOCK_PI), Some(Err(sys::Errno(EAGAIN))));
}

fn bad_time_is_einval() {
    let word = AtomicU32::new(0);
    for op in [FUTEX_LOCK_PI, LOCK_PI2] {
        for time in [[-1_i64, 0], [0, -1], [0, 1_000_000_000]] {
            errno_is!(syscall!(SYS_futex, at(&word), op, 0, time.as_ptr()), EINVAL);
        }
        errno_is!(syscall!(SYS_futex, at(&word), op, 0, 0x1000), EFAULT);
    }
    errno_is!(syscall!(SYS_futex, at(&word), FUTEX_LOCK_PI | libc::FUTEX_CLOCK_REALTIME, 0, 0), ENOSYS);
}

fn bad_address() {
    let word = AtomicU32::new(0);
    errno_is!(syscall!(SYS_futex, at(&word) + 1, FUTEX_LOCK_PI, 0, 0), EINVAL);
    for op in [FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI] {
        errno_is!(syscall!(SYS_futex, 0x1000, op, 0, 0), EFAULT);
    }
}

/// Gives the calling thread a real-time priority, or ends the case as one that cannot tell anything.
fn become_real_time(priority: i32) {
    if syscall!(SYS_sched_setscheduler, 0, SCHED_FIFO, &raw const priority).is_err() {
        skip!("real-time priorities need a privilege");
    }
}

fn real_time_waiter_comes_first() {
    let (word, order) = (held(), AtomicU32::new(0));
    thread::scope(|scope| {
        for priority in [0, 10, 20] {
            let (word, order) = (&word, &order);
            scope.spawn(move || {
                if priority > 0 {
                    become_real_time(priority);
                }
                ok!(lock(word));
                let place = order.fetch_add(1, SeqCst);
                check_eq!(place, 2 - priority as u32 / 10);
                ok!(unlock(word));
            });
            a_while();
        }
        ok!(unlock(&word));
    });
}

/// The priority of a thread as `/proc` tells it.
fn shown_priority(tid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).expect("a thread has its file");
    let rest = stat.rsplit(')').next().unwrap_or_default();
    // The rest begins with the third field.
    rest.split_whitespace().nth(15).and_then(|field| field.parse().ok()).expect("a number")
}

fn owner_inherits_a_priority() {
    let word = held();
    let own = shown_priority(tid());
    thread::scope(|scope| {
        scope.spawn(|| {
            become_real_time(10);
            ok!(lock(&word));
            check_eq!(shown_priority(tid()), -11);
            ok!(unlock(&word));
        });
        until("the priority", || shown_priority(own_tid() as u32) == -11);
        ok!(unlock(&word));
        check_eq!(shown_priority(tid()), own);
    });
}

fn priority_is_inherited_along_a_chain() {
    let own = shown_priority(tid());
    let (first, second) = (held(), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            ok!(lock(&second));
            ok!(lock(&first));
            ok!(unlock(&first));
            ok!(unlock(&second));
        });
        until_waited_for(&first);
        let late = scope.spawn(|| {
            become_real_time(7);
            // Long enough for the priority to be seen.
            let mut end = [0_i64; 2];
            ok!(syscall!(SYS_clock_gettime, libc::CLOCK_REALTIME, end.as_mut_ptr()));
            end[0] += 1;
            errno_is!(syscall!(SYS_futex, at(&second), FUTEX_LOCK_PI, 0, end.as_ptr()), ETIMEDOUT);
        });
        until("the priority", || shown_priority(tid()) == -8);
        check!(late.join().is_ok());
        check_eq!(shown_priority(tid()), own);
        ok!(unlock(&first));
    });
}
