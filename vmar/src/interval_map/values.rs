// SPDX-License-Identifier: MPL-2.0

//! Where the values are: apart from the tree, so that no value moves while nodes split, merge and shift.

use super::arena::{Arena, Link};
use crate::fallible::OutOfMemory;

const CHUNK: u32 = 6;

/// A value, or a link of the free list.
enum Slot<V> {
    Used(V),
    Free(u32),
}

impl<V> Link for Slot<V> {
    fn free(&mut self, next: u32) {
        *self = Self::Free(next);
    }

    #[inline]
    fn next_free(&self) -> u32 {
        match self {
            Self::Free(next) => *next,
            Self::Used(_) => unreachable!("a value in the free list"),
        }
    }
}

pub(super) struct Values<V>(Arena<Slot<V>, CHUNK>);

impl<V> Values<V> {
    pub(super) const fn new() -> Self {
        Self(Arena::new())
    }

    /// Makes sure that `count` more values can be put without allocating.
    #[inline]
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.0.reserve(count)
    }

    /// Stores a value in reserved room and returns its number.
    #[inline(always)]
    pub(super) fn put(&mut self, value: V) -> u32 {
        self.0.put(Slot::Used(value))
    }

    /// Takes a value out.
    #[inline]
    pub(super) fn take(&mut self, number: u32) -> V {
        match self.0.take(number, Slot::Free) {
            Slot::Used(value) => value,
            Slot::Free(_) => unreachable!("an entry without a value"),
        }
    }

    /// Drops a value.
    #[inline]
    pub(super) fn discard(&mut self, number: u32) {
        self.0.discard(number);
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> &V {
        match self.0.get(number) {
            Slot::Used(value) => value,
            Slot::Free(_) => unreachable!("an entry without a value"),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> &mut V {
        match self.0.get_mut(number) {
            Slot::Used(value) => value,
            Slot::Free(_) => unreachable!("an entry without a value"),
        }
    }

    /// How many values there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
