// SPDX-License-Identifier: MPL-2.0

//! Users and groups: the set*id family, supplementary groups, capabilities that come and go with root.

use super::*;
use crate::{child::in_child, mem::free_range, tmp};

pub const CASES: &[Case] = cases!["process/credentials":
    root_sets_all_three,
    others_choose_among_their_own,
    minus_one_keeps,
    setreuid_and_the_saved_id,
    effective_id_can_come_back,
    groups_follow_the_same_rules,
    fsuid_is_its_own,
    root_loses_its_capabilities,
    keepcaps_keeps_the_permitted,
    capset_gives_up,
    setgroups_and_getgroups,
    setgroups_needs_privilege,
    inherited_by_children,
    bad_pointer_is_efault,
    setuid_program_gives_its_owner,
    no_new_privs_stops_setuid,
];

fn uids() -> (u32, u32, u32) {
    let mut ids = [0_u32; 3];
    ok!(syscall!(SYS_getresuid, &raw mut ids[0], &raw mut ids[1], &raw mut ids[2]));
    check_eq!(syscall!(SYS_getuid), Ok(ids[0] as usize));
    check_eq!(syscall!(SYS_geteuid), Ok(ids[1] as usize));
    (ids[0], ids[1], ids[2])
}

fn gids() -> (u32, u32, u32) {
    let mut ids = [0_u32; 3];
    ok!(syscall!(SYS_getresgid, &raw mut ids[0], &raw mut ids[1], &raw mut ids[2]));
    check_eq!(syscall!(SYS_getgid), Ok(ids[0] as usize));
    check_eq!(syscall!(SYS_getegid), Ok(ids[1] as usize));
    (ids[0], ids[1], ids[2])
}

fn setresuid(real: i32, effective: i32, saved: i32) -> sys::Result {
    syscall!(SYS_setresuid, real, effective, saved)
}

fn root_sets_all_three() {
    in_child(|| {
        ok!(syscall!(SYS_setuid, 1000));
        check_eq!(uids(), (1000, 1000, 1000));
        errno_is!(syscall!(SYS_setuid, 0), EPERM);
    });
    in_child(|| {
        ok!(setresuid(1, 2, 3));
        check_eq!(uids(), (1, 2, 3));
    });
    check_eq!(uids(), (0, 0, 0));
}

fn others_choose_among_their_own() {
    ok!(setresuid(1, 2, 3));
    errno_is!(setresuid(4, -1, -1), EPERM);
    errno_is!(setresuid(-1, 4, -1), EPERM);
    errno_is!(setresuid(1, 2, 4), EPERM);
    ok!(setresuid(3, 1, 2));
    check_eq!(uids(), (3, 1, 2));
    ok!(syscall!(SYS_setuid, 2));
    check_eq!(uids(), (3, 2, 2));
    errno_is!(syscall!(SYS_setuid, 1), EPERM);
}

fn minus_one_keeps() {
    ok!(setresuid(1, 2, 3));
    ok!(setresuid(-1, -1, -1));
    ok!(syscall!(SYS_setreuid, -1_i64, -1_i64));
    check_eq!(uids(), (1, 2, 3));
    errno_is!(syscall!(SYS_setuid, -1_i64), EINVAL);
    errno_is!(syscall!(SYS_setgid, -1_i64), EINVAL);
}

fn setreuid_and_the_saved_id() {
    in_child(|| {
        ok!(syscall!(SYS_setreuid, 1000, -1_i64));
        check_eq!(uids(), (1000, 0, 0));
    });
    in_child(|| {
        ok!(syscall!(SYS_setreuid, -1_i64, 1000));
        check_eq!(uids(), (0, 1000, 1000));
        // The saved one moves only with an effective one that is not the real one.
        ok!(syscall!(SYS_setreuid, -1_i64, 0));
        check_eq!(uids(), (0, 0, 1000));
    });
    ok!(setresuid(1, 2, 3));
    errno_is!(syscall!(SYS_setreuid, 3, -1_i64), EPERM);
    ok!(syscall!(SYS_setreuid, 2, 1));
    check_eq!(uids(), (2, 1, 1));
}

fn effective_id_can_come_back() {
    ok!(setresuid(-1, 1000, -1));
    check_eq!(uids(), (0, 1000, 0));
    ok!(setresuid(-1, 0, -1));
    check_eq!(uids(), (0, 0, 0));
    ok!(sys::setpgid(0, 0));
}

fn groups_follow_the_same_rules() {
    ok!(syscall!(SYS_setresgid, 1, 2, 3));
    check_eq!(gids(), (1, 2, 3));
    // It is the user that makes root, not the group.
    ok!(syscall!(SYS_setgid, 77));
    check_eq!(gids(), (77, 77, 77));
    ok!(syscall!(SYS_setresgid, 1, 2, 3));
    ok!(syscall!(SYS_setregid, -1_i64, 1));
    check_eq!(gids(), (1, 1, 3));
    ok!(setresuid(5, 5, 5));
    errno_is!(syscall!(SYS_setgid, 99), EPERM);
    ok!(syscall!(SYS_setgid, 3));
    check_eq!(gids(), (1, 3, 3));
}

fn fsuid_is_its_own() {
    let (_, path) = tmp::named_file(b"");
    check_eq!(syscall!(SYS_setfsuid, 1000), Ok(0));
    check_eq!(syscall!(SYS_setfsuid, -1_i64), Ok(1000));
    check_eq!(uids(), (0, 0, 0));
    errno_is!(sys::open(&path, libc::O_RDONLY, 0), EACCES);
    check_eq!(syscall!(SYS_setfsuid, 0), Ok(1000));
    ok!(sys::open(&path, libc::O_RDONLY, 0));
    // It follows the effective id.
    ok!(setresuid(-1, 5, -1));
    check_eq!(syscall!(SYS_setfsuid, -1_i64), Ok(5));
    check_eq!(syscall!(SYS_setfsgid, -1_i64), Ok(0));
}

/// Effective and permitted capabilities, low half.
fn capabilities() -> (u32, u32) {
    let header = [0x2008_0522_u32, 0];
    let mut data = [0_u32; 6];
    ok!(syscall!(SYS_capget, header.as_ptr(), data.as_mut_ptr()));
    (data[0], data[1])
}

const CAP_SETUID: u32 = 1 << 7;

fn root_loses_its_capabilities() {
    let (effective, permitted) = capabilities();
    check!(effective & CAP_SETUID != 0 && effective == permitted);
    in_child(|| {
        ok!(setresuid(-1, 1000, -1));
        check_eq!(capabilities(), (0, permitted));
        ok!(setresuid(-1, 0, -1));
        check_eq!(capabilities(), (effective, permitted));
    });
    ok!(setresuid(1000, 1000, 1000));
    check_eq!(capabilities(), (0, 0));
}

fn keepcaps_keeps_the_permitted() {
    let (_, permitted) = capabilities();
    check_eq!(prctl(libc::PR_GET_KEEPCAPS, [0; 4]), Ok(0));
    ok!(prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0]));
    ok!(setresuid(1000, 1000, 1000));
    check_eq!(capabilities(), (0, permitted));
    errno_is!(prctl(libc::PR_SET_KEEPCAPS, [2, 0, 0, 0]), EINVAL);
}

fn capset_gives_up() {
    let header = [0x2008_0522_u32, 0];
    let (_, permitted) = capabilities();
    let less = permitted & !CAP_SETUID;
    let data = [less, less, 0, 0, 0, 0];
    ok!(syscall!(SYS_capset, header.as_ptr(), data.as_ptr()));
    check_eq!(capabilities(), (less, less));
    errno_is!(setresuid(1000, -1, -1), EPERM);
    let more = [permitted, permitted, 0, 0, 0, 0];
    errno_is!(syscall!(SYS_capset, header.as_ptr(), more.as_ptr()), EPERM);
    let beyond = [less, 0, 0, 0, 0, 0];
    errno_is!(syscall!(SYS_capset, header.as_ptr(), beyond.as_ptr()), EPERM);
    // The version that the kernel would like is told.
    let mut unknown = [7_u32, 0];
    errno_is!(syscall!(SYS_capget, unknown.as_mut_ptr(), [0_u32; 6].as_mut_ptr()), EINVAL);
    check_eq!(unknown[0], 0x2008_0522);
}

fn getgroups() -> Vec<u32> {
    let mut groups = vec![0_u32; 100];
    let count = ok!(syscall!(SYS_getgroups, 100, groups.as_mut_ptr()));
    groups.truncate(count);
    groups
}

fn setgroups(groups: &[u32]) -> sys::Result {
    syscall!(SYS_setgroups, groups.len(), groups.as_ptr())
}

fn setgroups_and_getgroups() {
    ok!(setgroups(&[30, 10, 20]));
    let mut groups = getgroups();
    groups.sort();
    check_eq!(groups, [10, 20, 30]);
    check_eq!(syscall!(SYS_getgroups, 0, 0), Ok(3));
    errno_is!(syscall!(SYS_getgroups, 2, groups.as_mut_ptr()), EINVAL);
    errno_is!(syscall!(SYS_getgroups, -1_i64, groups.as_mut_ptr()), EINVAL);
    ok!(setgroups(&[]));
    check!(getgroups().is_empty());
    errno_is!(syscall!(SYS_setgroups, 65537, groups.as_ptr()), EINVAL);
}

fn setgroups_needs_privilege() {
    ok!(setgroups(&[1, 2]));
    sys::become_unprivileged();
    errno_is!(setgroups(&[]), EPERM);
    check_eq!(getgroups(), [1, 2]);
}

fn inherited_by_children() {
    ok!(setgroups(&[7]));
    ok!(syscall!(SYS_setresgid, 4, 5, 6));
    ok!(setresuid(1, 2, 3));
    in_child(|| {
        check_eq!((uids(), gids(), getgroups()), ((1, 2, 3), (4, 5, 6), vec![7]));
    });
    in_child(|| {
        // A new thread as well; the bare call changes one thread alone.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                check_eq!(uids(), (1, 2, 3));
                ok!(setresuid(3, 3, 3));
            });
        });
        check_eq!(uids(), (1, 2, 3));
    });
}

fn bad_pointer_is_efault() {
    let hole = free_range(1);
    errno_is!(syscall!(SYS_getresuid, hole, hole, hole), EFAULT);
    errno_is!(syscall!(SYS_getresgid, hole, hole, hole), EFAULT);
    errno_is!(syscall!(SYS_setgroups, 1, hole), EFAULT);
    ok!(setgroups(&[1]));
    errno_is!(syscall!(SYS_getgroups, 1, hole), EFAULT);
    errno_is!(syscall!(SYS_capget, hole, hole), EFAULT);
}

/// A copy of this program, owned by that user, with that mode.
fn program(owner: u32, mode: u32) -> String {
    let path = tmp::path();
    if let Err(error) = std::fs::copy("/proc/self/exe", &path) {
        panic!("copying /proc/self/exe: {error}");
    }
    ok!(syscall!(SYS_chown, sys::c_string(&path).as_ptr(), owner, owner));
    ok!(syscall!(SYS_chmod, sys::c_string(&path).as_ptr(), mode));
    path
}

fn setuid_program_gives_its_owner() {
    let path = program(1234, 0o6755);
    let told = crate::program::output(&path, &["process/ids"], &[], sys::become_unprivileged);
    check_eq!(told, "65534 1234 1234 65534 1234 1234 secure=1");
    let plain = program(1234, 0o755);
    let told = crate::program::output(&plain, &["process/ids"], &[], sys::become_unprivileged);
    check_eq!(told, "65534 65534 65534 65534 65534 65534 secure=0");
}

fn no_new_privs_stops_setuid() {
    let path = program(1234, 0o6755);
    let told = crate::program::output(&path, &["process/ids"], &[], || {
        ok!(prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]));
        sys::become_unprivileged();
    });
    check_eq!(told, "65534 65534 65534 65534 65534 65534 secure=0");
}
