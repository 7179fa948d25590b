// SPDX-License-Identifier: MPL-2.0

//! `fs.protected_*` (proc_sys_fs(5)): links and files that somebody has put in another's way. What is expected depends on the
//! settings of the system.

use libc::{O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};

use super::*;
use crate::{child::in_child, tmp};

pub const CASES: &[Case] = cases!["file/protected":
    settings_are_small_numbers,
    link_of_another_is_not_followed,
    link_in_an_own_folder_is_followed,
    link_on_the_way_is_followed,
    link_is_followed_to_create,
    name_for_a_file_of_another,
    name_for_a_file_with_privileges,
    file_of_another_is_not_opened_to_create,
    fifo_of_another_is_not_opened_to_create,
    folder_of_a_group,
];

/// Somebody who is neither root nor the nobody that a case can become.
const OTHER: u32 = 1000;

fn setting(name: &str) -> u32 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/sys/fs/protected_{name}")) else {
        skip!("fs.protected_{name} cannot be read")
    };
    let Ok(value) = text.trim().parse() else { panic!("fs.protected_{name} is {text:?}") };
    value
}

/// What a call must give that a setting may forbid.
#[track_caller]
fn forbidden_if(is_forbidden: bool, error: i32, result: sys::Result<i32>) {
    if is_forbidden {
        check_eq!(result, Err(sys::Errno(error)));
    } else {
        ok!(result);
    }
}

fn own(path: &str, uid: u32) {
    ok!(syscall!(SYS_lchown, sys::c_string(path).as_ptr(), uid, uid));
}

fn mode(path: &str, mode: u32) {
    ok!(syscall!(SYS_chmod, sys::c_string(path).as_ptr(), mode));
}

/// A new folder, open for everybody to look into.
fn folder(bits: u32) -> String {
    mode(&tmp::dir(), 0o755);
    let path = tmp::path();
    ok!(syscall!(SYS_mkdir, sys::c_string(&path).as_ptr(), 0o700));
    mode(&path, bits);
    path
}

fn new_file(path: &str, bits: u32, uid: u32) {
    sys::close(ok!(sys::open(path, O_CREAT | O_EXCL | O_WRONLY, 0o600)));
    own(path, uid);
    mode(path, bits);
}

fn symlink(target: &str, path: &str, uid: u32) {
    ok!(syscall!(SYS_symlink, sys::c_string(target).as_ptr(), sys::c_string(path).as_ptr()));
    own(path, uid);
}

fn settings_are_small_numbers() {
    for (name, largest) in [("fifos", 2), ("hardlinks", 1), ("regular", 2), ("symlinks", 1)] {
        check!(setting(name) <= largest);
    }
}

fn link_of_another_is_not_followed() {
    let is_protected = setting("symlinks") != 0;
    let dir = folder(0o1777);
    let (file, link, chain) = (format!("{dir}/file"), format!("{dir}/link"), format!("{dir}/chain"));
    new_file(&file, 0o644, 0);
    symlink("file", &link, OTHER);
    symlink("link", &chain, 0);
    for path in [&link, &chain] {
        forbidden_if(is_protected, libc::EACCES, sys::open(path, O_RDONLY, 0));
    }
    // The link itself can be looked at, and its owner may go where it leads.
    check!(std::fs::read_link(&link).is_ok() && std::fs::symlink_metadata(&link).is_ok());
    in_child(|| {
        ok!(syscall!(SYS_setresuid, OTHER, OTHER, OTHER));
        ok!(sys::open(&link, O_RDONLY, 0));
    });
    // A link of the folder's owner is everybody's.
    own(&link, 0);
    in_child(|| {
        sys::become_unprivileged();
        ok!(sys::open(&link, O_RDONLY, 0));
    });
}

fn link_in_an_own_folder_is_followed() {
    for bits in [0o755, 0o777, 0o1755, 0o1775] {
        let dir = folder(bits);
        let link = format!("{dir}/link");
        new_file(&format!("{dir}/file"), 0o644, 0);
        symlink("file", &link, OTHER);
        ok!(sys::open(&link, O_RDONLY, 0));
    }
}

fn link_on_the_way_is_followed() {
    let dir = folder(0o1777);
    let link = format!("{dir}/link");
    symlink(".", &link, OTHER);
    new_file(&format!("{dir}/file"), 0o644, 0);
    ok!(sys::open(&format!("{link}/file"), O_RDONLY, 0));
    let is_protected = setting("symlinks") != 0;
    forbidden_if(is_protected, libc::EACCES, sys::open(&format!("{link}/"), O_RDONLY, 0));
}

fn link_is_followed_to_create() {
    let dir = folder(0o1777);
    let link = format!("{dir}/link");
    symlink("new", &link, OTHER);
    let is_protected = setting("symlinks") != 0;
    forbidden_if(is_protected, libc::EACCES, sys::open(&link, O_RDWR | O_CREAT, 0o600));
    check_eq!(std::fs::symlink_metadata(format!("{dir}/new")).is_err(), is_protected);
}

fn link_as_nobody(from: &str, to: &str, error: Option<i32>) {
    in_child(|| {
        sys::become_unprivileged();
        let result = syscall!(SYS_link, sys::c_string(from).as_ptr(), sys::c_string(to).as_ptr());
        check_eq!(result.err().map(|error| error.0), error, "{from}");
    });
}

fn name_for_a_file_of_another() {
    let refusal = (setting("hardlinks") != 0).then_some(libc::EPERM);
    let dir = folder(0o777);
    for (name, bits, uid, expected) in [
        ("secret", 0o600, OTHER, refusal),
        ("read-only", 0o644, OTHER, refusal),
        ("open", 0o666, OTHER, None),
        ("own", 0o000, 65534, None),
    ] {
        let path = format!("{dir}/{name}");
        new_file(&path, bits, uid);
        link_as_nobody(&path, &format!("{path}-too"), expected);
    }
    // Whoever has the capability may.
    let (from, to) = (format!("{dir}/secret"), format!("{dir}/mine"));
    ok!(syscall!(SYS_link, sys::c_string(&from).as_ptr(), sys::c_string(&to).as_ptr()));
}

fn name_for_a_file_with_privileges() {
    let refusal = (setting("hardlinks") != 0).then_some(libc::EPERM);
    let dir = folder(0o777);
    for (name, bits, expected) in
        [("setuid", 0o4666, refusal), ("setgid", 0o2676, refusal), ("locked", 0o2666, None)]
    {
        let path = format!("{dir}/{name}");
        new_file(&path, bits, OTHER);
        link_as_nobody(&path, &format!("{path}-too"), expected);
    }
    let fifo = format!("{dir}/fifo");
    ok!(syscall!(SYS_mknod, sys::c_string(&fifo).as_ptr(), libc::S_IFIFO | 0o666, 0));
    mode(&fifo, 0o666);
    link_as_nobody(&fifo, &format!("{fifo}-too"), refusal);
}

fn file_of_another_is_not_opened_to_create() {
    let is_protected = setting("regular") != 0;
    let dir = folder(0o1777);
    let path = format!("{dir}/file");
    new_file(&path, 0o666, OTHER);
    forbidden_if(is_protected, libc::EACCES, sys::open(&path, O_WRONLY | O_CREAT, 0o600));
    ok!(sys::open(&path, O_WRONLY, 0));
    errno_is!(sys::open(&path, O_WRONLY | O_CREAT | O_EXCL, 0o600), EEXIST);
    in_child(|| {
        ok!(syscall!(SYS_setresuid, OTHER, OTHER, OTHER));
        ok!(sys::open(&path, O_WRONLY | O_CREAT, 0o600));
    });
    // What belongs to the folder's owner is no trap, nor is a folder without the sticky bit one.
    own(&dir, OTHER);
    ok!(sys::open(&path, O_WRONLY | O_CREAT, 0o600));
    own(&dir, 0);
    mode(&dir, 0o777);
    ok!(sys::open(&path, O_WRONLY | O_CREAT, 0o600));
}

fn fifo_of_another_is_not_opened_to_create() {
    let is_protected = setting("fifos") != 0;
    let path = format!("{}/fifo", folder(0o1777));
    ok!(syscall!(SYS_mknod, sys::c_string(&path).as_ptr(), libc::S_IFIFO | 0o600, 0));
    own(&path, OTHER);
    forbidden_if(is_protected, libc::EACCES, sys::open(&path, O_RDWR | O_CREAT | O_NONBLOCK, 0o600));
    ok!(sys::open(&path, O_RDWR | O_NONBLOCK, 0));
}

fn folder_of_a_group() {
    let dir = folder(0o1770);
    let path = format!("{dir}/file");
    new_file(&path, 0o666, OTHER);
    forbidden_if(setting("regular") == 2, libc::EACCES, sys::open(&path, O_WRONLY | O_CREAT, 0o600));
}
