// SPDX-License-Identifier: MPL-2.0

//! Sockets in flight that only each other hold: what went with them is closed when another socket is.

use libc::{EAGAIN, O_NONBLOCK, SOCK_DGRAM, SOCK_STREAM};

use super::{
    connect,
    control::{get, rights, send},
    listener, pair, socket,
};
use crate::{harness::Case, signal::until, sys};

pub const CASES: &[Case] = cases!["unix/garbage":
    socket_in_its_own_queue_is_collected,
    pair_in_each_others_queues_is_collected,
    long_circle_is_collected,
    circle_that_hangs_on_another_is_collected,
    listener_in_its_own_backlog_is_collected,
    circle_that_can_be_received_stays,
    chain_that_can_be_received_stays,
    many_circles_are_collected,
];

/// A pipe, whose reading end does not wait.
fn pipe() -> (i32, i32) {
    ok!(sys::pipe(O_NONBLOCK))
}

/// Closes a socket of a new pair: an occasion to look for garbage.
fn close_another_socket() {
    let (one, other) = pair(SOCK_STREAM);
    sys::close(one);
    sys::close(other);
}

/// Waits until the last writing end of the pipe has been closed.
#[track_caller]
fn until_closed(reader: i32) {
    until("the end of the pipe", || {
        close_another_socket();
        sys::read(reader, &mut [0]) == Ok(0)
    });
}

fn stays_open(reader: i32) {
    for _ in 0..5 {
        close_another_socket();
        check_eq!(sys::read(reader, &mut [0]), Err(sys::Errno(EAGAIN)));
    }
}

fn socket_in_its_own_queue_is_collected() {
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let ((reader, writer), (one, other)) = (pipe(), pair(kind));
        check_eq!(send(one, b"x", &rights(&[other, writer])), Ok(1));
        [one, other, writer].into_iter().for_each(sys::close);
        until_closed(reader);
    }
}

fn pair_in_each_others_queues_is_collected() {
    let ((reader, writer), (one, other)) = (pipe(), pair(SOCK_STREAM));
    check_eq!(send(one, b"x", &rights(&[one, writer])), Ok(1));
    check_eq!(send(other, b"x", &rights(&[other])), Ok(1));
    [one, other, writer].into_iter().for_each(sys::close);
    until_closed(reader);
}

/// The second socket of each pair is in the queue of the second of the next.
fn long_circle_is_collected() {
    let (reader, writer) = pipe();
    let pairs: Vec<_> = (0..20).map(|_| pair(SOCK_STREAM)).collect();
    for (index, (first, _)) in pairs.iter().enumerate() {
        let previous = pairs[(index + 19) % 20].1;
        check_eq!(send(*first, b"x", &rights(&[previous])), Ok(1));
    }
    check_eq!(send(pairs[7].0, b"x", &rights(&[writer])), Ok(1));
    sys::close(writer);
    for (first, second) in pairs {
        sys::close(first);
        sys::close(second);
    }
    until_closed(reader);
}

/// The pipe hangs on a socket that is in no circle itself.
fn circle_that_hangs_on_another_is_collected() {
    let ((reader, writer), (one, other), (far, tail)) = (pipe(), pair(SOCK_STREAM), pair(SOCK_STREAM));
    check_eq!(send(far, b"x", &rights(&[writer])), Ok(1));
    check_eq!(send(one, b"x", &rights(&[other, tail])), Ok(1));
    [writer, far, tail, one, other].into_iter().for_each(sys::close);
    until_closed(reader);
}

fn listener_in_its_own_backlog_is_collected() {
    let ((reader, writer), (server, address)) = (pipe(), listener(SOCK_STREAM, 1));
    let client = socket(SOCK_STREAM);
    ok!(connect(client, &address));
    check_eq!(send(client, b"x", &rights(&[server, writer])), Ok(1));
    [client, server, writer].into_iter().for_each(sys::close);
    until_closed(reader);
}

fn circle_that_can_be_received_stays() {
    let ((reader, writer), (one, other)) = (pipe(), pair(SOCK_STREAM));
    check_eq!(send(one, b"x", &rights(&[one, other, writer])), Ok(1));
    [one, writer].into_iter().for_each(sys::close);
    stays_open(reader);
    let fds = ok!(get(other, 4, 64, 0)).fds();
    check_eq!(fds.len(), 3);
    check_eq!(sys::write(fds[2], b"pipe"), Ok(4));
    check_eq!(sys::write(fds[0], b"socket"), Ok(6));
    check_eq!(sys::read(fds[1], &mut [0; 10]), Ok(6));
    check_eq!(sys::read(reader, &mut [0; 10]), Ok(4));
}

/// A circle is in the queue of a socket in the queue of a socket that is open.
fn chain_that_can_be_received_stays() {
    let ((reader, writer), (one, other)) = (pipe(), pair(SOCK_STREAM));
    check_eq!(send(one, b"x", &rights(&[other, writer])), Ok(1));
    let (near, middle) = pair(SOCK_STREAM);
    check_eq!(send(near, b"x", &rights(&[other])), Ok(1));
    let (sender, held) = pair(SOCK_STREAM);
    check_eq!(send(sender, b"x", &rights(&[middle])), Ok(1));
    [one, other, writer, near, middle, sender].into_iter().for_each(sys::close);
    stays_open(reader);
    let middle = ok!(get(held, 4, 64, 0)).fds()[0];
    stays_open(reader);
    let other = ok!(get(middle, 4, 64, 0)).fds()[0];
    stays_open(reader);
    let fds = ok!(get(other, 4, 64, 0)).fds();
    check_eq!(fds.len(), 2);
    check_eq!(sys::write(fds[1], b"x"), Ok(1));
    check_eq!(sys::read(reader, &mut [0; 10]), Ok(1));
    // Now nothing but itself holds the socket.
    [fds[0], fds[1], other, middle, held].into_iter().for_each(sys::close);
    until_closed(reader);
}

/// More than there could be at a time.
fn many_circles_are_collected() {
    let (reader, writer) = pipe();
    for _ in 0..3000 {
        let (one, other) = pair(SOCK_STREAM);
        match send(one, b"x", &rights(&[other, writer])) {
            Ok(_) => {}
            Err(error) => check_eq!(error, sys::Errno(libc::ETOOMANYREFS)),
        }
        sys::close(one);
        sys::close(other);
    }
    sys::close(writer);
    until_closed(reader);
}
