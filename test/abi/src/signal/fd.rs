// SPDX-License-Identifier: MPL-2.0

//! signalfd(2).

use libc::*;

use super::*;
use crate::child::Child;

pub const CASES: &[Case] = cases!["signal/fd":
    pending_signal_is_read,
    nothing_is_eagain,
    read_waits_for_a_signal,
    several_are_read_at_once,
    small_buffer_is_einval,
    set_can_be_changed,
    not_a_signalfd_is_einval,
    bad_arguments_are_einval,
    poll_tells_readable,
    value_is_told,
    child_reads_its_own,
];

fn open(set: u64, flags: i32) -> i32 {
    ok!(syscall!(SYS_signalfd4, -1_i32, &raw const set, 8, flags)) as i32
}

/// Reads one record, as 32-bit words.
fn read_one(fd: i32) -> sys::Result<Vec<i32>> {
    let mut bytes = [0_u8; 128];
    let count = sys::read(fd, &mut bytes)?;
    check_eq!(count, 128);
    Ok(bytes.chunks(4).map(|word| i32::from_ne_bytes(word.try_into().expect("four bytes"))).collect())
}

fn pending_signal_is_read() {
    set_mask(bit(SIGUSR1));
    let fd = open(bit(SIGUSR1), 0);
    raise_process(SIGUSR1);
    let record = ok!(read_one(fd));
    check_eq!((record[0], record[2], record[3]), (SIGUSR1, SI_USER, sys::getpid()));
    check_eq!(pending(), 0);
}

fn nothing_is_eagain() {
    set_mask(bit(SIGUSR1) | bit(SIGUSR2));
    let fd = open(bit(SIGUSR1), SFD_NONBLOCK);
    raise_process(SIGUSR2);
    errno_is!(read_one(fd), EAGAIN);
}

fn read_waits_for_a_signal() {
    set_mask(bit(SIGUSR1));
    let fd = open(bit(SIGUSR1), 0);
    let parent = sys::getpid();
    let child = Child::spawn(move || {
        a_while();
        ok!(sys::kill(parent, SIGUSR1));
    });
    check_eq!(ok!(read_one(fd))[3], child.pid);
    child.join();
}

fn several_are_read_at_once() {
    set_mask(bit(RT) | bit(SIGUSR1));
    let fd = open(bit(RT) | bit(SIGUSR1), 0);
    for signal in [RT, RT, SIGUSR1] {
        raise_process(signal);
    }
    let mut bytes = [0_u8; 128 * 5];
    check_eq!(sys::read(fd, &mut bytes), Ok(128 * 3));
    check_eq!((bytes[0], bytes[128], bytes[256]), (SIGUSR1 as u8, RT as u8, RT as u8));
}

fn small_buffer_is_einval() {
    let fd = open(bit(SIGUSR1), SFD_NONBLOCK);
    errno_is!(sys::read(fd, &mut [0; 127]), EINVAL);
}

fn set_can_be_changed() {
    set_mask(bit(SIGUSR1) | bit(SIGUSR2));
    let fd = open(bit(SIGUSR1), SFD_NONBLOCK);
    raise_process(SIGUSR2);
    errno_is!(read_one(fd), EAGAIN);
    let set = bit(SIGUSR2);
    check_eq!(syscall!(SYS_signalfd4, fd, &raw const set, 8, 0), Ok(fd as usize));
    check_eq!(ok!(read_one(fd))[0], SIGUSR2);
}

fn not_a_signalfd_is_einval() {
    let (reader, _) = ok!(sys::pipe(0));
    let set = 0_u64;
    errno_is!(syscall!(SYS_signalfd4, reader, &raw const set, 8, 0), EINVAL);
    errno_is!(syscall!(SYS_signalfd4, 1000, &raw const set, 8, 0), EBADF);
}

fn bad_arguments_are_einval() {
    let set = 0_u64;
    errno_is!(syscall!(SYS_signalfd4, -1_i32, &raw const set, 8, 1), EINVAL);
    errno_is!(syscall!(SYS_signalfd4, -1_i32, &raw const set, 4, 0), EINVAL);
}

fn poll_tells_readable() {
    set_mask(bit(SIGUSR1));
    let fd = open(bit(SIGUSR1), 0);
    let mut poll = [fd, POLLIN as i32];
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 0), Ok(0));
    let parent = sys::getpid();
    let child = Child::spawn(move || {
        a_while();
        ok!(sys::kill(parent, SIGUSR1));
    });
    check_eq!(syscall!(SYS_poll, poll.as_mut_ptr(), 1, 5000), Ok(1));
    check_eq!(poll[1] >> 16, POLLIN as i32);
    child.join();
}

fn value_is_told() {
    set_mask(bit(RT));
    let fd = open(bit(RT), 0);
    ok!(queue(sys::getpid(), RT, 4711));
    let record = ok!(read_one(fd));
    check_eq!((record[2], record[11], record[12]), (SI_QUEUE, 4711, 4711));
}

fn child_reads_its_own() {
    set_mask(bit(SIGUSR1));
    let fd = open(bit(SIGUSR1), SFD_NONBLOCK);
    raise_process(SIGUSR1);
    crate::child::in_child(|| {
        errno_is!(read_one(fd), EAGAIN);
        raise_process(SIGUSR1);
        check_eq!(ok!(read_one(fd))[3], sys::getpid());
    });
    check_eq!(ok!(read_one(fd))[3], sys::getpid());
}
