// SPDX-License-Identifier: MPL-2.0

//! The mappings of a space: what lies where, and how much of it there is.
//!
//! [`Mappings`] keeps the interval map and the totals that limits are checked against, and offers the steps that
//! operations are made of. A step that inserts needs room that was reserved with [`Mappings::try_reserve`]; with it, no
//! step fails.
//!
//! Child regions lie among the mappings and keep their place, but are none: no sum counts them.
//!
//! Invariant: the totals are the sums over the mappings, and no two neighbours could be one mapping unless an operation
//! that changes them is under way.

use core::ops::Range;

use super::{backup::Borrow, fork::ForkPolicy, policy, region::Region, shared::Account, watch::Watch};
use crate::{
    error::{Error, OutOfMemory},
    fallible::TryBox,
    interval_map::IntervalMap,
    limits::Usage,
    machine::Machine,
    mapping::{MappingFlags, VmMapping},
    perms::VmPerms,
    placement::Window,
};

/// The mappings of a space, or of a region of one.
pub struct Mappings<M: Machine> {
    pub(super) map: IntervalMap<VmMapping<M>>,
    pub(super) totals: Totals,
    pub(super) window: Window,
    default_flags: MappingFlags,
    /// No mapping that grows down starts below this address.
    lowest_grows_down: usize,
    /// What the space borrows since it was forked.
    pub(crate) borrow: Option<Borrow<M>>,
    /// Who is handed faults, if anybody ever was.
    pub(super) watch: Option<TryBox<Watch>>,
    /// How the space is forked, unless somebody [asks](super::history) what is done to its pages.
    pub(super) fork_policy: ForkPolicy,
    /// Whether somebody has asked what is done to pages: entries may lack ACCESSED or DIRTY then.
    pub(super) is_asked: bool,
    /// Whether some may be tracked.
    pub(super) is_tracked: bool,
    /// What the space refuses.
    pub(super) policy: policy::InForce,
    /// What was added to the sums over all regions of the space.
    pub(super) account: Account,
    /// How many child regions lie among the mappings, and their bytes.
    regions: usize,
    reserved: usize,
    /// Whether the region is no more; nothing is mapped then, nor ever will be.
    is_destroyed: bool,
}

/// Sums over all mappings, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    data: usize,
    exec: usize,
    stack: usize,
    locked: usize,
    /// The largest that the sum of all sizes has been.
    peak: usize,
}

impl Totals {
    pub(super) fn add<M: Machine>(&mut self, mapping: &VmMapping<M>, size: usize) {
        if let Some(sum) = self.sum_for(mapping) {
            *sum += size;
        }
        if mapping.flags().contains(MappingFlags::LOCKED) {
            self.locked += size;
        }
    }

    pub(super) fn sub<M: Machine>(&mut self, mapping: &VmMapping<M>, size: usize) {
        if let Some(sum) = self.sum_for(mapping) {
            *sum -= size;
        }
        if mapping.flags().contains(MappingFlags::LOCKED) {
            self.locked -= size;
        }
    }

    /// Forgets all but the peak.
    pub(super) fn clear(&mut self) {
        *self = Self { peak: self.peak, ..Self::default() };
    }

    /// Returns the sum that a mapping counts towards, as Linux's `vm_stat_account` has it.
    fn sum_for<M: Machine>(&mut self, mapping: &VmMapping<M>) -> Option<&mut usize> {
        let perms = mapping.perms();
        if mapping.flags().contains(MappingFlags::GROWS_DOWN) {
            Some(&mut self.stack)
        } else if mapping.is_data() {
            Some(&mut self.data)
        } else if perms.contains(VmPerms::EXEC) && !perms.contains(VmPerms::WRITE) {
            Some(&mut self.exec)
        } else {
            None
        }
    }
}

impl<M: Machine> Mappings<M> {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            map: IntervalMap::new(),
            totals: Totals::default(),
            window,
            default_flags: MappingFlags::empty(),
            lowest_grows_down: usize::MAX,
            borrow: None,
            watch: None,
            fork_policy: ForkPolicy::default(),
            is_asked: false,
            is_tracked: false,
            policy: policy::InForce::default(),
            account: Account::default(),
            regions: 0,
            reserved: 0,
            is_destroyed: false,
        }
    }

    /// Takes over what a forked space keeps beside the mappings themselves.
    pub(super) fn take_settings_of(&mut self, parent: &Self) {
        self.window = parent.window;
        self.fork_policy = parent.fork_policy;
        self.is_asked = parent.is_asked;
        self.is_tracked = parent.is_tracked;
        self.policy = parent.policy;
    }

    /// Makes an empty set of mappings for a child region, which refuses what `policy` does.
    pub(super) fn of_region(window: Window, policy: policy::InForce) -> Self {
        Self { account: Account::open(), policy, ..Self::new(window) }
    }

    /// Returns how much there is, child regions aside.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            address_space: self.mapped_size(),
            data: self.totals.data,
            exec: self.totals.exec,
            stack: self.totals.stack,
            locked: self.totals.locked,
            mappings: self.len(),
            peak_address_space: self.totals.peak,
        }
    }

    /// Returns how many bytes of data there are.
    pub(crate) fn data(&self) -> usize {
        self.totals.data
    }

    /// Returns the number of mappings.
    pub(crate) fn len(&self) -> usize {
        self.map.len() - self.regions
    }

    /// Returns the bytes of all mappings.
    fn mapped_size(&self) -> usize {
        self.map.total_size() - self.reserved
    }

    /// Returns whether there are child regions.
    pub(crate) fn has_regions(&self) -> bool {
        self.regions != 0
    }

    /// Iterates over the child regions, ascending; costs nothing where there are none.
    pub(super) fn regions(&self) -> impl Iterator<Item = &Region<M>> {
        let map = (self.regions != 0).then(|| self.map.iter());
        map.into_iter().flatten().filter_map(|(_, mapping)| mapping.region())
    }

    /// Returns whether the region is no more.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.is_destroyed
    }

    /// Notes that the region, from which everything was taken out, is no more.
    pub(super) fn note_destroyed(&mut self) {
        self.is_destroyed = true;
    }

    /// Returns why nothing is found.
    pub(crate) fn missing(&self) -> Error {
        if self.is_destroyed { Error::Destroyed } else { Error::NotMapped }
    }

    /// Puts a child region at a free range. Needs room for one insertion.
    pub(super) fn insert_region(&mut self, range: Range<usize>, region: VmMapping<M>) {
        self.regions += 1;
        self.reserved += range.len();
        let result = self.map.insert(range, region);
        debug_assert!(result.is_ok(), "the range was known to be free and room reserved: {result:?}");
    }

    /// Takes out the child region that starts at `start`.
    pub(super) fn remove_region(&mut self, start: usize) -> Option<VmMapping<M>> {
        self.map.find(start).filter(|(found, mapping)| found.start == start && mapping.region().is_some())?;
        let (range, region) = self.map.remove(start)?;
        self.regions -= 1;
        self.reserved -= range.len();
        Some(region)
    }

    pub(crate) fn window(&self) -> Window {
        self.window
    }

    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    pub(crate) fn default_flags(&self) -> MappingFlags {
        self.default_flags
    }

    pub(crate) fn set_default_flags(&mut self, flags: MappingFlags) {
        self.default_flags = flags;
    }

    /// Returns the mapping that `addr` lies in, and its range.
    #[inline]
    pub(crate) fn find(&self, addr: usize) -> Option<(Range<usize>, &VmMapping<M>)> {
        self.map.find(addr)
    }

    /// Returns the mapping that `addr` lies in, and its range, to change what is noted of its entries.
    pub(super) fn find_mut(&mut self, addr: usize) -> Option<(Range<usize>, &mut VmMapping<M>)> {
        self.map.find_mut(addr)
    }

    /// Returns the mapping that `addr` lies in, or the first above it.
    pub(crate) fn find_or_next(&self, addr: usize) -> Option<(Range<usize>, &VmMapping<M>)> {
        self.map.find(addr).or_else(|| self.map.next(addr))
    }

    /// Returns the last mapping that ends at `addr` or below.
    pub(crate) fn prev(&self, addr: usize) -> Option<(Range<usize>, &VmMapping<M>)> {
        self.map.prev(addr)
    }

    /// Returns the first mapping that starts at `addr` or above.
    pub(crate) fn next(&self, addr: usize) -> Option<(Range<usize>, &VmMapping<M>)> {
        self.map.next(addr)
    }

    /// Iterates over the mappings that overlap `range`, ascending. Those at its ends may reach beyond it.
    pub(crate) fn range(
        &self,
        range: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = (Range<usize>, &VmMapping<M>)> {
        self.map.range(range)
    }

    /// Iterates over all mappings, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Range<usize>, &VmMapping<M>)> + Clone {
        self.map.iter()
    }

    /// Takes out the first mapping, which is no region.
    pub(super) fn take_first(&mut self) -> Option<(Range<usize>, VmMapping<M>)> {
        let (range, _) = self.map.first()?;
        let (range, mapping) = self.map.remove(range.start)?;
        self.totals.sub(&mapping, range.len());
        Some((range, mapping))
    }

    /// Returns the address that a gap starts at in `range`: the first that neither a mapping nor a child region covers, or the end.
    pub(crate) fn covered_until(&self, range: &Range<usize>) -> usize {
        let mut at = range.start;
        for (found, _) in self.map.range(range.clone()) {
            if found.start > at {
                break;
            }
            at = found.end.min(range.end);
        }
        at
    }

    /// Returns whether taking out `range` would cut one mapping in two.
    pub(crate) fn splits_one(&self, range: &Range<usize>) -> bool {
        self.map
            .find(range.start)
            .is_some_and(|(found, _)| found.start < range.start && found.end > range.end)
    }

    /// Returns how much of it all lies in `range`. The number of mappings and the peak are left at zero.
    pub(crate) fn usage_within(&self, range: &Range<usize>) -> Usage {
        let mut totals = Totals::default();
        let mut address_space = 0;
        for (found, mapping) in
            self.map.range(range.clone()).filter(|(_, mapping)| mapping.region().is_none())
        {
            let size = found.end.min(range.end) - found.start.max(range.start);
            totals.add(mapping, size);
            address_space += size;
        }
        Usage {
            address_space,
            data: totals.data,
            exec: totals.exec,
            stack: totals.stack,
            locked: totals.locked,
            mappings: 0,
            peak_address_space: 0,
        }
    }

    /// Returns an address below which no mapping that grows down starts.
    pub(super) fn lowest_grows_down(&self) -> usize {
        self.lowest_grows_down
    }

    /// Notes that a mapping that grows down starts at `start`.
    pub(super) fn note_grows_down(&mut self, start: usize) {
        self.lowest_grows_down = self.lowest_grows_down.min(start);
    }

    /// Notes that the sum of all sizes is about to grow by `more` bytes.
    pub(super) fn note_peak(&mut self, more: usize) {
        self.totals.peak = self.totals.peak.max(self.mapped_size() + more);
    }

    /// Makes room for `count` insertions.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(crate) fn try_reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.map.try_reserve(count)
    }
}
