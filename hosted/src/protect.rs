// SPDX-License-Identifier: MPL-2.0

//! Changing what may be done with memory (Q1 to Q3).
//!
//! The guest's own bits are kept beside the mapping, and are what it is told. The host's page gets the union of what the guest's
//! pages in it need, and never the right to execute.

use std::ops::Range;

use vmar::error;

use crate::{
    commit::Commit,
    error::Error,
    host::{Host, HostProt},
    mapping::Prot,
    observer::Change,
    space::{Call, GuestSpace},
};

impl<H: Host> GuestSpace<H> {
    /// Sets what may be done with `size` bytes (rounded up to guest pages) from `addr` on.
    ///
    /// # Errors
    ///
    /// As in Linux, what comes before the cause of an error is done:
    ///
    /// - [`Error::Space`]: a part is not mapped, or may never be allowed this.
    ///
    /// Nothing is done for:
    ///
    /// - [`Error::Space`]: an address that is none of a page, addresses outside of the guest's range.
    /// - [`Error::UnknownProtection`], [`Error::Host`].
    pub fn protect(&self, addr: usize, size: usize, prot: impl Into<Prot>) -> Result<(), Error> {
        self.enter()?.protect(addr, size, prot.into())
    }
}

impl<H: Host> Call<'_, H> {
    pub fn protect(&mut self, addr: usize, size: usize, prot: Prot) -> Result<(), Error> {
        let layout = self.layout();
        if !layout.is_guest_page(addr) {
            return Err(error::Error::InvalidAlignment.into());
        }
        if size == 0 {
            return Ok(());
        }
        let size = layout.guest_size(size).ok_or(error::Error::OutOfRange)?;
        let end = addr.checked_add(size).ok_or(error::Error::OutOfRange)?;
        self.check_arch(prot)?;
        if !layout.contains(&(addr..end)) {
            return Err(error::Error::OutOfRange.into());
        }
        let (done, result) = self.protectable(&(addr..end), prot);
        if !done.is_empty() {
            self.attempt(|call, commit| {
                let entries = call.state.table.count(done.clone());
                call.state.table.try_reserve(entries)?;
                call.protect_host(commit, &done, prot)
            })?;
            self.state.table.change(done.clone(), |mapping| {
                mapping.perms = mapping.perms.difference(vmar::perms::VmPerms::ACCESS) | prot.perms.access();
                mapping.arch = prot.arch;
            });
            self.tell(Change::Protected(done, prot));
        }
        result
    }

    /// Returns how much of `range` from its start on can have this protection, and what is wrong with the rest.
    fn protectable(&self, range: &Range<usize>, prot: Prot) -> (Range<usize>, Result<(), Error>) {
        let mut end = range.start;
        for (found, mapping) in self.state.table.map().range(range.clone()) {
            if found.start > end {
                break;
            }
            if !mapping.perms.contains(prot.perms.access().to_may()) {
                return (range.start..end, Err(error::Error::AccessDenied.into()));
            }
            end = found.end.min(range.end);
        }
        let whole = if end == range.end { Ok(()) } else { Err(error::Error::NotMapped.into()) };
        (range.start..end, whole)
    }

    /// Sets what the host allows.
    fn protect_host(
        &self,
        commit: &mut Commit<'_, H>,
        range: &Range<usize>,
        prot: Prot,
    ) -> Result<(), Error> {
        let (layout, table) = (self.layout(), &self.state.table);
        let new = HostProt::of(prot.perms);
        let around = layout.around(range);
        let mut body = around.clone();
        let before = around.start..range.start;
        let behind = range.end..around.end;
        if around.len() == layout.host && (!before.is_empty() || !behind.is_empty()) {
            let rest = table.host_prot(before).union(table.host_prot(behind));
            commit.protect(around.clone(), table.host_prot(around), rest.union(new))?;
            return Ok(());
        }
        if !before.is_empty() {
            let page = around.start..around.start + layout.host;
            body.start = page.end;
            commit.protect(page.clone(), table.host_prot(page), table.host_prot(before).union(new))?;
        }
        if !behind.is_empty() {
            let page = around.end - layout.host..around.end;
            body.end = page.start;
            commit.protect(page.clone(), table.host_prot(page), table.host_prot(behind).union(new))?;
        }
        commit.protect_last(table, body, new)?;
        Ok(())
    }
}
