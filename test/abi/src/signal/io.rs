// SPDX-License-Identifier: MPL-2.0

//! Signals when a file becomes ready: `O_ASYNC`, `F_SETOWN` and the rest of fcntl(2), "Managing signals".

use libc::{
    F_GETOWN, F_SETFL, F_SETOWN, O_ASYNC, O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM,
    POLLWRBAND, POLLWRNORM, SIGCHLD, SIGIO,
};

use super::{RT, bit, own_tid, pending, set_mask};
use crate::{
    child::{Turn, in_child},
    harness::Case,
    sys, tmp,
};

pub const CASES: &[Case] = cases!["signal/io":
    data_in_a_pipe_sends_sigio,
    chosen_signal_says_what_and_where,
    room_in_a_pipe,
    end_of_a_pipe,
    data_in_a_socket,
    room_in_a_socket,
    hang_up_of_a_socket,
    connection_to_a_listener,
    typing_at_a_terminal,
    output_of_a_terminal,
    foreground_is_the_owner_of_a_terminal,
    switched_off_sends_nothing,
    nobody_gets_nothing,
    group_gets_it,
    thread_gets_it,
    other_users_get_nothing,
    number_is_that_of_the_switch,
    owner_is_told,
    owner_errors,
    files_without_signals,
    sockets_have_calls_of_their_own,
];

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;
const F_OWNER_PGRP: i32 = 2;
const POLL_IN: i32 = 1;
const POLL_OUT: i32 = 2;
const POLL_HUP: i32 = 6;
const SI_KERNEL: i32 = 0x80;
const SI_SIGIO: i32 = -5;
const IN: i64 = (POLLIN | POLLRDNORM) as i64;
const OUT: i64 = (POLLOUT | POLLWRNORM | POLLWRBAND) as i64;
const HUP: i64 = (POLLHUP | POLLERR) as i64;

fn fcntl(fd: i32, command: i32, arg: i32) -> sys::Result {
    syscall!(SYS_fcntl, fd, command, arg)
}

fn own_by(fd: i32, pid: i32) {
    ok!(fcntl(fd, F_SETOWN, pid));
    ok!(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
}

/// Has the file send the case `RT`, and blocks that.
fn watch(fd: i32) {
    set_mask(bit(RT) | bit(SIGIO));
    ok!(fcntl(fd, F_SETSIG, RT));
    own_by(fd, sys::getpid());
}

/// What a pending signal says: `si_code`, `si_band`, `si_fd`. Nothing if there is none.
fn told(signal: i32) -> Option<(i32, i64, i32)> {
    let (set, mut info, none) = (bit(signal), [0_u8; 128], [0_i64; 2]);
    match syscall!(SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), none.as_ptr(), 8) {
        Ok(_) => {
            let word = |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
            let band = i64::from(word(16) as u32) | i64::from(word(20)) << 32;
            Some((word(8), band, word(24)))
        }
        Err(error) => {
            check_eq!(error, sys::Errno(libc::EAGAIN));
            None
        }
    }
}

fn socket_pair(kind: i32) -> (i32, i32) {
    let mut ends = [-1_i32; 2];
    ok!(syscall!(SYS_socketpair, libc::AF_UNIX, kind, 0, ends.as_mut_ptr()));
    (ends[0], ends[1])
}

fn data_in_a_pipe_sends_sigio() {
    set_mask(bit(SIGIO));
    let (reader, writer) = ok!(sys::pipe(0));
    own_by(reader, sys::getpid());
    check_eq!(told(SIGIO), None);
    ok!(sys::write(writer, b"x"));
    check_eq!(told(SIGIO).map(|told| told.0), Some(SI_KERNEL));
    check_eq!(fcntl(reader, libc::F_GETFL, 0), Ok((O_ASYNC | O_NONBLOCK) as usize));
}

fn chosen_signal_says_what_and_where() {
    let (reader, writer) = ok!(sys::pipe(0));
    watch(reader);
    check_eq!(fcntl(reader, F_GETSIG, 0), Ok(RT as usize));
    // Each write counts.
    for _ in 0..2 {
        ok!(sys::write(writer, b"x"));
    }
    check_eq!(
        [told(RT), told(RT), told(RT)],
        [Some((POLL_IN, IN, reader)), Some((POLL_IN, IN, reader)), None]
    );
    set_mask(bit(SIGIO) | bit(SIGCHLD));
    ok!(fcntl(reader, F_SETSIG, SIGIO));
    ok!(sys::write(writer, b"x"));
    check_eq!(told(SIGIO), Some((POLL_IN, IN, reader)));
    // The codes of this one mean something else.
    ok!(fcntl(reader, F_SETSIG, SIGCHLD));
    ok!(sys::write(writer, b"x"));
    check_eq!(told(SIGCHLD), Some((SI_SIGIO, IN, reader)));
}

fn room_in_a_pipe() {
    let (reader, writer) = ok!(sys::pipe(0));
    watch(writer);
    ok!(sys::write(writer, b"xy"));
    check_eq!(told(RT), None);
    ok!(sys::read(reader, &mut [0; 4]));
    check_eq!(told(RT), Some((POLL_OUT, OUT, writer)));
}

fn end_of_a_pipe() {
    let (reader, writer) = ok!(sys::pipe(0));
    watch(reader);
    sys::close(writer);
    check_eq!(told(RT), Some((POLL_IN, IN, reader)));
    let (reader, writer) = ok!(sys::pipe(0));
    watch(writer);
    sys::close(reader);
    check_eq!(told(RT), Some((POLL_OUT, OUT, writer)));
}

fn data_in_a_socket() {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let (one, other) = socket_pair(kind);
        watch(one);
        ok!(sys::write(other, b"x"));
        check_eq!(told(RT), Some((POLL_IN, IN, one)));
        ok!(sys::write(one, b"y"));
        check_eq!(told(RT), None);
    }
}

fn room_in_a_socket() {
    let (one, other) = socket_pair(libc::SOCK_STREAM);
    watch(one);
    let data = vec![7; 4096];
    while sys::write(one, &data).is_ok() {}
    check_eq!(told(RT), None);
    let mut buffer = vec![0; 1 << 20];
    ok!(fcntl(other, F_SETFL, O_NONBLOCK));
    while sys::read(other, &mut buffer).is_ok() {}
    check_eq!(told(RT), Some((POLL_OUT, OUT, one)));
}

fn hang_up_of_a_socket() {
    let (one, other) = socket_pair(libc::SOCK_STREAM);
    watch(one);
    sys::close(other);
    check_eq!(told(RT), Some((POLL_HUP, HUP, one)));
    let (one, other) = socket_pair(libc::SOCK_STREAM);
    watch(one);
    ok!(syscall!(SYS_shutdown, other, libc::SHUT_WR));
    check_eq!(told(RT), Some((POLL_IN, IN, one)));
    ok!(syscall!(SYS_shutdown, other, libc::SHUT_RDWR));
    check_eq!(told(RT), Some((POLL_HUP, HUP, one)));
}

fn connection_to_a_listener() {
    let listener = ok!(syscall!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)) as i32;
    // Bound to a name that the kernel chooses.
    let family = libc::AF_UNIX as u16;
    ok!(syscall!(SYS_bind, listener, &raw const family, 2));
    ok!(syscall!(SYS_listen, listener, 4));
    let (mut name, mut len) = ([0_u8; 110], 110_u32);
    ok!(syscall!(SYS_getsockname, listener, name.as_mut_ptr(), &raw mut len));
    watch(listener);
    let client = ok!(syscall!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)) as i32;
    ok!(syscall!(SYS_connect, client, name.as_ptr(), len));
    check_eq!(told(RT), Some((POLL_IN, IN, listener)));
}

/// Waits for the signal: a terminal may take a moment.
fn soon_told(signal: i32) -> Option<(i32, i64, i32)> {
    super::a_while();
    told(signal)
}

fn typing_at_a_terminal() {
    let pair = crate::tty::pair();
    set_mask(bit(RT));
    ok!(fcntl(pair.slave, F_SETSIG, RT));
    ok!(fcntl(pair.slave, F_SETFL, O_ASYNC));
    // Without a foreground, whoever asks gets it.
    check_eq!(fcntl(pair.slave, F_GETOWN, 0), Ok(sys::getpid() as usize));
    crate::tty::type_in(&pair, b"abc");
    check_eq!(soon_told(RT), None);
    crate::tty::type_in(&pair, b"\n");
    check_eq!(soon_told(RT), Some((POLL_IN, IN, pair.slave)));
}

fn output_of_a_terminal() {
    let pair = crate::tty::pair();
    watch(pair.master);
    ok!(sys::write(pair.slave, b"x"));
    check_eq!(soon_told(RT), Some((POLL_IN, IN, pair.master)));
}

fn foreground_is_the_owner_of_a_terminal() {
    let pair = crate::tty::pair();
    in_child(|| {
        ok!(syscall!(SYS_setsid));
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCSCTTY, 0));
        ok!(fcntl(pair.slave, F_SETFL, O_ASYNC));
        let mut owner = [-1; 2];
        ok!(syscall!(SYS_fcntl, pair.slave, F_GETOWN_EX, owner.as_mut_ptr()));
        check_eq!(owner, [F_OWNER_PGRP, sys::getpid()]);
    });
}

fn switched_off_sends_nothing() {
    let (reader, writer) = ok!(sys::pipe(0));
    watch(reader);
    ok!(fcntl(reader, F_SETFL, O_NONBLOCK));
    ok!(sys::write(writer, b"x"));
    check_eq!(told(RT), None);
    let on = 1_i32;
    ok!(syscall!(SYS_ioctl, reader, libc::FIOASYNC, &raw const on));
    check_eq!(fcntl(reader, libc::F_GETFL, 0), Ok((O_ASYNC | O_NONBLOCK) as usize));
    ok!(sys::write(writer, b"x"));
    check_eq!(told(RT), Some((POLL_IN, IN, reader)));
    // A file that is closed has nothing to say.
    let other = ok!(sys::open(&format!("/proc/self/fd/{reader}"), libc::O_RDONLY, 0));
    sys::close(reader);
    ok!(sys::write(writer, b"x"));
    check_eq!(told(RT), None);
    sys::close(other);
}

fn nobody_gets_nothing() {
    let (reader, writer) = ok!(sys::pipe(0));
    watch(reader);
    ok!(fcntl(reader, F_SETOWN, 0));
    ok!(sys::write(writer, b"x"));
    check_eq!(told(RT), None);
}

fn group_gets_it() {
    let (reader, writer) = ok!(sys::pipe(0));
    let (ready, go) = (Turn::new(), Turn::new());
    watch(reader);
    in_child(|| {
        ok!(sys::setpgid(0, 0));
        let member = crate::child::Child::spawn(|| {
            ready.post();
            go.wait();
            check_eq!(told(RT), Some((POLL_IN, IN, reader)));
        });
        ready.wait();
        own_by(reader, -sys::getpid());
        // Small ones look like errors.
        let owner = fcntl(reader, F_GETOWN, 0).map_or_else(|error| -error.0, |owner| owner as i32);
        check_eq!(owner, -sys::getpid());
        ok!(sys::write(writer, b"x"));
        check_eq!(told(RT), Some((POLL_IN, IN, reader)));
        go.post();
        member.join();
    });
    check_eq!(pending() & bit(RT), 0);
}

fn thread_gets_it() {
    let (reader, writer) = ok!(sys::pipe(0));
    watch(reader);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let own = [F_OWNER_TID, own_tid()];
            ok!(syscall!(SYS_fcntl, reader, F_SETOWN_EX, own.as_ptr()));
            let mut owner = [-1; 2];
            ok!(syscall!(SYS_fcntl, reader, F_GETOWN_EX, owner.as_mut_ptr()));
            check_eq!(owner, own);
            ok!(sys::write(writer, b"x"));
            check_eq!(pending() & bit(RT), bit(RT));
        });
    });
    // It was the thread's alone, and went with it.
    check_eq!(pending() & bit(RT), 0);
    super::until("the end of the thread", || fcntl(reader, F_GETOWN, 0) == Ok(0));
}

fn other_users_get_nothing() {
    let (reader, writer) = ok!(sys::pipe(0));
    set_mask(bit(RT));
    let parent = sys::getpid();
    in_child(|| {
        sys::become_unprivileged();
        ok!(fcntl(reader, F_SETSIG, RT));
        own_by(reader, parent);
        ok!(sys::write(writer, b"x"));
        check_eq!(fcntl(reader, F_GETOWN, 0), Ok(parent as usize));
        own_by(reader, sys::getpid());
        ok!(sys::write(writer, b"x"));
        check_eq!(told(RT), Some((POLL_IN, IN, reader)));
    });
    check_eq!(told(RT), None);
}

fn number_is_that_of_the_switch() {
    let (reader, writer) = ok!(sys::pipe(0));
    let copy = ok!(syscall!(SYS_dup, reader)) as i32;
    watch(copy);
    sys::close(copy);
    ok!(sys::write(writer, b"x"));
    check_eq!(told(RT), Some((POLL_IN, IN, copy)));
}

fn owner_is_told() {
    let (reader, _writer) = ok!(sys::pipe(0));
    check_eq!(fcntl(reader, F_GETOWN, 0), Ok(0));
    let owner = || {
        let mut owner = [-1; 2];
        ok!(syscall!(SYS_fcntl, reader, F_GETOWN_EX, owner.as_mut_ptr()));
        owner
    };
    ok!(fcntl(reader, F_SETOWN, sys::getpid()));
    check_eq!(owner(), [F_OWNER_PID, sys::getpid()]);
    let group = ok!(syscall!(SYS_getpgid, 0)) as i32;
    ok!(fcntl(reader, F_SETOWN, -group));
    check_eq!(owner(), [F_OWNER_PGRP, group]);
    // Who is gone is nobody.
    let child = crate::process::sleeper();
    ok!(fcntl(reader, F_SETOWN, child.pid));
    check_eq!(fcntl(reader, F_GETOWN, 0), Ok(child.pid as usize));
    crate::process::end(child);
    check_eq!(fcntl(reader, F_GETOWN, 0), Ok(0));
}

fn owner_errors() {
    let (reader, _writer) = ok!(sys::pipe(0));
    errno_is!(fcntl(reader, F_SETOWN, 0x3fff_ffff), ESRCH);
    errno_is!(fcntl(reader, F_SETOWN, -0x3fff_ffff), ESRCH);
    errno_is!(fcntl(reader, F_SETOWN, i32::MIN), EINVAL);
    errno_is!(fcntl(reader, F_SETSIG, 65), EINVAL);
    errno_is!(fcntl(reader, F_SETSIG, -1), EINVAL);
    for (owner, error) in [([F_OWNER_PID, 0x3fff_ffff], libc::ESRCH), ([3, sys::getpid()], libc::EINVAL)] {
        check_eq!(syscall!(SYS_fcntl, reader, F_SETOWN_EX, owner.as_ptr()), Err(sys::Errno(error)));
    }
    errno_is!(syscall!(SYS_fcntl, reader, F_SETOWN_EX, 0), EFAULT);
    errno_is!(syscall!(SYS_fcntl, reader, F_GETOWN_EX, 0), EFAULT);
}

fn files_without_signals() {
    let file = ok!(sys::open(&tmp::path(), libc::O_RDWR | libc::O_CREAT, 0o600));
    check_eq!(fcntl(file, F_SETFL, O_ASYNC), Ok(0));
    check_eq!(ok!(fcntl(file, libc::F_GETFL, 0)) as i32 & O_ASYNC, 0);
    let on = 1_i32;
    errno_is!(syscall!(SYS_ioctl, file, libc::FIOASYNC, &raw const on), ENOTTY);
    let off = 0_i32;
    check_eq!(syscall!(SYS_ioctl, file, libc::FIOASYNC, &raw const off), Ok(0));
}

fn sockets_have_calls_of_their_own() {
    let (one, _other) = socket_pair(libc::SOCK_STREAM);
    let (mine, mut found) = (sys::getpid(), -1_i32);
    ok!(syscall!(SYS_ioctl, one, 0x8902, &raw const mine));
    check_eq!(fcntl(one, F_GETOWN, 0), Ok(mine as usize));
    ok!(syscall!(SYS_ioctl, one, 0x8904, &raw mut found));
    check_eq!(found, mine);
}
