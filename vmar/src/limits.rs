// SPDX-License-Identifier: MPL-2.0

//! Bounds on what a space may hold, and how much it holds.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::error::{Error, Limit};

/// Bounds on what a space may hold. Each can be changed at any time; what is there already stays.
#[derive(Debug)]
pub struct Limits {
    values: [AtomicUsize; 5],
}

impl Limits {
    /// How many mappings a space may have unless told otherwise (Linux: `vm.max_map_count`).
    pub const DEFAULT_MAPPINGS: usize = 65_530;

    /// Makes bounds that allow everything, but for the number of mappings.
    pub fn new() -> Self {
        let limits = Self { values: [const { AtomicUsize::new(usize::MAX) }; 5] };
        limits.set(Limit::Mappings, Self::DEFAULT_MAPPINGS);
        limits
    }

    /// Returns a bound: bytes, or the number of mappings. `usize::MAX` is none.
    pub fn get(&self, limit: Limit) -> usize {
        self.values[limit as usize].load(Relaxed)
    }

    /// Sets a bound: bytes, or the number of mappings. `usize::MAX` is none.
    pub fn set(&self, limit: Limit, value: usize) {
        self.values[limit as usize].store(value, Relaxed);
    }

    /// Checks that `used + more` keeps a bound.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`].
    pub fn check(&self, limit: Limit, used: usize, more: usize) -> Result<(), Error> {
        match used.checked_add(more) {
            Some(sum) if sum <= self.get(limit) => Ok(()),
            _ => Err(Error::LimitExceeded(limit)),
        }
    }
}

impl Clone for Limits {
    fn clone(&self) -> Self {
        Self { values: Limit::ALL.map(|limit| AtomicUsize::new(self.get(limit))) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// How much a space holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all mappings.
    pub address_space: usize,
    /// Bytes of private writable mappings that are no stack.
    pub data: usize,
    /// Bytes of executable mappings that are not writable, nor a stack.
    pub exec: usize,
    /// Bytes of stacks: mappings that grow down.
    pub stack: usize,
    /// Bytes of locked mappings.
    pub locked: usize,
    /// The number of mappings.
    pub mappings: usize,
    /// The largest that `address_space` has been.
    pub peak_address_space: usize,
}
