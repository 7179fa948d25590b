// SPDX-License-Identifier: MPL-2.0

//! The pair itself: opening, locking, closing.

use libc::{O_NOCTTY, O_NONBLOCK, POLLHUP, POLLIN, POLLOUT};

use super::{get, make_raw, master, open_slave, pair, read, read_shown, ready, type_in, unlock};
use crate::{child::Child, harness::Case, sys};

pub const CASES: &[Case] = cases!["tty/pair":
    locked_terminal_is_eio,
    numbers_differ,
    node_is_a_device,
    both_ends_are_terminals,
    bytes_go_both_ways,
    output_is_processed,
    peer_opens_the_terminal,
    closed_terminal_ends_the_master,
    reopened_terminal_goes_on,
    closed_master_ends_the_terminal,
    node_goes_with_the_master,
    nonblocking_read_is_eagain,
    blocked_reader_wakes,
    large_transfer_arrives_in_order,
    window_size_is_shared,
    settings_at_the_start,
];

fn locked_terminal_is_eio() {
    let (fd, number) = master();
    errno_is!(open_slave(number, O_NOCTTY), EIO);
    unlock(fd);
    ok!(open_slave(number, O_NOCTTY));
}

fn numbers_differ() {
    let ((_first, one), (_second, other)) = (master(), master());
    check!(one != other);
}

fn node_is_a_device() {
    let pair = pair();
    let Ok(meta) = std::fs::metadata(format!("/dev/pts/{}", pair.number)) else { panic!("no node") };
    let device = std::os::unix::fs::MetadataExt::rdev(&meta);
    check_eq!((libc::major(device), libc::minor(device)), (136 + pair.number / 256, pair.number % 256));
    let link = std::fs::read_link(format!("/proc/self/fd/{}", pair.slave));
    check_eq!(link.ok(), Some(format!("/dev/pts/{}", pair.number).into()));
}

fn both_ends_are_terminals() {
    let pair = pair();
    check_eq!(get(pair.master).c_lflag, get(pair.slave).c_lflag);
}

fn bytes_go_both_ways() {
    let pair = pair();
    make_raw(pair.slave);
    type_in(&pair, b"in");
    check_eq!(read(pair.slave), b"in");
    check_eq!(sys::write(pair.slave, b"out\n"), Ok(4));
    check_eq!(read(pair.master), b"out\n");
}

fn output_is_processed() {
    let pair = pair();
    check_eq!(sys::write(pair.slave, b"a\nb"), Ok(3));
    check_eq!(read_shown(pair.master, 4), b"a\r\nb");
}

fn peer_opens_the_terminal() {
    let (fd, _number) = master();
    unlock(fd);
    let slave = ok!(syscall!(SYS_ioctl, fd, libc::TIOCGPTPEER, libc::O_RDWR | O_NOCTTY)) as i32;
    check_eq!(sys::write(slave, b"x"), Ok(1));
    check_eq!(read(fd), b"x");
}

fn closed_terminal_ends_the_master() {
    let pair = pair();
    check_eq!(sys::write(pair.slave, b"left"), Ok(4));
    sys::close(pair.slave);
    check_eq!(ready(pair.master, POLLIN) & (POLLIN | POLLHUP), POLLIN | POLLHUP);
    check_eq!(read(pair.master), b"left");
    errno_is!(sys::read(pair.master, &mut [0; 4]), EIO);
}

fn reopened_terminal_goes_on() {
    let pair = pair();
    sys::close(pair.slave);
    errno_is!(sys::read(pair.master, &mut [0; 4]), EIO);
    let slave = ok!(open_slave(pair.number, O_NOCTTY));
    check_eq!(sys::write(slave, b"x"), Ok(1));
    check_eq!(read(pair.master), b"x");
}

fn closed_master_ends_the_terminal() {
    let pair = pair();
    sys::close(pair.master);
    check_eq!(sys::read(pair.slave, &mut [0; 4]), Ok(0));
    errno_is!(sys::write(pair.slave, b"x"), EIO);
    check_eq!(ready(pair.slave, POLLIN | POLLOUT) & (POLLIN | POLLHUP), POLLIN | POLLHUP);
    errno_is!(syscall!(SYS_ioctl, pair.slave, libc::TCGETS, [0_u64; 16].as_mut_ptr()), EIO);
}

fn node_goes_with_the_master() {
    let (fd, number) = master();
    unlock(fd);
    let path = format!("/dev/pts/{number}");
    check!(std::fs::metadata(&path).is_ok());
    sys::close(fd);
    check!(std::fs::metadata(&path).is_err());
}

fn nonblocking_read_is_eagain() {
    let pair = pair();
    let slave = ok!(open_slave(pair.number, O_NOCTTY | O_NONBLOCK));
    errno_is!(sys::read(slave, &mut [0; 4]), EAGAIN);
}

fn blocked_reader_wakes() {
    let pair = pair();
    let child = Child::spawn(|| check_eq!(read(pair.slave), b"now\n"));
    sys::sleep_us(20_000);
    type_in(&pair, b"now\n");
    child.join();
}

fn large_transfer_arrives_in_order() {
    const TOTAL: usize = 100_000;
    let pair = pair();
    make_raw(pair.slave);
    let child = Child::spawn(|| {
        let bytes: Vec<u8> = (0..TOTAL).map(|index| (index / 7) as u8).collect();
        let mut done = 0;
        while done < TOTAL {
            done += ok!(sys::write(pair.master, &bytes[done..]));
        }
    });
    let mut seen = 0;
    while seen < TOTAL {
        for byte in read(pair.slave) {
            check_eq!(byte, (seen / 7) as u8, "at {seen}");
            seen += 1;
        }
    }
    child.join();
}

fn window_size_is_shared() {
    let pair = pair();
    let size = |fd: i32| {
        let mut size = [9_u16; 4];
        ok!(syscall!(SYS_ioctl, fd, libc::TIOCGWINSZ, size.as_mut_ptr()));
        size
    };
    check_eq!(size(pair.slave), [0; 4]);
    ok!(syscall!(SYS_ioctl, pair.master, libc::TIOCSWINSZ, [24_u16, 80, 1, 2].as_ptr()));
    check_eq!((size(pair.slave), size(pair.master)), ([24, 80, 1, 2], [24, 80, 1, 2]));
}

fn settings_at_the_start() {
    let termios = get(pair().slave);
    for flag in [libc::ICANON, libc::ECHO, libc::ISIG, libc::IEXTEN, libc::ECHOE, libc::ECHOK] {
        check!(termios.c_lflag & flag != 0, "{flag:#o}");
    }
    check!(termios.c_iflag & libc::ICRNL != 0 && termios.c_oflag & (libc::OPOST | libc::ONLCR) != 0);
    check_eq!(&termios.c_cc[..5], [3, 0x1c, 0x7f, 0x15, 4]);
    check_eq!((termios.c_cc[libc::VMIN], termios.c_cc[libc::VTIME]), (1, 0));
}
