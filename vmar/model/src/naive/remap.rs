// SPDX-License-Identifier: MPL-2.0

//! Moves and resizes.

use std::ops::Range;

use vmar::{error::Error, mapping::MappingFlags, sim::PAGE_SIZE, vmar::remap::RemapTarget};

use super::{Object, Page, Serve, Space, Who, addrs};

impl Space {
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
        let end = old.end.max(old.start + PAGE_SIZE);
        let target_range = match target {
            RemapTarget::Fixed(addr) => addr..addr + new_size,
            _ => 0..0,
        };
        if self.is_sealed(&(old.start..end)) || self.is_sealed(&target_range) {
            return Err(Error::Sealed);
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
    pub fn remap(
        &mut self,
        old: Range<usize>,
        to: Range<usize>,
        keeps_old: bool,
        objects: &mut [Object],
        serve: &mut Serve<'_>,
    ) {
        let kept = old.start..old.start + old.len().min(to.len());
        let first = self.pages[&old.start];
        let moved: Vec<_> = addrs(kept.clone()).map(|addr| self.pages[&addr]).collect();
        let follows = old.start == to.start || first.watch.is_some_and(|(who, _)| who == Who::Follows);
        if keeps_old {
            for addr in addrs(kept) {
                if let Some(page) = self.pages.get_mut(&addr) {
                    page.private = None;
                    page.is_marked = false;
                    page.is_written = false;
                    page.flags -= MappingFlags::ANY_LOCK;
                }
            }
        } else {
            self.unmap(old.clone());
        }
        self.unmap(to.clone());
        let watch = first.watch.filter(|_| follows);
        self.map(to.clone(), Page { watch, ..first });
        for (addr, old) in addrs(to.clone()).zip(moved) {
            if let Some(page) = self.pages.get_mut(&addr) {
                page.private = old.private;
                page.is_marked = old.is_marked && follows;
                page.is_written = old.is_written;
            }
        }
        if first.flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED && to.len() > old.len() {
            let _ = self.populate(to.start + old.len()..to.end, None, objects, serve);
        }
    }
}
