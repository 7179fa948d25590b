// SPDX-License-Identifier: MPL-2.0

//! Who watches which mappings: beginning and ending that.

use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;

use aster_rights::{TRightSet, TRights, require};

use super::{FaultHandler, Watch, WatchModes, WatchSlot};
use crate::{
    error::{Error, OutOfMemory},
    fallible,
    machine::{Cursor, Entry, Machine, PageFlags, PageProps, SleepLock},
    mapping::{MappedMemory, VmMapping},
    perms::VmPerms,
    vmar::{Mappings, Vmar, Vmar_, entries::clip},
};

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Has the faults of `modes` in what is mapped in `range` (bytes, page-aligned) handed to `handler`, and no others that were
    /// before. Holes are passed over. What the handler watches for all of that already stays as it is.
    ///
    /// `suits` is asked of each mapping that shows an object.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// - [`Error::NotMapped`] if nothing is mapped there.
    /// - [`Error::InvalidOptions`] at device memory, an object that does not suit, and anonymous memory with [`WatchModes::MINOR`].
    /// - [`Error::NotPermitted`] at a mapping that may never be written.
    /// - [`Error::Occupied`] at a mapping that somebody else watches.
    /// - [`Error::LimitExceeded`] if mappings would be split and there are too many.
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::NotSupported`] of a region: only a whole space is watched.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write)]
    pub fn watch(
        &self,
        range: Range<usize>,
        modes: WatchModes,
        handler: &Arc<dyn FaultHandler>,
        suits: impl Fn(&VmMapping<M>) -> bool,
    ) -> Result<(), Error> {
        self.inner.watch(range, modes, handler, suits)
    }

    /// Ends the watching of what is mapped in `range` (bytes, page-aligned), whoever does it, and takes the marks there away.
    /// Hands each part that was watched to `visit`, with who did.
    ///
    /// # Errors
    ///
    /// As those of [`watch`](Self::watch).
    #[require(R > Read | Write)]
    pub fn unwatch(
        &self,
        range: Range<usize>,
        suits: impl Fn(&VmMapping<M>) -> bool,
        visit: impl FnMut(Range<usize>, &Arc<dyn FaultHandler>),
    ) -> Result<(), Error> {
        self.inner.unwatch(range, suits, visit)
    }

    /// Ends all that `handler` watches.
    #[require(R > Read | Write)]
    pub fn unwatch_all(&self, handler: &Arc<dyn FaultHandler>) {
        self.inner.unwatch_all(handler);
    }

    /// Returns everybody who watches anything, each once.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    #[require(R > Read)]
    pub fn watchers(&self) -> Result<Vec<Arc<dyn FaultHandler>>, Error> {
        let mappings = self.inner.mappings.read();
        let mut handlers: Vec<Arc<dyn FaultHandler>> = Vec::new();
        for watcher in mappings.watch.iter().flat_map(|watch| watch.watchers.iter().flatten()) {
            if !handlers.iter().any(|known| watcher.is(known)) {
                fallible::try_push(&mut handlers, watcher.handler.clone())?;
            }
        }
        Ok(handlers)
    }
}

/// Returns whether somebody can watch a mapping for `modes`.
fn can_be_watched<M: Machine>(
    mapping: &VmMapping<M>,
    modes: WatchModes,
    suits: impl Fn(&VmMapping<M>) -> bool,
) -> bool {
    match mapping.memory() {
        MappedMemory::Anonymous => !modes.contains(WatchModes::MINOR),
        MappedMemory::Vmo { .. } => suits(mapping),
        MappedMemory::Device { .. } | MappedMemory::Region(_) => false,
    }
}

impl<M: Machine> Vmar_<M> {
    fn watch(
        &self,
        range: Range<usize>,
        modes: WatchModes,
        handler: &Arc<dyn FaultHandler>,
        suits: impl Fn(&VmMapping<M>) -> bool,
    ) -> Result<(), Error> {
        if !self.is_root() {
            return Err(Error::NotSupported);
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        let mut is_mapped = false;
        for (_, mapping) in mappings.range(range.clone()) {
            is_mapped = true;
            if !can_be_watched(mapping, modes, &suits) {
                return Err(Error::InvalidOptions);
            }
            if !mapping.perms().contains(VmPerms::MAY_WRITE) {
                return Err(Error::NotPermitted);
            }
            let watcher = mapping.watch.and_then(|slot| mappings.watch.as_ref()?.watcher(slot));
            if watcher.is_some_and(|watcher| !watcher.is(handler)) {
                return Err(Error::Occupied);
            }
        }
        if !is_mapped {
            return Err(Error::NotMapped);
        }
        self.show_all(&mappings, &range)?;
        self.reserve_splits(&mut mappings, &range)?;
        let slot = mappings.watch_slot_for(handler, modes)?;
        // From here on nothing fails.
        for (found, mapping) in mappings.range(range.clone()).filter(|(_, mapping)| !mapping.is_handed()) {
            self.drop_unseen(mapping, &clip(&found, &range));
        }
        let Some(mut watch) = mappings.watch.take() else { return Ok(()) };
        mappings.change(&range, |part, mapping| {
            let old = watch.modes(mapping.watch);
            if !old.contains(modes) {
                mapping.watch = Some(slot);
            }
            if !old.contains(WatchModes::WRITES) || !watch.modes(mapping.watch).contains(WatchModes::WRITES) {
                watch.marks.clear(&Watch::numbers::<M>(part));
            }
        });
        mappings.watch = Some(watch);
        Ok(())
    }

    /// Takes out the zeros of `part` of a mapping that were mapped ahead of the program and never read: for whoever watches, they
    /// are missing.
    fn drop_unseen(&self, mapping: &VmMapping<M>, part: &Range<usize>) {
        if !matches!(mapping.memory(), MappedMemory::Anonymous) {
            return;
        }
        let Some(span) = mapping.resident_span(part) else { return };
        self.transact(span.clone(), |cursor| {
            while let Some(addr) = cursor.next_mapped(span.end) {
                let end = addr + M::PAGE_SIZE;
                let is_unseen = matches!(cursor.query(), Entry::Page { props: PageProps { flags, .. }, .. }
                    if !flags.intersects(PageFlags::PRIVATE | PageFlags::ACCESSED));
                if is_unseen {
                    cursor.unmap(end);
                }
                if end >= span.end {
                    break;
                }
                cursor.seek(end);
            }
        });
    }

    fn unwatch(
        &self,
        range: Range<usize>,
        suits: impl Fn(&VmMapping<M>) -> bool,
        mut visit: impl FnMut(Range<usize>, &Arc<dyn FaultHandler>),
    ) -> Result<(), Error> {
        if !self.is_root() {
            return Err(Error::NotSupported);
        }
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        let mut is_mapped = false;
        for (_, mapping) in mappings.range(range.clone()) {
            is_mapped = true;
            if !can_be_watched(mapping, WatchModes::empty(), &suits) {
                return Err(Error::InvalidOptions);
            }
        }
        if !is_mapped {
            return Err(Error::NotMapped);
        }
        self.reserve_splits(&mut mappings, &range)?;
        // From here on nothing fails.
        mappings.clear_marks(&range);
        let Some(watch) = mappings.watch.take() else { return Ok(()) };
        mappings.change(&range, |part, mapping| {
            if let Some(watcher) = mapping.watch.take().and_then(|slot| watch.watcher(slot)) {
                visit(part.clone(), &watcher.handler);
            }
        });
        mappings.watch = Some(watch);
        Ok(())
    }

    fn unwatch_all(&self, handler: &Arc<dyn FaultHandler>) {
        let Ok(mut mappings) = self.change() else { return };
        let Some(mut watch) = mappings.watch.take() else { return };
        let is_watched = |watch: &Watch, mapping: &VmMapping<M>| {
            mapping.watch.and_then(|slot| watch.watcher(slot)).is_some_and(|watcher| watcher.is(handler))
        };
        let mut at = self.range.start;
        loop {
            let next = mappings.range(at..self.range.end).find(|(_, mapping)| is_watched(&watch, mapping));
            let Some((found, _)) = next else { break };
            at = found.end;
            watch.marks.clear(&Watch::numbers::<M>(&found));
            mappings.change(&found, |_, mapping| mapping.watch = None);
        }
        for slot in &mut watch.watchers {
            if slot.as_ref().is_some_and(|watcher| watcher.is(handler)) {
                // The caller has the handler still: nothing is let go of for good.
                *slot = None;
            }
        }
        mappings.watch = Some(watch);
        mappings.forget_watchers();
    }
}

impl<M: Machine> Mappings<M> {
    /// Returns the slot for a handler that is going to watch for `modes`.
    fn watch_slot_for(
        &mut self,
        handler: &Arc<dyn FaultHandler>,
        modes: WatchModes,
    ) -> Result<WatchSlot, OutOfMemory> {
        if self.watch.is_none() {
            self.watch = Some(fallible::try_box(Watch::default())?);
        }
        let Some(watch) = &mut self.watch else { return Err(OutOfMemory) };
        if let Ok(slot) = watch.slot_for(handler, modes) {
            return Ok(slot);
        }
        // All numbers are taken; some may be of no use any more.
        let Some(mut watch) = self.watch.take() else { return Err(OutOfMemory) };
        for index in 0..watch.watchers.len() {
            let is_used = self.iter().any(|(_, mapping)| mapping.watch == WatchSlot::of(index));
            if !is_used {
                watch.watchers[index] = None;
            }
        }
        self.watch.insert(watch).slot_for(handler, modes)
    }

    /// Drops what is kept of watchers if there are none.
    fn forget_watchers(&mut self) {
        if self.watch.as_ref().is_some_and(|watch| watch.watchers.iter().all(Option::is_none)) {
            self.watch = None;
        }
    }
}
