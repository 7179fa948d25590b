// SPDX-License-Identifier: MPL-2.0

//! A set of signals; the layout of the kernel's `sigset_t`.

use linux_raw_sys::general::{
    SIGBUS, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU,
};

/// A set of the signals 1 to 64.
#[repr(transparent)]
#[derive(Pod, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Signals of faults, delivered before all others so that their frame tells of the fault.
    pub const SYNCHRONOUS: Self = Self::of(&[SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS]);
    /// Signals whose default action is to stop.
    pub const STOPS: Self = Self::of(&[SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU]);
    /// Signals that cannot be caught, blocked or ignored.
    pub const UNMASKABLE: Self = Self::of(&[SIGKILL, SIGSTOP]);
    /// Only `SIGCONT`.
    pub const CONT: Self = Self::of(&[SIGCONT]);

    /// The set with these bits: bit `n - 1` for signal `n`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set of one signal.
    pub const fn single(signal: u8) -> Self {
        Self(Self::bit(signal))
    }

    const fn of(signals: &[u32]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < signals.len() {
            bits |= Self::bit(signals[index] as u8);
            index += 1;
        }
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

    /// What is in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is not in this set.
    pub const fn complement(self) -> Self {
        Self(!self.0)
    }

    /// The signal that is delivered first: a fault's before any other, then the lowest.
    pub const fn first(self) -> Option<u8> {
        let urgent = self.0 & Self::SYNCHRONOUS.0;
        match if urgent != 0 { urgent } else { self.0 } {
            0 => None,
            bits => Some(bits.trailing_zeros() as u8 + 1),
        }
    }

    const fn bit(signal: u8) -> u64 {
        if signal >= 1 && signal <= 64 { 1 << (signal - 1) } else { 0 }
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn signals_are_members_from_1_to_64() {
        let mut set = SigSet::EMPTY;
        for signal in [0, 1, 32, 64, 65, 255] {
            set.add(signal);
        }
        assert_eq!(set.bits(), 1 | 1 << 31 | 1 << 63);
        assert!(set.contains(64) && !set.contains(0) && !set.contains(65));
        set.remove(64);
        assert!(!set.contains(64));
    }

    #[ktest]
    fn faults_come_first_then_the_lowest() {
        let mut set = SigSet::EMPTY;
        assert_eq!(set.first(), None);
        set.add(34);
        set.add(2);
        assert_eq!(set.first(), Some(2));
        set.add(SIGSEGV as u8);
        assert_eq!(set.first(), Some(SIGSEGV as u8));
        assert_eq!(set.without(SigSet::SYNCHRONOUS).first(), Some(2));
        assert_eq!(set.complement().intersection(set), SigSet::EMPTY);
    }
}
