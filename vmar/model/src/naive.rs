// SPDX-License-Identifier: MPL-2.0

//! The naive model: a space is a map from page to what the page is, an object an array of contents.
//!
//! Of each page's content two words are followed, one near its start and one past its middle.

mod object;
mod remap;
mod watch;

use std::{collections::BTreeMap, ops::Range};

use vmar::{
    error::Error,
    mapping::{MappingFlags, Sharing},
    perms::VmPerms,
    sim::PAGE_SIZE,
    vmar::{
        advise::Advice,
        fault::{Access, FaultError},
        watch::{HandReason, WatchModes},
    },
};

pub use self::object::Object;

/// Where in a page the two words lie.
pub const WORDS: [usize; 2] = [0, 3000];

/// The words of a page.
pub type Content = [u64; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Anonymous,
    Object { id: usize, index: usize },
}

/// Which of the two handlers of a process watches: the one that moved and forked memory is lost to, or the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Stays,
    Follows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub perms: VmPerms,
    pub sharing: Sharing,
    pub flags: MappingFlags,
    pub source: Source,
    pub label: u8,
    /// Who is handed which of its faults.
    pub watch: Option<(Who, WatchModes)>,
    /// Whether writes are handed over.
    pub is_marked: bool,
    /// What the mapping has written for itself alone.
    pub private: Option<Content>,
    /// Whether the program has written it since somebody asked.
    pub is_written: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Space {
    /// By address.
    pub pages: BTreeMap<usize, Page>,
    /// The ranges that child regions keep.
    pub reserved: Vec<Range<usize>>,
    /// What is noted of each new mapping.
    pub default_flags: MappingFlags,
}

/// Serves the faults of a page (its address) that are handed over.
pub type Serve<'a> = dyn FnMut(usize, &mut Page, &mut [Object]) + 'a;

/// Serves what nobody watches.
pub fn nobody(_: usize, _: &mut Page, _: &mut [Object]) {}

pub fn addrs(range: Range<usize>) -> impl Iterator<Item = usize> {
    range.step_by(PAGE_SIZE)
}

impl Page {
    /// Whether one mapping could stand for both pages, `next` being the one that follows.
    fn continues_with(&self, next: &Self) -> bool {
        let sources = match (self.source, next.source) {
            (Source::Anonymous, Source::Anonymous) => true,
            (Source::Object { id, index }, Source::Object { id: next_id, index: next_index }) => {
                id == next_id && index + 1 == next_index
            }
            _ => false,
        };
        sources && self.traits() == next.traits()
    }

    fn traits(&self) -> (VmPerms, Sharing, MappingFlags, u8, Option<(Who, WatchModes)>) {
        (self.perms, self.sharing, self.flags, self.label, self.watch)
    }

    /// A page that nobody has touched yet.
    pub fn new(perms: VmPerms, sharing: Sharing, source: Source) -> Self {
        Self {
            perms,
            sharing,
            flags: MappingFlags::empty(),
            source,
            label: 0,
            watch: None,
            is_marked: false,
            private: None,
            is_written: false,
        }
    }

    /// The page `distance` pages further on in the same mapping.
    fn at(&self, distance: usize) -> Self {
        let source = match self.source {
            Source::Anonymous => Source::Anonymous,
            Source::Object { id, index } => Source::Object { id, index: index + distance },
        };
        Self { source, private: None, is_marked: false, is_written: false, ..*self }
    }

    fn is_sealed(&self) -> bool {
        self.flags.contains(MappingFlags::SEALED)
    }

    /// Whether some of its faults are handed over for this reason.
    pub fn is_watched_for(&self, reason: HandReason) -> bool {
        let mode = match reason {
            HandReason::Missing => WatchModes::MISSING,
            HandReason::Minor => WatchModes::MINOR,
            HandReason::Write => WatchModes::WRITES,
        };
        self.watch.is_some_and(|(_, modes)| modes.contains(mode))
    }

    pub fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    /// What the program sees, or `None` past the end of the object.
    pub fn content(&self, objects: &[Object]) -> Option<Content> {
        match (self.private, self.source) {
            (Some(content), _) => Some(content),
            (None, Source::Anonymous) => Some([0; 2]),
            (None, Source::Object { id, index }) => objects[id].content(index),
        }
    }

    /// Writes a word of a page that may be written.
    pub fn set_word(&mut self, objects: &mut [Object], which: usize, value: u64) {
        self.is_written = true;
        match (self.sharing, self.source) {
            (Sharing::Shared, Source::Object { id, index }) => {
                objects[id].pages.entry(index).or_default()[which] = value;
            }
            _ => {
                let mut content = self.content(objects).unwrap_or_default();
                content[which] = value;
                self.private = Some(content);
            }
        }
    }

    /// Makes the page present for `access`, if it can be.
    pub fn touch(&mut self, access: Access, objects: &[Object]) -> Result<(), FaultError> {
        if !self.perms.page_flags().contains(access.flag()) {
            return Err(FaultError::NoPermission);
        }
        let content = self.content(objects).ok_or(FaultError::BusError)?;
        if access == Access::Write && !self.is_shared() {
            self.private = Some(content);
        }
        Ok(())
    }
}

impl Space {
    /// The end of the mapped part of `range` that starts where it does.
    fn covered_until(&self, range: &Range<usize>) -> usize {
        addrs(range.clone()).find(|addr| !self.pages.contains_key(addr)).unwrap_or(range.end)
    }

    /// The end of the mapping that `addr` lies in.
    fn mapping_end(&self, addr: usize) -> usize {
        let mut at = addr;
        loop {
            let (here, next) = (&self.pages[&at], self.pages.get(&(at + PAGE_SIZE)));
            if !next.is_some_and(|next| here.continues_with(next)) {
                return at + PAGE_SIZE;
            }
            at += PAGE_SIZE;
        }
    }

    pub fn is_free(&self, range: Range<usize>) -> bool {
        self.pages.range(range.clone()).next().is_none()
            && self.reserved.iter().all(|kept| range.end <= kept.start || kept.end <= range.start)
    }

    /// The highest free place within `window`.
    pub fn highest_room(&self, size: usize, window: &Range<usize>) -> Option<usize> {
        let last = window.end.checked_sub(size).filter(|last| *last >= window.start)?;
        addrs(window.start..last + PAGE_SIZE).rev_find(|at| self.is_free(*at..at + size))
    }

    pub fn map(&mut self, range: Range<usize>, first: Page) {
        for (distance, addr) in addrs(range).enumerate() {
            self.pages.insert(addr, first.at(distance));
        }
    }

    pub fn unmap(&mut self, range: Range<usize>) {
        self.pages.retain(|addr, _| !range.contains(addr));
    }

    pub fn is_sealed(&self, range: &Range<usize>) -> bool {
        self.pages.range(range.clone()).any(|(_, page)| page.is_sealed())
    }

    /// Whether something in `range` may be dropped by nobody: it is sealed, and can be changed in no other way.
    fn keeps_content(&self, range: &Range<usize>) -> bool {
        self.pages.range(range.clone()).any(|(_, page)| {
            page.is_sealed() && page.source == Source::Anonymous && !page.perms.contains(VmPerms::WRITE)
        })
    }

    pub fn protect(&mut self, range: Range<usize>, access: VmPerms) -> Result<(), Error> {
        if self.is_sealed(&range) {
            return Err(Error::Sealed);
        }
        for addr in addrs(range) {
            let page = self.pages.get_mut(&addr).ok_or(Error::NotMapped)?;
            if !page.perms.contains(access.to_may()) {
                return Err(Error::AccessDenied);
            }
            page.perms = (page.perms & VmPerms::MAY) | access;
        }
        Ok(())
    }

    pub fn set_lock(&mut self, range: Range<usize>, lock: MappingFlags) -> Result<(), Error> {
        let end = self.covered_until(&range);
        for (_, page) in self.pages.range_mut(range.start..end) {
            page.flags = (page.flags - MappingFlags::ANY_LOCK) | lock;
        }
        if end < range.end { Err(Error::NotMapped) } else { Ok(()) }
    }

    /// Makes pages present; `None` as the access stands for a write where that makes a private page, else a read. Before it comes
    /// to a page, `serve` does what those do who are handed its fault.
    pub fn populate(
        &mut self,
        range: Range<usize>,
        access: Option<Access>,
        objects: &mut [Object],
        serve: &mut Serve<'_>,
    ) -> Result<(), Error> {
        for addr in addrs(range) {
            let page = self.pages.get_mut(&addr).ok_or(Error::NotMapped)?;
            serve(addr, page, objects);
            let copies = page.perms.contains(VmPerms::WRITE) && !page.is_shared();
            let as_needed = if copies { Access::Write } else { Access::Read };
            page.touch(access.unwrap_or(as_needed), objects)?;
        }
        Ok(())
    }

    pub fn set_lock_of_all(&mut self, lock: MappingFlags) {
        for page in self.pages.values_mut() {
            page.flags = (page.flags - MappingFlags::ANY_LOCK) | lock;
        }
    }

    /// Makes the pages of each mapping present, up to the first that cannot be.
    pub fn populate_all(&mut self, objects: &mut [Object], serve: &mut Serve<'_>) {
        let mut at = 0;
        while let Some(start) = self.pages.range(at..).next().map(|(addr, _)| *addr) {
            at = self.mapping_end(start);
            let _ = self.populate(start..at, None, objects, serve);
        }
    }

    pub fn discard(&mut self, range: Range<usize>, locked_too: bool, objects_too: bool) -> Result<(), Error> {
        if self.keeps_content(&range) {
            return Err(Error::Sealed);
        }
        let mut outcome = Ok(());
        for addr in addrs(range) {
            let Some(page) = self.pages.get_mut(&addr) else {
                outcome = Err(Error::NotMapped);
                continue;
            };
            let is_locked = page.flags.intersects(MappingFlags::ANY_LOCK) && !locked_too;
            if is_locked || (page.source != Source::Anonymous && !objects_too) {
                return Err(Error::NotSupported);
            }
            page.private = None;
            page.is_written = false;
            page.is_marked &= page.source != Source::Anonymous;
        }
        outcome
    }

    /// Makes pages zeros, up to the first that cannot be.
    pub fn zero(&mut self, range: Range<usize>, objects: &mut [Object]) -> Result<(), Error> {
        for addr in addrs(range) {
            let page = self.pages.get_mut(&addr).ok_or(Error::NotMapped)?;
            if !page.perms.contains(VmPerms::WRITE) {
                return Err(Error::AccessDenied);
            }
            if page.source == Source::Anonymous && !page.flags.intersects(MappingFlags::ANY_LOCK) {
                page.private = None;
                page.is_written = false;
                page.is_marked = false;
                continue;
            }
            page.content(objects).ok_or(Error::BusError)?;
            (0..WORDS.len()).for_each(|which| page.set_word(objects, which, 0));
        }
        Ok(())
    }

    pub fn advise(&mut self, range: Range<usize>, advice: Advice) -> Result<(), Error> {
        const NONE: MappingFlags = MappingFlags::empty();
        const ORDER: MappingFlags = MappingFlags::RANDOM.union(MappingFlags::SEQUENTIAL);
        let (clear, set) = match advice {
            Advice::DontFork => (NONE, MappingFlags::DONT_FORK),
            Advice::DoFork => (MappingFlags::DONT_FORK, NONE),
            Advice::WipeOnFork => (NONE, MappingFlags::WIPE_ON_FORK),
            Advice::KeepOnFork => (MappingFlags::WIPE_ON_FORK, NONE),
            Advice::Random => (ORDER, MappingFlags::RANDOM),
            Advice::Normal => (ORDER, NONE),
            other => unreachable!("{other:?} is no advice that is given"),
        };
        if matches!(advice, Advice::DontFork | Advice::WipeOnFork) && self.keeps_content(&range) {
            return Err(Error::Sealed);
        }
        let mut outcome = Ok(());
        for addr in addrs(range) {
            let Some(page) = self.pages.get_mut(&addr) else {
                outcome = Err(Error::NotMapped);
                continue;
            };
            if set.contains(MappingFlags::WIPE_ON_FORK) && page.source != Source::Anonymous {
                return Err(Error::InvalidOptions);
            }
            page.flags = (page.flags - clear) | set;
        }
        outcome
    }

    pub fn fork(&self) -> Self {
        let mut child = self.clone();
        child.reserved.clear();
        child.default_flags = MappingFlags::empty();
        child.pages.retain(|_, page| !page.flags.contains(MappingFlags::DONT_FORK));
        for page in child.pages.values_mut() {
            page.flags -= MappingFlags::ANY_LOCK;
            if page.flags.contains(MappingFlags::WIPE_ON_FORK) {
                page.private = None;
                page.is_marked = false;
                page.is_written = false;
            }
            page.watch = page.watch.filter(|(who, _)| *who == Who::Follows);
            page.is_marked &= page.watch.is_some();
        }
        child
    }

    pub fn seal(&mut self, range: Range<usize>) -> Result<(), Error> {
        if self.covered_until(&range) < range.end {
            return Err(Error::NotMapped);
        }
        self.pages.range_mut(range).for_each(|(_, page)| page.flags |= MappingFlags::SEALED);
        Ok(())
    }
}

trait RevFind: Iterator<Item = usize> + Sized {
    fn rev_find(self, mut is_right: impl FnMut(&usize) -> bool) -> Option<usize> {
        let mut found = None;
        for item in self {
            if is_right(&item) {
                found = Some(item);
            }
        }
        found
    }
}

impl<I: Iterator<Item = usize>> RevFind for I {}
