// SPDX-License-Identifier: MPL-2.0

//! Folders: mkdir(2), rmdir(2), getdents64(2), getcwd(2), chdir(2), chroot(2).

use std::collections::BTreeSet;

use libc::{DT_DIR, DT_LNK, DT_REG, O_DIRECTORY, SEEK_SET};

use super::*;
use crate::{child::in_child, mem::free_range};

pub const CASES: &[Case] = cases!["file/dirs":
    mkdir_makes,
    mkdir_errors,
    rmdir_errors,
    removed_folder_can_be_used_but_not_filled,
    getdents_tells_all_once,
    getdents_types_and_inodes,
    getdents_errors,
    getdents_again_after_seek,
    getdents_while_names_come_and_go,
    removing_all_while_reading,
    getcwd_tells,
    getcwd_errors,
    getcwd_of_a_removed_folder_is_enoent,
    chdir_errors,
    cwd_follows_a_rename,
    cwd_is_inherited,
    dot_dot_of_the_root_is_the_root,
    chroot_confines,
];

fn chdir(path: &str) -> sys::Result {
    syscall!(SYS_chdir, sys::c_string(path).as_ptr())
}

fn getcwd() -> sys::Result<String> {
    let mut path = vec![0_u8; 4096];
    let len = syscall!(SYS_getcwd, path.as_mut_ptr(), path.len())?;
    check_eq!(path[len - 1], 0);
    path.truncate(len - 1);
    Ok(String::from_utf8_lossy(&path).into_owned())
}

fn mkdir_makes() {
    umask(0o22);
    let path = tmp::path();
    ok!(mkdir(&format!("{path}/"), 0o1777));
    check_eq!(ok!(stat(&path)).st_mode & 0o7777, 0o1755);
    check!(list(&path, 4096).is_empty());
    check_eq!(ok!(stat(&format!("{path}/."))).st_ino, ok!(stat(&path)).st_ino);
    check_eq!(ok!(stat(&format!("{path}/.."))).st_ino, ok!(stat(&tmp::dir())).st_ino);
}

fn mkdir_errors() {
    let (_, path) = tmp::named_file(b"");
    let dir = new_dir();
    errno_is!(mkdir(&dir, 0o755), EEXIST);
    errno_is!(mkdir(&path, 0o755), EEXIST);
    errno_is!(mkdir("/", 0o755), EEXIST);
    errno_is!(mkdir(&format!("{dir}/."), 0o755), EEXIST);
    errno_is!(mkdir(&format!("{dir}/.."), 0o755), EEXIST);
    errno_is!(mkdir(&format!("{path}/x"), 0o755), ENOTDIR);
    errno_is!(mkdir(&format!("{}/x", tmp::path()), 0o755), ENOENT);
    errno_is!(mkdir("", 0o755), ENOENT);
    let link = tmp::path();
    ok!(symlink("nowhere", &link));
    errno_is!(mkdir(&link, 0o755), EEXIST);
}

fn rmdir_errors() {
    let (_, path) = tmp::named_file(b"");
    let dir = new_dir();
    put(&format!("{dir}/x"), b"");
    errno_is!(rmdir(&dir), ENOTEMPTY);
    errno_is!(rmdir(&path), ENOTDIR);
    errno_is!(rmdir(&tmp::path()), ENOENT);
    errno_is!(rmdir(&format!("{dir}/.")), EINVAL);
    errno_is!(rmdir(&format!("{dir}/..")), ENOTEMPTY);
    errno_is!(rmdir("/"), EBUSY);
    let link = tmp::path();
    ok!(symlink(&new_dir(), &link));
    errno_is!(rmdir(&link), ENOTDIR);
}

fn removed_folder_can_be_used_but_not_filled() {
    let dir = new_dir();
    let fd = open(&dir, O_DIRECTORY);
    ok!(chdir(&dir));
    ok!(rmdir(&dir));
    check_eq!(ok!(fstat(fd)).st_nlink, 0);
    errno_is!(sys::open("x", O_CREAT | O_RDWR, 0o600), ENOENT);
    errno_is!(mkdir("x", 0o755), ENOENT);
    check_eq!(ok!(stat(".")).st_ino, ok!(fstat(fd)).st_ino);
    errno_is!(syscall!(SYS_getdents64, fd, [0_u8; 512].as_mut_ptr(), 512), ENOENT);
}

/// Makes files `0000`, `0001`, ...; their names.
fn fill(dir: &str, count: usize) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|number| format!("{number:04}")).collect();
    names.iter().for_each(|name| put(&format!("{dir}/{name}"), b""));
    names
}

fn getdents_tells_all_once() {
    let dir = new_dir();
    let names = fill(&dir, 300);
    for size in [64, 300, 4096, 1 << 16] {
        check_eq!(list(&dir, size), names, "with {size} bytes");
    }
    let fd = open(&dir, O_DIRECTORY);
    let all: Vec<_> = std::iter::from_fn(|| dirents(fd, 4096)).flatten().collect();
    check_eq!(all.iter().filter(|(name, ..)| name == ".").count(), 1);
    check_eq!(all.iter().filter(|(name, ..)| name == "..").count(), 1);
    check!(dirents(fd, 4096).is_none());
}

fn getdents_types_and_inodes() {
    let dir = new_dir();
    put(&format!("{dir}/file"), b"");
    ok!(mkdir(&format!("{dir}/sub"), 0o755));
    ok!(symlink("x", &format!("{dir}/link")));
    let names = dirents(open(&dir, O_DIRECTORY), 4096).unwrap_or_default();
    check_eq!(names.len(), 5);
    for (name, ino, kind) in names {
        check_eq!(ino, ok!(lstat(&format!("{dir}/{name}"))).st_ino, "{name}");
        let expected = match name.as_str() {
            "file" => DT_REG,
            "link" => DT_LNK,
            _ => DT_DIR,
        };
        check_eq!(kind, expected, "{name}");
    }
}

fn getdents_errors() {
    let dir = new_dir();
    let mut buffer = [0_u8; 512];
    let fd = open(&dir, O_DIRECTORY);
    errno_is!(syscall!(SYS_getdents64, tmp::file(b""), buffer.as_mut_ptr(), 512), ENOTDIR);
    errno_is!(syscall!(SYS_getdents64, 999, buffer.as_mut_ptr(), 512), EBADF);
    errno_is!(syscall!(SYS_getdents64, fd, buffer.as_mut_ptr(), 10), EINVAL);
    errno_is!(syscall!(SYS_getdents64, fd, free_range(1), 512), EFAULT);
    // None of the failed calls has lost a name.
    check_eq!(dirents(fd, 4096).map(|names| names.len()), Some(2));
}

fn getdents_again_after_seek() {
    let dir = new_dir();
    let names = fill(&dir, 10);
    let fd = open(&dir, O_DIRECTORY);
    while dirents(fd, 4096).is_some() {}
    put(&format!("{dir}/new"), b"");
    ok!(lseek(fd, 0, SEEK_SET));
    let again: BTreeSet<_> =
        std::iter::from_fn(|| dirents(fd, 100)).flatten().map(|(name, ..)| name).collect();
    check_eq!(again.len(), names.len() + 3);
    check!(again.contains("new"));
}

fn getdents_while_names_come_and_go() {
    let dir = new_dir();
    let names = fill(&dir, 200);
    let fd = open(&dir, O_DIRECTORY);
    let mut seen = Vec::new();
    for round in 0.. {
        let Some(part) = dirents(fd, 512) else { break };
        seen.extend(part.into_iter().map(|(name, ..)| name));
        // Names that are there all the time must be told once, whatever becomes of others.
        put(&format!("{dir}/new{round}"), b"");
        if round > 0 {
            ok!(unlink(&format!("{dir}/new{}", round - 1)));
        }
        check!(round < 1000, "no end");
    }
    let mut old: Vec<_> = seen.into_iter().filter(|name| names.contains(name)).collect();
    old.sort();
    check_eq!(old, names);
}

fn removing_all_while_reading() {
    let dir = new_dir();
    fill(&dir, 300);
    let fd = open(&dir, O_DIRECTORY);
    while let Some(part) = dirents(fd, 600) {
        for (name, ..) in part.into_iter().filter(|(name, ..)| name != "." && name != "..") {
            ok!(unlink(&format!("{dir}/{name}")));
        }
    }
    ok!(rmdir(&dir));
}

fn getcwd_tells() {
    let dir = new_dir();
    ok!(chdir(&dir));
    check_eq!(ok!(getcwd()), dir);
    ok!(mkdir("a", 0o755));
    ok!(symlink("a", "b"));
    ok!(chdir("b/../b"));
    check_eq!(ok!(getcwd()), format!("{dir}/a"));
    ok!(chdir(".."));
    check_eq!(ok!(getcwd()), dir);
    ok!(chdir("/"));
    check_eq!(ok!(getcwd()), "/");
    let fd = open(&dir, O_DIRECTORY);
    ok!(syscall!(SYS_fchdir, fd));
    check_eq!(ok!(getcwd()), dir);
    check_eq!(ok!(readlink("/proc/self/cwd")), dir);
}

fn getcwd_errors() {
    let dir = new_dir();
    ok!(chdir(&dir));
    let mut path = vec![0_u8; 4096];
    errno_is!(syscall!(SYS_getcwd, path.as_mut_ptr(), dir.len()), ERANGE);
    errno_is!(syscall!(SYS_getcwd, path.as_mut_ptr(), 0), ERANGE);
    errno_is!(syscall!(SYS_getcwd, free_range(1), 4096), EFAULT);
    check_eq!(syscall!(SYS_getcwd, path.as_mut_ptr(), dir.len() + 1), Ok(dir.len() + 1));
}

fn getcwd_of_a_removed_folder_is_enoent() {
    let dir = new_dir();
    ok!(chdir(&dir));
    ok!(rmdir(&dir));
    errno_is!(getcwd(), ENOENT);
    check_eq!(ok!(readlink("/proc/self/cwd")), format!("{dir} (deleted)"));
}

fn chdir_errors() {
    let (fd, path) = tmp::named_file(b"");
    let before = ok!(getcwd());
    errno_is!(chdir(&path), ENOTDIR);
    errno_is!(chdir(&tmp::path()), ENOENT);
    errno_is!(chdir(""), ENOENT);
    errno_is!(syscall!(SYS_chdir, free_range(1)), EFAULT);
    errno_is!(syscall!(SYS_fchdir, fd), ENOTDIR);
    errno_is!(syscall!(SYS_fchdir, 999), EBADF);
    check_eq!(ok!(getcwd()), before);
}

fn cwd_follows_a_rename() {
    let (dir, new) = (new_dir(), tmp::path());
    ok!(chdir(&dir));
    ok!(rename(&dir, &new));
    check_eq!(ok!(getcwd()), new);
}

fn cwd_is_inherited() {
    let dir = new_dir();
    ok!(chdir(&dir));
    in_child(|| {
        check_eq!(ok!(getcwd()), dir);
        ok!(chdir("/"));
    });
    check_eq!(ok!(getcwd()), dir);
}

fn dot_dot_of_the_root_is_the_root() {
    check_eq!(ok!(stat("/..")).st_ino, ok!(stat("/")).st_ino);
    check_eq!(ok!(stat("/../../..")).st_ino, ok!(stat("/")).st_ino);
    ok!(chdir("/"));
    ok!(chdir(".."));
    check_eq!(ok!(getcwd()), "/");
}

fn chroot_confines() {
    let dir = new_dir();
    put(&format!("{dir}/inside"), b"inside");
    ok!(symlink("/inside", &format!("{dir}/link")));
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(syscall!(SYS_chroot, sys::c_string(&dir).as_ptr()), EPERM);
    });
    errno_is!(syscall!(SYS_chroot, sys::c_string(&tmp::path()).as_ptr()), ENOENT);
    ok!(chdir(&dir));
    ok!(syscall!(SYS_chroot, c".".as_ptr()));
    check_eq!(ok!(getcwd()), "/");
    check_eq!(get("/inside"), b"inside");
    check_eq!(get("/../link"), b"inside");
    errno_is!(stat("/tmp"), ENOENT);
}
