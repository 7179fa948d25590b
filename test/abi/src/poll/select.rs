// SPDX-License-Identifier: MPL-2.0

//! `poll(2)` and `select(2)`.

use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, SIGALRM, pollfd};

use crate::{child::Child, harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["poll/select":
    poll_tells_each_file,
    poll_passes_over_negative_numbers,
    poll_tells_closed_numbers,
    poll_tells_ends_of_pipes,
    poll_waits_until_ready,
    poll_times_out,
    poll_of_nothing_sleeps,
    poll_is_ended_by_a_signal,
    ppoll_tells_the_time_left,
    ppoll_takes_a_mask,
    poll_of_a_regular_file,
    poll_errors,
    select_tells_each_set,
    select_times_out,
    select_tells_the_time_left,
    select_of_a_closed_number_is_ebadf,
    select_errors,
    select_for_exceptions_waits_past_a_hang_up,
    pselect_takes_a_mask,
];

fn poll(entries: &mut [(i32, i16)], timeout: i32) -> sys::Result<Vec<i16>> {
    let mut list: Vec<pollfd> =
        entries.iter().map(|&(fd, events)| pollfd { fd, events, revents: -1 }).collect();
    syscall!(SYS_poll, list.as_mut_ptr(), list.len(), timeout)?;
    Ok(list.iter().map(|entry| entry.revents).collect())
}

fn pipe() -> (i32, i32) {
    ok!(sys::pipe(libc::O_CLOEXEC))
}

fn poll_tells_each_file() {
    let (reader, writer) = pipe();
    check_eq!(poll(&mut [(reader, POLLIN), (writer, POLLOUT)], 0), Ok(vec![0, POLLOUT]));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    check_eq!(poll(&mut [(reader, POLLIN), (writer, POLLIN)], 0), Ok(vec![POLLIN, 0]));
}

fn poll_passes_over_negative_numbers() {
    let (_reader, writer) = pipe();
    check_eq!(poll(&mut [(-1, POLLIN), (writer, POLLOUT), (-9, 0)], 0), Ok(vec![0, POLLOUT, 0]));
}

fn poll_tells_closed_numbers() {
    let start = sys::monotonic_ms();
    check_eq!(poll(&mut [(999, POLLIN)], 5000), Ok(vec![POLLNVAL]));
    check!(sys::monotonic_ms() - start < 3000);
}

fn poll_tells_ends_of_pipes() {
    let (reader, writer) = pipe();
    sys::close(writer);
    check_eq!(poll(&mut [(reader, 0)], 0), Ok(vec![POLLHUP]));
    let (reader, writer) = pipe();
    sys::close(reader);
    check_eq!(poll(&mut [(writer, POLLOUT)], 0), Ok(vec![POLLOUT | POLLERR]));
}

fn poll_waits_until_ready() {
    let (reader, writer) = pipe();
    let child = Child::spawn(|| {
        sys::sleep_us(20_000);
        check_eq!(sys::write(writer, b"x"), Ok(1));
    });
    check_eq!(poll(&mut [(reader, POLLIN)], -1), Ok(vec![POLLIN]));
    child.join();
}

fn poll_times_out() {
    let (reader, _writer) = pipe();
    let start = sys::monotonic_ms();
    check_eq!(poll(&mut [(reader, POLLIN)], 50), Ok(vec![0]));
    check!((45..3000).contains(&(sys::monotonic_ms() - start)));
}

fn poll_of_nothing_sleeps() {
    let start = sys::monotonic_ms();
    check_eq!(syscall!(SYS_poll, 0, 0, 30), Ok(0));
    check!(sys::monotonic_ms() - start >= 25);
}

extern "C" fn nothing(_: i32) {}

fn alarm_after(micros: i64) {
    let action = [
        nothing as *const () as usize,
        libc::SA_RESTART as usize | 0x0400_0000,
        restorer as *const () as usize,
        0,
    ];
    ok!(syscall!(SYS_rt_sigaction, SIGALRM, action.as_ptr(), 0, 8));
    ok!(syscall!(SYS_setitimer, libc::ITIMER_REAL, [0, 0, 0, micros].as_ptr(), 0));
}

#[unsafe(naked)]
extern "C" fn restorer() {
    std::arch::naked_asm!("mov eax, 15", "syscall")
}

fn poll_is_ended_by_a_signal() {
    let (reader, _writer) = pipe();
    // Even with SA_RESTART.
    alarm_after(20_000);
    errno_is!(poll(&mut [(reader, POLLIN)], 5000), EINTR);
}

fn ppoll_tells_the_time_left() {
    let (reader, writer) = pipe();
    check_eq!(sys::write(writer, b"x"), Ok(1));
    let mut entry = pollfd { fd: reader, events: POLLIN, revents: 0 };
    let mut spec = [100_i64, 0];
    check_eq!(syscall!(SYS_ppoll, &raw mut entry, 1, spec.as_mut_ptr(), 0, 8), Ok(1));
    check!(spec[0] == 99 && spec[1] > 0, "{spec:?}");
}

fn ppoll_takes_a_mask() {
    let (reader, _writer) = pipe();
    let mut entry = pollfd { fd: reader, events: POLLIN, revents: 0 };
    let (alarm, none) = (1_u64 << (SIGALRM - 1), 0_u64);
    alarm_after(10_000);
    let spec = [0_i64, 50_000_000];
    check_eq!(syscall!(SYS_ppoll, &raw mut entry, 1, spec.as_ptr(), &raw const alarm, 8), Ok(0));
    ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const alarm, 0, 8));
    alarm_after(10_000);
    errno_is!(syscall!(SYS_ppoll, &raw mut entry, 1, 0, &raw const none, 8), EINTR);
    let mut now = 0_u64;
    ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, &raw mut now, 8));
    check!(now & alarm != 0, "the mask has not come back");
    errno_is!(syscall!(SYS_ppoll, &raw mut entry, 1, 0, &raw const none, 4), EINVAL);
}

fn poll_of_a_regular_file() {
    check_eq!(poll(&mut [(tmp::file(b""), POLLIN | POLLOUT)], 0), Ok(vec![POLLIN | POLLOUT]));
}

fn poll_errors() {
    errno_is!(syscall!(SYS_poll, 8, 1, 0), EFAULT);
    let (soft, hard) = ok!(sys::getrlimit(libc::RLIMIT_NOFILE));
    let mut list = vec![pollfd { fd: -1, events: 0, revents: 0 }; 60];
    ok!(sys::setrlimit(libc::RLIMIT_NOFILE, 50, hard));
    errno_is!(syscall!(SYS_poll, list.as_mut_ptr(), 60, 0), EINVAL);
    ok!(sys::setrlimit(libc::RLIMIT_NOFILE, soft, hard));
    let mut entry = pollfd { fd: -1, events: 0, revents: 0 };
    for spec in [[-1_i64, 0], [0, -1], [0, 1_000_000_000]] {
        errno_is!(syscall!(SYS_ppoll, &raw mut entry, 1, spec.as_ptr(), 0, 8), EINVAL);
    }
}

fn bit(fd: i32) -> u64 {
    1 << fd
}

fn select_tells_each_set() {
    let (reader, writer) = pipe();
    let (mut read, mut write, mut except) = (bit(reader), bit(writer) | bit(reader), bit(reader));
    let select = |count, read: &mut u64, write: &mut u64, except: &mut u64| {
        let none = [0_i64; 2];
        syscall!(SYS_select, count, read as *mut u64, write as *mut u64, except as *mut u64, none.as_ptr())
    };
    check_eq!(select(64, &mut read, &mut write, &mut except), Ok(1));
    check_eq!((read, write, except), (0, bit(writer), 0));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    (read, write, except) = (bit(reader), bit(writer), 0);
    check_eq!(select(64, &mut read, &mut write, &mut except), Ok(2));
    check_eq!((read, write, except), (bit(reader), bit(writer), 0));
    // What lies beyond the count is not looked at.
    (read, write, except) = (bit(reader), bit(writer), 0);
    check_eq!(select(writer, &mut read, &mut write, &mut except), Ok(1));
}

fn select_times_out() {
    let (reader, _writer) = pipe();
    let (mut read, time) = (bit(reader), [0_i64, 40_000]);
    let start = sys::monotonic_ms();
    check_eq!(syscall!(SYS_select, 64, &raw mut read, 0, 0, time.as_ptr()), Ok(0));
    check!((35..3000).contains(&(sys::monotonic_ms() - start)));
    check_eq!(read, 0);
}

fn select_tells_the_time_left() {
    let (_reader, writer) = pipe();
    let (mut write, mut time) = (bit(writer), [50_i64, 0]);
    check_eq!(syscall!(SYS_select, 64, 0, &raw mut write, 0, time.as_mut_ptr()), Ok(1));
    check!(time[0] == 49 && time[1] > 0, "{time:?}");
    time = [0, 10_000];
    check_eq!(syscall!(SYS_select, 0, 0, 0, 0, time.as_mut_ptr()), Ok(0));
    check_eq!(time, [0, 0]);
}

fn select_of_a_closed_number_is_ebadf() {
    let (reader, writer) = pipe();
    sys::close(writer);
    let mut read = bit(reader) | bit(writer);
    errno_is!(syscall!(SYS_select, 64, &raw mut read, 0, 0, 0), EBADF);
}

fn select_errors() {
    errno_is!(syscall!(SYS_select, -1_i32, 0, 0, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_select, 1, 8, 0, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_select, 0, 0, 0, 0, [-1_i64, 0].as_ptr()), EINVAL);
}

fn select_for_exceptions_waits_past_a_hang_up() {
    let (reader, writer) = pipe();
    sys::close(writer);
    let (mut except, time) = (bit(reader), [0_i64, 40_000]);
    let start = sys::monotonic_ms();
    check_eq!(syscall!(SYS_select, 64, 0, 0, &raw mut except, time.as_ptr()), Ok(0));
    check!(sys::monotonic_ms() - start >= 35);
}

fn pselect_takes_a_mask() {
    let (alarm, none) = (1_u64 << (SIGALRM - 1), 0_u64);
    ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const alarm, 0, 8));
    alarm_after(10_000);
    let mask = [&raw const none as usize, 8];
    errno_is!(syscall!(SYS_pselect6, 0, 0, 0, 0, 0, mask.as_ptr()), EINTR);
    let mask = [&raw const none as usize, 4];
    errno_is!(syscall!(SYS_pselect6, 0, 0, 0, 0, 0, mask.as_ptr()), EINVAL);
}
