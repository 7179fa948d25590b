// SPDX-License-Identifier: MPL-2.0

//! System calls as bare instructions, so that what is timed is the kernel and not a libc.
//!
//! Numbers and constants come from the `libc` crate; none of its functions is called from here.

use std::{
    arch::{asm, global_asm},
    ffi::{CStr, c_char},
    ptr,
};

/// Why an operation could not be measured.
#[derive(Debug)]
pub struct Failure {
    /// The call that failed.
    pub call: &'static str,
    /// Its error number; 0 for an answer that is no error, and yet wrong.
    pub errno: i32,
}

pub type Result<T = ()> = std::result::Result<T, Failure>;

/// A failure that is not a system call's.
pub fn wrong<T>(what: &'static str) -> Result<T> {
    Err(Failure { call: what, errno: 0 })
}

/// What a system call answered, as a value or a failure.
pub fn check(call: &'static str, answer: isize) -> Result<usize> {
    if (-4095..0).contains(&answer) {
        Err(Failure { call, errno: -answer as i32 })
    } else {
        Ok(answer as usize)
    }
}

/// A system call with up to six arguments.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::sys::syscall($number, [$($argument as usize),*])
    };
}

/// A system call.
#[inline(always)]
pub fn syscall<const N: usize>(number: i64, arguments: [usize; N]) -> isize {
    let argument = |n: usize| if n < N { arguments[n] } else { 0 };
    let answer;
    // SAFETY: what the call does to memory is the business of who makes it; the kernel keeps every register but these.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") argument(0),
            in("rsi") argument(1),
            in("rdx") argument(2),
            in("r10") argument(3),
            in("r8") argument(4),
            in("r9") argument(5),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// `fork(2)`: 0 in the child.
#[inline(always)]
pub fn fork() -> isize {
    syscall!(libc::SYS_fork)
}

/// Ends the process, without anything that a libc does before.
#[inline(always)]
pub fn exit(status: i32) -> ! {
    loop {
        syscall!(libc::SYS_exit_group, status);
    }
}

/// Waits for a child; its status as of `wait(2)` goes to `status`.
#[inline(always)]
pub fn wait_for(pid: isize, status: &mut i32) -> isize {
    syscall!(libc::SYS_wait4, pid, ptr::from_mut(status), 0, 0)
}

/// Waits for a child that must end with status 0.
pub fn wait(pid: isize) -> Result {
    let mut status = 0;
    check("wait4", wait_for(pid, &mut status))?;
    if status == 0 { Ok(()) } else { wrong("a child did not end well") }
}

/// Replaces the program; returns only if that fails. The last of `arguments` is null.
#[inline(always)]
pub fn exec(path: &CStr, arguments: &[*const c_char]) -> isize {
    let no_environment = [ptr::null::<c_char>()];
    syscall!(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), no_environment.as_ptr())
}

/// A pipe: the end to read from and the end to write to.
pub fn pipe() -> Result<[i32; 2]> {
    let mut ends = [0i32; 2];
    check("pipe2", syscall!(libc::SYS_pipe2, ends.as_mut_ptr(), 0))?;
    Ok(ends)
}

/// Writes one byte.
#[inline(always)]
pub fn send(to: i32) -> isize {
    let byte = 0u8;
    syscall!(libc::SYS_write, to, &raw const byte, 1)
}

/// Reads one byte; 0 is the end.
#[inline(always)]
pub fn receive(from: i32) -> isize {
    let mut byte = 0u8;
    syscall!(libc::SYS_read, from, &raw mut byte, 1)
}

pub fn close(descriptor: i32) {
    syscall!(libc::SYS_close, descriptor);
}

/// Nanoseconds since some moment, for rates of many operations.
pub fn nanoseconds() -> u64 {
    let mut now = [0u64; 2];
    syscall!(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, now.as_mut_ptr());
    now[0] * 1_000_000_000 + now[1]
}

global_asm!(
    // isize bench_spawn(flags, top of the child's stack, function, its argument, thread id)
    ".globl bench_spawn",
    "bench_spawn:",
    "lea rsi, [rsi - 16]",
    "mov [rsi], rcx",
    "mov [rsi + 8], rdx",
    "mov rdx, r8",
    "mov r10, r8",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jnz 2f",
    "xor ebp, ebp",
    "pop rdi",
    "pop rax",
    "call rax",
    "ud2",
    "2:",
    "ret",
);

unsafe extern "C" {
    fn bench_spawn(
        flags: usize,
        stack: *mut u8,
        run: extern "C" fn(usize) -> !,
        argument: usize,
        id: *mut i32,
    ) -> isize;
}

const STACK: usize = 64 * 1024;

/// A stack for a thread or for the child of a `vfork`, and the word that tells whether the thread lives.
///
/// Such a thread shares everything with this one, what the libc keeps for each thread included: it may make system
/// calls and use memory, but no function of the libc.
pub struct Stack {
    memory: Vec<u8>,
    id: Box<i32>,
}

impl Stack {
    pub fn new() -> Self {
        // Written to, so that no page of it is missing later.
        Self { memory: vec![1; STACK], id: Box::new(0) }
    }

    /// `clone(2)` with `CLONE_VM`, the child on this stack.
    #[inline(always)]
    fn spawn(&mut self, flags: i32, run: extern "C" fn(usize) -> !, argument: usize) -> isize {
        let top = (self.memory.as_mut_ptr() as usize + STACK) & !63;
        // SAFETY: the stack is this child's alone: who calls waits for its end before the next use.
        unsafe { bench_spawn(flags as usize, top as *mut u8, run, argument, &raw mut *self.id) }
    }

    /// Starts a thread of this process.
    #[inline(always)]
    pub fn thread(&mut self, run: extern "C" fn(usize) -> !, argument: usize) -> isize {
        const THREAD: i32 = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        self.spawn(THREAD, run, argument)
    }

    /// Starts a child that borrows this process until it executes a program or ends, as `vfork(2)` does.
    #[inline(always)]
    pub fn vfork(&mut self, run: extern "C" fn(usize) -> !, argument: usize) -> isize {
        self.spawn(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, run, argument)
    }

    /// Waits until the thread has ended.
    #[inline(always)]
    pub fn join(&self) {
        loop {
            // SAFETY: the word is this stack's; the kernel clears it when the thread is gone.
            let id = unsafe { (&raw const *self.id).read_volatile() };
            if id == 0 {
                return;
            }
            syscall!(libc::SYS_futex, &raw const *self.id, libc::FUTEX_WAIT, id, 0);
        }
    }
}

/// Ends the calling thread.
#[inline(always)]
pub fn exit_thread() -> ! {
    loop {
        syscall!(libc::SYS_exit, 0);
    }
}
