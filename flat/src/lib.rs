// SPDX-License-Identifier: MPL-2.0

#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod access;
mod buddy;
mod file;
mod map;
mod memory;
mod program;
mod remap;
#[cfg(test)]
mod tests;
mod unmap;

use vmar::interval_map::IntervalMap;
pub use vmar::{
    backing::{Backing, Capabilities, FileState, Operations, Personality, Refusal, Tracing},
    error::{Error, Limit, OutOfMemory},
    limits::Limits,
    mapping::Sharing,
    perms::VmPerms,
};

use self::{buddy::Buddy, program::Key};
pub use self::{
    file::File,
    map::{MapFlags, Request},
    memory::{Arena, Memory},
    program::{Mapping, Program},
};

/// The memory of a machine that translates no addresses, and what is mapped in it.
///
/// ```text
///   Program ── mappings ──► Place::Direct ──► a file's own memory, wherever that is
///                      └──► Place::Copied ──► a region: pages of the pool, of one mapping or several
/// ```
///
/// Nothing here locks: whoever has several processors puts it behind a lock of his own.
#[derive(Debug)]
pub struct Flat<M> {
    memory: M,
    page_size: usize,
    /// The address of page 0 of the pool (bytes).
    base: usize,
    pages: Buddy,
    /// What the pool's pages are used for, by address.
    regions: IntervalMap<Region>,
}

/// Memory of the pool that is mapped.
#[derive(Debug)]
struct Region {
    /// How many mappings show it.
    users: usize,
    /// What others may ask for to be shown it as well.
    key: Option<Key>,
}

impl<M: Memory> Flat<M> {
    /// Makes all whole pages of `page_size` bytes in `memory` a pool that mappings are made of.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidAlignment`] if the page size is no power of two.
    /// - [`Error::InvalidSize`] if there is not one whole page.
    /// - [`Error::OutOfMemory`] if there is no memory to keep account of the pool.
    pub fn new(memory: M, page_size: usize) -> Result<Self, Error> {
        if !page_size.is_power_of_two() {
            return Err(Error::InvalidAlignment);
        }
        let range = memory.range();
        let base = range.start.checked_next_multiple_of(page_size).ok_or(Error::InvalidSize)?;
        let pages = range.end.saturating_sub(base) / page_size;
        if pages == 0 {
            return Err(Error::InvalidSize);
        }
        Ok(Self { memory, page_size, base, pages: Buddy::new(pages)?, regions: IntervalMap::new() })
    }

    /// Returns the page size in bytes.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Returns how many pages of the pool are free.
    pub fn free_pages(&self) -> usize {
        self.pages.free_pages()
    }

    /// Returns how many regions of the pool are mapped.
    pub fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Returns the memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Gives the pages of `range` (addresses, page-aligned) back.
    fn free(&mut self, range: &core::ops::Range<usize>) {
        let page = |addr: usize| (addr - self.base) / self.page_size;
        self.pages.free(page(range.start)..page(range.end));
    }
}
