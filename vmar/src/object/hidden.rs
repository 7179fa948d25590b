// SPDX-License-Identifier: MPL-2.0

//! Which pages of what lies below cannot be seen: a few ranges, sorted, that neither overlap nor touch.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{error::OutOfMemory, fallible::try_reserve};

/// Pages that are hidden.
#[derive(Debug, Default)]
pub(super) struct Hidden(Vec<Range<usize>>);

impl Hidden {
    pub(super) fn contains(&self, index: usize) -> bool {
        let behind = self.0.partition_point(|range| range.start <= index);
        behind != 0 && index < self.0[behind - 1].end
    }

    /// Makes room for `more` additions.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(super) fn try_reserve(&mut self, more: usize) -> Result<(), OutOfMemory> {
        try_reserve(&mut self.0, more)
    }

    /// Hides `range`. Needs room for one addition.
    pub(super) fn add(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|found| found.end < range.start);
        let behind = self.0.partition_point(|found| found.start <= range.end);
        if first == behind {
            debug_assert!(self.0.len() < self.0.capacity(), "no room was reserved");
            return self.0.insert(first, range);
        }
        let end = self.0[behind - 1].end.max(range.end);
        let start = self.0[first].start.min(range.start);
        self.0[first] = start..end;
        self.0.drain(first + 1..behind);
    }

    /// Hides what `lower` hides too, whose pages are counted from `base` on here.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; nothing has changed then.
    pub(super) fn add_all(&mut self, lower: &Self, base: usize) -> Result<(), OutOfMemory> {
        self.try_reserve(lower.0.len())?;
        for range in &lower.0 {
            self.add(range.start.saturating_sub(base)..range.end.saturating_sub(base));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_list_of_flags() {
        const PAGES: usize = 24;
        let mut seed = 0x1234_5678_9abc_def1_u64;
        for _ in 0..if cfg!(miri) { 5 } else { 500 } {
            let mut hidden = Hidden::default();
            let mut model = [false; PAGES];
            for _ in 0..10 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let start = seed as usize % PAGES;
                let end = start + (seed >> 20) as usize % (PAGES - start);
                hidden.try_reserve(1).unwrap();
                hidden.add(start..end);
                model[start..end].fill(true);
                for (index, is_hidden) in model.iter().enumerate() {
                    assert_eq!(hidden.contains(index), *is_hidden, "{index} in {hidden:?}");
                }
                assert!(hidden.0.windows(2).all(|pair| pair[0].end < pair[1].start), "{hidden:?}");
            }
            let mut upper = Hidden::default();
            upper.add_all(&hidden, 4).unwrap();
            assert!((0..PAGES - 4).all(|index| upper.contains(index) == model[index + 4]));
        }
    }
}
