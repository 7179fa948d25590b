// SPDX-License-Identifier: MPL-2.0

//! The last lines of the log, for `syslog(2)`: each as `<LEVEL>[SECONDS] TEXT`.
//!
//! ```text
//!   start ──► │<4>[    1.000000] ..\n│<3>[    1.200000] ..\n│ .. │ ◄── end      (counted in bytes since boot)
//!              ▲ cleared: what is before is not shown   ▲ read: what is before has been read
//! ```
//!
//! When there is no room, the oldest lines go.

use core::fmt::{self, Write};

use ostd::sync::{LocalIrqDisabled, SpinLock};

use crate::time;

/// How many bytes are kept.
pub const SIZE: usize = 1 << 16;

struct Ring {
    bytes: [u8; SIZE],
    start: usize,
    end: usize,
    cleared: usize,
    read: usize,
}

static RING: SpinLock<Ring, LocalIrqDisabled> =
    SpinLock::new(Ring { bytes: [0; SIZE], start: 0, end: 0, cleared: 0, read: 0 });

impl Ring {
    fn push(&mut self, byte: u8) {
        if self.end - self.start == SIZE {
            // The oldest line, or all of one that is longer than there is room.
            while self.start < self.end && self.bytes[self.start % SIZE] != b'\n' {
                self.start += 1;
            }
            self.start = (self.start + 1).min(self.end);
        }
        self.bytes[self.end % SIZE] = byte;
        self.end += 1;
    }

    /// Copies what there is from `from` on, at most as much as there is room in `to`; returns how much.
    fn copy(&self, from: usize, to: &mut [u8]) -> usize {
        let from = from.max(self.start);
        let count = to.len().min(self.end - from);
        for (place, at) in to.iter_mut().zip(from..from + count) {
            *place = self.bytes[at % SIZE];
        }
        count
    }
}

impl Write for Ring {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// Adds a line of one of the levels of `syslog(2)`. It is lost if somebody is at the ring on this CPU already.
pub(super) fn add(level: u8, text: fmt::Arguments<'_>) {
    let Some(mut ring) = RING.try_lock() else { return };
    let now = time::monotonic();
    // Writing to memory does not fail.
    let _ = writeln!(*ring, "<{level}>[{:5}.{:06}] {text}", now.as_secs(), now.subsec_micros());
}

/// Copies the last lines that fit into `to` and have not been cleared; returns how many bytes that is.
pub fn copy_last(to: &mut [u8]) -> usize {
    let ring = RING.lock();
    let mut from = ring.start.max(ring.cleared);
    while ring.end - from > to.len() {
        // Whole lines.
        while from < ring.end && ring.bytes[from % SIZE] != b'\n' {
            from += 1;
        }
        from += 1;
    }
    ring.copy(from.min(ring.end), to)
}

/// Copies what has not been read yet, and counts it as read; returns how many bytes that is.
pub fn copy_unread(to: &mut [u8]) -> usize {
    let mut ring = RING.lock();
    let from = ring.read.max(ring.start);
    let count = ring.copy(from, to);
    ring.read = from + count;
    count
}

/// How many bytes have not been read yet.
pub fn count_unread() -> usize {
    let ring = RING.lock();
    ring.end - ring.read.max(ring.start)
}

/// Shows nothing of what is there now to [`copy_last`].
pub fn clear() {
    let mut ring = RING.lock();
    ring.cleared = ring.end;
}
