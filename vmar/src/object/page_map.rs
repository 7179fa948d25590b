// SPDX-License-Identifier: MPL-2.0

//! The pages of an object: a radix tree from page index to page whose every allocation can fail.
//!
//! ```text
//!   height 2:            root (64 slots, 64 pages each)
//!                       /        |
//!   height 1:   leaf (64 pages)  leaf ...
//! ```
//!
//! Invariants: the tree is as high as the largest index it ever held asks for; a node other than the root is never
//! empty; `used` of a node counts its slots in use. A failed insertion leaves the pages as they were.
//!
//! Nodes are vectors of exactly `FAN` slots, because a vector is what stable Rust can allocate fallibly.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{error::OutOfMemory, fallible::try_with_capacity};

/// Slots in a node.
const FAN: usize = 1 << BITS;
/// Bits of the index that one level decides.
const BITS: u32 = 6;

/// A sparse array of pages.
#[derive(Debug)]
pub struct PageMap<F> {
    root: Option<Node<F>>,
    /// Levels of nodes: the root covers `FAN.pow(height)` indices.
    height: u32,
    len: usize,
}

#[derive(Debug)]
struct Node<F> {
    used: usize,
    slots: Slots<F>,
}

#[derive(Debug)]
enum Slots<F> {
    Inner(Vec<Option<Node<F>>>),
    Leaf(Vec<Option<F>>),
}

impl<F> Default for PageMap<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> PageMap<F> {
    /// Creates an empty map; allocates nothing.
    pub const fn new() -> Self {
        Self { root: None, height: 0, len: 0 }
    }

    /// Returns how many pages the map holds.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the map holds no page.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the page at `index`.
    pub fn get(&self, index: usize) -> Option<&F> {
        if !covers(self.height, index) {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut level = self.height;
        loop {
            level -= 1;
            let slot = slot_of(index, level);
            match &node.slots {
                Slots::Leaf(pages) => return pages[slot].as_ref(),
                Slots::Inner(children) => node = children[slot].as_ref()?,
            }
        }
    }

    /// Puts `page` at `index` and returns what was there.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if a node cannot be allocated; nothing has changed then.
    pub fn insert(&mut self, index: usize, page: F) -> Result<Option<F>, OutOfMemory> {
        if self.root.is_none() {
            let mut height = 1;
            while !covers(height, index) {
                height += 1;
            }
            let mut root = Node::new(height)?;
            root.insert(height, index, page)?;
            self.root = Some(root);
            self.height = height;
            self.len = 1;
            return Ok(None);
        }
        while !covers(self.height, index) {
            let mut parent = Node::new(self.height + 1)?;
            if let Slots::Inner(children) = &mut parent.slots {
                children[0] = self.root.take();
                parent.used = 1;
            }
            self.root = Some(parent);
            self.height += 1;
        }
        let Some(root) = &mut self.root else { return Ok(None) };
        let old = root.insert(self.height, index, page)?;
        if old.is_none() {
            self.len += 1;
        }
        Ok(old)
    }

    /// Removes the pages whose indices lie in `range`, drops them, and returns how many there were.
    pub fn remove_range(&mut self, range: Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        let Some(root) = &mut self.root else { return 0 };
        let removed = root.remove(self.height, 0, &range);
        self.len -= removed;
        if root.used == 0 {
            self.root = None;
            self.height = 0;
        }
        removed
    }

    /// Returns the first page at or after `index`, and its index.
    pub fn next(&self, index: usize) -> Option<(usize, &F)> {
        if !covers(self.height, index) {
            return None;
        }
        self.root.as_ref()?.next(self.height, 0, index)
    }

    /// Calls `visit` for each page whose index lies in `range`, ascending. No other slot is looked at.
    pub fn for_each(&self, range: Range<usize>, visit: &mut impl FnMut(usize, &F)) {
        if let Some(root) = &self.root
            && !range.is_empty()
        {
            root.for_each(self.height, 0, &range, visit);
        }
    }
}

impl<F> Node<F> {
    fn new(level: u32) -> Result<Self, OutOfMemory> {
        let slots = if level == 1 { Slots::Leaf(empty_slots()?) } else { Slots::Inner(empty_slots()?) };
        Ok(Self { used: 0, slots })
    }

    fn insert(&mut self, level: u32, index: usize, page: F) -> Result<Option<F>, OutOfMemory> {
        let slot = slot_of(index, level - 1);
        match &mut self.slots {
            Slots::Leaf(pages) => {
                let old = pages[slot].replace(page);
                self.used += usize::from(old.is_none());
                Ok(old)
            }
            Slots::Inner(children) => match &mut children[slot] {
                Some(child) => child.insert(level - 1, index, page),
                empty => {
                    let mut child = Node::new(level - 1)?;
                    child.insert(level - 1, index, page)?;
                    *empty = Some(child);
                    self.used += 1;
                    Ok(None)
                }
            },
        }
    }

    /// Removes what lies in `range` of a node that covers indices from `base` on.
    fn remove(&mut self, level: u32, base: usize, range: &Range<usize>) -> usize {
        let mut removed = 0;
        for slot in slots_in(level, base, range) {
            match &mut self.slots {
                Slots::Leaf(pages) => {
                    if pages[slot].take().is_some() {
                        removed += 1;
                        self.used -= 1;
                    }
                }
                Slots::Inner(children) => {
                    let Some(child) = &mut children[slot] else { continue };
                    removed += child.remove(level - 1, base + slot * span(level), range);
                    if child.used == 0 {
                        children[slot] = None;
                        self.used -= 1;
                    }
                }
            }
        }
        removed
    }

    fn next(&self, level: u32, base: usize, index: usize) -> Option<(usize, &F)> {
        let first = index.saturating_sub(base) / span(level);
        match &self.slots {
            Slots::Leaf(pages) => (first..FAN).find_map(|slot| Some((base + slot, pages[slot].as_ref()?))),
            Slots::Inner(children) => (first..FAN)
                .find_map(|slot| children[slot].as_ref()?.next(level - 1, base + slot * span(level), index)),
        }
    }

    /// Visits what lies in `range` of a node that covers indices from `base` on.
    fn for_each(&self, level: u32, base: usize, range: &Range<usize>, visit: &mut impl FnMut(usize, &F)) {
        let slots = slots_in(level, base, range);
        match &self.slots {
            Slots::Leaf(pages) => {
                for (page, slot) in pages[slots.clone()].iter().zip(slots) {
                    if let Some(page) = page {
                        visit(base + slot, page);
                    }
                }
            }
            Slots::Inner(children) => {
                for (child, slot) in children[slots.clone()].iter().zip(slots) {
                    if let Some(child) = child {
                        child.for_each(level - 1, base + slot * span(level), range, visit);
                    }
                }
            }
        }
    }
}

/// Returns whether a tree of `height` levels has a place for `index`.
fn covers(height: u32, index: usize) -> bool {
    BITS * height >= usize::BITS || index >> (BITS * height) == 0
}

/// Returns the slot for `index` in a node with `below` levels under it.
fn slot_of(index: usize, below: u32) -> usize {
    (index >> (BITS * below)) & (FAN - 1)
}

/// Returns how many indices one slot of a node at `level` covers.
fn span(level: u32) -> usize {
    1 << (BITS * (level - 1))
}

/// Returns the slots, of a node at `level` that starts at `base`, that `range` touches.
fn slots_in(level: u32, base: usize, range: &Range<usize>) -> Range<usize> {
    let first = range.start.saturating_sub(base) / span(level);
    let last = (range.end - 1).saturating_sub(base) / span(level);
    first.min(FAN)..(last + 1).min(FAN)
}

fn empty_slots<T>() -> Result<Vec<Option<T>>, OutOfMemory> {
    let mut slots = try_with_capacity(FAN)?;
    slots.resize_with(FAN, || None);
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    #[test]
    fn pages_come_back_by_index() {
        let mut map = PageMap::new();
        let indices = [0, 1, 63, 64, 4095, 4096, 1 << 20, usize::MAX >> 13, usize::MAX];
        for (value, index) in indices.into_iter().enumerate() {
            assert_eq!(map.insert(index, value), Ok(None));
        }
        assert_eq!(map.len(), indices.len());
        for (value, index) in indices.into_iter().enumerate() {
            assert_eq!(map.get(index), Some(&value));
        }
        assert_eq!(map.get(2), None);
        assert_eq!(map.next(2), Some((63, &2)));
        let mut within = Vec::new();
        map.for_each(1..4096, &mut |index, _| within.push(index));
        map.for_each(usize::MAX - 1..usize::MAX, &mut |index, _| within.push(index));
        map.for_each(5..5, &mut |index, _| within.push(index));
        assert_eq!(within, [1, 63, 64, 4095]);
        assert_eq!(map.remove_range(0..usize::MAX), indices.len() - 1);
        assert_eq!(map.next(0), Some((usize::MAX, &8)));
    }

    #[test]
    fn agrees_with_a_btree_map() {
        let mut map = PageMap::new();
        let mut model = BTreeMap::new();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for step in 0..if cfg!(miri) { 20 } else { 20_000 } {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let index = (seed >> 8) as usize % [64, 5000, 1 << 24][seed as usize % 3];
            match (seed >> 40) % 4 {
                0 => {
                    let range = index..index + (seed >> 50) as usize % 300;
                    let gone: Vec<_> = model.range(range.clone()).map(|(index, _)| *index).collect();
                    model.retain(|index, _| !range.contains(index));
                    assert_eq!(map.remove_range(range), gone.len());
                }
                _ => assert_eq!(map.insert(index, step), Ok(model.insert(index, step))),
            }
            assert_eq!(map.len(), model.len());
            assert_eq!(map.get(index), model.get(&index));
            let mut within = Vec::new();
            map.for_each(index / 2..index, &mut |index, page| within.push((index, *page)));
            assert!(
                within.into_iter().eq(model.range(index / 2..index).map(|(index, page)| (*index, *page)))
            );
            assert_eq!(map.next(index / 2).map(|(i, _)| i), model.range(index / 2..).next().map(|(i, _)| *i));
        }
    }
}
