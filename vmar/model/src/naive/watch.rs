// SPDX-License-Identifier: MPL-2.0

//! Who is handed the faults of which pages.

use std::ops::Range;

use vmar::{
    error::Error,
    perms::VmPerms,
    vmar::watch::{HandReason, WatchModes},
};

use super::{Source, Space, Who};

impl Space {
    pub fn watch(&mut self, range: Range<usize>, modes: WatchModes, by: Who) -> Result<(), Error> {
        if self.pages.range(range.clone()).next().is_none() {
            return Err(Error::NotMapped);
        }
        for (_, page) in self.pages.range(range.clone()) {
            if page.source == Source::Anonymous && modes.contains(WatchModes::MINOR) {
                return Err(Error::InvalidOptions);
            }
            if !page.perms.contains(VmPerms::MAY_WRITE) {
                return Err(Error::NotPermitted);
            }
            if page.watch.is_some_and(|(who, _)| who != by) {
                return Err(Error::Occupied);
            }
        }
        for (_, page) in self.pages.range_mut(range) {
            let old = page.watch.map_or(WatchModes::empty(), |(_, modes)| modes);
            if !old.contains(modes) {
                page.watch = Some((by, modes));
            }
            page.is_marked &= old.contains(WatchModes::WRITES) && page.is_watched_for(HandReason::Write);
        }
        Ok(())
    }

    pub fn unwatch(&mut self, range: Range<usize>) -> Result<(), Error> {
        if self.pages.range(range.clone()).next().is_none() {
            return Err(Error::NotMapped);
        }
        for (_, page) in self.pages.range_mut(range) {
            page.watch = None;
            page.is_marked = false;
        }
        Ok(())
    }

    /// Marks pages; of anonymous memory those that are resident.
    pub fn write_protect(
        &mut self,
        range: Range<usize>,
        marks: bool,
        is_resident: impl Fn(usize) -> bool,
    ) -> Result<(), Error> {
        let is_watched =
            self.pages.get(&range.start).is_some_and(|page| page.is_watched_for(HandReason::Write));
        if !is_watched || self.mapping_end(range.start) < range.end {
            return Err(Error::NotMapped);
        }
        for (addr, page) in self.pages.range_mut(range) {
            if !marks {
                page.is_marked = false;
            } else if page.source != Source::Anonymous || is_resident(*addr) {
                page.is_marked = true;
            }
        }
        Ok(())
    }
}
