// SPDX-License-Identifier: MPL-2.0

//! The capability to an address space, and the address space behind it.
//!
//! ```text
//!   Vmar<M, R> ──Arc──► Vmar_<M> { mappings: Lock<Mappings>, range, ceiling } ──Arc──► Shared { machine, space, rss, limits }
//!      rights                              │                                                              │
//!                     IntervalMap<VmMapping, or a child region: Arc<Vmar_>>                           page table
//! ```
//!
//! A [`Vmar_`] is a region: the root, which is all of a space, or a child within another ([`region`]).
//!
//! Every operation is a method of [`Vmar`] that names the rights it needs, and stands in the file named after its verb,
//! with the unchecked work it does on [`Vmar_`].
//!
//! # Locking
//!
//! `mappings` first, a parent's before its child's, then what belongs to an object, then a page-table transaction. What changes
//! the mappings holds the lock for writing; a fault holds it for reading, and so sees an operation either whole or not at all.

pub(crate) mod access;
pub mod advise;
mod backup;
mod cut;
pub mod discard;
pub(crate) mod edit;
pub(crate) mod entries;
pub mod fault;
mod fork;
mod grow;
pub mod history;
mod label;
pub mod lock;
pub mod map;
mod mappings;
mod place;
pub mod policy;
pub mod populate;
mod protect;
pub mod query;
pub mod region;
pub mod remap;
pub mod resident;
mod revoke;
mod rights;
mod seal;
pub mod share;
mod shared;
#[cfg(test)]
mod testing;
mod unmap;
pub mod watch;
mod zap;
mod zero;

use alloc::sync::Arc;
use core::{
    fmt,
    ops::{Deref, Range},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use aster_rights::{FullRights, Rights, RightsOp, TRightSet, TRights, require};

pub use self::{
    fork::ForkPolicy, map::VmarMapOptions, mappings::Mappings, region::RegionOptions, shared::Shared,
};
use crate::{
    error::Error,
    fallible,
    limits::{Limits, Usage},
    machine::{AddressSpace, Machine, SleepLock},
    mapping::MappingFlags,
    placement::Window,
    rss::Rss,
};

/// A capability to an address space, or to a region of one.
///
/// `R` says what its holder may do: [`Rights`], known at run time, or a [`TRightSet`], known to the compiler. Only the
/// latter has operations; [`require`](Self::require) leads from one to the other.
pub struct Vmar<M: Machine, R = Rights> {
    pub(crate) inner: Arc<Vmar_<M>>,
    pub(crate) rights: R,
}

/// A capability with every right.
pub type FullVmar<M> = Vmar<M, TRightSet<FullRights>>;

/// A region of an address space; the root is all of it.
pub struct Vmar_<M: Machine> {
    shared: Arc<Shared<M>>,
    pub(crate) mappings: M::Lock<Mappings<M>>,
    /// The addresses (bytes) that are the region's.
    pub(crate) range: Range<usize>,
    /// The most that the region allows anybody.
    pub(crate) ceiling: Rights,
    /// Where in the space it is; nobody is the root's parent.
    lineage: region::Lineage<M>,
    /// How many child regions it has.
    children: AtomicUsize,
    write_front: fault::WriteFront,
}

impl<M: Machine> Deref for Vmar_<M> {
    type Target = Shared<M>;

    fn deref(&self) -> &Shared<M> {
        &self.shared
    }
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

    /// Returns how much it holds, its child regions included.
    pub fn usage(&self) -> Usage {
        self.inner.usage()
    }

    /// Returns how many pages of the space are resident, those of all regions.
    pub fn rss(&self) -> &Rss<M> {
        &self.inner.rss
    }

    /// Returns the machine that the space is of.
    pub fn machine(&self) -> &M {
        &self.inner.machine
    }

    /// Returns the addresses (bytes) that a program can use: those of the region.
    pub fn user_range(&self) -> Range<usize> {
        self.inner.range.clone()
    }

    /// Returns whether both are capabilities to the same space, or regions of it.
    pub fn is_same_space<S>(&self, other: &Vmar<M, S>) -> bool {
        Arc::ptr_eq(&self.inner.shared, &other.inner.shared)
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
        let range = space.user_range();
        let mappings = Mappings::new(Window::covering(range.clone(), M::PAGE_SIZE));
        let shared = fallible::try_arc(Shared::new(machine, space, rss, limits))?;
        Self::over(shared, range, mappings, ceiling, region::Lineage::root())
    }

    #[inline(always)]
    fn over(
        shared: Arc<Shared<M>>,
        range: Range<usize>,
        mappings: Mappings<M>,
        ceiling: Rights,
        lineage: region::Lineage<M>,
    ) -> Result<Arc<Self>, Error> {
        Ok(fallible::try_arc(Self {
            shared,
            mappings: M::Lock::new(mappings),
            range,
            ceiling,
            lineage,
            children: AtomicUsize::new(0),
            write_front: Default::default(),
        })?)
    }

    /// Checks that a range (bytes) is made of whole pages, not empty and within the region.
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
        if range.start < self.range.start || range.end > self.range.end {
            return Err(Error::OutOfRange);
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Vmar_<M> {
    fn drop(&mut self) {
        // A space lives as long as the capabilities to all of it: those to its regions do not keep it.
        if *self.children.get_mut() != 0 {
            self.end_children();
        }
        let borrowed = self.leave_backup();
        self.shared.borrowed_at_end.fetch_add(borrowed, Relaxed);
    }
}

impl<M: Machine, R: RightsOp> fmt::Debug for Vmar<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmar").field("rights", &self.rights.rights()).finish_non_exhaustive()
    }
}
