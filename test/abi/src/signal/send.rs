// SPDX-License-Identifier: MPL-2.0

//! kill(2), tkill(2), tgkill(2): who gets a signal, and who may send it.

use std::sync::atomic::AtomicUsize;

use libc::*;

use super::*;
use crate::child::{Child, Turn, in_child, shared_words};

pub const CASES: &[Case] = cases!["signal/send":
    zero_only_asks,
    nobody_is_esrch,
    bad_signal_is_einval,
    zombie_takes_anything,
    group_gets_it,
    own_group_gets_it,
    empty_group_is_esrch,
    another_user_is_eperm,
    same_user_may,
    tgkill_checks_the_process,
    tgkill_bad_numbers_are_einval,
    tkill_code_is_si_tkill,
    kill_ends_a_process_that_blocks_everything,
    kill_ends_all_threads,
    kill_ends_a_stopped_process,
    a_killed_process_does_nothing_more,
    a_stopped_process_does_nothing_more,
];

fn zero_only_asks() {
    check_eq!(sys::kill(sys::getpid(), 0), Ok(0));
    ok!(syscall!(SYS_tgkill, sys::getpid(), own_tid(), 0));
}

/// A number that was a process's and is not any more.
fn gone() -> i32 {
    let child = Child::spawn(|| {});
    let pid = child.pid;
    child.join();
    pid
}

fn nobody_is_esrch() {
    let pid = gone();
    errno_is!(sys::kill(pid, 0), ESRCH);
    errno_is!(sys::kill(pid, SIGKILL), ESRCH);
    errno_is!(syscall!(SYS_tkill, pid, SIGUSR1), ESRCH);
    errno_is!(sys::kill(i32::MIN, 0), ESRCH);
}

fn bad_signal_is_einval() {
    for signal in [-1, 65, 1 << 20] {
        errno_is!(sys::kill(sys::getpid(), signal), EINVAL);
        errno_is!(syscall!(SYS_tgkill, sys::getpid(), own_tid(), signal), EINVAL);
    }
}

fn zombie_takes_anything() {
    let child = Child::spawn(|| {});
    let mut info = [0_u8; 128];
    ok!(syscall!(SYS_waitid, P_PID, child.pid, info.as_mut_ptr(), WEXITED | WNOWAIT, 0));
    check_eq!(sys::kill(child.pid, 0), Ok(0));
    check_eq!(sys::kill(child.pid, SIGKILL), Ok(0));
    child.join();
}

fn group_gets_it() {
    // What the leader leaves behind comes to the case, not to the harness.
    ok!(syscall!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1));
    let ready = Turn::new();
    let leader = Child::spawn(|| {
        ok!(sys::setpgid(0, 0));
        let member = Child::spawn(|| {
            ready.post();
            loop {
                sys::sleep_us(1_000_000);
            }
        });
        ready.post();
        let _ = member.wait();
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    ready.wait();
    ready.wait();
    ok!(sys::kill(-leader.pid, SIGTERM));
    let group = leader.pid;
    check_eq!(WTERMSIG(leader.wait()), SIGTERM);
    until("the end of the group", || sys::wait4(-group, WNOHANG) == Err(sys::Errno(ECHILD)));
}

fn own_group_gets_it() {
    in_child(|| {
        ok!(sys::setpgid(0, 0));
        handle(SIGUSR1, 0);
        ok!(sys::kill(0, SIGUSR1));
        check_eq!(count(SIGUSR1), 1);
    });
}

fn empty_group_is_esrch() {
    errno_is!(sys::kill(-gone(), SIGTERM), ESRCH);
}

fn another_user_is_eperm() {
    if ok!(syscall!(SYS_getuid)) != 0 {
        skip!("needs to be root to become two users");
    }
    let child = Child::spawn(|| {
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(sys::kill(child.pid, SIGTERM), EPERM);
        errno_is!(sys::kill(child.pid, 0), EPERM);
        errno_is!(syscall!(SYS_tkill, child.pid, SIGTERM), EPERM);
        errno_is!(queue(child.pid, SIGTERM, 0), EPERM);
    });
    ok!(sys::kill(child.pid, SIGKILL));
    let _ = child.wait();
}

fn same_user_may() {
    in_child(|| {
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
        }
        let child = Child::spawn(|| {
            loop {
                sys::sleep_us(1_000_000);
            }
        });
        ok!(sys::kill(child.pid, SIGTERM));
        check_eq!(WTERMSIG(child.wait()), SIGTERM);
    });
}

fn tgkill_checks_the_process() {
    let child = Child::spawn(|| {
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    errno_is!(syscall!(SYS_tgkill, sys::getpid(), child.pid, 0), ESRCH);
    check_eq!(syscall!(SYS_tgkill, child.pid, child.pid, SIGKILL), Ok(0));
    let _ = child.wait();
}

fn tgkill_bad_numbers_are_einval() {
    errno_is!(syscall!(SYS_tgkill, 0, own_tid(), 0), EINVAL);
    errno_is!(syscall!(SYS_tgkill, sys::getpid(), -1_i32, 0), EINVAL);
    errno_is!(syscall!(SYS_tkill, 0, 0), EINVAL);
}

fn tkill_code_is_si_tkill() {
    handle(SIGUSR1, 0);
    ok!(syscall!(SYS_tkill, own_tid(), SIGUSR1));
    check_eq!((count(SIGUSR1), last_code()), (1, SI_TKILL));
    check_eq!(last_sender().0, sys::getpid());
}

fn kill_ends_a_process_that_blocks_everything() {
    let ready = Turn::new();
    let child = Child::spawn(|| {
        set_mask(u64::MAX);
        ready.post();
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    ready.wait();
    ok!(sys::kill(child.pid, SIGTERM));
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(WTERMSIG(child.wait()), SIGKILL);
}

fn kill_ends_all_threads() {
    let ready = Turn::new();
    let child = Child::spawn(|| {
        for _ in 0..3 {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        std::thread::spawn(|| sys::read(ok!(sys::pipe(0)).0, &mut [0]));
        ready.post();
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    ready.wait();
    a_while();
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(WTERMSIG(child.wait()), SIGKILL);
}

fn kill_ends_a_stopped_process() {
    let child = Child::spawn(|| {
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    ok!(sys::kill(child.pid, SIGSTOP));
    check!(WIFSTOPPED(ok!(sys::wait4(child.pid, WUNTRACED)).1));
    ok!(sys::kill(child.pid, SIGTERM));
    a_while();
    check_eq!(sys::wait4(child.pid, WNOHANG).map(|(pid, _)| pid), Ok(0));
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(WTERMSIG(child.wait()), SIGKILL);
}

/// A child that counts, without a system call, on the one processor that the calling thread is on as well.
fn counting_child(counter: &AtomicUsize) -> Child {
    let mut cpu = 0_u32;
    ok!(syscall!(SYS_getcpu, &raw mut cpu, 0, 0));
    let mask = 1_u64 << cpu;
    ok!(syscall!(SYS_sched_setaffinity, 0, 8, &raw const mask));
    Child::spawn(|| {
        loop {
            counter.fetch_add(1, SeqCst);
        }
    })
}

/// Has it run, and lose the processor to the caller, who wakes.
fn let_it_run(counter: &AtomicUsize) {
    let before = counter.load(SeqCst);
    while counter.load(SeqCst) == before {
        sys::sleep_us(3000);
    }
}

fn a_killed_process_does_nothing_more() {
    let counter = &shared_words()[0];
    for _ in 0..30 {
        let child = counting_child(counter);
        let_it_run(counter);
        ok!(sys::kill(child.pid, SIGKILL));
        let then = counter.load(SeqCst);
        check_eq!(WTERMSIG(child.wait()), SIGKILL);
        check_eq!(counter.load(SeqCst), then);
    }
}

fn a_stopped_process_does_nothing_more() {
    let counter = &shared_words()[0];
    let child = counting_child(counter);
    for _ in 0..30 {
        let_it_run(counter);
        ok!(sys::kill(child.pid, SIGSTOP));
        let then = counter.load(SeqCst);
        sys::sleep_us(3000);
        check_eq!(counter.load(SeqCst), then);
        ok!(sys::kill(child.pid, SIGCONT));
    }
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(WTERMSIG(child.wait()), SIGKILL);
}
