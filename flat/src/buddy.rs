// SPDX-License-Identifier: MPL-2.0

//! Which pages are free: blocks of powers of two, each at a multiple of its size.
//!
//! ```text
//!   order 2   ........1111....      a free block of four pages
//!   order 1   ....11..........      of two
//!   order 0   ...1............      of one; its other half is in use
//! ```
//!
//! Invariant: no two halves of one block are free at the same order: they are that block.

use alloc::vec::Vec;
use core::ops::Range;

use vmar::{error::OutOfMemory, fallible::try_reserve_exact};

/// The free blocks of one order: a bit for each.
#[derive(Debug, Default)]
struct Order {
    words: Vec<u32>,
}

impl Order {
    const BITS: usize = u32::BITS as usize;

    fn new(blocks: usize) -> Result<Self, OutOfMemory> {
        let mut words = Vec::new();
        let len = blocks.div_ceil(Self::BITS);
        try_reserve_exact(&mut words, len)?;
        words.resize(len, 0);
        Ok(Self { words })
    }

    fn has(&self, block: usize) -> bool {
        self.words.get(block / Self::BITS).is_some_and(|word| word >> (block % Self::BITS) & 1 == 1)
    }

    fn flip(&mut self, block: usize) {
        self.words[block / Self::BITS] ^= 1 << (block % Self::BITS);
    }

    /// Returns the first free block.
    fn first(&self) -> Option<usize> {
        let at = self.words.iter().position(|word| *word != 0)?;
        Some(at * Self::BITS + self.words[at].trailing_zeros() as usize)
    }
}

/// Free pages, by their numbers.
#[derive(Debug)]
pub(crate) struct Buddy {
    orders: Vec<Order>,
    free_pages: usize,
}

impl Buddy {
    /// Makes the account of `pages` pages, all of them free.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(crate) fn new(pages: usize) -> Result<Self, OutOfMemory> {
        let mut orders = Vec::new();
        let count = pages.checked_ilog2().map_or(0, |highest| highest as usize + 1);
        try_reserve_exact(&mut orders, count)?;
        for order in 0..count {
            orders.push(Order::new(pages.div_ceil(1 << order))?);
        }
        let mut buddy = Self { orders, free_pages: 0 };
        buddy.free(0..pages);
        Ok(buddy)
    }

    /// Returns how many pages are free.
    pub(crate) fn free_pages(&self) -> usize {
        self.free_pages
    }

    /// Takes `pages` pages that lie together, the first at a multiple of the next power of two, and returns it. What that is
    /// more than `pages` stays free.
    pub(crate) fn allocate(&mut self, pages: usize) -> Option<usize> {
        let size = pages.checked_next_power_of_two()?;
        let order = size.ilog2() as usize;
        let found = (order..self.orders.len()).find_map(|at| Some((at, self.orders[at].first()?)));
        let (mut at, mut block) = found?;
        self.orders[at].flip(block);
        while at > order {
            (at, block) = (at - 1, block * 2);
            self.orders[at].flip(block + 1);
        }
        let start = block << order;
        self.free_pages -= size;
        self.free(start + pages..start + size);
        Some(start)
    }

    /// Gives pages back.
    pub(crate) fn free(&mut self, pages: Range<usize>) {
        self.free_pages += pages.len();
        let mut start = pages.start;
        while start < pages.end {
            let largest = (pages.end - start).ilog2();
            let order = start.trailing_zeros().min(largest) as usize;
            self.free_block(order, start >> order);
            start += 1 << order;
        }
    }

    fn free_block(&mut self, mut order: usize, mut block: usize) {
        while order + 1 < self.orders.len() && self.orders[order].has(block ^ 1) {
            self.orders[order].flip(block ^ 1);
            (order, block) = (order + 1, block / 2);
        }
        self.orders[order].flip(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns which pages are free, by looking at the blocks.
    fn free_pages(buddy: &Buddy, pages: usize) -> Vec<bool> {
        let mut free = alloc::vec![false; pages];
        for (order, blocks) in buddy.orders.iter().enumerate() {
            for block in (0..pages).filter(|block| blocks.has(*block)) {
                for is_free in &mut free[block << order..(block + 1) << order] {
                    assert!(!core::mem::replace(is_free, true), "a page is free twice");
                }
                let is_merged = order + 1 == buddy.orders.len() || !blocks.has(block ^ 1);
                assert!(is_merged, "two halves are free at order {order}");
            }
        }
        assert_eq!(free.iter().filter(|is_free| **is_free).count(), buddy.free_pages);
        free
    }

    #[test]
    fn random_blocks_come_and_go() {
        let mut random = fastrand::Rng::with_seed(5);
        for pages in [1, 2, 3, 31, 32, 33, 100] {
            let mut buddy = Buddy::new(pages).unwrap();
            let mut held: Vec<Range<usize>> = Vec::new();
            for _ in 0..if cfg!(miri) { 20 } else { 2000 } {
                if random.bool() {
                    let count = random.usize(1..=pages.div_ceil(2));
                    if let Some(start) = buddy.allocate(count) {
                        assert_eq!(start % count.next_power_of_two(), 0);
                        held.push(start..start + count);
                    }
                } else if !held.is_empty() {
                    // A part of what was taken, and then the rest.
                    let range = held.swap_remove(random.usize(0..held.len()));
                    let middle = random.usize(range.start..=range.end);
                    buddy.free(range.start..middle);
                    if middle < range.end {
                        held.push(middle..range.end);
                    }
                }
                let free = free_pages(&buddy, pages);
                for (page, is_free) in free.iter().enumerate() {
                    assert_eq!(*is_free, !held.iter().any(|range| range.contains(&page)), "page {page}");
                }
            }
            held.into_iter().for_each(|range| buddy.free(range));
            assert_eq!(buddy.free_pages(), pages);
            assert_eq!(buddy.allocate(pages.next_power_of_two()), pages.is_power_of_two().then_some(0));
        }
    }

    #[test]
    fn n13_what_a_power_of_two_is_too_much_stays_free() {
        let mut buddy = Buddy::new(16).unwrap();
        assert_eq!(buddy.allocate(5), Some(0));
        assert_eq!(buddy.free_pages(), 11);
        // The three behind are of use at once.
        assert_eq!(buddy.allocate(2), Some(6));
        assert_eq!(buddy.allocate(1), Some(5));
        assert_eq!(buddy.allocate(8), Some(8));
        assert_eq!((buddy.allocate(1), buddy.free_pages()), (None, 0));
        buddy.free(0..16);
        assert_eq!(buddy.allocate(16), Some(0));
        assert_eq!(Buddy::new(0).unwrap().allocate(1), None);
    }
}
