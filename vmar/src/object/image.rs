// SPDX-License-Identifier: MPL-2.0

//! ELF images: the segments of a program, whose pages come from its file as they are needed.
//!
//! ```text
//!   file        ──┬────────┬────────┬───────┬────
//!                 │ part of it that the segment shows
//!   segment   0 0 ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ 0 0 0 0 0 0 0
//!             ├──────┼────────┼────────┼────────┤
//!              mixed    file     mixed    zeros
//! ```
//!
//! | page of the segment | read | written, private mapping | written, shared mapping |
//! | --- | --- | --- | --- |
//! | file | the file's own frame | a copy | a copy, the segment's own |
//! | mixed | a copy between zeros, the segment's own | a copy between zeros | that of the segment |
//! | zeros | a frame of zeros, the segment's own | a frame of zeros | that of the segment |
//!
//! Offsets in the file and in the segment are two things: the segment's first page need not be one of the file, and a segment can
//! be mapped anywhere. Where the two cannot lie on page boundaries at once, all pages are copies.
//!
//! The file's frames are the file's: giving a segment back never frees one.

use alloc::sync::Arc;
use core::ops::Range;

use aster_rights::Rights;

use super::{
    Vmo,
    source::{Beneath, CopySource, Page, Purpose, Source},
    vmo::{Lookup, Vmo_},
};
use crate::{
    error::Error,
    machine::{Blank, Frame, Machine},
};

/// What the bytes of a page are that lie outside of the segment's part of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    #[default]
    Zeros,
    /// What the file has there, as if the part reached to the end of the page: so do kernels that map whole pages of the file.
    AsInFile,
}

/// A segment of an ELF image, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is to lie in memory (`p_vaddr`). Only where within a page counts.
    pub addr: usize,
    /// Where its part of the file starts (`p_offset`).
    pub file_offset: usize,
    /// How long that part is (`p_filesz`).
    pub file_size: usize,
    /// How long the segment is (`p_memsz`), at least as long as the part.
    pub memory_size: usize,
    /// What precedes the part in its first page.
    pub before: Outside,
    /// What follows the part in its last page.
    pub behind: Outside,
}

impl Segment {
    /// A segment with zeros around its part of the file.
    pub const fn new(addr: usize, file_offset: usize, file_size: usize, memory_size: usize) -> Self {
        let (before, behind) = (Outside::Zeros, Outside::Zeros);
        Self { addr, file_offset, file_size, memory_size, before, behind }
    }
}

/// An ELF image: an object that holds the file, and gives segments of it.
#[derive(Debug)]
pub struct ElfImage<M: Machine> {
    file: Vmo<M>,
}

/// A segment as an object.
#[derive(Debug)]
pub struct SegmentVmo<M: Machine> {
    /// The object: the file itself where it has every page of the segment as the segment wants it.
    pub vmo: Vmo<M>,
    /// Where in it the segment's first page is (bytes, page-aligned).
    pub offset: usize,
    /// How long the segment is: so many bytes of whole pages.
    pub size: usize,
}

/// A segment to be mapped privately, and written.
#[derive(Debug)]
pub struct PrivateSegment<M: Machine> {
    /// What is to be mapped.
    pub segment: SegmentVmo<M>,
    /// What of the mapping is to be filled with zeros before the program runs (bytes from its start on, within one page).
    pub zeros: Range<usize>,
}

impl<M: Machine> ElfImage<M> {
    /// Takes `file` for an image. Segments get its rights to read and to execute.
    ///
    /// # Errors
    ///
    /// [`Error::AccessDenied`] if the file cannot be read.
    pub fn new(file: impl Into<Vmo<M>>) -> Result<Self, Error> {
        let file = file.into();
        if !file.rights().contains(Rights::READ) {
            return Err(Error::AccessDenied);
        }
        Ok(Self { file })
    }

    /// Gives a segment. It can be written as far as the holder of the capability is concerned: the file never is.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidSize`] if the segment is empty, or its part of the file longer than itself.
    /// - [`Error::InvalidOffset`] if something overflows.
    /// - [`Error::OutOfMemory`].
    pub fn segment(&self, segment: &Segment) -> Result<SegmentVmo<M>, Error> {
        let layout = Layout::new(segment, M::PAGE_SIZE)?;
        let size = layout.pages.len() * M::PAGE_SIZE;
        let offset = layout.pages.start * M::PAGE_SIZE;
        let rights = self.file.rights();
        if layout.is_all_of_file(M::PAGE_SIZE) {
            let vmo = self.file.duplicate(rights - Rights::WRITE);
            return Ok(SegmentVmo { vmo, offset, size });
        }
        let file = self.file.object();
        let end = layout.pages.end * M::PAGE_SIZE;
        let source = ImageSegment { machine: file.machine().clone(), file: file.clone(), layout };
        let vmo = Vmo::with_source(file.machine(), end, file.kind(), source)?.to_dynamic();
        Ok(SegmentVmo { vmo: vmo.limit(rights | Rights::WRITE), offset, size })
    }
}

impl<M: Machine> ElfImage<M> {
    /// Gives a segment for a private mapping that will be written.
    ///
    /// Most data end within a page, which the program will write. If it is the only page that is not one of the file, the file itself
    /// is mapped, and whoever maps it writes the zeros: that makes the copy which the program would get sooner or later, and spares
    /// an object.
    ///
    /// # Errors
    ///
    /// As [`segment`](Self::segment).
    pub fn private_segment(&self, segment: &Segment) -> Result<PrivateSegment<M>, Error> {
        let layout = Layout::new(segment, M::PAGE_SIZE)?;
        let Range { start, end } = layout.pages;
        let whole = Segment { behind: Outside::AsInFile, ..*segment };
        let is_data = layout.part.end.div_ceil(M::PAGE_SIZE) == end
            && Layout::new(&whole, M::PAGE_SIZE)?.is_all_of_file(M::PAGE_SIZE);
        if !is_data {
            return Ok(PrivateSegment { segment: self.segment(segment)?, zeros: 0..0 });
        }
        let zeros = layout.part.end - start * M::PAGE_SIZE..(end - start) * M::PAGE_SIZE;
        Ok(PrivateSegment { segment: self.segment(&whole)?, zeros })
    }
}

/// Where the pages of a segment come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    /// The segment's pages. The first is that of the file which it begins in, if pages of the two agree, and 0 otherwise.
    pages: Range<usize>,
    /// What of the segment is in the file: bytes, counted as the pages are.
    part: Range<usize>,
    /// How far the file's bytes lie behind the segment's.
    shift: isize,
}

/// What a page is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// A page of the file.
    File(usize),
    /// These bytes of a page of the file, between zeros.
    Mixed(usize, Range<usize>),
    /// These bytes of the file, put at an offset in the page, between zeros.
    Scattered(Range<usize>, usize),
    /// Zeros.
    Zeros,
    /// Nothing: it is no page of the segment.
    Outside,
}

impl Layout {
    fn new(segment: &Segment, page: usize) -> Result<Self, Error> {
        let &Segment { addr, file_offset, file_size, memory_size, before, behind } = segment;
        if memory_size == 0 || file_size > memory_size {
            return Err(Error::InvalidSize);
        }
        let lead = addr % page;
        let agree = file_size == 0 || file_offset % page == lead;
        // The address that stands for the start of the segment: the file's offset, if pages agree.
        let start = if agree && file_size != 0 { file_offset } else { lead };
        let overflow = Error::InvalidOffset;
        let end = start.checked_add(memory_size).ok_or(overflow)?;
        let end = end.checked_next_multiple_of(page).filter(|end| *end <= isize::MAX as usize);
        let end = end.ok_or(overflow)?;
        file_offset
            .checked_add(file_size)
            .filter(|end| *end <= isize::MAX as usize - page)
            .ok_or(overflow)?;
        let mut part = start..start + file_size;
        if agree && before == Outside::AsInFile && !part.is_empty() {
            part.start -= part.start % page;
        }
        if agree && behind == Outside::AsInFile {
            part.end = part.end.next_multiple_of(page);
        }
        let shift = if agree { 0 } else { file_offset as isize - start as isize };
        Ok(Self { pages: start / page..end / page, part, shift })
    }

    fn piece(&self, index: usize, page_size: usize) -> Piece {
        if !self.pages.contains(&index) {
            return Piece::Outside;
        }
        let page = index * page_size..(index + 1) * page_size;
        let inside = page.start.max(self.part.start)..page.end.min(self.part.end);
        if inside.is_empty() {
            return Piece::Zeros;
        }
        if inside == page && self.shift == 0 {
            return Piece::File(index);
        }
        let within = inside.start - page.start..inside.end - page.start;
        if self.shift == 0 {
            return Piece::Mixed(index, within);
        }
        let in_file = |at: usize| at.wrapping_add_signed(self.shift);
        Piece::Scattered(in_file(inside.start)..in_file(inside.end), within.start)
    }

    /// Returns whether each page is one of the file.
    fn is_all_of_file(&self, page_size: usize) -> bool {
        let Range { start, end } = self.pages;
        self.shift == 0 && self.part.start <= start * page_size && self.part.end >= end * page_size
    }
}

/// A segment whose pages are not all those of the file.
#[derive(Debug)]
pub(super) struct ImageSegment<M: Machine> {
    machine: M,
    file: Arc<Vmo_<M>>,
    layout: Layout,
}

impl<M: Machine> ImageSegment<M> {
    /// Makes one of `pages` of an object as they are: what is written to it is a copy.
    pub(super) fn shadow(object: &Arc<Vmo_<M>>, pages: Range<usize>) -> Self {
        let part = pages.start * M::PAGE_SIZE..pages.end * M::PAGE_SIZE;
        let layout = Layout { pages, part, shift: 0 };
        Self { machine: object.machine().clone(), file: object.clone(), layout }
    }

    fn piece(&self, index: usize) -> Piece {
        self.layout.piece(index, M::PAGE_SIZE)
    }

    /// Makes a page that has `keep` of `source` between zeros.
    fn mix(&self, source: &M::Frame, keep: Range<usize>) -> Result<M::Frame, Error> {
        let frame = self.machine.alloc()?.copy_of(source);
        frame.zero(0..keep.start);
        frame.zero(keep.end..M::PAGE_SIZE);
        Ok(frame)
    }
}

impl<M: Machine> Source<M> for ImageSegment<M> {
    fn may_resize(&self) -> bool {
        false
    }

    fn look(&self, index: usize, purpose: Purpose) -> Lookup<M::Frame> {
        match self.piece(index) {
            Piece::Outside => Lookup::PastEnd,
            Piece::Zeros => Lookup::Absent,
            Piece::Scattered(..) => Lookup::Paged,
            Piece::File(page) => match self.file.lookup(page) {
                Lookup::Resident(frame) if purpose == Purpose::Read => Lookup::Resident(frame),
                Lookup::PastEnd => Lookup::PastEnd,
                _ => Lookup::Paged,
            },
            Piece::Mixed(page, _) => match self.file.lookup(page) {
                Lookup::PastEnd => Lookup::PastEnd,
                _ => Lookup::Paged,
            },
        }
    }

    fn fault(&self, index: usize, purpose: Purpose) -> Result<Page<M::Frame>, Error> {
        match self.piece(index) {
            Piece::Outside => Err(Error::BusError),
            Piece::Zeros => Ok(Page::Own(self.machine.alloc()?.zeroed())),
            Piece::File(page) => {
                let frame = self.file.commit(page, Purpose::Read)?;
                Ok(match purpose {
                    Purpose::Read => Page::Lent(frame),
                    Purpose::Write => Page::Own(self.mix(&frame, 0..M::PAGE_SIZE)?),
                })
            }
            Piece::Mixed(page, keep) => {
                let frame = self.file.commit(page, Purpose::Read)?;
                Ok(Page::Own(self.mix(&frame, keep)?))
            }
            Piece::Scattered(bytes, mut at) => {
                let frame = self.machine.alloc()?.zeroed();
                let mut from = bytes.start;
                while from < bytes.end {
                    let within = from % M::PAGE_SIZE;
                    let count = (M::PAGE_SIZE - within).min(bytes.end - from);
                    let source = self.file.commit(from / M::PAGE_SIZE, Purpose::Read)?;
                    copy_bytes(&source, within, &frame, at, count);
                    (from, at) = (from + count, at + count);
                }
                Ok(Page::Own(frame))
            }
        }
    }

    fn copy_source(&self, index: usize) -> Result<Option<CopySource<M::Frame>>, Error> {
        let (page, keep) = match self.piece(index) {
            Piece::Zeros => return Ok(Some(CopySource::Zeros)),
            Piece::File(page) => (page, 0..M::PAGE_SIZE),
            Piece::Mixed(page, keep) => (page, keep),
            Piece::Scattered(..) | Piece::Outside => return Ok(None),
        };
        Ok(match self.file.lookup(page) {
            Lookup::Resident(frame) => Some(CopySource::Part(frame, keep)),
            Lookup::Absent => Some(CopySource::Zeros),
            Lookup::Paged | Lookup::PastEnd => None,
        })
    }

    fn next_resident(&self, index: usize) -> Option<usize> {
        let mut at = index.max(self.layout.pages.start);
        loop {
            at = self.file.next_resident(at)?;
            match self.piece(at) {
                Piece::File(_) => return Some(at),
                Piece::Outside => return None,
                _ => at += 1,
            }
        }
    }

    fn lends(&self) -> bool {
        true
    }

    fn beneath(&self) -> Option<Beneath<'_, M>> {
        Some(Beneath { object: &self.file, is_written_through: false })
    }

    fn shown(&self, pages: Range<usize>) -> Range<usize> {
        let Range { start, end } = self.layout.pages;
        // Pages of the file and of the segment may overlap without agreeing: then one reaches into two.
        let slack = usize::from(self.layout.shift != 0);
        let pages_shift = self.layout.shift.div_euclid(M::PAGE_SIZE as isize);
        let shown = |page: usize| page.saturating_add_signed(-pages_shift);
        let first = shown(pages.start).saturating_sub(slack).clamp(start, end);
        let last = shown(pages.end).saturating_add(slack).clamp(first, end);
        first..last
    }
}

/// Copies `count` bytes from one page to another.
fn copy_bytes<F: Frame>(source: &F, from: usize, target: &F, to: usize, count: usize) {
    const CHUNK: usize = 256;
    let mut buf = [0; CHUNK];
    let mut done = 0;
    while done < count {
        let piece = &mut buf[..CHUNK.min(count - done)];
        source.read(from + done, piece);
        target.write(to + done, piece);
        done += piece.len();
    }
}

#[cfg(test)]
mod tests;
