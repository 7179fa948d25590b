// SPDX-License-Identifier: MPL-2.0

//! Unix sockets: `unix(7)`, `socket(7)` and the calls on them.

mod control;
mod datagram;
mod errors;
mod garbage;
mod options;
mod stream;

use libc::{AF_UNIX, SOCK_CLOEXEC, sockaddr_un};

use crate::{harness::Case, sys};

pub const GROUPS: &[&[Case]] =
    &[stream::CASES, datagram::CASES, control::CASES, garbage::CASES, options::CASES, errors::CASES];

pub fn socket(kind: i32) -> i32 {
    ok!(syscall!(SYS_socket, AF_UNIX, kind | SOCK_CLOEXEC, 0)) as i32
}

/// Two sockets that are connected to each other.
pub fn pair(kind: i32) -> (i32, i32) {
    let mut fds = [-1_i32; 2];
    ok!(syscall!(SYS_socketpair, AF_UNIX, kind | SOCK_CLOEXEC, 0, fds.as_mut_ptr()));
    (fds[0], fds[1])
}

/// An address as the kernel takes it: its bytes, and how many of them count.
pub struct Address(pub sockaddr_un, pub usize);

impl Address {
    pub fn of_path(path: &str) -> Self {
        Self::of(path.as_bytes(), 1)
    }

    /// A name in the space of names that are no files.
    pub fn of_name(name: &str) -> Self {
        Self::of(&[b"\0", name.as_bytes()].concat(), 0)
    }

    fn of(bytes: &[u8], more: usize) -> Self {
        // SAFETY: all zeros are an address.
        let mut address: sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = AF_UNIX as u16;
        for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
            *place = *byte as libc::c_char;
        }
        Self(address, 2 + bytes.len() + more)
    }

    /// A name that no other case has.
    pub fn fresh() -> Self {
        Self::of_name(&format!("abi-{}-{}", sys::getpid(), sys::monotonic_ms()))
    }
}

pub fn bind(fd: i32, address: &Address) -> sys::Result {
    syscall!(SYS_bind, fd, &raw const address.0, address.1)
}

pub fn connect(fd: i32, address: &Address) -> sys::Result {
    syscall!(SYS_connect, fd, &raw const address.0, address.1)
}

pub fn listen(fd: i32, backlog: i32) -> sys::Result {
    syscall!(SYS_listen, fd, backlog)
}

pub fn accept(fd: i32) -> sys::Result<i32> {
    syscall!(SYS_accept4, fd, 0, 0, SOCK_CLOEXEC).map(|fd| fd as i32)
}

/// A listening socket, and where it is.
pub fn listener(kind: i32, backlog: i32) -> (i32, Address) {
    let (fd, address) = (socket(kind), Address::fresh());
    ok!(bind(fd, &address));
    ok!(listen(fd, backlog));
    (fd, address)
}

pub fn send(fd: i32, bytes: &[u8], flags: i32) -> sys::Result {
    syscall!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0, 0)
}

pub fn send_to(fd: i32, bytes: &[u8], address: &Address) -> sys::Result {
    syscall!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), 0, &raw const address.0, address.1)
}

pub fn receive(fd: i32, bytes: &mut [u8], flags: i32) -> sys::Result {
    syscall!(SYS_recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), flags, 0, 0)
}

/// The bytes of the address that a call such as getsockname tells.
pub fn name(call: impl FnOnce(*mut u8, *mut u32) -> sys::Result) -> sys::Result<Vec<u8>> {
    let mut bytes = vec![0xaa_u8; 200];
    let mut len = 200_u32;
    call(bytes.as_mut_ptr(), &raw mut len)?;
    bytes.truncate(len as usize);
    Ok(bytes)
}

pub fn own_name(fd: i32) -> sys::Result<Vec<u8>> {
    name(|bytes, len| syscall!(SYS_getsockname, fd, bytes, len))
}

pub fn peer_name(fd: i32) -> sys::Result<Vec<u8>> {
    name(|bytes, len| syscall!(SYS_getpeername, fd, bytes, len))
}

/// The events of poll(2) that are there now.
pub fn ready(fd: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events: !0, revents: 0 };
    ok!(syscall!(SYS_poll, &raw mut entry, 1, 0));
    entry.revents
}

/// Lets SIGPIPE pass.
pub fn ignore_sigpipe() {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
