// SPDX-License-Identifier: MPL-2.0

//! wait4(2), waitid(2): whom they wait for, and what they tell.

use libc::{
    CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, P_ALL, P_PGID, P_PID, P_PIDFD, SIGCHLD, SIGCONT,
    SIGKILL, SIGSTOP, SIGUSR1, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED, WUNTRACED, siginfo_t,
};

use super::*;
use crate::{
    child::{Turn, in_child, shared_words},
    mem::free_range,
};

pub const CASES: &[Case] = cases!["process/wait4":
    status_encodes_the_end,
    nohang_does_not_wait,
    waits_until_the_end,
    any_child_and_one_child,
    children_of_a_group,
    own_group,
    no_such_child_is_echild,
    bad_arguments,
    stopped_and_continued,
    stops_are_told_once_and_only_when_asked,
    usage_of_the_child,
    another_thread_waits,
    wnothread_sees_only_own,
    signal_interrupts,
    ignored_sigchld_leaves_no_zombie,
    nocldwait_leaves_no_zombie,
    zombie_keeps_its_pid,
];

pub const WAITID: &[Case] = cases!["process/waitid":
    tells_exit_and_kill,
    tells_stop_and_continue,
    nowait_leaves_the_child,
    nohang_without_news_clears,
    selects_by_kind,
    waitid_errors,
    takes_no_info,
];

fn status_encodes_the_end() {
    let status = |body: fn()| Child::spawn(body).wait();
    check_eq!(status(|| sys::exit_group(7)), 7 << 8);
    check_eq!(status(|| sys::exit_group(0x105)), 5 << 8);
    check_eq!(status(|| sys::exit_group(-1)), 255 << 8);
    check_eq!(status(|| _ = sys::kill(sys::getpid(), SIGKILL)), SIGKILL);
    check_eq!(status(|| _ = sys::kill(sys::getpid(), libc::SIGTERM)), libc::SIGTERM);
    // A core dump that the limit forbids leaves no mark.
    check_eq!(status(|| _ = sys::kill(sys::getpid(), libc::SIGQUIT)), libc::SIGQUIT);
    check_eq!(status(|| _ = sys::kill(sys::getpid(), 64)), 64);
}

fn nohang_does_not_wait() {
    let child = sleeper();
    check_eq!(sys::wait4(child.pid, WNOHANG), Ok((0, 0)));
    check_eq!(sys::wait4(-1, WNOHANG), Ok((0, 0)));
    ok!(sys::kill(child.pid, SIGKILL));
    wait_until_zombie(child.pid);
    check_eq!(sys::wait4(-1, WNOHANG), Ok((child.pid, SIGKILL)));
    errno_is!(sys::wait4(-1, WNOHANG), ECHILD);
}

fn waits_until_the_end() {
    let start = sys::monotonic_ms();
    let child = Child::spawn(|| sys::sleep_us(60_000));
    check_eq!(sys::wait4(child.pid, 0), Ok((child.pid, 0)));
    check!(sys::monotonic_ms() - start >= 59);
}

fn any_child_and_one_child() {
    let children: Vec<_> = (0..4).map(|number| Child::spawn(move || sys::exit_group(number))).collect();
    check_eq!(sys::wait4(children[2].pid, 0), Ok((children[2].pid, 2 << 8)));
    let mut rest: Vec<_> = (0..3).map(|_| ok!(sys::wait4(-1, 0))).collect();
    rest.sort();
    let mut expected: Vec<_> = [0, 1, 3].map(|number| (children[number].pid, (number as i32) << 8)).into();
    expected.sort();
    check_eq!(rest, expected);
}

fn children_of_a_group() {
    let a = sleeper();
    let b = sleeper();
    ok!(sys::setpgid(a.pid, a.pid));
    ok!(sys::setpgid(b.pid, a.pid));
    let other = Child::spawn(|| {});
    errno_is!(sys::wait4(-other.pid, 0), ECHILD);
    ok!(sys::kill(-a.pid, SIGKILL));
    let mut got: Vec<_> = (0..2).map(|_| ok!(sys::wait4(-a.pid, 0)).0).collect();
    got.sort();
    check_eq!(got, [a.pid, b.pid]);
    errno_is!(sys::wait4(-a.pid, 0), ECHILD);
    other.join();
}

fn own_group() {
    let own = Child::spawn(|| {});
    let other = sleeper();
    ok!(sys::setpgid(other.pid, other.pid));
    check_eq!(sys::wait4(0, 0), Ok((own.pid, 0)));
    errno_is!(sys::wait4(0, 0), ECHILD);
    end(other);
}

fn no_such_child_is_echild() {
    errno_is!(sys::wait4(-1, 0), ECHILD);
    errno_is!(sys::wait4(1, 0), ECHILD);
    errno_is!(sys::wait4(sys::getpid(), 0), ECHILD);
    errno_is!(sys::wait4(0x3fff_ffff, WNOHANG), ECHILD);
    // A grandchild is none.
    let words = shared_words();
    let turn = Turn::new();
    let child = Child::spawn(|| {
        let grandchild = sleeper();
        words[0].store(grandchild.pid as usize, SeqCst);
        turn.wait();
        end(grandchild);
    });
    errno_is!(sys::wait4(await_word(&words[0]) as i32, 0), ECHILD);
    turn.post();
    child.join();
}

fn bad_arguments() {
    errno_is!(sys::wait4(-1, 1 << 20), EINVAL);
    errno_is!(sys::wait4(-1, WEXITED), EINVAL);
    errno_is!(sys::wait4(i32::MIN, 0), ESRCH);
    let child = Child::spawn(|| {});
    wait_until_zombie(child.pid);
    errno_is!(syscall!(SYS_wait4, child.pid, free_range(1), 0, 0), EFAULT);
    // The status is lost.
    errno_is!(sys::wait4(child.pid, 0), ECHILD);
    check_eq!(syscall!(SYS_wait4, Child::spawn(|| {}).pid, 0, 0, 0).is_ok(), true);
}

fn stopped_and_continued() {
    let child = sleeper();
    ok!(sys::kill(child.pid, SIGSTOP));
    check_eq!(sys::wait4(child.pid, WUNTRACED), Ok((child.pid, SIGSTOP << 8 | 0x7f)));
    ok!(sys::kill(child.pid, SIGCONT));
    check_eq!(sys::wait4(child.pid, WCONTINUED), Ok((child.pid, 0xffff)));
    check_eq!(sys::wait4(child.pid, WCONTINUED | WUNTRACED | WNOHANG), Ok((0, 0)));
    // A stopped process can be killed.
    ok!(sys::kill(child.pid, SIGSTOP));
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(sys::wait4(child.pid, 0), Ok((child.pid, SIGKILL)));
}

fn stops_are_told_once_and_only_when_asked() {
    let child = sleeper();
    ok!(sys::kill(child.pid, SIGSTOP));
    check_eq!(sys::wait4(child.pid, WUNTRACED), Ok((child.pid, SIGSTOP << 8 | 0x7f)));
    check_eq!(sys::wait4(child.pid, WUNTRACED | WNOHANG), Ok((0, 0)));
    check_eq!(sys::wait4(child.pid, WNOHANG), Ok((0, 0)));
    ok!(sys::kill(child.pid, SIGCONT));
    check_eq!(sys::wait4(child.pid, WUNTRACED | WNOHANG), Ok((0, 0)));
    check_eq!(sys::wait4(child.pid, WCONTINUED), Ok((child.pid, 0xffff)));
    end(child);
}

fn usage_of_the_child() {
    let child = Child::spawn(|| {
        let start = sys::monotonic_ms();
        while sys::monotonic_ms() - start < 80 {}
    });
    // SAFETY: plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_wait4, child.pid, 0, 0, &raw mut usage));
    let spent = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    check!(usage.ru_utime.tv_sec > 0 || spent >= 10_000, "{spent} us");
    check!(usage.ru_maxrss > 0);
    check!(usage.ru_minflt > 0);
}

fn another_thread_waits() {
    let child = sleeper();
    std::thread::scope(|scope| {
        scope.spawn(|| check_eq!(sys::wait4(child.pid, 0), Ok((child.pid, SIGKILL))));
        sys::sleep_us(10_000);
        ok!(sys::kill(child.pid, SIGKILL));
    });
}

fn wnothread_sees_only_own() {
    let child = Child::spawn(|| {});
    std::thread::scope(|scope| {
        scope.spawn(|| errno_is!(sys::wait4(child.pid, libc::__WNOTHREAD), ECHILD));
    });
    check_eq!(sys::wait4(child.pid, libc::__WNOTHREAD), Ok((child.pid, 0)));
}

fn signal_interrupts() {
    interrupt_with(SIGUSR1);
    let (me, sleeping) = (sys::getpid(), sleeper());
    let killer = Child::spawn(|| {
        sys::sleep_us(50_000);
        ok!(sys::kill(me, SIGUSR1));
    });
    errno_is!(sys::wait4(sleeping.pid, 0), EINTR);
    end(sleeping);
    killer.join();
}

fn ignored_sigchld_leaves_no_zombie() {
    ignore(SIGCHLD);
    let children: Vec<_> = (0..3).map(|_| Child::spawn(|| sys::sleep_us(20_000)).pid).collect();
    // Waits until the last one is gone, and then there is none.
    errno_is!(sys::wait4(-1, 0), ECHILD);
    for pid in children {
        errno_is!(sys::kill(pid, 0), ESRCH);
    }
}

fn nocldwait_leaves_no_zombie() {
    // SAFETY: the default action runs no code of ours.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_NOCLDWAIT;
        libc::sigaction(SIGCHLD, &action, std::ptr::null_mut());
    }
    let child = Child::spawn(|| {});
    errno_is!(sys::wait4(child.pid, 0), ECHILD);
}

fn zombie_keeps_its_pid() {
    let child = Child::spawn(|| sys::exit_group(3));
    wait_until_zombie(child.pid);
    ok!(sys::kill(child.pid, 0));
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(syscall!(SYS_getpgid, child.pid), syscall!(SYS_getpgid, 0));
    check_eq!(sys::wait4(child.pid, 0), Ok((child.pid, 3 << 8)));
    errno_is!(sys::kill(child.pid, 0), ESRCH);
    errno_is!(syscall!(SYS_getpgid, child.pid), ESRCH);
}

/// Signal, code, process and status that waitid tells.
fn waitid(kind: u32, id: i32, options: i32) -> sys::Result<(i32, i32, i32, i32)> {
    // SAFETY: plain numbers.
    let mut info: siginfo_t = unsafe { std::mem::zeroed() };
    check_eq!(syscall!(SYS_waitid, kind, id, &raw mut info, options, 0)?, 0);
    // SAFETY: filled for SIGCHLD, or cleared.
    Ok(unsafe { (info.si_signo, info.si_code, info.si_pid(), info.si_status()) })
}

fn tells_exit_and_kill() {
    let child = Child::spawn(|| sys::exit_group(300));
    check_eq!(waitid(P_PID, child.pid, WEXITED), Ok((SIGCHLD, CLD_EXITED, child.pid, 300 & 255)));
    let child = Child::spawn(|| _ = sys::kill(sys::getpid(), SIGKILL));
    check_eq!(waitid(P_ALL, 0, WEXITED), Ok((SIGCHLD, CLD_KILLED, child.pid, SIGKILL)));
    errno_is!(waitid(P_ALL, 0, WEXITED), ECHILD);
}

fn tells_stop_and_continue() {
    let child = sleeper();
    ok!(sys::kill(child.pid, SIGSTOP));
    check_eq!(waitid(P_PID, child.pid, WSTOPPED), Ok((SIGCHLD, CLD_STOPPED, child.pid, SIGSTOP)));
    ok!(sys::kill(child.pid, SIGCONT));
    check_eq!(waitid(P_PID, child.pid, WCONTINUED), Ok((SIGCHLD, CLD_CONTINUED, child.pid, SIGCONT)));
    end(child);
}

fn nowait_leaves_the_child() {
    let child = Child::spawn(|| sys::exit_group(4));
    for _ in 0..3 {
        check_eq!(waitid(P_PID, child.pid, WEXITED | WNOWAIT), Ok((SIGCHLD, CLD_EXITED, child.pid, 4)));
    }
    check_eq!(sys::wait4(child.pid, 0), Ok((child.pid, 4 << 8)));
    let child = sleeper();
    ok!(sys::kill(child.pid, SIGSTOP));
    check_eq!(waitid(P_PID, child.pid, WSTOPPED | WNOWAIT).map(|told| told.1), Ok(CLD_STOPPED));
    check_eq!(waitid(P_PID, child.pid, WSTOPPED).map(|told| told.1), Ok(CLD_STOPPED));
    check_eq!(waitid(P_PID, child.pid, WSTOPPED | WNOHANG), Ok((0, 0, 0, 0)));
    end(child);
}

fn nohang_without_news_clears() {
    let child = sleeper();
    check_eq!(waitid(P_PID, child.pid, WEXITED | WNOHANG), Ok((0, 0, 0, 0)));
    end(child);
}

fn selects_by_kind() {
    let child = Child::spawn(|| {});
    ok!(sys::setpgid(child.pid, 0).or(Ok::<_, sys::Errno>(0)));
    wait_until_zombie(child.pid);
    let group = ok!(syscall!(SYS_getpgid, child.pid)) as i32;
    check_eq!(waitid(P_PGID, group, WEXITED).map(|told| told.2), Ok(child.pid));
    let child = Child::spawn(|| {});
    check_eq!(waitid(P_PGID, 0, WEXITED).map(|told| told.2), Ok(child.pid));
    let child = Child::spawn(|| {});
    let fd = ok!(syscall!(SYS_pidfd_open, child.pid, 0)) as i32;
    check_eq!(waitid(P_PIDFD, fd, WEXITED).map(|told| told.2), Ok(child.pid));
    errno_is!(waitid(P_PIDFD, fd, WEXITED), ECHILD);
}

fn waitid_errors() {
    let child = Child::spawn(|| {});
    errno_is!(waitid(P_ALL, 0, 0), EINVAL);
    errno_is!(waitid(P_ALL, 0, WNOHANG), EINVAL);
    errno_is!(waitid(P_ALL, 0, WEXITED | 1 << 20), EINVAL);
    errno_is!(waitid(77, 0, WEXITED), EINVAL);
    errno_is!(waitid(P_PID, 0, WEXITED), EINVAL);
    errno_is!(waitid(P_PID, -1, WEXITED), EINVAL);
    errno_is!(waitid(P_PID, 1, WEXITED), ECHILD);
    errno_is!(waitid(P_PGID, -1, WEXITED), EINVAL);
    errno_is!(waitid(P_PIDFD, 999, WEXITED), EBADF);
    errno_is!(waitid(P_PIDFD, -1, WEXITED), EINVAL);
    wait_until_zombie(child.pid);
    errno_is!(syscall!(SYS_waitid, P_ALL, 0, free_range(1), WEXITED, 0), EFAULT);
    errno_is!(waitid(P_ALL, 0, WEXITED), ECHILD);
}

fn takes_no_info() {
    let child = Child::spawn(|| {});
    check_eq!(syscall!(SYS_waitid, P_PID, child.pid, 0, WEXITED, 0), Ok(0));
    in_child(|| errno_is!(waitid(P_ALL, 0, WEXITED), ECHILD));
}
