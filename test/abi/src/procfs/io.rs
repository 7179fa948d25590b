// SPDX-License-Identifier: MPL-2.0

//! `/proc/PID/io`: what was read and written.

use libc::{AF_UNIX, O_NONBLOCK, O_RDONLY, SOCK_STREAM};

use crate::{
    child::{Child, Turn, in_child},
    harness::Case,
    mem::PAGE,
    sys,
};

pub const CASES: &[Case] = cases!["procfs/io":
    reads_and_writes_are_counted,
    calls_that_fail_are_counted,
    calls_without_a_file_are_not_counted,
    messages_of_sockets_are_not_counted,
    copies_count_for_both,
    memory_has_no_disk,
    children_count_when_waited_for,
    threads_have_their_own,
    strangers_may_not_look,
];

/// `rchar`, `wchar`, `syscr`, `syscw`, `read_bytes`, `write_bytes`, `cancelled_write_bytes`.
type Figures = [u64; 7];

/// The figures in one read, and its length.
fn figures_of(path: &str) -> (Figures, u64) {
    let fd = ok!(sys::open(path, O_RDONLY, 0));
    let mut text = [0; 400];
    let len = ok!(sys::read(fd, &mut text));
    sys::close(fd);
    let text = String::from_utf8_lossy(&text[..len]);
    let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    check_eq!(text.lines().count(), names.len());
    let mut figures = [0; 7];
    for ((line, name), figure) in text.lines().zip(names).zip(&mut figures) {
        *figure = match line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).map(str::parse) {
            Some(Ok(figure)) => figure,
            _ => panic!("not a line of {name}: {line:?}"),
        };
    }
    (figures, len as u64)
}

/// What `body` adds to the figures of the case.
fn added_by(body: impl FnOnce()) -> Figures {
    let (before, len) = figures_of("/proc/self/io");
    body();
    let (after, _) = figures_of("/proc/self/io");
    let mut added = [0; 7];
    for (added, (before, after)) in added.iter_mut().zip(before.iter().zip(after)) {
        *added = after - before;
    }
    // The first look is among what the second sees.
    added[0] -= len;
    added[2] -= 1;
    added
}

fn reads_and_writes_are_counted() {
    let (reader, writer) = ok!(sys::pipe(0));
    let added = added_by(|| {
        check_eq!(sys::write(writer, b"hello"), Ok(5));
        let parts = [(b"ab".as_ptr(), 2_usize), (b"cde".as_ptr(), 3)];
        check_eq!(syscall!(SYS_writev, writer, parts.as_ptr(), 2), Ok(5));
        check_eq!(sys::read(reader, &mut [0; 8]), Ok(8));
    });
    check_eq!(added, [8, 10, 1, 2, 0, 0, 0]);
}

fn calls_that_fail_are_counted() {
    let (reader, _writer) = ok!(sys::pipe(O_NONBLOCK));
    check_eq!(added_by(|| errno_is!(sys::read(reader, &mut [0]), EAGAIN)), [0, 0, 1, 0, 0, 0, 0]);
}

fn calls_without_a_file_are_not_counted() {
    let (reader, writer) = ok!(sys::pipe(0));
    let added = added_by(|| {
        errno_is!(sys::read(-1, &mut [0]), EBADF);
        errno_is!(sys::read(writer, &mut [0]), EBADF);
        errno_is!(sys::write(reader, b"x"), EBADF);
    });
    check_eq!(added, [0; 7]);
}

fn messages_of_sockets_are_not_counted() {
    let mut ends = [-1_i32; 2];
    ok!(syscall!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends.as_mut_ptr()));
    let added = added_by(|| {
        check_eq!(syscall!(SYS_sendto, ends[0], b"abc".as_ptr(), 3, 0, 0, 0), Ok(3));
        check_eq!(syscall!(SYS_recvfrom, ends[1], [0_u8; 3].as_mut_ptr(), 1, 0, 0, 0), Ok(1));
        check_eq!(sys::read(ends[1], &mut [0; 3]), Ok(2));
    });
    check_eq!(added, [2, 0, 1, 0, 0, 0, 0]);
}

fn memfd(len: usize) -> i32 {
    let fd = ok!(syscall!(SYS_memfd_create, c"io".as_ptr(), 0)) as i32;
    ok!(sys::ftruncate(fd, len));
    fd
}

fn copies_count_for_both() {
    let (from, to) = (memfd(PAGE), memfd(0));
    let added = added_by(|| check_eq!(syscall!(SYS_sendfile, to, from, 0, PAGE), Ok(PAGE)));
    check_eq!(added, [PAGE as u64, PAGE as u64, 1, 1, 0, 0, 0]);
}

fn memory_has_no_disk() {
    let fd = memfd(0);
    let added = added_by(|| {
        check_eq!(sys::pwrite(fd, &[1; 3 * PAGE], 0), Ok(3 * PAGE));
        check_eq!(sys::pread(fd, &mut [0; PAGE], 0), Ok(PAGE));
        ok!(sys::ftruncate(fd, 0));
    });
    check_eq!(added, [PAGE as u64, 3 * PAGE as u64, 1, 1, 0, 0, 0]);
}

fn children_count_when_waited_for() {
    let (reader, writer) = ok!(sys::pipe(0));
    let (ready, go) = (Turn::new(), Turn::new());
    let (before, _) = figures_of("/proc/self/io");
    let child = Child::spawn(|| {
        check_eq!(sys::write(writer, &[0; 1000]), Ok(1000));
        ready.post();
        go.wait();
    });
    ready.wait();
    check_eq!(figures_of("/proc/self/io").0[1], before[1]);
    check!(figures_of(&format!("/proc/{}/io", child.pid)).0[1] >= 1000);
    go.post();
    child.join();
    check!(figures_of("/proc/self/io").0[1] >= before[1] + 1000);
    sys::close(reader);
}

fn threads_have_their_own() {
    let (_reader, writer) = ok!(sys::pipe(0));
    let before = figures_of("/proc/thread-self/io").0[1];
    let whole = figures_of("/proc/self/io").0[1];
    std::thread::scope(|scope| {
        scope.spawn(|| check_eq!(sys::write(writer, &[0; 100]), Ok(100)));
    });
    check_eq!(figures_of("/proc/thread-self/io").0[1], before);
    check_eq!(figures_of("/proc/self/io").0[1], whole + 100);
}

fn strangers_may_not_look() {
    let path = format!("/proc/{}/io", sys::getpid());
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(sys::open(&path, O_RDONLY, 0), EACCES);
    });
}
