// SPDX-License-Identifier: MPL-2.0

//! Several calls of the host's that have their effect together, or none (Q18).
//!
//! Each call that changes the guest's range is noted with what takes it back. If a later one fails, all are taken back in
//! reverse. What cannot be taken back, because it replaces memory with something in it, comes last; and where two such calls
//! are needed, all but the last set the old pages aside first.

use std::ops::Range;

use crate::{
    error::Error,
    host::{Area, Errno, Host, HostProt, Memory},
    layout::Layout,
    remap::OldRange,
    table::Table,
};

/// What takes a call back.
enum Undo {
    /// Setting the old protection.
    Protect(HostProt),
    /// Reserving what was reserved.
    Reserve,
    /// Putting back what was set aside.
    Restore(Area),
    /// Putting back what was moved there.
    Return(Range<usize>),
}

/// Calls that have been made, and can be taken back.
pub(crate) struct Commit<'a, H: Host> {
    host: &'a H,
    area: &'a Area,
    layout: &'a Layout,
    done: Vec<(Range<usize>, Undo)>,
}

impl<'a, H: Host> Commit<'a, H> {
    pub fn new(host: &'a H, area: &'a Area, layout: &'a Layout) -> Self {
        Self { host, area, layout, done: Vec::new() }
    }

    /// Sets the protection of a range (the guest's addresses, host pages), which was `old`.
    pub fn protect(&mut self, range: Range<usize>, old: HostProt, new: HostProt) -> Result<(), Errno> {
        if range.is_empty() || old == new {
            return Ok(());
        }
        self.host.protect(self.area, self.layout.offsets(&range), new)?;
        self.done.push((range, Undo::Protect(old)));
        Ok(())
    }

    /// Sets the protection of host pages, whatever it was by the table, as the last thing to be done.
    pub fn protect_last(&mut self, table: &Table, range: Range<usize>, new: HostProt) -> Result<(), Errno> {
        let changes = table.map().range(range.clone()).any(|(_, mapping)| mapping.host_prot() != new);
        if range.is_empty() || !changes {
            return Ok(());
        }
        self.host.protect(self.area, self.layout.offsets(&range), new).inspect_err(|_| {
            // The host may have come some way: each run of pages gets back what it had.
            let mut at = range.start;
            while at < range.end {
                let found = table.map().find(at).map_or(at, |(found, _)| found.end);
                let run = at..self.layout.down(found).clamp(at + self.layout.host, range.end);
                self.done.push((run.clone(), Undo::Protect(table.host_prot(run.clone()))));
                at = run.end;
            }
        })
    }

    /// Sets aside what is in `range` (host pages), to be replaced by calls that are not noted.
    ///
    /// It goes page by page: whatever the host has there, a page is one mapping of its.
    pub fn set_aside(&mut self, table: &Table, range: &Range<usize>) -> Result<(), Errno> {
        if table.overlaps(range) {
            for page in range.clone().step_by(self.layout.host) {
                let page = page..page + self.layout.host;
                if table.overlaps(&page) {
                    self.take(page)?;
                }
            }
        }
        // Taken back first, before the pages.
        self.done.push((range.clone(), Undo::Reserve));
        Ok(())
    }

    /// Sets aside one mapping of the host's, or a page of one.
    fn take(&mut self, range: Range<usize>) -> Result<(), Errno> {
        let taken = self.host.take(self.area, self.layout.offsets(&range))?;
        self.done.push((range, Undo::Restore(taken)));
        Ok(())
    }

    /// Moves what is in `from` over what is in `to` (host pages, at least as many). Then `from` is reserved, or keeps its mappings
    /// without their pages. Nothing that can fail comes after.
    pub fn relocate(
        &mut self,
        table: &Table,
        from: &Range<usize>,
        to: &Range<usize>,
        old: OldRange,
    ) -> Result<(), Errno> {
        let mut parts = Vec::new();
        let result = self.relocate_parts(table, from, to, old, &mut parts);
        // What has not arrived goes back.
        self.done.extend(parts.into_iter().map(|(range, area)| (range, Undo::Restore(area))));
        result
    }

    fn relocate_parts(
        &mut self,
        table: &Table,
        from: &Range<usize>,
        to: &Range<usize>,
        old: OldRange,
        parts: &mut Vec<(Range<usize>, Area)>,
    ) -> Result<(), Errno> {
        self.take_parts(from.clone(), parts)?;
        if old == OldRange::Unmapped {
            self.map(from, HostProt::None, Memory::Reservation)?;
        }
        if parts.len() > 1 {
            self.set_aside(table, to)?;
        }
        let mut end = to.end;
        while let Some((range, area)) = parts.pop() {
            let start = to.start + (range.start - from.start);
            if let Err((area, errno)) = self.put(area, &(start..end)) {
                parts.push((range, area));
                return Err(errno);
            }
            let moved = start..start + range.len();
            self.done.push((range, Undo::Return(moved)));
            end = start;
        }
        Ok(())
    }

    /// Takes out what is in `range` (host pages), in as few parts as the host's own mappings allow.
    fn take_parts(&self, range: Range<usize>, parts: &mut Vec<(Range<usize>, Area)>) -> Result<(), Errno> {
        match self.host.take(self.area, self.layout.offsets(&range)) {
            Ok(area) => {
                parts.push((range, area));
                Ok(())
            }
            // The host has more than one mapping there, and does not say where they meet.
            Err(Errno::FAULT) if range.len() > self.layout.host => {
                let middle = self.layout.down(range.start + range.len() / 2);
                self.take_parts(range.start..middle, parts)?;
                self.take_parts(middle..range.end, parts)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Replaces what is in `range`.
    pub fn map(&mut self, range: &Range<usize>, prot: HostProt, memory: Memory<'_>) -> Result<(), Errno> {
        self.host.map(self.area, self.layout.offsets(range), prot, memory)
    }

    /// Moves an area over what is in `range`.
    pub fn put(&mut self, from: Area, range: &Range<usize>) -> Result<(), (Area, Errno)> {
        self.host.put(from, self.area, self.layout.offsets(range))
    }

    /// Takes everything back.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the host refuses.
    pub fn roll_back(self) -> Result<(), Error> {
        let mut result = Ok(());
        for (range, undo) in self.done.into_iter().rev() {
            let offsets = self.layout.offsets(&range);
            let undone = match undo {
                Undo::Protect(prot) => self.host.protect(self.area, offsets, prot),
                Undo::Reserve => self.host.map(self.area, offsets, HostProt::None, Memory::Reservation),
                Undo::Return(moved) => {
                    let taken = self.host.take(self.area, self.layout.offsets(&moved));
                    taken.and_then(|area| self.host.put(area, self.area, offsets).map_err(|(_, errno)| errno))
                }
                Undo::Restore(area) => {
                    let whole = offsets.start..offsets.start + area.size();
                    self.host.put(area, self.area, whole).map_err(|(_, errno)| errno)
                }
            };
            if undone.is_err() {
                result = Err(Error::Broken);
            }
        }
        result
    }
}
