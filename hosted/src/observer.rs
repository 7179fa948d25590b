// SPDX-License-Identifier: MPL-2.0

//! Who is told of what happens to the guest's memory.
//!
//! An emulator keeps things that it derived from memory: code that it translated, a map of its own, cached addresses.
//! Whatever happens to a range, these are to go.

use std::ops::Range;

use crate::mapping::Prot;

/// What has happened to a range of the guest's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something else is there now, or something where nothing was.
    Mapped(Range<usize>, Prot),
    /// What may be done with it is something else now.
    Protected(Range<usize>, Prot),
    /// Nothing is there now.
    Unmapped(Range<usize>),
    /// The same mapping, with what was written to it gone.
    Discarded(Range<usize>),
    /// Bytes that the guest may execute have been [written](crate::GuestSpace::write) for it. What it writes itself is seen by
    /// whoever runs it.
    Written(Range<usize>),
}

impl Change {
    /// Returns the addresses (bytes).
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Mapped(range, _)
            | Self::Protected(range, _)
            | Self::Unmapped(range)
            | Self::Discarded(range)
            | Self::Written(range) => range.clone(),
        }
    }
}

/// Somebody who is told of each change once it has been made, in order, before anybody else can make another.
pub trait Observer: Send {
    /// Takes note of a change. The space's lock is held: nothing may be asked of the space from here.
    fn changed(&mut self, change: &Change);
}

impl<F: FnMut(&Change) + Send> Observer for F {
    fn changed(&mut self, change: &Change) {
        self(change);
    }
}
