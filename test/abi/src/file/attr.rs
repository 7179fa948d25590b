// SPDX-License-Identifier: MPL-2.0

//! The stat family and what sets what it tells: statx(2), chmod(2), chown(2), utimensat(2), umask(2).

use libc::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG,
    STATX_BASIC_STATS, timespec,
};

use super::*;
use crate::mem::free_range;

pub const CASES: &[Case] = cases!["file/attr":
    stat_tells,
    stat_of_each_kind,
    stat_follows_and_lstat_does_not,
    fstatat_of_an_empty_path,
    stat_errors,
    statx_tells_the_same,
    statx_errors,
    chmod_sets_the_bits,
    chmod_follows_links,
    chown_sets_ids,
    chown_takes_setuid_away,
    write_by_others_takes_setuid_away,
    link_counts,
    times_move_with_changes,
    utimensat_sets_times,
    utimensat_now_and_omit,
    utimensat_errors,
    utimes_and_utime,
    umask_gives_the_old_one,
];

fn stat_tells() {
    let (fd, path) = tmp::named_file(&[1; 5000]);
    let told = ok!(stat(&path));
    check_eq!(told.st_mode, S_IFREG | 0o600);
    check_eq!((told.st_nlink, told.st_uid, told.st_gid), (1, 0, 0));
    check_eq!(told.st_size, 5000);
    check!(told.st_blocks * 512 >= 5000, "{} blocks", told.st_blocks);
    check!(told.st_blksize >= 512);
    check!(told.st_ino != 0);
    let again = ok!(fstat(fd));
    check_eq!((told.st_dev, told.st_ino), (again.st_dev, again.st_ino));
    check!(told.st_ino != ok!(fstat(tmp::file(b""))).st_ino, "two files, one inode number");
}

fn stat_of_each_kind() {
    let kind = |fd| ok!(fstat(fd)).st_mode & S_IFMT;
    check_eq!(kind(tmp::file(b"")), S_IFREG);
    check_eq!(kind(open("/", O_RDONLY)), S_IFDIR);
    check_eq!(kind(open("/dev/null", O_RDONLY)), libc::S_IFCHR);
    check_eq!(kind(ok!(sys::pipe(0)).0), S_IFIFO);
    let null = ok!(stat("/dev/null")).st_rdev;
    check_eq!((libc::major(null), libc::minor(null)), (1, 3));
    check_eq!(ok!(stat(&new_dir())).st_mode, S_IFDIR | 0o755);
}

fn stat_follows_and_lstat_does_not() {
    let (_, path) = tmp::named_file(b"content");
    let link = tmp::path();
    ok!(symlink(&path, &link));
    check_eq!(ok!(stat(&link)).st_size, 7);
    let told = ok!(lstat(&link));
    check_eq!(told.st_mode, S_IFLNK | 0o777);
    check_eq!(told.st_size, path.len() as i64);
    // SAFETY: plain numbers.
    let mut told: libc::stat = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_stat, sys::c_string(&link).as_ptr(), &raw mut told));
    check_eq!(told.st_mode & S_IFMT, S_IFREG);
    ok!(syscall!(SYS_lstat, sys::c_string(&link).as_ptr(), &raw mut told));
    check_eq!(told.st_mode & S_IFMT, S_IFLNK);
}

fn fstatat_of_an_empty_path() {
    let (fd, _) = tmp::named_file(b"content");
    check_eq!(ok!(stat_at(fd, "", AT_EMPTY_PATH)).st_size, 7);
    errno_is!(stat_at(fd, "", 0), ENOENT);
    errno_is!(stat_at(fd, "x", AT_EMPTY_PATH), ENOTDIR);
    let dir = new_dir();
    ok!(syscall!(SYS_chdir, sys::c_string(&dir).as_ptr()));
    check_eq!(ok!(stat_at(AT_FDCWD, "", AT_EMPTY_PATH)).st_ino, ok!(stat(&dir)).st_ino);
}

fn stat_errors() {
    let (_, path) = tmp::named_file(b"");
    let hole = free_range(1);
    errno_is!(stat(&tmp::path()), ENOENT);
    errno_is!(stat(""), ENOENT);
    errno_is!(stat(&format!("{path}/x")), ENOTDIR);
    errno_is!(stat(&format!("{path}/")), ENOTDIR);
    errno_is!(stat_at(AT_FDCWD, &path, 1 << 30), EINVAL);
    errno_is!(stat_at(999, "x", 0), EBADF);
    errno_is!(fstat(999), EBADF);
    errno_is!(syscall!(SYS_stat, sys::c_string(&path).as_ptr(), hole), EFAULT);
    errno_is!(syscall!(SYS_stat, hole, hole), EFAULT);
    errno_is!(syscall!(SYS_fstat, 0, hole), EFAULT);
}

fn statx(dir: i32, path: &str, flags: i32, mask: u32) -> sys::Result<libc::statx> {
    // SAFETY: plain numbers.
    let mut told: libc::statx = unsafe { std::mem::zeroed() };
    syscall!(SYS_statx, dir, sys::c_string(path).as_ptr(), flags, mask, &raw mut told).map(|_| told)
}

fn statx_tells_the_same() {
    let (fd, path) = tmp::named_file(b"content");
    let (told, old) = (ok!(statx(AT_FDCWD, &path, 0, STATX_BASIC_STATS)), ok!(stat(&path)));
    check_eq!(told.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    check_eq!(u32::from(told.stx_mode), old.st_mode);
    check_eq!((told.stx_ino, told.stx_size, told.stx_blocks), (old.st_ino, 7, old.st_blocks as u64));
    check_eq!(
        (u64::from(told.stx_nlink), told.stx_uid, told.stx_gid),
        (old.st_nlink, old.st_uid, old.st_gid)
    );
    check_eq!((told.stx_mtime.tv_sec, i64::from(told.stx_mtime.tv_nsec)), (old.st_mtime, old.st_mtime_nsec));
    check_eq!(libc::makedev(told.stx_dev_major, told.stx_dev_minor), old.st_dev);
    check_eq!(ok!(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS)).stx_ino, old.st_ino);
    let link = tmp::path();
    ok!(symlink(&path, &link));
    let told = ok!(statx(AT_FDCWD, &link, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS));
    check_eq!(u32::from(told.stx_mode) & S_IFMT, S_IFLNK);
}

fn statx_errors() {
    let (_, path) = tmp::named_file(b"");
    errno_is!(statx(AT_FDCWD, &path, 1 << 30, STATX_BASIC_STATS), EINVAL);
    errno_is!(statx(AT_FDCWD, &path, 0, 1 << 31), EINVAL);
    errno_is!(statx(AT_FDCWD, &path, libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC, 0), EINVAL);
    errno_is!(statx(AT_FDCWD, "", 0, STATX_BASIC_STATS), ENOENT);
    errno_is!(statx(999, "x", 0, STATX_BASIC_STATS), EBADF);
    let path = sys::c_string(&path);
    errno_is!(syscall!(SYS_statx, AT_FDCWD, path.as_ptr(), 0, STATX_BASIC_STATS, free_range(1)), EFAULT);
}

fn chmod_sets_the_bits() {
    let (fd, path) = tmp::named_file(b"");
    for mode in [0, 0o7777, 0o644, 0o1000] {
        ok!(chmod(&path, mode | S_IFDIR));
        check_eq!(ok!(fstat(fd)).st_mode, S_IFREG | mode);
    }
    ok!(syscall!(SYS_fchmod, fd, 0o611));
    check_eq!(ok!(stat(&path)).st_mode & 0o7777, 0o611);
    ok!(syscall!(SYS_fchmodat, AT_FDCWD, sys::c_string(&path).as_ptr(), 0o600));
    check_eq!(ok!(stat(&path)).st_mode & 0o7777, 0o600);
    errno_is!(chmod(&tmp::path(), 0o600), ENOENT);
    errno_is!(syscall!(SYS_fchmod, 999, 0o600), EBADF);
}

fn chmod_follows_links() {
    let (_, path) = tmp::named_file(b"");
    let link = tmp::path();
    ok!(symlink(&path, &link));
    ok!(chmod(&link, 0o640));
    check_eq!(ok!(stat(&path)).st_mode & 0o7777, 0o640);
    let link = sys::c_string(&link);
    errno_is!(syscall!(SYS_fchmodat2, AT_FDCWD, link.as_ptr(), 0o600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    errno_is!(syscall!(SYS_fchmodat2, AT_FDCWD, link.as_ptr(), 0o600, 1 << 30), EINVAL);
    ok!(syscall!(SYS_fchmodat2, AT_FDCWD, link.as_ptr(), 0o604, 0));
    check_eq!(ok!(stat(&path)).st_mode & 0o7777, 0o604);
}

fn chown_sets_ids() {
    let (fd, path) = tmp::named_file(b"");
    let ids = || {
        let told = ok!(fstat(fd));
        (told.st_uid, told.st_gid)
    };
    ok!(chown(&path, 12, 34));
    check_eq!(ids(), (12, 34));
    ok!(chown(&path, u32::MAX, 56));
    check_eq!(ids(), (12, 56));
    ok!(syscall!(SYS_fchown, fd, 78, u32::MAX));
    check_eq!(ids(), (78, 56));
    let link = tmp::path();
    ok!(symlink(&path, &link));
    ok!(syscall!(SYS_lchown, sys::c_string(&link).as_ptr(), 1, 2));
    check_eq!(ids(), (78, 56));
    check_eq!(ok!(lstat(&link)).st_uid, 1);
    ok!(chown(&link, 3, 4));
    check_eq!(ids(), (3, 4));
    ok!(syscall!(SYS_fchownat, fd, c"".as_ptr(), 5, 6, AT_EMPTY_PATH));
    check_eq!(ids(), (5, 6));
    errno_is!(syscall!(SYS_fchownat, fd, c"".as_ptr(), 5, 6, 0), ENOENT);
    errno_is!(syscall!(SYS_fchownat, fd, c"".as_ptr(), 5, 6, 1 << 30), EINVAL);
}

fn chown_takes_setuid_away() {
    let (_, path) = tmp::named_file(b"");
    let mode = |before| {
        ok!(chmod(&path, before));
        ok!(chown(&path, 1, 1));
        ok!(stat(&path)).st_mode & 0o7777
    };
    check_eq!(mode(0o4755), 0o755);
    check_eq!(mode(0o2755), 0o755);
    // Without the group's right to execute, the bit once meant mandatory locking.
    check_eq!(mode(0o2745), 0o2745);
    let dir = new_dir();
    ok!(chmod(&dir, 0o6755));
    ok!(chown(&dir, 1, 1));
    check_eq!(ok!(stat(&dir)).st_mode & 0o7777, 0o6755);
}

fn write_by_others_takes_setuid_away() {
    let (_, path) = tmp::named_file(b"content");
    let fd = open(&path, O_RDWR);
    let mode = || ok!(stat(&path)).st_mode & 0o7777;
    ok!(chmod(&path, 0o6777));
    check_eq!(sys::write(fd, b"x"), Ok(1));
    check_eq!(mode(), 0o6777);
    crate::child::in_child(|| {
        sys::become_unprivileged();
        check_eq!(sys::write(fd, b"x"), Ok(1));
    });
    check_eq!(mode(), 0o777);
}

fn link_counts() {
    let (fd, path) = tmp::named_file(b"");
    let other = tmp::path();
    ok!(link(&path, &other));
    check_eq!(ok!(fstat(fd)).st_nlink, 2);
    ok!(unlink(&path));
    check_eq!(ok!(fstat(fd)).st_nlink, 1);
    ok!(rename(&other, &path));
    check_eq!(ok!(fstat(fd)).st_nlink, 1);
    let dir = new_dir();
    check_eq!(ok!(stat(&dir)).st_nlink, 2);
    ok!(mkdir(&format!("{dir}/a"), 0o755));
    ok!(mkdir(&format!("{dir}/b"), 0o755));
    check_eq!(ok!(stat(&dir)).st_nlink, 4);
    ok!(rmdir(&format!("{dir}/a")));
    check_eq!(ok!(stat(&dir)).st_nlink, 3);
}

/// Access, modification and change time.
fn times(path: &str) -> [(i64, i64); 3] {
    let told = ok!(stat(path));
    [
        (told.st_atime, told.st_atime_nsec),
        (told.st_mtime, told.st_mtime_nsec),
        (told.st_ctime, told.st_ctime_nsec),
    ]
}

fn times_move_with_changes() {
    let (fd, path) = tmp::named_file(b"");
    let changed = |what: fn(i32, &str)| {
        let before = times(&path);
        sys::sleep_us(20_000);
        what(fd, &path);
        let after = times(&path);
        (before[1] < after[1], before[2] < after[2])
    };
    check_eq!(changed(|fd, _| check_eq!(sys::write(fd, b"x"), Ok(1))), (true, true));
    check_eq!(changed(|_, path| _ = ok!(chmod(path, 0o640))), (false, true));
    check_eq!(changed(|_, path| _ = ok!(link(path, &tmp::path()))), (false, true));
    check_eq!(changed(|fd, _| _ = ok!(sys::ftruncate(fd, 100))), (true, true));
    check_eq!(changed(|fd, _| check_eq!(sys::pread(fd, &mut [0], 0), Ok(1))), (false, false));
    check_eq!(changed(|fd, _| check_eq!(sys::write(fd, b""), Ok(0))), (false, false));
    let dir = new_dir();
    let before = times(&dir);
    sys::sleep_us(20_000);
    put(&format!("{dir}/x"), b"");
    let with = times(&dir);
    check!(before[1] < with[1]);
    sys::sleep_us(20_000);
    ok!(unlink(&format!("{dir}/x")));
    check!(with[1] < times(&dir)[1]);
}

fn utimensat(dir: i32, path: Option<&str>, times: Option<[timespec; 2]>, flags: i32) -> sys::Result {
    let path = path.map(sys::c_string);
    let path = path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr());
    let times = times.as_ref().map_or(std::ptr::null(), |times| times.as_ptr());
    syscall!(SYS_utimensat, dir, path, times, flags)
}

fn time(tv_sec: i64, tv_nsec: i64) -> timespec {
    timespec { tv_sec, tv_nsec }
}

fn utimensat_sets_times() {
    let (fd, path) = tmp::named_file(b"");
    ok!(utimensat(AT_FDCWD, Some(&path), Some([time(1000, 1), time(2000, 999_999_999)]), 0));
    check_eq!(times(&path)[..2], [(1000, 1), (2000, 999_999_999)]);
    check!(times(&path)[2].0 > 1_000_000, "the change time is now");
    ok!(utimensat(fd, None, Some([time(3, 0), time(4, 0)]), 0));
    check_eq!(times(&path)[..2], [(3, 0), (4, 0)]);
    let link = tmp::path();
    ok!(symlink(&path, &link));
    ok!(utimensat(AT_FDCWD, Some(&link), Some([time(5, 0), time(6, 0)]), AT_SYMLINK_NOFOLLOW));
    check_eq!(times(&path)[..2], [(3, 0), (4, 0)]);
    check_eq!(ok!(lstat(&link)).st_mtime, 6);
    ok!(utimensat(AT_FDCWD, Some(&link), None, 0));
    check!(times(&path)[0].0 > 1_000_000 && times(&path)[1].0 > 1_000_000);
}

fn utimensat_now_and_omit() {
    let (_, path) = tmp::named_file(b"");
    let set = |times| ok!(utimensat(AT_FDCWD, Some(&path), Some(times), 0));
    set([time(1, 2), time(3, 4)]);
    set([time(0, libc::UTIME_OMIT), time(0, libc::UTIME_NOW)]);
    check_eq!(times(&path)[0], (1, 2));
    check!(times(&path)[1].0 > 1_000_000);
    set([time(7, 7), time(0, libc::UTIME_OMIT)]);
    check_eq!(times(&path)[0], (7, 7));
    check!(times(&path)[1].0 > 1_000_000);
}

fn utimensat_errors() {
    let (_, path) = tmp::named_file(b"");
    let set = |times| utimensat(AT_FDCWD, Some(&path), Some(times), 0);
    errno_is!(set([time(0, -1), time(0, 0)]), EINVAL);
    errno_is!(set([time(0, 0), time(0, 1_000_000_000)]), EINVAL);
    errno_is!(utimensat(AT_FDCWD, Some(&path), None, 1 << 30), EINVAL);
    errno_is!(utimensat(AT_FDCWD, None, None, 0), EFAULT);
    errno_is!(utimensat(999, None, None, 0), EBADF);
    errno_is!(utimensat(AT_FDCWD, Some(&tmp::path()), None, 0), ENOENT);
    // Who may write may set the time to now, only the owner to any other.
    ok!(chmod(&path, 0o666));
    crate::child::in_child(|| {
        sys::become_unprivileged();
        ok!(utimensat(AT_FDCWD, Some(&path), None, 0));
        errno_is!(utimensat(AT_FDCWD, Some(&path), Some([time(1, 0), time(1, 0)]), 0), EPERM);
    });
    ok!(chmod(&path, 0o600));
    sys::become_unprivileged();
    errno_is!(utimensat(AT_FDCWD, Some(&path), None, 0), EACCES);
}

fn utimes_and_utime() {
    let (_, path) = tmp::named_file(b"");
    let path_c = sys::c_string(&path);
    ok!(syscall!(SYS_utimes, path_c.as_ptr(), [10_i64, 20, 30, 40].as_ptr()));
    check_eq!(times(&path)[..2], [(10, 20_000), (30, 40_000)]);
    errno_is!(syscall!(SYS_utimes, path_c.as_ptr(), [10_i64, 1_000_000, 30, 40].as_ptr()), EINVAL);
    ok!(syscall!(SYS_utime, path_c.as_ptr(), [50_i64, 60].as_ptr()));
    check_eq!(times(&path)[..2], [(50, 0), (60, 0)]);
}

fn umask_gives_the_old_one() {
    umask(0o27);
    check_eq!(umask(0o77777), 0o27);
    check_eq!(umask(0), 0o777);
    crate::child::in_child(|| _ = umask(0o77));
    check_eq!(umask(0), 0);
}
