// SPDX-License-Identifier: MPL-2.0

//! A chunked arena: items addressed by number, in blocks of bounded size.
//!
//! ```text
//!   number  =  chunk << SHIFT | place in chunk
//!
//!   chunks: [ * | * | * ]          the only vector that grows without bound: one pointer for each chunk
//!             |   |   |
//!             v   v   v
//!           [item item ... item]   each allocated once at its full size, never moved, never freed before the arena
//! ```
//!
//! A kernel heap hands out large contiguous blocks badly, so nothing here doubles a big vector. Only the first chunk
//! starts small and grows by doubling, so that a map of a dozen entries stays small.
//!
//! Freed items form a list through themselves ([`Link`]). Freeing never gives memory back: room that has been reserved
//! stays, which is what lets a caller reserve first and then work without a chance of failure.

use alloc::vec::Vec;
use core::mem;

use crate::fallible::{self, OutOfMemory};

/// The number that stands for "none".
pub(super) const NIL: u32 = u32::MAX;

/// An item that, while it is free, can hold the number of the next free one.
pub(super) trait Link {
    /// A free item followed by the free item `next`.
    fn free(&mut self, next: u32);

    /// What [`Link::free`] was told.
    fn next_free(&self) -> u32;
}

/// Items in chunks of `1 << SHIFT`.
pub(super) struct Arena<T, const SHIFT: u32> {
    chunks: Vec<Vec<T>>,
    /// How many items there is memory for.
    capacity: usize,
    /// How many numbers have ever been handed out.
    used: usize,
    /// The first item of the free list.
    free: u32,
    /// How many items the free list has.
    freed: usize,
}

impl<T: Link, const SHIFT: u32> Arena<T, SHIFT> {
    const CHUNK: usize = 1 << SHIFT;

    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), capacity: 0, used: 0, free: NIL, freed: 0 }
    }

    /// Makes sure that `count` more items can be put without allocating.
    #[inline]
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        if self.room() >= count { Ok(()) } else { self.reserve_more(count) }
    }

    /// How many items can be put without allocating.
    #[inline]
    fn room(&self) -> usize {
        self.capacity - self.used + self.freed
    }

    #[cold]
    fn reserve_more(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let most = NIL as usize - (self.used - self.freed);
        if count > most {
            return Err(OutOfMemory);
        }
        while self.room() < count {
            self.grow(count - self.room())?;
        }
        Ok(())
    }

    /// Adds memory for at least one item, and for `wanted` if they fit in one chunk.
    fn grow(&mut self, wanted: usize) -> Result<(), OutOfMemory> {
        let wanted = wanted.min(Self::CHUNK);
        if self.capacity > 0 && self.capacity < Self::CHUNK {
            let size = (self.capacity + wanted).next_power_of_two().min(Self::CHUNK);
            let first = &mut self.chunks[0];
            fallible::try_reserve_exact(first, size - first.len())?;
            self.capacity = size;
            return Ok(());
        }
        let size = if self.capacity == 0 { wanted.next_power_of_two() } else { Self::CHUNK };
        if self.capacity + size > NIL as usize {
            return Err(OutOfMemory);
        }
        fallible::try_reserve(&mut self.chunks, 1)?;
        self.chunks.push(fallible::try_with_capacity(size)?);
        self.capacity += size;
        Ok(())
    }

    /// Stores an item in reserved room and returns its number.
    ///
    /// # Panics
    ///
    /// Panics if nothing is reserved, which is a mistake in this module's callers.
    #[inline(always)]
    pub(super) fn put(&mut self, item: T) -> u32 {
        if self.free != NIL {
            let number = self.free;
            let place = self.get_mut(number);
            let next = place.next_free();
            *place = item;
            self.free = next;
            self.freed -= 1;
            return number;
        }
        assert!(self.used < self.capacity, "room is reserved before it is used");
        let number = self.used;
        self.chunks[number >> SHIFT].push(item);
        self.used += 1;
        number as u32
    }

    /// Makes an item free.
    #[inline]
    pub(super) fn discard(&mut self, number: u32) {
        let next = self.free;
        self.get_mut(number).free(next);
        self.free = number;
        self.freed += 1;
    }

    /// Makes an item free and returns it, `link` being what takes its place.
    #[inline]
    pub(super) fn take(&mut self, number: u32, link: impl FnOnce(u32) -> T) -> T {
        let link = link(self.free);
        self.free = number;
        self.freed += 1;
        mem::replace(self.get_mut(number), link)
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> &T {
        &self.chunks[number as usize >> SHIFT][number as usize & (Self::CHUNK - 1)]
    }

    /// An item whose number may be of none.
    #[inline]
    pub(super) fn try_get(&self, number: u32) -> Option<&T> {
        self.chunks.get(number as usize >> SHIFT)?.get(number as usize & (Self::CHUNK - 1))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize >> SHIFT][number as usize & (Self::CHUNK - 1)]
    }

    /// Two different items at once.
    ///
    /// # Panics
    ///
    /// Panics if they are the same one.
    pub(super) fn pair_mut(&mut self, first: u32, second: u32) -> (&mut T, &mut T) {
        assert_ne!(first, second);
        let chunk = |number: u32| number as usize >> SHIFT;
        let place = |number: u32| number as usize & (Self::CHUNK - 1);
        if chunk(first) == chunk(second) {
            return match self.chunks[chunk(first)].get_disjoint_mut([place(first), place(second)]) {
                Ok([first, second]) => (first, second),
                Err(_) => unreachable!("two different places of one chunk"),
            };
        }
        match self.chunks.get_disjoint_mut([chunk(first), chunk(second)]) {
            Ok([one, other]) => (&mut one[place(first)], &mut other[place(second)]),
            Err(_) => unreachable!("two different chunks"),
        }
    }

    /// How many items are stored.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used - self.freed
    }
}
