// SPDX-License-Identifier: MPL-2.0

//! What there is to be taken. To add a kind, write a function that takes one more and add it to [`KINDS`].

use std::{ffi::CString, mem::zeroed, ptr::null_mut, thread, time::Duration};

use crate::{FOLDERS, sys};

/// Takes one more, given how many this process has tried to take before; returns whether it was had.
pub type Take = fn(usize) -> bool;

/// All kinds.
pub const KINDS: [(&str, Take); 16] = [
    ("memory", memory),
    ("mappings", mapping),
    ("tables", page_tables),
    ("forks", |_| sys::fork(sys::pause).is_some()),
    ("threads", |_| thread()),
    ("files", |count| sys::create(&name(FOLDERS[0], count)).is_some()),
    ("contents", |count| sys::create(&name(FOLDERS[1], count)).is_some_and(sys::fill)),
    ("links", symbolic_link),
    ("attributes", attribute),
    ("memfds", |_| memfd()),
    ("pipes", |_| pipe()),
    ("sockets", |_| socket_pair()),
    ("epolls", |_| epoll()),
    ("timers", |_| timer()),
    ("signals", |_| signal()),
    ("locks", lock),
];

/// A name that no other process uses.
fn name(folder: &str, count: usize) -> String {
    format!("{folder}/{}-{count}", std::process::id())
}

fn memory(_: usize) -> bool {
    const SIZE: usize = 1 << 20;
    let Some(addr) = sys::map(SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE) else {
        return false;
    };
    (addr..addr + SIZE).step_by(4096).for_each(sys::touch);
    true
}

/// Mappings of one page whose neighbours are different, so that they do not become one.
fn mapping(count: usize) -> bool {
    let protection = if count.is_multiple_of(2) { libc::PROT_READ } else { libc::PROT_NONE };
    sys::map(4096, protection, libc::MAP_PRIVATE).is_some()
}

/// One page each in places that have no page table in common.
fn page_tables(_: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let Some(addr) = sys::map(1 << 30, libc::PROT_READ | libc::PROT_WRITE, flags) else { return false };
    (addr..addr + (1 << 30)).step_by(1 << 25).for_each(sys::touch);
    true
}

fn thread() -> bool {
    const STACK: usize = 1 << 14;
    let sleeper = || thread::sleep(Duration::from_secs(1 << 20));
    thread::Builder::new().stack_size(STACK).spawn(sleeper).is_ok()
}

fn symbolic_link(count: usize) -> bool {
    const LENGTH: usize = 4000;
    std::os::unix::fs::symlink("x".repeat(LENGTH), name(FOLDERS[0], count)).is_ok()
}

/// Attributes of a file, each as large as they may be.
fn attribute(count: usize) -> bool {
    const SIZE: usize = 1 << 16;
    static VALUE: [u8; SIZE] = [7; SIZE];
    let path = name(FOLDERS[0], count / 64);
    if count.is_multiple_of(64) && std::fs::write(&path, []).is_err() {
        return false;
    }
    let (Ok(path), Ok(key)) = (CString::new(path), CString::new(format!("user.{count}"))) else {
        return false;
    };
    // SAFETY: both strings end with a zero, and the value is as long as it says.
    sys::is_ok(unsafe { libc::setxattr(path.as_ptr(), key.as_ptr(), VALUE.as_ptr().cast(), SIZE, 0) })
}

fn memfd() -> bool {
    // SAFETY: the name ends with a zero.
    let fd = unsafe { libc::memfd_create(c"hostile".as_ptr(), 0) };
    const PIECES: usize = 16;
    fd >= 0 && (0..PIECES).all(|_| sys::write_piece(fd))
}

fn pipe() -> bool {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    if !sys::is_ok(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) }) {
        return false;
    }
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(ends[1], libc::F_SETPIPE_SZ, 1 << 20) };
    sys::fill(ends[1])
}

fn socket_pair() -> bool {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    // SAFETY: there is room for two descriptors.
    sys::is_ok(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) }) && sys::fill(ends[0])
}

fn epoll() -> bool {
    // SAFETY: the event is valid while the call lasts.
    unsafe {
        let (set, event) = (libc::epoll_create1(0), libc::eventfd(0, 0));
        let mut interest = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        set >= 0 && event >= 0 && sys::is_ok(libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, event, &mut interest))
    }
}

fn timer() -> bool {
    let mut id = null_mut();
    // SAFETY: without an event the timer is to send SIGALRM, and it is never set.
    sys::is_ok(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, null_mut(), &mut id) })
}

/// Signals that wait because they are blocked.
fn signal() -> bool {
    // SAFETY: the set is initialized by `sigemptyset`, and no memory is involved otherwise.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGRTMIN());
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
        sys::is_ok(libc::sigqueue(libc::getpid(), libc::SIGRTMIN(), libc::sigval { sival_ptr: null_mut() }))
    }
}

/// Locks of every other byte of a file.
fn lock(count: usize) -> bool {
    thread_local!(static FILE: std::cell::Cell<i32> = const { std::cell::Cell::new(-1) });
    if FILE.get() < 0 || count == 1 {
        FILE.set(sys::create(&name(FOLDERS[0], 0)).unwrap_or(-1));
    }
    let range = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 2 * count as i64,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the structure is valid while the call lasts.
    sys::is_ok(unsafe { libc::fcntl(FILE.get(), libc::F_SETLK, &range) })
}
