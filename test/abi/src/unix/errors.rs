// SPDX-License-Identifier: MPL-2.0

//! Calls that fail: wrong numbers, wrong states, wrong addresses.

use libc::{AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};

use super::{
    Address, accept, bind, connect, listen, listener, own_name, pair, peer_name, receive, send, socket,
};
use crate::{harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["unix/errors":
    types_and_protocols,
    not_a_socket_is_enotsock,
    bad_descriptor_is_ebadf,
    bind_twice_is_einval,
    name_in_use_is_eaddrinuse,
    bind_in_a_missing_folder_is_enoent,
    bad_address_lengths_are_einval,
    other_family_is_einval,
    listen_without_address_is_einval,
    connect_of_a_listener_is_einval,
    accept_without_listening_is_einval,
    stream_without_connection,
    seqpacket_without_connection,
    address_for_a_stream,
    bad_pointers_are_efault,
    oob_is_eopnotsupp_for_packets,
    unwritable_socket_is_eacces,
    accept4_flags_are_checked,
    socketpair_with_bad_pointer_leaks_nothing,
];

fn types_and_protocols() {
    let new = |domain: i32, kind: i32, protocol: i32| syscall!(SYS_socket, domain, kind, protocol);
    errno_is!(new(AF_UNIX, 99, 0), EINVAL);
    errno_is!(new(AF_UNIX, 0, 0), ESOCKTNOSUPPORT);
    errno_is!(new(AF_UNIX, SOCK_STREAM | 0x100, 0), EINVAL);
    errno_is!(new(AF_UNIX, SOCK_STREAM, 99), EPROTONOSUPPORT);
    errno_is!(new(99, SOCK_STREAM, 0), EAFNOSUPPORT);
    errno_is!(new(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
    sys::close(ok!(new(AF_UNIX, SOCK_STREAM, 1)) as i32);
}

fn not_a_socket_is_enotsock() {
    let file = tmp::file(b"");
    errno_is!(bind(file, &Address::fresh()), ENOTSOCK);
    errno_is!(connect(file, &Address::fresh()), ENOTSOCK);
    errno_is!(listen(file, 1), ENOTSOCK);
    errno_is!(accept(file), ENOTSOCK);
    errno_is!(send(file, b"x", 0), ENOTSOCK);
    errno_is!(receive(file, &mut [0], 0), ENOTSOCK);
    errno_is!(syscall!(SYS_shutdown, file, 0), ENOTSOCK);
    errno_is!(own_name(file), ENOTSOCK);
    errno_is!(peer_name(file), ENOTSOCK);
}

fn bad_descriptor_is_ebadf() {
    errno_is!(bind(999, &Address::fresh()), EBADF);
    errno_is!(listen(-1, 1), EBADF);
    errno_is!(send(999, b"x", 0), EBADF);
}

fn bind_twice_is_einval() {
    let fd = socket(SOCK_STREAM);
    ok!(bind(fd, &Address::fresh()));
    errno_is!(bind(fd, &Address::of_path(&tmp::path())), EINVAL);
}

fn name_in_use_is_eaddrinuse() {
    let (fd, address) = listener(SOCK_STREAM, 1);
    errno_is!(bind(socket(SOCK_STREAM), &address), EADDRINUSE);
    sys::close(fd);
    ok!(bind(socket(SOCK_STREAM), &address));
}

fn bind_in_a_missing_folder_is_enoent() {
    let path = format!("{}/none/x", tmp::dir());
    errno_is!(bind(socket(SOCK_STREAM), &Address::of_path(&path)), ENOENT);
}

fn bad_address_lengths_are_einval() {
    let (fd, address) = (socket(SOCK_STREAM), Address::fresh());
    for len in [0, 1, 111, 200, -1_i32] {
        errno_is!(syscall!(SYS_bind, fd, &raw const address.0, len), EINVAL);
        errno_is!(syscall!(SYS_connect, fd, &raw const address.0, len), EINVAL);
    }
}

fn other_family_is_einval() {
    let (fd, mut address) = (socket(SOCK_STREAM), Address::fresh());
    address.0.sun_family = libc::AF_INET as u16;
    errno_is!(bind(fd, &address), EINVAL);
    errno_is!(connect(fd, &address), EINVAL);
}

fn listen_without_address_is_einval() {
    errno_is!(listen(socket(SOCK_STREAM), 1), EINVAL);
}

fn connect_of_a_listener_is_einval() {
    let ((first, _), (_second, address)) = (listener(SOCK_STREAM, 1), {
        sys::sleep_us(2000);
        listener(SOCK_STREAM, 1)
    });
    errno_is!(connect(first, &address), EINVAL);
}

fn accept_without_listening_is_einval() {
    errno_is!(accept(socket(SOCK_STREAM)), EINVAL);
    errno_is!(accept(pair(SOCK_STREAM).0), EINVAL);
}

fn stream_without_connection() {
    let fd = socket(SOCK_STREAM);
    errno_is!(receive(fd, &mut [0], 0), EINVAL);
    errno_is!(send(fd, b"x", 0), ENOTCONN);
    errno_is!(peer_name(fd), ENOTCONN);
    ok!(syscall!(SYS_shutdown, fd, 2));
}

fn seqpacket_without_connection() {
    let fd = socket(SOCK_SEQPACKET);
    errno_is!(receive(fd, &mut [0], 0), ENOTCONN);
    errno_is!(send(fd, b"x", 0), ENOTCONN);
}

fn address_for_a_stream() {
    errno_is!(super::send_to(socket(SOCK_STREAM), b"x", &Address::fresh()), EOPNOTSUPP);
    errno_is!(super::send_to(pair(SOCK_STREAM).0, b"x", &Address::fresh()), EISCONN);
}

fn bad_pointers_are_efault() {
    const NOWHERE: usize = 8;
    let (one, other) = pair(SOCK_STREAM);
    errno_is!(syscall!(SYS_sendto, one, NOWHERE, 4, 0, 0, 0), EFAULT);
    errno_is!(syscall!(SYS_bind, socket(SOCK_STREAM), NOWHERE, 20), EFAULT);
    errno_is!(syscall!(SYS_sendmsg, one, NOWHERE, 0), EFAULT);
    errno_is!(syscall!(SYS_getsockname, one, NOWHERE, NOWHERE), EFAULT);
    check_eq!(send(other, b"kept", 0), Ok(4));
    errno_is!(syscall!(SYS_recvfrom, one, NOWHERE, 4, 0, 0, 0), EFAULT);
    check_eq!(receive(one, &mut [0; 9], libc::MSG_DONTWAIT), Ok(4));
}

fn oob_is_eopnotsupp_for_packets() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let (one, _other) = pair(kind);
        errno_is!(send(one, b"x", libc::MSG_OOB), EOPNOTSUPP);
        errno_is!(receive(one, &mut [0], libc::MSG_OOB), EOPNOTSUPP);
    }
}

fn unwritable_socket_is_eacces() {
    if ok!(syscall!(SYS_getuid)) != 0 {
        skip!("only root can become another user");
    }
    let path = tmp::path();
    let server = socket(SOCK_STREAM);
    ok!(bind(server, &Address::of_path(&path)));
    ok!(listen(server, 1));
    let path_string = sys::c_string(&path);
    ok!(syscall!(SYS_chmod, path_string.as_ptr(), 0o700));
    crate::child::in_child(|| {
        sys::become_unprivileged();
        errno_is!(connect(socket(SOCK_STREAM), &Address::of_path(&path)), EACCES);
    });
}

fn accept4_flags_are_checked() {
    errno_is!(syscall!(SYS_accept4, listener(SOCK_STREAM, 1).0, 0, 0, 1), EINVAL);
}

fn socketpair_with_bad_pointer_leaks_nothing() {
    let before = tmp::file(b"");
    sys::close(before);
    errno_is!(syscall!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 8), EFAULT);
    check_eq!(tmp::file(b""), before);
}
