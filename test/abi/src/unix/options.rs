// SPDX-License-Identifier: MPL-2.0

//! Options of sockets.

use libc::{
    SO_ACCEPTCONN, SO_DOMAIN, SO_ERROR, SO_PASSCRED, SO_PROTOCOL, SO_RCVBUF, SO_RCVTIMEO, SO_REUSEADDR,
    SO_SNDBUF, SO_SNDTIMEO, SO_TYPE, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET,
};

use super::{listener, pair, receive, socket};
use crate::{harness::Case, sys};

pub const CASES: &[Case] = cases!["unix/options":
    type_domain_and_protocol,
    acceptconn_tells_who_listens,
    switches_are_kept,
    buffers_are_doubled,
    error_is_told_once,
    receive_timeout_is_eagain,
    send_timeout_is_eagain,
    unknown_option_is_enoprotoopt,
    unknown_level_is_eopnotsupp,
    short_values_are_cut_or_refused,
];

fn option(fd: i32, option: i32) -> sys::Result<i32> {
    let (mut value, mut len) = (-1_i32, 4_u32);
    syscall!(SYS_getsockopt, fd, SOL_SOCKET, option, &raw mut value, &raw mut len)?;
    Ok(value)
}

fn set(fd: i32, option: i32, value: i32) -> sys::Result {
    syscall!(SYS_setsockopt, fd, SOL_SOCKET, option, &raw const value, 4)
}

fn type_domain_and_protocol() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let fd = socket(kind);
        check_eq!(option(fd, SO_TYPE), Ok(kind));
        check_eq!((option(fd, SO_DOMAIN), option(fd, SO_PROTOCOL)), (Ok(1), Ok(0)));
    }
}

fn acceptconn_tells_who_listens() {
    check_eq!(option(socket(SOCK_STREAM), SO_ACCEPTCONN), Ok(0));
    check_eq!(option(listener(SOCK_STREAM, 1).0, SO_ACCEPTCONN), Ok(1));
}

fn switches_are_kept() {
    let fd = socket(SOCK_STREAM);
    for switch in [SO_REUSEADDR, SO_PASSCRED, libc::SO_KEEPALIVE, libc::SO_BROADCAST] {
        check_eq!(option(fd, switch), Ok(0));
        ok!(set(fd, switch, 1));
        check_eq!(option(fd, switch), Ok(1));
        ok!(set(fd, switch, 0));
        check_eq!(option(fd, switch), Ok(0));
    }
}

fn buffers_are_doubled() {
    let fd = socket(SOCK_STREAM);
    for buffer in [SO_SNDBUF, SO_RCVBUF] {
        check!(ok!(option(fd, buffer)) >= 65536);
        ok!(set(fd, buffer, 20_000));
        check_eq!(option(fd, buffer), Ok(40_000));
        ok!(set(fd, buffer, 1));
        check!(ok!(option(fd, buffer)) > 1000);
    }
}

fn error_is_told_once() {
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"x"), Ok(1));
    sys::close(other);
    check_eq!(option(one, SO_ERROR), Ok(libc::ECONNRESET));
    check_eq!(option(one, SO_ERROR), Ok(0));
}

fn set_timeout(fd: i32, option: i32, micros: i64) {
    ok!(syscall!(SYS_setsockopt, fd, SOL_SOCKET, option, [0, micros].as_ptr(), 16));
}

fn receive_timeout_is_eagain() {
    let (one, _other) = pair(SOCK_STREAM);
    set_timeout(one, SO_RCVTIMEO, 50_000);
    let start = sys::monotonic_ms();
    errno_is!(receive(one, &mut [0], 0), EAGAIN);
    check!((40..2000).contains(&(sys::monotonic_ms() - start)));
    let (server, _address) = listener(SOCK_STREAM, 1);
    set_timeout(server, SO_RCVTIMEO, 20_000);
    errno_is!(super::accept(server), EAGAIN);
}

fn send_timeout_is_eagain() {
    let (one, _other) = pair(SOCK_STREAM);
    set_timeout(one, SO_SNDTIMEO, 20_000);
    let mut written = 0;
    loop {
        match sys::write(one, &[0; 65536]) {
            Ok(count) => written += count,
            Err(error) => {
                check_eq!(error, sys::Errno(libc::EAGAIN));
                break;
            }
        }
    }
    check!(written > 32768);
}

fn unknown_option_is_enoprotoopt() {
    let fd = socket(SOCK_STREAM);
    errno_is!(option(fd, 999), ENOPROTOOPT);
    errno_is!(set(fd, 999, 1), ENOPROTOOPT);
    errno_is!(set(fd, SO_TYPE, 1), ENOPROTOOPT);
}

fn unknown_level_is_eopnotsupp() {
    let (fd, value) = (socket(SOCK_STREAM), 1_i32);
    let mut len = 4_u32;
    errno_is!(syscall!(SYS_setsockopt, fd, libc::IPPROTO_TCP, 1, &raw const value, 4), EOPNOTSUPP);
    errno_is!(syscall!(SYS_getsockopt, fd, libc::IPPROTO_TCP, 1, &raw const value, &raw mut len), EOPNOTSUPP);
}

fn short_values_are_cut_or_refused() {
    let (fd, mut value) = (socket(SOCK_STREAM), [0xff_u8; 4]);
    let mut len = 2_u32;
    ok!(syscall!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, value.as_mut_ptr(), &raw mut len));
    check_eq!((len, value), (2, [1, 0, 0xff, 0xff]));
    errno_is!(syscall!(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, value.as_ptr(), 2), EINVAL);
    let mut negative = -1_i32;
    errno_is!(syscall!(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, value.as_ptr(), &raw mut negative), EINVAL);
}
