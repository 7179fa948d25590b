// SPDX-License-Identifier: MPL-2.0

//! clock_gettime(2), clock_getres(2), clock_settime(2), gettimeofday(2), time(2), adjtimex(2).
//!
//! No case may change the machine's clock: they run on the machines that people work on.

use libc::*;

use super::*;
use crate::child::in_child;

pub const CASES: &[Case] = cases!["time/clock":
    all_clocks_can_be_read,
    unknown_clocks_are_einval,
    bad_pointer_is_efault,
    monotonic_never_goes_back,
    monotonic_has_a_fine_grain,
    realtime_is_of_this_age,
    realtime_and_gettimeofday_and_time_agree,
    coarse_clocks_lag_a_little,
    resolution_is_a_nanosecond_or_a_tick,
    cpu_clocks_count_only_work,
    user_and_system_time_add_up,
    clock_of_another_process,
    clock_of_a_thread,
    setting_needs_privilege,
    setting_monotonic_is_einval,
    setting_a_bad_time_is_einval,
    adjtimex_reads,
    adjtimex_needs_privilege_to_set,
    settimeofday_bad_time_is_einval,
];

const ALL: [i32; 9] = [
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
    CLOCK_TAI,
];

fn all_clocks_can_be_read() {
    for clock in ALL {
        check!(now(clock) > 0, "clock {clock}");
    }
}

fn unknown_clocks_are_einval() {
    let mut time = [0_i64; 2];
    for clock in [10, 12, 16, 1000] {
        errno_is!(syscall!(SYS_clock_gettime, clock, time.as_mut_ptr()), EINVAL);
        errno_is!(syscall!(SYS_clock_getres, clock, time.as_mut_ptr()), EINVAL);
    }
    // The clock of a process that does not exist.
    errno_is!(syscall!(SYS_clock_gettime, !0x3f_ffff_i32 << 3 | 2, time.as_mut_ptr()), EINVAL);
}

fn bad_pointer_is_efault() {
    errno_is!(syscall!(SYS_clock_gettime, CLOCK_MONOTONIC, 8), EFAULT);
    errno_is!(syscall!(SYS_gettimeofday, 8, 0), EFAULT);
    ok!(syscall!(SYS_clock_getres, CLOCK_MONOTONIC, 0));
    ok!(syscall!(SYS_gettimeofday, 0, 0));
}

fn monotonic_never_goes_back() {
    for clock in [CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID] {
        let mut last = now(clock);
        for _ in 0..5000 {
            let next = now(clock);
            check!(next >= last, "clock {clock}: {next} after {last}");
            last = next;
        }
    }
}

fn monotonic_has_a_fine_grain() {
    let finest = (0..1000).map(|_| {
        let first = now(CLOCK_MONOTONIC);
        now(CLOCK_MONOTONIC) - first
    });
    let finest = finest.filter(|step| *step > 0).min();
    check!(finest.is_some_and(|step| step < 500_000), "{finest:?}");
}

fn realtime_is_of_this_age() {
    const YEAR_2024: Nanos = 1_704_067_200 * 1_000_000_000;
    const YEAR_2100: Nanos = 4_102_444_800 * 1_000_000_000;
    check!((YEAR_2024..YEAR_2100).contains(&now(CLOCK_REALTIME)));
}

fn realtime_and_gettimeofday_and_time_agree() {
    let before = now(CLOCK_REALTIME);
    let mut timeval = [0_i64; 2];
    ok!(syscall!(SYS_gettimeofday, timeval.as_mut_ptr(), 0));
    let mut told = 0_i64;
    let time = ok!(syscall!(SYS_time, &raw mut told)) as i64;
    let after = now(CLOCK_REALTIME);
    let of_day = Nanos::from(timeval[0]) * 1_000_000_000 + Nanos::from(timeval[1]) * 1000;
    check!(before - 1000 <= of_day && of_day <= after);
    check_eq!(time, told);
    check!(Nanos::from(time) >= before / 1_000_000_000 - 1 && Nanos::from(time) <= after / 1_000_000_000);
}

fn coarse_clocks_lag_a_little() {
    for (coarse, fine) in [(CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC), (CLOCK_REALTIME_COARSE, CLOCK_REALTIME)]
    {
        let early = now(coarse);
        let time = now(fine);
        check!(early <= time && time - early < ms(200), "{early} {time}");
    }
}

fn resolution_is_a_nanosecond_or_a_tick() {
    let mut time = [0_i64; 2];
    for clock in ALL {
        ok!(syscall!(SYS_clock_getres, clock, time.as_mut_ptr()));
        let coarse = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE;
        let expected = if coarse { 1_000_000..=10_000_000 } else { 1..=1 };
        check!(time[0] == 0 && expected.contains(&time[1]), "clock {clock}: {time:?}");
    }
}

fn cpu_clocks_count_only_work() {
    for clock in [CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID] {
        let start = now(clock);
        sys::sleep_us(50_000);
        check!(now(clock) - start < ms(30));
        let start = now(clock);
        burn(ms(20));
        check!(now(clock) - start >= ms(19));
    }
}

fn user_and_system_time_add_up() {
    burn(ms(50));
    let mut usage = [0_i64; 18];
    ok!(syscall!(SYS_getrusage, RUSAGE_SELF, usage.as_mut_ptr()));
    let total = Nanos::from(usage[0] + usage[2]) * 1_000_000_000 + Nanos::from(usage[1] + usage[3]) * 1000;
    let clock = now(CLOCK_PROCESS_CPUTIME_ID);
    check!(total <= clock + ms(20) && total >= clock / 2, "{total} {clock}");
    check!(usage[1] > 0);
}

fn clock_of_another_process() {
    let of_self = !sys::getpid() << 3 | 2;
    burn(ms(5));
    let (own, by_number) = (now(CLOCK_PROCESS_CPUTIME_ID), now(of_self));
    check!(by_number >= own);
    in_child(|| check!(now(of_self) >= own));
}

fn clock_of_a_thread() {
    let of_self = !(ok!(syscall!(SYS_gettid)) as i32) << 3 | 4 | 2;
    burn(ms(5));
    let own = now(CLOCK_THREAD_CPUTIME_ID);
    check!(now(of_self) >= own);
    // Only threads of one's own process have such clocks.
    in_child(|| {
        let mut time = [0_i64; 2];
        errno_is!(syscall!(SYS_clock_gettime, of_self, time.as_mut_ptr()), EINVAL);
    });
}

fn setting_needs_privilege() {
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
        }
        let time = spec(now(CLOCK_REALTIME));
        errno_is!(syscall!(SYS_clock_settime, CLOCK_REALTIME, time.as_ptr()), EPERM);
        errno_is!(syscall!(SYS_settimeofday, [time[0], 0].as_ptr(), 0), EPERM);
    });
}

fn setting_monotonic_is_einval() {
    let time = spec(ms(1000));
    errno_is!(syscall!(SYS_clock_settime, CLOCK_MONOTONIC, time.as_ptr()), EINVAL);
    errno_is!(syscall!(SYS_clock_settime, CLOCK_BOOTTIME, time.as_ptr()), EINVAL);
    errno_is!(syscall!(SYS_clock_settime, 1000, time.as_ptr()), EINVAL);
}

/// In a child that may not set the clock: a case never does. That the time is bad is found first.
fn setting_a_bad_time_is_einval() {
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
        }
        for time in [[0_i64, 1_000_000_000], [0, -1], [-1, 0]] {
            errno_is!(syscall!(SYS_clock_settime, CLOCK_REALTIME, time.as_ptr()), EINVAL);
        }
    });
}

fn adjtimex_reads() {
    let mut timex = [0_u64; 26];
    let state = ok!(syscall!(SYS_adjtimex, timex.as_mut_ptr()));
    check!(state <= 5);
    let seconds = timex[9] as Nanos;
    check!((seconds - now(CLOCK_REALTIME) / 1_000_000_000).abs() <= 1);
    check_eq!(timex[11], 10_000);
}

fn adjtimex_needs_privilege_to_set() {
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
        }
        let mut timex = [0_u64; 26];
        const ADJ_TICK: u64 = 0x4000;
        timex[0] = ADJ_TICK;
        timex[11] = 10_000;
        errno_is!(syscall!(SYS_adjtimex, timex.as_mut_ptr()), EPERM);
    });
}

fn settimeofday_bad_time_is_einval() {
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
        }
        errno_is!(syscall!(SYS_settimeofday, [0_i64, 1_000_000].as_ptr(), 0), EINVAL);
        errno_is!(syscall!(SYS_settimeofday, [0_i64, -1].as_ptr(), 0), EINVAL);
    });
}
