// SPDX-License-Identifier: MPL-2.0

//! Which faults are handed over, and the handing.

use alloc::sync::Arc;
use core::{fmt, ops::Range};

use super::{FaultHandler, WatchModes};
use crate::{
    machine::{AddressSpace, Cursor, Entry, Machine, SleepLock},
    mapping::{MappedMemory, VmMapping},
    object::Lookup,
    vmar::{
        Mappings, Vmar_,
        fault::{Access, Cause, FaultError},
    },
};

/// Why a fault is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandReason {
    /// Nobody has the page.
    Missing,
    /// The object has the page, and the space has not.
    Minor,
    /// The page is there and marked, and was written to.
    Write,
}

impl HandReason {
    /// Returns who is handed the faults.
    const fn mode(self) -> WatchModes {
        match self {
            Self::Missing => WatchModes::MISSING,
            Self::Minor => WatchModes::MINOR,
            Self::Write => WatchModes::WRITES,
        }
    }
}

/// A fault that somebody else is to serve.
pub struct HandedFault<'a> {
    /// The address (bytes), as precisely as it is known.
    pub addr: usize,
    /// The access.
    pub access: Access,
    /// Why it is handed over.
    pub reason: HandReason,
    /// Who wants the page to be there.
    pub cause: Cause,
    stands: &'a dyn Fn() -> bool,
}

impl HandedFault<'_> {
    /// Returns whether nobody has served the fault yet. Whoever is going to wait looks after making himself known.
    pub fn stands(&self) -> bool {
        (self.stands)()
    }
}

impl fmt::Debug for HandedFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandedFault")
            .field("addr", &self.addr)
            .field("access", &self.access)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<M: Machine> Vmar_<M> {
    /// Has `handler` serve a fault. No lock is held.
    #[cold]
    pub(in crate::vmar) fn hand_over(
        &self,
        handler: &Arc<dyn FaultHandler>,
        reason: HandReason,
        (addr, access, cause): (usize, Access, Cause),
    ) -> Result<(), FaultError> {
        let page = addr - addr % M::PAGE_SIZE;
        let stands = || {
            let mappings = self.mappings.read();
            mappings.find(page).filter(|(_, mapping)| mapping.is_handed()).is_some_and(|(range, mapping)| {
                self.find_handler(&mappings, mapping, &range, page, access)
                    .is_some_and(|(found, why)| why == reason && Arc::ptr_eq(&found, handler))
            })
        };
        handler.handle(&HandedFault { addr, access, reason, cause, stands: &stands })
    }

    /// Returns who is handed the fault of an access to `page` of `mapping`, which is at `range` and watched, if anybody is.
    pub(in crate::vmar) fn find_handler(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        range: &Range<usize>,
        page: usize,
        access: Access,
    ) -> Option<(Arc<dyn FaultHandler>, HandReason)> {
        let watch = mappings.watch.as_ref()?;
        let watcher = watch.watcher(mapping.watch?)?;
        let missing = self.why_not_there(mapping, range, page)?;
        let is_write = access == Access::Write && watch.marks.has(page / M::PAGE_SIZE);
        let reasons = [missing, is_write.then_some(HandReason::Write)];
        // A page that is missing may be marked as well. Where an object has one for it, it is there before the write is handed over.
        let reason = reasons.into_iter().flatten().find(|reason| watcher.modes.contains(reason.mode()))?;
        let is_early = reason == HandReason::Write
            && missing.is_some()
            && matches!(mapping.memory(), MappedMemory::Vmo { .. });
        (!is_early).then(|| (watcher.handler.clone(), reason))
    }

    /// Returns why `page` is not there, if it is not; `None` if there cannot be one.
    fn why_not_there(
        &self,
        mapping: &VmMapping<M>,
        range: &Range<usize>,
        page: usize,
    ) -> Option<Option<HandReason>> {
        let one = page..page + M::PAGE_SIZE;
        let is_there = mapping.resident_span(&one).is_some()
            && self.space.may_be_mapped(page)
            && self.transact(one, |cursor| !matches!(cursor.query(), Entry::Empty));
        if is_there {
            return Some(None);
        }
        let MappedMemory::Vmo { object, offset } = mapping.memory() else {
            return Some(Some(HandReason::Missing));
        };
        match object.lookup((offset + (page - range.start)) / M::PAGE_SIZE) {
            Lookup::Resident(_) => Some(Some(HandReason::Minor)),
            Lookup::Absent | Lookup::Paged => Some(Some(HandReason::Missing)),
            Lookup::PastEnd => None,
        }
    }
}
