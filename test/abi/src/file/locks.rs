// SPDX-License-Identifier: MPL-2.0

//! Advisory locks: POSIX record locks, those of open file descriptions, and flock(2).

use libc::{
    F_GETLK, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_RDLCK, F_SETLK, F_SETLKW, F_UNLCK, F_WRLCK, LOCK_EX,
    LOCK_NB, LOCK_SH, LOCK_UN, O_WRONLY, SEEK_CUR, SEEK_END, SEEK_SET,
};

use super::*;
use crate::{
    child::{Child, Turn, in_child},
    mem::free_range,
};

pub const CASES: &[Case] = cases!["file/locks":
    posix_excludes_other_processes,
    posix_readers_share,
    posix_getlk_tells_who,
    posix_ranges_split_and_merge,
    posix_whence,
    posix_lock_waits,
    posix_deadlock_is_edeadlk,
    posix_locks_go_with_any_close,
    posix_locks_are_not_inherited,
    posix_locks_go_with_the_process,
    posix_errors,
    ofd_locks_belong_to_the_open_file,
    ofd_and_posix_exclude_each_other,
    ofd_lock_waits,
    flock_excludes_and_shares,
    flock_belongs_to_the_open_file,
    flock_converts,
    flock_waits,
    flock_errors,
    flock_and_posix_ignore_each_other,
];

fn region(kind: i32, start: i64, len: i64) -> libc::flock {
    // SAFETY: plain numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_start, lock.l_len) = (kind as i16, SEEK_SET as i16, start, len);
    lock
}

fn lock(fd: i32, command: i32, kind: i32, start: i64, len: i64) -> sys::Result {
    let mut region = region(kind, start, len);
    syscall!(SYS_fcntl, fd, command, &raw mut region)
}

/// What keeps a write lock from `start` for `len` bytes away: its kind, start, length and owner.
fn conflict(fd: i32, command: i32, start: i64, len: i64) -> Option<(i32, i64, i64, i32)> {
    let mut region = region(F_WRLCK, start, len);
    ok!(syscall!(SYS_fcntl, fd, command, &raw mut region));
    let kind = i32::from(region.l_type);
    (kind != F_UNLCK).then_some((kind, region.l_start, region.l_len, region.l_pid))
}

fn flock(fd: i32, operation: i32) -> sys::Result {
    syscall!(SYS_flock, fd, operation)
}

fn posix_excludes_other_processes() {
    let fd = tmp::file(b"");
    ok!(lock(fd, F_SETLK, F_WRLCK, 10, 10));
    ok!(lock(fd, F_SETLK, F_WRLCK, 10, 10));
    in_child(|| {
        errno_is!(lock(fd, F_SETLK, F_WRLCK, 15, 1), EAGAIN);
        errno_is!(lock(fd, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
        ok!(lock(fd, F_SETLK, F_WRLCK, 0, 10));
        ok!(lock(fd, F_SETLK, F_WRLCK, 20, 0));
    });
    ok!(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    in_child(|| _ = ok!(lock(fd, F_SETLK, F_WRLCK, 15, 1)));
}

fn posix_readers_share() {
    let fd = tmp::file(b"");
    ok!(lock(fd, F_SETLK, F_RDLCK, 0, 0));
    in_child(|| {
        ok!(lock(fd, F_SETLK, F_RDLCK, 0, 0));
        errno_is!(lock(fd, F_SETLK, F_WRLCK, 5, 1), EAGAIN);
    });
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    in_child(|| errno_is!(lock(fd, F_SETLK, F_RDLCK, 0, 0), EAGAIN));
}

fn posix_getlk_tells_who() {
    let fd = tmp::file(b"");
    let me = sys::getpid();
    ok!(lock(fd, F_SETLK, F_RDLCK, 100, 0));
    check_eq!(conflict(fd, F_GETLK, 0, 0), None);
    in_child(|| {
        check_eq!(conflict(fd, F_GETLK, 0, 0), Some((F_RDLCK, 100, 0, me)));
        check_eq!(conflict(fd, F_GETLK, 0, 100), None);
    });
}

/// What another process sees locked.
fn check_seen(fd: i32, expected: &[(i32, i64, i64)]) {
    in_child(|| {
        let (mut seen, mut from) = (Vec::new(), 0);
        while let Some((kind, start, len, _)) = conflict(fd, F_GETLK, from, 0) {
            seen.push((kind, start, len));
            if len == 0 {
                break;
            }
            from = start + len;
        }
        check_eq!(seen, expected);
    });
}

fn posix_ranges_split_and_merge() {
    let fd = tmp::file(b"");
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 100));
    ok!(lock(fd, F_SETLK, F_UNLCK, 40, 20));
    check_seen(fd, &[(F_WRLCK, 0, 40), (F_WRLCK, 60, 40)]);
    ok!(lock(fd, F_SETLK, F_WRLCK, 40, 20));
    check_seen(fd, &[(F_WRLCK, 0, 100)]);
    ok!(lock(fd, F_SETLK, F_RDLCK, 50, 0));
    check_seen(fd, &[(F_WRLCK, 0, 50), (F_RDLCK, 50, 0)]);
    ok!(lock(fd, F_SETLK, F_UNLCK, 10, 80));
    check_seen(fd, &[(F_WRLCK, 0, 10), (F_RDLCK, 90, 0)]);
    ok!(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    check_seen(fd, &[]);
}

fn posix_whence() {
    let fd = tmp::file(&[0; 100]);
    let set = |whence: i32, start: i64, len: i64| {
        let mut region = region(F_WRLCK, start, len);
        region.l_whence = whence as i16;
        syscall!(SYS_fcntl, fd, F_SETLK, &raw mut region)
    };
    ok!(lseek(fd, 20, SEEK_SET));
    ok!(set(SEEK_CUR, 5, 5));
    ok!(set(SEEK_END, -10, 5));
    // A negative length lies before the start.
    ok!(set(SEEK_SET, 60, -10));
    check_seen(fd, &[(F_WRLCK, 25, 5), (F_WRLCK, 50, 10), (F_WRLCK, 90, 5)]);
    errno_is!(set(SEEK_SET, -1, 5), EINVAL);
    errno_is!(set(SEEK_SET, 5, -6), EINVAL);
    errno_is!(set(7, 0, 0), EINVAL);
    errno_is!(set(SEEK_SET, i64::MAX, 2), EOVERFLOW);
}

fn posix_lock_waits() {
    let fd = tmp::file(b"");
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 10));
    let turn = Turn::new();
    let child = Child::spawn(|| {
        turn.post();
        ok!(lock(fd, F_SETLKW, F_WRLCK, 5, 10));
        check_eq!(content(fd), b"unlocked");
    });
    turn.wait();
    sys::sleep_us(30_000);
    check_eq!(sys::pwrite(fd, b"unlocked", 0), Ok(8));
    ok!(lock(fd, F_SETLK, F_UNLCK, 0, 10));
    child.join();
}

fn posix_deadlock_is_edeadlk() {
    let fd = tmp::file(b"");
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 1));
    let turn = Turn::new();
    let child = Child::spawn(|| {
        ok!(lock(fd, F_SETLK, F_WRLCK, 1, 1));
        turn.post();
        ok!(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
    });
    turn.wait();
    sys::sleep_us(50_000);
    errno_is!(lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    ok!(lock(fd, F_SETLK, F_UNLCK, 0, 1));
    child.join();
    ok!(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
}

fn posix_locks_go_with_any_close() {
    let (fd, path) = tmp::named_file(b"");
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    sys::close(open(&path, O_RDONLY));
    check_seen(fd, &[]);
}

fn posix_locks_are_not_inherited() {
    let fd = tmp::file(b"");
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    in_child(|| {
        errno_is!(lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
        // Neither unlocking nor closing in the child touches the parent's.
        ok!(lock(fd, F_SETLK, F_UNLCK, 0, 0));
        sys::close(fd);
    });
    check_seen(fd, &[(F_WRLCK, 0, 0)]);
}

fn posix_locks_go_with_the_process() {
    let fd = tmp::file(b"");
    in_child(|| _ = ok!(lock(fd, F_SETLK, F_WRLCK, 0, 0)));
    check_seen(fd, &[]);
}

fn posix_errors() {
    let (fd, path) = tmp::named_file(b"");
    errno_is!(lock(999, F_SETLK, F_WRLCK, 0, 0), EBADF);
    errno_is!(lock(open(&path, O_RDONLY), F_SETLK, F_WRLCK, 0, 0), EBADF);
    errno_is!(lock(open(&path, O_WRONLY), F_SETLK, F_RDLCK, 0, 0), EBADF);
    errno_is!(lock(fd, F_SETLK, 77, 0, 0), EINVAL);
    errno_is!(fcntl(fd, F_SETLK, free_range(1)), EFAULT);
    errno_is!(lock(fd, F_GETLK, F_UNLCK, 0, 0), EINVAL);
}

fn ofd_locks_belong_to_the_open_file() {
    let (fd, path) = tmp::named_file(b"");
    let other = open(&path, O_RDWR);
    ok!(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
    errno_is!(lock(other, F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
    check_eq!(conflict(other, F_OFD_GETLK, 0, 0), Some((F_WRLCK, 0, 0, -1)));
    let copy = ok!(syscall!(SYS_dup, fd)) as i32;
    ok!(lock(copy, F_OFD_SETLK, F_WRLCK, 0, 0));
    // A child's copy is the same open file.
    in_child(|| _ = ok!(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0)));
    sys::close(open(&path, O_RDONLY));
    sys::close(fd);
    errno_is!(lock(other, F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
    sys::close(copy);
    ok!(lock(other, F_OFD_SETLK, F_WRLCK, 0, 0));
}

fn ofd_and_posix_exclude_each_other() {
    let (fd, path) = tmp::named_file(b"");
    let other = open(&path, O_RDWR);
    ok!(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10));
    errno_is!(lock(other, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
    ok!(lock(other, F_SETLK, F_WRLCK, 10, 1));
    errno_is!(lock(fd, F_OFD_SETLK, F_WRLCK, 10, 1), EAGAIN);
}

fn ofd_lock_waits() {
    let (fd, path) = tmp::named_file(b"");
    ok!(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
    let turn = Turn::new();
    let child = Child::spawn(|| {
        let own = open(&path, O_RDWR);
        turn.post();
        ok!(lock(own, F_OFD_SETLKW, F_WRLCK, 0, 0));
        check_eq!(content(own), b"unlocked");
    });
    turn.wait();
    sys::sleep_us(30_000);
    check_eq!(sys::pwrite(fd, b"unlocked", 0), Ok(8));
    ok!(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0));
    child.join();
}

fn flock_excludes_and_shares() {
    let (a, path) = tmp::named_file(b"");
    let (b, c) = (open(&path, O_RDONLY), open(&path, O_RDONLY));
    ok!(flock(a, LOCK_EX));
    errno_is!(flock(b, LOCK_EX | LOCK_NB), EAGAIN);
    errno_is!(flock(b, LOCK_SH | LOCK_NB), EAGAIN);
    ok!(flock(a, LOCK_UN));
    ok!(flock(b, LOCK_SH | LOCK_NB));
    ok!(flock(c, LOCK_SH | LOCK_NB));
    errno_is!(flock(a, LOCK_EX | LOCK_NB), EAGAIN);
}

fn flock_belongs_to_the_open_file() {
    let (fd, path) = tmp::named_file(b"");
    let other = open(&path, O_RDONLY);
    ok!(flock(fd, LOCK_EX));
    let copy = ok!(syscall!(SYS_dup, fd)) as i32;
    sys::close(fd);
    in_child(|| errno_is!(flock(other, LOCK_EX | LOCK_NB), EAGAIN));
    // Any copy can give it up.
    in_child(|| _ = ok!(flock(copy, LOCK_UN)));
    ok!(flock(other, LOCK_EX | LOCK_NB));
    sys::close(other);
    ok!(flock(copy, LOCK_EX | LOCK_NB));
}

fn flock_converts() {
    let (a, path) = tmp::named_file(b"");
    let b = open(&path, O_RDONLY);
    ok!(flock(a, LOCK_EX));
    ok!(flock(a, LOCK_SH | LOCK_NB));
    ok!(flock(b, LOCK_SH | LOCK_NB));
    sys::close(b);
    ok!(flock(a, LOCK_EX | LOCK_NB));
}

fn flock_waits() {
    let (fd, path) = tmp::named_file(b"");
    ok!(flock(fd, LOCK_EX));
    let turn = Turn::new();
    let child = Child::spawn(|| {
        let own = open(&path, O_RDONLY);
        turn.post();
        ok!(flock(own, LOCK_SH));
        check_eq!(content(own), b"unlocked");
    });
    turn.wait();
    sys::sleep_us(30_000);
    check_eq!(sys::pwrite(fd, b"unlocked", 0), Ok(8));
    ok!(flock(fd, LOCK_UN));
    child.join();
}

fn flock_errors() {
    let fd = tmp::file(b"");
    errno_is!(flock(999, LOCK_EX), EBADF);
    errno_is!(flock(fd, 0), EINVAL);
    errno_is!(flock(fd, LOCK_EX | LOCK_SH), EINVAL);
    errno_is!(flock(fd, 1 << 10), EINVAL);
    ok!(flock(fd, LOCK_UN));
}

fn flock_and_posix_ignore_each_other() {
    let fd = tmp::file(b"");
    ok!(flock(fd, LOCK_EX));
    in_child(|| _ = ok!(lock(fd, F_SETLK, F_WRLCK, 0, 0)));
    ok!(lock(fd, F_SETLK, F_WRLCK, 0, 0));
}
