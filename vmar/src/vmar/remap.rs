// SPDX-License-Identifier: MPL-2.0

//! Resizing and moving mappings: the rules of `mremap` in Linux 6.1.
//!
//! | wanted | done | limits looked at |
//! | --- | --- | --- |
//! | smaller or as large, in place | what lies beyond is unmapped, over several mappings and holes too | |
//! | larger, and there is room behind | the mapping grows | yes |
//! | larger, otherwise | moved where there is room, unless it must stay | yes |
//! | a fixed target | what is there is replaced; what lies beyond a smaller size is unmapped | yes |
//! | the old range kept (`DontUnmap`) | the pages move, the mapping stays and is empty | yes |
//! | a copy of a shared mapping (an old size of zero) | a second mapping of the same object | yes |
//!
//! Whatever grows or moves lies within one mapping.
//!
//! # Moving pages
//!
//! ```text
//!   1. look at the old entries, hold their frames        changes nothing
//!   2. one transaction over the target: empty it, map    fails whole, or not at all
//!   3. one transaction over the old range: empty it      cannot fail
//! ```
//!
//! Between 2 and 3 both addresses show the same pages. Threads that write to either meanwhile write to the same memory,
//! and no fault is served, since the mappings' lock is held.

use alloc::vec::Vec;
use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    edit::Removed,
    entries::{clip, resident_span, unmap_within},
    mappings::Mappings,
    watch::Moved,
};
use crate::{
    error::{Error, Limit},
    fallible,
    limits::Usage,
    machine::{AddressSpace, Cursor, Machine, PageFlags, PageProps},
    mapping::{MappedMemory, MappingFlags, VmMapping},
    placement::Placement,
    rss::RssDelta,
};

/// Where a mapping may go when it is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapTarget {
    /// It stays where it is.
    InPlace,
    /// It stays where it is if there is room, else it moves (`MREMAP_MAYMOVE`).
    MayMove,
    /// It moves there, in place of what is there (`MREMAP_FIXED`).
    Fixed(usize),
    /// Its pages move, and it stays where it is without them (`MREMAP_DONTUNMAP`).
    DontUnmap(Placement),
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes what is mapped in `old` (bytes, page-aligned) `new_size` bytes large, and returns where it is then.
    ///
    /// An empty `old` asks for a second mapping of the shared object that is mapped at its start.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidAlignment`] if an address is not page-aligned.
    /// - [`Error::InvalidSize`] if the new size is zero or no multiple of the page size, differs from the old one where
    ///   the old mapping is kept, or `old` is empty and what is mapped there is not shared.
    /// - [`Error::InvalidOffset`] if it would reach past the largest offset in the object.
    /// - [`Error::InvalidOptions`] if the target overlaps `old`, or a device mapping is to be kept.
    /// - [`Error::OutOfRange`] if the target leaves the space.
    /// - [`Error::Sealed`] if anything there, or at a target that is replaced, is sealed.
    /// - [`Error::NotMapped`] if nothing is mapped at the start of `old`, or not one mapping covers what is to grow or
    ///   move.
    /// - [`Error::NotSupported`] if a device mapping is to grow.
    /// - [`Error::NoRoom`] if there is no room.
    /// - [`Error::LimitExceeded`].
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write)]
    pub fn remap(&self, old: Range<usize>, new_size: usize, target: RemapTarget) -> Result<usize, Error> {
        let old_size = old.len();
        let start = self.inner.remap(old, new_size, target)?;
        if new_size > old_size {
            self.inner.populate_if_locked(start + old_size..start + new_size);
        }
        Ok(start)
    }
}

/// What is replaced where nothing is.
const NOTHING: Range<usize> = 0..0;

/// A move that has been found possible.
struct Move {
    /// What moves, within one mapping. Empty if nothing does.
    from: Range<usize>,
    /// Where it goes.
    to: Range<usize>,
    /// What is unmapped at the old place beside it.
    tail: Range<usize>,
    keeps_old: bool,
}

/// Pages on the move: distance from the start of what moves, and the entry.
type Pages<M> = Vec<(usize, <M as Machine>::Frame, PageProps)>;

impl<M: Machine> Vmar_<M> {
    pub(crate) fn remap(
        &self,
        old: Range<usize>,
        new_size: usize,
        target: RemapTarget,
    ) -> Result<usize, Error> {
        let is_aligned = |addr: usize| addr.is_multiple_of(M::PAGE_SIZE);
        if !is_aligned(old.start) || !is_aligned(old.end) || old.end < old.start {
            return Err(Error::InvalidAlignment);
        }
        let keeps_old = matches!(target, RemapTarget::DontUnmap(_));
        if new_size == 0 || !is_aligned(new_size) || (keeps_old && old.len() != new_size) {
            return Err(Error::InvalidSize);
        }
        let mut removed = Removed::new();
        let looked_at = old.start..old.end.max(old.start.saturating_add(M::PAGE_SIZE));
        let mut mappings = self.change_within(&looked_at)?;
        let Some((found, mapping)) = mappings.find(old.start) else { return Err(Error::NotMapped) };
        self.check_unsealed(&mappings, &looked_at)?;

        let placement = match target {
            RemapTarget::Fixed(addr) => Placement::Replacing(addr),
            RemapTarget::DontUnmap(placement) => {
                // What cannot be moved is told before room is looked for.
                if matches!(mapping.memory(), MappedMemory::Device { .. }) {
                    return Err(Error::InvalidOptions);
                }
                self.check_resize(&mappings, &old, new_size, &NOTHING)?;
                placement
            }
            RemapTarget::InPlace | RemapTarget::MayMove => {
                if old.len() >= new_size {
                    let tail = old.start + new_size..old.end;
                    if !tail.is_empty() {
                        self.unmap_locked(&mut mappings, &tail, &mut removed)?;
                    }
                    return Ok(old.start);
                }
                self.check_resize(&mappings, &old, new_size, &NOTHING)?;
                let new_end = old.start.checked_add(new_size).ok_or(Error::OutOfRange)?;
                let guarded_end = new_end.saturating_add(mappings.policy.guard);
                let has_room = mappings.next(old.end).is_none_or(|(next, _)| next.start >= guarded_end)
                    && new_end <= self.range.end;
                if old.end == found.end && has_room {
                    mappings.extend_end(found.start, new_end);
                    return Ok(old.start);
                }
                if target == RemapTarget::InPlace {
                    return Err(Error::NoRoom);
                }
                Placement::Anywhere
            }
        };
        let to = mappings.place(new_size, M::PAGE_SIZE, placement, &self.range)?;
        if matches!(placement, Placement::Replacing(_)) {
            if !clip(&to, &old).is_empty() {
                return Err(Error::InvalidOptions);
            }
            if mappings.has_regions() {
                self.dissolve_within(&mut mappings, &to)?;
            }
            self.check_unsealed(&mappings, &to)?;
        }
        let kept = old.start..old.start + old.len().min(new_size);
        self.check_resize(&mappings, &kept, new_size, &to)?;
        let plan = Move { tail: kept.end..old.end, from: kept, to, keeps_old };
        self.check_move(&mappings, &plan)?;
        let start = plan.to.start;
        self.move_mapping(&mut mappings, &plan, &mut removed)?;
        Ok(start)
    }

    /// Checks that what is mapped in `old` may become `new_size` bytes large, in place of what is in `replaced`.
    fn check_resize(
        &self,
        mappings: &Mappings<M>,
        old: &Range<usize>,
        new_size: usize,
        replaced: &Range<usize>,
    ) -> Result<(), Error> {
        let Some((found, mapping)) = mappings.find(old.start) else { return Err(Error::NotMapped) };
        if old.is_empty() && !mapping.is_shared() {
            return Err(Error::InvalidSize);
        }
        if old.end > found.end {
            return Err(Error::NotMapped);
        }
        if new_size == old.len() {
            return Ok(());
        }
        let distance = old.start - found.start;
        if (mapping.offset() + distance).checked_add(new_size).is_none() {
            return Err(Error::InvalidOffset);
        }
        if matches!(mapping.memory(), MappedMemory::Device { .. }) {
            return Err(Error::NotSupported);
        }
        self.check_growth(mappings, mapping, new_size - old.len(), replaced)
    }

    /// Checks that `more` bytes like those of `mapping`, in place of what is in `replaced`, keep the limits.
    fn check_growth(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        more: usize,
        replaced: &Range<usize>,
    ) -> Result<(), Error> {
        if mapping.flags().contains(MappingFlags::LOCKED) {
            let replaced = if replaced.is_empty() { 0 } else { mappings.usage_within(replaced).locked };
            self.check_limit(mappings, Limit::Locked, mappings.usage().locked - replaced, more)?;
        }
        self.check_size(mappings, mapping, more, replaced)
    }

    /// The same but for locked memory.
    fn check_size(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        more: usize,
        replaced: &Range<usize>,
    ) -> Result<(), Error> {
        let usage = mappings.usage();
        let replaced = if replaced.is_empty() { Usage::default() } else { mappings.usage_within(replaced) };
        let total = usage.address_space - replaced.address_space;
        self.check_limit(mappings, Limit::AddressSpace, total, more)?;
        if mapping.is_data() {
            self.check_limit(mappings, Limit::Data, usage.data - replaced.data, more)?;
        }
        Ok(())
    }

    fn check_move(&self, mappings: &Mappings<M>, plan: &Move) -> Result<(), Error> {
        let Some((_, mapping)) = mappings.find(plan.from.start) else { return Err(Error::NotMapped) };
        // What Linux keeps in hand for the splits that a move can make.
        self.check_limit(mappings, Limit::Mappings, mappings.len(), 4)?;
        if plan.keeps_old {
            // The old place is locked no more.
            self.check_size(mappings, mapping, plan.to.len(), &plan.to)?;
        }
        Ok(())
    }

    /// Does what `plan` says, or nothing.
    fn move_mapping(
        &self,
        mappings: &mut Mappings<M>,
        plan: &Move,
        removed: &mut Removed<M>,
    ) -> Result<(), Error> {
        let Move { from, to, tail, keeps_old } = plan;
        // The target and the tail cut a mapping in two, the old place is split at two ends, and there is the new one.
        mappings.try_reserve(5)?;
        removed.try_reserve_for_all(mappings, [to, tail, from])?;
        let Some((found, mapping)) = mappings.find(from.start) else { return Err(Error::NotMapped) };
        let mut copy = mapping.copy_at(from.start - found.start);
        // All of it counts as written (Linux: `VM_SOFTDIRTY` of what is moved).
        copy.set_flags(copy.flags() - MappingFlags::TRACKED);
        if mappings.borrow.is_some() {
            self.show_all(mappings, from)?;
        }
        let mut pages = self.look_at(mappings, mapping, from)?;
        let is_handed = mapping.is_handed();
        if is_handed {
            mappings.prepare_marks_move(&mut copy, from, to)?;
        }
        let mut delta = self.rss.delta();
        if let Err(error) = self.fill_target(mappings, &copy, plan, &mut pages, &mut delta) {
            if is_handed {
                mappings.end_marks_move(from, to, Moved::No);
            }
            return Err(error);
        }
        // From here on nothing fails.
        let old = from.start..tail.end;
        if let Some(span) = resident_span(mappings, &old, |_| true) {
            self.transact(span.clone(), |cursor| unmap_within(cursor, mappings, &span, &mut delta));
        }
        self.release(mappings, to, &mut delta);
        self.release(mappings, tail, &mut delta);
        mappings.cut(to, removed);
        mappings.cut(tail, removed);
        if *keeps_old {
            mappings.change(from, |_, mapping| {
                mapping.forget_entries();
                mapping.set_flags(mapping.flags() - MappingFlags::ANY_LOCK);
            });
        } else {
            mappings.cut(from, removed);
        }
        if is_handed {
            mappings.end_marks_move(from, to, Moved::Yes);
        }
        mappings.insert(to.clone(), copy);
        Ok(())
    }

    /// Returns the pages of `from`, a part of `mapping`.
    fn look_at(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        from: &Range<usize>,
    ) -> Result<Pages<M>, Error> {
        /// Up to how many pages room is made for without counting them first.
        const FEW: usize = 512;

        let mut pages = Vec::new();
        let is_device = matches!(mapping.memory(), MappedMemory::Device { .. });
        let Some(span) = mapping.resident_span(from).filter(|_| !is_device) else { return Ok(pages) };
        let mut count = span.len() / M::PAGE_SIZE;
        if count > FEW {
            count = 0;
            self.for_each_page(mappings, &span, |_, _| count += 1);
        }
        fallible::try_reserve_exact(&mut pages, count)?;
        self.for_each_page(mappings, &span, |addr, page| {
            pages.push((addr - from.start, page.frame.clone(), page.props));
        });
        Ok(pages)
    }

    /// Empties the target, and fills it with what is on the move: all of it, or nothing on failure.
    fn fill_target(
        &self,
        mappings: &Mappings<M>,
        copy: &VmMapping<M>,
        plan: &Move,
        pages: &mut Pages<M>,
        delta: &mut RssDelta<'_, M>,
    ) -> Result<(), Error> {
        let Move { from, to, .. } = plan;
        let old_span = resident_span(mappings, to, |_| true);
        let device = match copy.memory() {
            MappedMemory::Device { io, offset, cache } => Some((io, *offset, *cache)),
            _ => None,
        };
        let growth = if device.is_some() { from.len() / M::PAGE_SIZE } else { pages.len() };
        let mut span = match (pages.first(), pages.last()) {
            (Some(first), Some(last)) => to.start + first.0..to.start + last.0 + M::PAGE_SIZE,
            _ if device.is_some() => to.start..to.start + from.len(),
            _ => match &old_span {
                Some(span) => span.clone(),
                None => return Ok(()),
            },
        };
        let filled = span.clone();
        if let Some(old) = &old_span {
            span = span.start.min(old.start)..span.end.max(old.end);
        }
        self.space.transact(span, growth, |cursor| {
            if let Some(old) = &old_span {
                unmap_within(cursor, mappings, old, delta);
            }
            if let Some((io, offset, cache)) = device {
                let props = PageProps { flags: copy.perms().page_flags(), cache };
                copy.note_entries(&filled, props.flags);
                cursor.seek(filled.start);
                for distance in (0..from.len()).step_by(M::PAGE_SIZE) {
                    cursor.map_device(io, offset + distance, props);
                }
            }
            let (count, mut noted) = (pages.len(), None);
            let is_run = count * M::PAGE_SIZE == filled.len();
            let moving = pages.drain(..).map(|(distance, frame, mut props)| {
                if props.flags.contains(PageFlags::PRIVATE) {
                    // As if written there, should anybody ask.
                    props.flags |= PageFlags::ACCESSED | PageFlags::DIRTY;
                }
                if noted != Some(props.flags) {
                    copy.note_entries(&filled, props.flags);
                    noted = Some(props.flags);
                }
                delta.add(copy.kind_of(props.flags), 1);
                (to.start + distance, frame, props)
            });
            if is_run {
                if cursor.position() != filled.start {
                    cursor.seek(filled.start);
                }
                cursor.map_run(count, moving.map(|(_, frame, props)| (frame, props)));
                return;
            }
            for (addr, frame, props) in moving {
                if cursor.position() != addr {
                    cursor.seek(addr);
                }
                cursor.map(frame, props);
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
