// SPDX-License-Identifier: MPL-2.0

//! What a signal carries: Linux's `siginfo_t`.
//!
//! [`SigInfo`] is what the kernel works with; [`RawSigInfo`] is the 128 bytes that a program sees.
//!
//! ```text
//!   0       4       8      12      16                                   128
//!   │ signo │ errno │ code │  pad  │ the part that depends on the code  │
//! ```

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
    /// A file has become ready (`SIGIO`).
    Poll {
        /// `si_band`: the events of `poll(2)`.
        band: i64,
        /// The descriptor.
        fd: i32,
    },
    /// What a program has made up itself (`rt_sigqueueinfo(2)`), as it stands in memory from byte 16 on.
    Raw([u64; 14]),
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

    /// The 128 bytes that a program sees.
    pub fn to_raw(&self) -> RawSigInfo {
        let mut rest = [0; 14];
        match self.detail {
            SigDetail::None => {}
            SigDetail::Sender { pid, uid } => rest[0] = pair(pid, uid),
            SigDetail::Child { pid, uid, status, utime, stime } => {
                rest[0] = pair(pid, uid);
                rest[1] = u64::from(status as u32);
                rest[2] = utime as u64;
                rest[3] = stime as u64;
            }
            SigDetail::Fault { addr } => rest[0] = addr as u64,
            SigDetail::Timer { id, overrun, value } => {
                rest[0] = pair(id as u32, overrun as u32);
                rest[1] = value;
            }
            SigDetail::Poll { band, fd } => {
                rest[0] = band as u64;
                rest[1] = u64::from(fd as u32);
            }
            SigDetail::Raw(raw) => rest = raw,
        }
        RawSigInfo { signo: i32::from(self.signal), errno: self.errno, code: self.code, pad: 0, rest }
    }
}

/// Two 32-bit fields, one after the other.
const fn pair(first: u32, second: u32) -> u64 {
    first as u64 | (second as u64) << 32
}

/// `siginfo_t` as it stands in memory.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
pub struct RawSigInfo {
    /// `si_signo`.
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    pad: i32,
    /// The part that depends on the code.
    pub rest: [u64; 14],
}

impl RawSigInfo {
    /// The signal `signal` with what a program has put together here.
    pub const fn into_info(self, signal: u8) -> SigInfo {
        SigInfo { signal, errno: self.errno, code: self.code, detail: SigDetail::Raw(self.rest) }
    }

    /// A 32-bit field, by its index in 32-bit units behind the first 16 bytes.
    pub const fn word(&self, index: usize) -> u32 {
        (self.rest[index / 2] >> (index % 2 * 32)) as u32
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn fields_stand_where_linux_has_them() {
        assert_eq!(size_of::<RawSigInfo>(), linux_raw_sys::general::SI_MAX_SIZE as usize);
        let detail = SigDetail::Child { pid: 7, uid: 8, status: -9, utime: 10, stime: 11 };
        let raw = SigInfo { signal: 17, errno: 0, code: 1, detail }.to_raw();
        assert_eq!((raw.signo, raw.code, raw.word(0), raw.word(1)), (17, 1, 7, 8));
        assert_eq!((raw.word(2) as i32, raw.rest[2], raw.rest[3]), (-9, 10, 11));
    }

    #[ktest]
    fn what_a_program_made_up_comes_back_unchanged() {
        let mut raw = SigInfo::user(10, 1, 2).to_raw();
        raw.code = -1;
        raw.rest[13] = 42;
        let again = raw.into_info(12).to_raw();
        assert_eq!((again.signo, again.code, again.rest), (12, -1, raw.rest));
    }
}
