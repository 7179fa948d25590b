// SPDX-License-Identifier: MPL-2.0

//! Fork: a second space that holds what the first does.
//!
//! | memory | the child gets |
//! | --- | --- |
//! | private pages (anonymous, copies of object pages) | the same pages until one of the two writes: whoever does gets a copy |
//! | pages of an object, zeros | nothing: it faults them in itself |
//! | device memory | its entries |
//! | `WIPE_ON_FORK` | the mapping, empty |
//! | `DONT_FORK` | not even the mapping |
//!
//! Memory locks are not inherited. There are two ways to share the pages, told apart by the [`ForkPolicy`]: to [copy] the
//! entries of the page table one by one, or to lend them from a [backup](super::backup), whose cost does not depend on how many
//! there are.
//!
//! The parent's mappings are locked for writing throughout, so that no fault in it can come between: what the child sees
//! is the parent's memory at one point of time.

mod copy;

use alloc::sync::{Arc, Weak};
use core::{ops::BitOrAssign, sync::atomic::Ordering::Relaxed};

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    backup::{Backup, Borrow, Side},
    entries::resident_span,
    mappings::Mappings,
};
use crate::{
    error::{Error, OutOfMemory},
    machine::{AddressSpace, Machine, PageFlags, SleepLock},
    mapping::{MappedMemory, MappingFlags, Sharing, VmMapping},
    object::Mapper,
    rss::RssKind,
};

/// How a fork shares the pages of the parent with the child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForkPolicy {
    /// Whichever is less work: small spaces are copied.
    #[default]
    BySize,
    /// The child's page table is made a copy of the parent's.
    Copy,
    /// Both borrow from a backup, where that can be: not while the parent still borrows from another one, and not with device
    /// memory, which is mapped eagerly.
    Backup,
}

impl ForkPolicy {
    /// From so many resident private pages on a backup is less work, by measurement: what parent and child touch until the
    /// child ends or executes another program is faulted in again.
    const LARGE: usize = 32;

    /// Returns whether a space with so many resident private pages is forked through a backup.
    const fn is_through_backup(self, pages: usize) -> bool {
        match self {
            Self::BySize => pages >= Self::LARGE,
            Self::Copy => false,
            Self::Backup => true,
        }
    }
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes a second space that holds what this one does; the limits are copied too. What is in child regions goes to the new
    /// space itself, which has none.
    ///
    /// # Errors
    ///
    /// - [`Error::NotSupported`] of a region: it is no space.
    /// - [`Error::OutOfMemory`]; nothing has changed then.
    #[require(R > Dup | Read)]
    pub fn fork(&self) -> Result<Self, Error> {
        if !self.inner.is_root() {
            return Err(Error::NotSupported);
        }
        let child = Vmar_::new(self.inner.machine.clone(), self.inner.limits.clone(), self.inner.ceiling)?;
        self.inner.fork_into(&child)?;
        Ok(Self { inner: child, rights: self.rights })
    }
}

impl<M: Machine> Vmar_<M> {
    /// Gives `child`, which is empty and known to nobody else, all that a fork inherits.
    fn fork_into(self: &Arc<Self>, child: &Arc<Self>) -> Result<(), Error> {
        let traits = self.with_all_locked(|all| {
            let Some((parent, regions)) = all.split_first_mut() else {
                unreachable!("a space has a root");
            };
            self.reunite_locked(parent);
            let mut copies = child.mappings.write();
            copies.take_settings_of(parent);
            child.has_sealed.store(self.has_sealed.load(Relaxed), Relaxed);
            copies.fork_watchers(parent)?;
            let mut traits = copy_mappings(parent, &mut copies, child)?;
            for region in &*regions {
                traits |= copy_mappings(region, &mut copies, child)?;
            }
            let pages = self.rss.pages(RssKind::Anonymous);
            let can_lend = parent.borrow.is_none()
                && parent.watch.is_none()
                && !parent.is_asked
                && !traits.has_devices
                && regions.is_empty();
            if can_lend && parent.fork_policy.is_through_backup(pages) {
                self.lend_to(child, parent, &mut copies, pages)?;
            } else {
                self.copy_into(child, parent)?;
                regions.iter().try_for_each(|region| self.copy_into(child, region))?;
            }
            Ok::<_, Error>(traits)
        })??;
        if traits.is_leased {
            // What was taken back in between, by somebody who has not found it here.
            child.obey_all();
        }
        Ok(())
    }

    /// Sets the page table aside, for this space and `child`, whose mappings will be `copies`, to borrow from. It has `pages`
    /// private pages.
    fn lend_to(
        self: &Arc<Self>,
        child: &Arc<Self>,
        parent: &mut Mappings<M>,
        copies: &mut Mappings<M>,
        pages: usize,
    ) -> Result<(), OutOfMemory> {
        let Some(hull) = resident_span(parent, &self.space.user_range(), |_| true) else { return Ok(()) };
        let mut backup = Backup::prepare(Arc::downgrade(self), Arc::downgrade(child), hull)?;
        let table = self.space.detach()?;
        // From here on nothing fails.
        backup.fill(table, [self.rss.total_pages(), pages]);
        let borrow = Borrow::new(backup.clone(), Side::Second);
        child.rss.add(Some(RssKind::Anonymous), pages as isize);
        let mut delta = child.rss.delta();
        for (range, mapping) in parent.iter() {
            let has_private = mapping.sharing() == Sharing::Private
                && (mapping.is_mixed() || matches!(mapping.memory(), MappedMemory::Anonymous));
            if has_private && !is_inherited(mapping) {
                borrow.release_part(mapping, &range, |_| true, &mut delta);
            }
        }
        copies.borrow = Some(borrow);
        parent.borrow = Some(Borrow::new(backup, Side::First));
        Ok(())
    }
}

/// What is among the mappings that are copied.
#[derive(Default)]
struct Traits {
    has_devices: bool,
    /// Mappings whose rights can be taken back.
    is_leased: bool,
}

impl BitOrAssign for Traits {
    fn bitor_assign(&mut self, other: Self) {
        self.has_devices |= other.has_devices;
        self.is_leased |= other.is_leased;
    }
}

/// Copies the mappings that are inherited, with what will be resident of each, and returns what is among them.
fn copy_mappings<M: Machine>(
    parent: &Mappings<M>,
    copies: &mut Mappings<M>,
    child: &Arc<Vmar_<M>>,
) -> Result<Traits, Error> {
    let mapper: Weak<dyn Mapper<M>> = Arc::<Vmar_<M>>::downgrade(child);
    let mut traits = Traits::default();
    // Neighbours that could be one are so already, but for those of other regions, and those that differ in their locks or watchers.
    let mut is_apart = copies.len() == 0;
    copies.try_reserve(parent.len())?;
    for (range, mapping) in parent.iter() {
        traits.has_devices |= matches!(mapping.memory(), MappedMemory::Device { .. });
        if mapping.flags().contains(MappingFlags::DONT_FORK) || mapping.region().is_some() {
            continue;
        }
        let mut copy = mapping.fork(mapper.clone())?;
        let flags = copy.flags();
        copy.set_flags(flags - MappingFlags::ANY_LOCK);
        is_apart &= !flags.intersects(MappingFlags::ANY_LOCK);
        if mapping.is_handed() {
            is_apart = false;
            let is_wiped = flags.contains(MappingFlags::WIPE_ON_FORK);
            copy.watch = copies.fork_watched(parent, &range, mapping, is_wiped)?;
        }
        if is_inherited(mapping)
            && let Some(span) = mapping.resident_span(&range)
        {
            let is_device = matches!(mapping.memory(), MappedMemory::Device { .. });
            copy.note_entries(&span, if is_device { PageFlags::empty() } else { PageFlags::PRIVATE });
        }
        traits.is_leased |= copy.lease().is_some();
        match is_apart {
            true => copies.insert_apart(range, copy),
            false => copies.insert(range, copy),
        }
    }
    Ok(traits)
}

/// Returns whether a child gets what is resident of a mapping: private pages, if there may be any, and device memory.
fn is_inherited<M: Machine>(mapping: &VmMapping<M>) -> bool {
    if mapping.flags().intersects(MappingFlags::DONT_FORK | MappingFlags::WIPE_ON_FORK) {
        return false;
    }
    match mapping.memory() {
        MappedMemory::Device { .. } => true,
        MappedMemory::Region(_) => false,
        _ if mapping.sharing() == Sharing::Shared => false,
        MappedMemory::Vmo { .. } => mapping.is_mixed(),
        MappedMemory::Anonymous => true,
    }
}

#[cfg(test)]
mod tests;
