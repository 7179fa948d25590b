// SPDX-License-Identifier: MPL-2.0

//! What file systems ask of the running thread and of the clock, in one place.

use linux_raw_sys::general::{RLIMIT_FSIZE, SIGPIPE, SIGXFSZ};

use super::{mount, path::Path, types::Timestamp};
use crate::{
    prelude::*,
    process::Credentials,
    signal::{self, SigInfo},
    time,
};

/// The time that goes into inodes.
pub fn now() -> Timestamp {
    let now = time::realtime();
    Timestamp { secs: now.as_secs() as i64, nanos: now.subsec_nanos() }
}

/// The root directory of the running thread; that of the whole tree for the kernel itself.
pub fn root() -> Path {
    Thread::current().map_or_else(mount::root, |thread| thread.fs().root())
}

/// The credentials of the running thread; the superuser's for the kernel itself.
pub fn credentials() -> Arc<Credentials> {
    Thread::current().map_or_else(|| Arc::new(Credentials::root()), |thread| thread.credentials())
}

/// The most bytes a file may have after a write of the running process (`RLIMIT_FSIZE`).
pub fn file_size_limit() -> u64 {
    Thread::current().map_or(u64::MAX, |thread| thread.process().rlimits.soft(RLIMIT_FSIZE))
}

/// Fails when only the kernel's reserve of memory is left. Asked before something is made that a program could make without
/// end: kernel objects must not use up the reserve.
///
/// # Errors
///
/// ENOMEM.
pub fn require_memory() -> Result<()> {
    vmar_ostd::reserve::ensure_user_frame().map_err(|_| ENOMEM)
}

/// Sends SIGXFSZ to the running thread: it has run into [`file_size_limit`].
pub fn signal_file_too_large() {
    signal_self(SIGXFSZ);
}

/// Sends SIGPIPE to the running thread: it has written to a pipe that nobody reads.
pub fn signal_broken_pipe() {
    signal_self(SIGPIPE);
}

fn signal_self(number: u32) {
    if let Some(thread) = Thread::current() {
        signal::send_to_thread(&thread, SigInfo::kernel(number as u8));
    }
}
