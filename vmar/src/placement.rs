// SPDX-License-Identifier: MPL-2.0

//! Where a mapping goes.

use core::ops::Range;

/// Where a mapping goes. All addresses are bytes; those that are not page-aligned are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Wherever there is room: the highest free range below the window's base, else the lowest above its bottom.
    #[default]
    Anywhere,
    /// At the address if it is free, else anywhere.
    Hint(usize),
    /// At the address, or not at all (`MAP_FIXED_NOREPLACE`).
    Exactly(usize),
    /// At the address, with so many bytes free behind it (page-aligned), or not at all.
    Apart(usize, usize),
    /// At the address, in place of what is there (`MAP_FIXED`).
    Replacing(usize),
    /// Wherever there is room below the address.
    Below(usize),
    /// Between two addresses: at the hint if it is free, else at the lowest place where there is room (`MAP_32BIT`).
    Between {
        /// An address that would be good.
        hint: Option<usize>,
        /// Where the search starts.
        from: usize,
        /// Where there is no more.
        below: usize,
    },
}

/// Where something can be mapped at all: device memory that must lie at certain addresses, an object whose addresses must agree with
/// those of its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Its mappings start at multiples of this (bytes): a power of two.
    pub align: usize,
    /// Its mappings lie within these addresses (bytes, page-aligned).
    pub within: Range<usize>,
}

impl Constraint {
    /// Anywhere.
    pub const NONE: Self = Self { align: 1, within: 0..usize::MAX };
}

/// Where a space places what may go anywhere. All addresses are bytes, page-aligned.
///
/// ```text
///   floor           bottom               base            ceiling
///     │               │                   │                 │
///     ├───────────────┼───────────────────┤   stack ...     │
///     │◄──────── 1. highest gap ─────────►│                 │
///                     │◄──────────── 2. lowest gap ────────►│
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Nothing is placed below (Linux: `vm.mmap_min_addr`).
    pub floor: usize,
    /// The top-down search starts here (Linux: `mmap_base`, below the stack).
    pub base: usize,
    /// The bottom-up search, made if the first fails, starts here (Linux: a third of the address space).
    pub bottom: usize,
    /// Nothing is placed above.
    pub ceiling: usize,
}

impl Window {
    /// How far above address zero nothing is placed unless told otherwise (Linux: `vm.mmap_min_addr`).
    const DEFAULT_FLOOR: usize = 64 << 10;

    /// Makes the window that covers all of `user`.
    pub fn covering(user: Range<usize>, page_size: usize) -> Self {
        let floor = user.start.max(Self::DEFAULT_FLOOR.next_multiple_of(page_size)).min(user.end);
        let third = (user.end / 3).next_multiple_of(page_size);
        Self { floor, base: user.end, bottom: third.max(floor), ceiling: user.end }
    }
}
