// SPDX-License-Identifier: MPL-2.0

//! Signals read from a file, as in `signalfd(2)`.
//!
//! The file holds only a set. Whose signals it gives is decided at each call: those of the thread that reads or polls.

use linux_raw_sys::general::{O_CLOEXEC, O_NONBLOCK};

use super::{RawSigInfo, SigInfo, SigSet};
use crate::{
    fs::{
        anon,
        file::{File, FileOps, OpenFlags},
        io::Sink,
        poll::{PollEvents, PollTable, wait_ready},
        synthetic::{Text, put},
    },
    prelude::*,
};

/// An open signalfd.
struct SignalFd {
    set: AtomicU64,
}

impl SignalFd {
    fn set(&self) -> SigSet {
        SigSet::from_bits(self.set.load(Ordering::Relaxed)).without(SigSet::UNMASKABLE)
    }
}

/// `signalfd4(2)`: a new file for `set` if `fd` is -1, else a new set for the file.
///
/// # Errors
///
/// `EINVAL` for unknown flags, or if `fd` is no signalfd; `EBADF`; `EMFILE`; `ENOMEM`.
pub fn open(ctx: &Ctx, fd: i32, set: SigSet, flags: u32) -> Result<usize> {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    if fd != -1 {
        let file = ctx.files().get(fd)?;
        let signals = file.downcast_ops::<SignalFd>().ok_or(EINVAL)?;
        signals.set.store(set.bits(), Ordering::Relaxed);
        return Ok(fd as usize);
    }
    let ops = Arc::new(SignalFd { set: AtomicU64::new(set.bits()) });
    let flags = OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags);
    anon::install(ctx, "anon_inode:[signalfd]", ops, flags)
}

impl FileOps for SignalFd {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        let record = size_of::<SignalFdInfo>();
        if dst.avail() < record {
            return Err(EINVAL);
        }
        let thread = Thread::current().ok_or(EINVAL)?;
        let queue = thread.process().signals.arrivals().clone();
        let first = wait_ready(&queue, file.blocking(), || super::take(&thread, self.set()).ok_or(EAGAIN))?;
        let mut next = Some(first);
        let mut total = 0;
        while let Some(info) = next {
            let bytes = SignalFdInfo::from(&info);
            total += dst.write_bytes(zerocopy::IntoBytes::as_bytes(&bytes))?;
            next = if dst.avail() >= record { super::take(&thread, self.set()) } else { None };
        }
        Ok(total)
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        let Some(thread) = Thread::current() else { return PollEvents::empty() };
        table.observe(thread.process().signals.arrivals());
        match super::pending_for(&thread).intersection(self.set()).is_empty() {
            true => PollEvents::empty(),
            false => PollEvents::READABLE,
        }
    }

    fn fdinfo(&self, _file: &File, out: &mut Text) {
        put!(out, "sigmask:\t{:016x}\n", self.set().bits());
    }
}

/// `struct signalfd_siginfo`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
struct SignalFdInfo {
    signo: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: i32,
    tid: u32,
    band: u32,
    overrun: u32,
    trapno: u32,
    status: i32,
    int: i32,
    ptr: u64,
    utime: u64,
    stime: u64,
    addr: u64,
    addr_lsb: u16,
    pad: [u16; 23],
}

impl From<&SigInfo> for SignalFdInfo {
    fn from(info: &SigInfo) -> Self {
        use super::SigDetail;

        let base =
            Self { signo: u32::from(info.signal), errno: info.errno, code: info.code, ..Self::default() };
        match info.detail {
            SigDetail::None => base,
            SigDetail::Sender { pid, uid } => Self { pid, uid, ..base },
            SigDetail::Child { pid, uid, status, utime, stime } => {
                Self { pid, uid, status, utime: utime as u64, stime: stime as u64, ..base }
            }
            SigDetail::Fault { addr } => Self { addr: addr as u64, ..base },
            SigDetail::Timer { id, overrun, value } => {
                Self { tid: id as u32, overrun: overrun as u32, int: value as i32, ptr: value, ..base }
            }
            SigDetail::Poll { band, fd } => Self { band: band as u32, fd, ..base },
            SigDetail::Raw(_) => {
                let raw: RawSigInfo = info.to_raw();
                let value = raw.rest[1];
                Self { pid: raw.word(0), uid: raw.word(1), int: value as i32, ptr: value, ..base }
            }
        }
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn a_record_has_128_bytes() {
        assert_eq!(size_of::<SignalFdInfo>(), 128);
        assert_eq!(core::mem::offset_of!(SignalFdInfo, ptr), 48);
    }
}
