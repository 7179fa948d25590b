// SPDX-License-Identifier: MPL-2.0

//! read(2), write(2) and their relatives, lseek(2): how many bytes go where, and where the offset is afterwards.

use libc::{O_APPEND, O_WRONLY, RLIMIT_FSIZE, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, SIGXFSZ};

use super::*;
use crate::{
    child::{Child, in_child, killed_by},
    mem::{free_range, lone_anon},
};

pub const CASES: &[Case] = cases!["file/rw":
    offset_moves_with_read_and_write,
    pread_and_pwrite_leave_the_offset,
    nothing_behind_the_end,
    gap_reads_as_zeros,
    beyond_four_gib,
    vectors_in_order,
    vector_errors,
    positions_are_checked,
    bad_descriptor_and_pointer,
    buffer_that_ends_is_used_as_far_as_it_goes,
    preadv2_and_pwritev2,
    lseek_moves,
    lseek_errors,
    seek_data_and_hole,
    offset_is_shared_with_copies,
    file_size_limit_signals,
    file_size_limit_without_signal,
    appends_of_two_do_not_overlap,
    kernel_keeps_the_data_of_a_dead_writer,
];

fn offset_moves_with_read_and_write() {
    let fd = tmp::file(b"");
    check_eq!(sys::write(fd, b"abcdef"), Ok(6));
    check_eq!(sys::read(fd, &mut [0; 4]), Ok(0));
    check_eq!(lseek(fd, 2, SEEK_SET), Ok(2));
    let mut part = [0; 3];
    check_eq!(sys::read(fd, &mut part), Ok(3));
    check_eq!(&part, b"cde");
    check_eq!(sys::write(fd, b"XY"), Ok(2));
    check_eq!(content(fd), b"abcdeXY");
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(7));
}

fn pread_and_pwrite_leave_the_offset() {
    let fd = tmp::file(b"0123456789");
    check_eq!(lseek(fd, 4, SEEK_SET), Ok(4));
    let mut part = [0; 20];
    check_eq!(sys::pread(fd, &mut part, 7), Ok(3));
    check_eq!(&part[..3], b"789");
    check_eq!(sys::pwrite(fd, b"ab", 1), Ok(2));
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(4));
    check_eq!(content(fd), b"0ab3456789");
}

fn nothing_behind_the_end() {
    let fd = tmp::file(b"abc");
    check_eq!(sys::pread(fd, &mut [0; 9], 3), Ok(0));
    check_eq!(sys::pread(fd, &mut [0; 9], 1 << 30), Ok(0));
    check_eq!(lseek(fd, 100, SEEK_SET), Ok(100));
    check_eq!(sys::read(fd, &mut [0; 9]), Ok(0));
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(100));
    check_eq!(sys::write(fd, b""), Ok(0));
    check_eq!(ok!(fstat(fd)).st_size, 3);
}

fn gap_reads_as_zeros() {
    let fd = tmp::file(b"abc");
    check_eq!(sys::pwrite(fd, b"z", 10_000), Ok(1));
    let all = content(fd);
    check_eq!(all.len(), 10_001);
    check!(all[3..10_000].iter().all(|&byte| byte == 0));
    check_eq!(all[10_000], b'z');
}

fn beyond_four_gib() {
    let fd = tmp::file(b"");
    let far = (5 << 30) + 7;
    check_eq!(sys::pwrite(fd, b"far", far), Ok(3));
    check_eq!(ok!(fstat(fd)).st_size, far as i64 + 3);
    check!(ok!(fstat(fd)).st_blocks < 2048, "a hole takes no room");
    let mut part = [1; 8];
    check_eq!(sys::pread(fd, &mut part, far - 3), Ok(6));
    check_eq!(&part[..6], b"\0\0\0far");
    check_eq!(lseek(fd, far as i64, SEEK_SET), Ok(far));
    check_eq!(sys::read(fd, &mut part), Ok(3));
}

/// An iovec for each buffer: address and length.
fn vectors(buffers: &mut [&mut [u8]]) -> Vec<[usize; 2]> {
    buffers.iter_mut().map(|buffer| [buffer.as_mut_ptr() as usize, buffer.len()]).collect()
}

fn vectors_in_order() {
    let fd = tmp::file(b"");
    let (mut a, mut b, mut c) = (*b"one ", *b"", *b"two");
    let iov = vectors(&mut [&mut a, &mut b, &mut c]);
    check_eq!(syscall!(SYS_writev, fd, iov.as_ptr(), 3), Ok(7));
    check_eq!(syscall!(SYS_pwritev, fd, iov.as_ptr(), 3, 7, 0), Ok(7));
    check_eq!(content(fd), b"one twoone two");
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(7));
    let (mut a, mut b) = ([0; 5], [0; 20]);
    let iov = vectors(&mut [&mut a, &mut b]);
    check_eq!(syscall!(SYS_readv, fd, iov.as_ptr(), 2), Ok(7));
    check_eq!((&a, &b[..2]), (b"one t", &b"wo"[..]));
    check_eq!(syscall!(SYS_preadv, fd, iov.as_ptr(), 2, 4, 0), Ok(10));
    check_eq!((&a, &b[..5]), (b"twoon", &b"e two"[..]));
}

fn vector_errors() {
    let fd = tmp::file(b"content");
    let mut byte = [0_u8; 1];
    let many: Vec<[usize; 2]> = (0..1025).map(|_| [byte.as_mut_ptr() as usize, 0]).collect();
    check_eq!(syscall!(SYS_readv, fd, many.as_ptr(), 1024), Ok(0));
    errno_is!(syscall!(SYS_readv, fd, many.as_ptr(), 1025), EINVAL);
    errno_is!(syscall!(SYS_writev, fd, many.as_ptr(), -1_i64), EINVAL);
    check_eq!(syscall!(SYS_writev, fd, 0, 0), Ok(0));
    let negative = [[byte.as_mut_ptr() as usize, usize::MAX]];
    errno_is!(syscall!(SYS_writev, fd, negative.as_ptr(), 1), EINVAL);
    errno_is!(syscall!(SYS_writev, fd, free_range(1), 1), EFAULT);
    errno_is!(syscall!(SYS_writev, 999, many.as_ptr(), 1), EBADF);
    check_eq!(content(fd), b"content");
}

fn positions_are_checked() {
    let fd = tmp::file(b"content");
    errno_is!(sys::pread(fd, &mut [0], usize::MAX), EINVAL);
    errno_is!(sys::pwrite(fd, b"x", usize::MAX), EINVAL);
    errno_is!(sys::pwrite(fd, b"xy", i64::MAX as usize), EINVAL);
    let (reader, writer) = ok!(sys::pipe(0));
    errno_is!(sys::pread(reader, &mut [0], 0), ESPIPE);
    errno_is!(sys::pwrite(writer, b"x", 0), ESPIPE);
    errno_is!(lseek(reader, 0, SEEK_CUR), ESPIPE);
}

fn bad_descriptor_and_pointer() {
    let fd = tmp::file(b"content");
    let hole = free_range(1);
    errno_is!(sys::read(999, &mut [0]), EBADF);
    errno_is!(sys::write(-1, b""), EBADF);
    errno_is!(syscall!(SYS_read, fd, hole, 1), EFAULT);
    errno_is!(syscall!(SYS_write, fd, hole, 1), EFAULT);
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(0));
    // Nothing is touched where nothing is asked for, nor behind the end.
    check_eq!(syscall!(SYS_read, fd, hole, 0), Ok(0));
    check_eq!(syscall!(SYS_pread64, fd, hole, 10, 100), Ok(0));
    check_eq!(content(fd), b"content");
}

fn buffer_that_ends_is_used_as_far_as_it_goes() {
    let at = lone_anon(1);
    let fd = tmp::file(&[7; 8192]);
    let count = ok!(syscall!(SYS_read, fd, at + 96, 8192));
    check!((1..=4000).contains(&count), "{count} bytes read");
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(count));
    let out = tmp::file(b"");
    let count = ok!(syscall!(SYS_write, out, at + 96, 8192));
    check!((1..=4000).contains(&count), "{count} bytes written");
    check_eq!(content(out), vec![7; count]);
}

fn preadv2_and_pwritev2() {
    let fd = tmp::file(b"0123456789");
    let mut part = [0_u8; 4];
    let iov = vectors(&mut [&mut part]);
    ok!(lseek(fd, 2, SEEK_SET));
    // Offset -1 is the file's own, which moves.
    check_eq!(syscall!(SYS_preadv2, fd, iov.as_ptr(), 1, -1_i64, -1_i64, 0), Ok(4));
    check_eq!(&part, b"2345");
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(6));
    check_eq!(syscall!(SYS_preadv2, fd, iov.as_ptr(), 1, 0, 0, 0), Ok(4));
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(6));
    check_eq!(syscall!(SYS_pwritev2, fd, iov.as_ptr(), 1, 0, 0, libc::RWF_APPEND), Ok(4));
    check_eq!(content(fd), b"01234567890123");
    errno_is!(syscall!(SYS_pwritev2, fd, iov.as_ptr(), 1, 0, 0, 1 << 30), EOPNOTSUPP);
    errno_is!(syscall!(SYS_preadv2, fd, iov.as_ptr(), 1, -2_i64, -1_i64, 0), EINVAL);
}

fn lseek_moves() {
    let fd = tmp::file(b"0123456789");
    check_eq!(lseek(fd, 3, SEEK_SET), Ok(3));
    check_eq!(lseek(fd, 4, SEEK_CUR), Ok(7));
    check_eq!(lseek(fd, -2, SEEK_CUR), Ok(5));
    check_eq!(lseek(fd, -1, SEEK_END), Ok(9));
    check_eq!(lseek(fd, 1 << 33, SEEK_END), Ok((1 << 33) + 10));
    check_eq!(ok!(fstat(fd)).st_size, 10);
}

fn lseek_errors() {
    let fd = tmp::file(b"0123456789");
    check_eq!(lseek(fd, 5, SEEK_SET), Ok(5));
    errno_is!(lseek(fd, -1, SEEK_SET), EINVAL);
    errno_is!(lseek(fd, -6, SEEK_CUR), EINVAL);
    errno_is!(lseek(fd, -11, SEEK_END), EINVAL);
    errno_is!(lseek(fd, 0, 5), EINVAL);
    errno_is!(lseek(fd, 0, -1), EINVAL);
    errno_is!(lseek(999, 0, SEEK_SET), EBADF);
    check_eq!(lseek(fd, 0, SEEK_CUR), Ok(5));
}

fn seek_data_and_hole() {
    let fd = tmp::file(b"");
    let (data, end) = (1 << 20, 3 << 20);
    check_eq!(sys::pwrite(fd, &[1; 4096], data), Ok(4096));
    ok!(sys::ftruncate(fd, end));
    check_eq!(lseek(fd, 0, SEEK_DATA), Ok(data));
    check_eq!(lseek(fd, data as i64 + 100, SEEK_DATA), Ok(data + 100));
    check_eq!(lseek(fd, 0, SEEK_HOLE), Ok(0));
    check_eq!(lseek(fd, data as i64, SEEK_HOLE), Ok(data + 4096));
    errno_is!(lseek(fd, data as i64 + 4096, SEEK_DATA), ENXIO);
    check_eq!(lseek(fd, data as i64 + 4096, SEEK_HOLE), Ok(data + 4096));
    errno_is!(lseek(fd, end as i64, SEEK_HOLE), ENXIO);
    errno_is!(lseek(fd, end as i64, SEEK_DATA), ENXIO);
    // The end counts as a hole.
    let full = tmp::file(&[1; 5000]);
    check_eq!(lseek(full, 10, SEEK_HOLE), Ok(5000));
}

fn offset_is_shared_with_copies() {
    let (fd, path) = tmp::named_file(b"0123456789");
    let copy = ok!(syscall!(SYS_dup, fd)) as i32;
    let other = open(&path, libc::O_RDONLY);
    in_child(|| _ = ok!(lseek(fd, 4, SEEK_SET)));
    check_eq!(lseek(copy, 0, SEEK_CUR), Ok(4));
    check_eq!(lseek(other, 0, SEEK_CUR), Ok(0));
    let mut byte = [0];
    check_eq!(sys::read(copy, &mut byte), Ok(1));
    check_eq!(sys::read(fd, &mut byte), Ok(1));
    check_eq!(&byte, b"5");
}

fn file_size_limit_signals() {
    let fd = tmp::file(b"");
    let hard = ok!(sys::getrlimit(RLIMIT_FSIZE)).1;
    let limited = || {
        sys::default_action(SIGXFSZ);
        ok!(sys::setrlimit(RLIMIT_FSIZE, 100, hard));
    };
    // As much as fits is written first.
    in_child(|| {
        limited();
        check_eq!(sys::write(fd, &[1; 150]), Ok(100));
    });
    let killed = killed_by(|| {
        limited();
        let _ = sys::write(fd, b"x");
    });
    check_eq!(killed, Some(SIGXFSZ));
    check_eq!(content(fd), vec![1; 100]);
}

fn file_size_limit_without_signal() {
    let fd = tmp::file(&[1; 120]);
    let hard = ok!(sys::getrlimit(RLIMIT_FSIZE)).1;
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(SIGXFSZ, libc::SIG_IGN) };
    ok!(sys::setrlimit(RLIMIT_FSIZE, 100, hard));
    errno_is!(sys::pwrite(fd, b"x", 100), EFBIG);
    errno_is!(sys::pwrite(fd, b"x", 119), EFBIG);
    errno_is!(sys::ftruncate(fd, 130), EFBIG);
    check_eq!(sys::pwrite(fd, b"xy", 99), Ok(1));
    ok!(sys::ftruncate(fd, 110));
    check_eq!(ok!(fstat(fd)).st_size, 110);
    let (_, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, &[0; 200]), Ok(200));
}

fn appends_of_two_do_not_overlap() {
    let path = tmp::path();
    put(&path, b"");
    let children: Vec<_> = (0..3_u8)
        .map(|number| {
            Child::spawn(|| {
                let fd = open(&path, O_WRONLY | O_APPEND);
                (0..200).for_each(|_| check_eq!(sys::write(fd, &[b'a' + number; 50]), Ok(50)));
            })
        })
        .collect();
    children.into_iter().for_each(Child::join);
    let all = get(&path);
    check_eq!(all.len(), 3 * 200 * 50);
    check!(all.chunks(50).all(|record| record.iter().all(|byte| *byte == record[0])));
}

fn kernel_keeps_the_data_of_a_dead_writer() {
    let path = tmp::path();
    let killed = killed_by(|| {
        put(&path, &[5; 100_000]);
        ok!(sys::kill(sys::getpid(), libc::SIGKILL));
    });
    check_eq!(killed, Some(libc::SIGKILL));
    check_eq!(get(&path), vec![5; 100_000]);
}
