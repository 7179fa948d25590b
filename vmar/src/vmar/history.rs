// SPDX-License-Identifier: MPL-2.0

//! What was done to pages since somebody asked: which were accessed, and which were written (`/proc/PID/clear_refs` and the
//! soft-dirty bit of `pagemap` in Linux).
//!
//! The entries of the page table tell. To ask is to take a flag from all of them, and to look later which have it again:
//!
//! | | the flag | who sets it again |
//! | --- | --- | --- |
//! | accessed | ACCESSED | the CPU |
//! | written | DIRTY, and WRITE with it | the fault that misses WRITE |
//!
//! # Invariants
//!
//! - In a mapping that is [tracked](MappingFlags::TRACKED) no entry has WRITE without DIRTY: no write is missed by a change of an
//!   entry that comes between. Nothing is done there ahead of a write.
//! - A mapping that is not tracked counts as written, all of it: it is newer than the question. So does one that such a mapping has
//!   become a part of.
//! - A child of a fork is tracked as its parent is, and what its parent has written since counts as written there too.
//! - A private entry that lacks ACCESSED or DIRTY would mean something else in a backup. A space that was asked
//!   borrows nothing, and is forked by copying from then on, whatever its policy is.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Mappings, Vmar, Vmar_};
use crate::{
    error::Error,
    machine::{AddressSpace, Cursor, Machine, PageFlags},
    mapping::{MappedMemory, MappingFlags, VmMapping},
};

/// Of which mappings something is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those of anonymous memory.
    Anonymous,
    /// Those of objects.
    Objects,
}

impl Which {
    fn has<M: Machine>(self, mapping: &VmMapping<M>) -> bool {
        match mapping.memory() {
            MappedMemory::Anonymous => self != Self::Objects,
            MappedMemory::Vmo { .. } => self != Self::Anonymous,
            MappedMemory::Device { .. } | MappedMemory::Region(_) => false,
        }
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Forgets which pages were accessed.
    ///
    /// # Errors
    ///
    /// - [`Error::NotSupported`] of a region: it is no space.
    /// - [`Error::OutOfMemory`]; nothing that can be told has changed then.
    #[require(R > Read | Write)]
    pub fn forget_accesses(&self, which: Which) -> Result<(), Error> {
        self.inner.ask_anew(|space, mappings| {
            space.take_flags(mappings, PageFlags::ACCESSED, |mapping| which.has(mapping));
        })
    }

    /// Forgets which pages were written, and tracks from now on what is.
    ///
    /// # Errors
    ///
    /// - [`Error::NotSupported`] of a region: it is no space.
    /// - [`Error::OutOfMemory`]; nothing that can be told has changed then.
    #[require(R > Read | Write)]
    pub fn track_writes(&self) -> Result<(), Error> {
        self.inner.ask_anew(|space, mappings| {
            let range = space.space.user_range();
            space
                .take_flags(mappings, PageFlags::WRITE | PageFlags::DIRTY, |mapping| Which::All.has(mapping));
            mappings.track(&range);
        })
    }
}

impl<M: Machine> Vmar_<M> {
    /// Runs `ask` on all mappings, those of child regions included, while nobody faults and nothing is borrowed.
    fn ask_anew(&self, mut ask: impl FnMut(&Self, &mut Mappings<M>)) -> Result<(), Error> {
        if !self.is_root() {
            return Err(Error::NotSupported);
        }
        let ended = self.with_all_locked(|all| {
            let Some(root) = all.first_mut() else { unreachable!("a space has a root") };
            self.reunite_locked(root);
            self.show_all(root, &self.space.user_range())?;
            let ended = root.borrow.take();
            root.is_asked = true;
            all.iter_mut().for_each(|mappings| ask(self, mappings));
            Ok::<_, Error>(ended)
        })??;
        if let Some(borrow) = ended {
            borrow.end();
        }
        Ok(())
    }

    /// Takes `lost` from the entries of the mappings that `picks` tells.
    fn take_flags(&self, mappings: &Mappings<M>, lost: PageFlags, picks: impl Fn(&VmMapping<M>) -> bool) {
        let picked = mappings.iter().filter(|(_, mapping)| picks(mapping));
        for span in picked.filter_map(|(range, mapping)| mapping.resident_span(&range)) {
            let Range { end, .. } = span;
            self.transact(span, |cursor| cursor.narrow(end, lost));
        }
    }
}

impl<M: Machine> VmMapping<M> {
    /// Returns whether entries tell which of its pages were written.
    pub(crate) fn is_tracked(&self) -> bool {
        self.flags().contains(MappingFlags::TRACKED)
    }

    /// Returns whether `next` would [continue](Self::continues_with) it if both were tracked or neither was.
    pub(crate) fn would_continue_with(&self, length: usize, next: &Self) -> bool {
        let copy = |mapping: &Self| {
            let mut copy = mapping.copy_at(0);
            copy.set_flags(mapping.flags() - MappingFlags::TRACKED);
            copy
        };
        copy(self).continues_with(length, &copy(next))
    }
}

#[cfg(test)]
mod tests;
