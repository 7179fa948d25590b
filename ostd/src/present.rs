// SPDX-License-Identifier: MPL-2.0

//! Which pages a page table has, as bits beside it.
//!
//! OSTD tells whether an entry is in use by walking to it, and finds the next one by looking at one after the other, 25
//! instructions each; most of the entries of a small program are empty. A bit is looked at in a tenth of the time, and 64 of
//! them at once. The bits of an *area*, which is what a page-table node of the lowest level covers, stand in one slot:
//!
//! ```text
//!   slots:  area 2: 0011 0000 ..   area 1023: 0000 .. 1111   ...       hashed by the area, at most PROBES slots from home
//! ```
//!
//! Invariants:
//! - A page is mapped if and only if its bit is set.
//! - The bits of an area change only under a cursor that has locked its node: two CPUs never work on one area at once.
//! - When there is no slot for an area (a large program), the table gives up for good, and has to be asked no more.

use core::{
    ops::Range,
    sync::atomic::{
        AtomicBool, AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Relaxed, Release},
    },
};

use ostd::mm::PAGE_SIZE;

/// The pages of an area.
const AREA_PAGES: usize = 512;

/// What one page-table node of the lowest level covers, in bytes.
pub(crate) const NODE_SPAN: usize = AREA_PAGES * PAGE_SIZE;

/// What the bits of one word stand for, in bytes.
const WORD_SPAN: usize = 64 * PAGE_SIZE;

const SLOTS: usize = 64;
const PROBES: usize = 8;
const WORDS: usize = AREA_PAGES / 64;

/// The pages that are mapped. All addresses are bytes, page-aligned.
#[derive(Debug)]
pub(crate) struct Present {
    slots: [Slot; SLOTS],
    has_given_up: AtomicBool,
}

#[derive(Debug)]
struct Slot {
    /// The number of the area, plus one; zero in a free slot, whose bits are all clear.
    tag: AtomicUsize,
    bits: [AtomicU64; WORDS],
}

impl Slot {
    const fn new() -> Self {
        Self { tag: AtomicUsize::new(0), bits: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Returns where the area starts; `None` in a free slot.
    fn start(&self) -> Option<usize> {
        Some(self.tag.load(Relaxed).checked_sub(1)? * NODE_SPAN)
    }

    /// Returns the first page of the area from `page` on that is mapped.
    fn next(&self, page: usize) -> Option<usize> {
        let first = page / 64;
        let own = self.bits[first].load(Relaxed) >> (page % 64);
        if own != 0 {
            return Some(page + own.trailing_zeros() as usize);
        }
        let mut later = self.bits.iter().map(|word| word.load(Relaxed)).enumerate().skip(first + 1);
        later.find(|(_, word)| *word != 0).map(|(at, word)| at * 64 + word.trailing_zeros() as usize)
    }

    /// Returns the first page of the area from `page` on that is not mapped; their number if there is none.
    fn end_of_run(&self, mut page: usize) -> usize {
        while page < AREA_PAGES {
            let ones = (self.bits[page / 64].load(Relaxed) >> (page % 64)).trailing_ones() as usize;
            page += ones;
            if ones == 0 || !page.is_multiple_of(64) {
                break;
            }
        }
        page
    }

    fn set(&self, pages: Range<usize>) {
        for (word, mask) in masks(pages) {
            self.bits[word].fetch_or(mask, Relaxed);
        }
    }

    fn clear(&self, pages: Range<usize>) {
        for (word, mask) in masks(pages) {
            self.bits[word].fetch_and(!mask, Relaxed);
        }
    }
}

impl Present {
    pub(crate) const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], has_given_up: AtomicBool::new(false) }
    }

    /// Returns whether it has given up.
    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Relaxed)
    }

    /// Forgets that it has given up, for a page table that is empty.
    pub(crate) fn start_anew(&self) {
        if self.has_given_up() {
            self.slots.iter().for_each(|slot| slot.tag.store(0, Relaxed));
            self.has_given_up.store(false, Relaxed);
        }
    }

    /// Returns how many areas it knows, those included that have become empty again.
    pub(crate) fn area_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.start().is_some()).count()
    }

    /// Returns the part of each area from the first page to the last that is mapped, in no order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        self.slots.iter().filter_map(|slot| {
            let start = slot.start()?;
            let first = slot.next(0)?;
            let words = slot.bits.iter().map(|word| word.load(Relaxed)).enumerate();
            let last =
                words.rev().find(|(_, word)| *word != 0).map(|(at, word)| at * 64 + word.ilog2() as usize)?;
            Some(start + first * PAGE_SIZE..start + (last + 1) * PAGE_SIZE)
        })
    }

    /// Notes that the page at `addr` is being mapped.
    pub(crate) fn set(&self, addr: usize) {
        let area = addr / NODE_SPAN;
        if let Some(slot) = self.slot(area).or_else(|| self.claim(area)) {
            let page = page_of(addr);
            slot.bits[page / 64].fetch_or(1 << (page % 64), Relaxed);
        } else {
            self.has_given_up.store(true, Relaxed);
        }
    }

    /// Notes that all pages in `range` are being mapped.
    pub(crate) fn set_all(&self, range: &Range<usize>) {
        let mut at = range.start;
        if range.len() < WORD_SPAN
            && at % WORD_SPAN + range.len() <= WORD_SPAN
            && let Some(slot) = self.slot(at / NODE_SPAN)
        {
            // By far the most common case: all bits are in one word.
            let mask = ((1 << (range.len() / PAGE_SIZE)) - 1) << (page_of(at) % 64);
            slot.bits[page_of(at) / 64].fetch_or(mask, Relaxed);
            return;
        }
        while at < range.end {
            let start = at - at % NODE_SPAN;
            let end = (start + NODE_SPAN).min(range.end);
            let area = start / NODE_SPAN;
            match self.slot(area).or_else(|| self.claim(area)) {
                Some(slot) => slot.set((at - start) / PAGE_SIZE..(end - start) / PAGE_SIZE),
                None => self.has_given_up.store(true, Relaxed),
            }
            at = end;
        }
    }

    /// Returns whether nothing is mapped at `addr`: not known for sure where it has given up.
    pub(crate) fn is_clear(&self, addr: usize) -> bool {
        let page = page_of(addr);
        let slot = self.slot(addr / NODE_SPAN);
        slot.is_none_or(|slot| slot.bits[page / 64].load(Relaxed) >> (page % 64) & 1 == 0)
            && !self.has_given_up()
    }

    /// Notes that nothing is mapped in `range` any more. An area that lies in it as a whole has lost its node.
    pub(crate) fn clear(&self, range: &Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let start = at - at % NODE_SPAN;
            let end = (start + NODE_SPAN).min(range.end);
            if let Some(slot) = self.slot(start / NODE_SPAN) {
                slot.clear((at - start) / PAGE_SIZE..(end - start) / PAGE_SIZE);
                if end - at == NODE_SPAN {
                    slot.tag.store(0, Release);
                }
            }
            at = end;
        }
    }

    /// Returns the first run of mapped pages in `range`; all of it where it has given up.
    pub(crate) fn first_run(&self, range: &Range<usize>) -> Option<Range<usize>> {
        if range.start >= range.end {
            return None;
        }
        if self.has_given_up() {
            return Some(range.clone());
        }
        let start = self.next(range)?;
        let mut end = start;
        while end < range.end
            && let Some(slot) = self.slot(end / NODE_SPAN)
        {
            let page = slot.end_of_run(page_of(end));
            end = end - end % NODE_SPAN + page * PAGE_SIZE;
            if page != AREA_PAGES {
                break;
            }
        }
        Some(start..end.min(range.end))
    }

    /// Returns the first mapped page in `range`.
    fn next(&self, range: &Range<usize>) -> Option<usize> {
        let area = range.start - range.start % NODE_SPAN;
        let own = self.slot(area / NODE_SPAN).and_then(|slot| slot.next(page_of(range.start)));
        let found = match own {
            Some(page) => Some(area + page * PAGE_SIZE),
            None if range.end <= area + NODE_SPAN => None,
            None => {
                let starts = self.slots.iter().filter_map(|slot| Some((slot.start()?, slot)));
                let later = starts.filter(|(start, _)| *start > area && *start < range.end);
                later.filter_map(|(start, slot)| Some(start + slot.next(0)? * PAGE_SIZE)).min()
            }
        };
        found.filter(|addr| *addr < range.end)
    }

    fn slot(&self, area: usize) -> Option<&Slot> {
        self.probe(area).find(|slot| slot.tag.load(Relaxed) == area + 1)
    }

    /// Takes a free slot for an area. CPUs that enter different areas may want the same one.
    fn claim(&self, area: usize) -> Option<&Slot> {
        self.probe(area).find(|slot| slot.tag.compare_exchange(0, area + 1, AcqRel, Relaxed).is_ok())
    }

    fn probe(&self, area: usize) -> impl Iterator<Item = &Slot> {
        (0..PROBES).map(move |step| &self.slots[(area + step) % SLOTS])
    }
}

/// Returns the words that the bits of `pages` are in, and which bits of each they are.
fn masks(pages: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    (pages.start / 64..pages.end.div_ceil(64)).map(move |word| {
        let from = pages.start.max(word * 64) - word * 64;
        let to = pages.end.min((word + 1) * 64) - word * 64;
        (word, (u64::MAX >> (64 - (to - from))) << from)
    })
}

/// Returns the number of a page within its area.
fn page_of(addr: usize) -> usize {
    addr / PAGE_SIZE % AREA_PAGES
}
