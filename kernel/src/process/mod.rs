// SPDX-License-Identifier: MPL-2.0

//! Processes and threads.
//!
//! ```text
//! table (all pids) ──► Process ──► AddressSpace (shared after vfork, CLONE_VM)
//!                        │  ▲
//!                        ▼  │
//!                      Thread ──► FileTable, FsContext, Credentials (shared or not, as clone(2) asked)
//! ```
//!
//! - A [`Process`] is what Linux calls a thread group: the threads that share a pid, an address space, signal
//!   dispositions and limits.
//! - A [`Thread`] runs a user program on the task of a [`worker`]. It keeps its process alive; the process forgets it at its exit.
//! - Who is whose parent, and the process groups and sessions, are in [`table`], under one lock.
//! - A system call gets a [`Ctx`]: the calling thread and what belongs to it.

pub mod clone;
pub mod credentials;
mod ctx;
pub mod exec;
pub mod exit;
pub(crate) mod exit_hooks;
mod fpu;
pub mod init;
pub mod io;
pub mod local;
pub mod pidfd;
pub mod ptrace;
pub mod rlimit;
pub mod rseq;
pub mod run;
mod state;
pub mod status;
pub mod table;
mod thread;
pub mod wait;
pub mod worker;

pub use self::{
    credentials::Credentials,
    ctx::Ctx,
    local::ThreadLocal,
    state::{Process, Report, Times, Usage},
    status::ExitStatus,
    thread::{TaskData, Thread, ThreadName, TimerSlack},
};

/// A process's number, also that of a process group or a session.
pub type Pid = u32;
/// A thread's number. The first thread of a process has the process's own.
pub type Tid = u32;
