// SPDX-License-Identifier: MPL-2.0

//! Changing the size of a mapping, where it is.

use core::ops::Range;

use vmar::error::{Error, Limit};

use crate::{
    Flat, Memory,
    program::{Place, Program},
};

impl<M: Memory> Flat<M> {
    /// Makes the mapping of exactly `old` (addresses, bytes) `new_len` bytes large, and returns its address, which stays:
    /// programs have addresses in hand, and nobody can tell where. `fixed` is where it is to be, if that is said.
    ///
    /// What a mapping loses stays with it, so that it can be made as large again as it was; what has been in between is there
    /// still.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidSize`] if one of the sizes is zero, or too large.
    /// - [`Error::InvalidOptions`] if it is to be elsewhere.
    /// - [`Error::NotMapped`] if no mapping is exactly that.
    /// - [`Error::NotSupported`] if others see it, or could.
    /// - [`Error::NoRoom`] if it would have to be larger than it has ever been.
    /// - [`Error::LimitExceeded`].
    pub fn remap(
        &mut self,
        program: &mut Program,
        old: Range<usize>,
        new_len: usize,
        fixed: Option<usize>,
    ) -> Result<usize, Error> {
        let pages = |len: usize| len.checked_next_multiple_of(self.page_size).ok_or(Error::InvalidSize);
        if old.is_empty() || new_len == 0 {
            return Err(Error::InvalidSize);
        }
        let (old_size, new_size) = (pages(old.len())?, pages(new_len)?);
        if fixed.is_some_and(|addr| addr != old.start) {
            return Err(Error::InvalidOptions);
        }
        let old_end = old.start.checked_add(old_size).ok_or(Error::InvalidSize)?;
        let exact = program.exactly(&old).or_else(|| program.exactly(&(old.start..old_end)));
        let index = exact.ok_or(Error::NotMapped)?;
        let mapping = &program.mappings[index];
        if matches!(mapping.place, Place::Direct { .. }) || !self.is_own(mapping) {
            return Err(Error::NotSupported);
        }
        let Some((region, _)) = self.regions.find(old.start) else { return Err(Error::NotMapped) };
        if new_size > region.len() {
            return Err(Error::NoRoom);
        }
        if new_size > old_size {
            program.limits.check(Limit::AddressSpace, program.size, new_size - old_size)?;
        }
        let mut mapping = program.remove(index);
        mapping.range.end = old.start + new_size;
        program.insert(mapping);
        Ok(old.start)
    }
}
