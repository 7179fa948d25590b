// SPDX-License-Identifier: MPL-2.0

//! System calls as bare instructions, and the names of errors and signals.

use std::arch::asm;

/// `syscall!(SYS_x, a, b)`: what the call answers, with up to six arguments, each cast to a register's width.
#[macro_export]
macro_rules! syscall {
    ($number:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::call(libc::$number, &[$($arg as u64),*])
    };
}

/// The call `number`; arguments that are not given are zero.
pub fn call(number: i64, given: &[u64]) -> i64 {
    let arg = |n: usize| given.get(n).copied().unwrap_or(0);
    let answer;
    // SAFETY: the instruction obeys the ABI of Linux on x86-64. What the call does to memory is the caller's to know: the
    // steps of a sequence stay within windows that hold nothing of Rust's.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") arg(0), in("rsi") arg(1), in("rdx") arg(2),
            in("r10") arg(3), in("r8") arg(4), in("r9") arg(5), lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// The error number in what a call answered.
pub fn errno(answer: i64) -> Option<i32> {
    (-4095..0).contains(&answer).then(|| -answer as i32)
}

/// An error by name.
pub fn errno_name(errno: i32) -> String {
    const NAMES: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS";
    match NAMES.split(' ').nth((errno - 1).max(0) as usize) {
        Some(name) => name.to_owned(),
        None if errno == libc::EOVERFLOW => "EOVERFLOW".to_owned(),
        None if errno == libc::EOPNOTSUPP => "EOPNOTSUPP".to_owned(),
        None => format!("errno {errno}"),
    }
}

/// A signal by name.
pub fn signal_name(signal: u64) -> String {
    match signal as i32 {
        libc::SIGSEGV => "SIGSEGV".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        other => format!("signal {other}"),
    }
}
