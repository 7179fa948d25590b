// SPDX-License-Identifier: MPL-2.0

//! Resizing and moving a mapping (Q11).
//!
//! How a move is made depends on what is there:
//!
//! | memory | whole host pages | else |
//! | --- | --- | --- |
//! | private | the host moves its pages: aside, and in one call over the target | copied, then the old range is unmapped |
//! | a file's, shared | mapped once more, then the old range is unmapped | the same, if it can be |
//! | a segment's | as private | refused |
//!
//! The new size is never looked for at the host: the target is chosen here, in the guest's range, so that a result outside of it
//! cannot come about.

use std::{ops::Range, os::fd::AsFd};

use vmar::{error, mapping::Sharing, placement::Placement};

use crate::{
    commit::Commit,
    error::Error,
    host::{Area, Errno, Host, HostProt, Memory},
    mapping::{HostMemory, Mapping, Prot, Source},
    observer::Change,
    realize::{Content, Finality},
    space::{Call, GuestSpace},
};

/// Where a mapping goes that is given another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapTarget {
    /// It stays.
    InPlace,
    /// It stays if it can, else it goes anywhere (`MREMAP_MAYMOVE`).
    MayMove,
    /// It goes there, in place of what is there (`MREMAP_FIXED`).
    Fixed(usize),
}

/// What becomes of the old range of a mapping that has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldRange {
    /// Nothing is mapped there.
    #[default]
    Unmapped,
    /// The mapping is there as if it were new (`MREMAP_DONTUNMAP`).
    Kept,
}

/// What is to be moved.
struct Move {
    from: Range<usize>,
    to: Range<usize>,
    mapping: Mapping,
    old: OldRange,
}

impl<H: Host> GuestSpace<H> {
    /// Gives the mapping at `addr`, of which `old_size` bytes are meant, another size, and returns where it is then. Sizes are rounded
    /// up to guest pages. With an old size of zero a shared mapping is mapped a second time.
    ///
    /// # Errors
    ///
    /// - [`Error::Space`]: a bad address or size, ranges that overlap or leave the guest's, nothing mapped at the address, no room, a
    ///   limit, a mapping that cannot grow.
    /// - [`Error::NotOneMapping`] if what is to grow or move is not within one mapping.
    /// - [`Error::SharedHostPage`] and [`Error::OffsetOffHostPage`] as for [`map`](Self::map).
    /// - [`Error::Host`].
    pub fn remap(
        &self,
        addr: usize,
        old_size: usize,
        new_size: usize,
        target: RemapTarget,
        old: OldRange,
    ) -> Result<usize, Error> {
        self.enter()?.remap(addr, old_size, new_size, target, old)
    }
}

impl<H: Host> Call<'_, H> {
    fn remap(
        &mut self,
        addr: usize,
        old_size: usize,
        new_size: usize,
        target: RemapTarget,
        old: OldRange,
    ) -> Result<usize, Error> {
        let layout = self.layout();
        let is_kept = old == OldRange::Kept;
        if is_kept && (target == RemapTarget::InPlace || old_size != new_size) {
            return Err(error::Error::InvalidOptions.into());
        }
        if !layout.is_guest_page(addr) {
            return Err(error::Error::InvalidAlignment.into());
        }
        let size = |size| layout.guest_size(size).ok_or(error::Error::InvalidSize);
        let (old_size, new_size) = (size(old_size)?, size(new_size)?);
        if new_size == 0 || new_size > layout.range.len() {
            return Err(error::Error::InvalidSize.into());
        }
        if let RemapTarget::Fixed(to) = target {
            if !layout.is_guest_page(to) {
                return Err(error::Error::InvalidAlignment.into());
            }
            let to = to..to.checked_add(new_size).ok_or(error::Error::OutOfRange)?;
            if !layout.contains(&to) {
                return Err(error::Error::OutOfRange.into());
            }
            if addr < to.end && to.start < addr.saturating_add(old_size) {
                return Err(error::Error::InvalidOptions.into());
            }
        }
        let (found, mapping) = self.state.table.map().find(addr).ok_or(error::Error::NotMapped)?;
        let mapping = mapping.advanced(addr - found.start);
        let end = addr.checked_add(old_size).filter(|end| *end <= layout.range.end);
        let end = end.ok_or(Error::NotOneMapping)?;
        if old_size == 0 && mapping.sharing == Sharing::Private {
            return Err(error::Error::InvalidOptions.into());
        }

        let stays = !is_kept && !matches!(target, RemapTarget::Fixed(_)) && old_size > 0;
        if stays && new_size <= old_size {
            self.remove(addr + new_size..end)?;
            return Ok(addr);
        }
        let moved_size = old_size.min(new_size);
        if self.state.table.mapping_end(addr).is_none_or(|found| found < addr + moved_size) {
            return Err(Error::NotOneMapping);
        }
        if new_size > old_size && matches!(mapping.source, Source::Segment { .. }) {
            return Err(error::Error::NotSupported.into());
        }
        let growth = addr + moved_size..addr.saturating_add(new_size);
        if new_size > old_size || is_kept || old_size == 0 {
            let added = if is_kept || old_size == 0 { addr..addr + new_size } else { growth.clone() };
            self.check_limits(&added, &mapping, None)?;
        }
        if stays && layout.contains(&growth) && !self.state.table.overlaps(&growth) {
            match self.set(growth, mapping.advanced(old_size)) {
                Ok(()) => return Ok(addr),
                // In another place it may have its host pages for itself.
                Err(Error::SharedHostPage | Error::OffsetOffHostPage) => {}
                Err(error) => return Err(error),
            }
        }
        let to = match target {
            RemapTarget::InPlace => return Err(error::Error::NoRoom.into()),
            RemapTarget::MayMove => {
                self.place(new_size, layout.unit(), Placement::Anywhere, mapping.sharing)?
            }
            RemapTarget::Fixed(to) => to..to + new_size,
        };
        // Of a mapping that is made smaller, the rest goes as well.
        let from = addr..end;
        let prot = Prot { perms: mapping.perms.access(), arch: mapping.arch };
        let moved = Move { from: from.clone(), to: to.clone(), mapping, old };
        if moved_size == 0 {
            self.duplicate(&moved)?;
        } else {
            self.relocate(moved)?;
            self.tell(match old {
                OldRange::Unmapped => Change::Unmapped(from),
                OldRange::Kept => Change::Discarded(from),
            });
        }
        self.tell(Change::Mapped(to.clone(), prot));
        Ok(to.start)
    }

    /// Maps what is shared a second time.
    fn duplicate(&mut self, moved: &Move) -> Result<(), Error> {
        let Move { to, mapping, .. } = moved;
        self.attempt(|call, commit| {
            let realized = call.realize(commit, to, mapping, Content::Fresh, Finality::Final)?;
            call.note(to, mapping.clone(), realized);
            Ok(())
        })
    }

    fn relocate(&mut self, moved: Move) -> Result<(), Error> {
        let is_segment = matches!(moved.mapping.source, Source::Segment { .. });
        if moved.mapping.sharing == Sharing::Private || is_segment {
            if self.moves_whole(&moved) {
                return self.move_pages(&moved);
            }
            if is_segment {
                return Err(Error::SharedHostPage);
            }
        }
        self.copy(moved)
    }

    /// Returns whether the host can move the pages: they are whole, of one kind, and it knows what is behind them.
    fn moves_whole(&self, moved: &Move) -> bool {
        let (layout, table) = (self.layout(), &self.state.table);
        let Move { from, to, mapping, .. } = moved;
        let ends = [from.start, from.end, to.start, to.end];
        let Some((_, first)) = table.map().find(from.start) else { return false };
        let moving = from.start..from.start + from.len().min(to.len());
        let is_one = table.mapped_until(&moving) == moving.end
            && table.pieces(moving.clone()).all(|(part, piece)| {
                piece.memory == first.memory && mapping.continues_with(part.start - from.start, &piece)
            });
        let is_read_in = first.memory == HostMemory::Anonymous && mapping.source.file().is_some();
        // With larger guest pages the end of a file may come to lie within one, which the host knows nothing of.
        let is_file = first.memory == HostMemory::PrivateFile && layout.guest <= layout.host;
        let is_zeros = first.memory == HostMemory::Anonymous && !is_read_in;
        let extends = to.len() <= from.len() || is_file || is_zeros;
        // What the host leaves behind of memory that a file was read into is zeros.
        let leaves = moved.old == OldRange::Unmapped || !is_read_in;
        leaves && ends.iter().all(|end| end.is_multiple_of(layout.host)) && is_one && extends
    }

    /// Has the host move the pages.
    fn move_pages(&mut self, moved: &Move) -> Result<(), Error> {
        let Move { from, to, mapping, old } = moved;
        let moving = from.start..from.start + from.len().min(to.len());
        // Of a mapping that is made smaller the rest goes first.
        let rest = moving.end..from.end;
        self.attempt(|call, commit| {
            let entries = call.state.table.count(from.clone());
            call.state.table.try_reserve(entries + 4)?;
            if !rest.is_empty() {
                commit.set_aside(&call.state.table, &rest)?;
                commit.map(&rest, HostProt::None, Memory::Reservation)?;
            }
            commit.relocate(&call.state.table, &moving, to, *old)?;
            Ok(())
        })?;
        let table = &mut self.state.table;
        let memory = table.map().find(from.start).map_or(HostMemory::Anonymous, |(_, piece)| piece.memory);
        if *old == OldRange::Unmapped {
            table.cut(from);
        }
        table.cut(to);
        let mut mapping = mapping.clone();
        mapping.memory = memory;
        table.insert(to.clone(), mapping);
        Ok(())
    }

    /// Maps the target anew (what is private with a copy of the old range's bytes), and unmaps the old range.
    fn copy(&mut self, moved: Move) -> Result<(), Error> {
        let Move { from, to, mapping, old } = moved;
        // All that can be refused is, before anything is done.
        self.check_neighbours(&to)?;
        if old == OldRange::Kept && mapping.sharing == Sharing::Private {
            self.check_neighbours(&from)?;
            // Both would be built, each with the other beside it that is not there yet.
            if self.meet(&from, &to) {
                return Err(Error::SharedHostPage);
            }
        }
        self.attempt(|call, commit| {
            let content = match mapping.sharing {
                Sharing::Private => Content::Built(call.copy_of(commit, &from, &to, &mapping)?),
                Sharing::Shared => Content::Fresh,
            };
            let realized = call.realize(commit, &to, &mapping, content, Finality::Reversible)?;
            let layout = call.layout();
            let table = &mut call.state.table;
            let entries = table.count(layout.around(&from)) + table.count(layout.around(&to));
            table.try_reserve(2 * entries + 16)?;
            match old {
                OldRange::Unmapped => {
                    // The table is told of both at the end, but what is left of a page may be needed by the target.
                    call.reserve_beside(commit, &from, &to, &mapping)?;
                    call.state.table.cut(&from);
                    call.note(&to, mapping, realized);
                }
                OldRange::Kept if mapping.sharing == Sharing::Shared => call.note(&to, mapping, realized),
                OldRange::Kept => {
                    let fresh = call.realize(commit, &from, &mapping, Content::Fresh, Finality::Final)?;
                    call.note(&to, mapping.clone(), realized);
                    call.note(&from, mapping, fresh);
                }
            }
            Ok(())
        })
    }

    /// Returns whether two ranges touch the same host page.
    fn meet(&self, one: &Range<usize>, two: &Range<usize>) -> bool {
        let (one, two) = (self.layout().around(one), self.layout().around(two));
        one.start < two.end && two.start < one.end
    }

    /// Makes the host reserve `from`, except for pages that `to`, where `mapping` is already, or anything else needs.
    fn reserve_beside(
        &mut self,
        commit: &mut Commit<'_, H>,
        from: &Range<usize>,
        to: &Range<usize>,
        mapping: &Mapping,
    ) -> Result<(), Error> {
        if !self.meet(from, to) {
            return self.reserve_last(commit, from);
        }
        // They meet in one page, at one end of either. It stays, with what it was given.
        let layout = self.layout();
        let (page, rest) = if to.start >= from.end {
            let page = layout.down(to.start)..layout.down(to.start) + layout.host;
            (page.clone(), from.start..page.start.clamp(from.start, from.end))
        } else {
            let page = layout.up(to.end) - layout.host..layout.up(to.end);
            (page.clone(), page.end.clamp(from.start, from.end)..from.end)
        };
        let table = &self.state.table;
        let (low, high) = if from.start < to.start { (from, to) } else { (to, from) };
        let within = |addr: usize| addr.clamp(page.start, page.end);
        let mut prot = mapping.host_prot();
        for others in [page.start..low.start, low.end..high.start, high.end..page.end] {
            prot = prot.union(table.host_prot(within(others.start)..within(others.end)));
        }
        commit.protect(page.clone(), table.host_prot(page).union(mapping.host_prot()), prot)?;
        if rest.is_empty() { Ok(()) } else { self.reserve_last(commit, &rest) }
    }

    /// Builds what `to` is to hold: the bytes of `from`, and what follows on them.
    fn copy_of(
        &self,
        commit: &mut Commit<'_, H>,
        from: &Range<usize>,
        to: &Range<usize>,
        mapping: &Mapping,
    ) -> Result<Area, Error> {
        /// How many bytes are copied at once.
        const CHUNK: usize = 256 << 10;
        let (layout, host) = (self.layout(), self.host());
        let around = layout.around(to);
        let area = host.stage(around.len())?;
        let lead = to.start - around.start;
        let len = from.len().min(to.len());
        // What the guest may not even read is made readable for as long as it is copied.
        let mut opened = Vec::new();
        for (part, _) in self.state.table.pieces(from.start..from.start + len) {
            let pages = layout.around(&part);
            let ends = [pages.start..pages.start + layout.host, pages.end - layout.host..pages.end];
            let inner = layout.up(part.start)..layout.down(part.end);
            for pages in ends.into_iter().chain([inner]).filter(|pages| pages.start < pages.end) {
                if self.state.table.host_prot(pages.clone()) == HostProt::None {
                    commit.protect(pages.clone(), HostProt::None, HostProt::Read)?;
                    opened.push(pages);
                }
            }
        }
        let mut buf = vec![0; CHUNK.min(len)];
        for at in (0..len).step_by(CHUNK) {
            let buf = &mut buf[..CHUNK.min(len - at)];
            let mut done = 0;
            while done < buf.len() {
                let got =
                    match host.read(self.area(), layout.offset(from.start + at + done), &mut buf[done..]) {
                        Ok(got) => got,
                        Err(Errno::FAULT) => 0,
                        Err(errno) => return Err(errno.into()),
                    };
                done += got;
                if got == 0 {
                    // What is behind the end of a file has no bytes; what follows it may.
                    let next = layout.up(from.start + at + done + 1) - from.start - at;
                    let next = next.min(buf.len());
                    buf[done..next].fill(0);
                    done = next;
                }
            }
            if host.write(&area, lead + at, buf)? < buf.len() {
                return Err(Errno::FAULT.into());
            }
        }
        for pages in opened {
            commit.protect(pages, HostProt::Read, HostProt::None)?;
        }
        if let (Some((file, offset)), true) = (mapping.source.file(), to.len() > len) {
            host.read_file(&area, lead + len..lead + to.len(), file.as_fd(), offset + len as u64)?;
        }
        Ok(area)
    }
}
