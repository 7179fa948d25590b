// SPDX-License-Identifier: MPL-2.0

//! How tracing begins and ends: whom a process may trace, and what is left when it stops to.

use std::sync::atomic::Ordering::SeqCst;

use libc::{PTRACE_O_EXITKILL, SIGCONT, SIGKILL, SIGTERM, SIGTRAP, WEXITED, WNOHANG, WUNTRACED};

use super::*;
use crate::{
    child::{in_child, shared_words},
    process::{await_word, end, exited, gettid, killed, sleeper},
};

pub const CASES: &[Case] = cases!["ptrace/attach":
    attached_one_stops_and_goes_on,
    detached_with_a_signal,
    grandchild_ends_twice,
    parent_does_not_see_anothers_tracee_end,
    seize_does_not_stop,
    interrupt_stops_a_seized_one,
    stopped_one_is_attached,
    stopped_one_is_seized,
    threads_have_tracers_of_their_own,
    end_of_the_tracer_frees,
    end_of_the_tracer_kills,
    end_of_a_thread_that_traces,
    whom_one_may_not_trace,
    other_users_may_not_be_traced,
    requests_for_others_are_esrch,
    requests_that_are_not_there,
    every_tracee_is_waited_for,
];

fn attached_one_stops_and_goes_on() {
    let child = sleeper();
    await_sleep(child.pid);
    check_eq!(status_field(child.pid, "TracerPid"), "0");
    ok!(ptrace(PTRACE_ATTACH, child.pid, 0, 0));
    check_eq!(next(child.pid), SIGSTOP);
    check_eq!(status_field(child.pid, "TracerPid"), sys::getpid().to_string());
    check!(status_field(child.pid, "State").starts_with("t (tracing stop)"));
    check_eq!(registers_of(child.pid).orig_rax as i64, libc::SYS_nanosleep);
    ok!(ptrace(PTRACE_DETACH, child.pid, 0, 0));
    check_eq!(status_field(child.pid, "TracerPid"), "0");
    await_sleep(child.pid);
    errno_is!(ptrace(PTRACE_CONT, child.pid, 0, 0), ESRCH);
    check_eq!(sys::wait4(child.pid, WNOHANG | WUNTRACED), Ok((0, 0)));
    end(child);
}

fn detached_with_a_signal() {
    let child = sleeper();
    ok!(ptrace(PTRACE_ATTACH, child.pid, 0, 0));
    check_eq!(next(child.pid), SIGSTOP);
    ok!(ptrace(PTRACE_DETACH, child.pid, 0, SIGTERM as usize));
    check_eq!(killed(child.wait()), Some(SIGTERM));
}

fn grandchild_ends_twice() {
    let words = shared_words();
    let child = Child::spawn(|| {
        let grandchild = Child::spawn(|| {
            await_word(&words[1]);
            sys::exit_group(3)
        });
        words[0].store(grandchild.pid as usize, SeqCst);
        check_eq!(exited(grandchild.wait()), Some(3));
        words[2].store(1, SeqCst);
    });
    let grandchild = await_word(&words[0]) as i32;
    errno_is!(sys::wait4(grandchild, WNOHANG), ECHILD);
    ok!(ptrace(PTRACE_ATTACH, grandchild, 0, 0));
    check_eq!(next(grandchild), SIGSTOP);
    words[1].store(1, SeqCst);
    go_on(PTRACE_CONT, grandchild, 0);
    // The tracer hears of it first.
    crate::process::wait_until_zombie(grandchild);
    sys::sleep_us(20_000);
    check_eq!(words[2].load(SeqCst), 0);
    check_eq!(end_of(grandchild), 3 << 8);
    await_word(&words[2]);
    child.join();
}

fn parent_does_not_see_anothers_tracee_end() {
    let words = shared_words();
    let child = sleeper();
    let tracer = Child::spawn(|| {
        ok!(ptrace(PTRACE_ATTACH, child.pid, 0, 0));
        check_eq!(next(child.pid), SIGSTOP);
        words[0].store(1, SeqCst);
        await_word(&words[1]);
    });
    await_word(&words[0]);
    ok!(sys::kill(child.pid, SIGKILL));
    while !status_field(child.pid, "State").starts_with('Z') {
        sys::sleep_us(500);
    }
    check_eq!(sys::wait4(child.pid, WNOHANG), Ok((0, 0)));
    words[1].store(1, SeqCst);
    tracer.join();
    check_eq!(killed(child.wait()), Some(SIGKILL));
}

fn seize_does_not_stop() {
    let words = shared_words();
    let child = Child::spawn(|| {
        await_word(&words[0]);
        words[1].store(1, SeqCst);
        ok!(sys::kill(sys::getpid(), SIGTERM));
    });
    ok!(ptrace(PTRACE_SEIZE, child.pid, 0, 0));
    check_eq!(status_field(child.pid, "TracerPid"), sys::getpid().to_string());
    check_eq!(sys::wait4(child.pid, WNOHANG), Ok((0, 0)));
    words[0].store(1, SeqCst);
    await_word(&words[1]);
    check_eq!(next(child.pid), SIGTERM);
    finish(child);
}

fn interrupt_stops_a_seized_one() {
    let child = sleeper();
    errno_is!(ptrace(PTRACE_INTERRUPT, child.pid, 0, 0), ESRCH);
    ok!(ptrace(PTRACE_SEIZE, child.pid, 0, 0));
    await_sleep(child.pid);
    for _ in 0..3 {
        ok!(ptrace(PTRACE_INTERRUPT, child.pid, 0, 0));
        check_eq!(next(child.pid), SIGTRAP | EVENT_STOP << 8);
        check_eq!(ok!(info_of(child.pid))[..3], [SIGTRAP, 0, SIGTRAP | EVENT_STOP << 8]);
        go_on(PTRACE_CONT, child.pid, 0);
    }
    await_sleep(child.pid);
    end(child);
    let child = traced(|| {});
    errno_is!(ptrace(PTRACE_INTERRUPT, child.pid, 0, 0), EIO);
    errno_is!(ptrace(PTRACE_LISTEN, child.pid, 0, 0), EIO);
    finish(child);
}

fn stopped(signal: i32) -> Child {
    let child = sleeper();
    ok!(sys::kill(child.pid, signal));
    check_eq!(sys::wait4(child.pid, WUNTRACED), Ok((child.pid, signal << 8 | 0x7f)));
    child
}

fn stopped_one_is_attached() {
    let child = stopped(SIGSTOP);
    ok!(ptrace(PTRACE_ATTACH, child.pid, 0, 0));
    check!(status_field(child.pid, "State").starts_with('t'));
    check_eq!(next(child.pid), SIGSTOP);
    ok!(ptrace(PTRACE_DETACH, child.pid, 0, 0));
    ok!(sys::kill(child.pid, SIGCONT));
    end(child);
}

fn stopped_one_is_seized() {
    let child = stopped(libc::SIGTSTP);
    ok!(ptrace(PTRACE_SEIZE, child.pid, 0, 0));
    check_eq!(next(child.pid), libc::SIGTSTP | EVENT_STOP << 8);
    ok!(ptrace(PTRACE_LISTEN, child.pid, 0, 0));
    ok!(ptrace(PTRACE_INTERRUPT, child.pid, 0, 0));
    check_eq!(next(child.pid), libc::SIGTSTP | EVENT_STOP << 8);
    ok!(ptrace(PTRACE_DETACH, child.pid, 0, 0));
    while !status_field(child.pid, "State").starts_with('T') {
        sys::sleep_us(500);
    }
    end(child);
}

fn threads_have_tracers_of_their_own() {
    let words = shared_words();
    let child = Child::spawn(|| {
        let thread = std::thread::spawn(|| {
            words[0].store(gettid() as usize, SeqCst);
            await_word(&words[1]);
            // SAFETY: ends this thread alone, which holds nothing.
            let _ = syscall!(SYS_exit, 4);
        });
        await_word(&words[2]);
        drop(thread);
    });
    let thread = await_word(&words[0]) as i32;
    ok!(ptrace(PTRACE_ATTACH, thread, 0, 0));
    check_eq!(next(thread), SIGSTOP);
    check_eq!(status_field(child.pid, "TracerPid"), "0", "the first thread is not traced");
    words[1].store(1, SeqCst);
    go_on(PTRACE_CONT, thread, 0);
    check_eq!(end_of(thread), 4 << 8);
    words[2].store(1, SeqCst);
    child.join();
}

/// A child of the case that a tracer attaches to, which ends then.
fn with_dying_tracer(how: i32, options: usize) -> Child {
    let child = sleeper();
    let pid = child.pid;
    in_child(|| {
        ok!(ptrace(how, pid, 0, options));
        if how == PTRACE_ATTACH {
            check_eq!(next(pid), SIGSTOP);
        }
    });
    child
}

fn end_of_the_tracer_frees() {
    for how in [PTRACE_ATTACH, PTRACE_SEIZE] {
        let child = with_dying_tracer(how, 0);
        check_eq!(status_field(child.pid, "TracerPid"), "0");
        await_sleep(child.pid);
        check_eq!(sys::wait4(child.pid, WNOHANG | WUNTRACED), Ok((0, 0)));
        end(child);
    }
}

fn end_of_the_tracer_kills() {
    let child = with_dying_tracer(PTRACE_SEIZE, PTRACE_O_EXITKILL as usize);
    check_eq!(killed(child.wait()), Some(SIGKILL));
}

fn end_of_a_thread_that_traces() {
    let child = sleeper();
    let pid = child.pid;
    let tracer = std::thread::spawn(move || {
        ok!(ptrace(PTRACE_ATTACH, pid, 0, 0));
        check_eq!(next(pid), SIGSTOP);
        gettid()
    });
    let tid = tracer.join();
    check!(tid.is_ok());
    // The thread may not have left for good when it is joined.
    while status_field(pid, "TracerPid") != "0" {
        sys::sleep_us(500);
    }
    errno_is!(ptrace(PTRACE_CONT, pid, 0, 0), ESRCH);
    end(child);
}

fn whom_one_may_not_trace() {
    errno_is!(ptrace(PTRACE_ATTACH, sys::getpid(), 0, 0), EPERM);
    let tid = std::thread::spawn(|| ptrace(PTRACE_ATTACH, sys::getpid(), 0, 0)).join();
    check!(tid.is_ok_and(|result| result == Err(sys::Errno(libc::EPERM))));
    errno_is!(ptrace(PTRACE_ATTACH, 32_100, 0, 0), ESRCH);
    errno_is!(ptrace(PTRACE_ATTACH, -1, 0, 0), ESRCH);
    let child = traced(|| {
        errno_is!(ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM);
    });
    errno_is!(ptrace(PTRACE_ATTACH, child.pid, 0, 0), EPERM);
    errno_is!(ptrace(PTRACE_SEIZE, child.pid, 0, 0), EPERM);
    let pid = child.pid;
    in_child(|| {
        errno_is!(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
    });
    finish(child);
    let child = sleeper();
    errno_is!(ptrace(PTRACE_SEIZE, child.pid, 1, 0), EIO);
    errno_is!(ptrace(PTRACE_SEIZE, child.pid, 0, 1 << 8), EIO);
    end(child);
}

fn other_users_may_not_be_traced() {
    if ok!(syscall!(SYS_geteuid)) != 0 {
        skip!("only root can be somebody else");
    }
    let other = sleeper();
    let pid = other.pid;
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
        errno_is!(ptrace(PTRACE_SEIZE, pid, 0, 0), EPERM);
    });
    end(other);
}

fn requests_for_others_are_esrch() {
    let child = sleeper();
    let requests =
        [PTRACE_CONT, PTRACE_KILL, PTRACE_DETACH, PTRACE_GETREGS, PTRACE_PEEKDATA, PTRACE_SETOPTIONS, 12_345];
    for request in requests {
        errno_is!(ptrace(request, child.pid, 0, 0), ESRCH);
        errno_is!(ptrace(request, 32_100, 0, 0), ESRCH);
    }
    // Nor for one's own that runs.
    ok!(ptrace(PTRACE_SEIZE, child.pid, 0, 0));
    for request in [PTRACE_CONT, PTRACE_DETACH, PTRACE_GETREGS, PTRACE_PEEKDATA, PTRACE_SETOPTIONS] {
        errno_is!(ptrace(request, child.pid, 0, 0), ESRCH);
    }
    ok!(ptrace(PTRACE_INTERRUPT, child.pid, 0, 0));
    check_eq!(next(child.pid), SIGTRAP | EVENT_STOP << 8);
    // Only the thread that traces may ask.
    let pid = child.pid;
    let result = std::thread::spawn(move || ptrace(PTRACE_CONT, pid, 0, 0)).join();
    check!(result.is_ok_and(|result| result == Err(sys::Errno(libc::ESRCH))));
    end(child);
}

fn requests_that_are_not_there() {
    let child = traced(|| {});
    for request in [12_345, 11, -1] {
        errno_is!(ptrace(request, child.pid, 0, 0), EIO);
    }
    errno_is!(syscall!(SYS_ptrace, 1_u64 << 32 | 7, child.pid, 0, 0), EIO);
    finish(child);
}

fn every_tracee_is_waited_for() {
    const COUNT: usize = 20;
    let children: Vec<_> = (0..COUNT).map(|number| traced(move || sys::exit_group(number as i32))).collect();
    for child in &children {
        go_on(PTRACE_CONT, child.pid, 0);
    }
    let mut statuses: Vec<_> = children.iter().map(|_| ok!(sys::wait4(-1, 0)).1 >> 8).collect();
    statuses.sort_unstable();
    check_eq!(statuses, (0..COUNT as i32).collect::<Vec<_>>());
    errno_is!(sys::wait4(-1, 0), ECHILD);
    errno_is!(syscall!(SYS_waitid, libc::P_ALL, 0, 0, WEXITED, 0), ECHILD);
}
