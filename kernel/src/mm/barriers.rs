// SPDX-License-Identifier: MPL-2.0

//! Which barriers the programs in an address space may ask for (`membarrier(2)`).

use bitflags::bitflags;

use crate::prelude::*;

bitflags! {
    /// Kinds of barriers that must be registered for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Barriers: u32 {
        /// Of memory accesses.
        const PRIVATE = 1;
        /// Of instructions, too.
        const SYNC_CORE = 2;
        /// That end restartable sequences.
        const RSEQ = 4;
    }
}

/// The kinds that were registered. A fork inherits them; a new program starts without.
pub struct RegisteredBarriers(AtomicU32);

impl RegisteredBarriers {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(super) fn clone_for_child(&self) -> Self {
        Self(AtomicU32::new(self.0.load(Ordering::Relaxed)))
    }

    /// Adds kinds.
    pub fn register(&self, kinds: Barriers) {
        self.0.fetch_or(kinds.bits(), Ordering::Relaxed);
    }

    /// Fails unless a kind was registered.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn require(&self, kind: Barriers) -> Result<()> {
        let registered = Barriers::from_bits_truncate(self.0.load(Ordering::Relaxed));
        if registered.contains(kind) { Ok(()) } else { Err(EPERM) }
    }
}
