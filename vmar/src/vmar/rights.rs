// SPDX-License-Identifier: MPL-2.0

//! What a capability to an address space allows, and how one is derived from another: rights only shrink.
//!
//! | from | to | by | refused |
//! | --- | --- | --- | --- |
//! | values | values | [`dup`](Vmar::<M, Rights>::dup), [`restrict`](Vmar::<M, Rights>::restrict) | [`Error::AccessDenied`] |
//! | values or types | types | [`require`](Vmar::require) | [`Error::AccessDenied`] |
//! | types | types | `dup`, `restrict` | does not compile |
//! | types or values | values | [`to_dynamic`](Vmar::to_dynamic) | never |

use aster_rights::{Rights, RightsOp, TRightSet, TRights, require};

use super::Vmar;
use crate::{error::Error, machine::Machine};

/// What every capability can do, however its rights are known.
impl<M: Machine, R: RightsOp> Vmar<M, R> {
    /// Returns the rights that it holds.
    pub fn rights(&self) -> Rights {
        self.rights.rights()
    }

    /// Turns it into one whose rights are values.
    pub fn to_dynamic(self) -> Vmar<M, Rights> {
        Vmar { rights: self.rights.rights(), inner: self.inner }
    }

    /// Turns it into one whose rights are just those of the set `S`, known to the compiler.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`] if one of them is lacking.
    pub fn require<S: TRights>(self) -> Result<Vmar<M, TRightSet<S>>, Error> {
        let rights = self.rights.rights().require().map_err(|_| Error::AccessDenied)?;
        Ok(Vmar { rights, inner: self.inner })
    }
}

impl<M: Machine> Vmar<M, Rights> {
    /// Makes a second capability with the same rights.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`] without DUP.
    pub fn dup(&self) -> Result<Self, Error> {
        if !self.rights.contains(Rights::DUP) {
            return Err(Error::AccessDenied);
        }
        Ok(Self { inner: self.inner.clone(), rights: self.rights })
    }

    /// Gives up all rights but `rights`.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`] if one of them is lacking: rights never grow.
    pub fn restrict(self, rights: Rights) -> Result<Self, Error> {
        if !self.rights.contains(rights) {
            return Err(Error::AccessDenied);
        }
        Ok(Self { inner: self.inner, rights })
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes a second capability with the same rights.
    #[require(R > Dup)]
    pub fn dup(&self) -> Self {
        Self { inner: self.inner.clone(), rights: self.rights }
    }

    /// Gives up all rights but those of the set `S`.
    #[require(R >= S)]
    pub fn restrict<S: TRights>(self) -> Vmar<M, TRightSet<S>> {
        Vmar { inner: self.inner, rights: self.rights.restrict() }
    }
}

#[cfg(test)]
mod tests;
