// SPDX-License-Identifier: MPL-2.0

//! Waiting for any of several words: futex_waitv(2).

use std::thread;

use libc::{
    CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, FUTEX_PRIVATE_FLAG, SA_RESTART, SIGUSR1,
};

use super::*;
use crate::{
    child::Child,
    signal::{a_while, count, handle, own_tid, until},
};

pub const CASES: &[Case] = cases!["futex/vector":
    each_word_wakes,
    private_and_shared_words,
    another_process_wakes,
    other_value_is_eagain,
    time_limits,
    bad_times,
    bad_counts_and_flags_are_einval,
    bad_words,
    signals,
    one_word_twice,
    many_words,
    all_waiters_are_gone_afterwards,
];

const U32: u32 = 2;

/// `struct futex_waitv`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

fn entry(word: &AtomicU32, value: u32, flags: u32) -> Word {
    Word { value: value.into(), addr: at(word) as u64, flags: U32 | flags, reserved: 0 }
}

fn entries(words: &[AtomicU32]) -> Vec<Word> {
    words.iter().map(|word| entry(word, 0, FUTEX_PRIVATE_FLAG as u32)).collect()
}

fn waitv(words: &[Word]) -> sys::Result {
    syscall!(SYS_futex_waitv, words.as_ptr(), words.len(), 0, 0, 0)
}

fn waitv_until(words: &[Word], time: [i64; 2], clock: i32) -> sys::Result {
    syscall!(SYS_futex_waitv, words.as_ptr(), words.len(), 0, time.as_ptr(), clock)
}

fn each_word_wakes() {
    let words = [const { AtomicU32::new(0) }; 4];
    for place in 0..4 {
        thread::scope(|scope| {
            scope.spawn(|| check_eq!(waitv(&entries(&words)), Ok(place)));
            wake_exactly(&words[place], 1, FUTEX_PRIVATE_FLAG);
        });
    }
}

fn private_and_shared_words() {
    let words = [const { AtomicU32::new(0) }; 2];
    let list = [entry(&words[0], 0, 0), entry(&words[1], 0, FUTEX_PRIVATE_FLAG as u32)];
    for (place, flag) in [(0, 0), (1, FUTEX_PRIVATE_FLAG)] {
        thread::scope(|scope| {
            scope.spawn(|| check_eq!(waitv(&list), Ok(place)));
            wake_exactly(&words[place], 1, flag);
        });
    }
}

fn another_process_wakes() {
    let (shared, own) = (shared_word(), AtomicU32::new(0));
    let child = Child::spawn(|| check_eq!(waitv(&[entry(&own, 0, 0), entry(shared, 0, 0)]), Ok(1)));
    wake_exactly(shared, 1, 0);
    child.join();
}

fn other_value_is_eagain() {
    let words = [const { AtomicU32::new(0) }; 3];
    words[2].store(1, SeqCst);
    errno_is!(waitv(&entries(&words)), EAGAIN);
    check_eq!(wake(&words[0], 1, FUTEX_PRIVATE_FLAG), Ok(0));
}

fn time_limits() {
    let words = [const { AtomicU32::new(0) }; 2];
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        errno_is!(waitv_until(&entries(&words), [1, 0], clock), ETIMEDOUT);
        let mut end = [0_i64; 2];
        ok!(syscall!(SYS_clock_gettime, clock, end.as_mut_ptr()));
        let nanos = end[1] + 30_000_000;
        end = [end[0] + nanos / 1_000_000_000, nanos % 1_000_000_000];
        let before = sys::monotonic_ms();
        errno_is!(waitv_until(&entries(&words), end, clock), ETIMEDOUT);
        check!(sys::monotonic_ms() - before >= 25);
    }
}

fn bad_times() {
    let words = entries(&[AtomicU32::new(0)]);
    for clock in [CLOCK_PROCESS_CPUTIME_ID, -1, 100] {
        errno_is!(waitv_until(&words, [1, 0], clock), EINVAL);
    }
    for time in [[-1, 0], [1, -1], [1, 1_000_000_000]] {
        errno_is!(waitv_until(&words, time, CLOCK_MONOTONIC), EINVAL);
    }
    errno_is!(syscall!(SYS_futex_waitv, words.as_ptr(), 1, 0, 0x1000, CLOCK_MONOTONIC), EFAULT);
    errno_is!(syscall!(SYS_futex_waitv, words.as_ptr(), 1, 0, 0x1000, 100), EINVAL);
    // Without a time, the clock is not looked at.
    let other = AtomicU32::new(1);
    errno_is!(syscall!(SYS_futex_waitv, [entry(&other, 0, 0)].as_ptr(), 1, 0, 0, 100), EAGAIN);
}

fn bad_counts_and_flags_are_einval() {
    let word = AtomicU32::new(1);
    let words = [entry(&word, 0, 0); 129];
    errno_is!(syscall!(SYS_futex_waitv, words.as_ptr(), 0, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_futex_waitv, words.as_ptr(), 129, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_futex_waitv, words.as_ptr(), 128, 0, 0, 0), EAGAIN);
    errno_is!(syscall!(SYS_futex_waitv, 0, 1, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_futex_waitv, words.as_ptr(), 1, 1, 0, 0), EINVAL);
}

fn bad_words() {
    let word = AtomicU32::new(0);
    let good = entry(&word, 0, 0);
    errno_is!(waitv(&[Word { flags: 0, ..good }]), EINVAL);
    errno_is!(waitv(&[Word { flags: 3, ..good }]), EINVAL);
    errno_is!(waitv(&[Word { flags: 1 << 31 | U32, ..good }]), EINVAL);
    errno_is!(waitv(&[Word { reserved: 1, ..good }]), EINVAL);
    errno_is!(waitv(&[good, Word { addr: good.addr + 1, ..good }]), EINVAL);
    errno_is!(waitv(&[good, Word { addr: 0x1000, ..good }]), EFAULT);
    errno_is!(syscall!(SYS_futex_waitv, 0x1000, 1, 0, 0, 0), EFAULT);
    check_eq!(wake(&word, 1, 0), Ok(0));
}

fn signals() {
    let (word, waiter) = (AtomicU32::new(0), AtomicU32::new(0));
    for (rounds, flags) in [(1, SA_RESTART), (2, 0)] {
        handle(SIGUSR1, flags);
        thread::scope(|scope| {
            scope.spawn(|| {
                waiter.store(own_tid() as u32, SeqCst);
                let result = waitv(&[entry(&word, 0, 0)]);
                check_eq!(result, if flags == 0 { Err(sys::Errno(libc::EINTR)) } else { Ok(0) });
            });
            until("the waiter", || value(&waiter) != 0);
            a_while();
            ok!(syscall!(SYS_tgkill, sys::getpid(), value(&waiter), SIGUSR1));
            until("the handler", || count(SIGUSR1) == rounds);
            waiter.store(0, SeqCst);
            if flags != 0 {
                wake_exactly(&word, 1, 0);
            }
        });
    }
}

fn one_word_twice() {
    let word = AtomicU32::new(0);
    let list = [entry(&word, 0, 0); 2];
    thread::scope(|scope| {
        // One of the two is woken first; the other may be before the thread has run.
        scope.spawn(|| check!(ok!(waitv(&list)) < 2));
        until("the waiter", || ok!(wake(&word, 1, 0)) == 1);
    });
}

fn many_words() {
    let words: Vec<AtomicU32> = (0..128).map(|_| AtomicU32::new(0)).collect();
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(waitv(&entries(&words)), Ok(77)));
        wake_exactly(&words[77], 1, FUTEX_PRIVATE_FLAG);
    });
}

fn all_waiters_are_gone_afterwards() {
    let words = [const { AtomicU32::new(0) }; 3];
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(waitv(&entries(&words)), Ok(1)));
        wake_exactly(&words[1], 1, FUTEX_PRIVATE_FLAG);
    });
    for word in &words {
        check_eq!(wake(word, 10, FUTEX_PRIVATE_FLAG), Ok(0));
    }
}
