// SPDX-License-Identifier: MPL-2.0

//! Who counts the pages that an object has, and may refuse one: a file system that is full, say.
//!
//! ```text
//!   fault, write, commit ──► charge ──► the page goes into the object's map
//!                                └ refused: the fault is a bus error, the call fails; the object is as it was
//!   resize, decommit, the object's end ──► discharge
//! ```
//!
//! At any time an account has charged for a page of each of its objects as many times as they have pages.

use alloc::sync::Arc;
use core::fmt::Debug;

use crate::error::Error;

/// Counts pages of objects.
///
/// Asked with locks of spaces and objects held: it waits for nothing.
pub trait Account: Debug + Send + Sync {
    /// Counts a page that an object is about to be given.
    ///
    /// # Errors
    ///
    /// Any: the object is not given the page. [`Error::NoSpace`] if there is no room for it.
    fn charge(&self) -> Result<(), Error>;

    /// No longer counts `pages` pages, which have left an object.
    fn discharge(&self, pages: usize);
}

/// A page that was charged for; no longer, unless it is [kept](Self::keep).
#[must_use = "a page that is not kept is not counted"]
pub(super) struct Charge<'a>(Option<&'a dyn Account>);

impl<'a> Charge<'a> {
    /// Charges for a page, if anybody counts it.
    pub(super) fn new(account: Option<&'a Arc<dyn Account>>) -> Result<Self, Error> {
        let account = account.map(|account| &**account);
        if let Some(account) = account {
            account.charge()?;
        }
        Ok(Self(account))
    }

    /// Notes that the object has got the page.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.0 {
            account.discharge(1);
        }
    }
}

#[cfg(test)]
mod tests;
