// SPDX-License-Identifier: MPL-2.0

//! Child regions: a capability to a part of a space, with a ceiling of rights and locks of its own.
//!
//! ```text
//!   root      ├─ mapping ─┤    ├──────── region ────────┤  ├─ mapping ─┤├── region ──┤
//!                              │                        │               │            │
//!   region                     ├─ mapping ─┤ ├─ region ─┤               │            │
//!   sibling                                                             ├─ mapping ──┤
//! ```
//!
//! A region keeps its range: nothing else of its parent's is placed there, whether anybody holds a capability to it or not.
//! What is mapped through a capability to it stays within the range and never allows what its ceiling lacks. It has its mappings
//! and their lock to itself, so what is done in one region waits for nothing that is done in a sibling. A region that
//! [owns its tables](RegionOptions::own_tables) does not wait for the locks of their page tables either.
//!
//! # What the parent may do
//!
//! The parent's capability reaches all that is inside, as if there were no region:
//!
//! | through the parent's capability | what becomes of a region |
//! | --- | --- |
//! | faults, reading and writing memory, looking at mappings, making pages resident | nothing: it is done inside |
//! | a change of a range that lies within one region | nothing: it is done inside, with the region's lock |
//! | a change of a range that meets regions in any other way; a mapping that replaces what is there | those are dissolved first |
//! | a mapping that may go anywhere, or where nothing is | nothing: it goes somewhere else, or is refused |
//! | `clear` | it is destroyed |
//!
//! *Dissolved* means that its mappings become the parent's, pages and all, and the region is no more. So a kernel can use regions
//! for its own ends, and no program can tell.
//!
//! # The end of a region
//!
//! A region that was destroyed or dissolved answers [`Error::Destroyed`] through every capability to it. Regions inside it end with
//! it, and all of them end with the last capability to the space.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    fmt,
    ops::{Deref, Range},
    sync::atomic::Ordering::Relaxed,
};

use aster_rights::{Rights, RightsOp, TRightSet, TRights, require};

use super::{Vmar, Vmar_, map::check_size, mappings::Mappings, shared::Changing};
use crate::{
    error::{Error, OutOfMemory},
    fallible,
    limits::Usage,
    machine::{AddressSpace, Machine, SleepLock},
    mapping::{MappedMemory, MappingFlags, Sharing, VmMapping},
    perms::VmPerms,
    placement::{Placement, Window},
};

/// How deep regions can be nested: what goes through all of them goes down by recursion.
const MOST_NESTED: usize = 8;

/// A child region among the mappings of its parent.
pub struct Region<M: Machine>(Arc<Vmar_<M>>);

impl<M: Machine> Clone for Region<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> Deref for Region<M> {
    type Target = Arc<Vmar_<M>>;

    fn deref(&self) -> &Arc<Vmar_<M>> {
        &self.0
    }
}

impl<M: Machine> fmt::Debug for Region<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("range", &self.0.range).finish_non_exhaustive()
    }
}

/// Where a region comes from.
pub(super) struct Lineage<M: Machine> {
    parent: Weak<Vmar_<M>>,
    root: Weak<Vmar_<M>>,
    depth: usize,
}

impl<M: Machine> Lineage<M> {
    /// That of the root.
    pub(super) const fn root() -> Self {
        Self { parent: Weak::new(), root: Weak::new(), depth: 0 }
    }
}

/// A child region in the making.
#[must_use = "there is no region before `build`"]
pub struct RegionOptions<'a, M: Machine, R> {
    parent: &'a Arc<Vmar_<M>>,
    size: usize,
    align: usize,
    placement: Placement,
    ceiling: Rights,
    owns_tables: bool,
    rights: TRightSet<R>,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Starts to make a child region of `size` bytes: by default anywhere, with the ceiling of this one.
    #[require(R > Dup | Write)]
    pub fn new_region(&self, size: usize) -> RegionOptions<'_, M, R> {
        RegionOptions {
            parent: &self.inner,
            size,
            align: M::PAGE_SIZE,
            placement: Placement::Anywhere,
            ceiling: Rights::all(),
            owns_tables: false,
            rights: self.rights,
        }
    }

    /// Returns a capability to the child region that `addr` (bytes) lies in, with the rights of this one.
    #[require(R > Dup)]
    pub fn region_at(&self, addr: usize) -> Option<Self> {
        let inner = self.inner.region_around(&(addr..addr.checked_add(1)?))?;
        Some(Self { inner, rights: self.rights })
    }

    /// Ends the region: whatever is mapped inside is taken away, regions inside it end too, and its range is its parent's again.
    ///
    /// # Errors
    ///
    /// - [`Error::Destroyed`] if it has ended already.
    /// - [`Error::NotSupported`] for the root, which is no region of another.
    #[require(R > Write)]
    pub fn destroy(&self) -> Result<(), Error> {
        self.inner.check_is_child()?;
        self.inner.destroy()
    }

    /// Ends the region and leaves what is mapped inside to its parent, pages and all. Regions inside it are dissolved before it.
    ///
    /// # Errors
    ///
    /// - [`Error::Destroyed`] if it has ended already.
    /// - [`Error::NotSupported`] for the root, which is no region of another.
    /// - [`Error::OutOfMemory`]: the region is still there; of those inside it some may be dissolved.
    #[require(R > Write)]
    pub fn dissolve(&self) -> Result<(), Error> {
        self.inner.check_is_child()?;
        let parent = self.inner.lineage.parent.upgrade().ok_or(Error::Destroyed)?;
        let mut outside = parent.change()?;
        if self.inner.mappings.read().is_destroyed() {
            return Err(Error::Destroyed);
        }
        parent.dissolve_one(&mut outside, &self.inner)
    }
}

impl<M: Machine, R: RightsOp> Vmar<M, R> {
    /// Returns whether it is a capability to a region that has ended.
    pub fn is_destroyed(&self) -> bool {
        self.inner.mappings.read().is_destroyed()
    }

    /// Returns the most that the region allows any mapping in it.
    pub fn ceiling(&self) -> Rights {
        self.inner.ceiling
    }
}

impl<M: Machine, R: TRights> RegionOptions<'_, M, R> {
    /// Lets no mapping in it ever do what `ceiling` lacks, nor what its parent's ceiling lacks.
    pub fn ceiling(mut self, ceiling: Rights) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Goes there; a region replaces nothing. [`Placement::Anywhere`] by default.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Starts at a multiple of `align` (bytes). The page size by default.
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Shares no page-table lock with what lies beside it. It starts at a multiple of the machine's
    /// [isolation](AddressSpace::ISOLATION) then, and is as large as the next multiple of that.
    pub fn own_tables(mut self) -> Self {
        self.owns_tables = true;
        self
    }

    /// Makes the region, and returns a capability to it with the rights of the one that it is made with.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidSize`], [`Error::InvalidAlignment`], [`Error::Occupied`], [`Error::OutOfRange`] and [`Error::NoRoom`] as for
    ///   a mapping.
    /// - [`Error::InvalidOptions`] if it is to replace something, or regions are nested too deep.
    /// - [`Error::Destroyed`].
    /// - [`Error::OutOfMemory`].
    pub fn build(self) -> Result<Vmar<M, TRightSet<R>>, Error> {
        let Self { parent, mut size, mut align, placement, ceiling, owns_tables, rights } = self;
        if owns_tables {
            size = size.checked_next_multiple_of(M::Space::ISOLATION).ok_or(Error::InvalidSize)?;
            align = align.max(M::Space::ISOLATION);
        }
        check_size(size, align, M::PAGE_SIZE)?;
        match placement {
            Placement::Replacing(_) => return Err(Error::InvalidOptions),
            Placement::Exactly(addr) if !addr.is_multiple_of(align) => return Err(Error::InvalidAlignment),
            _ => {}
        }
        let mut mappings = parent.change()?;
        let depth = parent.lineage.depth + 1;
        if depth > MOST_NESTED {
            return Err(Error::InvalidOptions);
        }
        let range = mappings.place(size, align, placement, &parent.range)?;
        mappings.try_reserve(1)?;
        if owns_tables {
            parent.space.isolate(&range)?;
        }
        let Range { start, end } = range;
        let window = Window { floor: start, base: end, bottom: start, ceiling: end };
        let lineage = Lineage { parent: Arc::downgrade(parent), root: parent.root(), depth };
        let child = Vmar_::over(
            parent.shared.clone(),
            range.clone(),
            Mappings::of_region(window, mappings.policy),
            parent.ceiling & ceiling,
            lineage,
        )?;
        // From here on nothing fails.
        parent.shared.regions.fetch_add(1, Relaxed);
        parent.children.fetch_add(1, Relaxed);
        mappings.open_account();
        let memory = MappedMemory::Region(Region(child.clone()));
        let place = VmMapping::new(memory, None, VmPerms::empty(), Sharing::Private, MappingFlags::empty());
        mappings.insert_region(range, place);
        drop(mappings);
        Ok(Vmar { inner: child, rights })
    }
}

impl<M: Machine> Vmar_<M> {
    /// Returns whether it is all of a space.
    pub(crate) fn is_root(&self) -> bool {
        self.lineage.depth == 0
    }

    /// Returns the root: whom objects know as the one who maps them.
    pub(super) fn root(self: &Arc<Self>) -> Weak<Self> {
        if self.is_root() { Arc::downgrade(self) } else { self.lineage.root.clone() }
    }

    fn check_is_child(&self) -> Result<(), Error> {
        if self.is_root() { Err(Error::NotSupported) } else { Ok(()) }
    }

    /// Returns whether there are child regions, so that an operation may be [theirs](Self::inside).
    #[inline(always)]
    pub(super) fn has_children(&self) -> bool {
        self.children.load(Relaxed) != 0
    }

    /// Does `operation` on the child region that `range` lies within, and returns what it answers; `None` if there is none.
    #[cold]
    #[inline(never)]
    pub(super) fn inside<T>(
        &self,
        range: &Range<usize>,
        operation: impl Fn(&Self) -> Result<T, Error>,
    ) -> Option<Result<T, Error>> {
        loop {
            match operation(&*self.region_around(range)?) {
                // It ended meanwhile. What was in it may be here now.
                Err(Error::Destroyed) => {}
                result => return Some(result),
            }
        }
    }

    /// Returns the child region that `range` lies within.
    fn region_around(&self, range: &Range<usize>) -> Option<Arc<Self>> {
        let mappings = self.mappings.read();
        let (found, mapping) = mappings.find(range.start)?;
        let region = mapping.region()?;
        (range.start < range.end && range.end <= found.end).then(|| region.0.clone())
    }

    /// Returns how much the region holds, and the regions inside it.
    pub(super) fn usage(&self) -> Usage {
        let mappings = self.mappings.read();
        let mut usage = mappings.usage();
        for region in mappings.regions() {
            let inside = region.usage();
            usage.address_space += inside.address_space;
            usage.data += inside.data;
            usage.exec += inside.exec;
            usage.stack += inside.stack;
            usage.locked += inside.locked;
            usage.mappings += inside.mappings;
        }
        let peak = if self.is_root() { self.shared.peak.load(Relaxed) } else { 0 };
        usage.peak_address_space = usage.peak_address_space.max(usage.address_space).max(peak);
        usage
    }

    /// Calls `visit` with the mappings of this region, which are locked for writing, and with those of all regions inside, each locked
    /// for writing as long as those inside it are visited.
    pub(super) fn visit_all(&self, mappings: &mut Mappings<M>, visit: &mut dyn FnMut(&mut Mappings<M>)) {
        visit(mappings);
        for region in mappings.regions() {
            let mut inside = region.mappings.write();
            region.visit_all(&mut inside, visit);
        }
    }

    /// Calls `body` with the mappings of this region and of all regions inside, all of them locked for writing at once; this one
    /// comes first.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`], where there are child regions.
    pub(crate) fn with_all_locked<T>(
        &self,
        body: impl FnOnce(&mut [&mut Mappings<M>]) -> T,
    ) -> Result<T, OutOfMemory> {
        let mut mappings = self.mappings.write();
        if !mappings.has_regions() {
            return Ok(body(&mut [&mut *mappings]));
        }
        let mut held = fallible::try_with_capacity(1)?;
        held.push(&mut *mappings);
        lock_inside(held, 0, body)
    }

    /// Dissolves the child regions that overlap `range`.
    ///
    /// # Errors
    ///
    /// [`Error::Destroyed`]; [`Error::OutOfMemory`].
    #[cold]
    #[inline(never)]
    pub(super) fn dissolve_within(
        &self,
        mappings: &mut Changing<'_, M>,
        range: &Range<usize>,
    ) -> Result<(), Error> {
        if mappings.is_destroyed() {
            return Err(Error::Destroyed);
        }
        while mappings.has_regions() {
            let mut inside = mappings.range(range.clone());
            let Some(region) = inside.find_map(|(_, mapping)| mapping.region().cloned()) else {
                return Ok(());
            };
            drop(inside);
            self.dissolve_one(mappings, &region)?;
        }
        Ok(())
    }

    /// Dissolves a child region that has not ended.
    fn dissolve_one(&self, mappings: &mut Changing<'_, M>, region: &Self) -> Result<(), Error> {
        let mut inside = region.change()?;
        if inside.has_regions() {
            region.dissolve_within(&mut inside, &region.range)?;
        }
        mappings.try_reserve(inside.len())?;
        // From here on nothing fails.
        let place = mappings.remove_region(region.range.start);
        while let Some((range, mapping)) = inside.take_first() {
            mappings.insert(range, mapping);
        }
        inside.note_destroyed();
        drop(inside);
        self.forget_child(mappings);
        drop(place);
        Ok(())
    }

    /// See [`Vmar::destroy`].
    fn destroy(&self) -> Result<(), Error> {
        let parent = self.lineage.parent.upgrade().ok_or(Error::Destroyed)?;
        loop {
            self.destroy_children();
            let mut outside = parent.change()?;
            let Some(all) = self.shut()? else { continue };
            let place = outside.remove_region(self.range.start);
            parent.forget_child(&mut outside);
            // What the mappings refer to is let go of without the locks.
            drop(outside);
            drop((all, place));
            return Ok(());
        }
    }

    /// Takes everything out of a region and notes that it has ended, unless somebody has made a region inside.
    fn shut(&self) -> Result<Option<Mappings<M>>, Error> {
        let mut inside = self.change()?;
        if inside.has_regions() {
            return Ok(None);
        }
        let all = self.take_everything(&mut inside);
        inside.note_destroyed();
        Ok(Some(all))
    }

    /// Destroys the child regions, one after the other.
    pub(super) fn destroy_children(&self) {
        while let Some(child) = self.first_region() {
            // Another may be faster.
            let _ = child.destroy();
        }
    }

    /// Ends the child regions of a space that nobody has a capability to any more.
    pub(super) fn end_children(&mut self) {
        while let Some(child) = self.first_region() {
            loop {
                child.destroy_children();
                match child.shut() {
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => break,
                }
            }
            self.mappings.write().remove_region(child.range.start);
            self.shared.regions.fetch_sub(1, Relaxed);
        }
    }

    fn first_region(&self) -> Option<Arc<Self>> {
        self.mappings.read().regions().next().map(|region| region.0.clone())
    }

    /// Notes that a child region was taken out.
    fn forget_child(&self, mappings: &mut Changing<'_, M>) {
        self.children.fetch_sub(1, Relaxed);
        if self.shared.regions.fetch_sub(1, Relaxed) == 1 {
            // It was the last one, so this is the root: its sums are those of the space again.
            mappings.close_account();
        }
    }
}

/// Locks all regions that are inside those of `held` from `first` on, and those inside them, level by level.
fn lock_inside<M: Machine, T>(
    held: Vec<&mut Mappings<M>>,
    first: usize,
    body: impl FnOnce(&mut [&mut Mappings<M>]) -> T,
) -> Result<T, OutOfMemory> {
    let mut level = Vec::new();
    for region in held[first..].iter().flat_map(|outer| outer.regions()) {
        fallible::try_push(&mut level, region.clone())?;
    }
    if level.is_empty() {
        let mut held = held;
        return Ok(body(&mut held));
    }
    let next = held.len();
    let mut guards = fallible::try_with_capacity(level.len())?;
    guards.extend(level.iter().map(|region| region.mappings.write()));
    let mut all = fallible::try_with_capacity(next + level.len())?;
    all.extend(held);
    all.extend(guards.iter_mut().map(|guard| &mut **guard));
    lock_inside(all, next, body)
}

#[cfg(test)]
mod tests;
