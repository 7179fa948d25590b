// SPDX-License-Identifier: MPL-2.0

//! The object behind the capability: its pages, its size, and what they come from.
//!
//! A page is looked for in the object's own map, then below it (layers that it has in common with snapshots), then at its source;
//! without a source it is zeros.
//!
//! # Locks
//!
//! ```text
//!   resizing  ►  mappings of a space  ►  mappers, pages  ►  layers    (taken from left to right; mappers and pages never together)
//! ```
//!
//! A fault holds its space's lock and looks at the pages. Whoever takes pages away therefore removes them from the
//! object first, lets go of `pages`, and then has each space drop its entries under that space's lock: a fault that
//! found a page before is over by then, and a later one finds it gone.
//!
//! So it is with a page that is lent and gets a copy of the object's own. Until every space has dropped the entry for the former
//! the page is *unsettled*: nobody can write it yet.
//!
//! Where one object shows pages of another, the locks of the upper come first. A source is asked to wait with none of these locks
//! held.

use alloc::sync::Arc;
use core::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{
    account::{Account, Charge},
    image::ImageSegment,
    layer::Below,
    mapped::{Mappers, Zap},
    page_map::PageMap,
    source::{CopySource, Page, Purpose, Source},
};
use crate::{
    error::{Error, OutOfMemory},
    fallible::try_arc,
    machine::{Blank, Frame, Machine, SleepLock},
};

/// What an object is, for the resident set counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmoKind {
    /// The content of a file.
    File,
    /// Shared memory.
    SharedMemory,
}

/// A memory object: `size` bytes in pages that exist as they are needed.
pub struct Vmo_<M: Machine> {
    machine: M,
    kind: VmoKind,
    source: Option<Arc<dyn Source<M>>>,
    account: Option<Arc<dyn Account>>,
    /// Whether there is something below: a hint, which may be out of date where the spaces are yet to drop entries.
    pub(super) is_layered: AtomicBool,
    /// Held for writing while the size or the layers change, so that a change (pages, then page tables) is one step to others.
    pub(super) resizing: M::Lock<()>,
    pub(super) pages: M::Lock<Pages<M>>,
    pub(super) mappers: M::Lock<Mappers<M>>,
}

pub(super) struct Pages<M: Machine> {
    /// In bytes.
    pub(super) size: usize,
    pub(super) map: PageMap<M::Frame>,
    /// How many times pages have been taken away: tells a reader that what it read may be stale.
    pub(super) removals: u64,
    pub(super) below: Option<Below<M>>,
    /// The page whose former frame may still be mapped.
    pub(super) unsettled: Option<usize>,
}

/// What an object has at an index.
#[derive(Debug)]
pub enum Lookup<F> {
    /// The page is in memory.
    Resident(F),
    /// The page is not in memory, and only needs a frame of zeros.
    Absent,
    /// The page is not in memory as it is wanted, and getting it may take long.
    Paged,
    /// The index is past the end of the object.
    PastEnd,
}

impl<M: Machine> Vmo_<M> {
    /// Makes an object for which its source has been asked already.
    pub(super) fn new(machine: M, size: usize, kind: VmoKind, source: Option<Arc<dyn Source<M>>>) -> Self {
        Self {
            machine,
            kind,
            source,
            account: None,
            is_layered: AtomicBool::new(false),
            resizing: SleepLock::new(()),
            pages: SleepLock::new(Pages {
                size,
                map: PageMap::new(),
                removals: 0,
                below: None,
                unsettled: None,
            }),
            mappers: SleepLock::new(Mappers::new()),
        }
    }

    /// Makes an object for an area of `size` bytes to be shared: it shows zeros, or another object from page so-and-so on, of which
    /// writes make copies. Pages are counted as in the other object.
    pub(crate) fn shown_by_area(
        machine: &M,
        size: usize,
        beneath: Option<(Arc<Self>, usize)>,
    ) -> Result<Arc<Self>, Error> {
        let object = match beneath {
            None => Self::new(machine.clone(), size, VmoKind::SharedMemory, None),
            Some((object, first)) => {
                let pages = first..first + size / M::PAGE_SIZE;
                let (end, kind) = (pages.end * M::PAGE_SIZE, object.kind());
                let source: Arc<dyn Source<M>> = try_arc(ImageSegment::shadow(&object, pages))?;
                Self::new(machine.clone(), end, kind, Some(source))
            }
        };
        Ok(try_arc(object)?)
    }

    /// Has its pages counted, of which there are none yet.
    pub(super) fn set_account(&mut self, account: Arc<dyn Account>) {
        self.account = Some(account);
    }

    /// Returns who counts its pages.
    pub(super) fn account(&self) -> Option<&Arc<dyn Account>> {
        self.account.as_ref()
    }

    /// Gives a page to an object that nobody knows yet, and nobody counts the pages of.
    pub(crate) fn adopt(&self, index: usize, frame: M::Frame) -> Result<(), OutOfMemory> {
        self.pages.write().map.insert(index, frame).map(drop)
    }

    /// Returns what kind of memory it is.
    pub fn kind(&self) -> VmoKind {
        self.kind
    }

    /// Returns the machine that it is of.
    pub(crate) fn machine(&self) -> &M {
        &self.machine
    }

    /// Returns what its pages come from.
    pub(super) fn source(&self) -> Option<&Arc<dyn Source<M>>> {
        self.source.as_ref()
    }

    /// Returns whether its size can change.
    pub fn may_resize(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.may_resize())
    }

    /// Returns whether mappings can share it.
    pub fn may_share(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.may_share())
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        let size = self.source.as_ref().and_then(|source| source.size());
        size.unwrap_or_else(|| self.pages.read().size)
    }

    /// Returns how many pages of its own are in memory.
    pub fn resident_count(&self) -> usize {
        self.pages.read().map.len()
    }

    /// Looks at page `index`, to read it, and waits for nothing but a short lock.
    pub fn lookup(&self, index: usize) -> Lookup<M::Frame> {
        let pages = self.pages.read();
        match pages.map.get(index) {
            Some(frame) => Lookup::Resident(frame.clone()),
            None => self.missing(&pages, index, Purpose::Read),
        }
    }

    /// Looks at page `index`, and waits for nothing but a short lock.
    pub fn look(&self, index: usize, purpose: Purpose) -> Lookup<M::Frame> {
        self.look_in(&self.pages.read(), index, purpose)
    }

    fn look_in(&self, pages: &Pages<M>, index: usize, purpose: Purpose) -> Lookup<M::Frame> {
        match pages.map.get(index) {
            Some(_) if purpose == Purpose::Write && pages.unsettled == Some(index) => Lookup::Paged,
            Some(frame) => Lookup::Resident(frame.clone()),
            None => self.missing(pages, index, purpose),
        }
    }

    /// Hands the pages in memory whose indices lie in `around` to `visit`, ascending, and then says of page `index`, which `visit` has
    /// not been handed, why.
    pub fn look_around(
        &self,
        index: usize,
        around: Range<usize>,
        mut visit: impl FnMut(usize, &M::Frame),
    ) -> Lookup<M::Frame> {
        let pages = self.pages.read();
        self.visit(&pages, around, &mut visit);
        self.missing(&pages, index, Purpose::Read)
    }

    /// Says why the object has no page `index` of its own.
    #[inline]
    pub(super) fn missing(&self, pages: &Pages<M>, index: usize, purpose: Purpose) -> Lookup<M::Frame> {
        if index >= pages.count() {
            Lookup::PastEnd
        } else if self.source.is_none() && pages.below.is_none() {
            Lookup::Absent
        } else {
            self.look_elsewhere(pages, index, purpose)
        }
    }

    #[inline(never)]
    fn look_elsewhere(&self, pages: &Pages<M>, index: usize, purpose: Purpose) -> Lookup<M::Frame> {
        if let Some(below) = &pages.below
            && let Some(found) = below.look(index, purpose)
        {
            return found;
        }
        self.source.as_ref().map_or(Lookup::Absent, |source| source.look(index, purpose))
    }

    /// Hands each page in memory whose index lies in `range` to `visit`, ascending.
    pub fn for_each_resident(&self, range: Range<usize>, mut visit: impl FnMut(usize, &M::Frame)) {
        let pages = self.pages.read();
        self.visit(&pages, range, &mut visit);
    }

    fn visit(&self, pages: &Pages<M>, range: Range<usize>, visit: &mut impl FnMut(usize, &M::Frame)) {
        let range = range.start..range.end.min(pages.count());
        if pages.below.is_none() && self.source.as_ref().is_none_or(|source| !source.has_pages()) {
            return pages.map.for_each(range, visit);
        }
        for index in range {
            if let Lookup::Resident(frame) = self.look_in(pages, index, Purpose::Read) {
                visit(index, &frame);
            }
        }
    }

    /// Returns the first page in memory at or after `index`.
    pub fn next_resident(&self, index: usize) -> Option<usize> {
        let pages = self.pages.read();
        let own = pages.map.next(index).map(|(index, _)| index);
        let below = pages.below.as_ref().and_then(|below| below.next_resident(index));
        let lent = self.source.as_ref().and_then(|source| source.next_resident(index));
        let within = |index: &usize| *index < pages.count();
        [own, below.filter(within), lent.filter(within)].into_iter().flatten().min()
    }

    /// Returns page `index`, fetched or allocated if need be. One that is to be written is one that everybody sees who sees the object.
    ///
    /// Callers that race agree on one frame.
    ///
    /// # Errors
    ///
    /// - [`Error::BusError`] past the end of the object.
    /// - [`Error::OutOfMemory`].
    /// - What the source answers, and who counts the pages.
    pub fn commit(&self, index: usize, purpose: Purpose) -> Result<M::Frame, Error> {
        loop {
            let (found, removals) = self.look_now(index, purpose);
            let frame = match found {
                Lookup::Resident(frame) => return Ok(frame),
                Lookup::PastEnd => return Err(Error::BusError),
                Lookup::Absent => self.machine.alloc()?.zeroed(),
                Lookup::Paged if purpose == Purpose::Write && self.lends() => {
                    self.make_own(index)?;
                    continue;
                }
                Lookup::Paged => match self.fetch(index, purpose)? {
                    Some(Page::Own(frame)) => frame,
                    Some(Page::Lent(frame)) => return Ok(frame),
                    None => continue,
                },
            };
            if self.add(index, &frame, removals)? {
                return Ok(frame);
            }
        }
    }

    /// The same where a [lookup](Self::look) has just said [`Lookup::Absent`], for those who hold the lock of a space and so must not
    /// wait; `None` if things have changed meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], and what whoever counts the pages answers.
    pub fn commit_absent(&self, index: usize, purpose: Purpose) -> Result<Option<M::Frame>, Error> {
        let (found, removals) = self.look_now(index, purpose);
        match found {
            Lookup::Resident(frame) => return Ok(Some(frame)),
            Lookup::Absent => {}
            Lookup::Paged | Lookup::PastEnd => return Ok(None),
        }
        let frame = self.machine.alloc()?.zeroed();
        Ok(self.add(index, &frame, removals)?.then_some(frame))
    }

    /// Gives the object page `index`, which it has not.
    ///
    /// # Errors
    ///
    /// - [`Error::Occupied`] if it has.
    /// - [`Error::BusError`] past the end of the object.
    /// - [`Error::NotSupported`] if its source may have something else there.
    /// - [`Error::OutOfMemory`].
    /// - What whoever counts the pages answers.
    pub(crate) fn give(&self, index: usize, frame: &M::Frame) -> Result<(), Error> {
        loop {
            let (found, removals) = self.look_now(index, Purpose::Write);
            match found {
                Lookup::Absent => {}
                Lookup::Resident(_) => return Err(Error::Occupied),
                Lookup::PastEnd => return Err(Error::BusError),
                Lookup::Paged => return Err(Error::NotSupported),
            }
            if self.add(index, frame, removals)? {
                return Ok(());
            }
        }
    }

    /// Looks at page `index`, and says how many times pages have been taken away so far.
    fn look_now(&self, index: usize, purpose: Purpose) -> (Lookup<M::Frame>, u64) {
        let pages = self.pages.read();
        (self.look_in(&pages, index, purpose), pages.removals)
    }

    /// Gives the object page `index`, unless it has one, or pages have been taken away since there were `removals`.
    fn add(&self, index: usize, frame: &M::Frame, removals: u64) -> Result<bool, Error> {
        let mut pages = self.pages.write();
        if pages.removals != removals || pages.map.get(index).is_some() {
            return Ok(false);
        }
        let charge = Charge::new(self.account())?;
        pages.map.insert(index, frame.clone())?;
        charge.keep();
        if index + 1 == pages.count() {
            // What the source gave past the end does not belong to the object.
            pages.zero_tail();
        }
        Ok(true)
    }

    /// Asks whoever has page `index`; `None` if things have changed meanwhile, or the page can be looked up now.
    fn fetch(&self, index: usize, purpose: Purpose) -> Result<Option<Page<M::Frame>>, Error> {
        use super::layer::Found;
        let found = self.pages.read().below.as_ref().map_or(Found::Hidden, |below| below.find(index));
        match (found, &self.source) {
            (Found::Missing(Some(source), at), _) => {
                let frame = Found::fault(&source, at)?;
                if let Some(below) = &self.pages.write().below {
                    below.fill(index, &source, frame)?;
                }
                Ok(None)
            }
            (Found::Hidden, Some(source)) => source.fault(index, purpose).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns whether pages may be lent, which are copied before the object writes them.
    fn lends(&self) -> bool {
        self.is_layered.load(Relaxed) || self.source.as_ref().is_some_and(|source| source.lends())
    }

    /// Gives the object a copy of a page `index` that is lent to it.
    pub(super) fn make_own(&self, index: usize) -> Result<(), Error> {
        // Fetched while nothing is held.
        self.commit(index, Purpose::Read)?;
        let _resizing = self.resizing.write();
        let (lent, removals) = {
            let pages = self.pages.read();
            if pages.map.get(index).is_some() {
                return Ok(());
            }
            let Lookup::Resident(lent) = self.missing(&pages, index, Purpose::Read) else { return Ok(()) };
            (lent, pages.removals)
        };
        let copy = self.machine.alloc()?.copy_of(&lent);
        {
            let mut pages = self.pages.write();
            if pages.removals != removals || pages.map.get(index).is_some() {
                return Ok(());
            }
            let charge = Charge::new(self.account())?;
            pages.map.insert(index, copy)?;
            charge.keep();
            if index + 1 == pages.count() {
                pages.zero_tail();
            }
            pages.unsettled = Some(index);
        }
        self.zap(index..index + 1, Zap::Object);
        self.pages.write().unsettled = None;
        Ok(())
    }

    /// Returns what a private copy of page `index` can be made of without the object being given the page, which a
    /// [lookup](Self::lookup) has not found.
    ///
    /// # Errors
    ///
    /// What the source answers.
    pub fn copy_source(&self, index: usize) -> Result<Option<CopySource<M::Frame>>, Error> {
        if self.is_layered.load(Relaxed) || self.look(index, Purpose::Read).is_resident() {
            return Ok(None);
        }
        self.source.as_ref().map_or(Ok(None), |source| source.copy_source(index))
    }

    /// Returns whether somebody wants to be told of writes, so that the first through a mapping must fault.
    pub fn notes_writes(&self) -> bool {
        self.source.is_some() || self.is_layered.load(Relaxed)
    }

    /// Notes a coming write to page `index`.
    pub fn note_write(&self, index: usize) {
        if let Some(source) = &self.source {
            source.note_write(index);
        }
    }
}

impl<M: Machine> Pages<M> {
    /// Returns the size in pages, rounded up.
    pub(super) fn count(&self) -> usize {
        self.size.div_ceil(M::PAGE_SIZE)
    }

    /// Fills what the last page has past the end of the object with zeros.
    pub(super) fn zero_tail(&self) {
        self.zero(self.size..self.count().saturating_mul(M::PAGE_SIZE));
    }

    /// Fills `range` (bytes, within one page) with zeros if its page is in memory.
    pub(super) fn zero(&self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if let Some(frame) = self.map.get(range.start / M::PAGE_SIZE) {
            let start = range.start % M::PAGE_SIZE;
            frame.zero(start..start + range.len());
        }
    }
}

impl<F> Lookup<F> {
    /// Returns whether the page is in memory.
    pub fn is_resident(&self) -> bool {
        matches!(self, Self::Resident(_))
    }
}

impl<M: Machine> Drop for Vmo_<M> {
    fn drop(&mut self) {
        let (below, count) = {
            let mut pages = self.pages.write();
            if let Some(account) = &self.account {
                account.discharge(pages.map.len());
            }
            (pages.below.take(), pages.count())
        };
        if let Some(below) = below {
            let survivor = below.leave(&raw const *self);
            if let Some(object) = survivor.and_then(|survivor| survivor.upgrade()) {
                object.absorb_layers();
            }
        }
        if let Some(source) = &self.source {
            source.destroy(count);
        }
    }
}

impl<M: Machine> fmt::Debug for Vmo_<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmo").field("kind", &self.kind).field("source", &self.source).finish_non_exhaustive()
    }
}
