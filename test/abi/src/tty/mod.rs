// SPDX-License-Identifier: MPL-2.0

//! Terminals, tried on pseudoterminals: `pty(7)`, `termios(3)`, `tty_ioctl(4)`.

mod control;
mod line;
mod packet;
mod pair;

use libc::{O_CLOEXEC, O_NOCTTY, O_RDWR};

use crate::{harness::Case, sys};

pub const GROUPS: &[&[Case]] = &[pair::CASES, line::CASES, control::CASES, packet::CASES];

/// A pair: the master, the number of the terminal, and the terminal open.
pub struct Pair {
    pub master: i32,
    pub number: u32,
    pub slave: i32,
}

pub fn master() -> (i32, u32) {
    let master = ok!(sys::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0));
    let mut number = u32::MAX;
    ok!(syscall!(SYS_ioctl, master, libc::TIOCGPTN, &raw mut number));
    (master, number)
}

pub fn unlock(master: i32) {
    let lock = 0_i32;
    ok!(syscall!(SYS_ioctl, master, libc::TIOCSPTLCK, &raw const lock));
}

pub fn open_slave(number: u32, flags: i32) -> sys::Result<i32> {
    sys::open(&format!("/dev/pts/{number}"), O_RDWR | O_CLOEXEC | flags, 0)
}

pub fn pair() -> Pair {
    let (master, number) = master();
    unlock(master);
    Pair { master, number, slave: ok!(open_slave(number, O_NOCTTY)) }
}

pub fn get(fd: i32) -> libc::termios {
    // SAFETY: all zeros are settings.
    let mut termios: libc::termios = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_ioctl, fd, libc::TCGETS, &raw mut termios));
    termios
}

pub fn set(fd: i32, change: impl FnOnce(&mut libc::termios)) {
    let mut termios = get(fd);
    change(&mut termios);
    ok!(syscall!(SYS_ioctl, fd, libc::TCSETS, &raw const termios));
}

/// No echo, no editing, no signals, no processing of output.
pub fn make_raw(fd: i32) {
    set(fd, |termios| {
        termios.c_iflag = 0;
        termios.c_oflag = 0;
        termios.c_lflag = 0;
    });
}

/// What one read gives.
pub fn read(fd: i32) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = ok!(sys::read(fd, &mut bytes));
    bytes.truncate(count);
    bytes
}

/// Reads so many bytes, or fewer if no more come: what is typed is shown piece by piece, and a read gets what is there by then.
pub fn read_shown(fd: i32, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count && ready(fd, libc::POLLIN) & libc::POLLIN != 0 {
        bytes.extend(read(fd));
    }
    bytes
}

/// How many bytes a read would get.
pub fn unread(fd: i32) -> i32 {
    let mut count = -1_i32;
    ok!(syscall!(SYS_ioctl, fd, libc::FIONREAD, &raw mut count));
    count
}

/// Types at the terminal.
pub fn type_in(pair: &Pair, bytes: &[u8]) {
    check_eq!(sys::write(pair.master, bytes), Ok(bytes.len()));
}

/// The events of poll(2) that are there within a moment.
pub fn ready(fd: i32, events: i16) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    ok!(syscall!(SYS_poll, &raw mut entry, 1, 200));
    entry.revents
}
