// SPDX-License-Identifier: MPL-2.0

//! nanosleep(2), clock_nanosleep(2), and the time limits of other waits.

use libc::*;

use super::*;

pub const CASES: &[Case] = cases!["time/sleep":
    never_too_short,
    bad_times_are_einval,
    bad_pointer_is_efault,
    each_clock_that_can,
    clocks_that_cannot,
    absolute_time_in_the_past_returns_at_once,
    absolute_time_is_reached,
    cpu_clock_sleeps_until_others_have_worked,
    poll_waits_as_long_as_it_says,
    select_waits_and_tells_the_rest,
    many_sleepers_wake_in_their_order,
];

fn never_too_short() {
    for nanos in [1, 1000, 100_000, ms(1), ms(7), ms(30)] {
        let start = now(CLOCK_MONOTONIC);
        ok!(syscall!(SYS_nanosleep, spec(nanos).as_ptr(), 0));
        let took = now(CLOCK_MONOTONIC) - start;
        check!(took >= nanos, "{took} for {nanos}");
    }
}

fn bad_times_are_einval() {
    for time in [[0_i64, 1_000_000_000], [0, -1], [-1, 0]] {
        errno_is!(syscall!(SYS_nanosleep, time.as_ptr(), 0), EINVAL);
        errno_is!(syscall!(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, time.as_ptr(), 0), EINVAL);
    }
}

fn bad_pointer_is_efault() {
    errno_is!(syscall!(SYS_nanosleep, 8, 0), EFAULT);
}

fn each_clock_that_can() {
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI] {
        let start = now(clock);
        ok!(syscall!(SYS_clock_nanosleep, clock, 0, spec(ms(5)).as_ptr(), 0));
        check!(now(clock) - start >= ms(5));
    }
}

fn clocks_that_cannot() {
    let time = spec(1);
    errno_is!(syscall!(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, time.as_ptr(), 0), EOPNOTSUPP);
    errno_is!(syscall!(SYS_clock_nanosleep, 1000, 0, time.as_ptr(), 0), EINVAL);
    errno_is!(syscall!(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, time.as_ptr(), 0), EOPNOTSUPP);
    errno_is!(syscall!(SYS_clock_nanosleep, CLOCK_REALTIME_COARSE, 0, time.as_ptr(), 0), EOPNOTSUPP);
}

fn absolute_time_in_the_past_returns_at_once() {
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC] {
        ok!(syscall!(SYS_clock_nanosleep, clock, TIMER_ABSTIME, spec(ms(1)).as_ptr(), 0));
    }
}

fn absolute_time_is_reached() {
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_TAI] {
        let until = now(clock) + ms(20);
        ok!(syscall!(SYS_clock_nanosleep, clock, TIMER_ABSTIME, spec(until).as_ptr(), 0));
        check!(now(clock) >= until);
    }
}

fn cpu_clock_sleeps_until_others_have_worked() {
    std::thread::scope(|scope| {
        scope.spawn(|| burn(ms(60)));
        let start = now(CLOCK_PROCESS_CPUTIME_ID);
        ok!(syscall!(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, spec(ms(20)).as_ptr(), 0));
        check!(now(CLOCK_PROCESS_CPUTIME_ID) - start >= ms(20));
    });
}

fn poll_waits_as_long_as_it_says() {
    let start = now(CLOCK_MONOTONIC);
    check_eq!(syscall!(SYS_poll, 0, 0, 25), Ok(0));
    check!(now(CLOCK_MONOTONIC) - start >= ms(25));
    check_eq!(syscall!(SYS_poll, 0, 0, 0), Ok(0));
}

fn select_waits_and_tells_the_rest() {
    let (_reader, writer) = ok!(sys::pipe(0));
    let mut limit = [5_i64, 0];
    let mut set = [0_u64; 16];
    set[writer as usize / 64] = 1 << (writer as usize % 64);
    check_eq!(syscall!(SYS_select, writer + 1, 0, set.as_mut_ptr(), 0, limit.as_mut_ptr()), Ok(1));
    check!(limit[0] >= 4);
    let mut limit = [0_i64, 20_000];
    check_eq!(syscall!(SYS_select, 0, 0, 0, 0, limit.as_mut_ptr()), Ok(0));
    check_eq!(limit, [0, 0]);
}

fn many_sleepers_wake_in_their_order() {
    let woken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for place in [4, 1, 3, 0, 2] {
            let woken = &woken;
            scope.spawn(move || {
                ok!(syscall!(SYS_nanosleep, spec(ms(30 + 60 * place)).as_ptr(), 0));
                woken.lock().expect("no thread panics with the lock").push(place);
            });
        }
    });
    check_eq!(*woken.lock().expect("no thread panics with the lock"), [0, 1, 2, 3, 4]);
}
