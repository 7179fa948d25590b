// SPDX-License-Identifier: MPL-2.0

//! Futexes: futex(2), robust lists, and what the end of a thread does to them.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use libc::c_int;

use crate::{harness::Case, sys};

mod absent;
mod barrier;
mod ops;
mod pi;
mod pi_state;
mod requeue_pi;
mod robust;
mod vector;
mod wait;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] = &[
    wait::CASES,
    ops::CASES,
    absent::CASES,
    pi::CASES,
    pi_state::CASES,
    requeue_pi::CASES,
    vector::CASES,
    robust::CASES,
    barrier::CASES,
];

/// The address of a word.
pub fn at(word: &AtomicU32) -> usize {
    word.as_ptr() as usize
}

/// `FUTEX_WAIT` with other flags, and no time limit.
pub fn wait_for(word: &AtomicU32, value: u32, flags: c_int) -> sys::Result {
    syscall!(SYS_futex, at(word), libc::FUTEX_WAIT | flags, value, 0)
}

/// `FUTEX_WAKE` with other flags.
pub fn wake(word: &AtomicU32, count: c_int, flags: c_int) -> sys::Result {
    syscall!(SYS_futex, at(word), libc::FUTEX_WAKE | flags, count)
}

/// Wakes until so many were woken.
#[track_caller]
pub fn wake_exactly(word: &AtomicU32, count: usize, flags: c_int) {
    let mut woken = 0;
    crate::signal::until("waking all waiters", || {
        woken += ok!(wake(word, 100, flags));
        woken >= count
    });
    assert!(woken == count, "woke {woken} of {count}");
}

/// A word that the case and its children see alike.
pub fn shared_word() -> &'static AtomicU32 {
    let words = crate::child::shared_words();
    // SAFETY: the words are aligned for it, and nobody uses them otherwise.
    unsafe { &*words.as_ptr().cast() }
}

/// What a word holds.
pub fn value(word: &AtomicU32) -> u32 {
    word.load(SeqCst)
}
