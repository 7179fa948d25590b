// SPDX-License-Identifier: MPL-2.0

//! Stops for what a tracee does: fork, vfork, clone, exec, its end; and how tracing is inherited.

use libc::{
    CLONE_PTRACE, CLONE_UNTRACED, CLONE_VFORK, PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_EXIT,
    PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_VFORK_DONE, PTRACE_O_TRACECLONE, PTRACE_O_TRACEEXEC,
    PTRACE_O_TRACEEXIT, PTRACE_O_TRACEFORK, PTRACE_O_TRACEVFORK, PTRACE_O_TRACEVFORKDONE, SIGCHLD, SIGKILL,
    SIGTRAP,
};

use super::*;
use crate::{
    process::{await_word, gettid, killed},
    program::become_role,
};

pub const CASES: &[Case] = cases!["ptrace/event":
    fork_brings_the_child,
    vfork_and_its_end,
    clone_brings_the_thread,
    child_of_a_seized_one,
    without_options_children_are_free,
    clone_ptrace_and_untraced,
    exec_is_a_sigtrap,
    exec_event,
    exec_of_another_thread,
    exit_event_tells_the_status,
    exit_event_of_a_killed_one,
    options_that_are_not_there,
];

/// The roles of these cases.
pub const HELPERS: &[Helper] = &[Helper { name: "traced-nothing", run: |_| sys::exit_group(0) }];

fn event(event: i32) -> i32 {
    SIGTRAP | event << 8
}

fn clone(flags: i32, body: impl FnOnce()) -> i32 {
    match ok!(syscall!(SYS_clone, flags, 0, 0, 0, 0)) {
        0 => {
            body();
            sys::exit_group(0)
        }
        pid => pid as i32,
    }
}

fn fork_brings_the_child() {
    let child = traced(|| {
        let pid = clone(SIGCHLD, || sys::exit_group(5));
        check_eq!(sys::wait4(pid, 0), Ok((pid, 5 << 8)));
    });
    options(child.pid, PTRACE_O_TRACEFORK);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_FORK));
    check_eq!(ok!(info_of(child.pid))[..3], [SIGTRAP, 0, event(PTRACE_EVENT_FORK)]);
    let grandchild = message(child.pid) as i32;
    check_eq!(next(grandchild), SIGSTOP);
    check_eq!(status_field(grandchild, "PPid"), child.pid.to_string());
    check_eq!(status_field(grandchild, "TracerPid"), sys::getpid().to_string());
    go_on(PTRACE_CONT, child.pid, 0);
    go_on(PTRACE_CONT, grandchild, 0);
    check_eq!(end_of(grandchild), 5 << 8);
    // Its parent hears of its end like this tracer.
    check_eq!(next(child.pid), SIGCHLD);
    go_on(PTRACE_CONT, child.pid, SIGCHLD);
    child.join();
}

fn vfork_and_its_end() {
    let child = traced(|| {
        clone(CLONE_VFORK | SIGCHLD, || {});
    });
    options(child.pid, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_VFORK));
    let grandchild = message(child.pid) as i32;
    check_eq!(next(grandchild), SIGSTOP);
    go_on(PTRACE_CONT, child.pid, 0);
    go_on(PTRACE_CONT, grandchild, 0);
    check_eq!(end_of(grandchild), 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_VFORK_DONE));
    check_eq!(message(child.pid), grandchild as usize);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGCHLD);
    finish(child);
}

fn clone_brings_the_thread() {
    let child = traced(|| {
        let thread = std::thread::spawn(gettid);
        check!(thread.join().is_ok_and(|tid| tid != sys::getpid()));
    });
    options(child.pid, PTRACE_O_TRACECLONE);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_CLONE));
    let thread = message(child.pid) as i32;
    check_eq!(next(thread), SIGSTOP);
    check_eq!(status_field(thread, "Tgid"), child.pid.to_string());
    go_on(PTRACE_CONT, child.pid, 0);
    go_on(PTRACE_CONT, thread, 0);
    check_eq!(end_of(thread), 0);
    errno_is!(ptrace(PTRACE_CONT, thread, 0, 0), ESRCH);
    errno_is!(sys::wait4(thread, libc::__WALL), ECHILD);
    child.join();
}

fn child_of_a_seized_one() {
    let child = Child::spawn(|| {
        ok!(sys::kill(sys::getpid(), SIGSTOP));
        clone(SIGCHLD, || {});
    });
    check_eq!(sys::wait4(child.pid, libc::WUNTRACED), Ok((child.pid, SIGSTOP << 8 | 0x7f)));
    ok!(ptrace(PTRACE_SEIZE, child.pid, 0, PTRACE_O_TRACEFORK as usize));
    check_eq!(next(child.pid), SIGSTOP | EVENT_STOP << 8);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_FORK));
    let grandchild = message(child.pid) as i32;
    check_eq!(next(grandchild), SIGTRAP | EVENT_STOP << 8);
    go_on(PTRACE_CONT, grandchild, 0);
    check_eq!(end_of(grandchild), 0);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGCHLD);
    finish(child);
}

fn without_options_children_are_free() {
    let child = traced(|| {
        let pid = clone(SIGCHLD, || {});
        check_eq!(sys::wait4(pid, 0), Ok((pid, 0)));
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGCHLD);
    finish(child);
}

fn clone_ptrace_and_untraced() {
    let child = traced(|| {
        let pid = clone(SIGCHLD | CLONE_PTRACE, || {});
        check_eq!(sys::wait4(pid, 0), Ok((pid, 0)));
        let pid = clone(SIGCHLD | CLONE_UNTRACED, || {});
        check_eq!(sys::wait4(pid, 0), Ok((pid, 0)));
    });
    go_on(PTRACE_CONT, child.pid, 0);
    let (grandchild, status) = ok!(sys::wait4(-1, 0));
    check!(grandchild != child.pid);
    check_eq!(status, SIGSTOP << 8 | 0x7f);
    options(grandchild, PTRACE_O_TRACEFORK);
    go_on(PTRACE_CONT, grandchild, 0);
    check_eq!(end_of(grandchild), 0);
    check_eq!(next(child.pid), SIGCHLD);
    options(child.pid, PTRACE_O_TRACEFORK);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGCHLD);
    finish(child);
}

fn exec_is_a_sigtrap() {
    let child = traced(|| become_role(&["traced-nothing"], &[]));
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    check_eq!(ok!(info_of(child.pid))[2], libc::SI_USER);
    finish(child);
}

fn exec_event() {
    const CALL: i32 = SIGTRAP | 0x80;
    let child = traced(|| become_role(&["traced-nothing"], &[]));
    options(child.pid, PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESYSGOOD);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_EXEC));
    check_eq!(message(child.pid), child.pid as usize);
    let registers = registers_of(child.pid);
    let values = (registers.orig_rax as i64, registers.rax as i64, registers.rbx);
    check_eq!(values, (libc::SYS_execve, -i64::from(libc::ENOSYS), 0));
    // The new program is there, at its first instruction.
    check!(ok!(peek(child.pid, registers.rsp as usize)) > 0, "no arguments");
    ok!(peek(child.pid, registers.rip as usize));
    go_on(PTRACE_SYSCALL, child.pid, 0);
    check_eq!(next(child.pid), CALL, "the end of the call");
    let exit = registers_of(child.pid);
    check_eq!((exit.orig_rax as i64, exit.rax, exit.rip), (libc::SYS_execve, 0, registers.rip));
    finish(child);
}

fn exec_of_another_thread() {
    let child = traced(|| {
        let _ = std::thread::spawn(|| become_role(&["traced-nothing"], &[])).join();
    });
    options(child.pid, PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_CLONE));
    let thread = message(child.pid) as i32;
    check_eq!(next(thread), SIGSTOP);
    go_on(PTRACE_CONT, child.pid, 0);
    go_on(PTRACE_CONT, thread, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_EXEC));
    check_eq!(message(child.pid), thread as usize);
    errno_is!(ptrace(PTRACE_CONT, thread, 0, 0), ESRCH);
    finish(child);
}

fn exit_event_tells_the_status() {
    let child = traced(|| sys::exit_group(6));
    options(child.pid, PTRACE_O_TRACEEXIT);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), event(PTRACE_EVENT_EXIT));
    check_eq!(message(child.pid), 6 << 8);
    let registers = registers_of(child.pid);
    check_eq!((registers.orig_rax as i64, registers.rdi), (libc::SYS_exit_group, 6));
    ok!(peek(child.pid, registers.rip as usize));
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 6 << 8);
}

fn exit_event_of_a_killed_one() {
    let words = crate::child::shared_words();
    let child = traced(|| {
        await_word(&words[0]);
    });
    options(child.pid, PTRACE_O_TRACEEXIT);
    go_on(PTRACE_CONT, child.pid, 0);
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(next(child.pid), event(PTRACE_EVENT_EXIT));
    check_eq!(message(child.pid), SIGKILL as usize);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(killed(end_of(child.pid)), Some(SIGKILL));
}

fn options_that_are_not_there() {
    let child = traced(|| {});
    for options in [1 << 8, 1 << 19, 1 << 22, 1 << 32, usize::MAX] {
        errno_is!(ptrace(PTRACE_SETOPTIONS, child.pid, 0, options), EINVAL);
    }
    options(child.pid, 0xff | libc::PTRACE_O_EXITKILL);
    options(child.pid, 0);
    finish(child);
}
