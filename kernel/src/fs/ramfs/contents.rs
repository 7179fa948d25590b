// SPDX-License-Identifier: MPL-2.0

//! Changing what is in a file, as far as its seals allow.

use super::{
    super::{inode::Allocate, io::Source, memfd::SealFlags},
    RamInode,
};
use crate::prelude::*;

impl RamInode {
    pub(super) fn write_contents(&self, pos: u64, src: &mut Source<'_>) -> Result<usize> {
        let (cache, seals) = self.contents()?;
        // What cannot be read has the first word, and no page is made for it.
        src.check_first()?;
        if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
            return Err(EPERM);
        }
        let grows = pos.saturating_add(src.remain() as u64) > cache.size();
        let count = if grows && seals.contains(SealFlags::GROW) {
            // What fits into the file as it is may still be written; of its last page, as in Linux, nothing if not all of it does.
            let end = cache.size() / PAGE_SIZE as u64 * PAGE_SIZE as u64;
            match end.checked_sub(pos) {
                None | Some(0) => return Err(EPERM),
                Some(room) => cache.write(pos, &mut src.take(room as usize)?)?,
            }
        } else {
            cache.write(pos, src)?
        };
        self.modified();
        Ok(count)
    }

    pub(super) fn resize_contents(&self, size: u64) -> Result<()> {
        let (cache, seals) = self.contents()?;
        let old = cache.size();
        let forbidden = (size < old && seals.contains(SealFlags::SHRINK))
            || (size > old && seals.contains(SealFlags::GROW));
        if forbidden {
            return Err(EPERM);
        }
        cache.resize(size)?;
        self.modified();
        Ok(())
    }

    pub(super) fn allocate_contents(&self, how: Allocate, pos: u64, len: u64) -> Result<()> {
        let (cache, seals) = self.contents()?;
        let changes = how == Allocate::PunchHole;
        if changes && seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
            return Err(EPERM);
        }
        // What is set aside beyond the end counts as growth, too.
        if !changes && pos.saturating_add(len) > cache.size() && seals.contains(SealFlags::GROW) {
            return Err(EPERM);
        }
        cache.allocate(how, pos, len)?;
        if changes {
            self.modified()
        } else {
            self.changed()
        }
        Ok(())
    }
}
