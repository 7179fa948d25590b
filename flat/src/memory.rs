// SPDX-License-Identifier: MPL-2.0

//! The memory that mappings are made of.

use core::ops::Range;

/// Memory that programs can be given: a range of addresses, which are the same for everybody.
///
/// A board on which programs run implements it by volatile accesses. [`Arena`] is for memory that is reached through this
/// crate alone.
pub trait Memory {
    /// Returns the addresses (bytes).
    fn range(&self) -> Range<usize>;

    /// Copies what lies at `addr` on into `buf`. All of it is within the range.
    fn read(&self, addr: usize, buf: &mut [u8]);

    /// Copies `bytes` to `addr` on. All of it is within the range.
    fn write(&mut self, addr: usize, bytes: &[u8]);

    /// Fills `range`, which is within that of the memory, with zeros.
    fn zero(&mut self, range: Range<usize>);

    /// Makes what was written to `range` visible to instruction fetch. By default it does nothing: there is no cache for
    /// instructions, or one that sees writes.
    fn sync_instructions(&mut self, range: Range<usize>) {
        let _ = range;
    }
}

/// Memory that is a slice: its addresses are those that the slice has.
#[derive(Debug)]
pub struct Arena<'a> {
    bytes: &'a mut [u8],
    /// What was made visible to instruction fetch, all told (bytes).
    synced: usize,
}

impl<'a> Arena<'a> {
    /// Takes the slice.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, synced: 0 }
    }

    /// Returns how many bytes were made visible to instruction fetch, all told.
    pub fn synced(&self) -> usize {
        self.synced
    }

    fn within(&self, range: Range<usize>) -> Range<usize> {
        let base = self.bytes.as_ptr().addr();
        range.start - base..range.end - base
    }
}

impl Memory for Arena<'_> {
    fn range(&self) -> Range<usize> {
        let base = self.bytes.as_ptr().addr();
        base..base + self.bytes.len()
    }

    fn read(&self, addr: usize, buf: &mut [u8]) {
        buf.copy_from_slice(&self.bytes[self.within(addr..addr + buf.len())]);
    }

    fn write(&mut self, addr: usize, bytes: &[u8]) {
        let within = self.within(addr..addr + bytes.len());
        self.bytes[within].copy_from_slice(bytes);
    }

    fn zero(&mut self, range: Range<usize>) {
        let within = self.within(range);
        self.bytes[within].fill(0);
    }

    fn sync_instructions(&mut self, range: Range<usize>) {
        self.synced += range.len();
    }
}
