// SPDX-License-Identifier: MPL-2.0

//! What a file is opened with: the flags of `open(2)` and the access mode among them.

use bitflags::bitflags;
use linux_raw_sys::general as abi;

use super::poll::Blocking;

bitflags! {
    /// The flags of `open(2)`, the access mode aside.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Open for writing only (see [`AccessMode`]).
        const WRONLY = abi::O_WRONLY;
        /// Open for reading and writing (see [`AccessMode`]).
        const RDWR = abi::O_RDWR;
        /// Create the file if there is none.
        const CREAT = abi::O_CREAT;
        /// Fail if there is one.
        const EXCL = abi::O_EXCL;
        /// Do not make a terminal the controlling one.
        const NOCTTY = abi::O_NOCTTY;
        /// Cut the file to no bytes.
        const TRUNC = abi::O_TRUNC;
        /// Each write goes to the end.
        const APPEND = abi::O_APPEND;
        /// Fail with EAGAIN instead of waiting.
        const NONBLOCK = abi::O_NONBLOCK;
        /// Write data through.
        const DSYNC = abi::O_DSYNC;
        /// Send a signal when ready.
        const ASYNC = abi::FASYNC;
        /// Bypass caches; packet mode for pipes.
        const DIRECT = abi::O_DIRECT;
        /// 64-bit offsets; always so.
        const LARGEFILE = abi::O_LARGEFILE;
        /// Fail unless it is a directory.
        const DIRECTORY = abi::O_DIRECTORY;
        /// Fail if the last component is a symbolic link.
        const NOFOLLOW = abi::O_NOFOLLOW;
        /// Leave the access time alone.
        const NOATIME = abi::O_NOATIME;
        /// Close on execve.
        const CLOEXEC = abi::O_CLOEXEC;
        /// Write data and attributes through (without [`Self::DSYNC`]).
        const SYNC_ALONE = abi::O_SYNC & !abi::O_DSYNC;
        /// Only a location, not its contents.
        const PATH = abi::O_PATH;
        /// A file without a name (without [`Self::DIRECTORY`]).
        const TMPFILE_ALONE = abi::O_TMPFILE & !abi::O_DIRECTORY;
        /// What `F_SETFL` can change of any file. [`Self::ASYNC`] is for those that can send signals.
        const CHANGEABLE = abi::O_APPEND | abi::O_NONBLOCK | abi::O_DIRECT | abi::O_NOATIME;
        /// What only counts while opening.
        const TRANSIENT = abi::O_CREAT | abi::O_EXCL | abi::O_NOCTTY | abi::O_TRUNC | abi::O_CLOEXEC;
    }
}

impl OpenFlags {
    /// Whether an operation on a file with these flags may wait.
    pub fn blocking(self) -> Blocking {
        if self.contains(Self::NONBLOCK) { Blocking::No } else { Blocking::Yes }
    }

    /// The access mode among the flags.
    pub fn access(self) -> AccessMode {
        match self.bits() & abi::O_ACCMODE {
            _ if self.contains(Self::PATH) => AccessMode::NONE,
            abi::O_RDONLY => AccessMode::READ,
            abi::O_WRONLY => AccessMode::WRITE,
            abi::O_RDWR => AccessMode::READ | AccessMode::WRITE,
            // Mode 3: permission for both is checked, and neither is given (open(2), NOTES).
            _ => AccessMode::NONE,
        }
    }
}

bitflags! {
    /// What an open file may be used for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AccessMode: u8 {
        /// Neither.
        const NONE = 0;
        /// Reading.
        const READ = 1;
        /// Writing.
        const WRITE = 2;
        /// Both.
        const BOTH = 3;
    }
}
