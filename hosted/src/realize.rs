// SPDX-License-Identifier: MPL-2.0

//! Turning a mapping of the guest's into memory of the host's (Q4 to Q7).
//!
//! ```text
//!   guest pages      ┌──┬──┬──┬──┬──┬──┬──┬──┬──┬──┐
//!   asked for               [ a  a  a  a  a  a  a ]
//!   host pages      │  n  n  a  a │ a  a  a  a │ a  n  ·  · │
//!                    ───── 1 ───── ───── 3 ───── ───── 2 ─────
//! ```
//!
//! 1. and 2. A page that the mapping shares with a neighbour is *built* aside: the neighbour's bytes, and the mapping's own (zeros,
//!    or the file's). It is private memory then, and takes the page's place in one call.
//! 3. What lies in whole pages is mapped directly, last, in one call that the host does or does not do.
//!
//! A page that has no neighbour goes with the whole pages. A page whose neighbours show shared memory that can be written cannot
//! be built: the call is refused. With guest pages larger than the host's there are no such pages; there it is the end of a file
//! that cuts a guest page in two, and private zeros follow on the file's.

use std::{ops::Range, os::fd::AsFd};

use vmar::{error, mapping::Sharing, perms::VmPerms};

use crate::{
    commit::Commit,
    error::Error,
    host::{Area, Errno, Host, HostProt, Memory},
    mapping::{HostMemory, Mapping, Source},
    space::Call,
};

/// What a new mapping holds.
pub(crate) enum Content {
    /// What its source says.
    Fresh,
    /// The bytes of an area, which covers the host pages that the mapping touches.
    Built(Area),
}

/// Whether the call can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// Something comes after it that may fail.
    Reversible,
    /// It is the last.
    Final,
}

/// Host pages, and what is to be there.
enum Piece {
    /// The mapping's source, `distance` bytes from its start (if that is in the piece).
    Direct { range: Range<usize>, memory: HostMemory, offset: u64 },
    /// An area.
    Built { range: Range<usize>, area: Area, memory: HostMemory },
}

/// What has been done, for the table.
#[must_use = "the table is told of it"]
pub(crate) struct Realized {
    parts: Vec<(Range<usize>, HostMemory)>,
    privatised: Vec<Range<usize>>,
    is_copied: bool,
}

impl Piece {
    fn range(&self) -> &Range<usize> {
        match self {
            Self::Direct { range, .. } | Self::Built { range, .. } => range,
        }
    }

    fn memory(&self) -> HostMemory {
        match self {
            Self::Direct { memory, .. } | Self::Built { memory, .. } => *memory,
        }
    }
}

impl<H: Host> Call<'_, H> {
    /// Makes the host show `mapping` at `range` (guest pages), in place of what is there.
    pub(crate) fn realize(
        &mut self,
        commit: &mut Commit<'_, H>,
        range: &Range<usize>,
        mapping: &Mapping,
        content: Content,
        finality: Finality,
    ) -> Result<Realized, Error> {
        let mut realized = Realized { parts: Vec::new(), privatised: Vec::new(), is_copied: false };
        let mut pieces = self.plan(commit, range, mapping, content, &mut realized)?;
        let entries = pieces.len() + self.state.table.count(self.layout().around(range)) + 4;
        self.state.table.try_reserve(entries)?;
        // Small ones are set aside with less ado.
        pieces.sort_by_key(|piece| piece.range().len());
        let last = pieces.len().saturating_sub(1);
        for (at, piece) in pieces.into_iter().enumerate() {
            let pages = piece.range().clone();
            let part = pages.start.max(range.start)..pages.end.min(range.end);
            realized.parts.push((part, piece.memory()));
            if finality == Finality::Reversible || at < last {
                commit.set_aside(&self.state.table, &pages)?;
            }
            match piece {
                Piece::Built { area, .. } => commit.put(area, &pages).map_err(|(_, errno)| errno)?,
                Piece::Direct { memory, offset, .. } => {
                    let memory = match (memory, mapping.source.file()) {
                        (HostMemory::Anonymous, _) | (_, None) => Memory::Anonymous,
                        (_, Some((file, _))) => {
                            Memory::File { file: file.as_fd(), offset, sharing: mapping.sharing }
                        }
                    };
                    commit.map(&pages, mapping.host_prot(), memory)?;
                }
            }
        }
        Ok(realized)
    }

    /// Tells the table what has been done.
    pub(crate) fn note(&mut self, range: &Range<usize>, mut mapping: Mapping, realized: Realized) {
        if realized.is_copied && mapping.sharing == Sharing::Shared {
            mapping.perms.remove(VmPerms::MAY_WRITE);
        }
        let table = &mut self.state.table;
        table.cut(range);
        for (part, memory) in realized.parts {
            let mut mapping = mapping.advanced(part.start - range.start);
            mapping.memory = memory;
            table.insert(part, mapping);
        }
        for neighbour in realized.privatised {
            table.set_memory(neighbour, HostMemory::Anonymous);
        }
    }

    /// Decides which host pages are to show what, and builds those that need it.
    fn plan(
        &self,
        commit: &mut Commit<'_, H>,
        range: &Range<usize>,
        mapping: &Mapping,
        content: Content,
        realized: &mut Realized,
    ) -> Result<Vec<Piece>, Error> {
        self.check_neighbours(range)?;
        let (layout, host) = (self.layout(), self.host());
        let around = layout.around(range);
        let has_head = around.start < range.start;
        let has_tail = range.end < around.end;
        let mut builds_head = self.state.table.overlaps(&(around.start..range.start));
        let builds_tail = self.state.table.overlaps(&(range.end..around.end));
        let is_crowded = builds_head || builds_tail;
        // A new mapping of a file that is only read can be given a copy, which it then may never write. One that is moved has been
        // promised more, and shared memory is there to be written by somebody.
        let writes = mapping.is_tied()
            || matches!(mapping.source, Source::Nameless { .. })
            || mapping.sharing == Sharing::Shared && mapping.perms.contains(VmPerms::WRITE);
        let mut start_offset = 0;
        let mut all_built = None;
        match (content, &mapping.source) {
            (Content::Built(area), _) => all_built = Some(area),
            (Content::Fresh, Source::Anonymous) => {}
            (Content::Fresh, Source::Segment { id, offset, .. }) => {
                if is_crowded || *offset != 0 {
                    return Err(Error::SharedHostPage);
                }
                return self.attach(*id, &around, mapping);
            }
            (Content::Fresh, Source::File { offset, .. } | Source::Nameless { offset, .. }) => {
                let is_named = matches!(mapping.source, Source::File { .. });
                if writes && (is_crowded || is_named && (has_head || has_tail)) {
                    return Err(Error::SharedHostPage);
                }
                let shift = (range.start - around.start) as u64;
                let fits = offset % layout.host as u64 == shift;
                if writes && !fits {
                    return Err(Error::OffsetOffHostPage);
                }
                if !fits || !writes && self.is_cut_short(mapping, range.len())? {
                    let area = host.stage(around.len())?;
                    self.read_source(&area, &around, range, mapping)?;
                    all_built = Some(area);
                    realized.is_copied = true;
                } else {
                    start_offset = offset - shift;
                }
                realized.is_copied |= is_crowded;
            }
        }

        let single = around.len() == layout.host;
        builds_head |= single && builds_tail;
        let body_start = if builds_head { around.start + layout.host } else { around.start };
        let body_end = if builds_tail && !single { around.end - layout.host } else { around.end };
        let head = around.start..body_start;
        let tail = if single { around.end..around.end } else { body_end..around.end };
        let body = body_start..body_end.max(body_start);

        let mut pieces = Vec::new();
        if let Some(area) = all_built {
            let (first, rest) = area.split(head.len());
            let (middle, last) = rest.split(body.len());
            for (pages, area) in [(head, first), (body, middle), (tail, last)] {
                if !pages.is_empty() {
                    pieces.push(self.finish(commit, pages, area, range, mapping, realized)?);
                }
            }
            return Ok(pieces);
        }
        for pages in [head, tail] {
            if !pages.is_empty() {
                let area = host.stage(pages.len())?;
                self.read_source(&area, &pages, range, mapping)?;
                pieces.push(self.finish(commit, pages, area, range, mapping, realized)?);
            }
        }
        if !body.is_empty() {
            let offset = start_offset + (body.start - around.start) as u64;
            self.plan_direct(body, mapping, offset, &mut pieces)?;
        }
        Ok(pieces)
    }

    /// Checks that the host pages that something at `range` has in common with others can be built.
    ///
    /// # Errors
    ///
    /// [`Error::SharedHostPage`].
    pub(crate) fn check_neighbours(&self, range: &Range<usize>) -> Result<(), Error> {
        let around = self.layout().around(range);
        let table = &self.state.table;
        let mut beside = [around.start..range.start, range.end..around.end]
            .into_iter()
            .flat_map(|part| table.pieces(part));
        if beside.any(|(_, neighbour)| neighbour.is_tied()) { Err(Error::SharedHostPage) } else { Ok(()) }
    }

    /// Fills the mapping's part of an area for `pages` from its file, if it has one.
    fn read_source(
        &self,
        area: &Area,
        pages: &Range<usize>,
        range: &Range<usize>,
        mapping: &Mapping,
    ) -> Result<(), Errno> {
        let Some((file, offset)) = mapping.source.file() else { return Ok(()) };
        let part = pages.start.max(range.start)..pages.end.min(range.end);
        let inside = part.start - pages.start..part.end - pages.start;
        let offset = offset + (part.start - range.start) as u64;
        self.host().read_file(area, inside, file.as_fd(), offset)?;
        Ok(())
    }

    /// Adds the neighbours' bytes to an area for `pages`, and sets what may be done with it.
    fn finish(
        &self,
        commit: &mut Commit<'_, H>,
        pages: Range<usize>,
        area: Area,
        range: &Range<usize>,
        mapping: &Mapping,
        realized: &mut Realized,
    ) -> Result<Piece, Error> {
        let (layout, host) = (self.layout(), self.host());
        let mut prot = mapping.host_prot();
        let before = pages.start..pages.end.min(range.start);
        let behind = pages.start.max(range.end)..pages.end;
        for beside in [before, behind] {
            if !self.state.table.overlaps(&beside) {
                continue;
            }
            let page = layout.around(&beside);
            let old = self.state.table.host_prot(page.clone());
            if old == HostProt::None {
                commit.protect(page, old, HostProt::Read)?;
            }
            for (part, neighbour) in self.state.table.pieces(beside) {
                let mut bytes = vec![0; part.len()];
                match host.read(self.area(), layout.offset(part.start), &mut bytes) {
                    // What is behind the end of a file has no bytes.
                    Ok(_) | Err(Errno::FAULT) => {}
                    Err(errno) => return Err(errno.into()),
                }
                if host.write(&area, part.start - pages.start, &bytes)? < bytes.len() {
                    return Err(Errno::FAULT.into());
                }
                prot = prot.union(neighbour.host_prot());
                if neighbour.memory != HostMemory::Anonymous {
                    realized.privatised.push(part);
                }
            }
        }
        if prot != HostProt::ReadWrite {
            host.protect(&area, 0..area.size(), prot)?;
        }
        Ok(Piece::Built { range: pages, area, memory: HostMemory::Anonymous })
    }

    /// Returns whether a host whose pages are smaller than the granule would show less of a page that the file ends in than one with
    /// pages of the granule's size.
    fn is_cut_short(&self, mapping: &Mapping, len: usize) -> Result<bool, Error> {
        let Some((file, offset)) = mapping.source.file() else { return Ok(false) };
        if mapping.sharing == Sharing::Shared
            || self.host().page_size() >= self.layout().host.min(self.layout().guest)
        {
            return Ok(false);
        }
        let rest = self.host().file_size(file.as_fd())?.saturating_sub(offset);
        Ok(rest < len as u64)
    }

    /// Maps whole pages, with zeros in the rest of the guest page in which a file ends (Q7).
    fn plan_direct(
        &self,
        body: Range<usize>,
        mapping: &Mapping,
        offset: u64,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Error> {
        let layout = self.layout();
        let Some((file, _)) = mapping.source.file() else {
            pieces.push(Piece::Direct { range: body, memory: HostMemory::Anonymous, offset: 0 });
            return Ok(());
        };
        let memory = match mapping.sharing {
            Sharing::Private => HostMemory::PrivateFile,
            Sharing::Shared => HostMemory::Shared,
        };
        let mut zeros = body.end..body.end;
        if layout.guest > layout.host {
            let rest = self.host().file_size(file.as_fd())?.saturating_sub(offset);
            if rest > 0 && rest < body.len() as u64 {
                let end = body.start + rest as usize;
                zeros = layout.up(end)..end.next_multiple_of(layout.guest);
            }
        }
        let mut add = |range: Range<usize>, memory| {
            if !range.is_empty() {
                let offset = offset + (range.start - body.start) as u64;
                pieces.push(Piece::Direct { range, memory, offset });
            }
        };
        add(body.start..zeros.start, memory);
        add(zeros.clone(), HostMemory::Anonymous);
        add(zeros.end..body.end, memory);
        Ok(())
    }

    /// Attaches a segment, with zeros in the rest of its last guest page.
    fn attach(&self, id: i32, around: &Range<usize>, mapping: &Mapping) -> Result<Vec<Piece>, Error> {
        let prot = mapping.host_prot();
        let area = self.host().attach(id, prot)?;
        let end = around.start + area.size().next_multiple_of(self.layout().host);
        if end > around.end || area.size() == 0 {
            // It is another one than was asked about.
            return Err(error::Error::InvalidSize.into());
        }
        if prot == HostProt::None {
            self.host().protect(&area, 0..area.size(), prot)?;
        }
        let mut pieces = vec![Piece::Built { range: around.start..end, area, memory: HostMemory::Shared }];
        if end < around.end {
            pieces.push(Piece::Direct { range: end..around.end, memory: HostMemory::Anonymous, offset: 0 });
        }
        Ok(pieces)
    }
}
