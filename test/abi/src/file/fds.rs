// SPDX-License-Identifier: MPL-2.0

//! Descriptors: dup(2), dup2(2), dup3(2), fcntl(2), close_range(2), and the limit on their number.

use libc::{
    CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL,
    FD_CLOEXEC, O_APPEND, O_NONBLOCK, RLIMIT_NOFILE, SEEK_CUR, SEEK_SET,
};

use super::*;
use crate::child::in_child;

pub const CASES: &[Case] = cases!["file/fds":
    dup2_replaces,
    dup2_onto_itself,
    dup3_flags,
    dup_errors,
    dupfd_takes_the_lowest_from,
    dupfd_errors,
    fd_flags_are_the_descriptors_own,
    status_flags_are_shared,
    status_flags_that_cannot_be_set_are_ignored,
    unknown_fcntl_is_einval,
    close_range_closes,
    close_range_sets_cloexec,
    close_range_unshares,
    close_range_errors,
    limit_gives_emfile,
    limit_does_not_close,
    failed_pipe_at_the_limit_takes_nothing,
    fork_copies_the_table,
];

fn is_open(fd: i32) -> bool {
    fcntl(fd, F_GETFD, 0).is_ok()
}

/// A descriptor with none free below it.
fn with_none_free_below() -> i32 {
    let file = tmp::file(b"");
    (0..20).fold(file, |_, _| ok!(syscall!(SYS_dup, file)) as i32)
}

fn dup2_replaces() {
    let (a, b) = (tmp::file(b"a"), tmp::file(b"b"));
    check_eq!(syscall!(SYS_dup2, a, b), Ok(b as usize));
    check_eq!(content(b), b"a");
    ok!(lseek(a, 1, SEEK_SET));
    check_eq!(lseek(b, 0, SEEK_CUR), Ok(1));
    check_eq!(syscall!(SYS_dup2, a, 500), Ok(500));
    sys::close(a);
    check_eq!(content(500), b"a");
    // The replaced end of a pipe is closed.
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(syscall!(SYS_dup2, 500, writer), Ok(writer as usize));
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
}

fn dup2_onto_itself() {
    let fd = tmp::file(b"");
    check_eq!(syscall!(SYS_dup2, fd, fd), Ok(fd as usize));
    check_eq!(fcntl(fd, F_GETFD, 0), Ok(FD_CLOEXEC as usize), "nothing changed");
    errno_is!(syscall!(SYS_dup3, fd, fd, 0), EINVAL);
    errno_is!(syscall!(SYS_dup2, 999, 999), EBADF);
}

fn dup3_flags() {
    let fd = tmp::file(b"");
    check_eq!(syscall!(SYS_dup3, fd, 300, O_CLOEXEC), Ok(300));
    check_eq!(fcntl(300, F_GETFD, 0), Ok(FD_CLOEXEC as usize));
    check_eq!(syscall!(SYS_dup3, fd, 300, 0), Ok(300));
    check_eq!(fcntl(300, F_GETFD, 0), Ok(0));
    errno_is!(syscall!(SYS_dup3, fd, 300, O_NONBLOCK), EINVAL);
}

fn dup_errors() {
    let fd = tmp::file(b"");
    errno_is!(syscall!(SYS_dup, 999), EBADF);
    errno_is!(syscall!(SYS_dup2, 999, fd), EBADF);
    check!(is_open(fd), "a failed dup2 closes nothing");
    errno_is!(syscall!(SYS_dup2, fd, -1_i64), EBADF);
    let limit = ok!(sys::getrlimit(RLIMIT_NOFILE)).0;
    errno_is!(syscall!(SYS_dup2, fd, limit), EBADF);
    errno_is!(syscall!(SYS_dup3, fd, limit, 0), EBADF);
}

fn dupfd_takes_the_lowest_from() {
    let fd = with_none_free_below();
    check_eq!(fcntl(fd, F_DUPFD, 100), Ok(100));
    check_eq!(fcntl(fd, F_DUPFD, 100), Ok(101));
    check_eq!(fcntl(fd, F_DUPFD_CLOEXEC, 100), Ok(102));
    check_eq!(fcntl(101, F_GETFD, 0), Ok(0));
    check_eq!(fcntl(102, F_GETFD, 0), Ok(FD_CLOEXEC as usize));
    sys::close(100);
    check_eq!(fcntl(fd, F_DUPFD, 0), Ok(fd as usize + 1));
    check_eq!(fcntl(fd, F_DUPFD, 99), Ok(99));
    check_eq!(fcntl(fd, F_DUPFD, 99), Ok(100));
}

fn dupfd_errors() {
    let fd = tmp::file(b"");
    let limit = ok!(sys::getrlimit(RLIMIT_NOFILE)).0 as usize;
    errno_is!(fcntl(fd, F_DUPFD, limit), EINVAL);
    errno_is!(fcntl(fd, F_DUPFD, usize::MAX), EINVAL);
    errno_is!(fcntl(999, F_DUPFD, 0), EBADF);
}

fn fd_flags_are_the_descriptors_own() {
    let fd = tmp::file(b"");
    let copy = ok!(syscall!(SYS_dup, fd)) as i32;
    check_eq!(fcntl(fd, F_GETFD, 0), Ok(FD_CLOEXEC as usize));
    check_eq!(fcntl(copy, F_GETFD, 0), Ok(0));
    check_eq!(fcntl(fd, F_SETFD, 0), Ok(0));
    check_eq!(fcntl(copy, F_SETFD, 1), Ok(0));
    check_eq!((fcntl(fd, F_GETFD, 0), fcntl(copy, F_GETFD, 0)), (Ok(0), Ok(1)));
    errno_is!(fcntl(999, F_GETFD, 0), EBADF);
}

fn status_flags_are_shared() {
    let (fd, path) = tmp::named_file(b"content");
    let copy = ok!(syscall!(SYS_dup, fd)) as i32;
    let other = open(&path, O_RDWR);
    ok!(fcntl(fd, F_SETFL, (O_APPEND | O_NONBLOCK) as usize));
    let flags = |fd| ok!(fcntl(fd, F_GETFL, 0)) as i32 & (O_APPEND | O_NONBLOCK);
    check_eq!(flags(copy), O_APPEND | O_NONBLOCK);
    check_eq!(flags(other), 0);
    in_child(|| _ = ok!(fcntl(copy, F_SETFL, 0)));
    check_eq!(flags(fd), 0);
}

fn status_flags_that_cannot_be_set_are_ignored() {
    let (_, path) = tmp::named_file(b"content");
    let fd = open(&path, O_RDONLY);
    ok!(fcntl(fd, F_SETFL, (O_RDWR | O_CREAT | libc::O_TRUNC | libc::O_EXCL) as usize));
    check_eq!(ok!(fcntl(fd, F_GETFL, 0)) as i32 & 3, O_RDONLY);
    errno_is!(sys::write(fd, b"x"), EBADF);
    check_eq!(content(fd), b"content");
}

fn unknown_fcntl_is_einval() {
    let fd = tmp::file(b"");
    errno_is!(fcntl(fd, 9999, 0), EINVAL);
    errno_is!(fcntl(fd, -1, 0), EINVAL);
    errno_is!(fcntl(999, 9999, 0), EBADF);
    errno_is!(fcntl(fd, libc::F_GETPIPE_SZ, 0), EBADF);
}

fn close_range_closes() {
    let fd = tmp::file(b"");
    for at in [200, 201, 202, 203, 250] {
        ok!(syscall!(SYS_dup2, fd, at));
    }
    ok!(syscall!(SYS_close_range, 201, 202, 0));
    check_eq!([200, 201, 202, 203, 250].map(is_open), [true, false, false, true, true]);
    ok!(syscall!(SYS_close_range, 201, u32::MAX, 0));
    check_eq!([200, 203, 250].map(is_open), [true, false, false]);
}

fn close_range_sets_cloexec() {
    let fd = tmp::file(b"");
    for at in [200, 201, 202] {
        ok!(syscall!(SYS_dup2, fd, at));
    }
    ok!(syscall!(SYS_close_range, 201, u32::MAX, CLOSE_RANGE_CLOEXEC));
    check_eq!([200, 201, 202].map(|fd| fcntl(fd, F_GETFD, 0)), [Ok(0), Ok(1), Ok(1)]);
}

fn close_range_unshares() {
    let fd = tmp::file(b"");
    ok!(syscall!(SYS_dup2, fd, 200));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ok!(syscall!(SYS_close_range, 200, 200, CLOSE_RANGE_UNSHARE));
            check!(!is_open(200));
        });
    });
    check!(is_open(200), "the thread had a table of its own");
}

fn close_range_errors() {
    errno_is!(syscall!(SYS_close_range, 10, 9, 0), EINVAL);
    errno_is!(syscall!(SYS_close_range, 500, 600, 1 << 10), EINVAL);
    ok!(syscall!(SYS_close_range, 500, 600, 0));
}

fn limit_gives_emfile() {
    let fd = with_none_free_below();
    let hard = ok!(sys::getrlimit(RLIMIT_NOFILE)).1;
    ok!(sys::setrlimit(RLIMIT_NOFILE, fd as u64 + 3, hard));
    check_eq!(syscall!(SYS_dup, fd), Ok(fd as usize + 1));
    check_eq!(syscall!(SYS_dup, fd), Ok(fd as usize + 2));
    errno_is!(syscall!(SYS_dup, fd), EMFILE);
    errno_is!(sys::open("/", O_RDONLY, 0), EMFILE);
    errno_is!(fcntl(fd, F_DUPFD, fd as usize), EMFILE);
    errno_is!(syscall!(SYS_memfd_create, c"".as_ptr(), 0), EMFILE);
    // Nothing is made when there is no room to open it.
    let path = format!("{}/none", tmp::dir());
    errno_is!(sys::open(&path, O_CREAT | O_RDWR, 0o600), EMFILE);
    errno_is!(stat(&path), ENOENT);
    sys::close(fd + 1);
    check_eq!(syscall!(SYS_dup, fd), Ok(fd as usize + 1));
}

fn limit_does_not_close() {
    let fd = tmp::file(b"content");
    ok!(syscall!(SYS_dup2, fd, 100));
    let hard = ok!(sys::getrlimit(RLIMIT_NOFILE)).1;
    ok!(sys::setrlimit(RLIMIT_NOFILE, 50, hard));
    check_eq!(content(100), b"content");
    check_eq!(syscall!(SYS_dup2, 100, 20), Ok(20));
    errno_is!(syscall!(SYS_dup2, fd, 101), EBADF);
    errno_is!(fcntl(fd, F_DUPFD, 50), EINVAL);
}

fn failed_pipe_at_the_limit_takes_nothing() {
    let fd = with_none_free_below();
    let hard = ok!(sys::getrlimit(RLIMIT_NOFILE)).1;
    ok!(sys::setrlimit(RLIMIT_NOFILE, fd as u64 + 2, hard));
    errno_is!(sys::pipe(0), EMFILE);
    check_eq!(syscall!(SYS_dup, fd), Ok(fd as usize + 1));
}

fn fork_copies_the_table() {
    let fd = tmp::file(b"content");
    in_child(|| {
        check_eq!(content(fd), b"content");
        check_eq!(fcntl(fd, F_GETFD, 0), Ok(FD_CLOEXEC as usize));
        sys::close(fd);
        ok!(syscall!(SYS_dup2, 1, 300));
    });
    check!(is_open(fd));
    check!(!is_open(300));
}
