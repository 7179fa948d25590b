// SPDX-License-Identifier: MPL-2.0

//! What there is to be taken. To add a kind, write a function that takes one more and add it to [`KINDS`].

use std::{
    ffi::CString,
    mem::zeroed,
    ptr::null_mut,
    sync::atomic::{AtomicI32, Ordering::Relaxed},
};

use crate::{FOLDERS, sys};

/// Takes one more, given how many this process has tried to take before; returns whether it was had.
pub type Take = fn(usize) -> bool;

/// All kinds.
pub const KINDS: [(&str, Take); 24] = [
    ("memory", memory),
    ("mappings", mapping),
    ("nodes", page_tables),
    ("gaps", |_| gaps()),
    ("forks", |_| sys::fork(sys::pause).is_some()),
    ("threads", |_| sys::sleeping_thread()),
    ("tables", descriptor_table),
    ("files", |count| sys::create(&name(FOLDERS[0], count)).is_some()),
    ("contents", |count| sys::create(&name(FOLDERS[1], count)).is_some_and(sys::fill)),
    ("links", symbolic_link),
    ("attributes", attribute),
    ("memfds", |_| memfd()),
    ("pipes", |_| pipe()),
    ("sockets", |_| socket_pair()),
    ("messages", |_| small_messages()),
    ("backlogs", |_| connection()),
    ("terminals", |_| terminal()),
    ("polls", poller),
    ("epolls", |_| epoll()),
    ("interests", interest),
    ("timers", |_| timer(libc::CLOCK_MONOTONIC).is_some()),
    ("clocks", |_| cpu_timer()),
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

/// Pages far from each other, of which each goes by itself when they are unmapped.
fn gaps() -> bool {
    const SIZE: usize = 8 << 30;
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let Some(addr) = sys::map(SIZE, libc::PROT_READ | libc::PROT_WRITE, flags) else { return false };
    (addr..addr + SIZE).step_by(1 << 21).for_each(sys::touch);
    sys::unmap(addr, SIZE);
    true
}

/// A descriptor far away in the table, which is as long as that.
fn descriptor_table(count: usize) -> bool {
    const STEP: usize = 512;
    // SAFETY: no memory is involved.
    sys::is_ok(unsafe { libc::dup2(0, (count * STEP) as i32) })
}

fn symbolic_link(count: usize) -> bool {
    const LENGTH: usize = 4000;
    static TARGET: [u8; LENGTH + 1] = {
        let mut target = [b'x'; LENGTH + 1];
        target[LENGTH] = 0;
        target
    };
    let Ok(path) = CString::new(name(FOLDERS[0], count)) else { return false };
    // SAFETY: both strings end with a zero.
    sys::is_ok(unsafe { libc::symlink(TARGET.as_ptr().cast(), path.as_ptr()) })
}

/// A file with an attribute that is as large as may be.
fn attribute(count: usize) -> bool {
    const SIZE: usize = 1 << 16;
    static VALUE: [u8; SIZE] = [7; SIZE];
    let path = name(FOLDERS[0], count);
    let Some(fd) = sys::create(&path) else { return false };
    // SAFETY: the name ends with a zero, and the value is as long as it says.
    let answer = unsafe { libc::fsetxattr(fd, c"user.hostile".as_ptr(), VALUE.as_ptr().cast(), SIZE, 0) };
    sys::close(fd);
    sys::is_ok(answer)
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

/// A stream full of messages of one byte.
fn small_messages() -> bool {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    // SAFETY: there is room for two descriptors, and a byte at the address of one.
    unsafe {
        sys::is_ok(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))
            && (0..).take_while(|_| libc::write(ends[0], [7u8].as_ptr().cast(), 1) > 0).count() > 0
    }
}

/// A connection that nobody accepts; all processes of this kind make theirs to one socket.
fn connection() -> bool {
    const BACKLOG: i32 = 4096;
    // SAFETY: the address is valid while the calls last; an empty name after the family has the kernel choose one.
    unsafe {
        let mut address: libc::sockaddr_un = zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        address.sun_path[1..8].copy_from_slice(&b"hostile".map(|byte| byte as _));
        let len = (size_of::<libc::sa_family_t>() + 8) as u32;
        let address = (&raw const address).cast();
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
        let listener = libc::socket(libc::AF_UNIX, kind, 0);
        if sys::is_ok(libc::bind(listener, address, len)) {
            libc::listen(listener, BACKLOG);
        } else {
            sys::close(listener);
        }
        let fd = libc::socket(libc::AF_UNIX, kind, 0);
        fd >= 0 && sys::is_ok(libc::connect(fd, address, len))
    }
}

/// A pair of terminals, with as many lines as it takes.
fn terminal() -> bool {
    // SAFETY: no memory is involved but the bytes to be written.
    unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK);
        fd >= 0 && (0..).take_while(|_| libc::write(fd, [b'\n'; 64].as_ptr().cast(), 64) > 0).count() > 0
    }
}

/// An event that never comes. Each process has its own, which its first attempt makes, and those that only wait share it.
fn common_event(count: usize) -> i32 {
    static EVENT: AtomicI32 = AtomicI32::new(-1);
    if count == 1 {
        // SAFETY: no memory is involved.
        EVENT.store(unsafe { libc::eventfd(0, 0) }, Relaxed);
    }
    EVENT.load(Relaxed)
}

/// A process that waits for one event very many times over.
fn poller(count: usize) -> bool {
    const TIMES: usize = 4096;
    let event = common_event(count);
    let poll = || {
        let mut entries = [libc::pollfd { fd: event, events: libc::POLLIN, revents: 0 }; TIMES];
        // SAFETY: the list is as long as it says.
        unsafe { libc::poll(entries.as_mut_ptr(), TIMES as libc::nfds_t, -1) };
        sys::pause();
    };
    event >= 0 && sys::fork(poll).is_some()
}

/// One more number of an event in one epoll.
fn interest(count: usize) -> bool {
    static SET: AtomicI32 = AtomicI32::new(-1);
    // SAFETY: the event is valid while the call lasts.
    unsafe {
        let event = common_event(count);
        if count == 1 {
            SET.store(libc::epoll_create1(0), Relaxed);
        }
        let (set, fd) = (SET.load(Relaxed), libc::dup(event));
        let mut interest = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        fd >= 0 && sys::is_ok(libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &mut interest))
    }
}

fn epoll() -> bool {
    // SAFETY: the event is valid while the call lasts.
    unsafe {
        let (set, event) = (libc::epoll_create1(0), libc::eventfd(0, 0));
        let mut interest = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        set >= 0 && event >= 0 && sys::is_ok(libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, event, &mut interest))
    }
}

/// A timer that is not set.
fn timer(clock: libc::clockid_t) -> Option<libc::timer_t> {
    let mut id = null_mut();
    // SAFETY: there is room for the number; without an event the timer is to send SIGALRM.
    sys::is_ok(unsafe { libc::timer_create(clock, null_mut(), &mut id) }).then_some(id)
}

/// A timer on the time that the process runs, which each tick must look at.
fn cpu_timer() -> bool {
    const LATE: libc::timespec = libc::timespec { tv_sec: 1 << 20, tv_nsec: 0 };
    const ONCE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let setting = libc::itimerspec { it_interval: ONCE, it_value: LATE };
    let set = |id| {
        // SAFETY: the timer exists, and the setting is valid while the call lasts.
        sys::is_ok(unsafe { libc::timer_settime(id, 0, &setting, null_mut()) })
    };
    timer(libc::CLOCK_PROCESS_CPUTIME_ID).is_some_and(set)
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
