// SPDX-License-Identifier: MPL-2.0

//! Calls that a signal interrupts: which go on, which end with EINTR, and what is left of their time (signal(7)).

use libc::*;

use super::*;
use crate::child::Child;

pub const CASES: &[Case] = cases!["signal/restart":
    read_goes_on_with_sa_restart,
    read_is_eintr_without,
    read_goes_on_after_an_ignored_signal,
    wait_goes_on_with_sa_restart,
    wait_is_eintr_without,
    poll_is_eintr_even_with_sa_restart,
    poll_goes_on_after_a_stop,
    ppoll_mask_lets_the_signal_in,
    select_is_eintr_even_with_sa_restart,
    nanosleep_is_eintr_and_tells_the_rest,
    nanosleep_goes_on_after_a_stop,
    absolute_sleep_is_eintr,
    futex_wait_goes_on_with_sa_restart,
    futex_wait_is_eintr_without,
    futex_timed_wait_goes_on_after_a_stop,
    restart_syscall_alone_is_eintr,
];

/// A child that sends its parent each of `signals` after a while, and then does `last`.
fn sender(signals: &'static [i32], last: impl FnOnce()) -> Child {
    let parent = sys::getpid();
    Child::spawn(move || {
        for signal in signals {
            a_while();
            ok!(sys::kill(parent, *signal));
        }
        a_while();
        last();
    })
}

fn read_goes_on_with_sa_restart() {
    handle(SIGUSR1, SA_RESTART);
    let (reader, writer) = ok!(sys::pipe(0));
    let child = sender(&[SIGUSR1, SIGUSR1], || check_eq!(sys::write(writer, b"x"), Ok(1)));
    check_eq!(sys::read(reader, &mut [0; 8]), Ok(1));
    check_eq!(count(SIGUSR1), 2);
    child.join();
}

fn read_is_eintr_without() {
    handle(SIGUSR1, 0);
    let (reader, _writer) = ok!(sys::pipe(0));
    let child = sender(&[SIGUSR1], || {});
    errno_is!(sys::read(reader, &mut [0; 8]), EINTR);
    child.join();
}

fn read_goes_on_after_an_ignored_signal() {
    ignore(SIGUSR1);
    let (reader, writer) = ok!(sys::pipe(0));
    let child = sender(&[SIGUSR1, SIGWINCH, SIGCONT], || check_eq!(sys::write(writer, b"x"), Ok(1)));
    check_eq!(sys::read(reader, &mut [0; 8]), Ok(1));
    child.join();
}

fn wait_goes_on_with_sa_restart() {
    handle(SIGUSR1, SA_RESTART);
    let child = sender(&[SIGUSR1], || {});
    check_eq!(sys::wait4(child.pid, 0).map(|(pid, _)| pid), Ok(child.pid));
    check_eq!(count(SIGUSR1), 1);
}

fn wait_is_eintr_without() {
    handle(SIGUSR1, 0);
    let child = sender(&[SIGUSR1], || {});
    errno_is!(sys::wait4(child.pid, 0), EINTR);
    child.join();
}

fn poll_is_eintr_even_with_sa_restart() {
    handle(SIGUSR1, SA_RESTART);
    let child = sender(&[SIGUSR1], || {});
    errno_is!(syscall!(SYS_poll, 0, 0, 5000), EINTR);
    child.join();
}

/// Runs `call` in a child, which is stopped and continued while it waits; how long it took in milliseconds.
fn stopped_meanwhile(call: impl FnOnce() -> sys::Result + Send, expected: sys::Result) {
    let child = Child::spawn(|| {
        let start = sys::monotonic_ms();
        check_eq!(call(), expected);
        let took = sys::monotonic_ms() - start;
        check!((200..2000).contains(&took), "took {took} ms");
    });
    for signal in [SIGSTOP, SIGCONT, SIGSTOP, SIGCONT] {
        a_while();
        ok!(sys::kill(child.pid, signal));
    }
    child.join();
}

fn poll_goes_on_after_a_stop() {
    stopped_meanwhile(|| syscall!(SYS_poll, 0, 0, 200), Ok(0));
}

fn ppoll_mask_lets_the_signal_in() {
    handle(SIGUSR1, SA_RESTART);
    set_mask(bit(SIGUSR1));
    let child = sender(&[SIGUSR1], || {});
    let during = 0_u64;
    errno_is!(syscall!(SYS_ppoll, 0, 0, [5_i64, 0].as_ptr(), &raw const during, 8), EINTR);
    check_eq!((count(SIGUSR1), mask()), (1, bit(SIGUSR1)));
    child.join();
}

fn select_is_eintr_even_with_sa_restart() {
    handle(SIGUSR1, SA_RESTART);
    let child = sender(&[SIGUSR1], || {});
    errno_is!(syscall!(SYS_select, 0, 0, 0, 0, [5_i64, 0].as_mut_ptr()), EINTR);
    child.join();
}

fn nanosleep_is_eintr_and_tells_the_rest() {
    handle(SIGUSR1, SA_RESTART);
    let child = sender(&[SIGUSR1], || {});
    let mut rest = [0_i64; 2];
    errno_is!(syscall!(SYS_nanosleep, [5_i64, 0].as_ptr(), rest.as_mut_ptr()), EINTR);
    check!(rest[0] == 4, "{rest:?}");
    child.join();
}

fn nanosleep_goes_on_after_a_stop() {
    stopped_meanwhile(|| syscall!(SYS_nanosleep, [0_i64, 200_000_000].as_ptr(), 0), Ok(0));
}

fn absolute_sleep_is_eintr() {
    handle(SIGUSR1, SA_RESTART);
    let child = sender(&[SIGUSR1], || {});
    let mut now = [0_i64; 2];
    ok!(syscall!(SYS_clock_gettime, CLOCK_MONOTONIC, now.as_mut_ptr()));
    let mut rest = [77_i64; 2];
    let until = [now[0] + 5, now[1]];
    errno_is!(
        syscall!(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, until.as_ptr(), rest.as_mut_ptr()),
        EINTR
    );
    check_eq!(rest, [77, 77]);
    child.join();
}

fn futex_wait_goes_on_with_sa_restart() {
    handle(SIGUSR1, SA_RESTART);
    let words = crate::child::shared_words();
    let word = words[0].as_ptr();
    let child = sender(&[SIGUSR1], move || {
        words[0].store(1, SeqCst);
        ok!(syscall!(SYS_futex, word, FUTEX_WAKE, 1));
    });
    match syscall!(SYS_futex, word, FUTEX_WAIT, 0, 0) {
        // The word had changed before the call was made again.
        Ok(0) | Err(sys::Errno(EAGAIN)) => {}
        other => panic!("futex gives {other:?}"),
    }
    check_eq!((count(SIGUSR1), words[0].load(SeqCst)), (1, 1));
    child.join();
}

fn futex_wait_is_eintr_without() {
    handle(SIGUSR1, 0);
    let word = 0_u32;
    let child = sender(&[SIGUSR1], || {});
    errno_is!(syscall!(SYS_futex, &raw const word, FUTEX_WAIT, 0, 0), EINTR);
    child.join();
}

fn futex_timed_wait_goes_on_after_a_stop() {
    let word = 0_u32;
    let at = &raw const word as usize;
    let limit = [0_i64, 200_000_000];
    stopped_meanwhile(
        move || syscall!(SYS_futex, at, FUTEX_WAIT, 0, limit.as_ptr()),
        Err(sys::Errno(ETIMEDOUT)),
    );
}

fn restart_syscall_alone_is_eintr() {
    errno_is!(syscall!(SYS_restart_syscall), EINTR);
}
