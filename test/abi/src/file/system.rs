// SPDX-License-Identifier: MPL-2.0

//! The file system as a whole: statfs(2), the sync family, extended attributes, memfd_create(2) as a plain file.

use libc::{AT_FDCWD, MFD_CLOEXEC, O_PATH, XATTR_CREATE, XATTR_REPLACE};

use super::*;
use crate::mem::free_range;

pub const CASES: &[Case] = cases!["file/system":
    statfs_tells,
    statfs_errors,
    sync_calls,
    fadvise_and_readahead,
    memfd_is_a_file,
    memfd_errors,
    xattr_errors,
    dev_null_and_zero,
    ioctl_on_a_file_is_enotty,
    unknown_call_is_enosys,
];

fn statfs(path: &str) -> sys::Result<libc::statfs> {
    // SAFETY: plain numbers.
    let mut told: libc::statfs = unsafe { std::mem::zeroed() };
    syscall!(SYS_statfs, sys::c_string(path).as_ptr(), &raw mut told).map(|_| told)
}

fn statfs_tells() {
    let (fd, path) = tmp::named_file(b"");
    let told = ok!(statfs(&path));
    check!(told.f_type != 0 && told.f_bsize >= 512);
    check!(told.f_bfree <= told.f_blocks && told.f_bavail <= told.f_bfree);
    check_eq!(told.f_namelen, 255);
    // SAFETY: plain numbers.
    let mut again: libc::statfs = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_fstatfs, fd, &raw mut again));
    check_eq!((again.f_type, again.f_bsize), (told.f_type, told.f_bsize));
    check_eq!(ok!(statfs("/proc")).f_type as u64, 0x9fa0);
}

fn statfs_errors() {
    errno_is!(statfs(&tmp::path()), ENOENT);
    errno_is!(statfs(""), ENOENT);
    errno_is!(statfs(&format!("{}/x", tmp::named_file(b"").1)), ENOTDIR);
    errno_is!(syscall!(SYS_fstatfs, 999, 0), EBADF);
    errno_is!(syscall!(SYS_statfs, c"/".as_ptr(), free_range(1)), EFAULT);
}

fn sync_calls() {
    let (fd, path) = tmp::named_file(b"content");
    ok!(syscall!(SYS_fsync, fd));
    ok!(syscall!(SYS_fdatasync, open(&path, O_RDONLY)));
    ok!(syscall!(SYS_fsync, open(&tmp::dir(), O_RDONLY)));
    ok!(syscall!(SYS_syncfs, fd));
    ok!(syscall!(SYS_sync_file_range, fd, 0, 0, 0));
    let pipe = ok!(sys::pipe(0)).0;
    errno_is!(syscall!(SYS_fsync, pipe), EINVAL);
    errno_is!(syscall!(SYS_fdatasync, 999), EBADF);
    errno_is!(syscall!(SYS_syncfs, 999), EBADF);
    errno_is!(syscall!(SYS_fsync, open(&path, O_PATH)), EBADF);
    errno_is!(syscall!(SYS_sync_file_range, fd, -1_i64, 0, 0), EINVAL);
    errno_is!(syscall!(SYS_sync_file_range, fd, 0, 0, 1 << 10), EINVAL);
    errno_is!(syscall!(SYS_sync_file_range, pipe, 0, 0, 0), ESPIPE);
}

fn fadvise_and_readahead() {
    let fd = tmp::file(b"content");
    for advice in 0..6 {
        ok!(syscall!(SYS_fadvise64, fd, 0, 0, advice));
    }
    errno_is!(syscall!(SYS_fadvise64, fd, 0, 0, 77), EINVAL);
    errno_is!(syscall!(SYS_fadvise64, fd, 0, -1_i64, 0), EINVAL);
    errno_is!(syscall!(SYS_fadvise64, ok!(sys::pipe(0)).0, 0, 0, 0), ESPIPE);
    errno_is!(syscall!(SYS_fadvise64, 999, 0, 0, 0), EBADF);
    ok!(syscall!(SYS_readahead, fd, 0, 4096));
    errno_is!(syscall!(SYS_readahead, 999, 0, 4096), EBADF);
    check_eq!(content(fd), b"content");
}

fn memfd_is_a_file() {
    let fd = ok!(syscall!(SYS_memfd_create, c"name".as_ptr(), MFD_CLOEXEC)) as i32;
    check_eq!(sys::write(fd, b"content"), Ok(7));
    let told = ok!(fstat(fd));
    check_eq!((told.st_mode, told.st_size, told.st_nlink), (libc::S_IFREG | 0o777, 7, 0));
    check_eq!(ok!(readlink(&format!("/proc/self/fd/{fd}"))), "/memfd:name (deleted)");
    let again = open(&format!("/proc/self/fd/{fd}"), O_RDONLY);
    check_eq!(content(again), b"content");
    ok!(lseek(fd, 0, libc::SEEK_SET));
    check_eq!(sys::read(fd, &mut [0; 9]), Ok(7));
    ok!(syscall!(SYS_fallocate, fd, 0, 0, 8192));
    check_eq!(ok!(fstat(again)).st_size, 8192);
}

fn memfd_errors() {
    errno_is!(syscall!(SYS_memfd_create, free_range(1), 0), EFAULT);
    errno_is!(syscall!(SYS_memfd_create, c"x".as_ptr(), 1 << 20), EINVAL);
    let long = sys::c_string(&"n".repeat(250));
    errno_is!(syscall!(SYS_memfd_create, long.as_ptr(), 0), EINVAL);
    let longest = sys::c_string(&"n".repeat(249));
    ok!(syscall!(SYS_memfd_create, longest.as_ptr(), 0));
}

fn xattr_errors() {
    let (fd, path) = tmp::named_file(b"");
    let path_c = sys::c_string(&path);
    let mut value = [0_u8; 64];
    let set = |name: &str, flags: i32| {
        syscall!(SYS_setxattr, path_c.as_ptr(), sys::c_string(name).as_ptr(), c"value".as_ptr(), 5, flags)
    };
    let mut get = |name: &str, size: usize| {
        syscall!(SYS_getxattr, path_c.as_ptr(), sys::c_string(name).as_ptr(), value.as_mut_ptr(), size)
    };
    errno_is!(get("user.none", 64), ENODATA);
    errno_is!(get("nonsense", 64), EOPNOTSUPP);
    errno_is!(set("nonsense.x", 0), EOPNOTSUPP);
    errno_is!(set("user.x", XATTR_CREATE | XATTR_REPLACE | 64), EINVAL);
    errno_is!(set("user.none", XATTR_REPLACE), ENODATA);
    errno_is!(set("", 0), ERANGE);
    errno_is!(set(&format!("user.{}", "n".repeat(251)), 0), ERANGE);
    ok!(set("user.x", XATTR_CREATE));
    errno_is!(set("user.x", XATTR_CREATE), EEXIST);
    check_eq!(get("user.x", 0), Ok(5));
    errno_is!(get("user.x", 4), ERANGE);
    check_eq!(get("user.x", 64), Ok(5));
    let mut names = [0_u8; 64];
    check_eq!(syscall!(SYS_flistxattr, fd, names.as_mut_ptr(), 64), Ok(7));
    check_eq!(&names[..7], b"user.x\0");
    ok!(syscall!(SYS_fremovexattr, fd, c"user.x".as_ptr()));
    errno_is!(syscall!(SYS_fremovexattr, fd, c"user.x".as_ptr()), ENODATA);
    errno_is!(syscall!(SYS_flistxattr, 999, 0, 0), EBADF);
    let none = sys::c_string(&tmp::path());
    errno_is!(syscall!(SYS_listxattr, none.as_ptr(), 0, 0), ENOENT);
}

fn dev_null_and_zero() {
    let null = open("/dev/null", O_RDWR);
    check_eq!(sys::write(null, &[0; 100_000]), Ok(100_000));
    check_eq!(sys::read(null, &mut [0]), Ok(0));
    check_eq!(lseek(null, 100, libc::SEEK_SET), Ok(0));
    let zero = open("/dev/zero", O_RDWR);
    let mut bytes = [1; 5000];
    check_eq!(sys::read(zero, &mut bytes), Ok(5000));
    check!(bytes.iter().all(|&byte| byte == 0));
    let full = open("/dev/full", O_RDWR);
    errno_is!(sys::write(full, b"x"), ENOSPC);
    let random = open("/dev/urandom", O_RDONLY);
    check_eq!(sys::read(random, &mut bytes), Ok(5000));
    check!(bytes.iter().any(|&byte| byte != 0));
}

fn ioctl_on_a_file_is_enotty() {
    let fd = tmp::file(b"");
    errno_is!(syscall!(SYS_ioctl, fd, 0xdead, 0), ENOTTY);
    errno_is!(syscall!(SYS_ioctl, fd, libc::TIOCGWINSZ, 0), ENOTTY);
    errno_is!(syscall!(SYS_ioctl, ok!(sys::pipe(0)).0, 0xdead, 0), ENOTTY);
    ok!(syscall!(SYS_ioctl, fd, libc::FIOCLEX, 0));
    check_eq!(fcntl(fd, libc::F_GETFD, 0), Ok(1));
    ok!(syscall!(SYS_ioctl, fd, libc::FIONCLEX, 0));
    check_eq!(fcntl(fd, libc::F_GETFD, 0), Ok(0));
    let mut on = 1_i32;
    ok!(syscall!(SYS_ioctl, fd, libc::FIONBIO, &raw mut on));
    check_eq!(ok!(fcntl(fd, libc::F_GETFL, 0)) as i32 & libc::O_NONBLOCK, libc::O_NONBLOCK);
}

fn unknown_call_is_enosys() {
    for number in [1000, 100_000, -1, i64::MAX] {
        check_eq!(sys::syscall6(number, [AT_FDCWD as usize; 6]), Err(sys::Errno(libc::ENOSYS)), "{number}");
    }
    // Only the lower half of the register counts.
    check_eq!(sys::syscall6(1 << 32 | libc::SYS_getpid, [0; 6]), Ok(sys::getpid() as usize));
}
