// SPDX-License-Identifier: MPL-2.0

//! Child regions come, are worked in, and end.

use std::ops::Range;

use vmar::{error::Error, mapping::Sharing, perms::VmPerms, placement::Placement, sim::PAGE_SIZE};

use super::{Running, World, attempt};
use crate::{
    naive::{Page, Source},
    operation::{RegionAct, Shortage},
};

/// How many regions a process has at most.
const MOST: usize = 3;

impl World {
    pub(super) fn new_region(&mut self, who: usize, shortage: Shortage, range: Range<usize>) {
        let Running { process, space, .. } = &mut self.running[who];
        if space.reserved.len() == MOST {
            return;
        }
        let expected = if space.is_free(range.clone()) { Ok(()) } else { Err(Error::Occupied) };
        let result = attempt(process, shortage, expected, || {
            let region = process.vmar.new_region(range.len());
            region.placement(Placement::Exactly(range.start)).build().map(drop)
        });
        if result == Some(Ok(())) {
            space.reserved.push(range);
        }
    }

    /// Does something through a capability to a region, in a part of it.
    pub(super) fn region(
        &mut self,
        who: usize,
        shortage: Shortage,
        which: usize,
        (first, count): (usize, usize),
        act: RegionAct,
    ) {
        let Running { process, space, .. } = &mut self.running[who];
        if space.reserved.is_empty() {
            return;
        }
        let range = space.reserved[which % space.reserved.len()].clone();
        let region = process.vmar.region_at(range.start).expect("a region is gone that nobody has touched");
        let start = range.start + first % (range.len() / PAGE_SIZE) * PAGE_SIZE;
        let inside = start..start + (1 + count % ((range.end - start) / PAGE_SIZE)) * PAGE_SIZE;
        let is_sealed =
            |range: &Range<usize>| if space.is_sealed(range) { Err(Error::Sealed) } else { Ok(()) };
        match act {
            RegionAct::Destroy => {
                let expected = is_sealed(&range);
                if attempt(process, shortage, expected, || region.destroy()) == Some(Ok(())) {
                    space.unmap(range);
                }
            }
            RegionAct::Dissolve => {
                attempt(process, shortage, Ok(()), || region.dissolve());
            }
            RegionAct::Map(perms) => {
                let expected = is_sealed(&inside).map(|()| start);
                let map = region.new_map(inside.len()).perms(perms).placement(Placement::Replacing(start));
                if let Some(Ok(_)) = attempt(process, shortage, expected, || map.build()) {
                    space.unmap(inside.clone());
                    space.map(inside, Page::new(perms | VmPerms::MAY, Sharing::Private, Source::Anonymous));
                }
            }
            RegionAct::Unmap => {
                let expected = is_sealed(&inside);
                if attempt(process, shortage, expected, || region.unmap(inside.clone())) == Some(Ok(())) {
                    space.unmap(inside);
                }
            }
            RegionAct::Protect(access) => {
                drop(region);
                self.protect(who, shortage, inside, access);
            }
            RegionAct::UnmapBeyond => {
                let beyond = range.start..range.end + PAGE_SIZE;
                assert_eq!(region.unmap(beyond), Err(Error::OutOfRange));
            }
        }
    }
}
