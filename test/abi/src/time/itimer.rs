// SPDX-License-Identifier: MPL-2.0

//! setitimer(2), getitimer(2), alarm(2), RLIMIT_CPU.

use libc::*;

use super::*;
use crate::{
    child::{Child, in_child},
    signal::{count, handle, last_code, until},
};

pub const CASES: &[Case] = cases!["time/itimer":
    real_timer_sends_sigalrm,
    interval_repeats,
    virtual_timer_counts_work,
    prof_timer_counts_work,
    idle_time_does_not_count_for_prof,
    old_value_is_told,
    zero_disarms,
    bad_timers_are_einval,
    bad_values_are_einval,
    alarm_tells_what_was_left,
    alarm_rounds_to_a_second,
    sigalrm_ends_a_process,
    child_has_none,
    exec_keeps_it,
    cpu_limit_sends_sigxcpu,
];

/// Sets a timer to these microseconds; value and interval of before.
fn set(which: i32, value: i64, interval: i64) -> sys::Result<[i64; 4]> {
    let new = [interval / 1_000_000, interval % 1_000_000, value / 1_000_000, value % 1_000_000];
    let mut old = [0; 4];
    syscall!(SYS_setitimer, which, new.as_ptr(), old.as_mut_ptr()).map(|_| old)
}

fn get(which: i32) -> [i64; 4] {
    let mut now = [0; 4];
    ok!(syscall!(SYS_getitimer, which, now.as_mut_ptr()));
    now
}

fn real_timer_sends_sigalrm() {
    handle(SIGALRM, 0);
    let start = now(CLOCK_MONOTONIC);
    ok!(set(ITIMER_REAL, 20_000, 0));
    until("SIGALRM", || count(SIGALRM) == 1);
    check!(now(CLOCK_MONOTONIC) - start >= ms(20));
    check_eq!(last_code(), SI_KERNEL);
    check_eq!(get(ITIMER_REAL), [0; 4]);
}

fn interval_repeats() {
    handle(SIGALRM, 0);
    ok!(set(ITIMER_REAL, 5000, 5000));
    until("SIGALRM", || count(SIGALRM) >= 4);
    check_eq!(get(ITIMER_REAL)[..2], [0, 5000]);
    ok!(set(ITIMER_REAL, 0, 0));
}

fn virtual_timer_counts_work() {
    handle(SIGVTALRM, 0);
    ok!(set(ITIMER_VIRTUAL, 10_000, 10_000));
    let start = now(CLOCK_MONOTONIC);
    while count(SIGVTALRM) < 2 {
        check!(now(CLOCK_MONOTONIC) - start < ms(8000));
        (0..10_000).for_each(|_| std::hint::spin_loop());
    }
}

fn prof_timer_counts_work() {
    handle(SIGPROF, 0);
    ok!(set(ITIMER_PROF, 10_000, 10_000));
    let start = now(CLOCK_MONOTONIC);
    while count(SIGPROF) < 2 {
        check!(now(CLOCK_MONOTONIC) - start < ms(8000));
        burn(ms(1));
    }
}

fn idle_time_does_not_count_for_prof() {
    handle(SIGPROF, 0);
    ok!(set(ITIMER_PROF, 100_000, 0));
    sys::sleep_us(200_000);
    check_eq!(count(SIGPROF), 0);
    check!(get(ITIMER_PROF)[3] > 0);
}

fn old_value_is_told() {
    ok!(set(ITIMER_REAL, 100_000_000, 7_000_000));
    let old = ok!(set(ITIMER_REAL, 0, 0));
    check_eq!(old[..2], [7, 0]);
    check!(old[2] == 99 || old == [7, 0, 100, 0], "{old:?}");
}

fn zero_disarms() {
    handle(SIGALRM, 0);
    ok!(set(ITIMER_REAL, 20_000, 0));
    ok!(syscall!(SYS_setitimer, ITIMER_REAL, [0_i64; 4].as_ptr(), 0));
    sys::sleep_us(50_000);
    check_eq!(count(SIGALRM), 0);
}

fn bad_timers_are_einval() {
    errno_is!(set(3, 0, 0), EINVAL);
    errno_is!(set(-1, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_getitimer, 3, [0_i64; 4].as_mut_ptr()), EINVAL);
}

fn bad_values_are_einval() {
    for bad in [[0_i64, 0, 0, 1_000_000], [0, 0, 0, -1], [0, 1_000_000, 1, 0], [0, 0, -1, 0]] {
        errno_is!(syscall!(SYS_setitimer, ITIMER_REAL, bad.as_ptr(), 0), EINVAL);
    }
    errno_is!(syscall!(SYS_setitimer, ITIMER_REAL, 8, 0), EFAULT);
    errno_is!(syscall!(SYS_getitimer, ITIMER_REAL, 8), EFAULT);
}

fn alarm_tells_what_was_left() {
    check_eq!(syscall!(SYS_alarm, 100), Ok(0));
    check_eq!(syscall!(SYS_alarm, 0), Ok(100));
    check_eq!(syscall!(SYS_alarm, 0), Ok(0));
}

fn alarm_rounds_to_a_second() {
    ok!(set(ITIMER_REAL, 100_000, 0));
    check_eq!(syscall!(SYS_alarm, 0), Ok(1));
    ok!(set(ITIMER_REAL, 9_800_000, 0));
    check_eq!(syscall!(SYS_alarm, 0), Ok(10));
}

fn sigalrm_ends_a_process() {
    let child = Child::spawn(|| {
        sys::default_action(SIGALRM);
        ok!(set(ITIMER_REAL, 5000, 0));
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    check_eq!(WTERMSIG(child.wait()), SIGALRM);
}

fn child_has_none() {
    ok!(set(ITIMER_REAL, 100_000_000, 0));
    in_child(|| check_eq!(get(ITIMER_REAL), [0; 4]));
    check!(get(ITIMER_REAL)[2] > 0);
}

fn exec_keeps_it() {
    let child = Child::spawn(|| {
        sys::default_action(SIGALRM);
        ok!(set(ITIMER_REAL, 50_000, 0));
        crate::signal::exec_self("signal-idle");
    });
    check_eq!(WTERMSIG(child.wait()), SIGALRM);
}

fn cpu_limit_sends_sigxcpu() {
    let child = Child::spawn(|| {
        sys::default_action(SIGXCPU);
        ok!(sys::setrlimit(RLIMIT_CPU, 1, 5));
        loop {
            std::hint::spin_loop();
        }
    });
    check_eq!(WTERMSIG(child.wait()), SIGXCPU);
}
