// SPDX-License-Identifier: MPL-2.0

//! Objects that are another object, or a part of it.
//!
//! ```text
//!   object     0 1 2 3 4 5 6 7
//!   slice          0 1 2           a window: its own size, fixed; what is written goes to the object
//!   reference  0 1 2 3 4 5 6 7     all of it, whatever its size is
//! ```
//!
//! Neither has pages of its own. Where a mapping of one is made, the object is told that the slice shows it, so that pages which
//! leave the object leave the page tables of those who map the slice too. A slice of a slice is one of the object: chains do not
//! grow.

use alloc::sync::Arc;
use core::ops::Range;

use super::{
    source::{Beneath, CopySource, Page, Purpose, Snapshots, Source},
    vmo::{Lookup, Vmo_},
};
use crate::{error::Error, machine::Machine};

/// What of the object is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    /// These pages.
    Window(Range<usize>),
    /// All, whatever that is.
    Whole,
}

/// The pages of another object.
#[derive(Debug)]
pub(super) struct Slice<M: Machine> {
    object: Arc<Vmo_<M>>,
    extent: Extent,
}

impl<M: Machine> Slice<M> {
    /// Shows the pages `pages` of `object`.
    pub(super) fn window(object: &Arc<Vmo_<M>>, pages: Range<usize>) -> Self {
        match object.source().and_then(|source| source.window_beneath()) {
            // One step instead of two.
            Some((beneath, base)) => {
                let extent = Extent::Window(base + pages.start..base + pages.end);
                Self { object: beneath, extent }
            }
            None => Self { object: object.clone(), extent: Extent::Window(pages) },
        }
    }

    /// Shows all of `object`.
    pub(super) fn whole(object: &Arc<Vmo_<M>>) -> Self {
        Self { object: object.clone(), extent: Extent::Whole }
    }

    fn base(&self) -> usize {
        match &self.extent {
            Extent::Window(pages) => pages.start,
            Extent::Whole => 0,
        }
    }
}

impl<M: Machine> Source<M> for Slice<M> {
    fn may_resize(&self) -> bool {
        self.extent == Extent::Whole && self.object.may_resize()
    }

    fn may_share(&self) -> bool {
        self.object.may_share()
    }

    fn look(&self, index: usize, purpose: Purpose) -> Lookup<M::Frame> {
        match self.object.look(self.base() + index, purpose) {
            // The page becomes the object's, not ours.
            Lookup::Absent => Lookup::Paged,
            other => other,
        }
    }

    fn fault(&self, index: usize, purpose: Purpose) -> Result<Page<M::Frame>, Error> {
        Ok(Page::Lent(self.object.commit(self.base() + index, purpose)?))
    }

    fn copy_source(&self, index: usize) -> Result<Option<CopySource<M::Frame>>, Error> {
        match self.object.look(self.base() + index, Purpose::Read) {
            Lookup::Absent => Ok(Some(CopySource::Zeros)),
            _ => self.object.copy_source(self.base() + index),
        }
    }

    fn next_resident(&self, index: usize) -> Option<usize> {
        self.object.next_resident(self.base() + index).map(|found| found - self.base())
    }

    fn note_write(&self, index: usize) {
        self.object.note_write(self.base() + index);
    }

    fn beneath(&self) -> Option<Beneath<'_, M>> {
        Some(Beneath { object: &self.object, is_written_through: true })
    }

    fn shown(&self, pages: Range<usize>) -> Range<usize> {
        match &self.extent {
            Extent::Whole => pages,
            Extent::Window(window) => {
                let (start, end) = (pages.start.max(window.start), pages.end.min(window.end));
                start - window.start..end.max(start) - window.start
            }
        }
    }

    fn size(&self) -> Option<usize> {
        (self.extent == Extent::Whole).then(|| self.object.size())
    }

    fn window_beneath(&self) -> Option<(Arc<Vmo_<M>>, usize)> {
        Some((self.object.clone(), self.base()))
    }

    fn snapshots(&self) -> Snapshots<'_, M> {
        Snapshots::Beneath(&self.object, self.base())
    }
}
