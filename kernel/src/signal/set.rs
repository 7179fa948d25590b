// SPDX-License-Identifier: MPL-2.0

//! A set of signals; the layout of the kernel's `sigset_t`.

/// A set of the signals 1 to 64.
#[repr(transparent)]
#[derive(Pod, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits: bit `n - 1` for signal `n`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of the set.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `signal` is in the set.
    pub const fn contains(self, signal: u8) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    /// Adds `signal`.
    pub const fn add(&mut self, signal: u8) {
        self.0 |= Self::bit(signal);
    }

    /// Removes `signal`.
    pub const fn remove(&mut self, signal: u8) {
        self.0 &= !Self::bit(signal);
    }

    /// Takes the lowest signal out.
    pub const fn take_first(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let signal = self.0.trailing_zeros() as u8 + 1;
        self.remove(signal);
        Some(signal)
    }

    const fn bit(signal: u8) -> u64 {
        if signal >= 1 && signal <= 64 { 1 << (signal - 1) } else { 0 }
    }
}
