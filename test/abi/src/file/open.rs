// SPDX-License-Identifier: MPL-2.0

//! open(2), openat(2), openat2(2): what each flag does, and what is refused.

use libc::{
    AT_EMPTY_PATH, AT_FDCWD, F_GETFD, F_GETFL, O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW,
    O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY, S_IFLNK, S_IFMT,
};

use super::*;
use crate::{child::in_child, mem::free_range};

pub const CASES: &[Case] = cases!["file/open":
    missing_is_enoent,
    creat_excl_is_eexist,
    creat_through_a_dangling_link,
    file_as_folder_is_enotdir,
    folder_for_writing_is_eisdir,
    folder_can_be_opened_but_not_read,
    nofollow_is_eloop,
    long_names_are_enametoolong,
    forty_links_but_not_more,
    path_descriptor_only_names,
    path_descriptor_of_a_link,
    tmpfile_has_no_name_until_linked,
    tmpfile_errors,
    append_writes_at_the_end,
    trunc_empties,
    cloexec_is_a_flag_of_the_descriptor,
    access_mode_is_kept_to,
    lowest_free_descriptor_is_taken,
    mode_is_cut_by_umask,
    mode_does_not_bind_its_maker,
    relative_to_a_descriptor,
    bad_arguments,
    unlinked_file_stays_open,
    proc_self_fd_opens_again,
    creat_is_open,
];

pub const OPENAT2: &[Case] = cases!["file/openat2":
    opens_like_openat,
    size_and_flags_are_checked,
    no_symlinks,
    beneath,
    in_root,
];

fn missing_is_enoent() {
    let path = tmp::path();
    for flags in [O_RDONLY, O_RDWR, O_DIRECTORY, O_PATH, O_TRUNC | O_RDWR] {
        errno_is!(sys::open(&path, flags, 0), ENOENT);
    }
    errno_is!(sys::open("", O_RDONLY, 0), ENOENT);
    errno_is!(sys::open(&format!("{path}/x"), O_CREAT | O_RDWR, 0o600), ENOENT);
    errno_is!(lstat(&path), ENOENT);
}

fn creat_excl_is_eexist() {
    let (_, path) = tmp::named_file(b"kept");
    errno_is!(sys::open(&path, O_CREAT | O_EXCL | O_RDWR | O_TRUNC, 0o600), EEXIST);
    check_eq!(get(&path), b"kept");
    let dangling = tmp::path();
    ok!(symlink("nowhere", &dangling));
    errno_is!(sys::open(&dangling, O_CREAT | O_EXCL | O_RDWR, 0o600), EEXIST);
    errno_is!(sys::open(&new_dir(), O_CREAT | O_EXCL | O_RDWR, 0o600), EEXIST);
    errno_is!(sys::open("/", O_CREAT | O_EXCL | O_RDWR, 0o600), EEXIST);
}

fn creat_through_a_dangling_link() {
    let (dir, path) = (new_dir(), tmp::path());
    ok!(symlink(&format!("{dir}/target"), &path));
    put(&path, b"through");
    check_eq!(get(&format!("{dir}/target")), b"through");
    check_eq!(ok!(lstat(&path)).st_mode & S_IFMT, S_IFLNK);
}

fn file_as_folder_is_enotdir() {
    let (_, path) = tmp::named_file(b"");
    errno_is!(sys::open(&format!("{path}/x"), O_RDONLY, 0), ENOTDIR);
    errno_is!(sys::open(&format!("{path}/"), O_RDONLY, 0), ENOTDIR);
    errno_is!(sys::open(&format!("{path}/."), O_RDONLY, 0), ENOTDIR);
    errno_is!(sys::open(&format!("{path}/../x"), O_CREAT | O_RDWR, 0o600), ENOTDIR);
    errno_is!(sys::open(&path, O_DIRECTORY, 0), ENOTDIR);
    errno_is!(sys::open(&path, O_DIRECTORY | O_PATH, 0), ENOTDIR);
}

fn folder_for_writing_is_eisdir() {
    let dir = new_dir();
    for flags in [O_WRONLY, O_RDWR, O_CREAT, O_CREAT | O_RDWR, O_TRUNC | O_WRONLY] {
        errno_is!(sys::open(&dir, flags, 0o600), EISDIR);
    }
    errno_is!(sys::open(&format!("{dir}/new/"), O_CREAT | O_RDWR, 0o600), EISDIR);
    errno_is!(stat(&format!("{dir}/new")), ENOENT);
}

fn folder_can_be_opened_but_not_read() {
    let dir = new_dir();
    let fd = open(&dir, O_RDONLY);
    errno_is!(sys::read(fd, &mut [0]), EISDIR);
    errno_is!(sys::write(fd, b"x"), EBADF);
    check_eq!(ok!(fstat(fd)).st_ino, ok!(stat(&dir)).st_ino);
}

fn nofollow_is_eloop() {
    let (_, path) = tmp::named_file(b"");
    let link = tmp::path();
    ok!(symlink(&path, &link));
    errno_is!(sys::open(&link, O_RDONLY | O_NOFOLLOW, 0), ELOOP);
    errno_is!(sys::open(&link, O_CREAT | O_RDWR | O_NOFOLLOW, 0o600), ELOOP);
    ok!(sys::open(&path, O_RDONLY | O_NOFOLLOW, 0));
    // Only the last component counts; a slash behind it makes it one that is followed.
    let dir_link = tmp::path();
    ok!(symlink(&tmp::dir(), &dir_link));
    errno_is!(sys::open(&dir_link, O_DIRECTORY | O_NOFOLLOW, 0), ENOTDIR);
    ok!(sys::open(&format!("{dir_link}/"), O_DIRECTORY | O_NOFOLLOW, 0));
    let name = path.rsplit('/').next().unwrap_or_default();
    ok!(sys::open(&format!("{dir_link}/{name}"), O_NOFOLLOW, 0));
}

fn long_names_are_enametoolong() {
    let dir = new_dir();
    let longest = "n".repeat(255);
    put(&format!("{dir}/{longest}"), b"");
    check_eq!(list(&dir, 4096), std::slice::from_ref(&longest));
    errno_is!(sys::open(&format!("{dir}/{longest}n"), O_CREAT | O_RDWR, 0o600), ENAMETOOLONG);
    errno_is!(sys::open(&format!("{dir}/{longest}n"), O_RDONLY, 0), ENAMETOOLONG);
    errno_is!(mkdir(&format!("{dir}/{longest}n"), 0o700), ENAMETOOLONG);
    errno_is!(symlink("x", &format!("{dir}/{longest}n")), ENAMETOOLONG);
    let padded = |len: usize| format!("{}{}", dir, "/".repeat(len - dir.len()));
    ok!(sys::open(&padded(4095), O_RDONLY, 0));
    errno_is!(sys::open(&padded(4096), O_RDONLY, 0), ENAMETOOLONG);
    errno_is!(stat(&padded(5000)), ENAMETOOLONG);
}

fn forty_links_but_not_more() {
    let dir = new_dir();
    put(&format!("{dir}/0"), b"end");
    for number in 1..=41 {
        ok!(symlink(&(number - 1).to_string(), &format!("{dir}/{number}")));
    }
    check_eq!(get(&format!("{dir}/40")), b"end");
    errno_is!(sys::open(&format!("{dir}/41"), O_RDONLY, 0), ELOOP);
    ok!(symlink("self", &format!("{dir}/self")));
    errno_is!(stat(&format!("{dir}/self")), ELOOP);
    errno_is!(sys::open(&format!("{dir}/self"), O_CREAT | O_RDWR, 0o600), ELOOP);
    ok!(lstat(&format!("{dir}/self")));
}

fn path_descriptor_only_names() {
    let (_, path) = tmp::named_file(b"content");
    let fd = open(&path, O_PATH | O_RDWR);
    errno_is!(sys::read(fd, &mut [0]), EBADF);
    errno_is!(sys::write(fd, b"x"), EBADF);
    errno_is!(lseek(fd, 0, libc::SEEK_SET), EBADF);
    errno_is!(sys::ftruncate(fd, 0), EBADF);
    errno_is!(syscall!(SYS_fchmod, fd, 0o600), EBADF);
    errno_is!(syscall!(SYS_fchown, fd, 0, 0), EBADF);
    errno_is!(syscall!(SYS_flock, fd, libc::LOCK_SH), EBADF);
    let mut waiting = 0;
    errno_is!(syscall!(SYS_ioctl, fd, libc::FIONREAD, &raw mut waiting), EBADF);
    errno_is!(sys::mmap(0, 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0), EBADF);
    check_eq!(ok!(fstat(fd)).st_ino, ok!(stat(&path)).st_ino);
    check_eq!(ok!(fcntl(fd, F_GETFL, 0)) as i32 & O_PATH, O_PATH);
    check_eq!(ok!(fcntl(fd, F_GETFL, 0)) as i32 & 3, O_RDONLY);
    let copy = ok!(syscall!(SYS_dup, fd)) as i32;
    check_eq!(ok!(fstat(copy)).st_ino, ok!(stat(&path)).st_ino);
    let dir = open(&tmp::dir(), O_PATH | O_DIRECTORY);
    let name = path.rsplit('/').next().unwrap_or_default();
    check_eq!(ok!(stat_at(dir, name, 0)).st_size, 7);
    ok!(syscall!(SYS_fchdir, dir));
    check_eq!(get(name), b"content");
    errno_is!(syscall!(SYS_getdents64, dir, [0_u8; 512].as_mut_ptr(), 512), EBADF);
}

fn path_descriptor_of_a_link() {
    let link = tmp::path();
    ok!(symlink("the target", &link));
    let fd = open(&link, O_PATH | O_NOFOLLOW);
    check_eq!(ok!(fstat(fd)).st_mode & S_IFMT, S_IFLNK);
    let mut target = [0_u8; 64];
    let empty = c"";
    let len = ok!(syscall!(SYS_readlinkat, fd, empty.as_ptr(), target.as_mut_ptr(), 64));
    check_eq!(&target[..len], b"the target");
    check_eq!(ok!(stat_at(fd, "", AT_EMPTY_PATH)).st_size, 10);
}

fn tmpfile_has_no_name_until_linked() {
    let (dir, path) = (new_dir(), tmp::path());
    let fd = open(&dir, O_TMPFILE | O_RDWR);
    check_eq!(sys::write(fd, b"anonymous"), Ok(9));
    check_eq!(ok!(fstat(fd)).st_nlink, 0);
    check!(list(&dir, 4096).is_empty());
    let proc = sys::c_string(&format!("/proc/self/fd/{fd}"));
    let new = sys::c_string(&path);
    ok!(syscall!(SYS_linkat, AT_FDCWD, proc.as_ptr(), AT_FDCWD, new.as_ptr(), libc::AT_SYMLINK_FOLLOW));
    check_eq!(ok!(fstat(fd)).st_nlink, 1);
    check_eq!(get(&path), b"anonymous");
}

fn tmpfile_errors() {
    let dir = new_dir();
    errno_is!(sys::open(&dir, O_TMPFILE | O_RDONLY, 0o600), EINVAL);
    errno_is!(sys::open(&tmp::named_file(b"").1, O_TMPFILE | O_RDWR, 0o600), ENOTDIR);
    errno_is!(sys::open(&tmp::path(), O_TMPFILE | O_RDWR, 0o600), ENOENT);
    let fd = open(&dir, O_TMPFILE | O_RDWR | O_EXCL);
    let new = sys::c_string(&tmp::path());
    let proc = sys::c_string(&format!("/proc/self/fd/{fd}"));
    errno_is!(
        syscall!(SYS_linkat, AT_FDCWD, proc.as_ptr(), AT_FDCWD, new.as_ptr(), libc::AT_SYMLINK_FOLLOW),
        ENOENT
    );
}

fn append_writes_at_the_end() {
    let (fd, path) = tmp::named_file(b"one");
    let append = open(&path, O_WRONLY | O_APPEND);
    check_eq!(sys::write(append, b" two"), Ok(4));
    check_eq!(sys::pwrite(fd, b" three", 7), Ok(6));
    ok!(lseek(append, 0, libc::SEEK_SET));
    check_eq!(sys::write(append, b" four"), Ok(5));
    check_eq!(lseek(append, 0, libc::SEEK_CUR), Ok(18));
    // Linux appends even where pwrite names a place.
    check_eq!(sys::pwrite(append, b" five", 0), Ok(5));
    check_eq!(get(&path), b"one two three four five");
    // The flag can be taken away.
    ok!(fcntl(append, libc::F_SETFL, 0));
    check_eq!(sys::pwrite(append, b"ONE", 0), Ok(3));
    check_eq!(&get(&path)[..7], b"ONE two");
}

fn trunc_empties() {
    let (fd, path) = tmp::named_file(b"content");
    let again = open(&path, O_WRONLY | O_TRUNC);
    check_eq!(ok!(fstat(fd)).st_size, 0);
    check_eq!(sys::write(again, b"x"), Ok(1));
    check_eq!(content(fd), b"x");
}

fn cloexec_is_a_flag_of_the_descriptor() {
    let (_, path) = tmp::named_file(b"");
    let plain = ok!(sys::open(&path, O_RDONLY, 0));
    let closing = ok!(sys::open(&path, O_RDONLY | O_CLOEXEC, 0));
    check_eq!(fcntl(plain, F_GETFD, 0), Ok(0));
    check_eq!(fcntl(closing, F_GETFD, 0), Ok(1));
    check_eq!(ok!(fcntl(closing, F_GETFL, 0)) as i32 & O_CLOEXEC, 0);
    let copy = ok!(syscall!(SYS_dup, closing)) as i32;
    check_eq!(fcntl(copy, F_GETFD, 0), Ok(0));
}

fn access_mode_is_kept_to() {
    let (_, path) = tmp::named_file(b"content");
    let reader = open(&path, O_RDONLY);
    let writer = open(&path, O_WRONLY | O_NONBLOCK | O_APPEND);
    errno_is!(sys::write(reader, b"x"), EBADF);
    errno_is!(sys::write(reader, b""), EBADF);
    errno_is!(sys::read(writer, &mut [0]), EBADF);
    errno_is!(sys::read(writer, &mut []), EBADF);
    errno_is!(sys::ftruncate(reader, 0), EINVAL);
    let flags = |fd| ok!(fcntl(fd, F_GETFL, 0)) as i32 & (3 | O_NONBLOCK | O_APPEND);
    check_eq!(flags(reader), O_RDONLY);
    check_eq!(flags(writer), O_WRONLY | O_NONBLOCK | O_APPEND);
    // Access mode 3 checks for both and allows neither.
    let neither = open(&path, 3);
    errno_is!(sys::read(neither, &mut [0]), EBADF);
    errno_is!(sys::write(neither, b"x"), EBADF);
}

fn lowest_free_descriptor_is_taken() {
    let (_, path) = tmp::named_file(b"");
    let fds: Vec<_> = (0..4).map(|_| open(&path, O_RDONLY)).collect();
    sys::close(fds[2]);
    sys::close(fds[1]);
    check_eq!(open(&path, O_RDONLY), fds[1]);
    check_eq!(syscall!(SYS_dup, fds[0]), Ok(fds[2] as usize));
}

fn mode_is_cut_by_umask() {
    let mode = |mask, asked| {
        umask(mask);
        let path = tmp::path();
        sys::close(ok!(sys::open(&path, O_CREAT | O_RDWR, asked)));
        ok!(stat(&path)).st_mode & 0o7777
    };
    check_eq!(mode(0, 0o666), 0o666);
    check_eq!(mode(0o022, 0o666), 0o644);
    check_eq!(mode(0o777, 0o7777), 0o7000);
    check_eq!(mode(0o027, 0o2755), 0o2750);
}

fn mode_does_not_bind_its_maker() {
    let dir = new_dir();
    ok!(chmod(&dir, 0o777));
    sys::become_unprivileged();
    let path = format!("{dir}/x");
    let fd = ok!(sys::open(&path, O_CREAT | O_RDWR, 0));
    check_eq!(sys::write(fd, b"mine"), Ok(4));
    errno_is!(sys::open(&path, O_RDONLY, 0), EACCES);
    check_eq!(content(fd), b"mine");
}

fn relative_to_a_descriptor() {
    let dir = new_dir();
    let fd = open(&dir, O_DIRECTORY);
    let openat = |fd: i32, path: &str, flags: i32| {
        syscall!(SYS_openat, fd, sys::c_string(path).as_ptr(), flags, 0o600).map(|fd| fd as i32)
    };
    let file = ok!(openat(fd, "name", O_CREAT | O_RDWR));
    check_eq!(ok!(stat(&format!("{dir}/name"))).st_ino, ok!(fstat(file)).st_ino);
    errno_is!(openat(file, "name", O_RDONLY), ENOTDIR);
    errno_is!(openat(999, "name", O_RDONLY), EBADF);
    errno_is!(openat(-1, "name", O_RDONLY), EBADF);
    ok!(openat(-1, &format!("{dir}/name"), O_RDONLY));
    // The folder can lose its name; nothing more can be made in it then.
    ok!(unlink(&format!("{dir}/name")));
    ok!(rmdir(&dir));
    errno_is!(openat(fd, "name", O_CREAT | O_RDWR), ENOENT);
    ok!(openat(fd, ".", O_DIRECTORY));
}

fn bad_arguments() {
    let hole = free_range(1);
    errno_is!(syscall!(SYS_openat, AT_FDCWD, hole, O_RDONLY, 0), EFAULT);
    errno_is!(syscall!(SYS_openat, AT_FDCWD, 0, O_RDONLY, 0), EFAULT);
    errno_is!(syscall!(SYS_open, hole, O_CREAT, 0o600), EFAULT);
    errno_is!(sys::open(&new_dir(), O_CREAT | O_DIRECTORY, 0o600), EINVAL);
    errno_is!(syscall!(SYS_close, 999), EBADF);
    errno_is!(syscall!(SYS_close, -1_i64), EBADF);
    // Flags that Linux does not know are let through.
    ok!(sys::open(&tmp::named_file(b"").1, O_RDONLY | 1 << 30, 0));
}

fn unlinked_file_stays_open() {
    let (fd, path) = tmp::named_file(b"still here");
    ok!(unlink(&path));
    check_eq!(ok!(fstat(fd)).st_nlink, 0);
    check_eq!(content(fd), b"still here");
    check_eq!(sys::pwrite(fd, b"STILL", 0), Ok(5));
    in_child(|| check_eq!(content(fd), b"STILL here"));
    errno_is!(stat(&path), ENOENT);
}

fn proc_self_fd_opens_again() {
    let (fd, path) = tmp::named_file(b"content");
    let link = format!("/proc/self/fd/{fd}");
    check_eq!(ok!(readlink(&link)), path);
    ok!(unlink(&path));
    check_eq!(ok!(readlink(&link)), format!("{path} (deleted)"));
    let again = open(&link, O_RDONLY);
    check_eq!(content(again), b"content");
    // An open file of its own: the offset is not shared.
    check_eq!(lseek(fd, 0, libc::SEEK_END), Ok(7));
    check_eq!(lseek(again, 0, libc::SEEK_CUR), Ok(0));
    errno_is!(sys::write(again, b"x"), EBADF);
}

fn creat_is_open() {
    let (old, path) = tmp::named_file(b"content");
    let fd = ok!(syscall!(SYS_creat, sys::c_string(&path).as_ptr(), 0o600)) as i32;
    check_eq!(ok!(fstat(old)).st_size, 0);
    check_eq!(sys::write(fd, b"x"), Ok(1));
    errno_is!(sys::read(fd, &mut [0]), EBADF);
}

fn openat2(dir: i32, path: &str, how: [u64; 3]) -> sys::Result<i32> {
    syscall!(SYS_openat2, dir, sys::c_string(path).as_ptr(), how.as_ptr(), 24).map(|fd| fd as i32)
}

fn opens_like_openat() {
    let path = tmp::path();
    umask(0);
    let fd = ok!(openat2(AT_FDCWD, &path, [(O_CREAT | O_RDWR | O_CLOEXEC) as u64, 0o640, 0]));
    check_eq!(ok!(fstat(fd)).st_mode & 0o7777, 0o640);
    check_eq!(fcntl(fd, F_GETFD, 0), Ok(1));
    errno_is!(openat2(AT_FDCWD, &path, [(O_CREAT | O_EXCL | O_RDWR) as u64, 0o640, 0]), EEXIST);
}

fn size_and_flags_are_checked() {
    let (_, path) = tmp::named_file(b"");
    let path_c = sys::c_string(&path);
    let sized =
        |how: &[u64], size: usize| syscall!(SYS_openat2, AT_FDCWD, path_c.as_ptr(), how.as_ptr(), size);
    errno_is!(sized(&[0, 0, 0], 16), EINVAL);
    errno_is!(sized(&[0, 0, 0], 0), EINVAL);
    ok!(sized(&[0, 0, 0, 0], 32));
    errno_is!(sized(&[0, 0, 0, 1], 32), E2BIG);
    errno_is!(sized(&[0; 1024], 8192), E2BIG);
    errno_is!(openat2(AT_FDCWD, &path, [1 << 30, 0, 0]), EINVAL);
    errno_is!(openat2(AT_FDCWD, &path, [O_RDONLY as u64, 0o600, 0]), EINVAL);
    errno_is!(openat2(AT_FDCWD, &path, [O_CREAT as u64, 1 << 20, 0]), EINVAL);
    errno_is!(openat2(AT_FDCWD, &path, [0, 0, 1 << 40]), EINVAL);
    errno_is!(openat2(AT_FDCWD, &path, [0, 0, libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT]), EINVAL);
    errno_is!(openat2(AT_FDCWD, &path, [(O_PATH | O_RDWR | O_APPEND) as u64, 0, 0]), EINVAL);
}

fn no_symlinks() {
    let dir = new_dir();
    put(&format!("{dir}/file"), b"");
    ok!(symlink("file", &format!("{dir}/link")));
    ok!(symlink(&dir, &format!("{dir}/dir")));
    let resolve = libc::RESOLVE_NO_SYMLINKS;
    ok!(openat2(AT_FDCWD, &format!("{dir}/file"), [0, 0, resolve]));
    errno_is!(openat2(AT_FDCWD, &format!("{dir}/link"), [0, 0, resolve]), ELOOP);
    errno_is!(openat2(AT_FDCWD, &format!("{dir}/dir/file"), [0, 0, resolve]), ELOOP);
    ok!(openat2(AT_FDCWD, &format!("{dir}/link"), [(O_PATH | O_NOFOLLOW) as u64, 0, resolve]));
}

/// A folder with `in/file`, a file `out` beside `in`, and in it links `up` and `abs` to that; a descriptor of `in`.
fn jail() -> i32 {
    let dir = new_dir();
    ok!(mkdir(&format!("{dir}/in"), 0o755));
    put(&format!("{dir}/in/file"), b"inside");
    put(&format!("{dir}/out"), b"outside");
    ok!(symlink("../out", &format!("{dir}/in/up")));
    ok!(symlink("/file", &format!("{dir}/in/abs")));
    open(&format!("{dir}/in"), O_DIRECTORY)
}

fn beneath() {
    let dir = jail();
    let how = [0, 0, libc::RESOLVE_BENEATH];
    ok!(openat2(dir, "file", how));
    ok!(openat2(dir, "./file", how));
    for outside in ["../out", "up", "abs", "/", ".."] {
        errno_is!(openat2(dir, outside, how), EXDEV);
    }
}

fn in_root() {
    let dir = jail();
    let how = [0, 0, libc::RESOLVE_IN_ROOT];
    let inside = ok!(fstat(ok!(openat2(dir, "file", how)))).st_ino;
    for path in ["/file", "../file", "../../file", "abs"] {
        check_eq!(ok!(fstat(ok!(openat2(dir, path, how)))).st_ino, inside, "{path}");
    }
    errno_is!(openat2(dir, "up", how), ENOENT);
    errno_is!(openat2(dir, "../out", how), ENOENT);
}
