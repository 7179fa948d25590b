// SPDX-License-Identifier: MPL-2.0

//! Rights that can be taken back.
//!
//! ```text
//!   Vmo ── grant ──► Grant ──► mappings, in any space, and those of forked spaces
//!            │                      │ each knows its lease
//!            └────► Revoker ──► Lease: the rights that were withdrawn
//! ```
//!
//! A [`Grant`] is a capability that is good for mapping and nothing else, so that its [`Revoker`] reaches all that was ever
//! made with it. When [`Revoker::revoke`] returns, no processor can use a right that it names through such a mapping any
//! more: an access is a segmentation fault, as after `mprotect`, and `protect` refuses to bring it back. What is mapped
//! with the grant later never has it.
//!
//! # How nothing is missed
//!
//! The right is withdrawn first; then each space on the object's list is visited under its lock. Whatever is not in its
//! space's mappings by the time of the visit looks at the lease afterwards, under the same lock: a mapping that is being
//! made, and those of a space that is being forked.

use alloc::sync::Arc;
use core::{
    fmt,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use aster_rights::{Rights, RightsOp};

use super::{Vmo, Vmo_};
use crate::{
    error::Error,
    fallible::try_arc,
    machine::{Machine, SleepLock},
};

/// A capability to map an object, which can be taken back.
pub struct Grant<M: Machine> {
    object: Arc<Vmo_<M>>,
    rights: Rights,
    lease: Arc<Lease>,
}

/// The other end of a [`Grant`]: it takes rights back.
pub struct Revoker<M: Machine> {
    object: Arc<Vmo_<M>>,
    lease: Arc<Lease>,
}

/// What the mappings made with a grant have in common.
#[derive(Debug)]
pub struct Lease {
    /// The bits of [`Rights`]. Changed under the lock of the object's mappers.
    withdrawn: AtomicU32,
    /// How many of the object's writers are of the lease, guarded by the same lock.
    writers: AtomicUsize,
}

impl<M: Machine, R: RightsOp> Vmo<M, R> {
    /// Makes a capability to map the object, with the same rights, and the means to take them back.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn grant(&self) -> Result<(Grant<M>, Revoker<M>), Error> {
        let lease = try_arc(Lease { withdrawn: AtomicU32::new(0), writers: AtomicUsize::new(0) })?;
        let grant = Grant { object: self.object.clone(), rights: self.rights(), lease: lease.clone() };
        Ok((grant, Revoker { object: self.object.clone(), lease }))
    }
}

impl<M: Machine> Grant<M> {
    /// Returns the rights that are left.
    pub fn rights(&self) -> Rights {
        self.rights - self.lease.withdrawn()
    }

    /// Gives up all rights but those in `rights`.
    pub fn limit(mut self, rights: Rights) -> Self {
        self.rights &= rights;
        self
    }

    /// Returns the object with the rights that are left, and the lease, for the framework.
    pub(crate) fn parts(&self) -> (Vmo<M>, Arc<Lease>) {
        (Vmo { object: self.object.clone(), rights: self.rights() }, self.lease.clone())
    }
}

impl<M: Machine> Clone for Grant<M> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), rights: self.rights, lease: self.lease.clone() }
    }
}

impl<M: Machine> Revoker<M> {
    /// Takes `rights` back, from every mapping that was made with the grant and from the grant itself.
    ///
    /// Without READ nothing is left of a mapping. A private mapping keeps WRITE: what it writes is its own.
    ///
    /// Takes the lock of each space that maps the object, one after the other.
    pub fn revoke(&self, rights: Rights) {
        {
            let mut mappers = self.object.mappers.write();
            let old = Rights::from_bits_truncate(self.lease.withdrawn.load(Relaxed));
            self.lease.withdrawn.store((old | rights).bits(), Relaxed);
            if !old.contains(Rights::WRITE) && rights.contains(Rights::WRITE) {
                mappers.forget_writers(self.lease.writers.load(Relaxed));
            }
        }
        self.object.visit_mappers(|space| space.obey(&self.lease));
    }

    /// Returns the rights that were taken back.
    pub fn revoked(&self) -> Rights {
        self.lease.withdrawn()
    }
}

impl Lease {
    /// Returns the rights that were taken back.
    pub(crate) fn withdrawn(&self) -> Rights {
        Rights::from_bits_truncate(self.withdrawn.load(Relaxed))
    }

    /// Whether those that may write under the lease count as the object's writers. Asked under the lock of the object's mappers.
    pub(super) fn allows_writers(&self) -> bool {
        !self.withdrawn().contains(Rights::WRITE)
    }

    /// Notes a writer more, or with -1 one less, under the same lock.
    pub(super) fn count_writer(&self, change: isize) {
        self.writers.store(self.writers.load(Relaxed).saturating_add_signed(change), Relaxed);
    }
}

impl<M: Machine> fmt::Debug for Grant<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("object", &self.object).field("rights", &self.rights()).finish()
    }
}

impl<M: Machine> fmt::Debug for Revoker<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker").field("object", &self.object).field("revoked", &self.revoked()).finish()
    }
}
