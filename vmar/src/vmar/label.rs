// SPDX-License-Identifier: MPL-2.0

//! Labels: what a kernel notes of mappings that means nothing to the framework.
//!
//! A label is kept when a mapping is split, moved, enlarged and forked, and neighbours with different labels stay apart. A new
//! mapping has label 0. (A Linux-like kernel keeps a mapping's memory policy here, as `mbind` sets it.)

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_};
use crate::{error::Error, machine::Machine};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Labels the mappings of `range` (bytes, page-aligned). Holes are passed over.
    ///
    /// # Errors
    ///
    /// - [`Error::LimitExceeded`] if mappings would be split and there are too many.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write)]
    pub fn label(&self, range: Range<usize>, label: u8) -> Result<(), Error> {
        self.inner.set_label(range, label)
    }
}

impl<M: Machine> Vmar_<M> {
    fn set_label(&self, range: Range<usize>, label: u8) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.set_label(range.clone(), label))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        self.reserve_splits(&mut mappings, &range)?;
        // From here on nothing fails.
        mappings.change(&range, |_, mapping| mapping.set_label(label));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
