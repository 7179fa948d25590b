// SPDX-License-Identifier: MPL-2.0

//! Processes: how they begin, become another program, end and are waited for; who they are, and what they may use.
//!
//! One module for each family of calls. Below are the few things that all of them need.

use std::sync::atomic::Ordering::SeqCst;

use crate::{
    child::Child,
    harness::{Case, Helper},
    sys,
};

pub(crate) mod clone;
mod clone3;
mod credentials;
mod exec;
mod execveat;
mod exit;
mod fork;
mod group;
mod pidfd;
mod rseq;
mod sched;
mod script;
mod stress;
mod system;
mod usage;
mod wait;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] = &[
    fork::CASES,
    clone::CASES,
    clone3::CASES,
    wait::CASES,
    wait::WAITID,
    exit::CASES,
    group::CASES,
    credentials::CASES,
    usage::CASES,
    usage::PRCTL,
    sched::CASES,
    exec::CASES,
    execveat::CASES,
    script::CASES,
    pidfd::CASES,
    rseq::CASES,
    system::CASES,
    stress::CASES,
];

/// The roles of this area.
pub const HELPERS: &[Helper] = exec::HELPERS;

/// The status with which a process exited.
pub fn exited(status: i32) -> Option<i32> {
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

/// The signal that ended a process.
pub fn killed(status: i32) -> Option<i32> {
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

pub fn prctl(option: i32, args: [usize; 4]) -> sys::Result {
    syscall!(SYS_prctl, option, args[0], args[1], args[2], args[3])
}

pub fn gettid() -> i32 {
    ok!(syscall!(SYS_gettid)) as i32
}

/// A child that waits for a signal.
pub fn sleeper() -> Child {
    Child::spawn(|| {
        loop {
            sys::sleep_us(1_000_000);
        }
    })
}

/// Ends a child and takes its status.
pub fn end(child: Child) {
    ok!(sys::kill(child.pid, libc::SIGKILL));
    child.wait();
}

/// Waits until the process has become a zombie, and leaves it one.
pub fn wait_until_zombie(pid: i32) {
    // SAFETY: plain numbers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOWAIT;
    ok!(syscall!(SYS_waitid, libc::P_PID, pid, &raw mut info, options, 0));
}

/// Ignores a signal.
pub fn ignore(signal: i32) {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

extern "C" fn nothing(_: i32) {}

/// Has a signal end calls with `EINTR` and do nothing else.
pub fn interrupt_with(signal: i32) {
    // SAFETY: the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Blocks a signal for the calling thread.
pub fn block(signal: i32) {
    let set = 1_u64 << (signal - 1);
    ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8));
}

/// Waits until the word is not 0; its value.
pub fn await_word(word: &std::sync::atomic::AtomicUsize) -> usize {
    loop {
        match word.load(SeqCst) {
            0 => sys::sleep_us(500),
            value => return value,
        }
    }
}
