// SPDX-License-Identifier: MPL-2.0

//! Making memory zeros, as if the program had written them: mostly by taking pages away.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_, entries::clip, region::Region};
use crate::{
    error::Error,
    machine::Machine,
    mapping::{MappedMemory, MappingFlags},
    perms::VmPerms,
};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes the memory of `range` (bytes, page-aligned) zeros.
    ///
    /// Pages of anonymous memory are given back, unless they are locked; others are written, shared objects for all to see.
    ///
    /// # Errors
    ///
    /// What comes before the page that fails **is zeros**.
    ///
    /// - [`Error::NotMapped`] at a hole.
    /// - [`Error::AccessDenied`] where the program may not write.
    /// - [`Error::NotSupported`] at device memory.
    /// - [`Error::BusError`] past the end of an object, or if it cannot read its page.
    /// - [`Error::OutOfMemory`].
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::Destroyed`].
    #[require(R > Write)]
    pub fn zero(&self, range: Range<usize>) -> Result<(), Error> {
        self.inner.zero(range)
    }
}

/// What makes a part of a range zeros.
enum Way<M: Machine> {
    /// That its pages were taken away.
    Done,
    /// That zeros are written.
    Write,
    /// The child region that it lies in.
    Inside(Region<M>),
}

impl<M: Machine> Vmar_<M> {
    fn zero(&self, range: Range<usize>) -> Result<(), Error> {
        static ZEROS: [u8; 4096] = [0; 4096];
        self.check_range(&range)?;
        let mut at = range.start;
        while at < range.end {
            let (part, way) = self.zero_next(at..range.end)?;
            match way {
                Way::Done => {}
                Way::Write => {
                    let mut written = part.start;
                    while written < part.end {
                        let count = ZEROS.len().min(part.end - written);
                        written += self.write_bytes(written, &ZEROS[..count], super::fault::Cause::Other)?;
                    }
                }
                Way::Inside(region) => match region.zero(part.clone()) {
                    // It ended meanwhile. What was in it may be here now.
                    Err(Error::Destroyed) => continue,
                    result => result?,
                },
            }
            at = part.end;
        }
        Ok(())
    }

    /// Returns the part of `range` that the mapping at its start covers, and what makes it zeros.
    fn zero_next(&self, range: Range<usize>) -> Result<(Range<usize>, Way<M>), Error> {
        let mut mappings = self.change()?;
        let (found, mapping) = mappings.find(range.start).ok_or(Error::NotMapped)?;
        let part = clip(&found, &range);
        if let Some(region) = mapping.region() {
            return Ok((part, Way::Inside(region.clone())));
        }
        if matches!(mapping.memory(), MappedMemory::Device { .. }) {
            return Err(Error::NotSupported);
        }
        if !mapping.perms().contains(VmPerms::WRITE) {
            return Err(Error::AccessDenied);
        }
        let is_locked = mapping.flags().intersects(MappingFlags::ANY_LOCK);
        if is_locked || !matches!(mapping.memory(), MappedMemory::Anonymous) {
            return Ok((part, Way::Write));
        }
        self.unmap_entries(&mappings, &part);
        mappings.forget_entries_within(&part);
        mappings.clear_marks(&part);
        Ok((part, Way::Done))
    }
}

#[cfg(test)]
mod tests;
