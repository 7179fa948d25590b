// SPDX-License-Identifier: MPL-2.0

//! Datagrams: to an address, to a peer, to nobody.

use libc::{MSG_DONTWAIT, MSG_PEEK, POLLIN, POLLOUT, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM};

use super::{Address, bind, connect, own_name, pair, ready, receive, send, send_to, socket};
use crate::{child::Child, harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["unix/datagram":
    goes_to_an_address,
    tells_the_senders_address,
    sender_without_address_has_none,
    connected_socket_needs_no_address,
    connected_socket_hears_only_its_peer,
    unconnected_send_is_enotconn,
    to_nobody_is_econnrefused,
    to_a_stream_is_eprototype,
    peer_that_is_gone_is_econnrefused,
    unspecified_address_disconnects,
    pair_keeps_bounds,
    bound_to_any_gets_a_name,
    queue_is_bounded,
    blocked_sender_goes_on_when_read,
    peek_leaves_the_message,
    message_can_be_too_long,
    poll_tells_the_states,
    listen_and_accept_are_eopnotsupp,
    file_that_is_no_socket_is_econnrefused,
];

fn bound() -> (i32, Address) {
    let (fd, address) = (socket(SOCK_DGRAM), Address::fresh());
    ok!(bind(fd, &address));
    (fd, address)
}

fn goes_to_an_address() {
    let (receiver, address) = bound();
    let sender = socket(SOCK_DGRAM);
    check_eq!(send_to(sender, b"one", &address), Ok(3));
    check_eq!(send_to(sender, b"three", &address), Ok(5));
    let mut bytes = [0; 10];
    check_eq!((receive(receiver, &mut bytes, 0), &bytes[..3]), (Ok(3), &b"one"[..]));
    check_eq!((receive(receiver, &mut bytes, 0), &bytes[..5]), (Ok(5), &b"three"[..]));
}

fn received_from(fd: i32) -> Vec<u8> {
    let mut bytes = [0_u8; 8];
    ok!(super::name(|name, len| {
        syscall!(SYS_recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), 0, name, len)
    }))
}

fn tells_the_senders_address() {
    let (receiver, address) = bound();
    let path = tmp::path();
    let sender = socket(SOCK_DGRAM);
    ok!(bind(sender, &Address::of_path(&path)));
    ok!(send_to(sender, b"x", &address));
    check_eq!(received_from(receiver), [&[1, 0], path.as_bytes(), &[0]].concat());
}

fn sender_without_address_has_none() {
    let (receiver, address) = bound();
    ok!(send_to(socket(SOCK_DGRAM), b"x", &address));
    check_eq!(received_from(receiver), b"");
}

fn connected_socket_needs_no_address() {
    let (receiver, address) = bound();
    let sender = socket(SOCK_DGRAM);
    ok!(connect(sender, &address));
    check_eq!(send(sender, b"x", 0), Ok(1));
    check_eq!(sys::write(sender, b"yz"), Ok(2));
    check_eq!((sys::read(receiver, &mut [0; 4]), sys::read(receiver, &mut [0; 4])), (Ok(1), Ok(2)));
}

fn connected_socket_hears_only_its_peer() {
    let ((one, first), (_other, second)) = (bound(), {
        sys::sleep_us(2000);
        bound()
    });
    ok!(connect(one, &second));
    errno_is!(send_to(socket(SOCK_DGRAM), b"x", &first), EPERM);
    errno_is!(connect(socket(SOCK_DGRAM), &first), EPERM);
}

fn unconnected_send_is_enotconn() {
    errno_is!(send(socket(SOCK_DGRAM), b"x", 0), ENOTCONN);
}

fn to_nobody_is_econnrefused() {
    errno_is!(send_to(socket(SOCK_DGRAM), b"x", &Address::fresh()), ECONNREFUSED);
    errno_is!(send_to(socket(SOCK_DGRAM), b"x", &Address::of_path(&tmp::path())), ENOENT);
}

fn to_a_stream_is_eprototype() {
    let path = tmp::path();
    let stream = socket(SOCK_STREAM);
    ok!(bind(stream, &Address::of_path(&path)));
    errno_is!(connect(socket(SOCK_DGRAM), &Address::of_path(&path)), EPROTOTYPE);
    errno_is!(send_to(socket(SOCK_DGRAM), b"x", &Address::of_path(&path)), EPROTOTYPE);
}

fn peer_that_is_gone_is_econnrefused() {
    let (receiver, address) = bound();
    let sender = socket(SOCK_DGRAM);
    ok!(connect(sender, &address));
    sys::close(receiver);
    errno_is!(send(sender, b"x", 0), ECONNREFUSED);
    errno_is!(send(sender, b"x", 0), ENOTCONN);
}

fn unspecified_address_disconnects() {
    let (_receiver, address) = bound();
    let sender = socket(SOCK_DGRAM);
    ok!(connect(sender, &address));
    ok!(syscall!(SYS_connect, sender, [0_u16; 8].as_ptr(), 16));
    errno_is!(send(sender, b"x", 0), ENOTCONN);
}

fn pair_keeps_bounds() {
    let (one, other) = pair(SOCK_DGRAM);
    check_eq!((sys::write(one, b"abc"), sys::write(one, b"")), (Ok(3), Ok(0)));
    check_eq!(sys::read(other, &mut [0; 2]), Ok(2));
    check_eq!(receive(other, &mut [0; 2], MSG_DONTWAIT), Ok(0));
    errno_is!(receive(other, &mut [0; 2], MSG_DONTWAIT), EAGAIN);
}

fn bound_to_any_gets_a_name() {
    let fd = socket(SOCK_DGRAM);
    ok!(syscall!(SYS_bind, fd, [1_u16].as_ptr(), 2));
    let name = ok!(own_name(fd));
    check_eq!((name.len(), &name[..3]), (8, &[1, 0, 0][..]));
    check!(name[3..].iter().all(u8::is_ascii_hexdigit), "{name:?}");
}

fn queue_is_bounded() {
    let (receiver, address) = bound();
    let sender = socket(SOCK_DGRAM | SOCK_NONBLOCK);
    let sent = (0..1000).take_while(|_| send_to(sender, b"x", &address).is_ok()).count();
    check!((2..1000).contains(&sent), "{sent} datagrams");
    errno_is!(send_to(sender, b"x", &address), EAGAIN);
    check_eq!(sys::read(receiver, &mut [0]), Ok(1));
    ok!(send_to(sender, b"x", &address));
}

fn blocked_sender_goes_on_when_read() {
    let (receiver, address) = bound();
    let child = Child::spawn(|| {
        let sender = socket(SOCK_DGRAM);
        for index in 0..200_u8 {
            check_eq!(send_to(sender, &[index], &address), Ok(1));
        }
    });
    sys::sleep_us(20_000);
    for index in 0..200 {
        let mut byte = [0];
        check_eq!((receive(receiver, &mut byte, 0), byte[0]), (Ok(1), index));
    }
    child.join();
}

fn peek_leaves_the_message() {
    let (one, other) = pair(SOCK_DGRAM);
    check_eq!(sys::write(one, b"abc"), Ok(3));
    check_eq!(receive(other, &mut [0; 9], MSG_PEEK), Ok(3));
    check_eq!(receive(other, &mut [0; 9], 0), Ok(3));
}

fn message_can_be_too_long() {
    let (one, _other) = pair(SOCK_DGRAM);
    errno_is!(sys::write(one, &vec![0; 8 << 20]), EMSGSIZE);
}

fn poll_tells_the_states() {
    let (one, other) = pair(SOCK_DGRAM);
    check_eq!(ready(one) & (POLLIN | POLLOUT), POLLOUT);
    check_eq!(sys::write(other, b"x"), Ok(1));
    check_eq!(ready(one) & (POLLIN | POLLOUT), POLLIN | POLLOUT);
}

fn listen_and_accept_are_eopnotsupp() {
    let (fd, _address) = bound();
    errno_is!(super::listen(fd, 1), EOPNOTSUPP);
    errno_is!(super::accept(fd), EOPNOTSUPP);
}

fn file_that_is_no_socket_is_econnrefused() {
    let (_fd, path) = tmp::named_file(b"");
    errno_is!(connect(socket(SOCK_DGRAM), &Address::of_path(&path)), ECONNREFUSED);
    errno_is!(connect(socket(SOCK_STREAM), &Address::of_path(&path)), ECONNREFUSED);
}
