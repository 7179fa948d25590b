// SPDX-License-Identifier: MPL-2.0

//! Many at once: processes and threads that begin, become others, end and are waited for at the same time.

use std::{
    arch::asm,
    collections::BTreeSet,
    sync::{Barrier, Mutex, atomic::AtomicUsize},
    thread,
};

use libc::{PR_SET_CHILD_SUBREAPER, SIGCONT, SIGKILL, SIGSTOP};

use super::*;
use crate::child::{Turn, in_child, shared_words};

pub const CASES: &[Case] = cases!["process/stress", slow:
    tree_of_processes,
    threads_fork_and_wait,
    threads_wait_for_any_child,
    many_programs_at_once,
    threads_exec_at_once,
    exec_while_threads_come_and_go,
    exit_while_threads_come_and_go,
    threads_end_by_hundreds,
    stop_continue_and_kill,
    group_is_killed_while_it_grows,
    orphans_by_dozens,
    vfork_by_threads,
    credentials_change_beside_checks,
    parents_and_children_end_at_once,
    chain_of_processes_that_overlap,
    threads_leave_nothing_for_later_ones,
];

fn tree_of_processes() {
    fn grow(depth: usize, leaves: &AtomicUsize) {
        if depth == 0 {
            leaves.fetch_add(1, SeqCst);
            return;
        }
        let children = [(); 2].map(|_| Child::spawn(|| grow(depth - 1, leaves)));
        children.into_iter().for_each(Child::join);
    }
    let leaves = &shared_words()[0];
    grow(5, leaves);
    check_eq!(leaves.load(SeqCst), 32);
}

fn threads_fork_and_wait() {
    thread::scope(|scope| {
        for index in 0..4 {
            scope.spawn(move || {
                for round in 0..15 {
                    let child = Child::spawn(|| sys::exit_group(index * 15 + round));
                    check_eq!(exited(child.wait()), Some(index * 15 + round));
                }
            });
        }
    });
    errno_is!(sys::wait4(-1, 0), ECHILD);
}

fn threads_wait_for_any_child() {
    let children: BTreeSet<i32> = (0..40).map(|_| Child::spawn(|| sys::sleep_us(3000)).pid).collect();
    let reaped = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    match sys::wait4(-1, 0) {
                        Ok((pid, status)) => {
                            check_eq!(status, 0);
                            reaped.lock().unwrap_or_else(|lock| lock.into_inner()).push(pid);
                        }
                        Err(error) => {
                            check_eq!(error, sys::Errno(libc::ECHILD));
                            break;
                        }
                    }
                }
            });
        }
    });
    let reaped = reaped.into_inner().unwrap_or_default();
    check_eq!(reaped.len(), 40);
    check_eq!(reaped.into_iter().collect::<BTreeSet<_>>(), children);
}

fn many_programs_at_once() {
    for _ in 0..3 {
        let children: Vec<_> = (0..10)
            .map(|_| Child::spawn(|| crate::program::become_role(&["process/nothing"], &[])))
            .collect();
        children.into_iter().for_each(Child::join);
    }
}

fn threads_exec_at_once() {
    for _ in 0..5 {
        in_child(|| {
            let barrier = Barrier::new(3);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        barrier.wait();
                        // One of them wins; the others end, or lose with an error and then end.
                        let argv = ["abi", "--helper", "process/nothing"];
                        let _ = crate::program::execve("/proc/self/exe", &argv, &[]);
                        loop {
                            sys::sleep_us(1000);
                        }
                    });
                }
            });
        });
    }
}

fn exec_while_threads_come_and_go() {
    for _ in 0..5 {
        in_child(|| {
            for _ in 0..3 {
                thread::spawn(|| {
                    loop {
                        if let Ok(thread) = thread::Builder::new().spawn(|| {}) {
                            let _ = thread.join();
                        }
                    }
                });
            }
            sys::sleep_us(3000);
            crate::program::become_role(&["process/nothing"], &[]);
        });
    }
}

fn exit_while_threads_come_and_go() {
    for round in 0..10 {
        let status = Child::spawn(|| {
            for _ in 0..3 {
                thread::spawn(|| {
                    loop {
                        if let Ok(thread) = thread::Builder::new().spawn(|| {}) {
                            let _ = thread.join();
                        }
                    }
                });
            }
            sys::sleep_us(1000 * round);
            sys::exit_group(7);
        })
        .wait();
        check_eq!(exited(status), Some(7));
    }
}

fn threads_end_by_hundreds() {
    let count = AtomicUsize::new(0);
    for _ in 0..15 {
        thread::scope(|scope| (0..20).for_each(|_| _ = scope.spawn(|| count.fetch_add(1, SeqCst))));
    }
    check_eq!(count.load(SeqCst), 300);
}

fn stop_continue_and_kill() {
    let children: Vec<_> = (0..6).map(|_| sleeper()).collect();
    for round in 0..20 {
        for child in &children {
            ok!(sys::kill(child.pid, if round % 2 == 0 { SIGSTOP } else { SIGCONT }));
        }
    }
    for child in children {
        ok!(sys::kill(child.pid, SIGSTOP));
        ok!(sys::kill(child.pid, SIGKILL));
        check_eq!(killed(child.wait()), Some(SIGKILL));
    }
}

fn group_is_killed_while_it_grows() {
    ok!(prctl(PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]));
    for _ in 0..5 {
        let leader = Child::spawn(|| {
            ok!(sys::setpgid(0, 0));
            // Every member makes another, until the signal ends them all.
            (0..30).for_each(|_| {
                if !matches!(sys::fork(), Ok(0)) {
                    loop {
                        sys::sleep_us(100_000);
                    }
                }
            });
            loop {
                sys::sleep_us(100_000);
            }
        });
        sys::sleep_us(5000);
        let _ = sys::setpgid(leader.pid, leader.pid);
        ok!(sys::kill(-leader.pid, SIGKILL));
        check_eq!(sys::wait4(leader.pid, 0), Ok((leader.pid, SIGKILL)));
        loop {
            match sys::wait4(-1, 0) {
                Ok((_, status)) => check_eq!(killed(status), Some(SIGKILL)),
                Err(error) => {
                    check_eq!(error, sys::Errno(libc::ECHILD), "nobody escapes the signal");
                    break;
                }
            }
        }
    }
}

fn orphans_by_dozens() {
    ok!(prctl(PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]));
    for _ in 0..5 {
        let _ = Child::spawn(|| (0..8).for_each(|_| _ = Child::spawn(|| sys::sleep_us(2000)).pid)).pid;
    }
    let mut count = 0;
    while let Ok((_, status)) = sys::wait4(-1, 0) {
        check_eq!(status, 0);
        count += 1;
    }
    check_eq!(count, 45);
}

fn vfork_by_threads() {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10 {
                    // The standard library starts programs by vfork where it can.
                    let status = std::process::Command::new("/proc/self/exe")
                        .args(["--helper", "process/nothing"])
                        .status();
                    check!(status.is_ok_and(|status| status.success()));
                }
            });
        }
    });
}

fn credentials_change_beside_checks() {
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                // This thread alone.
                ok!(syscall!(SYS_setresuid, -1_i64, 1000, 0));
                check_eq!(syscall!(SYS_geteuid), Ok(1000));
                ok!(syscall!(SYS_setresuid, -1_i64, 0, 0));
            }
            done.store(1, SeqCst);
        });
        while done.load(SeqCst) == 0 {
            check_eq!(syscall!(SYS_geteuid), Ok(0));
            ok!(sys::kill(ok!(syscall!(SYS_getppid)) as i32, 0));
        }
    });
}

fn parents_and_children_end_at_once() {
    ok!(prctl(PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]));
    for _ in 0..20 {
        let turn = Turn::new();
        let parent = Child::spawn(|| {
            let _ = Child::spawn(|| turn.wait());
            turn.wait();
        });
        let pid = parent.pid;
        turn.post();
        turn.post();
        let mut ended: Vec<_> = std::iter::from_fn(|| sys::wait4(-1, 0).ok()).collect();
        ended.sort();
        check_eq!(ended.len(), 2, "{ended:?} and {pid}");
        check!(ended.iter().all(|&(_, status)| status == 0));
    }
}

fn chain_of_processes_that_overlap() {
    ok!(prctl(PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]));
    const LINKS: i32 = 300;
    let words = shared_words();
    let _ = Child::spawn(|| {
        for link in 0..LINKS {
            let turn = Turn::new();
            let next = ok!(sys::fork());
            if next != 0 {
                // Each ends only once the next one runs.
                turn.wait();
                sys::exit_group(0);
            }
            check_eq!(words[0].swap(link as usize + 1, SeqCst), link as usize);
            turn.post();
        }
    });
    let mut count = 0;
    while let Ok((_, status)) = sys::wait4(-1, 0) {
        check_eq!(status, 0);
        count += 1;
    }
    check_eq!((count, words[0].load(SeqCst)), (LINKS + 1, LINKS as usize));
}

fn threads_leave_nothing_for_later_ones() {
    const ARCH_SET_GS: usize = 0x1001;
    const ARCH_GET_GS: usize = 0x1004;
    const MXCSR: u32 = 0x1f80;
    const ROUNDING_UP: u32 = MXCSR | 0x4000;
    for round in 0..40 {
        let changed = thread::spawn(move || {
            ok!(syscall!(SYS_arch_prctl, ARCH_SET_GS, 0x1000 * (round + 1)));
            ok!(syscall!(SYS_setpriority, 0, 0, 5));
            // SAFETY: loads a valid state; nothing is computed with it.
            unsafe { asm!("ldmxcsr [{}]", in(reg) &ROUNDING_UP, options(nostack)) };
        });
        check!(changed.join().is_ok());
        let fresh = thread::spawn(|| {
            let (mut gs_base, mut mxcsr) = (usize::MAX, 0_u32);
            // SAFETY: stores a register to a local variable.
            unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack)) };
            ok!(syscall!(SYS_arch_prctl, ARCH_GET_GS, &raw mut gs_base));
            check_eq!((gs_base, mxcsr, syscall!(SYS_getpriority, 0, 0)), (0, MXCSR, Ok(20)));
        });
        check!(fresh.join().is_ok());
    }
}
