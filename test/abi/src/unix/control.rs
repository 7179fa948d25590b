// SPDX-License-Identifier: MPL-2.0

//! What goes with messages: descriptors and credentials (`unix(7)`, "Ancillary messages").

use libc::{
    MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, SCM_CREDENTIALS, SCM_RIGHTS,
    SO_PASSCRED, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET,
};

use super::{accept, connect, listener, pair, receive, socket};
use crate::{child::in_child, harness::Case, sys};

pub const CASES: &[Case] = cases!["unix/control":
    descriptor_is_passed,
    several_descriptors_are_passed,
    passed_file_shares_its_offset,
    descriptors_go_with_their_bytes,
    descriptors_end_a_read,
    cloexec_is_set_if_asked_for,
    too_little_room_is_told,
    plain_read_drops_descriptors,
    peek_shows_descriptors_twice,
    bad_descriptor_is_ebadf,
    bad_control_data_is_einval,
    too_many_descriptors_are_einval,
    socket_in_its_own_queue_can_be_closed,
    chain_of_sockets_in_flight_can_be_closed,
    credentials_are_received,
    credentials_are_not_received_unless_asked_for,
    others_credentials_are_eperm,
    peercred_tells_who_connected,
    datagram_is_truncated_and_says_so,
    sendmmsg_and_recvmmsg_move_many,
    too_many_buffers_are_emsgsize,
];

/// A message as sendmsg(2) and recvmsg(2) take it.
struct Message {
    header: libc::msghdr,
    _buffer: Box<libc::iovec>,
}

impl Message {
    fn new(bytes: &mut [u8], control: &mut [u8]) -> Self {
        let mut buffer = Box::new(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
        // SAFETY: all zeros are a message header.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut *buffer;
        header.msg_iovlen = 1;
        if !control.is_empty() {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = control.len() as _;
        }
        Self { header, _buffer: buffer }
    }
}

/// One piece of control data, padded.
fn piece(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + data.len()).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&level.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

pub fn rights(fds: &[i32]) -> Vec<u8> {
    let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
    piece(SOL_SOCKET, SCM_RIGHTS, &data)
}

pub fn send(fd: i32, bytes: &[u8], control: &[u8]) -> sys::Result {
    let (mut bytes, mut control) = (bytes.to_vec(), control.to_vec());
    let message = Message::new(&mut bytes, &mut control);
    syscall!(SYS_sendmsg, fd, &raw const message.header, 0)
}

/// What was received: bytes, control data, flags.
pub struct Got {
    count: usize,
    control: Vec<u8>,
    flags: i32,
}

pub fn get(fd: i32, room: usize, control_room: usize, flags: i32) -> sys::Result<Got> {
    let (mut bytes, mut control) = (vec![0; room], vec![0; control_room]);
    let mut message = Message::new(&mut bytes, &mut control);
    let count = syscall!(SYS_recvmsg, fd, &raw mut message.header, flags)?;
    let len = message.header.msg_controllen as usize;
    control.truncate(len);
    Ok(Got { count, control, flags: message.header.msg_flags })
}

impl Got {
    /// The data of the first piece of this kind.
    fn data(&self, kind: i32) -> Option<&[u8]> {
        let mut rest = &self.control[..];
        while rest.len() >= 16 {
            let word = |at: usize| i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
            let (len, found) = (word(0) as usize, word(12));
            if found == kind {
                return Some(&rest[16..len]);
            }
            rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
        }
        None
    }

    fn words(&self, kind: i32) -> Vec<i32> {
        let word = |bytes: &[u8]| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.data(kind).unwrap_or(&[]).chunks_exact(4).map(word).collect()
    }

    pub fn fds(&self) -> Vec<i32> {
        self.words(SCM_RIGHTS)
    }
}

fn is_same_file(one: i32, other: i32) -> bool {
    let identity = |fd: i32| {
        let mut stat = [0_u64; 18];
        ok!(syscall!(SYS_fstat, fd, stat.as_mut_ptr()));
        (stat[0], stat[1])
    };
    identity(one) == identity(other)
}

fn descriptor_is_passed() {
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let ((one, other), (reader, writer)) = (pair(kind), ok!(sys::pipe(0)));
        check_eq!(send(one, b"x", &rights(&[writer])), Ok(1));
        sys::close(writer);
        let got = ok!(get(other, 4, 64, 0));
        let fds = got.fds();
        check_eq!((got.count, got.flags, fds.len()), (1, 0, 1));
        check_eq!(sys::write(fds[0], b"through"), Ok(7));
        check_eq!(sys::read(reader, &mut [0; 10]), Ok(7));
    }
}

fn several_descriptors_are_passed() {
    let ((one, other), (reader, writer)) = (pair(SOCK_STREAM), ok!(sys::pipe(0)));
    let control = [rights(&[reader]), rights(&[writer, reader])].concat();
    check_eq!(send(one, b"x", &control), Ok(1));
    let fds = ok!(get(other, 4, 64, 0)).fds();
    check_eq!(fds.len(), 3);
    check_eq!(sys::write(fds[1], b"ab"), Ok(2));
    check_eq!((sys::read(fds[0], &mut [0]), sys::read(fds[2], &mut [0])), (Ok(1), Ok(1)));
}

fn passed_file_shares_its_offset() {
    let (one, other) = pair(SOCK_STREAM);
    let file = crate::tmp::file(b"0123456789");
    check_eq!(send(one, b"x", &rights(&[file])), Ok(1));
    let fds = ok!(get(other, 4, 64, 0)).fds();
    check!(is_same_file(file, fds[0]));
    check_eq!(sys::read(file, &mut [0; 4]), Ok(4));
    let mut bytes = [0; 2];
    check_eq!((sys::read(fds[0], &mut bytes), &bytes), (Ok(2), b"45"));
}

fn descriptors_go_with_their_bytes() {
    let ((one, other), (reader, _writer)) = (pair(SOCK_STREAM), ok!(sys::pipe(0)));
    check_eq!(sys::write(one, b"before"), Ok(6));
    check_eq!(send(one, b"with", &rights(&[reader])), Ok(4));
    check_eq!(ok!(get(other, 3, 64, 0)).fds().len(), 0);
    let got = ok!(get(other, 100, 64, 0));
    check_eq!((got.count, got.fds().len()), (7, 1));
}

fn descriptors_end_a_read() {
    let ((one, other), (reader, _writer)) = (pair(SOCK_STREAM), ok!(sys::pipe(0)));
    check_eq!(send(one, b"first", &rights(&[reader])), Ok(5));
    check_eq!(sys::write(one, b"more"), Ok(4));
    let got = ok!(get(other, 100, 64, 0));
    check_eq!((got.count, got.fds().len()), (5, 1));
    check_eq!(ok!(get(other, 100, 64, 0)).count, 4);
}

fn cloexec_is_set_if_asked_for() {
    let (one, other) = pair(SOCK_STREAM);
    for (flags, expected) in [(0, 0), (MSG_CMSG_CLOEXEC, 1)] {
        check_eq!(send(one, b"x", &rights(&[one])), Ok(1));
        let got = ok!(get(other, 4, 64, flags));
        check_eq!(got.flags, flags);
        check_eq!(syscall!(SYS_fcntl, got.fds()[0], libc::F_GETFD, 0), Ok(expected));
    }
}

fn too_little_room_is_told() {
    let ((one, other), (reader, writer)) = (pair(SOCK_STREAM), ok!(sys::pipe(0)));
    check_eq!(send(one, b"x", &rights(&[reader, writer])), Ok(1));
    let got = ok!(get(other, 4, 20, 0));
    check_eq!((got.count, got.flags, got.fds().len()), (1, MSG_CTRUNC, 1));
    check_eq!(send(one, b"x", &rights(&[reader])), Ok(1));
    let got = ok!(get(other, 4, 0, 0));
    check_eq!((got.count, got.flags), (1, MSG_CTRUNC));
}

fn plain_read_drops_descriptors() {
    let ((one, other), (reader, writer)) = (pair(SOCK_STREAM), ok!(sys::pipe(0)));
    check_eq!(send(one, b"x", &rights(&[writer])), Ok(1));
    sys::close(writer);
    check_eq!(sys::read(other, &mut [0]), Ok(1));
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
}

fn peek_shows_descriptors_twice() {
    let ((one, other), (reader, _writer)) = (pair(SOCK_STREAM), ok!(sys::pipe(0)));
    check_eq!(send(one, b"x", &rights(&[reader])), Ok(1));
    check_eq!(ok!(get(other, 4, 64, MSG_PEEK)).fds().len(), 1);
    check_eq!(ok!(get(other, 4, 64, 0)).fds().len(), 1);
}

fn bad_descriptor_is_ebadf() {
    let (one, other) = pair(SOCK_STREAM);
    errno_is!(send(one, b"x", &rights(&[one, 999])), EBADF);
    errno_is!(receive(other, &mut [0], MSG_DONTWAIT), EAGAIN);
}

fn bad_control_data_is_einval() {
    let (one, _other) = pair(SOCK_STREAM);
    let mut short = rights(&[one]);
    short[0] = 15;
    errno_is!(send(one, b"x", &short), EINVAL);
    let mut long = rights(&[one]);
    long[0] = 200;
    errno_is!(send(one, b"x", &long), EINVAL);
    errno_is!(send(one, b"x", &piece(SOL_SOCKET, 99, &[0; 4])), EINVAL);
    errno_is!(send(one, b"x", &piece(SOL_SOCKET, SCM_CREDENTIALS, &[0; 8])), EINVAL);
}

fn too_many_descriptors_are_einval() {
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(send(one, b"x", &rights(&[one; 253])), Ok(1));
    check_eq!(ok!(get(other, 4, 2000, 0)).fds().len(), 253);
    errno_is!(send(one, b"x", &rights(&[one; 254])), EINVAL);
}

fn socket_in_its_own_queue_can_be_closed() {
    for _ in 0..50 {
        let (one, other) = pair(SOCK_STREAM);
        check_eq!(send(one, b"x", &rights(&[one, other])), Ok(1));
        sys::close(one);
        sys::close(other);
    }
}

fn chain_of_sockets_in_flight_can_be_closed() {
    let mut link = crate::tmp::file(b"");
    for _ in 0..2000 {
        let (one, other) = pair(SOCK_STREAM);
        match send(one, b"x", &rights(&[link])) {
            Ok(1) => {}
            Err(error) if error.0 == libc::ETOOMANYREFS => break,
            other => panic!("sending a descriptor gives {other:?}"),
        }
        sys::close(link);
        sys::close(one);
        link = other;
    }
    sys::close(link);
}

fn set_option(fd: i32, option: i32, value: i32) {
    ok!(syscall!(SYS_setsockopt, fd, SOL_SOCKET, option, &raw const value, 4));
}

fn own() -> Vec<i32> {
    let id = |number| match number {
        0 => ok!(syscall!(SYS_getuid)) as i32,
        _ => ok!(syscall!(SYS_getgid)) as i32,
    };
    vec![sys::getpid(), id(0), id(1)]
}

fn credentials_are_received() {
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let (one, other) = pair(kind);
        set_option(other, SO_PASSCRED, 1);
        check_eq!(sys::write(one, b"x"), Ok(1));
        check_eq!(ok!(get(other, 4, 64, 0)).words(SCM_CREDENTIALS), own());
        let own_words: Vec<u8> = own().iter().flat_map(|word| word.to_ne_bytes()).collect();
        check_eq!(send(one, b"x", &piece(SOL_SOCKET, SCM_CREDENTIALS, &own_words)), Ok(1));
        check_eq!(ok!(get(other, 4, 64, 0)).words(SCM_CREDENTIALS), own());
    }
}

fn credentials_are_not_received_unless_asked_for() {
    let (one, other) = pair(SOCK_STREAM);
    check_eq!(sys::write(one, b"x"), Ok(1));
    let got = ok!(get(other, 4, 64, 0));
    check_eq!((got.flags, got.control.len()), (0, 0));
}

fn others_credentials_are_eperm() {
    in_child(|| {
        let (one, _other) = pair(SOCK_STREAM);
        if ok!(syscall!(SYS_getuid)) == 0 {
            sys::become_unprivileged();
        }
        let mut words = own();
        words[1] += 1;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        errno_is!(send(one, b"x", &piece(SOL_SOCKET, SCM_CREDENTIALS, &bytes)), EPERM);
        words[1] -= 1;
        words[0] = 1;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        errno_is!(send(one, b"x", &piece(SOL_SOCKET, SCM_CREDENTIALS, &bytes)), EPERM);
    });
}

fn peercred_tells_who_connected() {
    let peer = |fd: i32| {
        let (mut words, mut len) = ([0_i32; 3], 12_u32);
        ok!(syscall!(SYS_getsockopt, fd, SOL_SOCKET, libc::SO_PEERCRED, words.as_mut_ptr(), &raw mut len));
        words.to_vec()
    };
    check_eq!(peer(socket(SOCK_STREAM)), [0, -1, -1]);
    let (server, address) = listener(SOCK_STREAM, 1);
    let parent = sys::getpid();
    let child = crate::child::Child::spawn(|| {
        let client = socket(SOCK_STREAM);
        ok!(connect(client, &address));
        check_eq!(peer(client)[0], parent);
        check_eq!(sys::read(client, &mut [0]), Ok(0));
    });
    let accepted = ok!(accept(server));
    check_eq!(peer(accepted)[0], child.pid);
    sys::close(accepted);
    child.join();
}

fn datagram_is_truncated_and_says_so() {
    let (one, other) = pair(SOCK_DGRAM);
    check_eq!(sys::write(one, b"abcdef"), Ok(6));
    let got = ok!(get(other, 4, 0, 0));
    check_eq!((got.count, got.flags), (4, MSG_TRUNC));
}

fn sendmmsg_and_recvmmsg_move_many() {
    let (one, other) = pair(SOCK_DGRAM);
    let mut bytes = [*b"a_", *b"bc"];
    // SAFETY: all zeros are message headers.
    let mut headers: [libc::mmsghdr; 3] = unsafe { std::mem::zeroed() };
    let mut buffers =
        [0, 1].map(|index| libc::iovec { iov_base: bytes[index].as_mut_ptr().cast(), iov_len: index + 1 });
    for index in 0..2 {
        headers[index].msg_hdr.msg_iov = &raw mut buffers[index];
        headers[index].msg_hdr.msg_iovlen = 1;
    }
    check_eq!(syscall!(SYS_sendmmsg, one, headers.as_mut_ptr(), 2, 0), Ok(2));
    check_eq!((headers[0].msg_len, headers[1].msg_len), (1, 2));
    headers[0].msg_len = 9;
    std::hint::black_box(&mut buffers)[0].iov_len = 2;
    check_eq!(syscall!(SYS_recvmmsg, other, headers.as_mut_ptr(), 2, MSG_DONTWAIT, 0), Ok(2));
    check_eq!((headers[0].msg_len, headers[1].msg_len), (1, 2));
    errno_is!(syscall!(SYS_recvmmsg, other, headers.as_mut_ptr(), 2, MSG_DONTWAIT, 0), EAGAIN);
}

fn too_many_buffers_are_emsgsize() {
    let (one, _other) = pair(SOCK_DGRAM);
    let buffers = vec![[0_usize; 2]; 1025];
    // SAFETY: all zeros are a message header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = buffers.as_ptr() as *mut libc::iovec;
    header.msg_iovlen = 1025;
    errno_is!(syscall!(SYS_sendmsg, one, &raw const header, 0), EMSGSIZE);
}
