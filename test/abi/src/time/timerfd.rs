// SPDX-License-Identifier: MPL-2.0

//! timerfd_create(2) and its family.

use libc::*;

use super::*;
use crate::signal::until;

pub const CASES: &[Case] = cases!["time/timerfd":
    read_waits_for_the_end,
    read_tells_how_many_periods,
    nothing_is_eagain,
    small_buffer_is_einval,
    poll_tells_readable,
    gettime_tells_what_is_left,
    settime_forgets_what_was_not_read,
    absolute_time,
    zero_disarms,
    bad_arguments_are_einval,
    not_a_timerfd_is_einval,
    shared_with_a_child,
];

fn create(clock: i32, flags: i32) -> sys::Result<i32> {
    syscall!(SYS_timerfd_create, clock, flags).map(|fd| fd as i32)
}

fn new(flags: i32) -> i32 {
    ok!(create(CLOCK_MONOTONIC, flags))
}

/// Arms a timer; interval and value of before.
fn set(fd: i32, flags: i32, value: Nanos, interval: Nanos) -> sys::Result<[i64; 4]> {
    let (value, interval) = (spec(value), spec(interval));
    let new = [interval[0], interval[1], value[0], value[1]];
    let mut old = [0; 4];
    syscall!(SYS_timerfd_settime, fd, flags, new.as_ptr(), old.as_mut_ptr()).map(|_| old)
}

fn get(fd: i32) -> sys::Result<[i64; 4]> {
    let mut now = [0; 4];
    syscall!(SYS_timerfd_gettime, fd, now.as_mut_ptr()).map(|_| now)
}

fn read(fd: i32) -> sys::Result<u64> {
    let mut count = [0; 8];
    sys::read(fd, &mut count).map(|_| u64::from_ne_bytes(count))
}

fn read_waits_for_the_end() {
    let fd = new(0);
    let start = now(CLOCK_MONOTONIC);
    ok!(set(fd, 0, ms(20), 0));
    check_eq!(read(fd), Ok(1));
    check!(now(CLOCK_MONOTONIC) - start >= ms(20));
    check_eq!(get(fd), Ok([0; 4]));
}

fn read_tells_how_many_periods() {
    let fd = new(0);
    ok!(set(fd, 0, ms(5), ms(5)));
    sys::sleep_us(60_000);
    let count = ok!(read(fd));
    check!((10..1000).contains(&count), "{count}");
    check!(ok!(read(fd)) < count);
}

fn nothing_is_eagain() {
    let fd = new(TFD_NONBLOCK);
    errno_is!(read(fd), EAGAIN);
    ok!(set(fd, 0, ms(100_000), 0));
    errno_is!(read(fd), EAGAIN);
}

fn small_buffer_is_einval() {
    errno_is!(sys::read(new(TFD_NONBLOCK), &mut [0; 7]), EINVAL);
}

fn poll_tells_readable() {
    let fd = new(0);
    let mut poll = [fd, POLLIN as i32];
    ok!(set(fd, 0, ms(20), 0));
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 0), Ok(0));
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 5000), Ok(1));
    check_eq!(read(fd), Ok(1));
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 0), Ok(0));
}

fn gettime_tells_what_is_left() {
    let fd = new(0);
    check_eq!(get(fd), Ok([0; 4]));
    ok!(set(fd, 0, ms(100_000), ms(3500)));
    let now = ok!(get(fd));
    check!(now[..3] == [3, 500_000_000, 99], "{now:?}");
    let old = ok!(set(fd, 0, 0, 0));
    check_eq!(old[..3], [3, 500_000_000, 99]);
}

fn settime_forgets_what_was_not_read() {
    let fd = new(TFD_NONBLOCK);
    ok!(set(fd, 0, ms(1), 0));
    sys::sleep_us(20_000);
    ok!(set(fd, 0, ms(100_000), 0));
    errno_is!(read(fd), EAGAIN);
}

fn absolute_time() {
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let fd = ok!(create(clock, 0));
        let end = now(clock) + ms(15);
        ok!(set(fd, TFD_TIMER_ABSTIME, end, 0));
        check_eq!(read(fd), Ok(1));
        check!(now(clock) >= end);
        ok!(set(fd, TFD_TIMER_ABSTIME, 1, 0));
        check_eq!(read(fd), Ok(1));
    }
}

fn zero_disarms() {
    let fd = new(TFD_NONBLOCK);
    ok!(set(fd, 0, ms(10), ms(10)));
    ok!(set(fd, 0, 0, ms(10)));
    sys::sleep_us(30_000);
    errno_is!(read(fd), EAGAIN);
}

fn bad_arguments_are_einval() {
    errno_is!(create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    errno_is!(create(1000, 0), EINVAL);
    errno_is!(create(CLOCK_MONOTONIC, 1), EINVAL);
    let fd = new(0);
    errno_is!(set(fd, 4, ms(1), 0), EINVAL);
    let bad = [0_i64, 0, 0, 1_000_000_000];
    errno_is!(syscall!(SYS_timerfd_settime, fd, 0, bad.as_ptr(), 0), EINVAL);
    errno_is!(syscall!(SYS_timerfd_settime, fd, 0, 8, 0), EFAULT);
}

fn not_a_timerfd_is_einval() {
    let (reader, _) = ok!(sys::pipe(0));
    errno_is!(set(reader, 0, 0, 0), EINVAL);
    errno_is!(get(reader), EINVAL);
    errno_is!(set(1000, 0, 0, 0), EBADF);
}

fn shared_with_a_child() {
    let fd = new(TFD_NONBLOCK);
    crate::child::in_child(|| {
        ok!(set(fd, 0, ms(5), 0));
    });
    until("the end", || read(fd) == Ok(1));
}
