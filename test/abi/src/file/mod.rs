// SPDX-License-Identifier: MPL-2.0

//! Files: names, descriptors, content, attributes, locks, pipes, and what moves data between them.
//!
//! One module for each family of calls. Below are the few things that all of them need. Every case's files are in the
//! folder that [`crate::tmp`] makes, whatever the file system there is.

use libc::{AT_FDCWD, O_CLOEXEC, O_CREAT, O_RDONLY, O_RDWR};

use crate::{harness::Case, sys, tmp};

mod attr;
mod copy;
mod dirs;
mod fds;
mod fifo;
mod locks;
mod names;
mod open;
mod permission;
mod pipe;
mod protected;
mod rw;
mod size;
mod stress;
mod system;

/// The groups of this area, in the order they run.
pub const GROUPS: &[&[Case]] = &[
    open::CASES,
    open::OPENAT2,
    rw::CASES,
    size::CASES,
    attr::CASES,
    permission::CASES,
    protected::CASES,
    names::CASES,
    dirs::CASES,
    fds::CASES,
    locks::CASES,
    pipe::CASES,
    fifo::CASES,
    copy::CASES,
    system::CASES,
    stress::CASES,
];

/// The descriptor of a file that can be opened.
#[track_caller]
pub fn open(path: &str, flags: i32) -> i32 {
    match sys::open(path, flags | O_CLOEXEC, 0o600) {
        Ok(fd) => fd,
        Err(error) => panic!("opening {path} gives {error}"),
    }
}

/// Makes a file with this content; its path.
#[track_caller]
pub fn put(path: &str, content: &[u8]) {
    let fd = open(path, O_RDWR | O_CREAT);
    check_eq!(sys::pwrite(fd, content, 0), Ok(content.len()));
    sys::close(fd);
}

/// The content of a file.
#[track_caller]
pub fn get(path: &str) -> Vec<u8> {
    let fd = open(path, O_RDONLY);
    let content = content(fd);
    sys::close(fd);
    content
}

/// The content behind a descriptor, from its start.
#[track_caller]
pub fn content(fd: i32) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match ok!(sys::pread(fd, &mut part, all.len())) {
            0 => return all,
            count => all.extend_from_slice(&part[..count]),
        }
    }
}

/// A new folder; its path.
#[track_caller]
pub fn new_dir() -> String {
    let path = tmp::path();
    ok!(mkdir(&path, 0o755));
    path
}

pub fn mkdir(path: &str, mode: u32) -> sys::Result {
    syscall!(SYS_mkdir, sys::c_string(path).as_ptr(), mode)
}

pub fn rmdir(path: &str) -> sys::Result {
    syscall!(SYS_rmdir, sys::c_string(path).as_ptr())
}

pub fn unlink(path: &str) -> sys::Result {
    syscall!(SYS_unlink, sys::c_string(path).as_ptr())
}

pub fn link(old: &str, new: &str) -> sys::Result {
    syscall!(SYS_link, sys::c_string(old).as_ptr(), sys::c_string(new).as_ptr())
}

pub fn symlink(target: &str, path: &str) -> sys::Result {
    syscall!(SYS_symlink, sys::c_string(target).as_ptr(), sys::c_string(path).as_ptr())
}

pub fn rename(old: &str, new: &str) -> sys::Result {
    syscall!(SYS_rename, sys::c_string(old).as_ptr(), sys::c_string(new).as_ptr())
}

pub fn chmod(path: &str, mode: u32) -> sys::Result {
    syscall!(SYS_chmod, sys::c_string(path).as_ptr(), mode)
}

pub fn chown(path: &str, uid: u32, gid: u32) -> sys::Result {
    syscall!(SYS_chown, sys::c_string(path).as_ptr(), uid, gid)
}

pub fn umask(mask: u32) -> u32 {
    ok!(syscall!(SYS_umask, mask)) as u32
}

/// What newfstatat(2) says.
pub fn stat_at(dir: i32, path: &str, flags: i32) -> sys::Result<libc::stat> {
    // SAFETY: plain numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    syscall!(SYS_newfstatat, dir, sys::c_string(path).as_ptr(), &raw mut stat, flags).map(|_| stat)
}

pub fn stat(path: &str) -> sys::Result<libc::stat> {
    stat_at(AT_FDCWD, path, 0)
}

pub fn lstat(path: &str) -> sys::Result<libc::stat> {
    stat_at(AT_FDCWD, path, libc::AT_SYMLINK_NOFOLLOW)
}

pub fn fstat(fd: i32) -> sys::Result<libc::stat> {
    // SAFETY: plain numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    syscall!(SYS_fstat, fd, &raw mut stat).map(|_| stat)
}

pub fn lseek(fd: i32, offset: i64, whence: i32) -> sys::Result {
    syscall!(SYS_lseek, fd, offset, whence)
}

pub fn fcntl(fd: i32, command: i32, value: usize) -> sys::Result {
    syscall!(SYS_fcntl, fd, command, value)
}

pub fn readlink(path: &str) -> sys::Result<String> {
    let mut target = vec![0_u8; 4096];
    let len = syscall!(SYS_readlink, sys::c_string(path).as_ptr(), target.as_mut_ptr(), target.len())?;
    target.truncate(len);
    Ok(String::from_utf8_lossy(&target).into_owned())
}

/// The names in a folder except `.` and `..`, sorted, as getdents64 with a buffer of `size` bytes tells them.
#[track_caller]
pub fn list(path: &str, size: usize) -> Vec<String> {
    let fd = open(path, O_RDONLY | libc::O_DIRECTORY);
    let mut names = Vec::new();
    while let Some(part) = dirents(fd, size) {
        names.extend(part.into_iter().map(|(name, ..)| name).filter(|name| name != "." && name != ".."));
    }
    sys::close(fd);
    names.sort();
    names
}

/// The next names in a folder with their inode number and type; nothing at its end.
#[track_caller]
pub fn dirents(fd: i32, size: usize) -> Option<Vec<(String, u64, u8)>> {
    let mut buffer = vec![0_u8; size];
    let filled = ok!(syscall!(SYS_getdents64, fd, buffer.as_mut_ptr(), size));
    let (mut names, mut rest) = (Vec::new(), &buffer[..filled]);
    while rest.len() > 19 {
        let ino = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes"));
        let len = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
        let name = rest[19..len].split(|&byte| byte == 0).next().unwrap_or_default();
        names.push((String::from_utf8_lossy(name).into_owned(), ino, rest[18]));
        rest = &rest[len..];
    }
    (filled > 0).then_some(names)
}
