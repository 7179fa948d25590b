// SPDX-License-Identifier: MPL-2.0

//! What a signal carries: Linux's `siginfo_t`.

use linux_raw_sys::general::{SI_KERNEL, SI_USER};

use crate::{prelude::*, process::credentials::Uid};

/// A signal and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// The signal's number, 1 to 64.
    pub signal: u8,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The rest, which depends on the code.
    pub detail: SigDetail,
}

/// The part of `siginfo_t` that depends on the signal's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigDetail {
    /// Nothing.
    None,
    /// Who sent it (`kill`, `tgkill`).
    Sender {
        /// The sender.
        pid: Pid,
        /// Its real user.
        uid: Uid,
    },
    /// Who queued it, with a value (`sigqueue`).
    Queued {
        /// The sender.
        pid: Pid,
        /// Its real user.
        uid: Uid,
        /// `si_value`.
        value: u64,
    },
    /// A child's report (`SIGCHLD`).
    Child {
        /// The child.
        pid: Pid,
        /// Its real user.
        uid: Uid,
        /// Its exit code, or the signal that ended, stopped or continued it.
        status: i32,
        /// Its user time in clock ticks.
        utime: i64,
        /// Its system time in clock ticks.
        stime: i64,
    },
    /// A fault, with the address it is about.
    Fault {
        /// `si_addr`.
        addr: Vaddr,
    },
    /// A POSIX timer's expiry.
    Timer {
        /// The timer.
        id: i32,
        /// How often it expired more than once.
        overrun: i32,
        /// `si_value`.
        value: u64,
    },
}

impl SigInfo {
    /// A signal from the kernel with nothing to say (`SI_KERNEL`).
    pub const fn kernel(signal: u8) -> Self {
        Self { signal, errno: 0, code: SI_KERNEL as i32, detail: SigDetail::None }
    }

    /// A signal from a process (`SI_USER`).
    pub const fn user(signal: u8, pid: Pid, uid: Uid) -> Self {
        Self { signal, errno: 0, code: SI_USER as i32, detail: SigDetail::Sender { pid, uid } }
    }

    /// A fault with a code such as `SEGV_MAPERR`.
    pub const fn fault(signal: u8, code: i32, addr: Vaddr) -> Self {
        Self { signal, errno: 0, code, detail: SigDetail::Fault { addr } }
    }
}
