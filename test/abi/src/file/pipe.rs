// SPDX-License-Identifier: MPL-2.0

//! pipe(2): order, atomicity, room, ends that go away.

use libc::{F_GETFL, F_GETPIPE_SZ, F_SETFL, F_SETPIPE_SZ, O_DIRECT, O_NONBLOCK, O_WRONLY, SIGPIPE};

use super::*;
use crate::{
    child::{Child, Turn, in_child, killed_by},
    mem::free_range,
};

pub const CASES: &[Case] = cases!["file/pipe":
    bytes_come_out_in_order,
    end_of_file_without_writers,
    broken_pipe_kills,
    broken_pipe_is_epipe_when_ignored,
    nonblocking_is_eagain,
    capacity_is_64_kib,
    capacity_can_be_set,
    capacity_has_limits,
    small_writes_are_whole,
    nonblocking_small_write_is_all_or_nothing,
    big_write_goes_on_as_room_comes,
    big_write_ends_with_the_reader,
    blocked_reader_wakes,
    blocked_reader_sees_the_end,
    blocked_writer_sees_the_end,
    packet_mode_keeps_packets,
    fionread_counts,
    flags_and_errors,
    bad_pointer_is_efault,
    opened_again_through_proc,
    interrupted_read_is_eintr,
];

fn waiting(fd: i32) -> i32 {
    let mut count = -1;
    ok!(syscall!(SYS_ioctl, fd, libc::FIONREAD, &raw mut count));
    count
}

fn ignore(signal: i32) {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

fn bytes_come_out_in_order() {
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"abc"), Ok(3));
    check_eq!(sys::write(writer, b"defg"), Ok(4));
    let mut part = [0; 5];
    check_eq!(sys::read(reader, &mut part), Ok(5));
    check_eq!(&part, b"abcde");
    check_eq!(sys::read(reader, &mut part), Ok(2));
    check_eq!(&part[..2], b"fg");
}

fn end_of_file_without_writers() {
    let (reader, writer) = ok!(sys::pipe(0));
    let copy = ok!(syscall!(SYS_dup, writer)) as i32;
    check_eq!(sys::write(writer, b"x"), Ok(1));
    sys::close(writer);
    in_child(|| check_eq!(sys::write(copy, b"y"), Ok(1)));
    sys::close(copy);
    check_eq!(sys::read(reader, &mut [0; 9]), Ok(2));
    check_eq!(sys::read(reader, &mut [0; 9]), Ok(0));
    check_eq!(sys::read(reader, &mut [0; 9]), Ok(0));
}

fn broken_pipe_kills() {
    let (reader, writer) = ok!(sys::pipe(0));
    sys::close(reader);
    check_eq!(killed_by(|| _ = sys::write(writer, b"x")), Some(SIGPIPE));
    check_eq!(killed_by(|| _ = sys::write(writer, b"")), None);
}

fn broken_pipe_is_epipe_when_ignored() {
    ignore(SIGPIPE);
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    sys::close(reader);
    errno_is!(sys::write(writer, b"x"), EPIPE);
    ok!(fcntl(writer, F_SETFL, O_NONBLOCK as usize));
    errno_is!(sys::write(writer, b"x"), EPIPE);
}

fn nonblocking_is_eagain() {
    let (reader, writer) = ok!(sys::pipe(O_NONBLOCK));
    errno_is!(sys::read(reader, &mut [0]), EAGAIN);
    check_eq!(sys::read(reader, &mut []), Ok(0));
    while sys::write(writer, &[0; 4096]).is_ok() {}
    errno_is!(sys::write(writer, b"x"), EAGAIN);
    sys::close(writer);
    check!(ok!(sys::read(reader, &mut [0; 100])) == 100);
}

fn capacity_is_64_kib() {
    let (reader, writer) = ok!(sys::pipe(O_NONBLOCK));
    check_eq!(fcntl(writer, F_GETPIPE_SZ, 0), Ok(1 << 16));
    check_eq!(sys::write(writer, &[7; 100_000]), Ok(1 << 16));
    check_eq!(waiting(reader), 1 << 16);
    errno_is!(sys::write(writer, b"x"), EAGAIN);
    let mut part = vec![0; 4096];
    check_eq!(sys::read(reader, &mut part), Ok(4096));
    check_eq!(sys::write(writer, &[7; 100_000]), Ok(4096));
}

fn capacity_can_be_set() {
    let (reader, writer) = ok!(sys::pipe(O_NONBLOCK));
    check_eq!(fcntl(reader, F_SETPIPE_SZ, 5000), Ok(8192));
    check_eq!(fcntl(writer, F_GETPIPE_SZ, 0), Ok(8192));
    check_eq!(sys::write(writer, &[1; 9000]), Ok(8192));
    errno_is!(fcntl(writer, F_SETPIPE_SZ, 4096), EBUSY);
    check_eq!(fcntl(writer, F_SETPIPE_SZ, 1 << 17), Ok(1 << 17));
    check_eq!(waiting(reader), 8192);
    check_eq!(sys::write(writer, &[1; 4096]), Ok(4096));
    sys::become_unprivileged();
    errno_is!(fcntl(writer, F_SETPIPE_SZ, 1 << 24), EPERM);
}

fn capacity_has_limits() {
    const LARGEST: usize = 1 << 20;
    let (_reader, writer) = ok!(sys::pipe(0));
    for size in [0, 1, 4096] {
        check_eq!(fcntl(writer, F_SETPIPE_SZ, size), Ok(4096));
    }
    in_child(|| {
        sys::become_unprivileged();
        check_eq!(fcntl(writer, F_SETPIPE_SZ, LARGEST), Ok(LARGEST));
        errno_is!(fcntl(writer, F_SETPIPE_SZ, LARGEST + 1), EPERM);
        errno_is!(syscall!(SYS_fcntl, writer, F_SETPIPE_SZ, 1_u64 << 31), EPERM);
    });
    check_eq!(fcntl(writer, F_GETPIPE_SZ, 0), Ok(LARGEST));
    errno_is!(syscall!(SYS_fcntl, writer, F_SETPIPE_SZ, (1_u64 << 31) + 1), EINVAL);
    errno_is!(fcntl(ok!(sys::open("/dev/null", O_WRONLY, 0)), F_SETPIPE_SZ, 4096), EBADF);
}

fn small_writes_are_whole() {
    let (reader, writer) = ok!(sys::pipe(0));
    let children: Vec<_> = (1..=3_u8)
        .map(|number| {
            Child::spawn(|| (0..30).for_each(|_| check_eq!(sys::write(writer, &[number; 4096]), Ok(4096))))
        })
        .collect();
    sys::close(writer);
    let (mut all, mut part) = (Vec::new(), [0; 1000]);
    loop {
        match ok!(sys::read(reader, &mut part)) {
            0 => break,
            count => all.extend_from_slice(&part[..count]),
        }
    }
    children.into_iter().for_each(Child::join);
    check_eq!(all.len(), 90 * 4096);
    check!(all.chunks(4096).all(|record| record.iter().all(|byte| *byte == record[0])));
}

fn nonblocking_small_write_is_all_or_nothing() {
    let (reader, writer) = ok!(sys::pipe(O_NONBLOCK));
    while sys::write(writer, &[0; 4096]).is_ok() {}
    check_eq!(sys::read(reader, &mut [0; 100]), Ok(100));
    errno_is!(sys::write(writer, &[1; 4096]), EAGAIN);
    check_eq!(waiting(reader), (1 << 16) - 100);
}

fn big_write_goes_on_as_room_comes() {
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        let bytes: Vec<u8> = (0..300_000).map(|index| (index % 251) as u8).collect();
        check_eq!(sys::write(writer, &bytes), Ok(300_000));
    });
    sys::close(writer);
    let (mut all, mut part) = (Vec::new(), vec![0; 7000]);
    loop {
        match ok!(sys::read(reader, &mut part)) {
            0 => break,
            count => all.extend_from_slice(&part[..count]),
        }
    }
    child.join();
    check_eq!(all.len(), 300_000);
    check!(all.iter().enumerate().all(|(index, &byte)| byte == (index % 251) as u8));
}

fn big_write_ends_with_the_reader() {
    ignore(SIGPIPE);
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        sys::close(writer);
        check_eq!(sys::read(reader, &mut vec![0; 4096]), Ok(4096));
        sys::sleep_us(20_000);
    });
    sys::close(reader);
    let written = ok!(sys::write(writer, &[0; 300_000]));
    check!((65_536..300_000).contains(&written), "{written} bytes written");
    errno_is!(sys::write(writer, b"x"), EPIPE);
    child.join();
}

fn blocked_reader_wakes() {
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        let mut part = [0; 10];
        check_eq!(sys::read(reader, &mut part), Ok(3));
        check_eq!(&part[..3], b"now");
    });
    sys::sleep_us(20_000);
    check_eq!(sys::write(writer, b"now"), Ok(3));
    child.join();
}

fn blocked_reader_sees_the_end() {
    let (reader, writer) = ok!(sys::pipe(0));
    let child = Child::spawn(|| {
        sys::close(writer);
        check_eq!(sys::read(reader, &mut [0; 10]), Ok(0));
    });
    sys::sleep_us(20_000);
    sys::close(writer);
    child.join();
}

fn blocked_writer_sees_the_end() {
    ignore(SIGPIPE);
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, &[0; 1 << 16]), Ok(1 << 16));
    let child = Child::spawn(|| {
        sys::close(reader);
        errno_is!(sys::write(writer, b"x"), EPIPE);
    });
    sys::sleep_us(20_000);
    sys::close(reader);
    child.join();
}

fn packet_mode_keeps_packets() {
    let (reader, writer) = ok!(sys::pipe(O_DIRECT));
    for packet in [&b"first"[..], b"2nd", &[9; 100]] {
        check_eq!(sys::write(writer, packet), Ok(packet.len()));
    }
    let mut part = [0; 50];
    check_eq!(sys::read(reader, &mut part), Ok(5));
    check_eq!(&part[..5], b"first");
    // What does not fit is lost.
    check_eq!(sys::read(reader, &mut part[..2]), Ok(2));
    check_eq!(sys::read(reader, &mut part), Ok(50));
    sys::close(writer);
    check_eq!(sys::read(reader, &mut part), Ok(0));
}

fn fionread_counts() {
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(waiting(reader), 0);
    check_eq!(sys::write(writer, b"abcde"), Ok(5));
    check_eq!(sys::read(reader, &mut [0; 2]), Ok(2));
    check_eq!(waiting(reader), 3);
    check_eq!(waiting(writer), 3);
    let fd = tmp::file(b"0123456789");
    check_eq!(sys::read(fd, &mut [0; 2]), Ok(2));
    check_eq!(waiting(fd), 8);
    errno_is!(syscall!(SYS_ioctl, fd, libc::TCGETS, free_range(1)), ENOTTY);
    errno_is!(syscall!(SYS_ioctl, 999, libc::FIONREAD, 0), EBADF);
}

fn flags_and_errors() {
    let (reader, writer) = ok!(sys::pipe(O_NONBLOCK | O_CLOEXEC));
    for fd in [reader, writer] {
        check_eq!(fcntl(fd, libc::F_GETFD, 0), Ok(1));
        check_eq!(ok!(fcntl(fd, F_GETFL, 0)) as i32 & O_NONBLOCK, O_NONBLOCK);
    }
    check_eq!(ok!(fcntl(writer, F_GETFL, 0)) as i32 & 3, O_WRONLY);
    errno_is!(sys::write(reader, b"x"), EBADF);
    errno_is!(sys::read(writer, &mut [0]), EBADF);
    errno_is!(sys::pipe(libc::O_APPEND), EINVAL);
    errno_is!(sys::pipe(1 << 30), EINVAL);
    let mut ends = [0_i32; 2];
    ok!(syscall!(SYS_pipe, ends.as_mut_ptr()));
    check_eq!(sys::write(ends[1], b"x"), Ok(1));
    check_eq!(sys::read(ends[0], &mut [0]), Ok(1));
}

fn bad_pointer_is_efault() {
    let next = ok!(syscall!(SYS_dup, 1));
    sys::close(next as i32);
    errno_is!(syscall!(SYS_pipe2, free_range(1), 0), EFAULT);
    check_eq!(syscall!(SYS_dup, 1), Ok(next), "no descriptor is left behind");
    let (reader, writer) = ok!(sys::pipe(0));
    errno_is!(syscall!(SYS_write, writer, free_range(1), 10), EFAULT);
    check_eq!(waiting(reader), 0);
    check_eq!(sys::write(writer, b"kept"), Ok(4));
    errno_is!(syscall!(SYS_read, reader, free_range(1), 10), EFAULT);
    let mut part = [0; 10];
    check_eq!(sys::read(reader, &mut part), Ok(4));
    check_eq!(&part[..4], b"kept");
}

fn opened_again_through_proc() {
    let (reader, writer) = ok!(sys::pipe(0));
    let again = open(&format!("/proc/self/fd/{reader}"), O_WRONLY);
    sys::close(writer);
    check_eq!(sys::write(again, b"x"), Ok(1));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    let name = ok!(readlink(&format!("/proc/self/fd/{reader}")));
    check_eq!(name, format!("pipe:[{}]", ok!(fstat(reader)).st_ino));
}

extern "C" fn nothing(_: i32) {}

fn interrupted_read_is_eintr() {
    let (reader, _writer) = ok!(sys::pipe(0));
    let ready = Turn::new();
    let child = Child::spawn(|| {
        // SAFETY: the handler does nothing; without SA_RESTART the call ends.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        }
        ready.post();
        errno_is!(sys::read(reader, &mut [0]), EINTR);
    });
    ready.wait();
    sys::sleep_us(50_000);
    ok!(sys::kill(child.pid, libc::SIGUSR1));
    child.join();
}
