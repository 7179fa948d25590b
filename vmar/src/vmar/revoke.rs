// SPDX-License-Identifier: MPL-2.0

//! Rights that were taken back leave the mappings and the page table.
//!
//! Nothing here allocates or can fail: whoever takes a right back is not to be told that it stays.

use super::{Vmar_, mappings::Mappings};
use crate::{
    machine::{Machine, SleepLock},
    object::Lease,
};

impl<M: Machine> Vmar_<M> {
    /// Takes from the mappings made under `lease` what was withdrawn. Holds the mappings' lock for writing: faults that are
    /// under way come first.
    pub(crate) fn obey_lease(&self, lease: &Lease) {
        let mut mappings = self.mappings.write();
        self.visit_all(&mut mappings, &mut |mappings| {
            self.obey_within(mappings, |own| core::ptr::eq(own, lease));
        });
    }

    /// Takes from all mappings what their leases have withdrawn.
    pub(crate) fn obey_all(&self) {
        self.obey_within(&mut self.mappings.write(), |_| true);
    }

    fn obey_within(&self, mappings: &mut Mappings<M>, is_meant: impl Fn(&Lease) -> bool) {
        let mut at = 0;
        while let Some((range, mapping)) = mappings.find_or_next(at) {
            at = range.end;
            if !mapping.lease().is_some_and(&is_meant) {
                continue;
            }
            let left = mapping.leased_perms();
            if left != mapping.perms() {
                self.narrow_entries_of(mappings, mapping, &range, left.access());
                // The range is the mapping's own: nothing is split.
                mappings.change(&range, |_, mapping| mapping.keep_perms(left));
            }
        }
    }
}

#[cfg(test)]
mod tests;
