// SPDX-License-Identifier: MPL-2.0

//! Counters that can be waited for, as in `eventfd(2)`.

use linux_raw_sys::general::{EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE};

use super::{
    anon,
    file::{File, FileOps, OpenFlags},
    io::{Sink, Source},
    poll::{PollEvents, PollTable, wait_ready},
    synthetic::{Text, put},
};
use crate::{prelude::*, wait::WaitQueue};

/// The largest value of a counter.
const MAX: u64 = u64::MAX - 1;

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    /// Everything.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// An open eventfd.
struct EventFd {
    count: SpinLock<u64>,
    taking: Taking,
    id: u64,
    changed: Arc<WaitQueue>,
}

/// `eventfd2(2)`.
///
/// # Errors
///
/// EINVAL for unknown flags; EMFILE; ENOMEM.
pub fn create(ctx: &Ctx, initial: u32, flags: u32) -> Result<usize> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    if flags & !(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE) != 0 {
        return Err(EINVAL);
    }
    let ops = Arc::new(EventFd {
        count: SpinLock::new(initial.into()),
        taking: if flags & EFD_SEMAPHORE != 0 { Taking::One } else { Taking::All },
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        changed: Arc::new(WaitQueue::new()),
    });
    let flags = OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags & (EFD_CLOEXEC | EFD_NONBLOCK));
    anon::install(ctx, "anon_inode:[eventfd]", ops, flags)
}

impl EventFd {
    fn take(&self) -> Result<u64> {
        let mut count = self.count.lock();
        let taken = match self.taking {
            _ if *count == 0 => return Err(EAGAIN),
            Taking::All => *count,
            Taking::One => 1,
        };
        *count -= taken;
        Ok(taken)
    }

    fn add(&self, more: u64) -> Result<()> {
        let mut count = self.count.lock();
        *count = count.checked_add(more).filter(|sum| *sum <= MAX).ok_or(EAGAIN)?;
        Ok(())
    }
}

impl FileOps for EventFd {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        if dst.avail() < size_of::<u64>() {
            return Err(EINVAL);
        }
        let count = wait_ready(&self.changed, file.blocking(), || self.take())?;
        self.changed.wake_all();
        dst.write_bytes(&count.to_ne_bytes())
    }

    fn write(&self, file: &File, src: &mut Source<'_>) -> Result<usize> {
        let mut bytes = [0; size_of::<u64>()];
        if src.remain() < bytes.len() {
            return Err(EINVAL);
        }
        if src.read_bytes(&mut bytes)? < bytes.len() {
            return Err(EFAULT);
        }
        let more = u64::from_ne_bytes(bytes);
        if more > MAX {
            return Err(EINVAL);
        }
        wait_ready(&self.changed, file.blocking(), || self.add(more))?;
        self.changed.wake_all();
        Ok(bytes.len())
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.changed);
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        // Only these: Linux reports neither RDNORM nor WRNORM here.
        events.set(PollEvents::IN, count > 0);
        events.set(PollEvents::OUT, count < MAX);
        events
    }

    fn fdinfo(&self, _file: &File, out: &mut Text) {
        let semaphore = u8::from(self.taking == Taking::One);
        let count = *self.count.lock();
        put!(out, "eventfd-count: {count:16x}\neventfd-id: {}\neventfd-semaphore: {semaphore}\n", self.id);
    }
}
