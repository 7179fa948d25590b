// SPDX-License-Identifier: MPL-2.0

//! truncate(2), ftruncate(2), fallocate(2): a file's size and the room it takes.

use libc::{FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, O_RDONLY, SEEK_HOLE};

use super::*;

pub const CASES: &[Case] = cases!["file/size":
    shorter_and_longer,
    what_was_cut_off_does_not_come_back,
    truncate_errors,
    truncate_leaves_the_offset,
    fallocate_grows,
    fallocate_keep_size,
    fallocate_punches_a_hole,
    fallocate_errors,
];

fn fallocate(fd: i32, mode: i32, offset: i64, len: i64) -> sys::Result {
    syscall!(SYS_fallocate, fd, mode, offset, len)
}

fn truncate(path: &str, len: i64) -> sys::Result {
    syscall!(SYS_truncate, sys::c_string(path).as_ptr(), len)
}

fn shorter_and_longer() {
    let (fd, path) = tmp::named_file(b"0123456789");
    ok!(sys::ftruncate(fd, 4));
    check_eq!(content(fd), b"0123");
    ok!(truncate(&path, 6));
    check_eq!(content(fd), b"0123\0\0");
    ok!(truncate(&path, 0));
    check_eq!(content(fd), b"");
}

fn what_was_cut_off_does_not_come_back() {
    let fd = tmp::file(&[7; 10_000]);
    ok!(sys::ftruncate(fd, 5000));
    ok!(sys::ftruncate(fd, 10_000));
    let all = content(fd);
    check!(all[..5000].iter().all(|&byte| byte == 7));
    check!(all[5000..].iter().all(|&byte| byte == 0));
}

fn truncate_errors() {
    let (fd, path) = tmp::named_file(b"content");
    errno_is!(sys::ftruncate(fd, usize::MAX), EINVAL);
    errno_is!(truncate(&path, -1), EINVAL);
    errno_is!(truncate(&tmp::path(), 0), ENOENT);
    errno_is!(truncate(&new_dir(), 0), EISDIR);
    errno_is!(truncate(&format!("{path}/x"), 0), ENOTDIR);
    errno_is!(sys::ftruncate(999, 0), EBADF);
    errno_is!(sys::ftruncate(open(&path, O_RDONLY), 0), EINVAL);
    errno_is!(sys::ftruncate(ok!(sys::pipe(0)).1, 0), EINVAL);
    ok!(chmod(&path, 0o444));
    sys::become_unprivileged();
    errno_is!(truncate(&path, 0), EACCES);
    check_eq!(content(fd), b"content");
}

fn truncate_leaves_the_offset() {
    let fd = tmp::file(b"");
    check_eq!(sys::write(fd, b"0123456789"), Ok(10));
    ok!(sys::ftruncate(fd, 2));
    check_eq!(sys::read(fd, &mut [0]), Ok(0));
    check_eq!(sys::write(fd, b"x"), Ok(1));
    check_eq!(content(fd), b"01\0\0\0\0\0\0\0\0x");
}

fn fallocate_grows() {
    let fd = tmp::file(b"abc");
    ok!(fallocate(fd, 0, 0, 100_000));
    let stat = ok!(fstat(fd));
    check_eq!(stat.st_size, 100_000);
    check!(stat.st_blocks * 512 >= 100_000, "{} blocks", stat.st_blocks);
    check_eq!(&content(fd)[..4], b"abc\0");
    ok!(fallocate(fd, 0, 0, 10));
    check_eq!(ok!(fstat(fd)).st_size, 100_000);
}

fn fallocate_keep_size() {
    let fd = tmp::file(b"abc");
    ok!(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100_000));
    let stat = ok!(fstat(fd));
    check_eq!(stat.st_size, 3);
    check!(stat.st_blocks * 512 >= 100_000, "{} blocks", stat.st_blocks);
}

fn fallocate_punches_a_hole() {
    let fd = tmp::file(&[7; 20_000]);
    ok!(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4000, 8500));
    let all = content(fd);
    check_eq!(all.len(), 20_000);
    check!(all[..4000].iter().chain(&all[12_500..]).all(|&byte| byte == 7));
    check!(all[4000..12_500].iter().all(|&byte| byte == 0));
    check_eq!(lseek(fd, 0, SEEK_HOLE), Ok(4096));
    // Behind the end there is nothing to punch.
    ok!(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50_000, 100));
    check_eq!(ok!(fstat(fd)).st_size, 20_000);
}

fn fallocate_errors() {
    let (fd, path) = tmp::named_file(b"abc");
    errno_is!(fallocate(fd, 0, -1, 10), EINVAL);
    errno_is!(fallocate(fd, 0, 0, 0), EINVAL);
    errno_is!(fallocate(fd, 0, 0, -1), EINVAL);
    errno_is!(fallocate(fd, 0, i64::MAX - 1, 10), EFBIG);
    errno_is!(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
    errno_is!(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096), EOPNOTSUPP);
    errno_is!(fallocate(fd, 1 << 20, 0, 10), EOPNOTSUPP);
    errno_is!(fallocate(open(&path, O_RDONLY), 0, 0, 10), EBADF);
    errno_is!(fallocate(ok!(sys::pipe(0)).1, 0, 0, 10), ESPIPE);
    errno_is!(fallocate(999, 0, 0, 10), EBADF);
    check_eq!(get(&path), b"abc");
}
