// SPDX-License-Identifier: MPL-2.0

//! Who may do what: the mode's nine bits, sticky and setgid folders, access(2), what only an owner may.

use libc::{AT_EACCESS, AT_FDCWD, AT_SYMLINK_NOFOLLOW, F_OK, O_WRONLY, R_OK, W_OK, X_OK};

use super::*;
use crate::child::in_child;

pub const CASES: &[Case] = cases!["file/permission":
    owner_group_and_others,
    owner_is_judged_by_the_owner_bits_alone,
    search_right_of_folders,
    making_and_removing_needs_the_folder,
    sticky_folder_protects_names,
    setgid_folder_gives_its_group,
    only_the_owner_may_chmod,
    only_root_may_give_away,
    owner_may_change_to_a_group_of_its_own,
    foreign_group_loses_setgid,
    root_may_all_but_execute,
    access_uses_the_real_ids,
    access_errors,
];

/// Goes on as this user, in this group and no other.
fn become_user(uid: u32, gid: u32, groups: &[u32]) {
    ok!(syscall!(SYS_setgroups, groups.len(), groups.as_ptr()));
    ok!(syscall!(SYS_setresgid, gid, gid, gid));
    ok!(syscall!(SYS_setresuid, uid, uid, uid));
}

/// Whether a process of that kind may read and write.
fn may(path: &str, uid: u32, gid: u32, groups: &[u32]) -> (bool, bool) {
    let told = crate::child::shared_words();
    in_child(|| {
        become_user(uid, gid, groups);
        for (word, flags) in told.iter().zip([O_RDONLY, O_WRONLY]) {
            match sys::open(path, flags, 0) {
                Ok(_) => word.store(1, std::sync::atomic::Ordering::SeqCst),
                Err(error) => check_eq!(error, sys::Errno(libc::EACCES)),
            }
        }
    });
    let got = |index: usize| told[index].load(std::sync::atomic::Ordering::SeqCst) == 1;
    (got(0), got(1))
}

fn owned(mode: u32, uid: u32, gid: u32) -> String {
    let (_, path) = tmp::named_file(b"content");
    ok!(chown(&path, uid, gid));
    ok!(chmod(&path, mode));
    path
}

fn owner_group_and_others() {
    let path = owned(0o640, 1000, 2000);
    check_eq!(may(&path, 1000, 1, &[]), (true, true));
    check_eq!(may(&path, 1, 2000, &[]), (true, false));
    check_eq!(may(&path, 1, 1, &[5, 2000, 7]), (true, false));
    check_eq!(may(&path, 1, 1, &[5, 7]), (false, false));
    check_eq!(may(&owned(0o602, 1000, 2000), 1, 1, &[]), (false, true));
}

fn owner_is_judged_by_the_owner_bits_alone() {
    check_eq!(may(&owned(0o066, 1000, 2000), 1000, 2000, &[]), (false, false));
    check_eq!(may(&owned(0o606, 1000, 2000), 1, 2000, &[]), (false, false));
}

fn search_right_of_folders() {
    let dir = new_dir();
    put(&format!("{dir}/x"), b"");
    ok!(chmod(&format!("{dir}/x"), 0o644));
    let tries = |mode: u32| {
        ok!(chmod(&dir, mode));
        let told = crate::child::shared_words();
        in_child(|| {
            sys::become_unprivileged();
            let results = [
                sys::open(&format!("{dir}/x"), O_RDONLY, 0).map(|_| ()),
                sys::open(&dir, O_RDONLY, 0).map(|_| ()),
                syscall!(SYS_chdir, sys::c_string(&dir).as_ptr()).map(|_| ()),
                stat(&format!("{dir}/none")).map(|_| ()),
            ];
            for (word, result) in told.iter().zip(results) {
                let errno = result.err().map_or(0, |error| error.0);
                word.store(errno as usize, std::sync::atomic::Ordering::SeqCst);
            }
        });
        [0, 1, 2, 3].map(|index| told[index].load(std::sync::atomic::Ordering::SeqCst) as i32)
    };
    check_eq!(tries(0o705), [0, 0, 0, libc::ENOENT]);
    check_eq!(tries(0o704), [libc::EACCES, 0, libc::EACCES, libc::EACCES]);
    check_eq!(tries(0o701), [0, libc::EACCES, 0, libc::ENOENT]);
}

fn making_and_removing_needs_the_folder() {
    let dir = new_dir();
    put(&format!("{dir}/x"), b"");
    ok!(chmod(&format!("{dir}/x"), 0o666));
    let mine = new_dir();
    ok!(chmod(&mine, 0o777));
    sys::become_unprivileged();
    let (old, new) = (format!("{dir}/x"), format!("{dir}/new"));
    errno_is!(sys::open(&new, O_CREAT | O_RDWR, 0o600), EACCES);
    errno_is!(mkdir(&new, 0o700), EACCES);
    errno_is!(symlink("x", &new), EACCES);
    errno_is!(rename(&old, &new), EACCES);
    errno_is!(rename(&old, &format!("{mine}/x")), EACCES);
    errno_is!(unlink(&old), EACCES);
    errno_is!(rmdir(&dir), EACCES);
    // It is the folder's mode that counts, not the file's.
    put(&format!("{mine}/y"), b"");
    ok!(chmod(&format!("{mine}/y"), 0));
    ok!(unlink(&format!("{mine}/y")));
}

fn sticky_folder_protects_names() {
    let dir = new_dir();
    ok!(chmod(&dir, 0o1777));
    put(&format!("{dir}/x"), b"");
    ok!(mkdir(&format!("{dir}/d"), 0o777));
    ok!(chmod(&format!("{dir}/x"), 0o666));
    sys::become_unprivileged();
    errno_is!(unlink(&format!("{dir}/x")), EPERM);
    errno_is!(rmdir(&format!("{dir}/d")), EPERM);
    errno_is!(rename(&format!("{dir}/x"), &format!("{dir}/y")), EPERM);
    put(&format!("{dir}/mine"), b"");
    errno_is!(rename(&format!("{dir}/mine"), &format!("{dir}/x")), EPERM);
    ok!(rename(&format!("{dir}/mine"), &format!("{dir}/still mine")));
    ok!(unlink(&format!("{dir}/still mine")));
}

fn setgid_folder_gives_its_group() {
    let dir = new_dir();
    ok!(chown(&dir, 0, 4321));
    ok!(chmod(&dir, 0o2777));
    umask(0);
    sys::become_unprivileged();
    put(&format!("{dir}/x"), b"");
    check_eq!(ok!(stat(&format!("{dir}/x"))).st_gid, 4321);
    ok!(mkdir(&format!("{dir}/d"), 0o755));
    let told = ok!(stat(&format!("{dir}/d")));
    check_eq!((told.st_gid, told.st_mode & 0o7777), (4321, 0o2755));
}

fn only_the_owner_may_chmod() {
    let (fd, path) = tmp::named_file(b"");
    ok!(chmod(&path, 0o666));
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(chmod(&path, 0o600), EPERM);
        errno_is!(syscall!(SYS_fchmod, fd, 0o600), EPERM);
    });
    ok!(chown(&path, 65534, 65534));
    sys::become_unprivileged();
    ok!(chmod(&path, 0o600));
}

fn only_root_may_give_away() {
    let path = owned(0o600, 65534, 65534);
    sys::become_unprivileged();
    errno_is!(chown(&path, 1, u32::MAX), EPERM);
    errno_is!(chown(&path, u32::MAX, 1), EPERM);
    ok!(chown(&path, 65534, 65534));
    ok!(chown(&path, u32::MAX, u32::MAX));
}

fn owner_may_change_to_a_group_of_its_own() {
    let path = owned(0o600, 1000, 1000);
    become_user(1000, 1000, &[77]);
    ok!(chown(&path, u32::MAX, 77));
    check_eq!(ok!(stat(&path)).st_gid, 77);
    errno_is!(chown(&path, u32::MAX, 78), EPERM);
}

fn foreign_group_loses_setgid() {
    let path = owned(0o600, 1000, 77);
    become_user(1000, 1000, &[]);
    ok!(chmod(&path, 0o2755));
    check_eq!(ok!(stat(&path)).st_mode & 0o7777, 0o755);
}

fn root_may_all_but_execute() {
    let path = owned(0, 1000, 1000);
    let fd = open(&path, O_RDWR);
    check_eq!(sys::pwrite(fd, b"X", 0), Ok(1));
    check_eq!(syscall!(SYS_access, sys::c_string(&path).as_ptr(), R_OK | W_OK), Ok(0));
    errno_is!(syscall!(SYS_access, sys::c_string(&path).as_ptr(), X_OK), EACCES);
    let dir = new_dir();
    ok!(chmod(&dir, 0));
    put(&format!("{dir}/x"), b"");
    check_eq!(syscall!(SYS_access, sys::c_string(&dir).as_ptr(), X_OK), Ok(0));
}

fn access_uses_the_real_ids() {
    let path = owned(0o600, 1000, 1000);
    let path_c = sys::c_string(&path);
    ok!(syscall!(SYS_setresgid, 0, 1000, 0));
    ok!(syscall!(SYS_setresuid, 0, 1000, 0));
    // The real user is root.
    check_eq!(syscall!(SYS_access, path_c.as_ptr(), R_OK | W_OK), Ok(0));
    check_eq!(syscall!(SYS_faccessat2, AT_FDCWD, path_c.as_ptr(), R_OK, AT_EACCESS), Ok(0));
    ok!(syscall!(SYS_setresuid, -1_i64, 0, -1_i64));
    ok!(syscall!(SYS_setresuid, 2000, 1000, 0));
    errno_is!(syscall!(SYS_access, path_c.as_ptr(), R_OK), EACCES);
    check_eq!(syscall!(SYS_faccessat2, AT_FDCWD, path_c.as_ptr(), R_OK, AT_EACCESS), Ok(0));
    ok!(sys::open(&path, O_RDONLY, 0));
}

fn access_errors() {
    let (_, path) = tmp::named_file(b"");
    let access = |path: &str, mode: i32| syscall!(SYS_access, sys::c_string(path).as_ptr(), mode);
    check_eq!(access(&path, F_OK), Ok(0));
    errno_is!(access(&path, 8), EINVAL);
    errno_is!(access(&path, -1), EINVAL);
    errno_is!(access(&tmp::path(), F_OK), ENOENT);
    errno_is!(access(&format!("{path}/x"), F_OK), ENOTDIR);
    let dangling = tmp::path();
    ok!(symlink("nowhere", &dangling));
    errno_is!(access(&dangling, F_OK), ENOENT);
    let dangling = sys::c_string(&dangling);
    ok!(syscall!(SYS_faccessat2, AT_FDCWD, dangling.as_ptr(), F_OK, AT_SYMLINK_NOFOLLOW));
    errno_is!(syscall!(SYS_faccessat2, AT_FDCWD, dangling.as_ptr(), F_OK, 1 << 30), EINVAL);
}
