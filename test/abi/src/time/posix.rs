// SPDX-License-Identifier: MPL-2.0

//! timer_create(2) and its family.

use libc::*;

use super::*;
use crate::{
    child::in_child,
    signal::{RT, bit, count, handle, last_code, last_value, set_mask, until},
};

pub const CASES: &[Case] = cases!["time/posix":
    signal_with_value,
    no_event_means_sigalrm_and_its_number,
    interval_repeats,
    gettime_tells_what_is_left,
    settime_tells_what_was_left,
    absolute_time,
    absolute_time_in_the_past_fires_at_once,
    zero_disarms,
    none_is_quiet_but_counts,
    thread_gets_it,
    thread_of_nobody_is_einval,
    overruns_are_counted,
    cpu_time_timer,
    deleted_timer_is_einval,
    bad_arguments_are_einval,
    child_has_none,
    every_clock_that_can,
    limit_is_eagain,
];

/// `struct sigevent`: value, signal, kind, thread.
fn create(clock: i32, value: usize, signal: i32, kind: i32, tid: i32) -> sys::Result<i32> {
    let mut event = [0_u8; 64];
    event[..8].copy_from_slice(&value.to_ne_bytes());
    event[8..12].copy_from_slice(&signal.to_ne_bytes());
    event[12..16].copy_from_slice(&kind.to_ne_bytes());
    event[16..20].copy_from_slice(&tid.to_ne_bytes());
    let mut id = -1_i32;
    syscall!(SYS_timer_create, clock, event.as_ptr(), &raw mut id).map(|_| id)
}

fn new(value: usize) -> i32 {
    ok!(create(CLOCK_MONOTONIC, value, RT, SIGEV_SIGNAL, 0))
}

/// Arms a timer; interval and value of before.
fn set(id: i32, flags: i32, value: Nanos, interval: Nanos) -> sys::Result<[i64; 4]> {
    let (value, interval) = (spec(value), spec(interval));
    let new = [interval[0], interval[1], value[0], value[1]];
    let mut old = [0; 4];
    syscall!(SYS_timer_settime, id, flags, new.as_ptr(), old.as_mut_ptr()).map(|_| old)
}

fn get(id: i32) -> sys::Result<[i64; 4]> {
    let mut now = [0; 4];
    syscall!(SYS_timer_gettime, id, now.as_mut_ptr()).map(|_| now)
}

fn signal_with_value() {
    handle(RT, 0);
    let id = new(0x1234_5678_9abc);
    ok!(set(id, 0, ms(10), 0));
    until("the signal", || count(RT) == 1);
    check_eq!((last_code(), last_value()), (SI_TIMER, 0x1234_5678_9abc));
    check_eq!(get(id), Ok([0; 4]));
}

fn no_event_means_sigalrm_and_its_number() {
    handle(SIGALRM, 0);
    let mut id = -1_i32;
    ok!(syscall!(SYS_timer_create, CLOCK_REALTIME, 0, &raw mut id));
    ok!(set(id, 0, ms(5), 0));
    until("SIGALRM", || count(SIGALRM) == 1);
    check_eq!((last_code(), last_value() as i32), (SI_TIMER, id));
}

fn interval_repeats() {
    handle(RT, 0);
    ok!(set(new(1), 0, ms(5), ms(5)));
    until("the signals", || count(RT) >= 4);
}

fn gettime_tells_what_is_left() {
    let id = new(0);
    check_eq!(get(id), Ok([0; 4]));
    ok!(set(id, 0, ms(100_000), ms(7000)));
    let now = ok!(get(id));
    check!(now[0] == 7 && now[1] == 0 && now[2] == 99, "{now:?}");
}

fn settime_tells_what_was_left() {
    let id = new(0);
    check_eq!(set(id, 0, ms(100_000), 0), Ok([0; 4]));
    let old = ok!(set(id, 0, ms(1000), 0));
    check!(old[..2] == [0, 0] && old[2] == 99, "{old:?}");
}

fn absolute_time() {
    handle(RT, 0);
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        let before = count(RT);
        let id = ok!(create(clock, 0, RT, SIGEV_SIGNAL, 0));
        let end = now(clock) + ms(20);
        ok!(set(id, TIMER_ABSTIME, end, 0));
        until("the signal", || count(RT) > before);
        check!(now(clock) >= end);
    }
}

fn absolute_time_in_the_past_fires_at_once() {
    handle(RT, 0);
    ok!(set(new(0), TIMER_ABSTIME, 1, 0));
    until("the signal", || count(RT) == 1);
}

fn zero_disarms() {
    handle(RT, 0);
    let id = new(0);
    ok!(set(id, 0, ms(20), ms(20)));
    ok!(set(id, 0, 0, 0));
    sys::sleep_us(50_000);
    check_eq!(count(RT), 0);
}

fn none_is_quiet_but_counts() {
    let id = ok!(create(CLOCK_MONOTONIC, 0, 0, SIGEV_NONE, 0));
    ok!(set(id, 0, ms(10), 0));
    until("its end", || get(id) == Ok([0; 4]));
}

fn thread_gets_it() {
    set_mask(bit(RT));
    let tid = ok!(syscall!(SYS_gettid)) as i32;
    let id = ok!(create(CLOCK_MONOTONIC, 3, RT, SIGEV_THREAD_ID, tid));
    ok!(set(id, 0, ms(5), 0));
    until("the signal", || crate::signal::pending() == bit(RT));
    let others = std::thread::spawn(crate::signal::pending).join();
    check_eq!(others.ok(), Some(0));
}

fn thread_of_nobody_is_einval() {
    errno_is!(create(CLOCK_MONOTONIC, 0, RT, SIGEV_THREAD_ID, 1 << 22), EINVAL);
    let parent = sys::getpid();
    in_child(|| errno_is!(create(CLOCK_MONOTONIC, 0, RT, SIGEV_THREAD_ID, parent), EINVAL));
}

fn overruns_are_counted() {
    set_mask(bit(RT));
    let id = new(0);
    ok!(set(id, 0, ms(5), ms(5)));
    sys::sleep_us(60_000);
    let set = bit(RT);
    let mut info = [0_i32; 32];
    check_eq!(syscall!(SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), 0, 8), Ok(RT as usize));
    let overrun = ok!(syscall!(SYS_timer_getoverrun, id)) as i32;
    check!(overrun >= 8, "{overrun}");
    check_eq!((info[2], info[5]), (SI_TIMER, overrun));
}

fn cpu_time_timer() {
    handle(RT, 0);
    let id = ok!(create(CLOCK_PROCESS_CPUTIME_ID, 0, RT, SIGEV_SIGNAL, 0));
    ok!(set(id, 0, ms(30), 0));
    sys::sleep_us(60_000);
    check_eq!(count(RT), 0);
    let start = now(CLOCK_MONOTONIC);
    while count(RT) == 0 {
        burn(ms(2));
        check!(now(CLOCK_MONOTONIC) - start < ms(8000));
    }
}

fn deleted_timer_is_einval() {
    let id = new(0);
    ok!(syscall!(SYS_timer_delete, id));
    errno_is!(syscall!(SYS_timer_delete, id), EINVAL);
    errno_is!(get(id), EINVAL);
    errno_is!(set(id, 0, ms(1), 0), EINVAL);
    errno_is!(syscall!(SYS_timer_getoverrun, id), EINVAL);
}

fn bad_arguments_are_einval() {
    errno_is!(create(1000, 0, RT, SIGEV_SIGNAL, 0), EINVAL);
    errno_is!(create(CLOCK_MONOTONIC, 0, 0, SIGEV_SIGNAL, 0), EINVAL);
    errno_is!(create(CLOCK_MONOTONIC, 0, 65, SIGEV_SIGNAL, 0), EINVAL);
    errno_is!(create(CLOCK_MONOTONIC, 0, RT, 77, 0), EINVAL);
    let id = new(0);
    for bad in [[0_i64, 0, 0, 1_000_000_000], [0, 0, -1, 0], [0, -1, 1, 0]] {
        errno_is!(syscall!(SYS_timer_settime, id, 0, bad.as_ptr(), 0), EINVAL);
    }
    errno_is!(syscall!(SYS_timer_settime, id, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_timer_create, CLOCK_MONOTONIC, 8, 8), EFAULT);
}

fn child_has_none() {
    let id = new(0);
    in_child(|| errno_is!(get(id), EINVAL));
}

fn every_clock_that_can() {
    for clock in [
        CLOCK_REALTIME,
        CLOCK_MONOTONIC,
        CLOCK_BOOTTIME,
        CLOCK_TAI,
        CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_THREAD_CPUTIME_ID,
    ] {
        ok!(create(clock, 0, RT, SIGEV_SIGNAL, 0));
    }
    errno_is!(create(CLOCK_MONOTONIC_RAW, 0, RT, SIGEV_SIGNAL, 0), EOPNOTSUPP);
    errno_is!(create(CLOCK_MONOTONIC_COARSE, 0, RT, SIGEV_SIGNAL, 0), EOPNOTSUPP);
}

fn limit_is_eagain() {
    in_child(|| {
        ok!(sys::setrlimit(RLIMIT_SIGPENDING, 0, 0));
        errno_is!(create(CLOCK_MONOTONIC, 0, RT, SIGEV_SIGNAL, 0), EAGAIN);
    });
}
