// SPDX-License-Identifier: MPL-2.0

//! Locking memory: `mlock` and its family, after Linux 6.1.
//!
//! A locked mapping keeps its pages resident. Nothing is ever paged out here, so what locking does is to count against a
//! limit, to make pages resident ahead of time, and to keep `discard` away. Whoever may lock without limit
//! (`CAP_IPC_LOCK`) has a limit of `usize::MAX`.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, entries::clip, mappings::Mappings, populate::Populate};
use crate::{
    error::{Error, Limit},
    machine::{Machine, SleepLock},
    mapping::{MappedMemory, MappingFlags},
};

/// When the pages of a locked mapping become resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// At once.
    Now,
    /// When they are touched (`MLOCK_ONFAULT`).
    OnFault,
}

impl LockMode {
    /// Returns the flags of mappings locked this way.
    pub const fn flags(self) -> MappingFlags {
        match self {
            Self::Now => MappingFlags::LOCKED,
            Self::OnFault => MappingFlags::ANY_LOCK,
        }
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Locks the memory of `range` (bytes, page-aligned). Only what was not locked counts against the limit.
    ///
    /// With [`LockMode::Now`] its pages are resident then.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] at a hole; what lies before it **is locked**.
    /// - [`Error::AccessDenied`], [`Error::BusError`] at a page that cannot be made resident; the range **is locked**.
    /// - [`Error::LimitExceeded`].
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read)]
    pub fn lock(&self, range: Range<usize>, mode: LockMode) -> Result<(), Error> {
        self.inner.set_lock(range.clone(), mode.flags())?;
        match mode {
            LockMode::Now => self.inner.populate(range, Populate::AsNeeded),
            LockMode::OnFault => Ok(()),
        }
    }

    /// Unlocks the memory of `range` (bytes, page-aligned).
    ///
    /// # Errors
    ///
    /// As those of [`lock`](Self::lock); what lies before a hole is unlocked.
    #[require(R > Read)]
    pub fn unlock(&self, range: Range<usize>) -> Result<(), Error> {
        self.inner.set_lock(range, MappingFlags::empty())
    }

    /// Locks all there is (`mlockall(MCL_CURRENT)`). For what is to come see
    /// [`set_default_flags`](Self::set_default_flags).
    ///
    /// With [`LockMode::Now`] its pages are resident then, those that can be.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`] or [`Error::OutOfMemory`]; nothing has changed then.
    #[require(R > Read)]
    pub fn lock_all(&self, mode: LockMode) -> Result<(), Error> {
        self.inner.set_lock_of_all(mode.flags())?;
        if mode == LockMode::Now {
            self.inner.populate_if_locked(self.inner.range.clone());
        }
        Ok(())
    }

    /// Unlocks all there is, and what is to come (`munlockall`).
    #[require(R > Read | Write)]
    pub fn unlock_all(&self) {
        self.set_default_flags(MappingFlags::empty());
        // Mappings that differed in being locked are merged; none is split, which is all that could fail.
        let _ = self.inner.set_lock_of_all(MappingFlags::empty());
    }
}

impl<M: Machine> Vmar_<M> {
    fn set_lock(&self, range: Range<usize>, lock: MappingFlags) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.set_lock(range.clone(), lock))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        if !lock.is_empty() {
            let newly = range.len() - locked(&mappings, &range);
            self.check_limit(&mappings, Limit::Locked, mappings.usage().locked, newly)?;
        }
        let end = mappings.covered_until(&range);
        let covered = range.start..end;
        if !covered.is_empty() {
            self.reserve_splits(&mut mappings, &covered)?;
            change_lock(&mut mappings, &covered, lock);
        }
        if end < range.end { Err(Error::NotMapped) } else { Ok(()) }
    }

    /// Makes the pages of `range` resident where it is locked, and not just on faults. What cannot be is when it is
    /// touched.
    pub(super) fn populate_if_locked(&self, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let part = {
                let mappings = self.mappings.read();
                let Some((found, mapping)) = mappings.find_or_next(at) else { return };
                at = found.end;
                let is_locked = mapping.flags() & MappingFlags::ANY_LOCK == MappingFlags::LOCKED;
                is_locked.then(|| clip(&found, &range))
            };
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                let _ = self.populate(part, Populate::AsNeeded);
            }
        }
    }

    fn set_lock_of_all(&self, lock: MappingFlags) -> Result<(), Error> {
        let all = self.range.clone();
        let mut mappings = self.change_within(&all)?;
        if !lock.is_empty() {
            let total = mappings.usage().address_space;
            self.check_limit(&mappings, Limit::Locked, 0, total)?;
        }
        change_lock(&mut mappings, &all, lock);
        Ok(())
    }
}

/// Returns how many bytes of `range` are locked. All others count as newly locked, holes too, as in Linux.
fn locked<M: Machine>(mappings: &Mappings<M>, range: &Range<usize>) -> usize {
    mappings
        .range(range.clone())
        .filter(|(_, mapping)| mapping.flags().contains(MappingFlags::LOCKED))
        .map(|(found, _)| clip(&found, range).len())
        .sum()
}

fn change_lock<M: Machine>(mappings: &mut Mappings<M>, range: &Range<usize>, lock: MappingFlags) {
    mappings.change(range, |_, mapping| {
        // Device memory is always there.
        if !matches!(mapping.memory(), MappedMemory::Device { .. }) {
            mapping.set_flags((mapping.flags() - MappingFlags::ANY_LOCK) | lock);
        }
    });
}

#[cfg(test)]
mod tests;
