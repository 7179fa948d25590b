// SPDX-License-Identifier: MPL-2.0

//! Stacks grow: a fault below a mapping with [`GROWS_DOWN`](MappingFlags::GROWS_DOWN) makes it reach down to the page.
//!
//! As Linux does it (`expand_downwards`, 6.1): any distance, as long as the stack stays within `RLIMIT_STACK` and a gap
//! of 256 pages to the accessible mapping below is kept, unless that grows down too.

use super::{Vmar_, fault::FaultError, place::GUARD_PAGES};
use crate::{
    error::Limit,
    machine::Machine,
    mapping::{MappedMemory, MappingFlags},
};

impl<M: Machine> Vmar_<M> {
    /// Makes the stack above `page`, where nothing is mapped, reach down to it.
    ///
    /// # Errors
    ///
    /// [`FaultError::NotMapped`] if there is no stack above or it may not grow.
    pub(super) fn grow_down(&self, page: usize) -> Result<(), FaultError> {
        let mut mappings = self.change().map_err(|_| FaultError::Destroyed)?;
        if mappings.find(page).is_some() {
            // Somebody was faster.
            return Ok(());
        }
        let Some((range, stack)) = mappings.next(page) else { return Err(FaultError::NotMapped) };
        let more = range.start - page;
        let has_room = matches!(stack.memory(), MappedMemory::Anonymous) || stack.offset() >= more;
        if !stack.flags().contains(MappingFlags::GROWS_DOWN) || !has_room {
            return Err(FaultError::NotMapped);
        }
        let locked = if stack.flags().contains(MappingFlags::LOCKED) { more } else { 0 };
        let is_too_close = mappings.prev(page).is_some_and(|(below_range, below)| {
            !below.flags().contains(MappingFlags::GROWS_DOWN)
                // Who knows what is in a region.
                && (!below.perms().access().is_empty() || below.region().is_some())
                && page - below_range.end < GUARD_PAGES * M::PAGE_SIZE
        });
        let guard = mappings.policy.guard;
        let is_too_close =
            is_too_close || mappings.prev(page).is_some_and(|(below, _)| page - below.end < guard);
        let usage = mappings.usage();
        let is_within_limits = self.limits.check(Limit::Stack, range.len(), more).is_ok()
            && self.check_limit(&mappings, Limit::AddressSpace, usage.address_space, more).is_ok()
            && (locked == 0 || self.check_limit(&mappings, Limit::Locked, usage.locked, locked).is_ok());
        if is_too_close || !is_within_limits || page < mappings.window().floor {
            return Err(FaultError::NotMapped);
        }
        mappings.extend_start(range.start, page);
        Ok(())
    }
}
