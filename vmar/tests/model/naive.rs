// SPDX-License-Identifier: MPL-2.0

//! The naive model: a space is a map from page to what the page is, an object an array of contents.
//!
//! Of each page's content two words are followed, one near its start and one past its middle.

use std::{collections::BTreeMap, ops::Range};

use vmar::{
    error::Error,
    mapping::{MappingFlags, Sharing},
    perms::VmPerms,
    sim::PAGE_SIZE,
    vmar::{
        fault::{Access, FaultError},
        remap::RemapTarget,
    },
};

/// Where in a page the two words lie.
pub const WORDS: [usize; 2] = [0, 3000];

/// The words of a page.
pub type Content = [u64; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Anonymous,
    Object { id: usize, index: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub perms: VmPerms,
    pub sharing: Sharing,
    pub flags: MappingFlags,
    pub source: Source,
    /// What the mapping has written for itself alone.
    pub private: Option<Content>,
}

#[derive(Clone, Debug, Default)]
pub struct Object {
    pub size: usize,
    pub pages: BTreeMap<usize, Content>,
}

#[derive(Clone, Debug, Default)]
pub struct Space {
    /// By address.
    pub pages: BTreeMap<usize, Page>,
    /// The ranges that child regions keep.
    pub reserved: Vec<Range<usize>>,
}

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
        sources && (self.perms, self.sharing, self.flags) == (next.perms, next.sharing, next.flags)
    }

    /// The page `distance` pages further on in the same mapping.
    fn at(&self, distance: usize) -> Self {
        let source = match self.source {
            Source::Anonymous => Source::Anonymous,
            Source::Object { id, index } => Source::Object { id, index: index + distance },
        };
        Self { source, private: None, ..*self }
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

impl Object {
    pub fn count(&self) -> usize {
        self.size.div_ceil(PAGE_SIZE)
    }

    pub fn content(&self, index: usize) -> Option<Content> {
        (index < self.count()).then(|| self.pages.get(&index).copied().unwrap_or_default())
    }

    fn zero(&mut self, range: Range<usize>) {
        for (index, content) in &mut self.pages {
            for (word, offset) in content.iter_mut().zip(WORDS) {
                if range.contains(&(index * PAGE_SIZE + offset)) {
                    *word = 0;
                }
            }
        }
    }

    /// Resizes, and returns the indices that are gone.
    pub fn resize(&mut self, size: usize) -> Range<usize> {
        let old_count = self.count();
        self.zero(self.size..old_count * PAGE_SIZE);
        self.size = size;
        let count = self.count();
        self.pages.retain(|index, _| *index < count);
        self.zero(size..count * PAGE_SIZE);
        count..old_count.max(count)
    }

    pub fn decommit(&mut self, range: Range<usize>) {
        self.zero(range);
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

    pub fn protect(&mut self, range: Range<usize>, access: VmPerms) -> Result<(), Error> {
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

    /// Makes pages present; `None` as the access stands for a write where that makes a private page, else a read.
    pub fn populate(
        &mut self,
        range: Range<usize>,
        access: Option<Access>,
        objects: &[Object],
    ) -> Result<(), Error> {
        for addr in addrs(range) {
            let page = self.pages.get_mut(&addr).ok_or(Error::NotMapped)?;
            let copies = page.perms.contains(VmPerms::WRITE) && !page.is_shared();
            let as_needed = if copies { Access::Write } else { Access::Read };
            page.touch(access.unwrap_or(as_needed), objects)?;
        }
        Ok(())
    }

    pub fn discard(&mut self, range: Range<usize>, locked_too: bool, objects_too: bool) -> Result<(), Error> {
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
        }
        outcome
    }

    pub fn advise(
        &mut self,
        range: Range<usize>,
        clear: MappingFlags,
        set: MappingFlags,
    ) -> Result<(), Error> {
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
        child.pages.retain(|_, page| !page.flags.contains(MappingFlags::DONT_FORK));
        for page in child.pages.values_mut() {
            page.flags -= MappingFlags::ANY_LOCK;
            if page.flags.contains(MappingFlags::WIPE_ON_FORK) {
                page.private = None;
            }
        }
        child
    }

    /// Whether what is mapped in `old` can become `new_size` bytes large where it is.
    pub fn has_room_behind(&self, old: &Range<usize>, new_size: usize) -> bool {
        old.end == self.mapping_end(old.start) && self.is_free(old.end..old.start + new_size)
    }

    /// Whether all of `kept`, or for an empty range a shared page, lies within one mapping.
    pub fn can_move(&self, kept: &Range<usize>) -> bool {
        let Some(first) = self.pages.get(&kept.start) else { return false };
        kept.end <= self.mapping_end(kept.start) && (!kept.is_empty() || first.is_shared())
    }

    /// How a resize or move ends, and where it leads if it succeeds.
    pub fn expect_remap(
        &self,
        old: &Range<usize>,
        new_size: usize,
        target: RemapTarget,
        window: &Range<usize>,
    ) -> Result<usize, Error> {
        if matches!(target, RemapTarget::DontUnmap(_)) && old.len() != new_size {
            return Err(Error::InvalidSize);
        }
        if !self.pages.contains_key(&old.start) {
            return Err(Error::NotMapped);
        }
        let mut flat = self.clone();
        flat.dissolve(old);
        flat.expect_flat_remap(old, new_size, target, window)
    }

    /// Forgets the regions that a change of what is in `range` dissolves, or of its first page.
    fn dissolve(&mut self, range: &Range<usize>) {
        let end = range.end.max(range.start + PAGE_SIZE);
        self.reserved.retain(|kept| end <= kept.start || kept.end <= range.start);
    }

    fn expect_flat_remap(
        &self,
        old: &Range<usize>,
        new_size: usize,
        target: RemapTarget,
        window: &Range<usize>,
    ) -> Result<usize, Error> {
        let kept = old.start..old.start + old.len().min(new_size);
        match target {
            RemapTarget::InPlace | RemapTarget::MayMove if old.len() >= new_size => return Ok(old.start),
            _ if !self.can_move(&kept) => return Err(Error::NotMapped),
            RemapTarget::InPlace | RemapTarget::MayMove if self.has_room_behind(old, new_size) => {
                return Ok(old.start);
            }
            RemapTarget::InPlace => return Err(Error::NoRoom),
            RemapTarget::Fixed(addr) if addr < old.end && old.start < addr + new_size && !old.is_empty() => {
                return Err(Error::InvalidOptions);
            }
            RemapTarget::Fixed(addr) => return Ok(addr),
            RemapTarget::MayMove | RemapTarget::DontUnmap(_) => {}
        }
        self.highest_room(new_size, window).ok_or(Error::NoRoom)
    }

    /// Moves `old` to `to`, or resizes it if they start alike; what was at the target is gone.
    pub fn remap(&mut self, old: Range<usize>, to: Range<usize>, keeps_old: bool, objects: &[Object]) {
        let kept = old.start..old.start + old.len().min(to.len());
        let first = self.pages[&old.start];
        let private: Vec<_> = addrs(kept.clone()).map(|addr| self.pages[&addr].private).collect();
        if keeps_old {
            for addr in addrs(kept) {
                if let Some(page) = self.pages.get_mut(&addr) {
                    page.private = None;
                    page.flags -= MappingFlags::ANY_LOCK;
                }
            }
        } else {
            self.unmap(old.clone());
        }
        self.unmap(to.clone());
        self.map(to.clone(), first);
        for (addr, private) in addrs(to.clone()).zip(private) {
            if let Some(page) = self.pages.get_mut(&addr) {
                page.private = private;
            }
        }
        if first.flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED && to.len() > old.len() {
            let _ = self.populate(to.start + old.len()..to.end, None, objects);
        }
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
