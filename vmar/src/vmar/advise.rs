// SPDX-License-Identifier: MPL-2.0

//! Advice that becomes a trait of mappings: those values of `madvise` that change no page.

use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{Vmar, Vmar_};
use crate::{
    error::Error,
    machine::Machine,
    mapping::{MappedMemory, MappingFlags, VmMapping},
};

/// Advice about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing is known of how it will be accessed (`MADV_NORMAL`).
    Normal,
    /// It will be accessed in no order (`MADV_RANDOM`).
    Random,
    /// It will be accessed in order (`MADV_SEQUENTIAL`).
    Sequential,
    /// A forked child does not get it (`MADV_DONTFORK`).
    DontFork,
    /// A forked child gets it (`MADV_DOFORK`).
    DoFork,
    /// A forked child finds zeros in it (`MADV_WIPEONFORK`).
    WipeOnFork,
    /// A forked child finds its content in it (`MADV_KEEPONFORK`).
    KeepOnFork,
    /// It is left out of core dumps (`MADV_DONTDUMP`).
    DontDump,
    /// It is part of core dumps (`MADV_DODUMP`).
    DoDump,
    /// Its pages may be made one with others of the same content (`MADV_MERGEABLE`): a mark on private memory.
    Mergeable,
    /// They may not (`MADV_UNMERGEABLE`).
    Unmergeable,
    /// Large pages are wanted (`MADV_HUGEPAGE`): a mark.
    HugePages,
    /// Large pages are not wanted (`MADV_NOHUGEPAGE`): a mark.
    NoHugePages,
}

impl Advice {
    /// Returns the flags that it clears, and those that it sets.
    const fn effect(self) -> (MappingFlags, MappingFlags) {
        const ORDER: MappingFlags = MappingFlags::SEQUENTIAL.union(MappingFlags::RANDOM);
        const NONE: MappingFlags = MappingFlags::empty();
        match self {
            Self::Normal => (ORDER, NONE),
            Self::Random => (ORDER, MappingFlags::RANDOM),
            Self::Sequential => (ORDER, MappingFlags::SEQUENTIAL),
            Self::DontFork => (NONE, MappingFlags::DONT_FORK),
            Self::DoFork => (MappingFlags::DONT_FORK, NONE),
            Self::WipeOnFork => (NONE, MappingFlags::WIPE_ON_FORK),
            Self::KeepOnFork => (MappingFlags::WIPE_ON_FORK, NONE),
            Self::DontDump => (NONE, MappingFlags::DONT_DUMP),
            Self::DoDump => (MappingFlags::DONT_DUMP, NONE),
            Self::Mergeable => (NONE, MappingFlags::MERGEABLE),
            Self::Unmergeable => (MappingFlags::MERGEABLE, NONE),
            Self::HugePages => (MappingFlags::NO_HUGE_PAGES, MappingFlags::HUGE_PAGES),
            Self::NoHugePages => (MappingFlags::HUGE_PAGES, MappingFlags::NO_HUGE_PAGES),
        }
    }

    /// Returns whether it is passed over where a mapping is, without an error.
    fn spares<M: Machine>(self, mapping: &VmMapping<M>) -> bool {
        let is_device = matches!(mapping.memory(), MappedMemory::Device { .. });
        self == Self::Mergeable && (mapping.is_shared() || is_device)
    }

    /// Returns whether it empties a mapping for a child.
    fn empties_for_child(self) -> bool {
        matches!(self, Self::DontFork | Self::WipeOnFork)
    }

    /// Returns whether it makes sense for a mapping: zeros for a child only where memory is anonymous, and neither
    /// children nor dumps get device memory back once it is kept from them.
    fn suits<M: Machine>(self, mapping: &VmMapping<M>) -> bool {
        match self {
            Self::WipeOnFork => matches!(mapping.memory(), MappedMemory::Anonymous),
            Self::DoFork | Self::DoDump => !matches!(mapping.memory(), MappedMemory::Device { .. }),
            _ => true,
        }
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Notes advice about the mappings of `range` (bytes, page-aligned).
    ///
    /// Like `madvise` in Linux it passes over holes, and tells of them afterwards.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if there are holes; what is mapped **is changed**.
    /// - [`Error::InvalidOptions`] at the first mapping that the advice does not suit; what lies before it **is
    ///   changed**.
    /// - [`Error::Sealed`] if a child would find something else where memory is sealed and cannot be written.
    /// - [`Error::LimitExceeded`] if mappings would be split and there are too many.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read)]
    pub fn advise(&self, range: Range<usize>, advice: Advice) -> Result<(), Error> {
        self.inner.advise(range, advice)
    }
}

impl<M: Machine> Vmar_<M> {
    fn advise(&self, range: Range<usize>, advice: Advice) -> Result<(), Error> {
        if self.has_children()
            && let Some(result) = self.inside(&range, |region| region.advise(range.clone(), advice))
        {
            return result;
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        if advice.empties_for_child() {
            self.check_discardable(&mappings, &range)?;
        }
        let mut outcome = Ok(());
        let mut end = range.start;
        for (found, mapping) in mappings.range(range.clone()) {
            if !advice.suits(mapping) {
                outcome = Err(Error::InvalidOptions);
                break;
            }
            if found.start > end {
                outcome = Err(Error::NotMapped);
            }
            end = found.end.min(range.end);
        }
        if end < range.end && outcome.is_ok() {
            outcome = Err(Error::NotMapped);
        }
        let suited = range.start..end;
        if !suited.is_empty() {
            self.reserve_splits(&mut mappings, &suited)?;
            let (cleared, set) = advice.effect();
            mappings.change(&suited, |_, mapping| {
                if !advice.spares(mapping) {
                    mapping.set_flags((mapping.flags() - cleared) | set);
                }
            });
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
