// SPDX-License-Identifier: MPL-2.0

//! The model: guest pages and the bytes that they show. It knows nothing of a host but what may be refused for its sake.

use std::{cell::RefCell, collections::BTreeMap, ops::Range, rc::Rc};

use vmar_hosted::{Sharing, VmPerms};

/// The bytes that a page shows.
#[derive(Clone)]
pub enum Bytes {
    /// Its own, and what it goes back to when it is discarded.
    Own(Vec<u8>, Vec<u8>),
    /// Those of a file, from an offset on.
    Shared(Rc<RefCell<Vec<u8>>>, usize),
}

/// What makes two pages parts of one mapping: what they show, and where it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Zeros,
    File(usize, isize),
}

#[derive(Clone)]
pub struct Page {
    pub perms: VmPerms,
    pub may_write: bool,
    pub sharing: Sharing,
    pub origin: Origin,
    pub bytes: Bytes,
}

pub struct Model {
    pub page: usize,
    pub pages: BTreeMap<usize, Page>,
}

impl Model {
    pub fn each(&self, range: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        range.clone().step_by(self.page)
    }

    pub fn is_free(&self, range: &Range<usize>) -> bool {
        self.pages.range(range.clone()).next().is_none()
    }

    pub fn is_one_mapping(&self, range: &Range<usize>) -> bool {
        let key = |addr: usize| {
            let page = self.pages.get(&addr)?;
            let origin = match page.origin {
                Origin::Zeros => Origin::Zeros,
                Origin::File(file, offset) => Origin::File(file, offset - addr as isize),
            };
            Some((page.perms, page.may_write, page.sharing, origin))
        };
        self.each(range).all(|addr| key(addr).is_some() && key(addr) == key(range.start))
    }

    /// Whether something in the host pages around `range` is shared and may be written.
    pub fn is_tied(&self, range: &Range<usize>, granule: usize) -> bool {
        let around = range.start / granule * granule..range.end.next_multiple_of(granule);
        self.pages.range(around).any(|(_, page)| page.sharing == Sharing::Shared && page.may_write)
    }

    pub fn remove(&mut self, range: &Range<usize>) {
        for addr in self.each(range) {
            self.pages.remove(&addr);
        }
    }
}
