// SPDX-License-Identifier: MPL-2.0

//! Waits for signals: rt_sigtimedwait(2), rt_sigsuspend(2), pause(2).

use libc::*;

use super::*;
use crate::child::{Child, Turn};

pub const CASES: &[Case] = cases!["signal/wait":
    pending_signal_is_taken_at_once,
    signal_that_comes_later_ends_the_wait,
    nothing_is_eagain_at_the_time_limit,
    zero_limit_polls,
    bad_limit_is_einval,
    another_signal_is_eintr,
    info_tells_the_sender,
    suspend_takes_the_signal_and_restores_the_mask,
    suspend_sleeps_through_ignored_signals,
    pause_ends_with_eintr,
    thread_waits_for_a_signal_of_the_process,
];

fn wait_for(set: u64, limit: Option<[i64; 2]>) -> sys::Result {
    let limit = limit.as_ref().map_or(0, |limit| limit.as_ptr() as usize);
    syscall!(SYS_rt_sigtimedwait, &raw const set, 0, limit, 8)
}

/// A child that sends its parent `signal` after a while.
fn sender(signal: i32) -> Child {
    let parent = sys::getpid();
    Child::spawn(move || {
        a_while();
        ok!(sys::kill(parent, signal));
    })
}

fn pending_signal_is_taken_at_once() {
    set_mask(bit(SIGUSR1));
    raise_process(SIGUSR1);
    check_eq!(wait_for(bit(SIGUSR1), None), Ok(SIGUSR1 as usize));
    check_eq!(pending(), 0);
}

fn signal_that_comes_later_ends_the_wait() {
    set_mask(bit(SIGUSR1));
    let child = sender(SIGUSR1);
    check_eq!(wait_for(bit(SIGUSR1), Some([5, 0])), Ok(SIGUSR1 as usize));
    child.join();
}

fn nothing_is_eagain_at_the_time_limit() {
    set_mask(bit(SIGUSR1));
    let start = sys::monotonic_ms();
    errno_is!(wait_for(bit(SIGUSR1), Some([0, 50_000_000])), EAGAIN);
    check!(sys::monotonic_ms() - start >= 49);
}

fn zero_limit_polls() {
    set_mask(bit(SIGUSR1));
    errno_is!(wait_for(bit(SIGUSR1), Some([0, 0])), EAGAIN);
}

fn bad_limit_is_einval() {
    errno_is!(wait_for(bit(SIGUSR1), Some([0, 1_000_000_000])), EINVAL);
    errno_is!(wait_for(bit(SIGUSR1), Some([-1, 0])), EINVAL);
    let set = 0_u64;
    errno_is!(syscall!(SYS_rt_sigtimedwait, &raw const set, 0, 0, 4), EINVAL);
}

fn another_signal_is_eintr() {
    handle(SIGUSR2, SA_RESTART);
    set_mask(bit(SIGUSR1));
    let child = sender(SIGUSR2);
    errno_is!(wait_for(bit(SIGUSR1), Some([5, 0])), EINTR);
    check_eq!(count(SIGUSR2), 1);
    child.join();
}

fn info_tells_the_sender() {
    set_mask(bit(SIGUSR1));
    let child = sender(SIGUSR1);
    let set = bit(SIGUSR1);
    let mut info = [0_i32; 32];
    check_eq!(syscall!(SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), 0, 8), Ok(SIGUSR1 as usize));
    check_eq!((info[0], info[2], info[4]), (SIGUSR1, SI_USER, child.pid));
    child.join();
}

fn suspend_takes_the_signal_and_restores_the_mask() {
    handle(SIGUSR1, SA_RESTART);
    set_mask(bit(SIGUSR1) | bit(SIGUSR2));
    let child = sender(SIGUSR1);
    let during = bit(SIGUSR2);
    errno_is!(syscall!(SYS_rt_sigsuspend, &raw const during, 8), EINTR);
    check_eq!((count(SIGUSR1), mask()), (1, bit(SIGUSR1) | bit(SIGUSR2)));
    errno_is!(syscall!(SYS_rt_sigsuspend, &raw const during, 4), EINVAL);
    child.join();
}

fn suspend_sleeps_through_ignored_signals() {
    handle(SIGUSR1, 0);
    set_mask(bit(SIGUSR1));
    let parent = sys::getpid();
    let child = Child::spawn(move || {
        for signal in [SIGWINCH, SIGURG, SIGUSR1] {
            a_while();
            ok!(sys::kill(parent, signal));
        }
    });
    let during = 0_u64;
    errno_is!(syscall!(SYS_rt_sigsuspend, &raw const during, 8), EINTR);
    check_eq!(count(SIGUSR1), 1);
    child.join();
}

fn pause_ends_with_eintr() {
    handle(SIGUSR1, SA_RESTART);
    let child = sender(SIGUSR1);
    errno_is!(syscall!(SYS_pause), EINTR);
    check_eq!(count(SIGUSR1), 1);
    child.join();
}

fn thread_waits_for_a_signal_of_the_process() {
    set_mask(bit(SIGUSR1));
    let ready = Turn::new();
    let thread = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            ready.post();
            wait_for(bit(SIGUSR1), Some([5, 0]))
        });
        ready.wait();
        a_while();
        raise_process(SIGUSR1);
        thread.join().ok()
    });
    check_eq!(thread, Some(Ok(SIGUSR1 as usize)));
}
