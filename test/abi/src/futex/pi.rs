// SPDX-License-Identifier: MPL-2.0

//! Locks whose owner the kernel knows: FUTEX_LOCK_PI and its family.

use std::{sync::atomic::AtomicUsize, thread};

use libc::*;

use super::*;
use crate::{
    child::Child,
    signal::{a_while, own_tid, until},
};

pub const CASES: &[Case] = cases!["futex/pi":
    free_lock_is_taken,
    own_lock_is_edeadlk,
    unlocking_a_strangers_lock_is_eperm,
    try_is_eagain_when_taken,
    waiter_gets_the_lock,
    time_limit_is_etimedout,
    locks_exclude,
    dead_owner_is_esrch,
    lock_of_a_dead_waiter_chain_moves_on,
    chain_has_a_longest_length,
];

const WAITERS: u32 = 0x8000_0000;

fn op(word: &AtomicU32, op: i32) -> sys::Result {
    syscall!(SYS_futex, at(word), op, 0, 0)
}

fn lock(word: &AtomicU32) -> sys::Result {
    op(word, FUTEX_LOCK_PI)
}

fn unlock(word: &AtomicU32) -> sys::Result {
    op(word, FUTEX_UNLOCK_PI)
}

fn free_lock_is_taken() {
    let word = AtomicU32::new(0);
    ok!(lock(&word));
    check_eq!(value(&word), own_tid() as u32);
    ok!(unlock(&word));
    check_eq!(value(&word), 0);
    ok!(op(&word, FUTEX_TRYLOCK_PI));
    check_eq!(value(&word), own_tid() as u32);
}

fn own_lock_is_edeadlk() {
    let word = AtomicU32::new(own_tid() as u32);
    errno_is!(lock(&word), EDEADLK);
    errno_is!(op(&word, FUTEX_TRYLOCK_PI), EDEADLK);
}

fn unlocking_a_strangers_lock_is_eperm() {
    errno_is!(unlock(&AtomicU32::new(0)), EPERM);
    errno_is!(unlock(&AtomicU32::new(1)), EPERM);
}

fn try_is_eagain_when_taken() {
    let word = AtomicU32::new(own_tid() as u32);
    let result = thread::scope(|scope| scope.spawn(|| op(&word, FUTEX_TRYLOCK_PI)).join().ok());
    check_eq!(result, Some(Err(sys::Errno(EAGAIN))));
}

fn waiter_gets_the_lock() {
    let word = AtomicU32::new(own_tid() as u32);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            ok!(lock(&word));
            let owner = value(&word) & !WAITERS;
            ok!(unlock(&word));
            (owner, own_tid() as u32)
        });
        until("the waiter", || value(&word) & WAITERS != 0);
        ok!(unlock(&word));
        let (owner, tid) = waiter.join().expect("a case's threads end the case when they panic");
        check_eq!(owner, tid);
    });
    check_eq!(value(&word), 0);
}

fn time_limit_is_etimedout() {
    let word = AtomicU32::new(own_tid() as u32);
    let mut end = [0_i64; 2];
    ok!(syscall!(SYS_clock_gettime, CLOCK_REALTIME, end.as_mut_ptr()));
    let result = thread::scope(|scope| {
        scope.spawn(|| syscall!(SYS_futex, at(&word), FUTEX_LOCK_PI, 0, end.as_ptr())).join().ok()
    });
    check_eq!(result, Some(Err(sys::Errno(ETIMEDOUT))));
    ok!(unlock(&word));
}

fn locks_exclude() {
    let word = AtomicU32::new(0);
    let inside = AtomicUsize::new(0);
    let sum = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    ok!(lock(&word));
                    check_eq!(inside.fetch_add(1, SeqCst), 0);
                    sum.fetch_add(1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                    ok!(unlock(&word));
                }
            });
        }
    });
    check_eq!((sum.load(SeqCst), value(&word)), (400, 0));
}

fn dead_owner_is_esrch() {
    let child = Child::spawn(|| {});
    let word = AtomicU32::new(child.pid as u32);
    child.join();
    errno_is!(lock(&word), ESRCH);
}

/// The owner dies without unlocking while two wait: both get the lock in turn.
fn lock_of_a_dead_waiter_chain_moves_on() {
    let word = shared_word();
    let owner = Child::spawn(|| {
        ok!(lock(word));
        until("the waiters", || value(word) & WAITERS != 0);
        a_while();
    });
    until("the owner", || value(word) != 0);
    let waiters = [0, 1].map(|_| {
        Child::spawn(|| {
            ok!(lock(word));
            check_eq!(value(word) & 0x3fff_ffff, own_tid() as u32);
            ok!(unlock(word));
        })
    });
    owner.join();
    waiters.into_iter().for_each(Child::join);
}

/// Each thread takes a lock and waits for that of the thread before it.
fn chain_has_a_longest_length() {
    const MANY: usize = 1100;
    static LOCKS: [AtomicU32; MANY] = [const { AtomicU32::new(0) }; MANY];
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    Child::spawn(|| {
        ok!(lock(&LOCKS[0]));
        for place in 1..MANY {
            let wait = move || {
                ok!(lock(&LOCKS[place]));
                errno_is!(lock(&LOCKS[place - 1]), EDEADLK);
                REFUSED.store(place, SeqCst);
                sys::sleep_us(10_000_000);
            };
            ok!(thread::Builder::new().stack_size(64 << 10).spawn(wait));
            until("joining the chain", || {
                value(&LOCKS[place]) != 0 && value(&LOCKS[place - 1]) & WAITERS != 0
            });
        }
        until("the refusal", || REFUSED.load(SeqCst) != 0);
        let refused = REFUSED.load(SeqCst);
        check!((1024..1030).contains(&refused), "the chain had {refused} threads");
        sys::exit_group(0);
    })
    .join();
}
