// SPDX-License-Identifier: MPL-2.0

//! Operations on a range of an object: what is true of its pages, told ahead or for many at once.
//!
//! | operation | its pages are | its content |
//! | --- | --- | --- |
//! | [`commit_range`](Vmo::commit_range) | in memory | stays |
//! | [`decommit`](Vmo::decommit) | out of memory | is what the source gives, zeros without one |
//! | [`zero`](Vmo::zero) | out of memory, if zeros come back by themselves | is zeros |
//! | [`prefetch`](Vmo::prefetch) | in memory, if the source has them and could read them | stays |
//!
//! Ranges are bytes, of any alignment. Advice belongs to mappings: see [`Vmar::advise`](crate::vmar::Vmar::advise).

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmo,
    source::Purpose,
    vmo::{Lookup, Vmo_},
};
use crate::{error::Error, machine::Machine};

impl<M: Machine, R: TRights> Vmo<M, TRightSet<R>> {
    /// Makes the object's own every page that has a byte in `range` (bytes): a later access to them neither waits nor fails.
    ///
    /// # Errors
    ///
    /// The pages before the one that fails **are in memory**.
    ///
    /// - [`Error::BusError`] past the end of the object.
    /// - [`Error::OutOfMemory`].
    /// - What the source answers.
    #[require(R > Read | Write)]
    pub fn commit_range(&self, range: Range<usize>) -> Result<(), Error> {
        for index in pages_of::<M>(&range) {
            self.object.commit(index, Purpose::Write)?;
        }
        Ok(())
    }

    /// Has the source read the pages that have a byte in `range` (bytes), as far as the object goes. What cannot be read is read when
    /// it is wanted; of what needs not be read nothing is made.
    #[require(R > Read)]
    pub fn prefetch(&self, range: Range<usize>) {
        self.object.prefetch(range);
    }

    /// Makes `range` (bytes) zeros, as far as the object goes: as if they were written, which private copies do not see.
    ///
    /// Whole pages of an object without a source leave memory, as [`decommit`](Self::decommit) has it.
    ///
    /// # Errors
    ///
    /// - [`Error::OutOfMemory`].
    /// - What the source answers; what comes before **is zeros**.
    #[require(R > Write)]
    pub fn zero(&self, range: Range<usize>) -> Result<(), Error> {
        self.object.zero_range(range)
    }
}

impl<M: Machine> Vmo_<M> {
    /// See [`Vmo::prefetch`].
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        let range = range.start..range.end.min(self.size());
        for index in pages_of::<M>(&range) {
            if matches!(self.lookup(index), Lookup::Paged) && self.commit(index, Purpose::Read).is_err() {
                return;
            }
        }
    }

    fn zero_range(&self, range: Range<usize>) -> Result<(), Error> {
        static ZEROS: [u8; 4096] = [0; 4096];
        let size = self.size();
        if self.source().is_none() {
            // What lies behind the end is zeros anyway, so that the last page can go as a whole.
            let end = if range.end < size { range.end } else { size.next_multiple_of(M::PAGE_SIZE) };
            return if range.start < end { self.decommit(range.start..end) } else { Ok(()) };
        }
        let (mut at, end) = (range.start, range.end.min(size));
        while at < end {
            // It may have become shorter.
            match self.write_bytes(at, &ZEROS[..ZEROS.len().min(end - at)])? {
                0 => break,
                count => at += count,
            }
        }
        Ok(())
    }
}

/// Returns the indices of the pages that have a byte in `range`.
fn pages_of<M: Machine>(range: &Range<usize>) -> Range<usize> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / M::PAGE_SIZE..range.end.div_ceil(M::PAGE_SIZE)
}

#[cfg(test)]
mod tests;
