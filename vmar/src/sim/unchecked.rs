// SPDX-License-Identifier: MPL-2.0

//! One operation under three checks of its right, for a test to compare the code that comes of them.
//!
//! The functions are not generic, so that the compiler makes code for each in this crate.

use core::ops::Range;

use aster_rights::Rights;

use super::Sim;
use crate::{
    error::Error,
    vmar::{FullVmar, Vmar},
};

/// Unmaps, with the right checked in the type.
#[inline(never)]
pub fn unmap_checked_by_type(vmar: &FullVmar<Sim>, range: Range<usize>) -> Result<(), Error> {
    vmar.unmap(range)
}

/// Unmaps, with no right checked.
#[inline(never)]
pub fn unmap_unchecked(vmar: &FullVmar<Sim>, range: Range<usize>) -> Result<(), Error> {
    vmar.inner.unmap(range)
}

/// Unmaps, with the right checked as a value.
///
/// # Errors
///
/// [`Error::AccessDenied`] without WRITE.
#[inline(never)]
pub fn unmap_checked_by_value(vmar: &Vmar<Sim>, range: Range<usize>) -> Result<(), Error> {
    if !vmar.rights().contains(Rights::WRITE) {
        return Err(Error::AccessDenied);
    }
    vmar.inner.unmap(range)
}
