// SPDX-License-Identifier: MPL-2.0

//! What a mapping may do now, and what it may ever do.
//!
//! The MAY bits are decided once, when the mapping is made, by [`negotiate`](crate::backing::negotiate):
//!
//! ```text
//!   MAY = handle ∩ region ceiling ∩ object rights ∩ backing capabilities ∩ what the caller asked to keep
//! ```
//!
//! `protect` moves the plain bits within the MAY bits and asks nobody again.

use crate::machine::PageFlags;

bitflags::bitflags! {
    /// Permissions of a mapping: what it allows now, and (MAY) what it may ever be made to allow.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct VmPerms: u8 {
        /// The program may read.
        const READ = 1 << 0;
        /// The program may write.
        const WRITE = 1 << 1;
        /// The program may execute.
        const EXEC = 1 << 2;
        /// READ may be granted later.
        const MAY_READ = 1 << 4;
        /// WRITE may be granted later.
        const MAY_WRITE = 1 << 5;
        /// EXEC may be granted later.
        const MAY_EXEC = 1 << 6;
    }
}

impl VmPerms {
    /// The three plain bits.
    pub const ACCESS: Self = Self::READ.union(Self::WRITE).union(Self::EXEC);
    /// The three MAY bits.
    pub const MAY: Self = Self::MAY_READ.union(Self::MAY_WRITE).union(Self::MAY_EXEC);

    /// Returns the MAY bits that correspond to the plain ones.
    pub const fn to_may(self) -> Self {
        Self::from_bits_truncate((self.bits() & Self::ACCESS.bits()) << 4)
    }

    /// Returns the plain bits that correspond to the MAY ones.
    pub const fn from_may(self) -> Self {
        Self::from_bits_truncate((self.bits() & Self::MAY.bits()) >> 4)
    }

    /// Returns the plain bits alone.
    pub const fn access(self) -> Self {
        self.intersection(Self::ACCESS)
    }

    /// Returns what a page-table entry allows for these permissions: any permission makes a page readable, as on
    /// x86-64 without protection keys.
    pub fn page_flags(self) -> PageFlags {
        let mut flags = PageFlags::empty();
        if !self.access().is_empty() {
            flags |= PageFlags::READ;
        }
        if self.contains(Self::WRITE) {
            flags |= PageFlags::WRITE;
        }
        if self.contains(Self::EXEC) {
            flags |= PageFlags::EXEC;
        }
        flags
    }
}
