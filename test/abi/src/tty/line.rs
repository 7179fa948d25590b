// SPDX-License-Identifier: MPL-2.0

//! The line discipline: editing, echo, raw reads.

use libc::{ECHO, ICANON, VMIN, VTIME};

use super::{Pair, make_raw, pair, read, read_shown, ready, set, type_in, unread};
use crate::{child::Child, harness::Case, sys};

pub const CASES: &[Case] = cases!["tty/line":
    line_is_read_when_it_ends,
    one_read_gets_one_line,
    long_line_is_read_in_parts,
    return_becomes_newline,
    echo_shows_what_is_typed,
    echo_can_be_switched_off,
    control_characters_are_shown,
    erase_takes_a_character,
    werase_takes_a_word,
    kill_takes_the_line,
    lnext_takes_it_literally,
    end_of_file_is_an_empty_read,
    end_of_file_ends_a_part_of_a_line,
    raw_reads_what_there_is,
    min_waits_for_so_many,
    time_limits_the_wait,
    zero_min_and_time_do_not_wait,
    leaving_canonical_mode_gives_the_line,
    flush_drops_input,
    output_can_be_stopped,
];

fn silent() -> Pair {
    let pair = pair();
    set(pair.slave, |termios| termios.c_lflag &= !ECHO);
    pair
}

fn line_is_read_when_it_ends() {
    let pair = silent();
    type_in(&pair, b"abc");
    check_eq!((ready(pair.slave, libc::POLLIN), unread(pair.slave)), (0, 0));
    type_in(&pair, b"d\n");
    check_eq!(ready(pair.slave, libc::POLLIN), libc::POLLIN);
    check_eq!(unread(pair.slave), 5);
    check_eq!(read(pair.slave), b"abcd\n");
}

fn one_read_gets_one_line() {
    let pair = silent();
    type_in(&pair, b"one\ntwo\n");
    check_eq!((read(pair.slave), read(pair.slave)), (b"one\n".to_vec(), b"two\n".to_vec()));
}

fn long_line_is_read_in_parts() {
    let pair = silent();
    type_in(&pair, b"abcdef\n");
    let mut bytes = [0; 4];
    check_eq!((sys::read(pair.slave, &mut bytes), &bytes), (Ok(4), b"abcd"));
    check_eq!(read(pair.slave), b"ef\n");
}

fn return_becomes_newline() {
    let pair = silent();
    type_in(&pair, b"a\r");
    check_eq!(read(pair.slave), b"a\n");
    set(pair.slave, |termios| termios.c_iflag = libc::IGNCR);
    type_in(&pair, b"b\rc\n");
    check_eq!(read(pair.slave), b"bc\n");
}

fn echo_shows_what_is_typed() {
    let pair = pair();
    type_in(&pair, b"hi\n");
    check_eq!(read_shown(pair.master, 4), b"hi\r\n");
}

fn echo_can_be_switched_off() {
    let pair = silent();
    type_in(&pair, b"hi\n");
    check_eq!(read(pair.slave), b"hi\n");
    check_eq!(unread(pair.master), 0);
}

fn control_characters_are_shown() {
    let pair = pair();
    type_in(&pair, b"\x01\x1b");
    check_eq!(read_shown(pair.master, 4), b"^A^[");
}

fn erase_takes_a_character() {
    let pair = pair();
    type_in(&pair, b"ab\x7fc\n");
    check_eq!(read(pair.slave), b"ac\n");
    check_eq!(read_shown(pair.master, 8), b"ab\x08 \x08c\r\n");
}

fn werase_takes_a_word() {
    let pair = silent();
    type_in(&pair, b"one two  \x17x\n");
    check_eq!(read(pair.slave), b"one x\n");
}

fn kill_takes_the_line() {
    let pair = silent();
    type_in(&pair, b"wrong\x15right\n");
    check_eq!(read(pair.slave), b"right\n");
}

fn lnext_takes_it_literally() {
    let pair = silent();
    type_in(&pair, b"a\x16\x7f\x16\x03\n");
    check_eq!(read(pair.slave), b"a\x7f\x03\n");
}

fn end_of_file_is_an_empty_read() {
    let pair = silent();
    type_in(&pair, b"\x04");
    check_eq!(read(pair.slave), b"");
    type_in(&pair, b"on\n");
    check_eq!(read(pair.slave), b"on\n");
}

fn end_of_file_ends_a_part_of_a_line() {
    let pair = silent();
    type_in(&pair, b"part\x04");
    check_eq!(read(pair.slave), b"part");
}

fn raw_reads_what_there_is() {
    let pair = pair();
    make_raw(pair.slave);
    type_in(&pair, b"\x03\x04\r\x7f");
    check_eq!(read(pair.slave), b"\x03\x04\r\x7f");
}

fn min_waits_for_so_many() {
    let pair = pair();
    make_raw(pair.slave);
    set(pair.slave, |termios| termios.c_cc[VMIN] = 3);
    let child = Child::spawn(|| {
        for byte in b"abc" {
            sys::sleep_us(10_000);
            type_in(&pair, &[*byte]);
        }
    });
    check_eq!(read(pair.slave), b"abc");
    child.join();
}

fn time_limits_the_wait() {
    let pair = pair();
    make_raw(pair.slave);
    set(pair.slave, |termios| (termios.c_cc[VMIN], termios.c_cc[VTIME]) = (0, 1));
    let start = sys::monotonic_ms();
    check_eq!(read(pair.slave), b"");
    check!((80..2000).contains(&(sys::monotonic_ms() - start)));
    set(pair.slave, |termios| (termios.c_cc[VMIN], termios.c_cc[VTIME]) = (9, 1));
    type_in(&pair, b"ab");
    check_eq!(read(pair.slave), b"ab");
}

fn zero_min_and_time_do_not_wait() {
    let pair = pair();
    make_raw(pair.slave);
    set(pair.slave, |termios| termios.c_cc[VMIN] = 0);
    check_eq!(read(pair.slave), b"");
    type_in(&pair, b"x");
    check_eq!(ready(pair.slave, libc::POLLIN), libc::POLLIN);
    check_eq!(read(pair.slave), b"x");
}

fn leaving_canonical_mode_gives_the_line() {
    let pair = silent();
    type_in(&pair, b"abc");
    sys::sleep_us(20_000);
    set(pair.slave, |termios| termios.c_lflag &= !ICANON);
    check_eq!(read(pair.slave), b"abc");
}

fn flush_drops_input() {
    let pair = silent();
    type_in(&pair, b"gone\n");
    check_eq!(ready(pair.slave, libc::POLLIN), libc::POLLIN);
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TCFLSH, libc::TCIFLUSH));
    check_eq!(unread(pair.slave), 0);
    errno_is!(syscall!(SYS_ioctl, pair.slave, libc::TCFLSH, 9), EINVAL);
}

fn output_can_be_stopped() {
    let pair = silent();
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TCXONC, libc::TCOOFF));
    let child = Child::spawn(|| check_eq!(sys::write(pair.slave, b"x"), Ok(1)));
    sys::sleep_us(20_000);
    check_eq!(unread(pair.master), 0);
    ok!(syscall!(SYS_ioctl, pair.slave, libc::TCXONC, libc::TCOON));
    check_eq!(read(pair.master), b"x");
    child.join();
}
