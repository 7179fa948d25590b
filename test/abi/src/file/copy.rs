// SPDX-License-Identifier: MPL-2.0

//! What moves data within the kernel: sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2).

use libc::{O_APPEND, O_NONBLOCK, O_WRONLY, SEEK_CUR, SEEK_SET, SPLICE_F_NONBLOCK};

use super::*;

pub const CASES: &[Case] = cases!["file/copy":
    sendfile_copies,
    sendfile_with_an_offset,
    sendfile_into_a_pipe,
    sendfile_errors,
    copy_file_range_copies,
    copy_file_range_with_offsets,
    copy_file_range_within_a_file,
    copy_file_range_errors,
    splice_from_file_to_pipe_to_file,
    splice_between_pipes,
    splice_errors,
    tee_leaves_the_data,
    vmsplice_fills_a_pipe,
];

fn null() -> *mut i64 {
    std::ptr::null_mut()
}

fn sendfile_copies() {
    let (from, to) = (tmp::file(&[7; 10_000]), tmp::file(b""));
    check_eq!(syscall!(SYS_sendfile, to, from, null(), 6000), Ok(6000));
    check_eq!(lseek(from, 0, SEEK_CUR), Ok(6000));
    check_eq!(syscall!(SYS_sendfile, to, from, null(), 6000), Ok(4000));
    check_eq!(syscall!(SYS_sendfile, to, from, null(), 6000), Ok(0));
    check_eq!(content(to), vec![7; 10_000]);
}

fn sendfile_with_an_offset() {
    let (from, to) = (tmp::file(b"0123456789"), tmp::file(b""));
    let mut offset = 3_i64;
    check_eq!(syscall!(SYS_sendfile, to, from, &raw mut offset, 4), Ok(4));
    check_eq!(offset, 7);
    check_eq!(lseek(from, 0, SEEK_CUR), Ok(0));
    check_eq!(content(to), b"3456");
}

fn sendfile_into_a_pipe() {
    let from = tmp::file(b"0123456789");
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(syscall!(SYS_sendfile, writer, from, null(), 100), Ok(10));
    let mut part = [0; 20];
    check_eq!(sys::read(reader, &mut part), Ok(10));
    check_eq!(&part[..10], b"0123456789");
}

fn sendfile_errors() {
    let (from, path) = tmp::named_file(b"content");
    let to = tmp::file(b"");
    errno_is!(syscall!(SYS_sendfile, 999, from, null(), 1), EBADF);
    errno_is!(syscall!(SYS_sendfile, to, 999, null(), 1), EBADF);
    errno_is!(syscall!(SYS_sendfile, to, open(&path, O_WRONLY), null(), 1), EBADF);
    errno_is!(syscall!(SYS_sendfile, open(&path, O_RDONLY), from, null(), 1), EBADF);
    errno_is!(syscall!(SYS_sendfile, open(&path, O_WRONLY | O_APPEND), from, null(), 1), EINVAL);
    errno_is!(syscall!(SYS_sendfile, to, from, crate::mem::free_range(1), 1), EFAULT);
    let mut negative = -1_i64;
    errno_is!(syscall!(SYS_sendfile, to, from, &raw mut negative, 1), EINVAL);
    let (reader, _writer) = ok!(sys::pipe(0));
    let mut offset = 0_i64;
    errno_is!(syscall!(SYS_sendfile, to, reader, &raw mut offset, 1), ESPIPE);
}

fn copy_range(from: i32, from_at: *mut i64, to: i32, to_at: *mut i64, len: usize) -> sys::Result {
    syscall!(SYS_copy_file_range, from, from_at, to, to_at, len, 0)
}

fn copy_file_range_copies() {
    let (from, to) = (tmp::file(&[7; 10_000]), tmp::file(b"ab"));
    ok!(lseek(to, 2, SEEK_SET));
    check_eq!(copy_range(from, null(), to, null(), 20_000), Ok(10_000));
    check_eq!(copy_range(from, null(), to, null(), 20_000), Ok(0));
    check_eq!(lseek(from, 0, SEEK_CUR), Ok(10_000));
    check_eq!(lseek(to, 0, SEEK_CUR), Ok(10_002));
    let all = content(to);
    check_eq!((&all[..3], all.len()), (&b"ab\x07"[..], 10_002));
}

fn copy_file_range_with_offsets() {
    let (from, to) = (tmp::file(b"0123456789"), tmp::file(b"abcdefghij"));
    let (mut from_at, mut to_at) = (2_i64, 8_i64);
    check_eq!(copy_range(from, &raw mut from_at, to, &raw mut to_at, 5), Ok(5));
    check_eq!((from_at, to_at), (7, 13));
    check_eq!(content(to), b"abcdefgh23456");
    check_eq!(lseek(from, 0, SEEK_CUR), Ok(0));
}

fn copy_file_range_within_a_file() {
    let fd = tmp::file(b"0123456789");
    let (mut from_at, mut to_at) = (0_i64, 5_i64);
    check_eq!(copy_range(fd, &raw mut from_at, fd, &raw mut to_at, 5), Ok(5));
    check_eq!(content(fd), b"0123401234");
    let (mut from_at, mut to_at) = (0_i64, 3_i64);
    errno_is!(copy_range(fd, &raw mut from_at, fd, &raw mut to_at, 5), EINVAL);
}

fn copy_file_range_errors() {
    let (from, path) = tmp::named_file(b"content");
    let to = tmp::file(b"");
    errno_is!(copy_range(999, null(), to, null(), 1), EBADF);
    errno_is!(copy_range(from, null(), open(&path, O_RDONLY), null(), 1), EBADF);
    errno_is!(copy_range(from, null(), open(&path, O_WRONLY | O_APPEND), null(), 1), EBADF);
    errno_is!(copy_range(open("/", O_RDONLY), null(), to, null(), 1), EISDIR);
    errno_is!(copy_range(ok!(sys::pipe(0)).0, null(), to, null(), 1), EINVAL);
    errno_is!(syscall!(SYS_copy_file_range, from, null(), to, null(), 1, 1), EINVAL);
}

fn splice(from: i32, from_at: *mut i64, to: i32, to_at: *mut i64, len: usize, flags: u32) -> sys::Result {
    syscall!(SYS_splice, from, from_at, to, to_at, len, flags)
}

fn splice_from_file_to_pipe_to_file() {
    let (from, to) = (tmp::file(b"0123456789"), tmp::file(b""));
    let (reader, writer) = ok!(sys::pipe(0));
    let mut at = 2_i64;
    check_eq!(splice(from, &raw mut at, writer, null(), 5, 0), Ok(5));
    check_eq!(at, 7);
    check_eq!(splice(from, null(), writer, null(), 3, 0), Ok(3));
    check_eq!(lseek(from, 0, SEEK_CUR), Ok(3));
    let mut to_at = 1_i64;
    check_eq!(splice(reader, null(), to, &raw mut to_at, 6, 0), Ok(6));
    check_eq!(to_at, 7);
    check_eq!(splice(reader, null(), to, null(), 100, 0), Ok(2));
    // The second went to the file's own offset, 0.
    check_eq!(content(to), b"1234560");
}

fn splice_between_pipes() {
    let (a, b) = (ok!(sys::pipe(0)), ok!(sys::pipe(0)));
    check_eq!(sys::write(a.1, b"abcdef"), Ok(6));
    check_eq!(splice(a.0, null(), b.1, null(), 4, 0), Ok(4));
    let mut part = [0; 9];
    check_eq!(sys::read(b.0, &mut part), Ok(4));
    check_eq!(&part[..4], b"abcd");
    check_eq!(sys::read(a.0, &mut part), Ok(2));
    errno_is!(splice(a.0, null(), b.1, null(), 4, SPLICE_F_NONBLOCK), EAGAIN);
    sys::close(a.1);
    check_eq!(splice(a.0, null(), b.1, null(), 4, 0), Ok(0));
}

fn splice_errors() {
    let (from, path) = tmp::named_file(b"content");
    let (reader, writer) = ok!(sys::pipe(O_NONBLOCK));
    errno_is!(splice(from, null(), tmp::file(b""), null(), 1, 0), EINVAL);
    errno_is!(splice(999, null(), writer, null(), 1, 0), EBADF);
    errno_is!(splice(open(&path, O_WRONLY), null(), writer, null(), 1, 0), EBADF);
    errno_is!(splice(from, null(), reader, null(), 1, 0), EBADF);
    let mut at = 0_i64;
    errno_is!(splice(from, null(), writer, &raw mut at, 1, 0), ESPIPE);
    errno_is!(splice(reader, null(), open(&path, O_WRONLY | O_APPEND), null(), 1, 0), EINVAL);
    errno_is!(splice(reader, null(), writer, null(), 1, 0), EINVAL);
    errno_is!(splice(from, null(), writer, null(), 1, 1 << 10), EINVAL);
    errno_is!(splice(reader, null(), from, null(), 1, 0), EAGAIN);
    check_eq!(splice(from, null(), writer, null(), 0, 0), Ok(0));
}

fn tee_leaves_the_data() {
    let (a, b) = (ok!(sys::pipe(0)), ok!(sys::pipe(0)));
    check_eq!(sys::write(a.1, b"abcdef"), Ok(6));
    check_eq!(syscall!(SYS_tee, a.0, b.1, 4, 0), Ok(4));
    let mut part = [0; 9];
    check_eq!(sys::read(b.0, &mut part), Ok(4));
    check_eq!(sys::read(a.0, &mut part), Ok(6));
    check_eq!(&part[..6], b"abcdef");
    errno_is!(syscall!(SYS_tee, a.0, a.1, 1, 0), EINVAL);
    errno_is!(syscall!(SYS_tee, tmp::file(b"x"), a.1, 1, 0), EINVAL);
}

fn vmsplice_fills_a_pipe() {
    let (reader, writer) = ok!(sys::pipe(0));
    let (a, b) = (*b"abc", *b"defg");
    let iov = [[a.as_ptr() as usize, 3], [b.as_ptr() as usize, 4]];
    check_eq!(syscall!(SYS_vmsplice, writer, iov.as_ptr(), 2, 0), Ok(7));
    let mut part = [0; 9];
    check_eq!(sys::read(reader, &mut part), Ok(7));
    check_eq!(&part[..7], b"abcdefg");
    errno_is!(syscall!(SYS_vmsplice, tmp::file(b""), iov.as_ptr(), 2, 0), EBADF);
}
