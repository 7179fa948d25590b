// SPDX-License-Identifier: MPL-2.0

//! Stops for system calls and single steps, and how they are told.

use std::arch::asm;

use libc::{
    CLD_TRAPPED, P_PID, PTRACE_O_TRACESYSGOOD, SIGCHLD, SIGKILL, SIGSEGV, SIGTRAP, SIGUSR1, WEXITED, WNOHANG,
    WNOWAIT,
};

use super::*;
use crate::process::{block, interrupt_with, killed};

pub const CASES: &[Case] = cases!["ptrace/stop":
    wait_sees_a_tracee_whatever_its_options,
    waitid_says_trapped,
    sigchld_says_trapped,
    calls_stop_at_both_ends,
    calls_without_sysgood_are_sigtrap,
    number_and_result_can_be_changed,
    call_that_is_taken_away,
    emulated_call_is_not_made,
    call_info_tells_the_call,
    interrupted_call_shows_that_it_is_restarted,
    sigkill_ends_a_stopped_tracee,
    steps_are_one_instruction_long,
    step_over_a_call,
    step_into_a_handler,
    whole_space_unmapped_under_a_tracer,
    exit_in_a_call_stop,
];

const CALL: i32 = SIGTRAP | 0x80;

fn wait_sees_a_tracee_whatever_its_options() {
    let child = traced(|| {});
    check_eq!(sys::wait4(child.pid, WNOHANG), Ok((0, 0)), "the stop was told already");
    check!(status_field(child.pid, "State").starts_with('t'));
    check_eq!(status_field(child.pid, "TracerPid"), sys::getpid().to_string());
    let stat = ok!(std::fs::read_to_string(format!("/proc/{}/stat", child.pid)));
    check!(stat.contains(") t "), "{stat}");
    finish(child);
}

fn waitid_says_trapped() {
    let child = Child::spawn(|| {
        ok!(ptrace(PTRACE_TRACEME, 0, 0, 0));
        ok!(sys::kill(sys::getpid(), SIGSTOP));
    });
    let mut info = [0_i32; 32];
    for options in [WEXITED | WNOWAIT, WEXITED] {
        info = [0; 32];
        ok!(syscall!(SYS_waitid, P_PID, child.pid, info.as_mut_ptr(), options, 0));
        check_eq!((info[0], info[2], info[4]), (SIGCHLD, CLD_TRAPPED, child.pid));
    }
    check_eq!(info[6], SIGSTOP);
    finish(child);
}

fn sigchld_says_trapped() {
    block(SIGCHLD);
    let child = traced(|| {});
    let set = 1_u64 << (SIGCHLD - 1);
    let mut info = [0_i32; 32];
    check_eq!(syscall!(SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), 0, 8), Ok(SIGCHLD as usize));
    check_eq!((info[2], info[4], info[6]), (CLD_TRAPPED, child.pid, SIGSTOP));
    finish(child);
}

fn calls_stop_at_both_ends() {
    let child = traced(|| {
        ok!(syscall!(SYS_getppid));
    });
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    let mut seen = Vec::new();
    loop {
        go_on(PTRACE_SYSCALL, child.pid, 0);
        check_eq!(next(child.pid), CALL);
        let enter = registers_of(child.pid);
        check_eq!(enter.rax as i64, -i64::from(libc::ENOSYS));
        seen.push(enter.orig_rax as i64);
        if enter.orig_rax as i64 == libc::SYS_exit_group {
            break;
        }
        go_on(PTRACE_SYSCALL, child.pid, 0);
        check_eq!(next(child.pid), CALL);
        let exit = registers_of(child.pid);
        check_eq!((exit.orig_rax, exit.rip), (enter.orig_rax, enter.rip));
        if exit.orig_rax as i64 == libc::SYS_getppid {
            check_eq!(exit.rax as i32, sys::getpid());
        }
    }
    check!(seen.contains(&libc::SYS_getppid), "{seen:?}");
    finish(child);
}

fn calls_without_sysgood_are_sigtrap() {
    let child = traced(|| {
        ok!(syscall!(SYS_getppid));
    });
    go_on(PTRACE_SYSCALL, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    check_eq!(ok!(info_of(child.pid))[..3], [SIGTRAP, 0, SIGTRAP]);
    finish(child);
}

/// Lets the tracee go on to the beginning of its next call `number`.
fn until_call(pid: i32, request: i32, number: i64) {
    loop {
        go_on(request, pid, 0);
        check_eq!(next(pid), CALL);
        let registers = registers_of(pid);
        if registers.orig_rax as i64 == number && registers.rax as i64 == -i64::from(libc::ENOSYS) {
            return;
        }
    }
}

fn number_and_result_can_be_changed() {
    let child = traced(|| {
        check_eq!(syscall!(SYS_getppid), Ok(sys::getpid() as usize), "the tracer makes another call of it");
        check_eq!(syscall!(SYS_getppid), Ok(4711), "the tracer gives another result");
    });
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    until_call(child.pid, PTRACE_SYSCALL, libc::SYS_getppid);
    let mut registers = registers_of(child.pid);
    registers.orig_rax = libc::SYS_getpid as u64;
    ok!(set_registers(child.pid, &registers));
    until_call(child.pid, PTRACE_SYSCALL, libc::SYS_getppid);
    go_on(PTRACE_SYSCALL, child.pid, 0);
    check_eq!(next(child.pid), CALL);
    registers = registers_of(child.pid);
    registers.rax = 4711;
    ok!(set_registers(child.pid, &registers));
    finish(child);
}

fn call_that_is_taken_away() {
    let child = traced(|| {
        errno_is!(syscall!(SYS_exit_group, 9), ENOSYS);
        check_eq!(syscall!(SYS_exit_group, 9), Ok(12));
    });
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    for result in [None, Some(12)] {
        until_call(child.pid, PTRACE_SYSCALL, libc::SYS_exit_group);
        let mut registers = registers_of(child.pid);
        registers.orig_rax = u64::MAX;
        registers.rax = result.unwrap_or(registers.rax);
        ok!(set_registers(child.pid, &registers));
        go_on(PTRACE_SYSCALL, child.pid, 0);
        check_eq!(next(child.pid), CALL, "the end of no call is told, too");
    }
    finish(child);
}

fn emulated_call_is_not_made() {
    let child = traced(|| {
        check_eq!(syscall!(SYS_exit_group, 9), Ok(77));
    });
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    go_on(PTRACE_SYSEMU, child.pid, 0);
    check_eq!(next(child.pid), CALL);
    let mut registers = registers_of(child.pid);
    while registers.orig_rax as i64 != libc::SYS_exit_group {
        // Whatever else it does is really done.
        go_on(PTRACE_SYSCALL, child.pid, 0);
        check_eq!(next(child.pid), CALL);
        registers = registers_of(child.pid);
    }
    registers.rax = 77;
    ok!(set_registers(child.pid, &registers));
    finish(child);
}

fn call_info_tells_the_call() {
    let info = |pid: i32, room: usize| {
        let mut info = [0x5555_5555_5555_5555_u64; 12];
        let len = ok!(ptrace(PTRACE_GET_SYSCALL_INFO, pid, room, info.as_mut_ptr() as usize));
        (len, info)
    };
    const ARCHITECTURE: u64 = 0xc000_003e;
    let child = traced(|| {
        errno_is!(syscall!(SYS_dup3, usize::MAX, 2, 3, 4, 5, 6), EINVAL);
    });
    let (len, none) = info(child.pid, 96);
    check_eq!((len, none[0]), (24, ARCHITECTURE << 32));
    check_eq!(none[3], 0x5555_5555_5555_5555);
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    until_call(child.pid, PTRACE_SYSCALL, libc::SYS_dup3);
    let registers = registers_of(child.pid);
    let (len, enter) = info(child.pid, 96);
    check_eq!(
        (len, enter[0], enter[1], enter[2]),
        (80, ARCHITECTURE << 32 | 1, registers.rip, registers.rsp)
    );
    check_eq!(enter[3..10], [libc::SYS_dup3 as u64, u64::MAX, 2, 3, 4, 5, 6]);
    let (len, short) = info(child.pid, 8);
    check_eq!((len, short[0], short[1]), (80, enter[0], 0x5555_5555_5555_5555));
    check_eq!(message(child.pid), 1);
    go_on(PTRACE_SYSCALL, child.pid, 0);
    check_eq!(next(child.pid), CALL);
    let (len, exit) = info(child.pid, 96);
    check_eq!((len, exit[0]), (33, ARCHITECTURE << 32 | 2));
    check_eq!((exit[3] as i64, exit[4] & 0xff), (-i64::from(libc::EINVAL), 1));
    check_eq!(message(child.pid), 2);
    finish(child);
}

fn interrupted_call_shows_that_it_is_restarted() {
    const ERESTARTNOHAND: i64 = 514;
    interrupt_with(SIGUSR1);
    let child = traced(|| {
        errno_is!(syscall!(SYS_pause), EINTR);
    });
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    until_call(child.pid, PTRACE_SYSCALL, libc::SYS_pause);
    for signal in [0, SIGUSR1] {
        go_on(PTRACE_SYSCALL, child.pid, 0);
        await_sleep(child.pid);
        ok!(sys::kill(child.pid, SIGUSR1));
        check_eq!(next(child.pid), CALL);
        check_eq!(registers_of(child.pid).rax as i64, -ERESTARTNOHAND);
        go_on(PTRACE_SYSCALL, child.pid, 0);
        check_eq!(next(child.pid), SIGUSR1);
        let registers = registers_of(child.pid);
        check_eq!((registers.rax as i64, registers.orig_rax as i64), (-ERESTARTNOHAND, libc::SYS_pause));
        if signal == 0 {
            go_on(PTRACE_SYSCALL, child.pid, signal);
            check_eq!(next(child.pid), CALL, "without the signal the call is made again");
            check_eq!(registers_of(child.pid).orig_rax as i64, libc::SYS_pause);
        } else {
            go_on(PTRACE_CONT, child.pid, signal);
        }
    }
    child.join();
}

fn sigkill_ends_a_stopped_tracee() {
    let child = traced(|| {});
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(killed(end_of(child.pid)), Some(SIGKILL));
    let child = traced(|| {});
    ok!(ptrace(PTRACE_KILL, child.pid, 0, 0));
    check_eq!(killed(end_of(child.pid)), Some(SIGKILL));
}

fn steps_are_one_instruction_long() {
    const TRAP_FLAG: u64 = 1 << 8;
    let child = traced(|| {
        // SAFETY: nothing but a trap, which the tracer takes.
        unsafe { asm!("int3", "nop", "nop", "nop", "pushf", "pop {}", out(reg) _) };
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    check_eq!(ok!(info_of(child.pid))[2], 0x80, "SI_KERNEL");
    let at = registers_of(child.pid).rip;
    for done in 1..=4 {
        go_on(PTRACE_SINGLESTEP, child.pid, 0);
        check_eq!(next(child.pid), SIGTRAP);
        let registers = registers_of(child.pid);
        check_eq!(registers.rip, at + done);
        check_eq!(registers.eflags & TRAP_FLAG, 0);
        check_eq!(ok!(info_of(child.pid))[2], 2, "TRAP_TRACE");
    }
    finish(child);
}

fn step_over_a_call() {
    let child = traced(|| {
        // SAFETY: a trap, which the tracer takes, and a call that changes nothing.
        unsafe {
            asm!("int3", "syscall", "nop", inlateout("rax") libc::SYS_getpid => _, out("rcx") _, out("r11") _)
        };
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    let before = registers_of(child.pid);
    go_on(PTRACE_SINGLESTEP, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    let after = registers_of(child.pid);
    check_eq!((after.rip, after.rax as i32), (before.rip + 2, child.pid));
    go_on(PTRACE_SINGLESTEP, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    check_eq!(registers_of(child.pid).rip, before.rip + 3);
    finish(child);
}

fn step_into_a_handler() {
    extern "C" fn handler(_: i32) {}
    let at = handler as *const () as u64;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(SIGUSR1, at as usize) };
    let child = traced(|| {
        ok!(sys::kill(sys::getpid(), SIGUSR1));
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGUSR1);
    go_on(PTRACE_SINGLESTEP, child.pid, SIGUSR1);
    check_eq!(next(child.pid), SIGTRAP);
    check_eq!(registers_of(child.pid).rip, at);
    finish(child);
}

fn whole_space_unmapped_under_a_tracer() {
    let child = traced(|| {
        let _ = sys::munmap(0, 0x7fff_ffff_f000);
    });
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    let mut calls = 0;
    let stopped_by = loop {
        go_on(PTRACE_SYSCALL, child.pid, 0);
        match next(child.pid) {
            CALL => calls += 1,
            other => break other,
        }
    };
    check_eq!((calls, stopped_by), (2, SIGSEGV));
    errno_is!(peek(child.pid, registers_of(child.pid).rip as usize), EIO);
    go_on(PTRACE_CONT, child.pid, SIGSEGV);
    check_eq!(killed(end_of(child.pid)), Some(SIGSEGV));
}

fn exit_in_a_call_stop() {
    let child = traced(|| sys::exit_group(3));
    options(child.pid, PTRACE_O_TRACESYSGOOD);
    until_call(child.pid, PTRACE_SYSCALL, libc::SYS_exit_group);
    let mut registers = registers_of(child.pid);
    check_eq!(registers.rdi, 3);
    registers.rdi = 8;
    ok!(set_registers(child.pid, &registers));
    go_on(PTRACE_SYSCALL, child.pid, 0);
    check_eq!(end_of(child.pid), 8 << 8);
    errno_is!(ptrace(PTRACE_CONT, child.pid, 0, 0), ESRCH);
}
