// SPDX-License-Identifier: MPL-2.0

//! Packet mode, and what else only `ioctl_tty(2)` knows.

use libc::{O_NOCTTY, POLLIN, POLLPRI};

use super::{Pair, make_raw, open_slave, pair, read, ready, set, type_in};
use crate::{child::in_child, harness::Case, sys};

pub const CASES: &[Case] = cases!["tty/packet":
    data_has_a_zero_in_front,
    flushes_are_told,
    flow_is_told,
    change_of_flow_control_is_told,
    interrupt_tells_of_flushes,
    opposites_cancel,
    what_was_before_is_not_told,
    bad_address_takes_nothing,
    terminal_has_no_packet_mode,
    pushed_byte_is_input,
    pushing_needs_privilege,
    exclusive_terminal_opens_for_root_alone,
];

// The C library has names for these, the crate has not.
const TIOCPKT_DATA: i32 = 0;
const TIOCPKT_FLUSHREAD: i32 = 1;
const TIOCPKT_FLUSHWRITE: i32 = 2;
const TIOCPKT_STOP: i32 = 4;
const TIOCPKT_START: i32 = 8;
const TIOCPKT_NOSTOP: i32 = 16;
const TIOCPKT_DOSTOP: i32 = 32;

fn set_packet_mode(fd: i32, mode: i32) -> sys::Result {
    syscall!(SYS_ioctl, fd, libc::TIOCPKT, &raw const mode)
}

fn packet_mode(fd: i32) -> i32 {
    let mut mode = -1_i32;
    ok!(syscall!(SYS_ioctl, fd, libc::TIOCGPKT, &raw mut mode));
    mode
}

fn packet_pair() -> Pair {
    let pair = pair();
    check_eq!(packet_mode(pair.master), 0);
    ok!(set_packet_mode(pair.master, 5));
    check_eq!(packet_mode(pair.master), 1);
    check_eq!(ready(pair.master, POLLIN | POLLPRI), 0);
    pair
}

/// What the master is told next.
#[track_caller]
fn is_told(pair: &Pair, status: i32) {
    check_eq!(ready(pair.master, POLLIN | POLLPRI), POLLIN | POLLPRI);
    check_eq!(read(pair.master), [status as u8]);
    check_eq!(ready(pair.master, POLLPRI), 0);
}

fn data_has_a_zero_in_front() {
    let pair = packet_pair();
    check_eq!(sys::write(pair.slave, b"ab"), Ok(2));
    check_eq!(ready(pair.master, POLLIN | POLLPRI), POLLIN);
    let mut buffer = [9; 2];
    check_eq!(sys::read(pair.master, &mut buffer), Ok(2));
    check_eq!(buffer, [TIOCPKT_DATA as u8, b'a']);
    check_eq!(read(pair.master), [TIOCPKT_DATA as u8, b'b']);
    check_eq!(sys::write(pair.slave, b"c"), Ok(1));
    ok!(set_packet_mode(pair.master, 0));
    check_eq!(packet_mode(pair.master), 0);
    check_eq!(read(pair.master), b"c");
}

fn flushes_are_told() {
    let pair = packet_pair();
    for (queue, status) in [
        (libc::TCIFLUSH, TIOCPKT_FLUSHREAD),
        (libc::TCOFLUSH, TIOCPKT_FLUSHWRITE),
        (libc::TCIOFLUSH, TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE),
    ] {
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TCFLSH, queue));
        is_told(&pair, status);
    }
    errno_is!(syscall!(SYS_ioctl, pair.slave, libc::TCFLSH, 3), EINVAL);
}

fn flow_is_told() {
    let pair = packet_pair();
    // Twice is once.
    for _ in 0..2 {
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TCXONC, libc::TCOOFF));
    }
    is_told(&pair, TIOCPKT_STOP);
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TCXONC, libc::TCOON));
    is_told(&pair, TIOCPKT_START);
    type_in(&pair, b"\x13");
    is_told(&pair, TIOCPKT_STOP);
    type_in(&pair, b"\x11");
    is_told(&pair, TIOCPKT_START);
}

fn change_of_flow_control_is_told() {
    let pair = packet_pair();
    set(pair.slave, |termios| termios.c_lflag &= !libc::ECHO);
    check_eq!(ready(pair.master, POLLIN | POLLPRI), 0);
    set(pair.slave, |termios| termios.c_iflag &= !libc::IXON);
    is_told(&pair, TIOCPKT_NOSTOP);
    set(pair.slave, |termios| termios.c_iflag |= libc::IXON);
    is_told(&pair, TIOCPKT_DOSTOP);
    set(pair.slave, |termios| termios.c_cc[libc::VSTOP] = b'x');
    is_told(&pair, TIOCPKT_NOSTOP);
}

fn interrupt_tells_of_flushes() {
    let pair = packet_pair();
    set(pair.slave, |termios| termios.c_lflag &= !libc::ECHO);
    type_in(&pair, b"\x03");
    is_told(&pair, TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
    set(pair.slave, |termios| termios.c_lflag |= libc::NOFLSH);
    type_in(&pair, b"\x03");
    check_eq!(ready(pair.master, POLLIN | POLLPRI), 0);
}

fn opposites_cancel() {
    let pair = packet_pair();
    type_in(&pair, b"\x13");
    is_told(&pair, TIOCPKT_STOP);
    type_in(&pair, b"\x11\x13");
    is_told(&pair, TIOCPKT_STOP);
}

fn what_was_before_is_not_told() {
    let pair = pair();
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TCFLSH, libc::TCIFLUSH));
    ok!(set_packet_mode(pair.master, 1));
    check_eq!(ready(pair.master, POLLIN | POLLPRI), 0);
    errno_is!(syscall!(SYS_ioctl, pair.master, libc::TIOCPKT, 0), EFAULT);
}

fn bad_address_takes_nothing() {
    let pair = packet_pair();
    check_eq!(sys::write(pair.slave, b"ab"), Ok(2));
    errno_is!(syscall!(SYS_read, pair.master, crate::mem::free_range(1), 4), EFAULT);
}

fn terminal_has_no_packet_mode() {
    let pair = pair();
    errno_is!(set_packet_mode(pair.slave, 1), ENOTTY);
    errno_is!(set_packet_mode(ok!(sys::pipe(0)).0, 1), ENOTTY);
}

fn push(fd: i32, byte: u8) -> sys::Result {
    syscall!(SYS_ioctl, fd, libc::TIOCSTI, &raw const byte)
}

fn pushed_byte_is_input() {
    let pair = pair();
    make_raw(pair.slave);
    ok!(push(pair.slave, b'q'));
    check_eq!(read(pair.slave), b"q");
    errno_is!(syscall!(SYS_ioctl, pair.slave, libc::TIOCSTI, 0), EFAULT);
}

fn pushing_needs_privilege() {
    let pair = pair();
    make_raw(pair.slave);
    in_child(|| {
        sys::become_unprivileged();
        // Since Linux 6.2 it may be switched off for everybody.
        check!(matches!(push(pair.slave, b'q'), Err(sys::Errno(libc::EPERM | libc::EIO))));
    });
    check_eq!(super::unread(pair.slave), 0);
}

fn exclusive_terminal_opens_for_root_alone() {
    let pair = pair();
    let is_exclusive = || {
        let mut is = -1_i32;
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCGEXCL, &raw mut is));
        is
    };
    let path = format!("/dev/pts/{}", pair.number);
    ok!(syscall!(SYS_chmod, sys::c_string(&path).as_ptr(), 0o666));
    let open_as_nobody = |expected: Option<i32>| {
        in_child(|| {
            sys::become_unprivileged();
            check_eq!(open_slave(pair.number, O_NOCTTY).err().map(|error| error.0), expected);
        });
    };
    check_eq!(is_exclusive(), 0);
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCEXCL));
    check_eq!(is_exclusive(), 1);
    ok!(open_slave(pair.number, O_NOCTTY));
    open_as_nobody(Some(libc::EBUSY));
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCNXCL));
    open_as_nobody(None);
}
