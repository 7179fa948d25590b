// SPDX-License-Identifier: MPL-2.0

//! Files for a case, in a folder of its own that the harness removes.
//!
//! The folder is `/tmp/abi-PID` with the case's process id, and is made when it is first asked for. A case's children use
//! their parent's.

use std::{
    io,
    sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
};

use libc::{O_CLOEXEC, O_CREAT, O_EXCL, O_RDWR};

use crate::sys;

static OWNER: AtomicI32 = AtomicI32::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Makes the calling process the owner of the folder.
pub fn begin_case() {
    OWNER.store(sys::getpid(), Relaxed);
}

/// The path of the case's folder, which exists.
pub fn dir() -> String {
    let dir = folder(OWNER.load(Relaxed));
    if let Err(error) = std::fs::create_dir_all(&dir) {
        panic!("creating {dir}: {error}");
    }
    dir
}

/// A path in the case's folder at which nothing is yet.
pub fn path() -> String {
    format!("{}/{}", dir(), NEXT.fetch_add(1, Relaxed))
}

/// A new file with this content: its descriptor, open for reading and writing at offset 0.
pub fn file(content: &[u8]) -> i32 {
    named_file(content).0
}

/// A new file with this content: its descriptor, open for reading and writing at offset 0, and its path.
pub fn named_file(content: &[u8]) -> (i32, String) {
    let path = path();
    let fd = ok!(sys::open(&path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600));
    check_eq!(sys::pwrite(fd, content, 0), Ok(content.len()));
    (fd, path)
}

/// Mounts a tmpfs with these flags and options at the case's folder, runs `body`, and unmounts it. `None` where that cannot be done.
pub fn on_tmpfs<T>(flags: u64, options: &str, body: impl FnOnce() -> T) -> Option<T> {
    // In a mount namespace of its own, where there are any, so that nothing stays behind.
    let (dir, none) = (dir(), std::ptr::null::<libc::c_void>());
    let [root, target, kind, options] = ["/", &dir, "tmpfs", options].map(sys::c_string);
    if syscall!(SYS_unshare, libc::CLONE_NEWNS).is_ok() {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        if syscall!(SYS_mount, none, root.as_ptr(), none, private, none).is_err() {
            // The root is no mount: others would see what is mounted here.
            return None;
        }
    }
    syscall!(SYS_mount, kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr()).ok()?;
    let result = body();
    ok!(syscall!(SYS_umount2, target.as_ptr(), libc::MNT_DETACH));
    Some(result)
}

/// Removes the folder of the case that ran as process `pid`, if it made one.
pub fn remove_of(pid: i32) -> io::Result<()> {
    match std::fs::remove_dir_all(folder(pid)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn folder(pid: i32) -> String {
    format!("/tmp/abi-{pid}")
}
