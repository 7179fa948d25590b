// SPDX-License-Identifier: MPL-2.0

//! What a system call knows of its caller.

use crate::{
    fs::{FileTable, FsContext},
    mm::AddressSpace,
    prelude::*,
    process::{Credentials, ThreadLocal},
};

/// The calling thread and what belongs to it. It lives for one system call or fault.
pub struct Ctx<'a> {
    /// The calling thread.
    pub thread: &'a Arc<Thread>,
    /// Its process.
    pub process: &'a Arc<Process>,
    /// Its private state.
    pub local: &'a ThreadLocal,
    /// Its address space; user memory is read and written through it (see [`crate::usermem`]).
    pub vm: &'a Arc<AddressSpace>,
}

impl Ctx<'_> {
    /// The open files of the calling thread.
    pub fn files(&self) -> Arc<FileTable> {
        self.thread.files()
    }

    /// The root, the working directory and the umask of the calling thread.
    pub fn fs(&self) -> Arc<FsContext> {
        self.thread.fs()
    }

    /// The credentials of the calling thread, as they are now.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.thread.credentials()
    }
}
