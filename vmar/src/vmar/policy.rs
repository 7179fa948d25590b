// SPDX-License-Identifier: MPL-2.0

//! What a space may refuse beyond what rights and limits do, and what it notes.
//!
//! None of it is on by default: a Linux-like kernel lets programs do all of this.

use core::ops::Range;

use aster_rights::{RightsOp, TRightSet, TRights, require};

use super::{Vmar, Vmar_, mappings::Mappings};
use crate::{
    error::Error,
    machine::{Machine, SleepLock},
    mapping::{MappingFlags, Sharing},
    perms::VmPerms,
    placement::Placement,
};

/// Whether memory can be written and executed at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteExec {
    /// It can.
    #[default]
    Allowed,
    /// It cannot: neither be mapped so, nor be made so.
    Refused,
}

/// Whether page 0 is ever given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageZero {
    /// If the machine lets programs use it.
    #[default]
    AsOthers,
    /// Not even to whoever insists on it.
    Never,
}

/// Whether a space notes of its mappings that memory is promised to them.
///
/// A private mapping that can be written may come to want as much memory as it is large. Whoever bounds what all spaces together may
/// want (`/proc/sys/vm/overcommit_memory`) adds up what [`promised`](Vmar::promised) tells of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promises {
    /// It does not.
    #[default]
    Forgotten,
    /// It does, by [`MappingFlags::PROMISED`]: from when a private mapping can first be written until it goes, unless no memory is
    /// set aside for it. So it is in Linux (`VM_ACCOUNT`), where a mapping that could be written once is not one with another that
    /// never could.
    Kept,
}

impl Promises {
    /// Returns the flag of a mapping with these traits.
    #[inline(always)]
    pub(crate) fn to(self, access: VmPerms, sharing: Sharing, flags: MappingFlags) -> MappingFlags {
        let is_promised = self == Self::Kept
            && sharing == Sharing::Private
            && access.contains(VmPerms::WRITE)
            && !flags.contains(MappingFlags::NO_RESERVE);
        if is_promised { MappingFlags::PROMISED } else { MappingFlags::empty() }
    }
}

/// What a space refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Memory that can be written and executed.
    pub write_exec: WriteExec,
    /// How many pages are kept free on each side of what is mapped.
    pub guard_pages: usize,
    /// Page 0.
    pub page_zero: PageZero,
    /// What it notes of memory that is promised.
    pub promises: Promises,
}

impl<M: Machine, R: RightsOp> Vmar<M, R> {
    /// Returns the bytes of all mappings that memory is promised to, those of child regions among them. They are added up when
    /// asked for.
    pub fn promised(&self) -> usize {
        self.inner.promised()
    }
}

impl<M: Machine> Vmar_<M> {
    fn promised(&self) -> usize {
        let mappings = self.mappings.read();
        let own = mappings.iter().filter(|(_, mapping)| mapping.flags().contains(MappingFlags::PROMISED));
        let own: usize = own.map(|(range, _)| range.len()).sum();
        own + mappings.regions().map(|region| region.promised()).sum::<usize>()
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Sets what the space, or the region, refuses from now on. What is there stays; forked spaces and new regions refuse the same.
    #[require(R > Read | Write | Exec)]
    pub fn set_policy(&self, policy: Policy) {
        self.inner.mappings.write().policy = InForce::of::<M>(policy);
    }
}

/// A policy as it is asked for again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InForce {
    /// How much is kept free on each side, in bytes.
    pub(super) guard: usize,
    /// Nothing lies below this address.
    lowest: usize,
    /// Whether memory cannot be written and executed at once.
    refuses_both: bool,
    promises: Promises,
}

impl InForce {
    fn of<M: Machine>(policy: Policy) -> Self {
        Self {
            guard: policy.guard_pages.saturating_mul(M::PAGE_SIZE),
            lowest: if policy.page_zero == PageZero::Never { M::PAGE_SIZE } else { 0 },
            refuses_both: policy.write_exec == WriteExec::Refused,
            promises: policy.promises,
        }
    }

    /// Returns whether no memory may allow `access`.
    #[inline(always)]
    pub(super) fn refuses(&self, access: VmPerms) -> bool {
        self.refuses_both && access.contains(VmPerms::WRITE | VmPerms::EXEC)
    }

    /// Returns what is noted of memory that is promised.
    #[inline(always)]
    pub(super) fn promises(&self) -> Promises {
        self.promises
    }

    /// Returns the flag of a new mapping that allows `perms`.
    #[inline(always)]
    pub(super) fn promise(&self, perms: VmPerms, sharing: Sharing, flags: MappingFlags) -> MappingFlags {
        self.promises.to(perms, sharing, flags)
    }

    /// Returns whether mappings can be anywhere.
    #[inline(always)]
    pub(super) fn is_indifferent(&self) -> bool {
        self.guard | self.lowest == 0
    }
}

impl<M: Machine> Mappings<M> {
    /// Finds the range for `size` bytes as [`place`](Self::place) does, guard pages and page 0 left out.
    ///
    /// # Errors
    ///
    /// Those of [`place`](Self::place); [`Error::Occupied`] also for an address that was insisted on with a neighbour too near.
    #[cold]
    #[inline(never)]
    pub(super) fn place_by_policy(
        &self,
        size: usize,
        align: usize,
        placement: Placement,
        user: &Range<usize>,
    ) -> Result<Range<usize>, Error> {
        let InForce { guard, lowest, .. } = self.policy;
        let user = &(user.start.max(lowest)..user.end);
        let guarded = |range: Range<usize>| {
            let sides =
                [range.start.saturating_sub(guard)..range.start, range.end..range.end.saturating_add(guard)];
            let is_clear = sides.iter().all(|side| side.is_empty() || !self.map.overlaps(side));
            if is_clear { Ok(range) } else { Err(Error::Occupied) }
        };
        match placement {
            Placement::Exactly(_) | Placement::Apart(..) | Placement::Replacing(_) => {
                return guarded(self.place_aside(size, align, placement, user)?);
            }
            Placement::Hint(addr) if addr.is_multiple_of(align) && addr >= self.window.floor => {
                let found = self.place_aside(size, align, Placement::Exactly(addr), user);
                if let Ok(range) = found.and_then(guarded) {
                    return Ok(range);
                }
            }
            Placement::Hint(addr) if !addr.is_multiple_of(M::PAGE_SIZE) => {
                return Err(Error::InvalidAlignment);
            }
            _ => {}
        }
        let placement = match placement {
            Placement::Below(_) => placement,
            Placement::Between { from, below, .. } => Placement::Between { hint: None, from, below },
            _ => Placement::Anywhere,
        };
        // Room for the guards, and to align what lies between them.
        let slack = (align - M::PAGE_SIZE).checked_add(guard.checked_mul(2).ok_or(Error::NoRoom)?);
        let room = slack.and_then(|slack| slack.checked_add(size)).ok_or(Error::NoRoom)?;
        let found = self.place_aside(room, M::PAGE_SIZE, placement, user)?;
        let start = (found.start + guard).next_multiple_of(align);
        Ok(start..start + size)
    }

    /// A second copy of the search, so that the first stays where it is fast.
    #[inline(never)]
    fn place_aside(
        &self,
        size: usize,
        align: usize,
        placement: Placement,
        user: &Range<usize>,
    ) -> Result<Range<usize>, Error> {
        self.place_anyhow(size, align, placement, user)
    }
}

#[cfg(test)]
mod tests;
