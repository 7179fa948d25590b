// SPDX-License-Identifier: MPL-2.0

//! FIFOs: how opening one waits for the other side, and what comes through. mknod(2).

use libc::{O_NONBLOCK, O_WRONLY, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK};

use super::*;
use crate::child::{Child, in_child, killed_by};

pub const CASES: &[Case] = cases!["file/fifo":
    reader_and_writer_meet,
    nonblocking_reader_does_not_wait,
    nonblocking_writer_alone_is_enxio,
    opened_for_both_does_not_wait,
    end_of_file_and_new_writer,
    writer_without_reader_gets_sigpipe,
    path_descriptor_is_no_reader,
    waiting_open_can_be_killed,
    size_is_zero_and_seek_fails,
    mknod_makes_each_kind,
    mknod_errors,
];

fn mknod(path: &str, mode: u32, device: u64) -> sys::Result {
    syscall!(SYS_mknod, sys::c_string(path).as_ptr(), mode, device)
}

fn fifo() -> String {
    let path = tmp::path();
    ok!(mknod(&path, S_IFIFO | 0o600, 0));
    path
}

fn reader_and_writer_meet() {
    let path = fifo();
    let child = Child::spawn(|| check_eq!(sys::write(open(&path, O_WRONLY), b"hello"), Ok(5)));
    let reader = open(&path, O_RDONLY);
    let mut part = [0; 9];
    check_eq!(sys::read(reader, &mut part), Ok(5));
    check_eq!(&part[..5], b"hello");
    child.join();
    check_eq!(sys::read(reader, &mut part), Ok(0));
    // The other way round.
    let child = Child::spawn(|| check_eq!(sys::read(open(&path, O_RDONLY), &mut [0; 9]), Ok(3)));
    sys::close(reader);
    check_eq!(sys::write(open(&path, O_WRONLY), b"bye"), Ok(3));
    child.join();
}

fn nonblocking_reader_does_not_wait() {
    let path = fifo();
    let reader = open(&path, O_RDONLY | O_NONBLOCK);
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
    let writer = open(&path, O_WRONLY);
    errno_is!(sys::read(reader, &mut [0]), EAGAIN);
    check_eq!(sys::write(writer, b"x"), Ok(1));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
}

fn nonblocking_writer_alone_is_enxio() {
    let path = fifo();
    errno_is!(sys::open(&path, O_WRONLY | O_NONBLOCK, 0), ENXIO);
    let _reader = open(&path, O_RDONLY | O_NONBLOCK);
    ok!(sys::open(&path, O_WRONLY | O_NONBLOCK, 0));
}

fn opened_for_both_does_not_wait() {
    let both = open(&fifo(), O_RDWR);
    check_eq!(sys::write(both, b"abc"), Ok(3));
    check_eq!(sys::read(both, &mut [0; 9]), Ok(3));
}

fn end_of_file_and_new_writer() {
    let path = fifo();
    let reader = open(&path, O_RDONLY | O_NONBLOCK);
    for round in [b"1", b"2"] {
        let writer = open(&path, O_WRONLY);
        check_eq!(sys::write(writer, round), Ok(1));
        sys::close(writer);
        let mut part = [0; 5];
        check_eq!(sys::read(reader, &mut part), Ok(1));
        check_eq!(&part[..1], round);
        check_eq!(sys::read(reader, &mut part), Ok(0));
    }
    // What was not read is gone once nobody has it open.
    let writer = open(&path, O_WRONLY);
    check_eq!(sys::write(writer, b"lost"), Ok(4));
    sys::close(writer);
    sys::close(reader);
    check_eq!(sys::read(open(&path, O_RDONLY | O_NONBLOCK), &mut [0]), Ok(0));
}

fn writer_without_reader_gets_sigpipe() {
    let path = fifo();
    let reader = open(&path, O_RDONLY | O_NONBLOCK);
    let writer = open(&path, O_WRONLY);
    sys::close(reader);
    check_eq!(killed_by(|| _ = sys::write(writer, b"x")), Some(libc::SIGPIPE));
    let _reader = open(&path, O_RDONLY | O_NONBLOCK);
    check_eq!(sys::write(writer, b"x"), Ok(1));
}

fn path_descriptor_is_no_reader() {
    let path = fifo();
    let named = open(&path, libc::O_PATH);
    check_eq!(ok!(fstat(named)).st_mode & S_IFMT, S_IFIFO);
    errno_is!(sys::open(&path, O_WRONLY | O_NONBLOCK, 0), ENXIO);
}

fn waiting_open_can_be_killed() {
    let path = fifo();
    let child = Child::spawn(|| _ = sys::open(&path, O_RDONLY, 0));
    sys::sleep_us(20_000);
    ok!(sys::kill(child.pid, libc::SIGKILL));
    check!(libc::WIFSIGNALED(child.wait()));
    errno_is!(sys::open(&path, O_WRONLY | O_NONBLOCK, 0), ENXIO);
}

fn size_is_zero_and_seek_fails() {
    let path = fifo();
    let both = open(&path, O_RDWR);
    check_eq!(sys::write(both, b"abc"), Ok(3));
    check_eq!(ok!(stat(&path)).st_size, 0);
    errno_is!(lseek(both, 0, libc::SEEK_SET), ESPIPE);
    errno_is!(sys::ftruncate(both, 0), EINVAL);
    ok!(unlink(&path));
    check_eq!(sys::read(both, &mut [0; 3]), Ok(3));
}

fn mknod_makes_each_kind() {
    umask(0o22);
    for kind in [S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK] {
        let path = tmp::path();
        ok!(mknod(&path, kind | 0o666, libc::makedev(1, 3)));
        let told = ok!(lstat(&path));
        check_eq!(told.st_mode, kind | 0o644);
        let device = if kind == S_IFCHR || kind == S_IFBLK { libc::makedev(1, 3) } else { 0 };
        check_eq!(told.st_rdev, device);
        if kind == S_IFCHR {
            check_eq!(sys::read(open(&path, O_RDONLY), &mut [0]), Ok(0), "the new name of /dev/null");
        }
        if kind == S_IFSOCK {
            errno_is!(sys::open(&path, O_RDONLY, 0), ENXIO);
        }
    }
    let plain = tmp::path();
    ok!(mknod(&plain, 0o600, 0));
    check_eq!(ok!(stat(&plain)).st_mode & S_IFMT, S_IFREG);
}

fn mknod_errors() {
    let (_, path) = tmp::named_file(b"");
    errno_is!(mknod(&path, S_IFIFO | 0o600, 0), EEXIST);
    errno_is!(mknod(&tmp::path(), S_IFDIR | 0o700, 0), EPERM);
    errno_is!(mknod(&tmp::path(), S_IFMT, 0), EINVAL);
    errno_is!(mknod(&format!("{path}/x"), S_IFREG, 0), ENOTDIR);
    errno_is!(mknod(&format!("{}/x", tmp::path()), S_IFREG, 0), ENOENT);
    let dir = new_dir();
    ok!(chmod(&dir, 0o777));
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(mknod(&format!("{dir}/c"), S_IFCHR | 0o600, libc::makedev(1, 3)), EPERM);
        errno_is!(mknod(&format!("{dir}/b"), S_IFBLK | 0o600, libc::makedev(1, 3)), EPERM);
        ok!(mknod(&format!("{dir}/p"), S_IFIFO | 0o600, 0));
    });
    // A device that nobody drives has a name all the same.
    let none = tmp::path();
    ok!(mknod(&none, S_IFCHR | 0o600, libc::makedev(251, 77)));
    errno_is!(sys::open(&none, O_RDONLY, 0), ENXIO);
}
