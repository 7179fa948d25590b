// SPDX-License-Identifier: MPL-2.0

//! Where something was done, told in a few ranges: an upper bound that needs no memory to be allocated.

use core::ops::Range;

/// How many ranges are told apart.
const MOST: usize = 8;

/// Pages between two ranges that are not worth telling them apart.
const NEAR: usize = 64;

/// A few ranges of addresses, in no order, which cover all that was noted.
#[derive(Debug, Default)]
pub(super) struct Touched {
    ranges: [Range<usize>; MOST],
    len: usize,
}

impl Touched {
    /// Covers `range` (bytes) as well, where pages have `page_size` bytes.
    pub(super) fn note(&mut self, range: &Range<usize>, page_size: usize) {
        let nearest = self.ranges[..self.len].iter_mut().min_by_key(|known| distance(known, range));
        match nearest {
            Some(known) if self.len == MOST || distance(known, range) <= NEAR * page_size => {
                *known = known.start.min(range.start)..known.end.max(range.end);
            }
            _ => {
                self.ranges[self.len] = range.clone();
                self.len += 1;
            }
        }
    }

    /// Iterates over the ranges; they may overlap.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.ranges[..self.len].iter().cloned()
    }
}

/// Returns how far apart two ranges are; zero if they touch or overlap.
fn distance(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.start.saturating_sub(b.end).max(b.start.saturating_sub(a.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn page(number: usize) -> Range<usize> {
        number * PAGE..(number + 1) * PAGE
    }

    #[test]
    fn neighbours_share_a_range_and_what_is_far_apart_does_not() {
        let mut touched = Touched::default();
        for number in [1000, 1001, 1010, 990, 5000] {
            touched.note(&page(number), PAGE);
        }
        let ranges: alloc::vec::Vec<_> = touched.iter().collect();
        assert_eq!(ranges, [990 * PAGE..1011 * PAGE, page(5000)]);
    }

    #[test]
    fn whatever_is_noted_is_covered() {
        let mut touched = Touched::default();
        for number in 0..10 * MOST {
            let number = number * 7919 % 1000 * 100;
            touched.note(&page(number), PAGE);
        }
        assert_eq!(touched.iter().count(), MOST);
        for number in 0..10 * MOST {
            let page = page(number * 7919 % 1000 * 100);
            assert!(touched.iter().any(|range| range.start <= page.start && page.end <= range.end));
        }
    }
}
