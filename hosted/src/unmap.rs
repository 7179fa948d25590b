// SPDX-License-Identifier: MPL-2.0

//! Removing mappings.
//!
//! What the guest unmaps the host keeps reserved (Q8): nothing that the emulator or its libraries map can come to lie there. A host
//! page stays while something in it lives, with what the rest needs, and goes with the last (Q9).

use std::ops::Range;

use vmar::error;

use crate::{
    commit::Commit,
    error::Error,
    host::{Host, HostProt, Memory},
    observer::Change,
    space::{Call, GuestSpace},
};

impl<H: Host> GuestSpace<H> {
    /// Unmaps what is in `size` bytes (rounded up to guest pages) from `addr` on, holes included.
    ///
    /// # Errors
    ///
    /// [`Error::Space`]: an address that is none of a page, a size of zero, addresses outside of the guest's range.
    /// [`Error::Host`].
    pub fn unmap(&self, addr: usize, size: usize) -> Result<(), Error> {
        self.enter()?.unmap(addr, size)
    }
}

impl<H: Host> Call<'_, H> {
    pub fn unmap(&mut self, addr: usize, size: usize) -> Result<(), Error> {
        let layout = self.layout();
        if !layout.is_guest_page(addr) {
            return Err(error::Error::InvalidAlignment.into());
        }
        let size = layout.guest_size(size).filter(|size| *size > 0).ok_or(error::Error::InvalidSize)?;
        let end = addr.checked_add(size).ok_or(error::Error::OutOfRange)?;
        if !layout.contains(&(addr..end)) {
            return Err(error::Error::OutOfRange.into());
        }
        self.remove(addr..end)
    }

    /// Unmaps what is in `range`.
    pub fn remove(&mut self, range: Range<usize>) -> Result<(), Error> {
        if !self.state.table.overlaps(&range) {
            return Ok(());
        }
        self.attempt(|call, commit| {
            call.state.table.try_reserve(2)?;
            call.reserve_last(commit, &range)
        })?;
        self.state.table.cut(&range);
        self.tell(Change::Unmapped(range));
        Ok(())
    }

    /// Makes the host reserve `range`, except for pages that something beside it needs. Nothing that can fail comes after.
    pub fn reserve_last(&self, commit: &mut Commit<'_, H>, range: &Range<usize>) -> Result<(), Error> {
        let layout = self.layout();
        let mut pages = layout.around(range);
        let before = pages.start..range.start;
        let behind = range.end..pages.end;
        if pages.len() == layout.host {
            let (one, two) = (self.needed(before), self.needed(behind));
            if let Some(prot) = one.max(two) {
                let old = self.state.table.host_prot(pages.clone());
                commit.protect(pages, old, prot)?;
                return Ok(());
            }
        } else {
            if let Some(prot) = self.needed(before) {
                let page = pages.start..pages.start + layout.host;
                pages.start = page.end;
                commit.protect(page.clone(), self.state.table.host_prot(page), prot)?;
            }
            if let Some(prot) = self.needed(behind) {
                let page = pages.end - layout.host..pages.end;
                pages.end = page.start;
                commit.protect(page.clone(), self.state.table.host_prot(page), prot)?;
            }
        }
        if !pages.is_empty() {
            commit.map(&pages, HostProt::None, Memory::Reservation)?;
        }
        Ok(())
    }

    /// Returns what the host must allow in part of a page; `None` if nothing is mapped there.
    fn needed(&self, part: Range<usize>) -> Option<HostProt> {
        self.state.table.overlaps(&part).then(|| self.state.table.host_prot(part))
    }
}
