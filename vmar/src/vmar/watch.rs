// SPDX-License-Identifier: MPL-2.0

//! Memory whose faults somebody else serves: what `userfaultfd` in Linux, or an external pager, needs of an address space.
//!
//! A client [watches](Vmar::watch) a part of a space. A fault there that its [`WatchModes`] name is not served; it is handed to
//! the client's [`FaultHandler`], which may take its time, and then tried again:
//!
//! ```text
//!   fault ─► lock for reading ─► watched, and the client's? ──► unlock ─► FaultHandler::handle
//!     ▲                               │ no                                      │  somebody fills the page,
//!     │                               ▼                                         │  or takes the mark away
//!     │                            served                                       ▼
//!     └───────────────────────────────────────────────────────────────────── try again
//! ```
//!
//! | mode | what is handed over |
//! | --- | --- |
//! | `MISSING` | any access to a page that nobody has: not the space, and not the object either |
//! | `MINOR` | any access to a page that the object has, and the space has not |
//! | `WRITES` | a write to a page that was [write-protected](Vmar::write_protect) |
//!
//! A page is [filled](Vmar::fill) only where there is none; that is how those who race to serve one fault agree.
//!
//! # Invariants
//!
//! - No lock is held while a handler is asked.
//! - Nothing that is watched is borrowed from a backup: to watch shows it, and a space with watchers is forked by copying.
//! - Nothing is mapped ahead of a program in what is watched.
//! - The entry of a marked page has not WRITE.

mod fill;
mod hand;
mod marks;

use alloc::{sync::Arc, vec::Vec};
use core::{any::Any, num::NonZeroU8, ops::Range};

use aster_rights::{TRightSet, TRights, require};

use self::marks::Marks;
pub use self::{
    fill::Fill,
    hand::{HandReason, HandedFault},
};
use super::{Vmar, Vmar_, entries::clip, fault::FaultError, mappings::Mappings, query::MappingInfo};
use crate::{
    error::{Error, Limit, OutOfMemory},
    fallible,
    machine::{Cursor, Entry, Machine, PageFlags, PageProps, SleepLock},
    mapping::{MappedMemory, VmMapping},
    perms::VmPerms,
};

bitflags::bitflags! {
    /// Which faults are handed over.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct WatchModes: u8 {
        /// Accesses to pages that nobody has.
        const MISSING = 1 << 0;
        /// Writes to pages that are marked.
        const WRITES = 1 << 1;
        /// Accesses to pages that only the object has.
        const MINOR = 1 << 2;
    }
}

/// Whom faults are handed to.
pub trait FaultHandler: Any + Send + Sync {
    /// Serves a fault, or waits until somebody has: when it returns, the access is tried again. No lock is held.
    ///
    /// # Errors
    ///
    /// Any; the fault ends with it. [`FaultError::Interrupted`] if it has waited for long enough.
    fn handle(&self, fault: &HandedFault<'_>) -> Result<(), FaultError>;

    /// Returns who watches a forked space in its place; nobody by default. Called with locks held: it does not wait.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the fork fails.
    fn fork(&self) -> Result<Option<Arc<dyn FaultHandler>>, OutOfMemory> {
        Ok(None)
    }

    /// Returns whether it goes on watching what is moved to another place.
    fn follows_moves(&self) -> bool {
        false
    }
}

/// The number, within its space, of who watches a mapping and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchSlot(NonZeroU8);

impl WatchSlot {
    fn of(index: usize) -> Option<Self> {
        u8::try_from(index + 1).ok().and_then(NonZeroU8::new).map(Self)
    }

    fn index(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

/// Somebody who watches for something.
struct Watcher {
    handler: Arc<dyn FaultHandler>,
    modes: WatchModes,
}

impl Watcher {
    fn is(&self, handler: &Arc<dyn FaultHandler>) -> bool {
        Arc::ptr_eq(&self.handler, handler)
    }
}

/// Who watches a space, and what they have marked.
#[derive(Default)]
pub(super) struct Watch {
    /// By [`WatchSlot`].
    watchers: Vec<Option<Watcher>>,
    marks: Marks,
}

impl Watch {
    fn watcher(&self, slot: WatchSlot) -> Option<&Watcher> {
        self.watchers.get(slot.index())?.as_ref()
    }

    fn modes(&self, slot: Option<WatchSlot>) -> WatchModes {
        slot.and_then(|slot| self.watcher(slot)).map_or(WatchModes::empty(), |watcher| watcher.modes)
    }

    /// Returns the slot of a handler that watches for `modes`; a new one if there is none.
    fn slot_for(
        &mut self,
        handler: &Arc<dyn FaultHandler>,
        modes: WatchModes,
    ) -> Result<WatchSlot, OutOfMemory> {
        let is_same = |watcher: &Option<Watcher>| {
            watcher.as_ref().is_some_and(|watcher| watcher.is(handler) && watcher.modes == modes)
        };
        let known = self.watchers.iter().position(is_same);
        let index = match known.or_else(|| self.watchers.iter().position(Option::is_none)) {
            Some(index) => index,
            None => self.watchers.len(),
        };
        let slot = WatchSlot::of(index).ok_or(OutOfMemory)?;
        if index == self.watchers.len() {
            fallible::try_push(&mut self.watchers, None)?;
        }
        self.watchers[index].get_or_insert_with(|| Watcher { handler: handler.clone(), modes });
        Ok(slot)
    }

    fn numbers<M: Machine>(range: &Range<usize>) -> Range<usize> {
        range.start / M::PAGE_SIZE..range.end / M::PAGE_SIZE
    }
}

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

    /// Marks the pages of `range` (bytes, page-aligned), or takes their marks away: a write to one that is marked is handed over.
    /// Of anonymous memory, only pages that are resident can be marked.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// - [`Error::NotMapped`] unless `range` lies within one mapping that is watched for [`WatchModes::WRITES`].
    /// - [`Error::InvalidAlignment`], [`Error::InvalidSize`], [`Error::OutOfRange`] for a bad range.
    /// - [`Error::OutOfMemory`].
    #[require(R > Read | Write)]
    pub fn write_protect(&self, range: Range<usize>, protection: WriteProtection) -> Result<(), Error> {
        self.inner.write_protect(range, protection)
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

/// Who watches a forked space in another's place.
type Successor = Arc<dyn FaultHandler>;

/// Whether a move of pages was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Yes,
    No,
}

/// What becomes of the marks of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteProtection {
    /// Its pages are marked.
    Set,
    /// No page is.
    Cleared,
}

impl<'a, M: Machine> MappingInfo<'a, M> {
    /// Returns who is handed the mapping's faults, and which.
    pub fn watcher(&self) -> Option<(&'a Arc<dyn FaultHandler>, WatchModes)> {
        let watcher = self.mappings.watch.as_ref()?.watcher(self.mapping.watch?)?;
        Some((&watcher.handler, watcher.modes))
    }

    /// Returns whether writes to `page` (its address) are handed over.
    pub fn is_write_protected(&self, page: usize) -> bool {
        self.mapping.is_handed()
            && self.mappings.watch.as_ref().is_some_and(|watch| watch.marks.has(page / M::PAGE_SIZE))
    }
}

impl<M: Machine> Mappings<M> {
    /// Returns whether a page (its address) of a watched mapping is marked.
    pub(crate) fn is_marked(&self, page: usize) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.marks.has(page / M::PAGE_SIZE))
    }

    /// Takes the marks of `range` (bytes) away.
    #[inline(always)]
    pub(super) fn clear_marks(&mut self, range: &Range<usize>) {
        if self.watch.is_some() {
            self.clear_some_marks(range);
        }
    }

    #[cold]
    #[inline(never)]
    fn clear_some_marks(&mut self, range: &Range<usize>) {
        if let Some(watch) = &mut self.watch {
            watch.marks.clear(&Watch::numbers::<M>(range));
        }
    }

    /// Takes the marks away that anonymous memory has in `range` (bytes), whose pages are gone.
    #[cold]
    #[inline(never)]
    pub(super) fn clear_marks_of_anonymous(&mut self, range: &Range<usize>) {
        let Some(mut watch) = self.watch.take() else { return };
        for (found, mapping) in self.range(range.clone()) {
            if matches!(mapping.memory(), MappedMemory::Anonymous) {
                watch.marks.clear(&Watch::numbers::<M>(&clip(&found, range)));
            }
        }
        self.watch = Some(watch);
    }

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

    /// Takes over who watches `parent`, as far as they go on with a fork.
    pub(super) fn fork_watchers(&mut self, parent: &Self) -> Result<(), OutOfMemory> {
        let Some(watch) = &parent.watch else { return Ok(()) };
        let mut copy = Watch::default();
        let mut successors: Vec<(&Arc<dyn FaultHandler>, Option<Successor>)> = Vec::new();
        for watcher in &watch.watchers {
            let Some(Watcher { handler, modes }) = watcher else {
                fallible::try_push(&mut copy.watchers, None)?;
                continue;
            };
            let known = successors.iter().position(|(known, _)| Arc::ptr_eq(known, handler));
            let at = match known {
                Some(at) => at,
                None => {
                    fallible::try_push(&mut successors, (handler, handler.fork()?))?;
                    successors.len() - 1
                }
            };
            let successor = successors[at].1.as_ref();
            let copied = successor.map(|handler| Watcher { handler: handler.clone(), modes: *modes });
            fallible::try_push(&mut copy.watchers, copied)?;
        }
        if copy.watchers.iter().any(Option::is_some) {
            self.watch = Some(fallible::try_box(copy)?);
        }
        Ok(())
    }

    /// Returns who watches the copy, for a forked space, of a mapping of `parent` at `range`; copies its marks then, unless it is
    /// wiped.
    #[cold]
    #[inline(never)]
    pub(super) fn fork_watched(
        &mut self,
        parent: &Self,
        range: &Range<usize>,
        mapping: &VmMapping<M>,
        is_wiped: bool,
    ) -> Result<Option<WatchSlot>, OutOfMemory> {
        let (Some(watch), Some(from)) = (&mut self.watch, &parent.watch) else { return Ok(None) };
        let Some(slot) = mapping.watch.filter(|slot| watch.watcher(*slot).is_some()) else { return Ok(None) };
        if !is_wiped {
            let numbers = Watch::numbers::<M>(range);
            let mut result = Ok(());
            from.marks.for_each(numbers.clone(), |page| {
                if result.is_ok() {
                    result = watch.marks.prepare(page);
                }
            });
            result?;
            watch.marks.commit(&numbers);
        }
        Ok(Some(slot))
    }

    /// Makes ready what a move of `from`, a part of the mapping that becomes `copy`, to `to` does to marks; takes the watcher from
    /// `copy` if it does not follow.
    #[cold]
    #[inline(never)]
    pub(super) fn prepare_marks_move(
        &mut self,
        copy: &mut VmMapping<M>,
        from: &Range<usize>,
        to: &Range<usize>,
    ) -> Result<(), OutOfMemory> {
        let Some(slot) = copy.watch else { return Ok(()) };
        let Some(watch) = &mut self.watch else { return Ok(()) };
        if !watch.watcher(slot).is_some_and(|watcher| watcher.handler.follows_moves()) {
            copy.watch = None;
            return Ok(());
        }
        let (from, to) = (Watch::numbers::<M>(from), Watch::numbers::<M>(to));
        let mut moved = Vec::new();
        let mut result = Ok(());
        watch.marks.for_each(from.clone(), |page| {
            if result.is_ok() {
                result = fallible::try_push(&mut moved, to.start + (page - from.start));
            }
        });
        result?;
        for page in moved {
            if let Err(error) = watch.marks.prepare(page) {
                watch.marks.abandon(&to);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends what [`prepare_marks_move`](Self::prepare_marks_move) has begun: the pages have moved, or they have not.
    #[cold]
    #[inline(never)]
    pub(super) fn end_marks_move(&mut self, from: &Range<usize>, to: &Range<usize>, moved: Moved) {
        let Some(watch) = &mut self.watch else { return };
        let to = Watch::numbers::<M>(to);
        match moved {
            Moved::Yes => {
                watch.marks.clear(&Watch::numbers::<M>(from));
                watch.marks.commit(&to);
            }
            Moved::No => watch.marks.abandon(&to),
        }
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

    fn reserve_splits(&self, mappings: &mut Mappings<M>, range: &Range<usize>) -> Result<(), Error> {
        let splits = mappings.count_splits(range);
        self.check_limit(mappings, Limit::Mappings, mappings.len(), splits)?;
        mappings.try_reserve(splits)?;
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

    fn write_protect(&self, range: Range<usize>, protection: WriteProtection) -> Result<(), Error> {
        self.check_range(&range)?;
        let mut mappings = self.change_within(&range)?;
        let Some(mut watch) = mappings.watch.take() else { return Err(Error::NotMapped) };
        let result = self.write_protect_locked(&mappings, &mut watch, &range, protection);
        mappings.watch = Some(watch);
        result
    }

    fn write_protect_locked(
        &self,
        mappings: &Mappings<M>,
        watch: &mut Watch,
        range: &Range<usize>,
        protection: WriteProtection,
    ) -> Result<(), Error> {
        let Some((found, mapping)) = mappings.find(range.start) else { return Err(Error::NotMapped) };
        if range.end > found.end || !watch.modes(mapping.watch).contains(WatchModes::WRITES) {
            return Err(Error::NotMapped);
        }
        let numbers = Watch::numbers::<M>(range);
        if protection == WriteProtection::Cleared {
            watch.marks.clear(&numbers);
            return Ok(());
        }
        let span = mapping.resident_span(range);
        let result = match (mapping.memory(), &span) {
            (MappedMemory::Anonymous, Some(span)) => self.prepare_resident(mappings, watch, span),
            (MappedMemory::Anonymous, None) => Ok(()),
            _ => numbers.clone().try_for_each(|page| watch.marks.prepare(page)),
        };
        if let Err(error) = result {
            watch.marks.abandon(&numbers);
            return Err(error.into());
        }
        watch.marks.commit(&numbers);
        if let Some(span) = span {
            self.transact(span.clone(), |cursor| cursor.narrow(span.end, PageFlags::WRITE));
        }
        Ok(())
    }

    /// Prepares marks of the pages of `span` that are resident.
    fn prepare_resident(
        &self,
        mappings: &Mappings<M>,
        watch: &mut Watch,
        span: &Range<usize>,
    ) -> Result<(), OutOfMemory> {
        let mut count = 0;
        self.for_each_page(mappings, span, |_, _| count += 1);
        let mut pages = fallible::try_with_capacity(count)?;
        self.for_each_page(mappings, span, |addr, _| pages.push(addr / M::PAGE_SIZE));
        pages.into_iter().try_for_each(|page| watch.marks.prepare(page))
    }
}

#[cfg(test)]
mod tests;
