// SPDX-License-Identifier: MPL-2.0

//! pidfd_open(2), pidfd_send_signal(2).

use libc::*;

use super::*;
use crate::child::Child;

pub const CASES: &[Case] = cases!["signal/pidfd":
    signal_reaches_the_process,
    readable_when_it_has_ended,
    reaped_process_is_esrch,
    bad_arguments_are_einval,
    not_a_pidfd_is_ebadf,
    closed_on_exec,
];

fn open(pid: i32) -> sys::Result<i32> {
    syscall!(SYS_pidfd_open, pid, 0).map(|fd| fd as i32)
}

fn idle() -> Child {
    Child::spawn(|| {
        loop {
            sys::sleep_us(100_000);
        }
    })
}

fn signal_reaches_the_process() {
    let child = idle();
    let fd = ok!(open(child.pid));
    ok!(syscall!(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
    check_eq!(WTERMSIG(child.wait()), SIGTERM);
}

fn readable_when_it_has_ended() {
    let child = idle();
    let mut poll = [ok!(open(child.pid)), POLLIN as i32];
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 0), Ok(0));
    ok!(sys::kill(child.pid, SIGKILL));
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 5000), Ok(1));
    check_eq!(poll[1] >> 16 & POLLIN as i32, POLLIN as i32);
    let _ = child.wait();
}

fn reaped_process_is_esrch() {
    let child = Child::spawn(|| {});
    let fd = ok!(open(child.pid));
    let pid = child.pid;
    child.join();
    errno_is!(syscall!(SYS_pidfd_send_signal, fd, 0, 0, 0), ESRCH);
    errno_is!(open(pid), ESRCH);
}

fn bad_arguments_are_einval() {
    errno_is!(syscall!(SYS_pidfd_open, sys::getpid(), 1), EINVAL);
    errno_is!(open(0), EINVAL);
    errno_is!(open(-1), EINVAL);
    let fd = ok!(open(sys::getpid()));
    errno_is!(syscall!(SYS_pidfd_send_signal, fd, 65, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_pidfd_send_signal, fd, 0, 0, 1 << 20), EINVAL);
}

fn not_a_pidfd_is_ebadf() {
    let (reader, _) = ok!(sys::pipe(0));
    errno_is!(syscall!(SYS_pidfd_send_signal, reader, 0, 0, 0), EBADF);
    errno_is!(syscall!(SYS_pidfd_send_signal, 1000, 0, 0, 0), EBADF);
}

fn closed_on_exec() {
    let fd = ok!(open(sys::getpid()));
    check_eq!(syscall!(SYS_fcntl, fd, F_GETFD), Ok(FD_CLOEXEC as usize));
}
