// SPDX-License-Identifier: MPL-2.0

//! Sessions, foreground groups and the signals of terminals.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libc::{O_NOCTTY, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, WUNTRACED};

use super::{Pair, open_slave, pair, type_in};
use crate::{
    child::{Child, Turn, shared_words},
    harness::Case,
    process::{await_word, block},
    sys,
};

pub const CASES: &[Case] = cases!["tty/control":
    open_of_a_session_leader_makes_it_controlling,
    ioctl_makes_it_controlling,
    dev_tty_is_the_controlling_terminal,
    interrupt_and_quit_kill_the_foreground,
    suspend_stops_the_foreground,
    without_isig_there_are_no_signals,
    background_read_is_stopped,
    background_read_of_an_orphan_is_eio,
    background_change_is_stopped_unless_ignored,
    window_change_is_told,
    closed_master_hangs_up_the_leader,
    closed_master_reaches_the_foreground_with_the_leaders_end,
    leaders_end_frees_the_terminal,
    leaders_end_leaves_files_of_a_pair_open,
    leaders_end_reaches_the_foreground,
    vhangup_takes_the_terminal_away,
    vhangup_ends_reading,
    vhangup_needs_privilege,
    foreground_of_another_session_is_eperm,
    master_tells_the_foreground,
    giving_up_the_terminal,
    giving_up_reaches_the_foreground,
];

fn foreground(fd: i32) -> sys::Result<i32> {
    let mut group = 0_i32;
    syscall!(SYS_ioctl, fd, libc::TIOCGPGRP, &raw mut group).map(|_| group)
}

fn set_foreground(fd: i32, group: i32) -> sys::Result {
    syscall!(SYS_ioctl, fd, libc::TIOCSPGRP, &raw const group)
}

/// Runs `body` in a child that leads a session with the terminal as its controlling one.
fn lead(pair: &Pair, body: impl FnOnce()) -> Child {
    Child::spawn(|| {
        ok!(syscall!(SYS_setsid));
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCSCTTY, 0));
        body();
    })
}

fn open_of_a_session_leader_makes_it_controlling() {
    let pair = pair();
    errno_is!(foreground(pair.slave), ENOTTY);
    Child::spawn(|| {
        ok!(syscall!(SYS_setsid));
        let own = ok!(open_slave(pair.number, O_NOCTTY));
        errno_is!(foreground(own), ENOTTY);
        let own = ok!(open_slave(pair.number, 0));
        check_eq!(foreground(own), Ok(sys::getpid()));
    })
    .join();
}

fn ioctl_makes_it_controlling() {
    let pair = pair();
    errno_is!(syscall!(SYS_ioctl, pair.slave, libc::TIOCSCTTY, 0), EPERM);
    lead(&pair, || {
        check_eq!(foreground(pair.slave), Ok(sys::getpid()));
        let mut session = 0_i32;
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCGSID, &raw mut session));
        check_eq!(session, sys::getpid());
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCSCTTY, 0));
    })
    .join();
}

fn dev_tty_is_the_controlling_terminal() {
    let pair = pair();
    lead(&pair, || {
        let own = ok!(sys::open("/dev/tty", libc::O_RDWR, 0));
        check_eq!(sys::write(own, b"x"), Ok(1));
        check_eq!(super::read(pair.master), b"x");
    })
    .join();
    Child::spawn(|| {
        ok!(syscall!(SYS_setsid));
        errno_is!(sys::open("/dev/tty", libc::O_RDWR, 0), ENXIO);
    })
    .join();
}

/// The signal that ends the foreground when this is typed.
fn typed(bytes: &[u8]) -> i32 {
    let (pair, ready) = (pair(), Turn::new());
    let child = lead(&pair, || {
        ready.post();
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    ready.wait();
    type_in(&pair, bytes);
    libc::WTERMSIG(child.wait())
}

fn interrupt_and_quit_kill_the_foreground() {
    check_eq!(typed(b"\x03"), SIGINT);
    check_eq!(typed(b"\x1c"), SIGQUIT);
}

/// Waits for a change of `pid`: its wait status.
fn change(pid: i32) -> i32 {
    ok!(sys::wait4(pid, WUNTRACED)).1
}

/// In the child: forks a member of its session in a group of its own, which waits for `go`.
fn in_group(go: &Turn, body: impl FnOnce()) -> i32 {
    let child = Child::spawn(|| {
        ok!(sys::setpgid(0, 0));
        go.wait();
        body();
    });
    let _ = sys::setpgid(child.pid, child.pid);
    child.pid
}

fn suspend_stops_the_foreground() {
    let pair = pair();
    lead(&pair, || {
        let (go, ready) = (Turn::new(), Turn::new());
        let member = in_group(&go, || {
            ready.post();
            loop {
                sys::sleep_us(1_000_000);
            }
        });
        ok!(set_foreground(pair.slave, member));
        go.post();
        ready.wait();
        type_in(&pair, b"\x1a");
        let status = change(member);
        check!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == SIGTSTP, "{status:#x}");
        ok!(sys::kill(member, libc::SIGKILL));
        change(member);
    })
    .join();
}

fn without_isig_there_are_no_signals() {
    let pair = pair();
    lead(&pair, || {
        super::set(pair.slave, |termios| termios.c_lflag &= !libc::ISIG);
        type_in(&pair, b"\x03\n");
        check_eq!(super::read(pair.slave), b"\x03\n");
    })
    .join();
}

fn background_read_is_stopped() {
    let pair = pair();
    lead(&pair, || {
        let go = Turn::new();
        let member = in_group(&go, || _ = sys::read(pair.slave, &mut [0]));
        go.post();
        let status = change(member);
        check!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == SIGTTIN, "{status:#x}");
        ok!(set_foreground(pair.slave, member));
        type_in(&pair, b"\n");
        ok!(sys::kill(member, SIGCONT));
        check_eq!(change(member), 0);
        sys::exit_group(0)
    })
    .join();
}

fn background_read_of_an_orphan_is_eio() {
    let pair = pair();
    let (told, done) = (Turn::new(), Turn::new());
    let leader = lead(&pair, || {
        let go = Turn::new();
        in_group(&go, || {
            // Its parent goes, and with it whoever could continue it.
            while ok!(syscall!(SYS_getppid)) == ok!(syscall!(SYS_getsid, 0)) {
                sys::sleep_us(5000);
            }
            told.post();
        });
        go.post();
    });
    leader.join();
    told.wait();
    done.post();
}

fn background_change_is_stopped_unless_ignored() {
    let pair = pair();
    lead(&pair, || {
        let go = Turn::new();
        let member = in_group(&go, || _ = set_foreground(pair.slave, sys::getpid()));
        go.post();
        let status = change(member);
        check!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == SIGTTOU, "{status:#x}");
        ok!(sys::kill(member, libc::SIGKILL));
        change(member);
        let go = Turn::new();
        let member = in_group(&go, || {
            // SAFETY: ignoring runs no code of ours.
            unsafe { libc::signal(SIGTTOU, libc::SIG_IGN) };
            ok!(set_foreground(pair.slave, sys::getpid()));
            check_eq!(foreground(pair.slave), Ok(sys::getpid()));
        });
        go.post();
        check_eq!(change(member), 0);
        sys::exit_group(0)
    })
    .join();
}

fn window_change_is_told() {
    let pair = pair();
    lead(&pair, || {
        let set = 1_u64 << (SIGWINCH - 1);
        ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const set, 0, 8));
        ok!(syscall!(SYS_ioctl, pair.master, libc::TIOCSWINSZ, [5_u16, 6, 0, 0].as_ptr()));
        let limit = [2_i64, 0];
        check_eq!(syscall!(SYS_rt_sigtimedwait, &raw const set, 0, limit.as_ptr(), 8), Ok(SIGWINCH as usize));
    })
    .join();
}

fn closed_master_hangs_up_the_leader() {
    let (pair, ready) = (pair(), Turn::new());
    let child = lead(&pair, || {
        sys::close(pair.master);
        ready.post();
        loop {
            sys::sleep_us(1_000_000);
        }
    });
    ready.wait();
    sys::close(pair.master);
    check_eq!(libc::WTERMSIG(child.wait()), SIGHUP);
}

fn leaders_end_frees_the_terminal() {
    let pair = pair();
    lead(&pair, || {}).join();
    let slave = ok!(open_slave(pair.number, O_NOCTTY));
    Child::spawn(|| {
        ok!(syscall!(SYS_setsid));
        ok!(syscall!(SYS_ioctl, slave, libc::TIOCSCTTY, 0));
        check_eq!(foreground(slave), Ok(sys::getpid()));
    })
    .join();
}

/// In the leader of a session: a member that puts itself in front, waits for `go` and says which of `SIGHUP` and `SIGCONT`
/// have come for it by then.
fn foreground_hears(pair: &Pair, ready: &Turn, go: &Turn, heard: &AtomicUsize) -> i32 {
    Child::spawn(|| {
        [SIGHUP, SIGCONT, SIGTTOU].into_iter().for_each(block);
        ok!(sys::setpgid(0, 0));
        ok!(set_foreground(pair.slave, sys::getpid()));
        ready.post();
        go.wait();
        heard.store(1 + pending(), SeqCst);
    })
    .pid
}

/// 2 if `SIGHUP` is pending, and 4 if `SIGCONT` is.
fn pending() -> usize {
    let mut set = 0_u64;
    ok!(syscall!(SYS_rt_sigpending, &raw mut set, 8));
    [(SIGHUP, 2), (SIGCONT, 4)]
        .iter()
        .filter(|(signal, _)| set & (1 << (signal - 1)) != 0)
        .map(|pair| pair.1)
        .sum()
}

const HEARD_HUP: usize = 1 + 2;
const HEARD_HUP_CONT: usize = 1 + 2 + 4;

fn closed_master_reaches_the_foreground_with_the_leaders_end() {
    let (pair, ready, heard) = (pair(), Turn::new(), shared_words());
    let (early, late, done) = (Turn::new(), Turn::new(), Turn::new());
    let leader = lead(&pair, || {
        sys::close(pair.master);
        block(SIGHUP);
        block(SIGCONT);
        foreground_hears(&pair, &ready, &late, &heard[0]);
        early.wait();
        check_eq!(pending(), 2 + 4);
        done.wait();
    });
    ready.wait();
    let member = ok!(foreground(pair.master));
    sys::close(pair.master);
    early.post();
    sys::sleep_us(20_000);
    let told = std::fs::read_to_string(format!("/proc/{member}/status")).unwrap_or_default();
    check!(told.contains("ShdPnd:\t0000000000000000"), "{told}");
    done.post();
    leader.join();
    late.post();
    check_eq!(await_word(&heard[0]), HEARD_HUP_CONT);
}

fn leaders_end_leaves_files_of_a_pair_open() {
    let pair = pair();
    lead(&pair, || {}).join();
    check_eq!(sys::write(pair.slave, b"x"), Ok(1));
    type_in(&pair, b"y\n");
    check_eq!(super::read(pair.slave), b"y\n");
    check_eq!(super::ready(pair.slave, libc::POLLIN | libc::POLLOUT), libc::POLLOUT);
}

fn leaders_end_reaches_the_foreground() {
    let (pair, ready, go, heard) = (pair(), Turn::new(), Turn::new(), shared_words());
    lead(&pair, || {
        foreground_hears(&pair, &ready, &go, &heard[0]);
        ready.wait();
    })
    .join();
    go.post();
    check_eq!(await_word(&heard[0]), HEARD_HUP);
}

fn vhangup_takes_the_terminal_away() {
    let (pair, ready, heard) = (pair(), Turn::new(), shared_words());
    let (early, late) = (Turn::new(), Turn::new());
    super::set(pair.slave, |termios| termios.c_lflag &= !libc::ECHO);
    type_in(&pair, b"unread\n");
    lead(&pair, || {
        block(SIGHUP);
        block(SIGCONT);
        let own = ok!(sys::open("/dev/tty", libc::O_RDWR, 0));
        foreground_hears(&pair, &ready, &late, &heard[0]);
        ready.wait();
        ok!(syscall!(SYS_vhangup));
        check_eq!(pending(), 2 + 4);
        for fd in [own, pair.slave] {
            check_eq!(sys::read(fd, &mut [0; 4]), Ok(0));
            errno_is!(sys::write(fd, b"x"), EIO);
            errno_is!(foreground(fd), EIO);
            errno_is!(set_foreground(fd, 1), ENOTTY);
            let all = libc::POLLIN | libc::POLLOUT | libc::POLLHUP | libc::POLLERR;
            check_eq!(super::ready(fd, libc::POLLIN | libc::POLLOUT), all);
        }
        errno_is!(sys::open("/dev/tty", libc::O_RDWR, 0), ENXIO);
        // The terminal itself is as good as new.
        let again = ok!(open_slave(pair.number, O_NOCTTY));
        check!(super::get(again).c_lflag & libc::ECHO != 0);
        type_in(&pair, b"a\n");
        check_eq!(super::read(again), b"a\n");
        early.post();
    })
    .join();
    early.wait();
    late.post();
    check_eq!(await_word(&heard[0]), HEARD_HUP_CONT);
}

fn vhangup_ends_reading() {
    let (pair, turn) = (pair(), Turn::new());
    lead(&pair, || {
        block(SIGHUP);
        let member = Child::spawn(|| {
            turn.post();
            check_eq!(sys::read(pair.slave, &mut [0; 4]), Ok(0));
        });
        turn.wait();
        sys::sleep_us(20_000);
        ok!(syscall!(SYS_vhangup));
        member.join();
    })
    .join();
}

fn vhangup_needs_privilege() {
    let pair = pair();
    lead(&pair, || {
        sys::become_unprivileged();
        errno_is!(syscall!(SYS_vhangup), EPERM);
        check!(foreground(pair.slave).is_ok());
    })
    .join();
}

fn giving_up_reaches_the_foreground() {
    let (pair, ready, go, heard) = (pair(), Turn::new(), Turn::new(), shared_words());
    lead(&pair, || {
        foreground_hears(&pair, &ready, &go, &heard[0]);
        ready.wait();
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCNOTTY, 0));
        go.post();
        check_eq!(await_word(&heard[0]), HEARD_HUP_CONT);
        // The terminal is free, and its files go on.
        check_eq!(sys::write(pair.slave, b"x"), Ok(1));
    })
    .join();
}

fn foreground_of_another_session_is_eperm() {
    let pair = pair();
    let outside = sys::getpid();
    lead(&pair, || {
        errno_is!(set_foreground(pair.slave, ok!(syscall!(SYS_getpgid, outside)) as i32), EPERM);
        errno_is!(set_foreground(pair.slave, -1), EINVAL);
        errno_is!(set_foreground(pair.slave, 4_000_000), ESRCH);
    })
    .join();
}

fn master_tells_the_foreground() {
    let (pair, ready, go) = (pair(), Turn::new(), Turn::new());
    let child = lead(&pair, || {
        ready.post();
        go.wait();
    });
    ready.wait();
    check_eq!(foreground(pair.master), Ok(child.pid));
    go.post();
    child.join();
}

fn giving_up_the_terminal() {
    let pair = pair();
    errno_is!(syscall!(SYS_ioctl, pair.slave, libc::TIOCNOTTY, 0), ENOTTY);
    lead(&pair, || {
        // SAFETY: ignoring runs no code of ours.
        unsafe { libc::signal(SIGHUP, libc::SIG_IGN) };
        ok!(syscall!(SYS_ioctl, pair.slave, libc::TIOCNOTTY, 0));
        errno_is!(foreground(pair.slave), ENOTTY);
        errno_is!(sys::open("/dev/tty", libc::O_RDWR, 0), ENXIO);
    })
    .join();
}
