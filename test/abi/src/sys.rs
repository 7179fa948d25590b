// SPDX-License-Identifier: MPL-2.0

//! System calls as the kernel gives them: no libc between a case and what it tests.
//!
//! Addresses are plain numbers. The wrappers are safe functions all the same: a case knows what it unmaps, and if it is
//! wrong, its process is the only one to suffer.

use std::{arch::asm, ffi::CString, fmt};

use libc::{c_int, timespec};

/// An error number, shown by name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// The result of a system call.
pub type Result<T = usize> = std::result::Result<T, Errno>;

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP";
        match NAMES.split(' ').nth((self.0 - 1).max(0) as usize) {
            Some(name) => f.write_str(name),
            None => match self.0 {
                libc::EOVERFLOW => f.write_str("EOVERFLOW"),
                libc::EOPNOTSUPP => f.write_str("EOPNOTSUPP"),
                libc::ETIMEDOUT => f.write_str("ETIMEDOUT"),
                other => write!(f, "errno {other}"),
            },
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A signal by name.
pub fn signal_name(signal: i32) -> String {
    const NAMES: &str = "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS";
    match NAMES.split(' ').nth((signal - 1).max(0) as usize) {
        Some(name) => name.into(),
        None => format!("signal {signal}"),
    }
}

/// The call `number` with its six argument registers.
pub fn syscall6(number: libc::c_long, args: [usize; 6]) -> Result {
    let result: isize;
    // SAFETY: the instruction obeys the ABI of Linux on x86-64; what the call does to memory is the case's to know.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5], out("rcx") _, out("r11") _,
            options(nostack));
    }
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// Pads arguments with zeros.
pub fn six<const N: usize>(given: [usize; N]) -> [usize; 6] {
    let mut args = [0; 6];
    args[..N].copy_from_slice(&given);
    args
}

/// `syscall!(SYS_x, a, b)`: the call with up to six arguments, each cast to a register's width. Temporaries in the
/// arguments live until the call is over.
#[macro_export]
macro_rules! syscall {
    ($number:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::syscall6(libc::$number, $crate::sys::six([$($arg as usize),*]))
    };
}

pub fn mmap(addr: usize, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> Result {
    syscall!(SYS_mmap, addr, len, prot, flags, fd, offset)
}

pub fn munmap(addr: usize, len: usize) -> Result {
    syscall!(SYS_munmap, addr, len)
}

pub fn mprotect(addr: usize, len: usize, prot: c_int) -> Result {
    syscall!(SYS_mprotect, addr, len, prot)
}

pub fn mremap(addr: usize, old: usize, new: usize, flags: c_int, to: usize) -> Result {
    syscall!(SYS_mremap, addr, old, new, flags, to)
}

/// Moves the break; the break there is afterwards. A refusal shows as a break that has not moved.
pub fn brk(to: usize) -> usize {
    ok!(syscall!(SYS_brk, to))
}

pub fn madvise(addr: usize, len: usize, advice: c_int) -> Result {
    syscall!(SYS_madvise, addr, len, advice)
}

pub fn msync(addr: usize, len: usize, flags: c_int) -> Result {
    syscall!(SYS_msync, addr, len, flags)
}

/// One byte for each page of the range.
pub fn mincore(addr: usize, len: usize) -> Result<Vec<u8>> {
    let mut pages = vec![0xaa; len.div_ceil(4096)];
    syscall!(SYS_mincore, addr, len, pages.as_mut_ptr()).map(|_| pages)
}

pub fn mlock(addr: usize, len: usize) -> Result {
    syscall!(SYS_mlock, addr, len)
}

pub fn munlock(addr: usize, len: usize) -> Result {
    syscall!(SYS_munlock, addr, len)
}

/// Soft and hard limit.
pub fn getrlimit(resource: c_int) -> Result<(u64, u64)> {
    let mut limit = [0_u64; 2];
    syscall!(SYS_getrlimit, resource, limit.as_mut_ptr()).map(|_| (limit[0], limit[1]))
}

pub fn setrlimit(resource: c_int, soft: u64, hard: u64) -> Result {
    syscall!(SYS_setrlimit, resource, [soft, hard].as_ptr())
}

pub fn open(path: &str, flags: c_int, mode: u32) -> Result<c_int> {
    let path = c_string(path);
    syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode).map(|fd| fd as c_int)
}

pub fn close(fd: c_int) {
    let _ = syscall!(SYS_close, fd);
}

pub fn read(fd: c_int, buffer: &mut [u8]) -> Result {
    syscall!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len())
}

pub fn write(fd: c_int, bytes: &[u8]) -> Result {
    syscall!(SYS_write, fd, bytes.as_ptr(), bytes.len())
}

pub fn pread(fd: c_int, buffer: &mut [u8], offset: usize) -> Result {
    syscall!(SYS_pread64, fd, buffer.as_mut_ptr(), buffer.len(), offset)
}

pub fn pwrite(fd: c_int, bytes: &[u8], offset: usize) -> Result {
    syscall!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), offset)
}

pub fn ftruncate(fd: c_int, len: usize) -> Result {
    syscall!(SYS_ftruncate, fd, len)
}

/// Reading end and writing end.
pub fn pipe(flags: c_int) -> Result<(c_int, c_int)> {
    let mut ends: [c_int; 2] = [-1; 2];
    syscall!(SYS_pipe2, ends.as_mut_ptr(), flags).map(|_| (ends[0], ends[1]))
}

/// Forks through libc, which keeps its locks in order; 0 in the child.
pub fn fork() -> Result<c_int> {
    // SAFETY: the child goes on with a copy of the forking thread, as libc foresees.
    match unsafe { libc::fork() } {
        -1 => Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
        pid => Ok(pid),
    }
}

/// Process id, 0 if none has changed with WNOHANG, and wait status.
pub fn wait4(pid: c_int, options: c_int) -> Result<(c_int, c_int)> {
    let mut status: c_int = 0;
    syscall!(SYS_wait4, pid, &raw mut status, options, 0).map(|pid| (pid as c_int, status))
}

pub fn kill(pid: c_int, signal: c_int) -> Result {
    syscall!(SYS_kill, pid, signal)
}

/// Gives a signal its default action.
pub fn default_action(signal: c_int) {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Gives up root for good, and every privilege with it.
pub fn become_unprivileged() {
    const NOBODY: u32 = 65534;
    ok!(syscall!(SYS_setresgid, NOBODY, NOBODY, NOBODY));
    ok!(syscall!(SYS_setresuid, NOBODY, NOBODY, NOBODY));
}

pub fn getpid() -> c_int {
    ok!(syscall!(SYS_getpid)) as c_int
}

pub fn setpgid(pid: c_int, group: c_int) -> Result {
    syscall!(SYS_setpgid, pid, group)
}

pub fn exit_group(status: c_int) -> ! {
    let _ = syscall!(SYS_exit_group, status);
    std::process::abort()
}

/// Milliseconds of the monotonic clock; 0 where there is none.
pub fn monotonic_ms() -> u64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = syscall!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Sleeps for that many microseconds, or less when a signal comes.
pub fn sleep_us(us: u64) {
    let span = timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1000) as i64 };
    let _ = syscall!(SYS_nanosleep, &raw const span, 0);
}

/// A path as the kernel takes it.
///
/// # Panics
///
/// When it holds a NUL.
pub fn c_string(path: &str) -> CString {
    CString::new(path).expect("a path without NUL")
}
