// SPDX-License-Identifier: MPL-2.0

//! Counters: `eventfd(2)`.

use libc::{EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, POLLIN, POLLOUT};

use crate::{child::Child, harness::Case, sys};

pub const CASES: &[Case] = cases!["poll/eventfd":
    read_takes_the_sum,
    semaphore_takes_one,
    empty_is_eagain,
    overflow_is_eagain,
    largest_value_is_einval,
    short_buffers_are_einval,
    reader_waits_for_a_writer,
    writer_waits_for_a_reader,
    poll_tells_both_sides,
    flags_are_checked,
];

fn new(initial: u32, flags: i32) -> i32 {
    ok!(syscall!(SYS_eventfd2, initial, flags | EFD_CLOEXEC)) as i32
}

fn add(fd: i32, value: u64) -> sys::Result {
    sys::write(fd, &value.to_ne_bytes())
}

fn take(fd: i32) -> sys::Result<u64> {
    let mut bytes = [0; 8];
    sys::read(fd, &mut bytes).map(|_| u64::from_ne_bytes(bytes))
}

fn read_takes_the_sum() {
    let fd = new(3, EFD_NONBLOCK);
    check_eq!((add(fd, 4), add(fd, 0)), (Ok(8), Ok(8)));
    check_eq!(take(fd), Ok(7));
    errno_is!(take(fd), EAGAIN);
}

fn semaphore_takes_one() {
    let fd = new(2, EFD_NONBLOCK | EFD_SEMAPHORE);
    check_eq!((take(fd), take(fd)), (Ok(1), Ok(1)));
    errno_is!(take(fd), EAGAIN);
}

fn empty_is_eagain() {
    errno_is!(take(new(0, EFD_NONBLOCK)), EAGAIN);
}

fn overflow_is_eagain() {
    let fd = new(1, EFD_NONBLOCK);
    check_eq!(add(fd, u64::MAX - 2), Ok(8));
    errno_is!(add(fd, 1), EAGAIN);
    check_eq!(take(fd), Ok(u64::MAX - 1));
}

fn largest_value_is_einval() {
    errno_is!(add(new(0, EFD_NONBLOCK), u64::MAX), EINVAL);
}

fn short_buffers_are_einval() {
    let fd = new(1, EFD_NONBLOCK);
    errno_is!(sys::read(fd, &mut [0; 7]), EINVAL);
    errno_is!(sys::write(fd, &[0; 7]), EINVAL);
    check_eq!(sys::read(fd, &mut [0; 20]), Ok(8));
}

fn reader_waits_for_a_writer() {
    let fd = new(0, 0);
    let child = Child::spawn(|| {
        sys::sleep_us(20_000);
        check_eq!(add(fd, 5), Ok(8));
    });
    check_eq!(take(fd), Ok(5));
    child.join();
}

fn writer_waits_for_a_reader() {
    let fd = new(0, 0);
    check_eq!(add(fd, u64::MAX - 1), Ok(8));
    let child = Child::spawn(|| {
        sys::sleep_us(20_000);
        check_eq!(take(fd), Ok(u64::MAX - 1));
    });
    check_eq!(add(fd, 1), Ok(8));
    child.join();
    check_eq!(take(fd), Ok(1));
}

fn ready(fd: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events: POLLIN | POLLOUT, revents: 0 };
    ok!(syscall!(SYS_poll, &raw mut entry, 1, 0));
    entry.revents
}

fn poll_tells_both_sides() {
    let fd = new(0, 0);
    check_eq!(ready(fd), POLLOUT);
    check_eq!(add(fd, 1), Ok(8));
    check_eq!(ready(fd), POLLIN | POLLOUT);
    check_eq!(add(fd, u64::MAX - 2), Ok(8));
    check_eq!(ready(fd), POLLIN);
}

fn flags_are_checked() {
    errno_is!(syscall!(SYS_eventfd2, 0, 0x1000_0000), EINVAL);
    check_eq!(syscall!(SYS_fcntl, new(0, 0), libc::F_GETFD, 0), Ok(1));
    let fd = ok!(syscall!(SYS_eventfd, 9)) as i32;
    check_eq!(syscall!(SYS_fcntl, fd, libc::F_GETFD, 0), Ok(0));
    check_eq!(take(fd), Ok(9));
}
