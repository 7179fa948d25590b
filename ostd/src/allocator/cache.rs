// SPDX-License-Identifier: MPL-2.0

//! A CPU's cache: a few single frames, so that most allocations need not go to the pool.

use ostd::mm::Paddr;

/// The most frames in a cache (256 KiB).
const CAPACITY: usize = 64;

/// Frames that go to the pool, or come from it, in one go.
pub const BATCH: usize = 32;

/// A stack of single frames.
pub struct Cache {
    frames: [Paddr; CAPACITY],
    len: usize,
}

impl Cache {
    pub const fn new() -> Self {
        Self { frames: [0; CAPACITY], len: 0 }
    }

    /// Takes the frame that was put in last.
    pub fn take(&mut self) -> Option<Paddr> {
        self.len = self.len.checked_sub(1)?;
        Some(self.frames[self.len])
    }

    /// Takes a frame; if there is none, `refill` first puts in at most [`BATCH`].
    ///
    /// # Panics
    ///
    /// Panics if `refill` puts in more frames than there is room for.
    pub fn pop(&mut self, refill: impl FnOnce(&mut dyn FnMut(Paddr))) -> Option<Paddr> {
        if self.len == 0 {
            refill(&mut |addr| {
                self.frames[self.len] = addr;
                self.len += 1;
            });
        }
        self.take()
    }

    /// Puts a frame in; if the cache is full, a batch of those that are in it longest first goes to `drain`.
    pub fn push(&mut self, addr: Paddr, drain: impl FnMut(Paddr)) {
        if self.len == CAPACITY {
            self.frames[..BATCH].iter().copied().for_each(drain);
            self.frames.copy_within(BATCH.., 0);
            self.len -= BATCH;
        }
        self.frames[self.len] = addr;
        self.len += 1;
    }
}
