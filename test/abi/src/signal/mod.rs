// SPDX-License-Identifier: MPL-2.0

//! Signals: sending, masks, handlers and their frames, stacks, waits, restarts, job control, faults.
//!
//! Below is what all of them need: handlers that note what they were told, masks as plain numbers, threads of a case.

use std::sync::atomic::{
    AtomicI32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use libc::{SA_SIGINFO, SIG_SETMASK, c_void, siginfo_t};

use crate::{
    harness::{Case, Helper},
    sys,
};

mod action;
mod fault;
mod fd;
mod frame;
mod io;
mod mask;
mod pidfd;
mod queue;
mod restart;
mod send;
mod stack;
mod stop;
mod wait;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] = &[
    action::CASES,
    mask::CASES,
    send::CASES,
    queue::CASES,
    wait::CASES,
    frame::CASES,
    stack::CASES,
    restart::CASES,
    stop::CASES,
    fault::CASES,
    fd::CASES,
    io::CASES,
    pidfd::CASES,
];

pub use action::exec_self;

/// The roles of this area.
pub const HELPERS: &[Helper] = action::HELPERS;

/// A real-time signal that no libc uses itself.
pub const RT: i32 = 40;

/// How often the handler [`note`] ran for each signal.
static COUNTS: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];
/// The signals it ran for, in order.
static ORDER: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];
static ORDER_LEN: AtomicUsize = AtomicUsize::new(0);
/// What it was told last: code, sender, user, value.
static LAST: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

/// A handler's signature with `SA_SIGINFO`.
pub type Handler = extern "C" fn(i32, *mut siginfo_t, *mut c_void);

/// Notes that it ran, and what it was told.
pub extern "C" fn note(signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    COUNTS[signal as usize].fetch_add(1, SeqCst);
    let place = ORDER_LEN.fetch_add(1, SeqCst);
    if let Some(slot) = ORDER.get(place) {
        slot.store(signal, SeqCst);
    }
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid siginfo.
    unsafe {
        LAST[0].store((*info).si_code as usize, Relaxed);
        LAST[1].store((*info).si_pid() as usize, Relaxed);
        LAST[2].store((*info).si_uid() as usize, Relaxed);
        LAST[3].store((*info).si_value().sival_ptr as usize, Relaxed);
    }
}

/// How often [`note`] ran for `signal`.
pub fn count(signal: i32) -> usize {
    COUNTS[signal as usize].load(SeqCst)
}

/// The signals that [`note`] ran for, in order.
pub fn order() -> Vec<i32> {
    ORDER[..ORDER_LEN.load(SeqCst)].iter().map(|slot| slot.load(SeqCst)).collect()
}

/// The code that [`note`] was told last.
pub fn last_code() -> i32 {
    LAST[0].load(Relaxed) as i32
}

/// The sender that [`note`] was told last, and its user.
pub fn last_sender() -> (i32, u32) {
    (LAST[1].load(Relaxed) as i32, LAST[2].load(Relaxed) as u32)
}

/// The value that [`note`] was told last.
pub fn last_value() -> usize {
    LAST[3].load(Relaxed)
}

/// Has [`note`] run for `signal`; `flags` beside `SA_SIGINFO`.
pub fn handle(signal: i32, flags: i32) {
    handle_with(note, signal, flags, 0);
}

/// Has `handler` run for `signal`, with the signals of `mask` blocked.
pub fn handle_with(handler: Handler, signal: i32, flags: i32, mask: u64) {
    // SAFETY: a plain C structure, all of whose bytes may be 0; handlers of cases keep to atomics and system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = SA_SIGINFO | flags;
        (&raw mut action.sa_mask).cast::<u64>().write(mask);
        check_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// Has `signal` do nothing.
pub fn ignore(signal: i32) {
    // SAFETY: no code of ours runs.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// The bit of a signal in a mask.
pub const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Blocks exactly the signals of `mask`; what was blocked before.
pub fn set_mask(mask: u64) -> u64 {
    let mut old = 0_u64;
    ok!(syscall!(SYS_rt_sigprocmask, SIG_SETMASK, &raw const mask, &raw mut old, 8));
    old
}

/// What is blocked.
pub fn mask() -> u64 {
    let mut old = 0_u64;
    ok!(syscall!(SYS_rt_sigprocmask, 0, 0, &raw mut old, 8));
    old
}

/// Which blocked signals are pending.
pub fn pending() -> u64 {
    let mut set = 0_u64;
    ok!(syscall!(SYS_rt_sigpending, &raw mut set, 8));
    set
}

/// The number of the calling thread.
pub fn own_tid() -> i32 {
    ok!(syscall!(SYS_gettid)) as i32
}

/// Sends the case itself a signal.
pub fn raise_process(signal: i32) {
    ok!(sys::kill(sys::getpid(), signal));
}

/// Sends the calling thread a signal.
pub fn raise_thread(signal: i32) {
    ok!(syscall!(SYS_tgkill, sys::getpid(), own_tid(), signal));
}

/// `rt_sigqueueinfo` with `SI_QUEUE` and a value.
pub fn queue(pid: i32, signal: i32, value: usize) -> sys::Result {
    queue_code(pid, signal, -1, value)
}

/// `rt_sigqueueinfo` with any code.
pub fn queue_code(pid: i32, signal: i32, code: i32, value: usize) -> sys::Result {
    let mut info = [0_u8; 128];
    info[8..12].copy_from_slice(&code.to_ne_bytes());
    info[16..20].copy_from_slice(&sys::getpid().to_ne_bytes());
    info[24..32].copy_from_slice(&value.to_ne_bytes());
    syscall!(SYS_rt_sigqueueinfo, pid, signal, info.as_ptr())
}

/// Sleeps a little, again and again, until `done`; fails the case after some seconds.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = sys::monotonic_ms();
    while !done() {
        assert!(sys::monotonic_ms() - start < 8000, "{what} does not come true");
        sys::sleep_us(500);
    }
}

/// A little while: long enough for another process to get into its wait, most often.
pub fn a_while() {
    let end = sys::monotonic_ms() + 30;
    while sys::monotonic_ms() < end {
        sys::sleep_us(5000);
    }
}
