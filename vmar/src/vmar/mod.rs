// SPDX-License-Identifier: MPL-2.0

//! The capability to an address space, and the address space behind it.
//!
//! ```text
//!   Vmar<M, R> ──Arc──► Vmar_<M> { machine, mappings: Lock<Mappings>, space, rss, limits }
//!      rights                              │                          │
//!                                 IntervalMap<VmMapping>         page table
//! ```
//!
//! Every operation is a method of [`Vmar`] that names the rights it needs, and stands in the file named after its verb,
//! with the unchecked work it does on [`Vmar_`].
//!
//! # Locking
//!
//! `mappings` first, then what belongs to an object, then a page-table transaction. What changes the mappings holds the
//! lock for writing; a fault holds it for reading, and so sees an operation either whole or not at all.

pub(crate) mod access;
pub mod advise;
mod backup;
pub mod discard;
pub(crate) mod edit;
pub(crate) mod entries;
pub mod fault;
pub mod fork;
mod grow;
pub mod lock;
pub mod map;
mod mappings;
mod place;
pub mod populate;
mod protect;
pub mod query;
pub mod remap;
pub mod resident;
mod revoke;
mod rights;
#[cfg(test)]
mod testing;
mod unmap;
mod zap;

use alloc::sync::Arc;
use core::{fmt, ops::Range};

use aster_rights::{FullRights, Rights, RightsOp, TRightSet, TRights, require};

pub use self::{fork::ForkPolicy, map::VmarMapOptions, mappings::Mappings};
use crate::{
    error::Error,
    fallible,
    limits::{Limits, Usage},
    machine::{AddressSpace, Machine, SleepLock},
    mapping::MappingFlags,
    placement::Window,
    rss::Rss,
};

/// A capability to an address space.
///
/// `R` says what its holder may do: [`Rights`], known at run time, or a [`TRightSet`], known to the compiler. Only the
/// latter has operations; [`require`](Self::require) leads from one to the other.
pub struct Vmar<M: Machine, R = Rights> {
    pub(crate) inner: Arc<Vmar_<M>>,
    pub(crate) rights: R,
}

/// A capability with every right.
pub type FullVmar<M> = Vmar<M, TRightSet<FullRights>>;

/// An address space.
pub struct Vmar_<M: Machine> {
    pub(crate) machine: M,
    pub(crate) mappings: M::Lock<Mappings<M>>,
    pub(crate) space: M::Space,
    pub(crate) rss: Rss<M>,
    pub(crate) limits: Limits,
    /// The most that the space allows anybody.
    pub(crate) ceiling: Rights,
    write_front: fault::WriteFront,
}

impl<M: Machine> Vmar<M, TRightSet<FullRights>> {
    /// Makes an empty address space and the first capability to it, with every right.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new(machine: M, limits: Limits) -> Result<Self, Error> {
        Self::with_ceiling(machine, limits, Rights::all())
    }

    /// Makes an empty address space in which no mapping may ever do what `ceiling` lacks, whatever the rights of the
    /// capability that it is made with.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn with_ceiling(machine: M, limits: Limits, ceiling: Rights) -> Result<Self, Error> {
        Ok(Self { inner: Vmar_::new(machine, limits, ceiling)?, rights: TRightSet::new() })
    }
}

impl<M: Machine, R: RightsOp> Vmar<M, R> {
    /// Returns the bounds on what the space may hold.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Returns how much the space holds.
    pub fn usage(&self) -> Usage {
        self.inner.mappings.read().usage()
    }

    /// Returns how many of its pages are resident.
    pub fn rss(&self) -> &Rss<M> {
        &self.inner.rss
    }

    /// Returns the machine that the space is of.
    pub fn machine(&self) -> &M {
        &self.inner.machine
    }

    /// Returns the addresses (bytes) that a program can use.
    pub fn user_range(&self) -> Range<usize> {
        self.inner.space.user_range()
    }

    /// Returns whether both are capabilities to the same space.
    pub fn is_same_space<S>(&self, other: &Vmar<M, S>) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns where mappings go that may go anywhere.
    pub fn window(&self) -> Window {
        self.inner.mappings.read().window()
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Returns the raw page table, for a CPU to be run on it.
    #[require(R > Read | Write | Exec)]
    pub fn space(&self) -> &M::Space {
        &self.inner.space
    }

    /// Sets where mappings go that may go anywhere: the kernel's randomization and the layout of the stack.
    #[require(R > Write)]
    pub fn set_window(&self, window: Window) {
        self.inner.mappings.write().set_window(window);
    }

    /// Returns the flags that each new mapping gets.
    #[require(R > Read)]
    pub fn default_flags(&self) -> MappingFlags {
        self.inner.mappings.read().default_flags()
    }

    /// Sets how the space is forked, and those that are forked from it.
    #[require(R > Write)]
    pub fn set_fork_policy(&self, policy: ForkPolicy) {
        self.inner.mappings.write().fork_policy = policy;
    }

    /// Sets the flags that each new mapping gets: `LOCKED` and `LOCK_ON_FAULT` (`mlockall(MCL_FUTURE)`).
    #[require(R > Write)]
    pub fn set_default_flags(&self, flags: MappingFlags) {
        self.inner.mappings.write().set_default_flags(flags);
    }
}

impl<M: Machine> Vmar_<M> {
    /// Makes an empty address space.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn new(machine: M, limits: Limits, ceiling: Rights) -> Result<Arc<Self>, Error> {
        let space = machine.new_space()?;
        let rss = Rss::new(&machine)?;
        let window = Window::covering(space.user_range(), M::PAGE_SIZE);
        let mappings = M::Lock::new(Mappings::new(window));
        Ok(fallible::try_arc(Self {
            machine,
            mappings,
            space,
            rss,
            limits,
            ceiling,
            write_front: Default::default(),
        })?)
    }

    /// Checks that a range (bytes) is made of whole pages, not empty and within the space.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`], in this order.
    pub(crate) fn check_range(&self, range: &Range<usize>) -> Result<(), Error> {
        if !range.start.is_multiple_of(M::PAGE_SIZE) || !range.end.is_multiple_of(M::PAGE_SIZE) {
            return Err(Error::InvalidAlignment);
        }
        if range.start >= range.end {
            return Err(Error::InvalidSize);
        }
        let user = self.space.user_range();
        if range.start < user.start || range.end > user.end {
            return Err(Error::OutOfRange);
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Vmar_<M> {
    fn drop(&mut self) {
        let borrowed = self.leave_backup();
        self.space.retire(self.rss.total_pages().saturating_sub(borrowed));
    }
}

impl<M: Machine, R: RightsOp> fmt::Debug for Vmar<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmar").field("rights", &self.rights.rights()).finish_non_exhaustive()
    }
}
