// SPDX-License-Identifier: MPL-2.0

//! Waiting for a word with a lock to be taken at the end: FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI.

use std::thread;

use libc::{FUTEX_CLOCK_REALTIME, SIGUSR1};

use super::{
    pi_state::{WAITERS, lock, tid, unlock},
    *,
};
use crate::signal::{a_while, count, handle, own_tid, until};

pub const CASES: &[Case] = cases!["futex/requeue_pi":
    free_lock_is_given_at_once,
    waiter_is_moved_to_a_lock,
    all_waiters_get_the_lock_in_turn,
    value_must_match,
    same_word_is_einval,
    more_wakes_than_one_are_einval,
    nobody_to_move,
    another_lock_is_einval,
    plain_waiters_are_einval,
    plain_calls_on_its_waiters_are_einval,
    time_limit_before_the_move,
    time_limit_after_the_move,
    signal_before_the_move_restarts,
    signal_after_the_move_is_eagain,
    own_lock_is_edeadlk,
    bad_addresses,
];

const WAIT_REQUEUE_PI: i32 = 11;
const CMP_REQUEUE_PI: i32 = 12;

fn wait(word: &AtomicU32, lock: &AtomicU32) -> sys::Result {
    syscall!(SYS_futex, at(word), WAIT_REQUEUE_PI, 0, 0, at(lock))
}

fn requeue(word: &AtomicU32, lock: &AtomicU32, moves: i32) -> sys::Result {
    syscall!(SYS_futex, at(word), CMP_REQUEUE_PI, 1, moves, at(lock), 0)
}

/// Moves until so many were moved.
#[track_caller]
fn move_exactly(word: &AtomicU32, lock: &AtomicU32, wanted: usize) {
    let mut moved = 0;
    until("moving all waiters", || {
        moved += ok!(requeue(word, lock, 10));
        moved >= wanted
    });
    check_eq!(moved, wanted);
}

/// A word and a lock, both 0.
fn words() -> [AtomicU32; 2] {
    [AtomicU32::new(0), AtomicU32::new(0)]
}

fn free_lock_is_given_at_once() {
    let [word, free] = words();
    for moves in [0, 10] {
        thread::scope(|scope| {
            scope.spawn(|| {
                check_eq!(wait(&word, &free), Ok(0));
                // Others may be moved behind it, if any were asked for.
                let mark = if moves > 0 { WAITERS } else { 0 };
                check_eq!(value(&free), tid() | mark);
                ok!(unlock(&free));
            });
            until("the waiter", || ok!(requeue(&word, &free, moves)) == 1);
        });
        check_eq!(value(&free), 0);
    }
}

fn waiter_is_moved_to_a_lock() {
    let [word, taken] = words();
    ok!(lock(&taken));
    thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(wait(&word, &taken), Ok(0));
            check_eq!(value(&taken), tid() | WAITERS);
            ok!(unlock(&taken));
        });
        move_exactly(&word, &taken, 1);
        check_eq!(value(&taken), tid() | WAITERS);
        ok!(unlock(&taken));
    });
    check_eq!(value(&taken), 0);
}

fn all_waiters_get_the_lock_in_turn() {
    let [word, taken] = words();
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                check_eq!(wait(&word, &taken), Ok(0));
                check_eq!(value(&taken) & !WAITERS, tid());
                check_eq!(inside.fetch_add(1, SeqCst), 0);
                a_while();
                inside.fetch_sub(1, SeqCst);
                ok!(unlock(&taken));
            });
        }
        move_exactly(&word, &taken, 4);
    });
    check_eq!(value(&taken), 0);
}

fn value_must_match() {
    let [word, free] = words();
    word.store(1, SeqCst);
    errno_is!(wait(&word, &free), EAGAIN);
    errno_is!(requeue(&word, &free, 1), EAGAIN);
    errno_is!(wait(&word, &word), EINVAL);
}

fn same_word_is_einval() {
    let [word, _] = words();
    errno_is!(wait(&word, &word), EINVAL);
    errno_is!(requeue(&word, &word, 1), EINVAL);
}

fn more_wakes_than_one_are_einval() {
    let [word, free] = words();
    for wakes in [0, 2, -1] {
        errno_is!(syscall!(SYS_futex, at(&word), CMP_REQUEUE_PI, wakes, 1, at(&free), 0), EINVAL);
    }
    errno_is!(requeue(&word, &free, -1), EINVAL);
}

fn nobody_to_move() {
    let [word, free] = words();
    check_eq!(requeue(&word, &free, 10), Ok(0));
    check_eq!(value(&free), 0);
}

fn another_lock_is_einval() {
    let ([word, free], other) = (words(), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(wait(&word, &free), Ok(0));
            ok!(unlock(&free));
        });
        until("the waiter", || requeue(&word, &other, 10) == Err(sys::Errno(libc::EINVAL)));
        check_eq!(value(&other), 0);
        move_exactly(&word, &free, 1);
    });
}

fn plain_waiters_are_einval() {
    let [word, free] = words();
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(wait_for(&word, 0, 0), Ok(0)));
        until("the waiter", || requeue(&word, &free, 10) == Err(sys::Errno(libc::EINVAL)));
        wake_exactly(&word, 1, 0);
    });
}

fn plain_calls_on_its_waiters_are_einval() {
    let [word, free] = words();
    thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(wait(&word, &free), Ok(0));
            ok!(unlock(&free));
        });
        until("the waiter", || wake(&word, 1, 0) == Err(sys::Errno(libc::EINVAL)));
        errno_is!(syscall!(SYS_futex, at(&word), libc::FUTEX_REQUEUE, 1, 1, at(&free)), EINVAL);
        errno_is!(syscall!(SYS_futex, at(&word), libc::FUTEX_CMP_REQUEUE, 0, 1, at(&free), 0), EINVAL);
        errno_is!(lock(&word), EINVAL);
        word.store(0, SeqCst);
        move_exactly(&word, &free, 1);
    });
}

/// A point in time, so many milliseconds from now.
fn in_ms(clock: i32, ms: i64) -> [i64; 2] {
    let mut now = [0_i64; 2];
    ok!(syscall!(SYS_clock_gettime, clock, now.as_mut_ptr()));
    let nanos = now[1] + ms * 1_000_000;
    [now[0] + nanos / 1_000_000_000, nanos % 1_000_000_000]
}

fn time_limit_before_the_move() {
    let [word, free] = words();
    for (clock, flag) in [(libc::CLOCK_MONOTONIC, 0), (libc::CLOCK_REALTIME, FUTEX_CLOCK_REALTIME)] {
        let end = in_ms(clock, 20);
        let op = WAIT_REQUEUE_PI | flag;
        errno_is!(syscall!(SYS_futex, at(&word), op, 0, end.as_ptr(), at(&free)), ETIMEDOUT);
    }
    check_eq!((requeue(&word, &free, 1), value(&free)), (Ok(0), 0));
}

fn time_limit_after_the_move() {
    let [word, taken] = words();
    ok!(lock(&taken));
    thread::scope(|scope| {
        scope.spawn(|| {
            let end = in_ms(libc::CLOCK_MONOTONIC, 300);
            errno_is!(
                syscall!(SYS_futex, at(&word), WAIT_REQUEUE_PI, 0, end.as_ptr(), at(&taken)),
                ETIMEDOUT
            );
        });
        move_exactly(&word, &taken, 1);
    });
    ok!(unlock(&taken));
    check_eq!(value(&taken), 0);
}

fn signal_before_the_move_restarts() {
    let [word, free] = words();
    handle(SIGUSR1, 0);
    let waiter = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            waiter.store(own_tid() as u32, SeqCst);
            check_eq!(wait(&word, &free), Ok(0));
            ok!(unlock(&free));
        });
        until("the waiter", || value(&waiter) != 0);
        a_while();
        ok!(syscall!(SYS_tgkill, sys::getpid(), value(&waiter), SIGUSR1));
        until("the handler", || count(SIGUSR1) == 1);
        move_exactly(&word, &free, 1);
    });
}

fn signal_after_the_move_is_eagain() {
    let [word, taken] = words();
    handle(SIGUSR1, 0);
    ok!(lock(&taken));
    let waiter = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            waiter.store(own_tid() as u32, SeqCst);
            errno_is!(wait(&word, &taken), EAGAIN);
        });
        until("the waiter", || value(&waiter) != 0);
        move_exactly(&word, &taken, 1);
        ok!(syscall!(SYS_tgkill, sys::getpid(), value(&waiter), SIGUSR1));
        until("the handler", || count(SIGUSR1) == 1);
    });
    ok!(unlock(&taken));
}

/// The waiter has the lock that it wants to be moved to.
fn own_lock_is_edeadlk() {
    let [word, taken] = words();
    thread::scope(|scope| {
        scope.spawn(|| {
            ok!(lock(&taken));
            let end = in_ms(libc::CLOCK_MONOTONIC, 300);
            errno_is!(
                syscall!(SYS_futex, at(&word), WAIT_REQUEUE_PI, 0, end.as_ptr(), at(&taken)),
                ETIMEDOUT
            );
            ok!(unlock(&taken));
        });
        until("the circle", || requeue(&word, &taken, 10) == Err(sys::Errno(libc::EDEADLK)));
    });
}

fn bad_addresses() {
    let [word, free] = words();
    errno_is!(syscall!(SYS_futex, at(&word), WAIT_REQUEUE_PI, 0, 0, at(&free) + 1), EINVAL);
    errno_is!(syscall!(SYS_futex, at(&word) + 1, WAIT_REQUEUE_PI, 0, 0, at(&free)), EINVAL);
    errno_is!(syscall!(SYS_futex, 0x1000, WAIT_REQUEUE_PI, 0, 0, at(&free)), EFAULT);
    errno_is!(syscall!(SYS_futex, at(&word), CMP_REQUEUE_PI, 1, 1, at(&free) + 1, 0), EINVAL);
    errno_is!(syscall!(SYS_futex, at(&word), CMP_REQUEUE_PI, 1, 1, 0x1000, 0), EFAULT);
    errno_is!(syscall!(SYS_futex, 0x1000, CMP_REQUEUE_PI, 1, 1, at(&free), 0), EFAULT);
}
