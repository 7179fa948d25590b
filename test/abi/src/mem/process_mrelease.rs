// SPDX-License-Identifier: MPL-2.0

//! process_mrelease(2): the memory of a process that was killed is given back before it has come to its end.

use libc::{CLONE_VM, EINVAL, ESRCH, SIGCHLD, SIGKILL};

use super::{anon, number_pages, page_numbers};
use crate::{
    child::{Child, Turn},
    harness::Case,
    process::clone::share,
    sys,
    sys::Result,
};

pub const CASES: &[Case] = cases!["mem/process_mrelease":
    of_a_killed_process_succeeds,
    of_a_living_process_is_einval,
    of_one_that_shares_memory_with_the_living_is_einval,
    of_an_ended_process_is_esrch,
    flags_are_einval,
    what_is_no_pidfd_is_ebadf,
];

fn release(pidfd: i32, flags: usize) -> Result {
    syscall!(SYS_process_mrelease, pidfd, flags)
}

fn pidfd(pid: i32) -> i32 {
    ok!(syscall!(SYS_pidfd_open, pid, 0)) as i32
}

fn forever() -> i32 {
    loop {
        sys::sleep_us(1_000_000);
    }
}

/// A child that has so many pages in memory, and waits.
fn child_with(pages: usize) -> Child {
    let ready = Turn::new();
    let child = Child::spawn(|| {
        number_pages(anon(pages), pages, 1);
        ready.post();
        forever();
    });
    ready.wait();
    child
}

fn of_a_killed_process_succeeds() {
    for _ in 0..20 {
        let child = child_with(2000);
        let fd = pidfd(child.pid);
        ok!(sys::kill(child.pid, SIGKILL));
        let result = release(fd, 0);
        let status = child.wait();
        check!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGKILL);
        match result {
            Ok(zero) => {
                check_eq!(zero, 0);
                return;
            }
            // It was faster.
            Err(error) => check_eq!(error, sys::Errno(ESRCH)),
        }
    }
}

fn of_a_living_process_is_einval() {
    errno_is!(release(pidfd(sys::getpid()), 0), EINVAL);
    let child = child_with(1);
    errno_is!(release(pidfd(child.pid), 0), EINVAL);
    ok!(sys::kill(child.pid, SIGKILL));
    child.wait();
}

fn of_one_that_shares_memory_with_the_living_is_einval() {
    let at = anon(1);
    let pid = share(CLONE_VM | SIGCHLD, forever);
    let fd = pidfd(pid);
    ok!(sys::kill(pid, SIGKILL));
    let result = release(fd, 0);
    check!(matches!(result, Err(sys::Errno(EINVAL | ESRCH))), "{result:?}");
    ok!(sys::wait4(pid, 0));
    number_pages(at, 1, 1);
    check_eq!(page_numbers(at, 1), [1]);
}

fn of_an_ended_process_is_esrch() {
    let child = Child::spawn(|| ());
    let fd = pidfd(child.pid);
    child.wait();
    errno_is!(release(fd, 0), ESRCH);
}

fn flags_are_einval() {
    errno_is!(release(pidfd(sys::getpid()), 1), EINVAL);
}

fn what_is_no_pidfd_is_ebadf() {
    errno_is!(release(-1, 0), EBADF);
    errno_is!(release(ok!(sys::pipe(0)).0, 0), EBADF);
}
