// SPDX-License-Identifier: MPL-2.0

//! The memory policies of what several mappings can show: files in memory, shared anonymous memory, System V segments.
//!
//! What [`bind`] sets for such a mapping holds for the pages behind it, in whatever mapping they are looked at, private ones among
//! them (Linux 6.1, `mpol_set_shared_policy`). The mapping has the policy too, as its label, which says what it can be one with:
//!
//! ```text
//!   mapping, label        ├─────── bind ───────┤
//!                         │                    │  set together
//!   object, by page    ├──┴─────── bind ───────┴──┼── interleave ──┤ ◄── get_mempolicy, of any mapping
//! ```
//!
//! Policies never overlap; pages that are in none have the default one.

use core::ops::Range;

use vmar::{interval_map::IntervalMap, mapping::Mappable, vmar::query::MappingInfo};
use vmar_ostd::Ostd;

use super::{
    AddressSpace,
    mapped_file::Known,
    mempolicy::{MemPolicy, Mode},
};
use crate::prelude::*;

/// Held while policies are set, so that the room that was made for them is there.
static BINDING: Mutex<()> = Mutex::new(());

/// The policies of an object's pages. Most objects have none.
#[derive(Debug)]
pub struct SharedPolicies(Mutex<Option<Box<IntervalMap<MemPolicy>>>>);

impl Default for SharedPolicies {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl SharedPolicies {
    /// The policy of page `page`.
    fn get(&self, page: usize) -> MemPolicy {
        let map = self.0.lock();
        map.as_ref().and_then(|map| map.find(page)).map_or(MemPolicy::default(), |(_, policy)| *policy)
    }

    /// Makes room for `count` calls of [`set`](Self::set).
    fn reserve(&self, count: usize) -> Result<()> {
        self.0.lock().get_or_insert_default().try_reserve(2 * count).map_err(|_| ENOMEM)
    }

    /// Sets the policy of `pages`, for which there is room.
    fn set(&self, pages: Range<usize>, policy: MemPolicy) {
        let mut map = self.0.lock();
        let map = map.get_or_insert_default();
        let add = |map: &mut IntervalMap<MemPolicy>, pages, policy| {
            let result = map.insert(pages, policy);
            debug_assert!(result.is_ok(), "there was room: {result:?}");
        };
        let around = map.find(pages.start).map(|(found, policy)| (found, *policy));
        if let Some((found, old)) = around.filter(|(found, _)| found.start < pages.start) {
            let _ = map.set_range(found.start, found.start..pages.start);
            if found.end > pages.end {
                add(map, pages.end..found.end, old);
            }
        }
        while let Some(found) = map.range(pages.clone()).next().map(|(found, _)| found) {
            if found.end > pages.end {
                let _ = map.set_range(found.start, pages.end..found.end);
            } else {
                map.remove(found.start);
            }
        }
        if policy.mode() != Mode::Default {
            add(map, pages, policy);
        }
    }
}

/// The policies of what a mapping shows, if it is something that has some.
fn policies_of(known: &dyn Mappable) -> Option<&SharedPolicies> {
    match Known::of(known)? {
        Known::File(mapped) => mapped.file().inode().policies(),
        Known::Memory(memory) => Some(memory.policies()),
        Known::Segment(segment) => Some(segment.policies()),
    }
}

/// The policy at an address that is in a mapping.
pub fn policy_at(mapping: &MappingInfo<'_, Ostd>, addr: Vaddr) -> MemPolicy {
    match mapping.mappable().and_then(|known| policies_of(&**known)) {
        Some(policies) => policies.get((mapping.offset() + (addr - mapping.range().start)) / PAGE_SIZE),
        None => MemPolicy::from_label(mapping.label()),
    }
}

/// Gives the mappings of `range`, and what they show, a policy. Holes are passed over, and mappings that have it.
///
/// # Errors
///
/// `ENOMEM` if mappings would be split and there are too many, or memory is out; nothing has changed then.
pub fn bind(vm: &AddressSpace, range: Range<Vaddr>, policy: MemPolicy) -> Result<()> {
    let label = policy.to_label();
    let _binding = BINDING.lock();
    let mut shown: Vec<(Vaddr, Arc<dyn Mappable>)> = Vec::new();
    for mapping in vm.vmar().query(range.clone()).iter().filter(|mapping| mapping.label() != label) {
        if let Some(known) = mapping.mappable()
            && policies_of(&**known).is_some()
        {
            try_push(&mut shown, (mapping.range().start.max(range.start), known.clone()))?;
        }
    }
    shown.sort_unstable_by_key(|(_, known)| Arc::as_ptr(known).cast::<()>());
    for alike in shown.chunk_by(|(_, one), (_, other)| Arc::ptr_eq(one, other)) {
        if let Some(policies) = policies_of(&*alike[0].1) {
            policies.reserve(alike.len())?;
        }
    }
    vm.vmar().label(range, label)?;
    for (start, known) in &shown {
        // The mapping as it is now: what it has become one with has the policy as well, and so has what that shows.
        let query = vm.vmar().query(*start..*start + PAGE_SIZE);
        if let Some(mapping) = query.first()
            && mapping.mappable().is_some_and(|found| Arc::ptr_eq(found, known))
            && let Some(policies) = policies_of(&**known)
        {
            let first = mapping.offset() / PAGE_SIZE;
            policies.set(first..first + mapping.range().len() / PAGE_SIZE, policy);
        }
    }
    Ok(())
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;
    use crate::mm::mempolicy::{ModeFlags, Nodes};

    fn policy(mode: Mode) -> MemPolicy {
        let nodes = if mode == Mode::Default { Nodes::default() } else { Nodes::ONLY };
        MemPolicy::new((mode, ModeFlags::empty()), nodes).unwrap()
    }

    #[ktest]
    fn what_is_set_last_holds() {
        let policies = SharedPolicies::default();
        let modes = || [0, 3, 4, 5, 9, 10].map(|page| policies.get(page).mode());
        let set = |pages, mode| {
            policies.reserve(1).unwrap();
            policies.set(pages, policy(mode));
        };
        set(0..10, Mode::Bind);
        assert_eq!(modes(), [Mode::Bind, Mode::Bind, Mode::Bind, Mode::Bind, Mode::Bind, Mode::Default]);
        set(4..5, Mode::Interleave);
        assert_eq!(
            modes(),
            [Mode::Bind, Mode::Bind, Mode::Interleave, Mode::Bind, Mode::Bind, Mode::Default]
        );
        set(3..6, Mode::Default);
        assert_eq!(
            modes(),
            [Mode::Bind, Mode::Default, Mode::Default, Mode::Default, Mode::Bind, Mode::Default]
        );
        set(5..20, Mode::Interleave);
        assert_eq!(
            modes(),
            [Mode::Bind, Mode::Default, Mode::Default, Mode::Interleave, Mode::Interleave, Mode::Interleave]
        );
        set(0..20, Mode::Default);
        assert!(policies.0.lock().as_ref().is_none_or(|map| map.is_empty()));
    }
}
