// SPDX-License-Identifier: MPL-2.0

//! Anonymous memory whose frames are promised: at once, or page by page as they are touched.
//!
//! ```text
//!   Reserve (so many pages) ◄── takes ── AtOnce:  all pages, when the object is made or grows; the maker is told no
//!                           ◄── takes ── AtTouch: one page, when it is first touched; the toucher ends
//! ```
//!
//! A promise that cannot be kept at a touch ends the program that touched, and that one alone, without any fuss
//! ([`Error::ReserveExhausted`]): such memory is therefore not shared.

use alloc::{sync::Arc, vec::Vec};
use core::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{
    source::{CopySource, Page, Purpose, Source},
    vmo::Lookup,
};
use crate::{
    error::Error,
    fallible::try_reserve_exact,
    machine::{Blank, Machine, SleepLock},
};

/// So many pages that can be promised.
#[derive(Debug)]
pub struct Reserve {
    limit: usize,
    taken: AtomicUsize,
}

impl Reserve {
    /// Makes a reserve of `limit` pages.
    pub const fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    /// Returns how many pages are promised.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    fn take(&self, pages: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(pages).filter(|sum| *sum <= self.limit);
        self.taken.try_update(Relaxed, Relaxed, fits).is_ok()
    }

    fn give_back(&self, pages: usize) {
        self.taken.fetch_sub(pages, Relaxed);
    }
}

/// When memory is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// All of it when the object is made, or grows.
    AtOnce,
    /// Each page when it is first touched.
    AtTouch,
}

/// Zeros, from memory that was reserved.
pub struct Anonymous<M: Machine> {
    machine: M,
    reserve: Arc<Reserve>,
    reservation: Reservation,
    touched: M::Lock<Touched>,
}

/// Which pages have been touched: a bit for each.
#[derive(Default)]
struct Touched {
    bits: Vec<u64>,
    count: usize,
}

impl Touched {
    /// Returns the word and the bit for a page.
    fn place(index: usize) -> (usize, u64) {
        (index / 64, 1 << (index % 64))
    }

    fn try_resize(&mut self, pages: usize) -> Result<(), Error> {
        let words = pages.div_ceil(64);
        let more = words.saturating_sub(self.bits.len());
        try_reserve_exact(&mut self.bits, more)?;
        self.bits.resize(words, 0);
        Ok(())
    }

    fn forget(&mut self, range: Range<usize>) -> usize {
        let mut forgotten = 0;
        for index in range.start..range.end.min(self.bits.len() * 64) {
            let (word, bit) = Self::place(index);
            forgotten += usize::from(self.bits[word] & bit != 0);
            self.bits[word] &= !bit;
        }
        self.count -= forgotten;
        forgotten
    }
}

impl<M: Machine> Anonymous<M> {
    /// Makes a source of zeros that takes its memory from `reserve`.
    pub fn new(machine: M, reserve: Arc<Reserve>, reservation: Reservation) -> Self {
        Self { machine, reserve, reservation, touched: SleepLock::new(Touched::default()) }
    }

    /// Takes page `index` from the reserve, if it has not been.
    fn touch(&self, index: usize) -> Result<(), Error> {
        if self.reservation == Reservation::AtOnce {
            return Ok(());
        }
        let mut touched = self.touched.write();
        let (word, bit) = Touched::place(index);
        let Some(bits) = touched.bits.get_mut(word) else { return Err(Error::BusError) };
        if *bits & bit == 0 {
            if !self.reserve.take(1) {
                return Err(Error::ReserveExhausted);
            }
            *bits |= bit;
            touched.count += 1;
        }
        Ok(())
    }
}

impl<M: Machine> Source<M> for Anonymous<M> {
    fn create(&self, pages: usize) -> Result<(), Error> {
        self.resize(0, pages)
    }

    fn resize(&self, from: usize, to: usize) -> Result<(), Error> {
        match self.reservation {
            Reservation::AtOnce if to > from => {
                if !self.reserve.take(to - from) {
                    return Err(Error::OutOfMemory);
                }
            }
            Reservation::AtOnce => self.reserve.give_back(from - to),
            Reservation::AtTouch => {
                let mut touched = self.touched.write();
                if to < from {
                    self.reserve.give_back(touched.forget(to..from));
                }
                touched.try_resize(to)?;
            }
        }
        Ok(())
    }

    fn destroy(&self, pages: usize) {
        match self.reservation {
            Reservation::AtOnce => self.reserve.give_back(pages),
            Reservation::AtTouch => self.reserve.give_back(self.touched.read().count),
        }
    }

    fn may_share(&self) -> bool {
        self.reservation == Reservation::AtOnce
    }

    fn look(&self, _index: usize, _purpose: Purpose) -> Lookup<M::Frame> {
        match self.reservation {
            Reservation::AtOnce => Lookup::Absent,
            Reservation::AtTouch => Lookup::Paged,
        }
    }

    fn fault(&self, index: usize, _purpose: Purpose) -> Result<Page<M::Frame>, Error> {
        self.touch(index)?;
        Ok(Page::Own(self.machine.alloc()?.zeroed()))
    }

    fn copy_source(&self, index: usize) -> Result<Option<CopySource<M::Frame>>, Error> {
        self.touch(index)?;
        Ok(Some(CopySource::Zeros))
    }
}

impl<M: Machine> core::fmt::Debug for Anonymous<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Anonymous")
            .field("reserve", &self.reserve)
            .field("reservation", &self.reservation)
            .finish_non_exhaustive()
    }
}
