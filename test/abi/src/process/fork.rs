// SPDX-License-Identifier: MPL-2.0

//! fork(2) and vfork(2): a child with a copy of everything, and one that has everything for a while.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libc::{CLONE_VFORK, CLONE_VM, SIGCHLD, SIGUSR1};

use super::{
    clone::{joined, share},
    *,
};
use crate::child::{in_child, shared_words};

pub const CASES: &[Case] = cases!["process/fork":
    fork_gives_a_new_process,
    fork_copies_memory,
    fork_clears_pending_signals_and_keeps_the_mask,
    vfork_waits_for_the_end,
    many_children_at_once,
    pids_are_not_reused_at_once,
];

fn fork_gives_a_new_process() {
    let (me, group) = (sys::getpid(), syscall!(SYS_getpgid, 0));
    let session = syscall!(SYS_getsid, 0);
    let words = shared_words();
    let child = Child::spawn(|| {
        check!(sys::getpid() != me);
        check_eq!(syscall!(SYS_getppid), Ok(me as usize));
        check_eq!(gettid(), sys::getpid());
        check_eq!(syscall!(SYS_getpgid, 0), group);
        check_eq!(syscall!(SYS_getsid, 0), session);
        words[0].store(sys::getpid() as usize, SeqCst);
    });
    let pid = child.pid;
    child.join();
    check_eq!(words[0].load(SeqCst), pid as usize);
    check_eq!(sys::getpid(), me);
    // The bare calls do the same.
    for number in [libc::SYS_fork, libc::SYS_clone] {
        match ok!(sys::syscall6(
            number,
            [if number == libc::SYS_fork { 0 } else { SIGCHLD as usize }, 0, 0, 0, 0, 0]
        )) {
            0 => sys::exit_group((ok!(syscall!(SYS_getppid)) != me as usize) as i32),
            pid => joined(pid as i32),
        }
    }
}

fn fork_copies_memory() {
    let value = AtomicUsize::new(1);
    in_child(|| {
        check_eq!(value.swap(2, SeqCst), 1);
        in_child(|| check_eq!(value.swap(3, SeqCst), 2));
        check_eq!(value.load(SeqCst), 2);
    });
    check_eq!(value.load(SeqCst), 1);
}

fn fork_clears_pending_signals_and_keeps_the_mask() {
    block(SIGUSR1);
    ok!(sys::kill(sys::getpid(), SIGUSR1));
    let state = || {
        let (mut pending, mut mask) = (0_u64, 0_u64);
        ok!(syscall!(SYS_rt_sigpending, &raw mut pending, 8));
        ok!(syscall!(SYS_rt_sigprocmask, 0, 0, &raw mut mask, 8));
        let bit = 1 << (SIGUSR1 - 1);
        (pending & bit != 0, mask & bit != 0)
    };
    check_eq!(state(), (true, true));
    in_child(|| check_eq!(state(), (false, true)));
}

fn vfork_waits_for_the_end() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let pid = share(CLONE_VM | CLONE_VFORK | SIGCHLD, || {
        sys::sleep_us(30_000);
        DONE.store(1, SeqCst);
        7
    });
    check_eq!(DONE.load(SeqCst), 1);
    check_eq!(sys::wait4(pid, 0), Ok((pid, 7 << 8)));
    // The same when a signal ends the child.
    let pid = share(CLONE_VM | CLONE_VFORK | SIGCHLD, || {
        sys::sleep_us(10_000);
        DONE.store(2, SeqCst);
        ok!(sys::kill(sys::getpid(), libc::SIGKILL));
        0
    });
    check_eq!(DONE.load(SeqCst), 2);
    check_eq!(sys::wait4(pid, 0), Ok((pid, libc::SIGKILL)));
}

fn many_children_at_once() {
    let children: Vec<_> = (0..60).map(|number| (number, Child::spawn(|| sys::exit_group(number)))).collect();
    let pids: std::collections::BTreeSet<_> = children.iter().map(|(_, child)| child.pid).collect();
    check_eq!(pids.len(), 60);
    for (number, child) in children {
        check_eq!(exited(child.wait()), Some(number));
    }
    errno_is!(sys::wait4(-1, 0), ECHILD);
}

fn pids_are_not_reused_at_once() {
    let pids: Vec<_> = (0..10)
        .map(|_| {
            let child = Child::spawn(|| {});
            let pid = child.pid;
            child.join();
            pid
        })
        .collect();
    let different: std::collections::BTreeSet<_> = pids.iter().collect();
    check_eq!(different.len(), 10, "{pids:?}");
}
