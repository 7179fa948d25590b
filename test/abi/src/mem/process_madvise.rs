// SPDX-License-Identifier: MPL-2.0

//! process_madvise(2): advice about another process's memory, which never changes what is there.

use libc::{MADV_COLD, MADV_DONTNEED, MADV_HUGEPAGE, MADV_NORMAL, MADV_PAGEOUT, MADV_WILLNEED};

use super::{PAGE, anon, free_range, lone_anon, number_pages, page_numbers, peek};
use crate::{
    child::{Child, Turn},
    harness::Case,
    sys,
    sys::Result,
};

pub const CASES: &[Case] = cases!["mem/process_madvise":
    takes_cold_pageout_and_willneed,
    of_another_process_keeps_the_content,
    counts_the_bytes_of_all_parts,
    stops_at_the_first_bad_part,
    destructive_advice_for_another_is_einval,
    flags_are_einval,
    what_is_no_pidfd_is_ebadf,
    ended_process_is_esrch,
    bad_parts_are_efault_or_einval,
    no_parts_are_nothing,
    without_the_capability_is_eperm,
];

type Part = [usize; 2];

fn advise(pidfd: i32, parts: &[Part], advice: i32, flags: usize) -> Result {
    syscall!(SYS_process_madvise, pidfd, parts.as_ptr(), parts.len(), advice, flags)
}

fn pidfd(pid: i32) -> i32 {
    ok!(syscall!(SYS_pidfd_open, pid, 0)) as i32
}

fn own() -> i32 {
    pidfd(sys::getpid())
}

fn takes_cold_pageout_and_willneed() {
    let at = anon(2);
    number_pages(at, 2, 1);
    for advice in [MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED] {
        check_eq!(advise(own(), &[[at, 2 * PAGE]], advice, 0), Ok(2 * PAGE));
    }
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn of_another_process_keeps_the_content() {
    let at = anon(2);
    number_pages(at, 2, 1);
    let (go, done) = (Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        number_pages(at, 2, 5);
        done.post();
        go.wait();
        check_eq!(page_numbers(at, 2), [5, 6]);
    });
    done.wait();
    let fd = pidfd(child.pid);
    for advice in [MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED] {
        check_eq!(advise(fd, &[[at, 2 * PAGE]], advice, 0), Ok(2 * PAGE));
    }
    go.post();
    child.join();
    check_eq!(page_numbers(at, 2), [1, 2]);
}

fn counts_the_bytes_of_all_parts() {
    let at = anon(4);
    check_eq!(advise(own(), &[[at, PAGE], [at + 2 * PAGE, 100], [at, 0]], MADV_COLD, 0), Ok(PAGE + 100));
}

fn stops_at_the_first_bad_part() {
    let (at, hole) = (lone_anon(1), free_range(1));
    check_eq!(advise(own(), &[[at, PAGE], [hole, PAGE], [at, PAGE]], MADV_COLD, 0), Ok(PAGE));
    check_eq!(advise(own(), &[[at, PAGE], [at + 1, PAGE]], MADV_COLD, 0), Ok(PAGE));
    errno_is!(advise(own(), &[[hole, PAGE], [at, PAGE]], MADV_COLD, 0), ENOMEM);
    errno_is!(advise(own(), &[[at + 1, PAGE], [at, PAGE]], MADV_COLD, 0), EINVAL);
}

fn destructive_advice_for_another_is_einval() {
    let at = anon(1);
    number_pages(at, 1, 3);
    let go = Turn::new();
    let child = Child::spawn(|| {
        go.wait();
        check_eq!(peek(at), 3);
    });
    let fd = pidfd(child.pid);
    for advice in [MADV_NORMAL, MADV_DONTNEED, libc::MADV_FREE, MADV_HUGEPAGE, 99] {
        errno_is!(advise(fd, &[[at, PAGE]], advice, 0), EINVAL);
    }
    go.post();
    child.join();
}

fn flags_are_einval() {
    errno_is!(advise(own(), &[[anon(1), PAGE]], MADV_COLD, 1), EINVAL);
}

fn what_is_no_pidfd_is_ebadf() {
    let (reader, _writer) = ok!(sys::pipe(0));
    for fd in [-1, 999, reader] {
        errno_is!(advise(fd, &[[anon(1), PAGE]], MADV_COLD, 0), EBADF);
    }
}

fn ended_process_is_esrch() {
    let child = Child::spawn(|| {});
    let fd = pidfd(child.pid);
    child.join();
    errno_is!(advise(fd, &[[anon(1), PAGE]], MADV_COLD, 0), ESRCH);
}

fn bad_parts_are_efault_or_einval() {
    let fd = own();
    errno_is!(syscall!(SYS_process_madvise, fd, 8, 1, MADV_COLD, 0), EFAULT);
    errno_is!(syscall!(SYS_process_madvise, fd, 0, 1025, MADV_COLD, 0), EINVAL);
    errno_is!(advise(fd, &[[anon(1), usize::MAX]], MADV_COLD, 0), EINVAL);
}

fn no_parts_are_nothing() {
    check_eq!(advise(own(), &[], MADV_COLD, 0), Ok(0));
}

fn without_the_capability_is_eperm() {
    let at = anon(1);
    let go = Turn::new();
    let child = Child::spawn(|| go.wait());
    let fd = pidfd(child.pid);
    // Another user's, and then one's own, which takes CAP_SYS_NICE all the same.
    let status = Child::spawn(|| {
        sys::become_unprivileged();
        errno_is!(advise(fd, &[[at, PAGE]], MADV_COLD, 0), EACCES);
        // What changes its user is no longer to be looked into, unless it says so.
        ok!(syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1));
        let own = Turn::new();
        let child = Child::spawn(|| own.wait());
        errno_is!(advise(pidfd(child.pid), &[[at, PAGE]], MADV_COLD, 0), EPERM);
        own.post();
        child.join();
    });
    status.join();
    go.post();
    child.join();
}
