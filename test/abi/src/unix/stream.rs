// SPDX-License-Identifier: MPL-2.0

//! Streams and sequenced packets: connections and what goes over them.

use libc::{
    MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, POLLHUP, POLLIN, POLLOUT, POLLRDHUP,
    SHUT_RD, SHUT_RDWR, SHUT_WR, SIGPIPE, SOCK_NONBLOCK, SOCK_SEQPACKET, SOCK_STREAM,
};

use super::{
    Address, accept, bind, connect, ignore_sigpipe, listen, listener, own_name, pair, peer_name, ready,
    receive, send, socket,
};
use crate::{
    child::{Child, killed_by},
    harness::Case,
    sys, tmp,
};

pub const CASES: &[Case] = cases!["unix/stream":
    pair_carries_bytes_both_ways,
    bytes_of_several_writes_come_together,
    connect_by_path,
    connect_by_name,
    names_are_told,
    path_is_a_socket_file,
    end_follows_the_last_byte,
    unread_bytes_reset_the_peer,
    write_without_reader_is_epipe_and_sigpipe,
    nosignal_spares_the_signal,
    shutdown_of_writing_ends_the_peers_reading,
    shutdown_of_reading_ends_the_peers_writing,
    peek_leaves_the_bytes,
    waitall_waits_for_all,
    dontwait_is_eagain,
    full_buffer_is_eagain_until_read,
    blocked_writer_goes_on_when_read,
    accept_waits_for_a_connection,
    pending_connection_can_be_written_before_accept,
    backlog_is_bounded,
    closed_listener_refuses,
    closing_the_listener_resets_those_who_wait,
    poll_tells_the_states,
    packets_keep_their_bounds,
    packets_are_cut_off,
    empty_packet_is_a_packet,
    ioctl_tells_what_is_unread,
    readv_and_writev_work,
    large_transfer_arrives_in_order,
];

fn pair_carries_bytes_both_ways() {
    let (one, other) = pair(SOCK_STREAM);
    let mut bytes = [0; 10];
    check_eq!(sys::write(one, b"to"), Ok(2));
    check_eq!(sys::write(other, b"fro"), Ok(3));
    check_eq!((sys::read(other, &mut bytes), &bytes[..2]), (Ok(2), &b"to"[..]));
    check_eq!((sys::read(one, &mut bytes), &bytes[..3]), (Ok(3), &b"fro"[..]));
}

fn bytes_of_several_writes_come_together() {
    let (one, other) = pair(SOCK_STREAM);
    for part in ["a", "bc", "def"] {
        check_eq!(sys::write(one, part.as_bytes()), Ok(part.len()));
    }
    let mut bytes = [0; 10];
    check_eq!((sys::read(other, &mut bytes[..4]), &bytes[..4]), (Ok(4), &b"abcd"[..]));
    check_eq!((sys::read(other, &mut bytes), &bytes[..2]), (Ok(2), &b"ef"[..]));
}

fn connect_by_path() {
    let path = tmp::path();
    let (server, client) = (socket(SOCK_STREAM), socket(SOCK_STREAM));
    ok!(bind(server, &Address::of_path(&path)));
    errno_is!(connect(client, &Address::of_path(&path)), ECONNREFUSED);
    ok!(listen(server, 5));
    ok!(connect(client, &Address::of_path(&path)));
    let accepted = ok!(accept(server));
    check_eq!(sys::write(client, b"hi"), Ok(2));
    let mut bytes = [0; 10];
    check_eq!((sys::read(accepted, &mut bytes), &bytes[..2]), (Ok(2), &b"hi"[..]));
}

fn connect_by_name() {
    let (server, address) = listener(SOCK_STREAM, 5);
    let client = socket(SOCK_STREAM);
    ok!(connect(client, &address));
    let accepted = ok!(accept(server));
    check_eq!(sys::write(accepted, b"x"), Ok(1));
    check_eq!(sys::read(client, &mut [0; 4]), Ok(1));
    errno_is!(connect(client, &address), EISCONN);
}

fn names_are_told() {
    let path = tmp::path();
    let server = socket(SOCK_STREAM);
    check_eq!(own_name(server), Ok(vec![1, 0]));
    ok!(bind(server, &Address::of_path(&path)));
    let expected = [&[1, 0], path.as_bytes(), &[0]].concat();
    check_eq!(own_name(server), Ok(expected.clone()));
    errno_is!(peer_name(server), ENOTCONN);
    ok!(listen(server, 1));
    let client = socket(SOCK_STREAM);
    ok!(connect(client, &Address::of_path(&path)));
    check_eq!((own_name(client), peer_name(client)), (Ok(vec![1, 0]), Ok(expected.clone())));
    let accepted = ok!(accept(server));
    check_eq!((own_name(accepted), peer_name(accepted)), (Ok(expected), Ok(vec![1, 0])));
}

fn path_is_a_socket_file() {
    let path = tmp::path();
    ok!(bind(socket(SOCK_STREAM), &Address::of_path(&path)));
    let Ok(meta) = std::fs::symlink_metadata(&path) else { panic!("no file {path}") };
    check!(std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()));
    errno_is!(sys::open(&path, libc::O_RDWR, 0), ENXIO);
    errno_is!(bind(socket(SOCK_STREAM), &Address::of_path(&path)), EADDRINUSE);
}

fn end_follows_the_last_byte() {
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"last"), Ok(4));
    sys::close(one);
    let mut bytes = [0; 10];
    check_eq!(sys::read(other, &mut bytes), Ok(4));
    check_eq!(sys::read(other, &mut bytes), Ok(0));
    check_eq!(sys::read(other, &mut bytes), Ok(0));
}

fn unread_bytes_reset_the_peer() {
    ignore_sigpipe();
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"nobody reads this"), Ok(17));
    sys::close(other);
    errno_is!(sys::read(one, &mut [0; 4]), ECONNRESET);
    check_eq!(sys::read(one, &mut [0; 4]), Ok(0));
    errno_is!(sys::write(one, b"x"), EPIPE);
}

fn write_without_reader_is_epipe_and_sigpipe() {
    let (one, other) = pair(SOCK_STREAM);
    sys::close(other);
    check_eq!(killed_by(|| _ = sys::write(one, b"x")), Some(SIGPIPE));
    check_eq!(killed_by(|| _ = send(one, b"x", 0)), Some(SIGPIPE));
    ignore_sigpipe();
    errno_is!(sys::write(one, b"x"), EPIPE);
}

fn nosignal_spares_the_signal() {
    let (one, other) = pair(SOCK_STREAM);
    sys::close(other);
    errno_is!(send(one, b"x", MSG_NOSIGNAL), EPIPE);
}

fn shutdown_of_writing_ends_the_peers_reading() {
    ignore_sigpipe();
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"x"), Ok(1));
    ok!(syscall!(SYS_shutdown, one, SHUT_WR));
    errno_is!(sys::write(one, b"x"), EPIPE);
    check_eq!(sys::read(other, &mut [0; 4]), Ok(1));
    check_eq!(sys::read(other, &mut [0; 4]), Ok(0));
    check_eq!(sys::write(other, b"y"), Ok(1));
    check_eq!(sys::read(one, &mut [0; 4]), Ok(1));
}

fn shutdown_of_reading_ends_the_peers_writing() {
    ignore_sigpipe();
    let (one, other) = pair(SOCK_STREAM);
    ok!(syscall!(SYS_shutdown, one, SHUT_RD));
    check_eq!(sys::read(one, &mut [0; 4]), Ok(0));
    errno_is!(sys::write(other, b"x"), EPIPE);
    errno_is!(syscall!(SYS_shutdown, one, 3), EINVAL);
}

fn peek_leaves_the_bytes() {
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"ab"), Ok(2));
    check_eq!(sys::write(one, b"cd"), Ok(2));
    let mut bytes = [0; 10];
    check_eq!((receive(other, &mut bytes[..3], MSG_PEEK), &bytes[..3]), (Ok(3), &b"abc"[..]));
    check_eq!((receive(other, &mut bytes, 0), &bytes[..4]), (Ok(4), &b"abcd"[..]));
}

fn waitall_waits_for_all() {
    let (one, other) = pair(SOCK_STREAM);
    let child = Child::spawn(|| {
        for byte in 0..5 {
            sys::sleep_us(5000);
            check_eq!(sys::write(one, &[byte]), Ok(1));
        }
    });
    let mut bytes = [9; 5];
    check_eq!(receive(other, &mut bytes, MSG_WAITALL), Ok(5));
    check_eq!(bytes, [0, 1, 2, 3, 4]);
    child.join();
}

fn dontwait_is_eagain() {
    let (one, other) = pair(SOCK_STREAM);
    errno_is!(receive(one, &mut [0], MSG_DONTWAIT), EAGAIN);
    let (one, _keep) = pair(SOCK_STREAM | SOCK_NONBLOCK);
    errno_is!(sys::read(one, &mut [0]), EAGAIN);
    sys::close(other);
}

fn fill(fd: i32) -> usize {
    let mut total = 0;
    loop {
        match send(fd, &[7; 4096], MSG_DONTWAIT) {
            Ok(count) => total += count,
            Err(error) => {
                check_eq!(error, sys::Errno(libc::EAGAIN));
                return total;
            }
        }
    }
}

fn full_buffer_is_eagain_until_read() {
    let (one, other) = pair(SOCK_STREAM);
    let total = fill(one);
    check!((32 << 10..4 << 20).contains(&total), "{total}");
    check_eq!(ready(one) & POLLOUT, 0);
    let mut left = total;
    while left > 0 {
        left -= ok!(sys::read(other, &mut [0; 65536]));
    }
    check!(ready(one) & POLLOUT != 0);
    check_eq!(send(one, b"x", MSG_DONTWAIT), Ok(1));
}

fn blocked_writer_goes_on_when_read() {
    let (one, other) = pair(SOCK_STREAM);
    let total = fill(one);
    let child = Child::spawn(|| {
        check_eq!(sys::write(one, &[8; 10_000]), Ok(10_000));
    });
    sys::sleep_us(20_000);
    let mut left = total + 10_000;
    while left > 0 {
        left -= ok!(sys::read(other, &mut [0; 65536]));
    }
    child.join();
}

fn accept_waits_for_a_connection() {
    let (server, address) = listener(SOCK_STREAM, 1);
    let child = Child::spawn(|| {
        sys::sleep_us(20_000);
        let client = socket(SOCK_STREAM);
        ok!(connect(client, &address));
        check_eq!(sys::read(client, &mut [0; 4]), Ok(1));
    });
    let accepted = ok!(accept(server));
    check_eq!(sys::write(accepted, b"x"), Ok(1));
    child.join();
}

fn pending_connection_can_be_written_before_accept() {
    let (server, address) = listener(SOCK_STREAM, 1);
    let client = socket(SOCK_STREAM);
    ok!(connect(client, &address));
    check_eq!(sys::write(client, b"early"), Ok(5));
    sys::close(client);
    let accepted = ok!(accept(server));
    check_eq!(sys::read(accepted, &mut [0; 10]), Ok(5));
    check_eq!(sys::read(accepted, &mut [0; 10]), Ok(0));
}

fn backlog_is_bounded() {
    let (server, address) = listener(SOCK_STREAM, 1);
    let clients: Vec<i32> = (0..3).map(|_| socket(SOCK_STREAM | SOCK_NONBLOCK)).collect();
    ok!(connect(clients[0], &address));
    ok!(connect(clients[1], &address));
    errno_is!(connect(clients[2], &address), EAGAIN);
    ok!(accept(server));
    ok!(connect(clients[2], &address));
}

fn closed_listener_refuses() {
    let (server, address) = listener(SOCK_STREAM, 1);
    sys::close(server);
    errno_is!(connect(socket(SOCK_STREAM), &address), ECONNREFUSED);
}

fn closing_the_listener_resets_those_who_wait() {
    let (server, address) = listener(SOCK_STREAM, 1);
    let client = socket(SOCK_STREAM);
    ok!(connect(client, &address));
    sys::close(server);
    errno_is!(sys::read(client, &mut [0]), ECONNRESET);
}

fn poll_tells_the_states() {
    check_eq!(ready(socket(SOCK_STREAM)) & (POLLHUP | POLLOUT | POLLIN), POLLHUP | POLLOUT);
    let (server, address) = listener(SOCK_STREAM, 1);
    check_eq!(ready(server) & (POLLIN | POLLHUP), 0);
    let client = socket(SOCK_STREAM);
    ok!(connect(client, &address));
    check_eq!(ready(server) & POLLIN, POLLIN);
    let accepted = ok!(accept(server));
    check_eq!(ready(client) & (POLLIN | POLLOUT | POLLHUP | POLLRDHUP), POLLOUT);
    ok!(syscall!(SYS_shutdown, accepted, SHUT_WR));
    check_eq!(ready(client) & (POLLIN | POLLHUP | POLLRDHUP), POLLIN | POLLRDHUP);
    ok!(syscall!(SYS_shutdown, client, SHUT_RDWR));
    check_eq!(ready(client) & (POLLIN | POLLHUP), POLLIN | POLLHUP);
    let (one, other) = pair(SOCK_STREAM);
    sys::close(other);
    check_eq!(ready(one) & (POLLIN | POLLHUP | POLLRDHUP), POLLIN | POLLHUP | POLLRDHUP);
}

fn packets_keep_their_bounds() {
    let (one, other) = pair(SOCK_SEQPACKET);
    for part in ["a", "bc", "def"] {
        check_eq!(sys::write(one, part.as_bytes()), Ok(part.len()));
    }
    let mut bytes = [0; 10];
    for len in 1..=3 {
        check_eq!(sys::read(other, &mut bytes), Ok(len));
    }
    sys::close(one);
    check_eq!(sys::read(other, &mut bytes), Ok(0));
}

fn packets_are_cut_off() {
    let (one, other) = pair(SOCK_SEQPACKET);
    check_eq!(sys::write(one, b"abcdef"), Ok(6));
    check_eq!(sys::write(one, b"second"), Ok(6));
    let mut bytes = [0; 4];
    check_eq!(receive(other, &mut bytes, MSG_TRUNC), Ok(6));
    check_eq!((receive(other, &mut bytes, 0), &bytes), (Ok(4), b"seco"));
    errno_is!(receive(other, &mut bytes, MSG_DONTWAIT), EAGAIN);
}

fn empty_packet_is_a_packet() {
    let (one, other) = pair(SOCK_SEQPACKET);
    check_eq!(send(one, b"", 0), Ok(0));
    check_eq!(send(one, b"x", 0), Ok(1));
    check_eq!(receive(other, &mut [0; 4], MSG_DONTWAIT), Ok(0));
    check_eq!(receive(other, &mut [0; 4], MSG_DONTWAIT), Ok(1));
}

fn ioctl_tells_what_is_unread() {
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"abc"), Ok(3));
    check_eq!(sys::write(one, b"de"), Ok(2));
    let mut count = -1_i32;
    ok!(syscall!(SYS_ioctl, other, libc::FIONREAD, &raw mut count));
    check_eq!(count, 5);
    ok!(syscall!(SYS_ioctl, one, libc::TIOCOUTQ, &raw mut count));
    check!(count > 0);
    check_eq!(sys::read(other, &mut [0; 9]), Ok(5));
    ok!(syscall!(SYS_ioctl, one, libc::TIOCOUTQ, &raw mut count));
    check_eq!(count, 0);
}

fn readv_and_writev_work() {
    let (one, other) = pair(SOCK_STREAM);
    let parts = [b"ab".as_slice(), b"cde"].map(|part| [part.as_ptr() as usize, part.len()]);
    check_eq!(syscall!(SYS_writev, one, parts.as_ptr(), 2), Ok(5));
    let (mut first, mut second) = ([0_u8; 1], [0_u8; 8]);
    let places = [[first.as_mut_ptr() as usize, 1], [second.as_mut_ptr() as usize, 8]];
    check_eq!(syscall!(SYS_readv, other, places.as_ptr(), 2), Ok(5));
    check_eq!((first[0], &second[..4]), (b'a', &b"bcde"[..]));
}

fn large_transfer_arrives_in_order() {
    const TOTAL: usize = 3 << 20;
    let (one, other) = pair(SOCK_STREAM);
    let child = Child::spawn(|| {
        let bytes: Vec<u8> = (0..TOTAL).map(|index| (index / 7) as u8).collect();
        let mut done = 0;
        while done < TOTAL {
            done += ok!(sys::write(one, &bytes[done..]));
        }
    });
    sys::close(one);
    let (mut seen, mut part) = (0, vec![0; 50_000]);
    loop {
        let count = ok!(sys::read(other, &mut part));
        if count == 0 {
            break;
        }
        check!((0..count).all(|index| part[index] == ((seen + index) / 7) as u8), "near {seen}");
        seen += count;
    }
    check_eq!(seen, TOTAL);
    child.join();
}
