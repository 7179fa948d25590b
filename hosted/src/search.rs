// SPDX-License-Identifier: MPL-2.0

//! The search for a free range (Q10).
//!
//! ```text
//!   floor                    next         base        ceiling
//!     │                        │            │            │
//!     ├────────────────────────┤            │            │     1. the hint
//!     │◄─── 2. highest gap ───►│            │            │     2. below where the last search ended
//!     │◄────────── 3. highest gap ─────────►│            │     3. once around
//!                    bottom │◄── 4. lowest gap ─────────►│     4. above the base
//! ```
//!
//! The start moves so that an address which was just unmapped is not given out again at once: a guest's stray pointer, or
//! the emulator's, finds nothing there. Each step is one search of the framework's gap index.

use vmar::{interval_map::IntervalMap, placement::Window};

/// Where to look for room.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    window: Window,
    next: usize,
}

impl Search {
    pub fn new(window: Window) -> Self {
        Self { window, next: window.base }
    }

    /// Returns the address of `size` free bytes at a multiple of `align`.
    pub fn find<V>(&mut self, map: &IntervalMap<V>, size: usize, align: usize) -> Option<usize> {
        let Window { floor, base, bottom, ceiling } = self.window;
        let found = map
            .highest_gap(size, align, floor..self.next)
            .or_else(|| map.highest_gap(size, align, floor..base))
            .or_else(|| map.lowest_gap(size, align, bottom..ceiling))?;
        if found < base {
            self.next = found;
        }
        Some(found)
    }

    /// Returns whether a hint is as good as what a search finds: free, and neither too low nor too high.
    pub fn takes_hint<V>(&self, map: &IntervalMap<V>, addr: usize, size: usize) -> bool {
        let Window { floor, ceiling, .. } = self.window;
        addr >= floor
            && addr.checked_add(size).is_some_and(|end| end <= ceiling)
            && !map.overlaps(&(addr..addr + size))
    }

    /// Returns the address of `size` free bytes that end at `limit` or below.
    pub fn find_below<V>(
        &self,
        map: &IntervalMap<V>,
        size: usize,
        align: usize,
        limit: usize,
    ) -> Option<usize> {
        let Window { floor, ceiling, .. } = self.window;
        map.highest_gap(size, align, floor..limit.min(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmar::{interval_map::IntervalMap, placement::Window};

    use super::Search;

    const PAGE: usize = 0x1000;

    /// The same search, page by page.
    struct Naive {
        used: [bool; 64],
        window: Window,
        next: usize,
    }

    impl Naive {
        fn is_free(&self, addr: usize, size: usize) -> bool {
            (addr..addr + size).step_by(PAGE).all(|page| !self.used[page / PAGE])
        }

        fn highest(&self, size: usize, align: usize, floor: usize, end: usize) -> Option<usize> {
            (floor..end)
                .step_by(PAGE)
                .rev()
                .find(|&at| at + size <= end && at % align == 0 && self.is_free(at, size))
        }

        fn find(&mut self, size: usize, align: usize) -> Option<usize> {
            let Window { floor, base, bottom, ceiling } = self.window;
            let mut found = self.highest(size, align, floor, self.next);
            if found.is_none() {
                found = self.highest(size, align, floor, base);
            }
            if found.is_none() {
                found = (bottom..ceiling)
                    .step_by(PAGE)
                    .find(|&at| at + size <= ceiling && at % align == 0 && self.is_free(at, size));
            }
            if let Some(at) = found.filter(|at| *at < base) {
                self.next = at;
            }
            found
        }
    }

    proptest! {
        #[test]
        fn q10_the_search_agrees_with_a_naive_one(
            floor in 0_usize..8, base in 8_usize..48, bottom in 8_usize..56, ceiling in 56_usize..=64,
            steps in prop::collection::vec((1_usize..9, 0_u32..4, any::<bool>(), 0_usize..64), 1..60),
        ) {
            let window = Window { floor: floor * PAGE, base: base * PAGE, bottom: bottom * PAGE, ceiling: ceiling * PAGE };
            let mut naive = Naive { used: [false; 64], window, next: window.base };
            let mut search = Search::new(window);
            let mut map = IntervalMap::new();
            for (pages, shift, frees, at) in steps {
                if frees {
                    let found = map.find(at * PAGE).map(|(range, ())| range);
                    if let Some(range) = found {
                        map.remove(range.start);
                        range.step_by(PAGE).for_each(|page| naive.used[page / PAGE] = false);
                    }
                    continue;
                }
                let (size, align) = (pages * PAGE, PAGE << shift);
                let hint = at * PAGE;
                let takes = hint >= window.floor && hint + size <= window.ceiling && naive.is_free(hint, size);
                prop_assert_eq!(search.takes_hint(&map, hint, size), takes);
                let found = if takes && at % 3 == 0 { Some(hint) } else { search.find(&map, size, align) };
                if !(takes && at % 3 == 0) {
                    prop_assert_eq!(found, naive.find(size, align));
                    prop_assert_eq!(
                        search.find_below(&map, size, align, hint),
                        naive.highest(size, align, window.floor, hint.min(window.ceiling))
                    );
                }
                if let Some(start) = found {
                    map.insert(start..start + size, ()).unwrap();
                    (start..start + size).step_by(PAGE).for_each(|page| naive.used[page / PAGE] = true);
                }
            }
        }
    }

    #[test]
    fn q10_the_start_moves_down_and_wraps_once() {
        let window = Window { floor: 0x1000, base: 0x5000, bottom: 0x5000, ceiling: 0x6000 };
        let mut search = Search::new(window);
        let mut map: IntervalMap<()> = IntervalMap::new();
        // Nothing is kept, and still each address differs from the one before.
        let found: Vec<_> = (0..5).map(|_| search.find(&map, PAGE, PAGE)).collect();
        assert_eq!(found, [0x4000, 0x3000, 0x2000, 0x1000, 0x4000].map(Some));
        map.insert(0x1000..0x5000, ()).unwrap();
        assert_eq!(search.find(&map, PAGE, PAGE), Some(0x5000), "above the base, where there is room");
        map.insert(0x5000..0x6000, ()).unwrap();
        assert_eq!(search.find(&map, PAGE, PAGE), None);
    }
}
