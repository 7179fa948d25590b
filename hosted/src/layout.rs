// SPDX-License-Identifier: MPL-2.0

//! Page sizes: the guest's, the host's, and where one begins in the other.

use std::ops::Range;

/// The size of the guest's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB.
    Kib4,
    /// 8 KiB.
    Kib8,
    /// 16 KiB.
    Kib16,
    /// 64 KiB.
    Kib64,
}

impl PageSize {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kib4, Self::Kib8, Self::Kib16, Self::Kib64];

    /// Returns the size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Kib4 => 4 << 10,
            Self::Kib8 => 8 << 10,
            Self::Kib16 => 16 << 10,
            Self::Kib64 => 64 << 10,
        }
    }
}

/// Where the guest is, in which pages.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The guest's addresses.
    pub range: Range<usize>,
    /// The size of a guest page.
    pub guest: usize,
    /// The size of a host page, or what it is taken to be.
    pub host: usize,
}

impl Layout {
    /// Returns the larger page size.
    pub fn unit(&self) -> usize {
        self.guest.max(self.host)
    }

    /// Returns the start of the host page that `addr` lies in.
    pub fn down(&self, addr: usize) -> usize {
        addr & !(self.host - 1)
    }

    /// Returns the end of the host page that the byte before `addr` lies in.
    pub fn up(&self, addr: usize) -> usize {
        addr.next_multiple_of(self.host)
    }

    /// Returns the host pages that `range` touches.
    pub fn around(&self, range: &Range<usize>) -> Range<usize> {
        self.down(range.start)..self.up(range.end)
    }

    /// Returns the offset in the host's area.
    pub fn offset(&self, addr: usize) -> usize {
        addr - self.range.start
    }

    /// Returns the range in the host's area.
    pub fn offsets(&self, range: &Range<usize>) -> Range<usize> {
        self.offset(range.start)..self.offset(range.end)
    }

    /// Returns whether `range` lies in the guest's.
    pub fn contains(&self, range: &Range<usize>) -> bool {
        self.range.start <= range.start && range.start <= range.end && range.end <= self.range.end
    }

    /// Returns a size rounded up to guest pages, unless that overflows.
    pub fn guest_size(&self, size: usize) -> Option<usize> {
        size.checked_next_multiple_of(self.guest)
    }

    /// Returns whether an address or a size is one of whole guest pages.
    pub fn is_guest_page(&self, addr: usize) -> bool {
        addr.is_multiple_of(self.guest)
    }
}
