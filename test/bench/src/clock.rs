// SPDX-License-Identifier: MPL-2.0

//! The clock: the time-stamp counter, and the marks around what is measured.
//!
//! Under QEMU's `-icount shift=0` the counter goes up by one with each guest instruction, on whichever processor, in
//! whichever mode. Otherwise it is the host's.
//!
//! Each measured section is between two marks, for a TCG plugin to see. They are no-operations with a displacement
//! that no compiler makes, seven bytes each:
//!
//! ```text
//! 0f 1f 80 01 e5 7e be    nop dword ptr [rax - 0x41811aff]    a measured section begins (disp32 = 0xbe7ee501)
//! 0f 1f 80 02 e5 7e be    nop dword ptr [rax - 0x41811afe]    it has ended              (disp32 = 0xbe7ee502)
//! ```
//!
//! The marks are outside of the pair of `rdtsc`, which are counted, and taken off again (see [`Samples`]).

use std::arch::asm;

/// What the counter says now.
#[inline(always)]
pub fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter; as an ordering point for the compiler it is assumed to touch memory.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags)) };
    high << 32 | low
}

/// Marks the begin of a measured section and reads the counter.
#[inline(always)]
pub fn begin() -> u64 {
    // SAFETY: does nothing.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x80, 0x01, 0xe5, 0x7e, 0xbe", options(nostack, preserves_flags)) };
    ticks()
}

/// Reads the counter and marks the end of a measured section.
#[inline(always)]
pub fn end() -> u64 {
    let now = ticks();
    // SAFETY: does nothing.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x80, 0x02, 0xe5, 0x7e, 0xbe", options(nostack, preserves_flags)) };
    now
}

/// The measured times of an operation, each in ticks and less what the measuring itself takes.
pub struct Samples {
    values: Vec<u64>,
    overhead: u64,
    wanted: usize,
}

impl Samples {
    /// Room for so many samples; it is there before the first one is taken.
    pub fn new(wanted: usize) -> Self {
        // Written to, so that no sample pays for the page it is kept in.
        let mut values = vec![1; wanted];
        values.clear();
        Self { values, overhead: overhead(), wanted }
    }

    /// Whether there are fewer samples than wanted.
    pub fn wants_more(&self) -> bool {
        self.values.len() < self.wanted
    }

    /// How many samples are wanted.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Takes a sample of what `run` does.
    #[inline(always)]
    pub fn time<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let start = begin();
        let value = run();
        let end = end();
        self.add(start, end);
        value
    }

    /// Adds a sample taken with [`begin`] and [`end`]; one more than wanted is dropped.
    #[inline(always)]
    pub fn add(&mut self, start: u64, end: u64) {
        if self.wants_more() {
            self.values.push((end - start).saturating_sub(self.overhead));
        }
    }

    /// What the measuring takes.
    pub fn overhead(&self) -> u64 {
        self.overhead
    }

    /// The samples in order.
    pub fn sorted(mut self) -> Vec<u64> {
        self.values.sort_unstable();
        self.values
    }
}

/// What two readings of the counter with nothing between them take: the least that was ever seen.
fn overhead() -> u64 {
    (0..64)
        .map(|_| {
            let start = begin();
            end() - start
        })
        .min()
        .unwrap_or_default()
}

/// How many ticks a thousand turns of a loop of two instructions take: 2000 and a few if a tick is an instruction. The least
/// of several loops: the clock may interrupt one.
pub fn loop_of_two_thousand() -> u64 {
    let ticks = (0..8).map(|_| {
        let start = begin();
        // SAFETY: counts a register down.
        unsafe { asm!("2:", "sub {0:r}, 1", "jnz 2b", inout(reg) 1000u64 => _, options(nostack, nomem)) };
        end() - start
    });
    ticks.min().unwrap_or_default().saturating_sub(overhead())
}
