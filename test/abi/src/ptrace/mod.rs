// SPDX-License-Identifier: MPL-2.0

//! ptrace(2): what stops a tracee, what its tracer may ask and change, how tracing begins and ends.
//!
//! ```text
//! case (tracer) ── traced(body) ──▶ child: PTRACE_TRACEME, SIGSTOP, body
//! ```

use libc::{SIGSTOP, user_regs_struct};

use crate::{
    child::Child,
    harness::{Case, Helper},
    sys,
};

mod attach;
mod event;
mod memory;
mod registers;
mod signal;
mod stop;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] =
    &[stop::CASES, signal::CASES, registers::CASES, memory::CASES, event::CASES, attach::CASES];

/// The roles of this area.
pub const HELPERS: &[Helper] = event::HELPERS;

pub use libc::{
    PTRACE_ATTACH, PTRACE_CONT, PTRACE_DETACH, PTRACE_GETEVENTMSG, PTRACE_GETFPREGS, PTRACE_GETREGS,
    PTRACE_GETREGSET, PTRACE_GETSIGINFO, PTRACE_INTERRUPT, PTRACE_KILL, PTRACE_LISTEN, PTRACE_PEEKDATA,
    PTRACE_PEEKTEXT, PTRACE_PEEKUSER, PTRACE_POKEDATA, PTRACE_POKETEXT, PTRACE_POKEUSER, PTRACE_SEIZE,
    PTRACE_SETFPREGS, PTRACE_SETOPTIONS, PTRACE_SETREGS, PTRACE_SETREGSET, PTRACE_SETSIGINFO,
    PTRACE_SINGLESTEP, PTRACE_SYSCALL, PTRACE_SYSEMU, PTRACE_TRACEME,
};
pub const PTRACE_GETSIGMASK: i32 = 0x420a;
pub const PTRACE_SETSIGMASK: i32 = 0x420b;
pub const PTRACE_PEEKSIGINFO: i32 = 0x4209;
pub const PTRACE_GET_SYSCALL_INFO: i32 = 0x420e;
pub const EVENT_STOP: i32 = 128;

/// A request, as the kernel has it.
pub fn ptrace(request: i32, pid: i32, addr: usize, data: usize) -> sys::Result {
    syscall!(SYS_ptrace, request, pid, addr, data)
}

/// A child that its parent traces, and that has just stopped itself; then it runs `body`, and exits with status 0.
pub fn traced(body: impl FnOnce()) -> Child {
    let child = Child::spawn(|| {
        ok!(ptrace(PTRACE_TRACEME, 0, 0, 0));
        ok!(sys::kill(sys::getpid(), SIGSTOP));
        body();
    });
    check_eq!(next(child.pid), SIGSTOP);
    child
}

/// What the tracee stops for next: the signal, with the event above bit 8.
#[track_caller]
pub fn next(pid: i32) -> i32 {
    let (who, status) = ok!(sys::wait4(pid, libc::__WALL));
    assert!(who == pid, "{who} was waited for, not {pid}");
    assert!(status & 0xff == 0x7f, "{pid} did not stop: status {status:#x}");
    status >> 8
}

/// The status of a tracee's end.
#[track_caller]
pub fn end_of(pid: i32) -> i32 {
    let (_, status) = ok!(sys::wait4(pid, libc::__WALL));
    assert!(status & 0xff != 0x7f, "{pid} stopped: status {status:#x}");
    status
}

/// Lets a tracee go on, with a signal or 0.
#[track_caller]
pub fn go_on(request: i32, pid: i32, signal: i32) {
    ok!(ptrace(request, pid, 0, signal as usize));
}

/// Lets a tracee go on to its end, which must be with status 0.
#[track_caller]
pub fn finish(child: Child) {
    go_on(PTRACE_CONT, child.pid, 0);
    child.join();
}

pub fn options(pid: i32, options: i32) {
    ok!(ptrace(PTRACE_SETOPTIONS, pid, 0, options as usize));
}

pub fn message(pid: i32) -> usize {
    let mut message = 0_usize;
    ok!(ptrace(PTRACE_GETEVENTMSG, pid, 0, &raw mut message as usize));
    message
}

pub fn registers_of(pid: i32) -> user_regs_struct {
    // SAFETY: plain numbers.
    let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
    ok!(ptrace(PTRACE_GETREGS, pid, 0, &raw mut registers as usize));
    registers
}

pub fn set_registers(pid: i32, registers: &user_regs_struct) -> sys::Result {
    ptrace(PTRACE_SETREGS, pid, 0, std::ptr::from_ref(registers) as usize)
}

pub fn peek(pid: i32, addr: usize) -> sys::Result {
    let mut word = 0_usize;
    ptrace(PTRACE_PEEKDATA, pid, addr, &raw mut word as usize).map(|_| word)
}

/// A field of /proc/PID/status.
pub fn status_field(pid: i32, name: &str) -> String {
    let text = ok!(std::fs::read_to_string(format!("/proc/{pid}/status")));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_default().to_owned()
}

/// Waits until the process sleeps in a call.
pub fn await_sleep(pid: i32) {
    while !status_field(pid, "State").starts_with('S') {
        sys::sleep_us(500);
    }
}

/// `siginfo_t`: signal, error, code, and what follows as 32-bit words.
pub type Info = [i32; 32];

pub fn info_of(pid: i32) -> sys::Result<Info> {
    let mut info = [0; 32];
    ptrace(PTRACE_GETSIGINFO, pid, 0, info.as_mut_ptr() as usize).map(|_| info)
}
