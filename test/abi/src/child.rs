// SPDX-License-Identifier: MPL-2.0

//! Children of a case: forked bodies, turn-taking, memory to tell each other things.

use std::sync::atomic::AtomicUsize;

use libc::{MAP_ANONYMOUS, MAP_SHARED, O_CLOEXEC, PROT_READ, PROT_WRITE};

use crate::sys;

/// A forked child of the case that has not been waited for.
#[must_use]
pub struct Child {
    /// Its process id.
    pub pid: i32,
}

impl Child {
    /// Forks a child that runs `body` and exits with status 0. A panic in it fails the case.
    pub fn spawn(body: impl FnOnce()) -> Self {
        match ok!(sys::fork()) {
            0 => {
                body();
                sys::exit_group(0)
            }
            pid => Self { pid },
        }
    }

    /// Waits for its end; its wait status.
    #[track_caller]
    pub fn wait(self) -> i32 {
        loop {
            match sys::wait4(self.pid, 0) {
                Ok((_, status)) => return status,
                Err(error) if error.0 == libc::EINTR => {}
                Err(error) => panic!("wait4 for a child gives {error}"),
            }
        }
    }

    /// Waits for its end, which must be with status 0.
    #[track_caller]
    pub fn join(self) {
        let status = self.wait();
        if libc::WIFSIGNALED(status) {
            panic!("the child was ended by {}", sys::signal_name(libc::WTERMSIG(status)));
        }
        assert!(status == 0, "the child exited with status {}", libc::WEXITSTATUS(status));
    }
}

/// Runs `body` in a child and waits until it has ended well.
#[track_caller]
pub fn in_child(body: impl FnOnce()) {
    Child::spawn(body).join();
}

/// Runs `body` in a child; the signal that ended it, or nothing when it exited.
#[track_caller]
pub fn killed_by(body: impl FnOnce()) -> Option<i32> {
    let status = Child::spawn(body).wait();
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

/// A one-way signal between a case and its children: as many waits go through as there were posts.
pub struct Turn {
    reader: i32,
    writer: i32,
}

impl Turn {
    pub fn new() -> Self {
        let (reader, writer) = ok!(sys::pipe(O_CLOEXEC));
        Self { reader, writer }
    }

    /// Lets one wait through.
    pub fn post(&self) {
        check_eq!(sys::write(self.writer, b"."), Ok(1));
    }

    /// Waits for a post.
    pub fn wait(&self) {
        check_eq!(sys::read(self.reader, &mut [0]), Ok(1));
    }
}

/// Words in shared anonymous memory that the case and its children see alike; all 0 at first. At most 512 of them.
pub fn shared_words() -> &'static [AtomicUsize; 512] {
    let at = ok!(sys::mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    // SAFETY: a fresh mapping of that size, which nobody unmaps.
    unsafe { &*(at as *const [AtomicUsize; 512]) }
}
