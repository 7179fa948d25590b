// SPDX-License-Identifier: MPL-2.0

//! Memory whose faults somebody else serves: what `userfaultfd` in Linux, or an external pager, needs of an address space.
//!
//! A client [watches](super::Vmar::watch) a part of a space. A fault there that its [`WatchModes`] name is not served; it is handed to
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
//! | `WRITES` | a write to a page that was [write-protected](super::Vmar::write_protect) |
//!
//! A page is [filled](super::Vmar::fill) only where there is none; that is how those who race to serve one fault agree.
//!
//! # Invariants
//!
//! - No lock is held while a handler is asked.
//! - Nothing that is watched is borrowed from a backup: to watch shows it, and a space with watchers is forked by copying.
//! - Nothing is mapped ahead of a program in what is watched.
//! - The entry of a marked page has not WRITE.

mod fill;
mod follow;
mod hand;
mod marks;
mod protect;
mod register;

use alloc::{sync::Arc, vec::Vec};
use core::{any::Any, num::NonZeroU8, ops::Range};

pub(super) use self::follow::Moved;
use self::marks::Marks;
pub use self::{
    fill::Fill,
    hand::{HandReason, HandedFault},
    protect::WriteProtection,
};
use super::{fault::FaultError, query::MappingInfo};
use crate::{error::OutOfMemory, fallible, machine::Machine};

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

impl<'a, M: Machine> MappingInfo<'a, M> {
    /// Returns who is handed the mapping's faults, and which.
    pub fn watcher(&self) -> Option<(&'a Arc<dyn FaultHandler>, WatchModes)> {
        let watcher = self.mappings.watch.as_ref()?.watcher(self.mapping.watch?)?;
        Some((&watcher.handler, watcher.modes))
    }

    /// Returns whether writes to `page` (its address) are handed over.
    pub fn is_write_protected(&self, page: usize) -> bool {
        self.mapping.is_handed() && self.mappings.is_marked(page)
    }

    /// Calls `visit` with the address of each page in `range` (bytes) writes to which are handed over, ascending, whether it is
    /// there or not.
    pub fn for_each_write_protected(&self, range: &Range<usize>, mut visit: impl FnMut(usize)) {
        let range = self.range().start.max(range.start)..self.range().end.min(range.end);
        if let Some(watch) = self.mappings.watch.as_ref().filter(|_| self.mapping.is_handed()) {
            watch.marks.for_each(Watch::numbers::<M>(&range), |page| visit(page * M::PAGE_SIZE));
        }
    }
}

#[cfg(test)]
mod tests;
