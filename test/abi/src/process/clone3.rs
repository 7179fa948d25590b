// SPDX-License-Identifier: MPL-2.0

//! clone3(2): the same as clone(2) with arguments in memory, and what is refused of those.

use libc::{
    CLONE_DETACHED, CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK,
    CLONE_VM, SIGCHLD,
};

use super::{
    clone::{is_open, joined},
    *,
};
use crate::mem::{anon, free_range};

pub const CASES: &[Case] = cases!["process/clone3":
    clone3_forks,
    clone3_gives_a_stack,
    clone3_errors,
];

/// `struct clone_args` in the size that Linux has known since 5.7.
fn clone3(args: &[u64]) -> sys::Result {
    syscall!(SYS_clone3, args.as_ptr(), args.len() * 8)
}

const fn args(flags: u64, exit_signal: u64) -> [u64; 11] {
    [flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, 0]
}

fn clone3_forks() {
    let (mut tid, mut pidfd) = (0_i32, -1_i32);
    let mut wanted = args((CLONE_PARENT_SETTID | CLONE_PIDFD) as u64, SIGCHLD as u64);
    wanted[1] = &raw mut pidfd as u64;
    wanted[3] = &raw mut tid as u64;
    match ok!(clone3(&wanted)) {
        0 => sys::exit_group(9),
        pid => {
            check_eq!(tid, pid as i32);
            check!(is_open(pidfd));
            check_eq!(sys::wait4(pid as i32, 0), Ok((pid as i32, 9 << 8)));
        }
    }
    match ok!(clone3(&args(0, SIGCHLD as u64)[..8])) {
        0 => sys::exit_group(0),
        pid => joined(pid as i32),
    }
}

fn clone3_gives_a_stack() {
    const SIZE: usize = 16 * 4096;
    let bottom = anon(16);
    let mut wanted = args((CLONE_VM | CLONE_VFORK) as u64, SIGCHLD as u64);
    (wanted[5], wanted[6]) = (bottom as u64, SIZE as u64);
    // The child pushes its stack pointer's value and ends.
    let pid: isize;
    // SAFETY: the child uses nothing but registers and its new stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "push rsp",
            "mov edi, 0",
            "mov eax, 60",
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => pid,
            in("rdi") wanted.as_ptr(), in("rsi") 88_usize, out("rcx") _, out("r11") _,
        );
    }
    check!(pid > 0, "clone3 gives {pid}");
    joined(pid as i32);
    // SAFETY: the top word of the stack.
    check_eq!(unsafe { ((bottom + SIZE - 8) as *const usize).read_volatile() }, bottom + SIZE);
}

fn clone3_errors() {
    let plain = args(0, SIGCHLD as u64);
    let with = |index: usize, value: u64| {
        let mut wanted = plain;
        wanted[index] = value;
        clone3(&wanted)
    };
    errno_is!(syscall!(SYS_clone3, plain.as_ptr(), 63), EINVAL);
    errno_is!(syscall!(SYS_clone3, free_range(1), 88), EFAULT);
    errno_is!(clone3(&[0; 1024]), E2BIG);
    let mut longer = [0; 12];
    longer[4] = SIGCHLD as u64;
    longer[11] = 1;
    errno_is!(clone3(&longer), E2BIG);
    errno_is!(with(4, 65), EINVAL);
    errno_is!(with(0, 1 << 40), EINVAL);
    errno_is!(with(0, CLONE_SIGHAND as u64), EINVAL);
    errno_is!(with(0, CLONE_DETACHED as u64), EINVAL);
    // The signal has a field of its own.
    errno_is!(with(0, SIGCHLD as u64), EINVAL);
    // Stack and size go together.
    errno_is!(with(5, 0x1000), EINVAL);
    errno_is!(with(6, 0x1000), EINVAL);
    let mut thread = args((CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) as u64, SIGCHLD as u64);
    errno_is!(clone3(&thread), EINVAL);
    thread[0] = CLONE_PARENT as u64;
    errno_is!(clone3(&thread), EINVAL);
    errno_is!(sys::wait4(-1, libc::__WALL), ECHILD);
}
