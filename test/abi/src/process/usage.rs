// SPDX-License-Identifier: MPL-2.0

//! What a process uses and may use: getrusage(2), times(2), limits on processes and time; and prctl(2).

use libc::{
    PR_CAPBSET_READ, PR_GET_DUMPABLE, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_GET_TIMERSLACK, PR_SET_DUMPABLE,
    PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_TIMERSLACK, RLIMIT_CPU, RLIMIT_NPROC, RUSAGE_CHILDREN,
    RUSAGE_SELF, RUSAGE_THREAD, SIGXCPU,
};

use super::*;
use crate::{
    child::{in_child, killed_by, shared_words},
    mem::{PAGE, anon, free_range, number_pages},
};

pub const CASES: &[Case] = cases!["process/usage", slow:
    time_of_the_process,
    time_of_the_thread,
    time_of_ended_children,
    faults_and_memory,
    times_counts_ticks,
    getrusage_errors,
    nproc_refuses_fork,
    cpu_limit_signals,
    limits_of_others,
];

pub const PRCTL: &[Case] = cases!["process/prctl":
    name_of_the_thread,
    dumpable,
    no_new_privs_stays,
    timer_slack,
    bounding_set,
    unknown_option_is_einval,
];

fn usage(who: i32) -> libc::rusage {
    // SAFETY: plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_getrusage, who, &raw mut usage));
    usage
}

/// User and system time in microseconds.
fn spent(who: i32) -> i64 {
    let usage = usage(who);
    let us = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    us(usage.ru_utime) + us(usage.ru_stime)
}

fn work(ms: i64) {
    let start = spent(RUSAGE_THREAD);
    while spent(RUSAGE_THREAD) - start < ms * 1000 {
        std::hint::black_box((0..20_000).fold(0_u64, |sum, number| sum ^ number));
    }
}

fn time_of_the_process() {
    let before = spent(RUSAGE_SELF);
    work(50);
    let between = spent(RUSAGE_SELF);
    check!(between - before >= 40_000, "{} us", between - before);
    sys::sleep_us(100_000);
    let after = spent(RUSAGE_SELF);
    check!(after - between < 60_000, "{} us for sleeping", after - between);
}

fn time_of_the_thread() {
    let (thread, process) = (spent(RUSAGE_THREAD), spent(RUSAGE_SELF));
    std::thread::scope(|scope| _ = scope.spawn(|| work(60)));
    check!(spent(RUSAGE_THREAD) - thread < 40_000);
    check!(spent(RUSAGE_SELF) - process >= 50_000);
}

fn time_of_ended_children() {
    check_eq!(spent(RUSAGE_CHILDREN), 0);
    let child = Child::spawn(|| in_child(|| work(60)));
    wait_until_zombie(child.pid);
    check_eq!(spent(RUSAGE_CHILDREN), 0, "not waited for yet");
    child.join();
    check!(spent(RUSAGE_CHILDREN) >= 50_000, "a grandchild's counts, too");
    in_child(|| check_eq!(spent(RUSAGE_CHILDREN), 0));
    check!(usage(RUSAGE_CHILDREN).ru_maxrss > 0);
}

fn faults_and_memory() {
    let before = usage(RUSAGE_SELF);
    let at = anon(3000);
    number_pages(at, 3000, 1);
    let after = usage(RUSAGE_SELF);
    check!(after.ru_minflt > before.ru_minflt);
    check!(after.ru_maxrss >= (3000 * PAGE / 1024) as i64, "{} KiB", after.ru_maxrss);
    ok!(sys::munmap(at, 3000 * PAGE));
    check!(usage(RUSAGE_SELF).ru_maxrss >= after.ru_maxrss, "the most there ever was");
}

fn times_counts_ticks() {
    let mut spent = [0_i64; 4];
    let start = ok!(syscall!(SYS_times, spent.as_mut_ptr()));
    let before = spent;
    in_child(|| work(60));
    work(60);
    let end = ok!(syscall!(SYS_times, spent.as_mut_ptr()));
    check!(end - start >= 10, "{} ticks", end - start);
    check!(spent[0] + spent[1] - before[0] - before[1] >= 4, "{before:?} {spent:?}");
    check!(spent[2] + spent[3] >= 4, "{spent:?}");
    ok!(syscall!(SYS_times, 0));
    errno_is!(syscall!(SYS_times, free_range(1)), EFAULT);
}

fn getrusage_errors() {
    errno_is!(syscall!(SYS_getrusage, 5, [0_u64; 18].as_mut_ptr()), EINVAL);
    errno_is!(syscall!(SYS_getrusage, RUSAGE_SELF, free_range(1)), EFAULT);
}

fn nproc_refuses_fork() {
    // A user that surely has no other process.
    const USER: u32 = 54_321;
    ok!(sys::setrlimit(RLIMIT_NPROC, 2, 2));
    ok!(syscall!(SYS_setresuid, USER, USER, USER));
    let child = sleeper();
    errno_is!(sys::fork(), EAGAIN);
    check!(std::thread::Builder::new().spawn(|| {}).is_err());
    end(child);
    in_child(|| {});
}

fn cpu_limit_signals() {
    let hard = ok!(sys::getrlimit(RLIMIT_CPU)).1;
    let signal = killed_by(|| {
        ok!(sys::setrlimit(RLIMIT_CPU, 1, hard));
        work(5000);
    });
    check_eq!(signal, Some(SIGXCPU));
}

fn limits_of_others() {
    let child = sleeper();
    let (new, mut old) = ([10_u64, 20], [0_u64; 2]);
    ok!(syscall!(SYS_prlimit64, child.pid, RLIMIT_NPROC, new.as_ptr(), old.as_mut_ptr()));
    check_eq!((old[0], old[1]), ok!(sys::getrlimit(RLIMIT_NPROC)));
    ok!(syscall!(SYS_prlimit64, child.pid, RLIMIT_NPROC, 0, old.as_mut_ptr()));
    check_eq!(old, new);
    errno_is!(syscall!(SYS_prlimit64, child.pid, RLIMIT_NPROC, [2_u64, 1].as_ptr(), 0), EINVAL);
    end(child);
}

/// The name that prctl tells.
fn name() -> Vec<u8> {
    let mut name = [0xff_u8; 16];
    ok!(prctl(PR_GET_NAME, [name.as_mut_ptr() as usize, 0, 0, 0]));
    name.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

fn name_of_the_thread() {
    ok!(prctl(PR_SET_NAME, [c"short".as_ptr() as usize, 0, 0, 0]));
    check_eq!(name(), b"short");
    ok!(prctl(PR_SET_NAME, [c"0123456789abcdefghij".as_ptr() as usize, 0, 0, 0]));
    check_eq!(name(), b"0123456789abcde");
    in_child(|| check_eq!(name(), b"0123456789abcde"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ok!(prctl(PR_SET_NAME, [c"other".as_ptr() as usize, 0, 0, 0]));
            check_eq!(name(), b"other");
        });
    });
    check_eq!(name(), b"0123456789abcde");
    check_eq!(std::fs::read_to_string("/proc/self/comm").unwrap_or_default(), "0123456789abcde\n");
    errno_is!(prctl(PR_SET_NAME, [free_range(1), 0, 0, 0]), EFAULT);
}

fn dumpable() {
    check_eq!(prctl(PR_GET_DUMPABLE, [0; 4]), Ok(1));
    ok!(prctl(PR_SET_DUMPABLE, [0; 4]));
    check_eq!(prctl(PR_GET_DUMPABLE, [0; 4]), Ok(0));
    in_child(|| check_eq!(prctl(PR_GET_DUMPABLE, [0; 4]), Ok(0)));
    ok!(prctl(PR_SET_DUMPABLE, [1, 0, 0, 0]));
    errno_is!(prctl(PR_SET_DUMPABLE, [2, 0, 0, 0]), EINVAL);
    check_eq!(prctl(PR_GET_DUMPABLE, [0; 4]), Ok(1));
}

fn no_new_privs_stays() {
    check_eq!(prctl(PR_GET_NO_NEW_PRIVS, [0; 4]), Ok(0));
    errno_is!(prctl(PR_SET_NO_NEW_PRIVS, [0; 4]), EINVAL);
    errno_is!(prctl(PR_SET_NO_NEW_PRIVS, [1, 1, 0, 0]), EINVAL);
    ok!(prctl(PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]));
    check_eq!(prctl(PR_GET_NO_NEW_PRIVS, [0; 4]), Ok(1));
    errno_is!(prctl(PR_SET_NO_NEW_PRIVS, [0; 4]), EINVAL);
    in_child(|| check_eq!(prctl(PR_GET_NO_NEW_PRIVS, [0; 4]), Ok(1)));
}

fn timer_slack() {
    check_eq!(prctl(PR_GET_TIMERSLACK, [0; 4]), Ok(50_000));
    ok!(prctl(PR_SET_TIMERSLACK, [1234, 0, 0, 0]));
    check_eq!(prctl(PR_GET_TIMERSLACK, [0; 4]), Ok(1234));
    in_child(|| {
        check_eq!(prctl(PR_GET_TIMERSLACK, [0; 4]), Ok(1234));
        ok!(prctl(PR_SET_TIMERSLACK, [1, 0, 0, 0]));
        ok!(prctl(PR_SET_TIMERSLACK, [0; 4]));
        // What it was at its beginning.
        check_eq!(prctl(PR_GET_TIMERSLACK, [0; 4]), Ok(1234));
    });
}

fn bounding_set() {
    check_eq!(prctl(PR_CAPBSET_READ, [7, 0, 0, 0]), Ok(1));
    errno_is!(prctl(PR_CAPBSET_READ, [64, 0, 0, 0]), EINVAL);
}

fn unknown_option_is_einval() {
    errno_is!(prctl(0x7fff_0000, [0; 4]), EINVAL);
    errno_is!(prctl(-1, [0; 4]), EINVAL);
    let words = shared_words();
    errno_is!(prctl(libc::PR_GET_CHILD_SUBREAPER, [free_range(1), 0, 0, 0]), EFAULT);
    ok!(prctl(libc::PR_GET_CHILD_SUBREAPER, [words.as_ptr() as usize, 0, 0, 0]));
}
