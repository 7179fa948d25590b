// SPDX-License-Identifier: MPL-2.0

//! What all regions of a space share, none of it behind a lock of theirs: the machine, the page table, the limits, what is
//! resident, and how much all regions hold together.
//!
//! ```text
//!   region ──┐                     limits, resident pages
//!   region ──┼──► Shared           page table (locks of its own, by range)
//!   root   ──┘                     Sums: bytes and mappings of all regions, atomics
//! ```
//!
//! # Limits over all regions
//!
//! A space without child regions keeps its sums where its mappings are, and nobody else needs them. As soon as there is a child
//! region, each region adds what it holds to the common [`Sums`]: *before* an operation makes it more (that is the check against the
//! limit, and it cannot be passed by two regions at once), and when the operation is over, to correct what was too much.

use core::{
    ops::{Deref, DerefMut, Range},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use super::{Vmar_, mappings::Mappings};
use crate::{
    error::{Error, Limit},
    limits::Limits,
    machine::{AddressSpace, Machine, SleepLock},
    rss::Rss,
};

/// What all regions of a space share.
pub struct Shared<M: Machine> {
    pub(crate) machine: M,
    pub(crate) space: M::Space,
    pub(crate) rss: Rss<M>,
    pub(crate) limits: Limits,
    /// How many regions there are besides the root.
    pub(super) regions: AtomicUsize,
    /// What all regions hold while there are any besides the root.
    sums: Sums,
    /// Whether any mapping may be sealed.
    pub(super) has_sealed: AtomicBool,
    /// The largest that the sum of all sizes has been.
    pub(super) peak: AtomicUsize,
    /// How many of the resident pages were borrowed when the last capability to the space went.
    pub(super) borrowed_at_end: AtomicUsize,
}

/// What is summed over all regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    AddressSpace,
    Data,
    Locked,
    Mappings,
}

impl Sum {
    const ALL: [Self; 4] = [Self::AddressSpace, Self::Data, Self::Locked, Self::Mappings];

    /// Returns the sum that a limit bounds; none for a limit on single mappings.
    const fn bounded_by(limit: Limit) -> Option<Self> {
        match limit {
            Limit::AddressSpace => Some(Self::AddressSpace),
            Limit::Data => Some(Self::Data),
            Limit::Locked => Some(Self::Locked),
            Limit::Mappings => Some(Self::Mappings),
            Limit::Stack => None,
        }
    }
}

/// A number for each [`Sum`].
#[derive(Debug, Default)]
struct Sums([AtomicUsize; 4]);

/// What a region has added to the common sums.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Whether it takes part: only while there are child regions.
    is_open: bool,
    charged: Sums,
}

impl Account {
    /// An account of a region among others.
    pub(super) fn open() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }
}

impl<M: Machine> Shared<M> {
    #[inline(always)]
    pub(super) fn new(machine: M, space: M::Space, rss: Rss<M>, limits: Limits) -> Self {
        Self {
            machine,
            space,
            rss,
            limits,
            regions: AtomicUsize::new(0),
            sums: Sums::default(),
            has_sealed: AtomicBool::new(false),
            peak: AtomicUsize::new(0),
            borrowed_at_end: AtomicUsize::new(0),
        }
    }

    /// Charges a region for `used + more` of what `limit` bounds.
    #[cold]
    #[inline(never)]
    fn charge(&self, account: &Account, limit: Limit, used: usize, more: usize) -> Result<(), Error> {
        let Some(sum) = Sum::bounded_by(limit) else { return self.limits.check(limit, used, more) };
        let exceeded = Err(Error::LimitExceeded(limit));
        let Some(wanted) = used.checked_add(more) else { return exceeded };
        let (all, own) = (&self.sums.0[sum as usize], &account.charged.0[sum as usize]);
        let charged = own.load(Relaxed);
        let bound = self.limits.get(limit);
        let Some(extra) = wanted.checked_sub(charged) else {
            // Less than before, which may be too much all the same.
            return match all.load(Relaxed) - (charged - wanted) <= bound {
                true => Ok(()),
                false => exceeded,
            };
        };
        let raised =
            all.try_update(Relaxed, Relaxed, |all| all.checked_add(extra).filter(|sum| *sum <= bound));
        if raised.is_err() {
            return exceeded;
        }
        own.store(wanted, Relaxed);
        Ok(())
    }

    /// Corrects what a region is charged for to what it holds.
    fn settle(&self, mappings: &mut Mappings<M>) {
        let usage = mappings.usage();
        for sum in Sum::ALL {
            let held = match sum {
                _ if !mappings.account.is_open => 0,
                Sum::AddressSpace => usage.address_space,
                Sum::Data => usage.data,
                Sum::Locked => usage.locked,
                Sum::Mappings => usage.mappings,
            };
            let charged = core::mem::replace(mappings.account.charged.0[sum as usize].get_mut(), held);
            self.sums.0[sum as usize].fetch_add(held.wrapping_sub(charged), Relaxed);
        }
        self.peak.fetch_max(self.sums.0[Sum::AddressSpace as usize].load(Relaxed), Relaxed);
    }
}

impl<M: Machine> Drop for Shared<M> {
    fn drop(&mut self) {
        let borrowed = *self.borrowed_at_end.get_mut();
        self.space.retire(self.rss.total_pages().saturating_sub(borrowed));
    }
}

/// The mappings of a region, locked to be changed. Letting go settles the region's account.
pub(crate) struct Changing<'a, M: Machine> {
    guard: <M::Lock<Mappings<M>> as SleepLock<Mappings<M>>>::WriteGuard<'a>,
    shared: &'a Shared<M>,
}

impl<M: Machine> Changing<'_, M> {
    /// Has the region take part in the common sums from now on.
    pub(super) fn open_account(&mut self) {
        self.account.is_open = true;
    }

    /// Takes it out of them again.
    pub(super) fn close_account(&mut self) {
        self.account.is_open = false;
        self.settle();
    }

    #[cold]
    #[inline(never)]
    fn settle(&mut self) {
        let Self { guard, shared } = self;
        shared.settle(guard);
    }
}

impl<M: Machine> Deref for Changing<'_, M> {
    type Target = Mappings<M>;

    fn deref(&self) -> &Mappings<M> {
        &self.guard
    }
}

impl<M: Machine> DerefMut for Changing<'_, M> {
    fn deref_mut(&mut self) -> &mut Mappings<M> {
        &mut self.guard
    }
}

impl<M: Machine> Drop for Changing<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.guard.account.is_open {
            self.settle();
        }
    }
}

impl<M: Machine> Vmar_<M> {
    /// Locks the mappings to change them.
    ///
    /// # Errors
    ///
    /// [`Error::Destroyed`].
    #[inline(always)]
    pub(crate) fn change(&self) -> Result<Changing<'_, M>, Error> {
        let mappings = Changing { guard: self.mappings.write(), shared: &self.shared };
        // All others have an account.
        if mappings.guard.account.is_open && mappings.is_destroyed() {
            return Err(Error::Destroyed);
        }
        Ok(mappings)
    }

    /// The same for a change of what is in `range`: child regions that it meets are dissolved, so that there are only mappings.
    ///
    /// # Errors
    ///
    /// [`Error::Destroyed`]; [`Error::OutOfMemory`].
    #[inline(always)]
    pub(crate) fn change_within(&self, range: &Range<usize>) -> Result<Changing<'_, M>, Error> {
        let mut mappings = Changing { guard: self.mappings.write(), shared: &self.shared };
        if mappings.guard.account.is_open {
            self.dissolve_within(&mut mappings, range)?;
        }
        Ok(mappings)
    }

    /// Checks that the space keeps a limit when this region, whose locked mappings hold `used` of what it bounds, has `more`.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`].
    #[inline(always)]
    pub(crate) fn check_limit(
        &self,
        mappings: &Mappings<M>,
        limit: Limit,
        used: usize,
        more: usize,
    ) -> Result<(), Error> {
        if mappings.account.is_open {
            self.shared.charge(&mappings.account, limit, used, more)
        } else {
            self.limits.check(limit, used, more)
        }
    }

    /// Makes room for [`change`](Mappings::change) over `range`, if there may be as many mappings as that makes.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`] or [`Error::OutOfMemory`]; nothing has changed.
    #[inline]
    pub(super) fn reserve_splits(
        &self,
        mappings: &mut Mappings<M>,
        range: &Range<usize>,
    ) -> Result<(), Error> {
        let splits = mappings.count_splits(range);
        self.check_limit(mappings, Limit::Mappings, mappings.len(), splits)?;
        mappings.try_reserve(splits)?;
        Ok(())
    }
}
