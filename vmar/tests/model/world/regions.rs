// SPDX-License-Identifier: MPL-2.0

//! Child regions come, are worked in, and end.

use vmar::{
    error::Error,
    mapping::{MappingFlags, Sharing},
    perms::VmPerms,
    placement::Placement,
    sim::PAGE_SIZE,
};

use super::{World, maybe_failing, random_access, random_range};
use crate::{
    Random,
    naive::{Page, Source},
};

impl World {
    /// Makes a region, or does something through a capability to one.
    pub(super) fn region(&mut self, random: &mut Random, who: usize) {
        let (process, space) = &mut self.processes[who];
        if space.reserved.len() < 3 && random.one_in(3) {
            let range = random_range(random);
            let expected = if space.is_free(range.clone()) { Ok(()) } else { Err(Error::Occupied) };
            let result = maybe_failing(random, expected, || {
                let region = process.vmar.new_region(range.len());
                region.placement(Placement::Exactly(range.start)).build().map(drop)
            });
            if result.is_ok() {
                space.reserved.push(range);
            }
            return;
        }
        if space.reserved.is_empty() {
            return;
        }
        let range = space.reserved[random.below(space.reserved.len())].clone();
        let region = process.vmar.region_at(range.start).expect("a region is gone that nobody has touched");
        let pages = range.len() / PAGE_SIZE;
        let start = range.start + random.below(pages) * PAGE_SIZE;
        let inside = start..start + (1 + random.below((range.end - start) / PAGE_SIZE)) * PAGE_SIZE;
        match random.below(8) {
            0 => {
                region.destroy().expect("it is not destroyed yet");
                space.unmap(range);
            }
            1 => drop(maybe_failing(random, Ok(()), || region.dissolve())),
            2..=4 => {
                let perms = random_access(random);
                let map = region.new_map(inside.len()).perms(perms).placement(Placement::Replacing(start));
                if maybe_failing(random, Ok(start), || map.build()).is_ok() {
                    space.unmap(inside.clone());
                    space.map(
                        inside,
                        Page {
                            perms: perms | VmPerms::MAY,
                            sharing: Sharing::Private,
                            flags: MappingFlags::empty(),
                            source: Source::Anonymous,
                            private: None,
                        },
                    );
                }
            }
            5 => {
                if maybe_failing(random, Ok(()), || region.unmap(inside.clone())).is_ok() {
                    space.unmap(inside);
                }
            }
            6 => {
                let access = random_access(random);
                let mut after = space.clone();
                let expected = after.protect(inside.clone(), access);
                let result = maybe_failing(random, expected, || region.protect(inside, access));
                if result != Err(Error::OutOfMemory) {
                    *space = after;
                }
            }
            _ => {
                let beyond = range.start..range.end + PAGE_SIZE;
                assert_eq!(region.unmap(beyond), Err(Error::OutOfRange));
            }
        }
    }
}
