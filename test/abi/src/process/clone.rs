// SPDX-License-Identifier: MPL-2.0

//! clone(2): what a child shares, what it is told, and what is refused.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libc::{
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_DETACHED, CLONE_FILES, CLONE_FS, CLONE_PARENT,
    CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE_SETTLS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VM, SIGCHLD, SIGUSR1,
};

use super::*;
use crate::{
    child::{in_child, shared_words},
    mem::{anon, free_range},
};

pub const CASES: &[Case] = cases!["process/clone":
    vm_shares_memory,
    files_shares_descriptors,
    without_files_descriptors_are_copied,
    fs_shares_folder_and_mask,
    sighand_shares_handlers,
    child_settid_writes_in_the_child,
    parent_settid_writes_in_the_parent,
    cleartid_clears_and_wakes,
    settls_sets_the_thread_pointer,
    parent_makes_a_sibling,
    pidfd_names_the_child,
    exit_signal_is_sent,
    thread_shares_the_process,
    contradicting_flags_are_einval,
];

extern "C" fn call<F: FnMut() -> i32>(body: *mut F) -> i32 {
    // SAFETY: `share_with` leaked it for this.
    unsafe { (*body)() }
}

/// Clones with a stack of its own, for flags that share memory; the child runs `body` and exits with its result.
pub(crate) fn share<F: FnMut() -> i32>(flags: i32, body: F) -> i32 {
    share_with(flags, body, 0, std::ptr::null_mut())
}

/// The same with the child's thread pointer and the word that is cleared at its end.
fn share_with<F: FnMut() -> i32>(flags: i32, body: F, tls: usize, child: *mut i32) -> i32 {
    let top = anon(32) + 32 * 4096;
    let body: *mut F = Box::leak(Box::new(body));
    let pid: isize;
    // SAFETY: stack and body live as long as the process; the bodies make system calls and little else. libc's own
    // clone refuses some of the flags.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => pid,
            in("rdi") flags, in("rsi") top, in("rdx") 0, in("r10") child, in("r8") tls,
            in("r12") body, in("r13") call::<F> as extern "C" fn(*mut F) -> i32,
            out("rcx") _, out("r11") _,
        );
    }
    check!(pid > 0, "clone gives {pid}");
    pid as i32
}

/// The raw call without a stack: the child goes on with a copy of everything.
pub(super) fn fork_with(flags: i32, parent: *mut i32, child: *mut i32) -> sys::Result<i32> {
    syscall!(SYS_clone, flags, 0, parent, child, 0).map(|pid| pid as i32)
}

#[track_caller]
pub(super) fn joined(pid: i32) {
    check_eq!(sys::wait4(pid, libc::__WALL), Ok((pid, 0)));
}

fn vm_shares_memory() {
    static WORD: AtomicUsize = AtomicUsize::new(0);
    let pid = share(CLONE_VM | SIGCHLD, || {
        WORD.store(anon(1), SeqCst);
        0
    });
    joined(pid);
    let at = WORD.load(SeqCst);
    check!(at != 0);
    check_eq!(crate::mem::peek(at), 0, "what the child mapped is there");
    WORD.store(0, SeqCst);
    joined(share(SIGCHLD, || {
        WORD.store(5, SeqCst);
        0
    }));
    check_eq!(WORD.load(SeqCst), 0);
}

pub(super) fn is_open(fd: i32) -> bool {
    syscall!(SYS_fcntl, fd, libc::F_GETFD, 0).is_ok()
}

fn files_shares_descriptors() {
    let (kept, closed) = ok!(sys::pipe(0));
    let (null, made) = (std::ptr::null_mut(), 400);
    match ok!(fork_with(CLONE_FILES | SIGCHLD, null, null)) {
        0 => {
            sys::close(closed);
            ok!(syscall!(SYS_dup2, kept, made));
            sys::exit_group(0)
        }
        pid => joined(pid),
    }
    check_eq!([kept, closed, made].map(is_open), [true, false, true]);
}

fn without_files_descriptors_are_copied() {
    let (kept, closed) = ok!(sys::pipe(0));
    joined(share(CLONE_VM | SIGCHLD, || {
        sys::close(closed);
        ok!(syscall!(SYS_dup2, kept, 400));
        0
    }));
    check_eq!([kept, closed, 400].map(is_open), [true, true, false]);
}

fn fs_shares_folder_and_mask() {
    let cwd = || std::fs::read_link("/proc/self/cwd").map(|path| path == std::path::Path::new("/proc"));
    let null = std::ptr::null_mut();
    ok!(syscall!(SYS_chdir, c"/".as_ptr()));
    ok!(syscall!(SYS_umask, 0o22));
    let change = |flags| match ok!(fork_with(flags | SIGCHLD, null, null)) {
        0 => {
            ok!(syscall!(SYS_chdir, c"/proc".as_ptr()));
            ok!(syscall!(SYS_umask, 0o77));
            sys::exit_group(0)
        }
        pid => joined(pid),
    };
    change(0);
    check!(!ok!(cwd()));
    change(CLONE_FS);
    check!(ok!(cwd()));
    check_eq!(syscall!(SYS_umask, 0), Ok(0o77));
}

/// Whether a signal is ignored.
fn ignored(signal: i32) -> bool {
    let mut action = [0_usize; 4];
    ok!(syscall!(SYS_rt_sigaction, signal, 0, action.as_mut_ptr(), 8));
    action[0] == libc::SIG_IGN
}

fn set_ignored(signal: i32) {
    let action = [libc::SIG_IGN, 0, 0, 0];
    ok!(syscall!(SYS_rt_sigaction, signal, action.as_ptr(), 0, 8));
}

fn sighand_shares_handlers() {
    joined(share(CLONE_VM | SIGCHLD, || {
        set_ignored(SIGUSR1);
        0
    }));
    check!(!ignored(SIGUSR1));
    joined(share(CLONE_VM | CLONE_SIGHAND | SIGCHLD, || {
        set_ignored(SIGUSR1);
        0
    }));
    check!(ignored(SIGUSR1));
}

fn child_settid_writes_in_the_child() {
    let mut word = 0_i32;
    let at = &raw mut word;
    match ok!(fork_with(CLONE_CHILD_SETTID | SIGCHLD, std::ptr::null_mut(), at)) {
        0 => {
            // SAFETY: the kernel wrote it before the child ran.
            let seen = unsafe { at.read_volatile() };
            sys::exit_group((seen != sys::getpid()) as i32)
        }
        pid => joined(pid),
    }
    // SAFETY: a local variable.
    check_eq!(unsafe { at.read_volatile() }, 0);
}

fn parent_settid_writes_in_the_parent() {
    let mut word = 0_i32;
    let at = &raw mut word;
    match ok!(fork_with(CLONE_PARENT_SETTID | SIGCHLD, at, std::ptr::null_mut())) {
        0 => sys::exit_group(0),
        pid => {
            // SAFETY: a local variable.
            check_eq!(unsafe { at.read_volatile() }, pid);
            joined(pid);
        }
    }
    let bad = free_range(1) as *mut i32;
    match ok!(fork_with(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, bad, bad)) {
        0 => sys::exit_group(0),
        pid => joined(pid),
    }
}

fn cleartid_clears_and_wakes() {
    let word = Box::leak(Box::new(77_i32)) as *mut i32;
    let flags = CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD;
    let body = || {
        sys::sleep_us(30_000);
        0
    };
    let pid = share_with(flags, body, 0, word);
    // SAFETY: the word lives on; the kernel clears it.
    while unsafe { word.read_volatile() } != 0 {
        let _ = syscall!(SYS_futex, word, libc::FUTEX_WAIT, 77, 0);
    }
    joined(pid);
}

fn settls_sets_the_thread_pointer() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let block = Box::leak(Box::new([0_usize; 64]));
    let base = block.as_mut_ptr() as usize;
    let body = || {
        let mut seen = 0_usize;
        let _ = syscall!(SYS_arch_prctl, 0x1003, &raw mut seen);
        SEEN.store(seen, SeqCst);
        0
    };
    joined(share_with(CLONE_VM | CLONE_SETTLS | SIGCHLD, body, base, std::ptr::null_mut()));
    check_eq!(SEEN.load(SeqCst), base);
}

fn parent_makes_a_sibling() {
    let words = shared_words();
    let me = sys::getpid();
    let null = std::ptr::null_mut();
    in_child(|| match ok!(fork_with(CLONE_PARENT | SIGCHLD, null, null)) {
        0 => sys::exit_group((ok!(syscall!(SYS_getppid)) != me as usize) as i32),
        pid => {
            words[0].store(pid as usize, SeqCst);
            errno_is!(sys::wait4(pid, 0), ECHILD);
        }
    });
    joined(words[0].load(SeqCst) as i32);
}

fn pidfd_names_the_child() {
    let mut fd = -1_i32;
    match ok!(fork_with(CLONE_PIDFD | SIGCHLD, &raw mut fd, std::ptr::null_mut())) {
        0 => sys::exit_group(6),
        pid => {
            check!(fd > 2);
            check_eq!(syscall!(SYS_fcntl, fd, libc::F_GETFD, 0), Ok(libc::FD_CLOEXEC as usize));
            // SAFETY: plain numbers.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            ok!(syscall!(SYS_waitid, libc::P_PIDFD, fd, &raw mut info, libc::WEXITED, 0));
            // SAFETY: waitid filled it for SIGCHLD.
            check_eq!(unsafe { (info.si_pid(), info.si_status()) }, (pid, 6));
        }
    }
}

fn exit_signal_is_sent() {
    block(SIGUSR1);
    block(SIGCHLD);
    let pending = || {
        let mut set = 0_u64;
        ok!(syscall!(SYS_rt_sigpending, &raw mut set, 8));
        [SIGUSR1, SIGCHLD].map(|signal| set & (1 << (signal - 1)) != 0)
    };
    let null = std::ptr::null_mut();
    match ok!(fork_with(0, null, null)) {
        0 => sys::exit_group(0),
        pid => joined(pid),
    }
    check_eq!(pending(), [false, false]);
    match ok!(fork_with(SIGUSR1, null, null)) {
        0 => sys::exit_group(0),
        pid => {
            // Without the usual signal it is a "clone child" that a plain wait does not see.
            errno_is!(sys::wait4(pid, 0), ECHILD);
            check_eq!(sys::wait4(pid, libc::__WCLONE), Ok((pid, 0)));
        }
    }
    check_eq!(pending(), [true, false]);
    in_child(|| {});
    check_eq!(pending(), [true, true]);
}

fn thread_shares_the_process() {
    let me = sys::getpid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            check_eq!(sys::getpid(), me);
            check!(gettid() != me);
            errno_is!(sys::wait4(-1, 0), ECHILD);
        });
    });
    check_eq!(gettid(), me);
    errno_is!(sys::wait4(-1, libc::__WALL), ECHILD);
}

fn contradicting_flags_are_einval() {
    let null = std::ptr::null_mut();
    for flags in [
        CLONE_SIGHAND,
        CLONE_THREAD | CLONE_VM,
        CLONE_THREAD | CLONE_SIGHAND,
        CLONE_FS | libc::CLONE_NEWNS,
        CLONE_PIDFD | CLONE_PARENT_SETTID,
        CLONE_PIDFD | CLONE_DETACHED,
    ] {
        errno_is!(fork_with(flags | SIGCHLD, null, null), EINVAL);
    }
    errno_is!(sys::wait4(-1, libc::__WALL), ECHILD);
}
