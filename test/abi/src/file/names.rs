// SPDX-License-Identifier: MPL-2.0

//! link(2), unlink(2), rename(2), renameat2(2), symlink(2), readlink(2): what names mean.

use libc::{AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, RENAME_EXCHANGE, RENAME_NOREPLACE};

use super::*;
use crate::mem::free_range;

pub const CASES: &[Case] = cases!["file/names":
    link_is_the_same_file,
    link_errors,
    linkat_and_symbolic_links,
    unlink_errors,
    unlinkat_flags,
    symlink_holds_any_text,
    symlink_errors,
    readlink_cuts,
    readlink_errors,
    rename_moves,
    rename_replaces,
    rename_to_another_name_of_the_same_file,
    rename_of_folders,
    rename_errors,
    rename_into_itself_is_einval,
    rename_keeps_open_files,
    noreplace,
    exchange,
    renameat2_errors,
    replaced_name_is_never_missing,
];

fn ino(path: &str) -> u64 {
    ok!(lstat(path)).st_ino
}

fn link_is_the_same_file() {
    let (fd, path) = tmp::named_file(b"content");
    let other = tmp::path();
    ok!(link(&path, &other));
    check_eq!(ino(&path), ino(&other));
    check_eq!(sys::pwrite(fd, b"C", 0), Ok(1));
    check_eq!(get(&other), b"Content");
    ok!(unlink(&path));
    check_eq!(get(&other), b"Content");
}

fn link_errors() {
    let (_, path) = tmp::named_file(b"");
    let new = tmp::path();
    errno_is!(link(&path, &path), EEXIST);
    errno_is!(link(&tmp::path(), &new), ENOENT);
    errno_is!(link(&new_dir(), &new), EPERM);
    errno_is!(link(&path, &new_dir()), EEXIST);
    errno_is!(link(&path, &format!("{path}/x")), ENOTDIR);
    errno_is!(link(&path, &format!("{new}/x")), ENOENT);
    errno_is!(link(&path, ""), ENOENT);
    errno_is!(link(&path, &format!("{new}/")), ENOENT);
    errno_is!(link("/proc/self/status", &new), EXDEV);
}

fn linkat_and_symbolic_links() {
    let (fd, path) = tmp::named_file(b"content");
    let (symbolic, a, b, c) = (tmp::path(), tmp::path(), tmp::path(), tmp::path());
    ok!(symlink(&path, &symbolic));
    let linkat = |dir: i32, old: &str, new: &str, flags: i32| {
        syscall!(SYS_linkat, dir, sys::c_string(old).as_ptr(), AT_FDCWD, sys::c_string(new).as_ptr(), flags)
    };
    ok!(linkat(AT_FDCWD, &symbolic, &a, 0));
    check_eq!(ino(&a), ino(&symbolic));
    ok!(linkat(AT_FDCWD, &symbolic, &b, AT_SYMLINK_FOLLOW));
    check_eq!(ino(&b), ino(&path));
    ok!(linkat(fd, "", &c, AT_EMPTY_PATH));
    check_eq!(ino(&c), ino(&path));
    errno_is!(linkat(AT_FDCWD, &path, &tmp::path(), 1 << 30), EINVAL);
    errno_is!(linkat(fd, "", &tmp::path(), 0), ENOENT);
}

fn unlink_errors() {
    let (_, path) = tmp::named_file(b"");
    let dir = new_dir();
    errno_is!(unlink(&dir), EISDIR);
    errno_is!(unlink(&tmp::path()), ENOENT);
    errno_is!(unlink(""), ENOENT);
    errno_is!(unlink(&format!("{path}/x")), ENOTDIR);
    errno_is!(unlink(&format!("{path}/")), ENOTDIR);
    errno_is!(unlink(&format!("{dir}/.")), EISDIR);
    errno_is!(syscall!(SYS_unlink, free_range(1)), EFAULT);
    let link = tmp::path();
    ok!(symlink(&path, &link));
    ok!(unlink(&link));
    check_eq!(get(&path), b"");
}

fn unlinkat_flags() {
    let (_, path) = tmp::named_file(b"");
    let dir = new_dir();
    let unlinkat =
        |path: &str, flags: i32| syscall!(SYS_unlinkat, AT_FDCWD, sys::c_string(path).as_ptr(), flags);
    errno_is!(unlinkat(&path, AT_REMOVEDIR), ENOTDIR);
    errno_is!(unlinkat(&dir, 0), EISDIR);
    errno_is!(unlinkat(&path, 1 << 30), EINVAL);
    ok!(unlinkat(&dir, AT_REMOVEDIR));
    ok!(unlinkat(&path, 0));
    errno_is!(stat(&dir), ENOENT);
}

fn symlink_holds_any_text() {
    for target in ["x", "/", "../..//./x", " ", &"t".repeat(4000)] {
        let path = tmp::path();
        ok!(symlink(target, &path));
        check_eq!(ok!(readlink(&path)), target);
    }
    let dir = new_dir();
    ok!(mkdir(&format!("{dir}/sub"), 0o755));
    put(&format!("{dir}/sub/x"), b"found");
    ok!(symlink("sub/../sub/x", &format!("{dir}/link")));
    check_eq!(get(&format!("{dir}/link")), b"found");
}

fn symlink_errors() {
    let (_, path) = tmp::named_file(b"");
    errno_is!(symlink("x", &path), EEXIST);
    errno_is!(symlink("", &tmp::path()), ENOENT);
    errno_is!(symlink("x", ""), ENOENT);
    errno_is!(symlink("x", &format!("{path}/y")), ENOTDIR);
    errno_is!(symlink("x", &format!("{}/y", tmp::path())), ENOENT);
    errno_is!(symlink(&"t".repeat(4096), &tmp::path()), ENAMETOOLONG);
    errno_is!(syscall!(SYS_symlink, free_range(1), sys::c_string(&tmp::path()).as_ptr()), EFAULT);
}

fn readlink_cuts() {
    let path = tmp::path();
    ok!(symlink("0123456789", &path));
    let path_c = sys::c_string(&path);
    let mut target = [b'.'; 8];
    check_eq!(syscall!(SYS_readlink, path_c.as_ptr(), target.as_mut_ptr(), 4), Ok(4));
    check_eq!(&target, b"0123....");
}

fn readlink_errors() {
    let (_, path) = tmp::named_file(b"");
    errno_is!(readlink(&path), EINVAL);
    errno_is!(readlink(&new_dir()), EINVAL);
    errno_is!(readlink(&tmp::path()), ENOENT);
    let link = tmp::path();
    ok!(symlink("x", &link));
    let link = sys::c_string(&link);
    errno_is!(syscall!(SYS_readlink, link.as_ptr(), free_range(1), 10), EFAULT);
    errno_is!(syscall!(SYS_readlink, link.as_ptr(), [0_u8; 4].as_mut_ptr(), 0), EINVAL);
    errno_is!(syscall!(SYS_readlink, link.as_ptr(), [0_u8; 4].as_mut_ptr(), -1_i64), EINVAL);
}

fn rename_moves() {
    let (_, path) = tmp::named_file(b"content");
    let (dir, before) = (new_dir(), ino(&path));
    let new = format!("{dir}/new");
    ok!(rename(&path, &new));
    errno_is!(stat(&path), ENOENT);
    check_eq!(ino(&new), before);
    check_eq!(get(&new), b"content");
    let link = tmp::path();
    ok!(symlink(&new, &link));
    ok!(rename(&link, &path));
    check_eq!(ok!(readlink(&path)), new);
}

fn rename_replaces() {
    let (old, new) = (tmp::path(), tmp::path());
    put(&old, b"old");
    put(&new, b"replaced");
    let kept = open(&new, O_RDONLY);
    ok!(rename(&old, &new));
    check_eq!(get(&new), b"old");
    check_eq!(content(kept), b"replaced");
    check_eq!(ok!(fstat(kept)).st_nlink, 0);
    // A link is replaced itself, not what it means.
    let link = tmp::path();
    ok!(symlink(&new, &link));
    put(&old, b"other");
    ok!(rename(&old, &link));
    check_eq!(get(&new), b"old");
    check_eq!(get(&link), b"other");
    errno_is!(readlink(&link), EINVAL);
}

fn rename_to_another_name_of_the_same_file() {
    let (_, path) = tmp::named_file(b"");
    let other = tmp::path();
    ok!(link(&path, &other));
    ok!(rename(&path, &other));
    check_eq!(ino(&path), ino(&other));
    ok!(rename(&path, &path));
    check_eq!(ok!(stat(&path)).st_nlink, 2);
}

fn rename_of_folders() {
    let (dir, other) = (new_dir(), new_dir());
    put(&format!("{dir}/x"), b"content");
    let parent = |path: &str| ino(&format!("{path}/.."));
    // Onto an empty folder.
    ok!(rename(&dir, &other));
    check_eq!(get(&format!("{other}/x")), b"content");
    errno_is!(stat(&dir), ENOENT);
    // Elsewhere: its .. moves along.
    let place = new_dir();
    let moved = format!("{place}/moved");
    ok!(rename(&other, &moved));
    check_eq!(parent(&moved), ino(&place));
    check_eq!(ok!(stat(&place)).st_nlink, 3);
    ok!(rename(&format!("{moved}/"), &format!("{place}/again/")));
    check_eq!(get(&format!("{place}/again/x")), b"content");
}

fn rename_errors() {
    let (_, path) = tmp::named_file(b"");
    let (dir, full, none) = (new_dir(), new_dir(), tmp::path());
    put(&format!("{full}/x"), b"");
    errno_is!(rename(&none, &path), ENOENT);
    errno_is!(rename(&path, &format!("{none}/x")), ENOENT);
    errno_is!(rename(&path, &dir), EISDIR);
    errno_is!(rename(&dir, &path), ENOTDIR);
    errno_is!(rename(&dir, &full), ENOTEMPTY);
    errno_is!(rename(&path, &format!("{none}/")), ENOTDIR);
    errno_is!(rename(&format!("{path}/"), &none), ENOTDIR);
    errno_is!(rename(&format!("{dir}/."), &none), EBUSY);
    errno_is!(rename(&path, &format!("{dir}/..")), EBUSY);
    errno_is!(rename(&path, "/"), EBUSY);
    errno_is!(rename("", &none), ENOENT);
    errno_is!(rename(&path, "/proc/abi-none"), EXDEV);
    check!(stat(&path).is_ok() && stat(&dir).is_ok() && stat(&none).is_err());
}

fn rename_into_itself_is_einval() {
    let dir = new_dir();
    ok!(mkdir(&format!("{dir}/a"), 0o755));
    errno_is!(rename(&dir, &format!("{dir}/b")), EINVAL);
    errno_is!(rename(&dir, &format!("{dir}/a/b")), EINVAL);
    errno_is!(rename(&format!("{dir}/a"), &dir), ENOTEMPTY);
    ok!(rename(&dir, &dir));
}

fn rename_keeps_open_files() {
    let (fd, path) = tmp::named_file(b"content");
    let dir = new_dir();
    let dir_fd = open(&dir, O_RDONLY);
    ok!(rename(&path, &format!("{dir}/x")));
    check_eq!(content(fd), b"content");
    let new = tmp::path();
    ok!(rename(&dir, &new));
    check_eq!(ok!(stat_at(dir_fd, "x", 0)).st_ino, ok!(fstat(fd)).st_ino);
    check_eq!(ok!(readlink(&format!("/proc/self/fd/{fd}"))), format!("{new}/x"));
}

fn renameat2(old: &str, new: &str, flags: u32) -> sys::Result {
    let (old, new) = (sys::c_string(old), sys::c_string(new));
    syscall!(SYS_renameat2, AT_FDCWD, old.as_ptr(), AT_FDCWD, new.as_ptr(), flags)
}

fn noreplace() {
    let (old, new) = (tmp::path(), tmp::path());
    put(&old, b"old");
    put(&new, b"new");
    errno_is!(renameat2(&old, &new, RENAME_NOREPLACE), EEXIST);
    check_eq!(get(&new), b"new");
    ok!(unlink(&new));
    ok!(renameat2(&old, &new, RENAME_NOREPLACE));
    check_eq!(get(&new), b"old");
}

fn exchange() {
    let (file, dir) = (tmp::path(), new_dir());
    put(&file, b"file");
    put(&format!("{dir}/x"), b"in it");
    ok!(renameat2(&file, &dir, RENAME_EXCHANGE));
    check_eq!(get(&dir), b"file");
    check_eq!(get(&format!("{file}/x")), b"in it");
    errno_is!(renameat2(&file, &tmp::path(), RENAME_EXCHANGE), ENOENT);
    errno_is!(renameat2(&file, &format!("{file}/x"), RENAME_EXCHANGE), EINVAL);
    // Across folders their .. go along.
    let (a, b) = (new_dir(), new_dir());
    ok!(mkdir(&format!("{a}/d"), 0o755));
    put(&format!("{b}/f"), b"f");
    ok!(renameat2(&format!("{a}/d"), &format!("{b}/f"), RENAME_EXCHANGE));
    check_eq!(ino(&format!("{b}/f/..")), ino(&b));
    check_eq!((ok!(stat(&a)).st_nlink, ok!(stat(&b)).st_nlink), (2, 3));
}

fn renameat2_errors() {
    let (_, path) = tmp::named_file(b"");
    let new = tmp::path();
    errno_is!(renameat2(&path, &new, RENAME_NOREPLACE | RENAME_EXCHANGE), EINVAL);
    errno_is!(renameat2(&path, &new, 1 << 10), EINVAL);
    check!(stat(&path).is_ok());
}

fn replaced_name_is_never_missing() {
    let dir = new_dir();
    let name = format!("{dir}/name");
    put(&name, b"0");
    let writer = crate::child::Child::spawn(|| {
        let new = format!("{dir}/new");
        for _ in 0..500 {
            put(&new, b"1");
            ok!(rename(&new, &name));
        }
        put(&format!("{dir}/done"), b"");
    });
    while stat(&format!("{dir}/done")).is_err() {
        check_eq!(get(&name).len(), 1);
    }
    writer.join();
}
