// SPDX-License-Identifier: MPL-2.0

//! pidfd_open(2), pidfd_send_signal(2): processes as descriptors.

use libc::{O_NONBLOCK, POLLIN, SIGKILL, SIGUSR1};

use super::*;
use crate::child::in_child;

pub const CASES: &[Case] = cases!["process/pidfd":
    opens_and_closes_on_exec,
    open_errors,
    readable_when_it_ends,
    sends_signals,
    signal_errors,
    outlives_the_process,
];

fn pidfd_open(pid: i32, flags: i32) -> sys::Result<i32> {
    syscall!(SYS_pidfd_open, pid, flags).map(|fd| fd as i32)
}

fn send(fd: i32, signal: i32) -> sys::Result {
    syscall!(SYS_pidfd_send_signal, fd, signal, 0, 0)
}

/// Whether poll finds it readable within so many milliseconds.
fn readable(fd: i32, ms: i32) -> bool {
    let mut entry = libc::pollfd { fd, events: POLLIN, revents: 0 };
    ok!(syscall!(SYS_poll, &raw mut entry, 1, ms)) == 1 && entry.revents & POLLIN != 0
}

fn opens_and_closes_on_exec() {
    let fd = ok!(pidfd_open(sys::getpid(), 0));
    check_eq!(syscall!(SYS_fcntl, fd, libc::F_GETFD, 0), Ok(1));
    errno_is!(sys::read(fd, &mut [0]), EINVAL);
    let fd = ok!(pidfd_open(sys::getpid(), O_NONBLOCK));
    check_eq!(ok!(syscall!(SYS_fcntl, fd, libc::F_GETFL, 0)) as i32 & O_NONBLOCK, O_NONBLOCK);
}

fn open_errors() {
    errno_is!(pidfd_open(0, 0), EINVAL);
    errno_is!(pidfd_open(-1, 0), EINVAL);
    errno_is!(pidfd_open(sys::getpid(), 1), EINVAL);
    errno_is!(pidfd_open(0x3fff_ffff, 0), ESRCH);
}

fn readable_when_it_ends() {
    let child = sleeper();
    let fd = ok!(pidfd_open(child.pid, 0));
    check!(!readable(fd, 0));
    ok!(sys::kill(child.pid, SIGKILL));
    check!(readable(fd, 5000));
    child.wait();
    check!(readable(fd, 0));
}

fn sends_signals() {
    let child = sleeper();
    let fd = ok!(pidfd_open(child.pid, 0));
    ok!(send(fd, 0));
    ok!(send(fd, SIGUSR1));
    check_eq!(killed(child.wait()), Some(SIGUSR1));
}

fn signal_errors() {
    let child = sleeper();
    let fd = ok!(pidfd_open(child.pid, 0));
    errno_is!(send(fd, 65), EINVAL);
    errno_is!(send(999, 0), EBADF);
    errno_is!(send(1, 0), EBADF);
    errno_is!(syscall!(SYS_pidfd_send_signal, fd, SIGUSR1, 0, 1 << 10), EINVAL);
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(send(fd, SIGUSR1), EPERM);
    });
    end(child);
}

fn outlives_the_process() {
    let child = Child::spawn(|| {});
    let fd = ok!(pidfd_open(child.pid, 0));
    child.join();
    errno_is!(send(fd, 0), ESRCH);
    errno_is!(send(fd, SIGKILL), ESRCH);
}
