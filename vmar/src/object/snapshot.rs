// SPDX-License-Identifier: MPL-2.0

//! Taking snapshots of an object, and letting go of what is below it.

use alloc::sync::Arc;
use core::{ops::Range, sync::atomic::Ordering::Relaxed};

use super::{
    layer::{Below, Found, Snapshot},
    mapped::Zap,
    source::{Purpose, Snapshots},
    vmo::{Lookup, Vmo_, VmoKind},
};
use crate::{
    error::Error,
    fallible::try_arc,
    machine::{Frame, Machine, SleepLock},
};

impl<M: Machine> Vmo_<M> {
    /// Makes an object that holds now what the pages `window` of this one do, `size` bytes of them; writes to either are not seen in
    /// the other.
    ///
    /// What is written through mappings while this runs is in both, until it returns.
    ///
    /// # Errors
    ///
    /// - [`Error::NotSupported`] if the object's source shows memory that others change.
    /// - [`Error::OutOfMemory`]; nothing has changed then.
    pub(super) fn snapshot(self: &Arc<Self>, window: Range<usize>, size: usize) -> Result<Arc<Self>, Error> {
        match self.source().map(|source| source.snapshots()) {
            // Pages in common would be those of two accounts.
            None | Some(Snapshots::Here) if self.account().is_some() => return Err(Error::NotSupported),
            None | Some(Snapshots::Here) => {}
            Some(Snapshots::Beneath(object, base)) => {
                return object.snapshot(base + window.start..base + window.end, size);
            }
            Some(Snapshots::Refused) => return Err(Error::NotSupported),
        }
        // Of pages in common a file would be told nothing: what its snapshot holds is shared memory.
        let kind = if self.source().is_some() { VmoKind::SharedMemory } else { self.kind() };
        let snapshot = try_arc(Self::new(self.machine().clone(), size, kind, None))?;
        // Nobody makes a copy of a page, nor changes the size, before the last writer to what is now in common is gone.
        let _resizing = self.resizing.write();
        let last = {
            let mut pages = self.pages.write();
            let pages = &mut *pages;
            let prepared = Snapshot::prepare(pages.below.as_ref())?;
            let count = pages.count();
            let window = window.start.min(count)..window.end.min(count).max(window.start.min(count));
            let (upper, lower) =
                prepared.split((self, pages.size), (&snapshot, window), &mut pages.map, &mut pages.below)?;
            pages.below = Some(upper);
            pages.removals += 1;
            self.is_layered.store(true, Relaxed);
            let mut below = snapshot.pages.write();
            below.below = Some(lower);
            snapshot.is_layered.store(true, Relaxed);
            (!pages.size.is_multiple_of(M::PAGE_SIZE)).then_some(pages.size)
        };
        self.zap(0..usize::MAX, Zap::Object);
        // What a mapping wrote past the end must not come to light in either.
        if let Some(size) = last
            && let Lookup::Resident(frame) = self.lookup(size / M::PAGE_SIZE)
        {
            frame.zero(size % M::PAGE_SIZE..M::PAGE_SIZE);
        }
        Ok(snapshot)
    }

    /// Makes the pages of layers that nobody else sees any more the object's own.
    pub(super) fn absorb_layers(self: &Arc<Self>) {
        let mut pages = self.pages.write();
        let pages = &mut *pages;
        if let Some(below) = &mut pages.below
            && below.absorb(self, &mut pages.map, self.source())
        {
            pages.below = None;
            self.is_layered.store(false, Relaxed);
        }
    }

    /// Returns how many layers lie below one another under it.
    #[cfg(test)]
    pub(super) fn depth(&self) -> usize {
        self.pages.read().below.as_ref().map_or(0, Below::depth)
    }
}

impl<M: Machine> Below<M> {
    /// Looks at page `index`; `None` if it is not to be looked for here.
    pub(super) fn look(&self, index: usize, purpose: Purpose) -> Option<Lookup<M::Frame>> {
        Some(match self.find(index) {
            Found::Hidden => return None,
            // What is in common is copied before it is written.
            Found::Page(_) if purpose == Purpose::Write => Lookup::Paged,
            Found::Page(frame) => Lookup::Resident(frame),
            Found::Missing(None, _) => Lookup::Absent,
            Found::Missing(Some(source), at) => match source.look(at, Purpose::Read) {
                Lookup::Resident(_) if purpose == Purpose::Write => Lookup::Paged,
                found => found,
            },
        })
    }
}

#[cfg(test)]
mod tests;
