// SPDX-License-Identifier: MPL-2.0

//! Pages that a file has behind its end.
//!
//! `FALLOC_FL_KEEP_SIZE` gives a file pages that nobody can see yet. They are in an object of their own, since the end of the file's
//! object is where mappings of it meet theirs, and become the file's when it grows over them. Until then they are memory like any
//! other that the file has: counted by its quota, and not there for others (Linux 6.1, `shmem_fallocate`).
//!
//! Whoever calls what changes them holds off other writers of the file.

use core::ops::Range;

use aster_rights::{FullRights, TRightSet};
use spin::Once;
use vmar::{
    error::Error as VmarError,
    object::{Vmo, VmoKind},
};
use vmar_ostd::Ostd;

use super::{quota::Ledger, types::MAX_FILE_SIZE};
use crate::prelude::*;

type Pages = Vmo<Ostd, TRightSet<FullRights>>;

/// The pages of one file behind its end, at the indices that they are to have in it.
#[derive(Default)]
pub(super) struct SetAside {
    /// Made with the first page: hardly any file has one.
    pages: Once<Pages>,
}

impl SetAside {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.pages.get().map_or(0, |pages| pages.resident_count())
    }

    /// Whether page `index` is one.
    pub(super) fn has(&self, index: usize) -> bool {
        self.pages.get().is_some_and(|pages| pages.page(index).is_some())
    }

    /// Adds page `index`, unless it is there, which `ledger` counts.
    ///
    /// # Errors
    ///
    /// What whoever counts it answers; out of memory.
    pub(super) fn add(&self, index: usize, ledger: &Arc<Ledger>) -> core::result::Result<(), VmarError> {
        let pages = self.pages.try_call_once(|| {
            Vmo::new(&Ostd, MAX_FILE_SIZE as usize, VmoKind::SharedMemory)?.counted_by(ledger.clone())
        })?;
        pages.commit(index).map(drop)
    }

    /// Gives the memory of those in `range` (bytes) back.
    pub(super) fn remove(&self, range: Range<u64>) {
        if let Some(pages) = self.pages.get() {
            // Of an object without a source holes can always be made.
            let _ = pages.decommit(range.start as usize..range.end as usize);
        }
    }

    /// Makes room for page `index` of the file, and returns whether it was set aside.
    pub(super) fn take(&self, index: usize) -> bool {
        let is_there = self.has(index);
        if is_there {
            let start = (index * PAGE_SIZE) as u64;
            self.remove(start..start + PAGE_SIZE as u64);
        }
        is_there
    }

    /// Gives `file` those before page `end`, over which it has grown. Should the memory that they had be gone to somebody else just
    /// then, the file gets it when the page is touched.
    pub(super) fn move_to(&self, file: &Pages, end: usize) {
        let next = || self.pages.get()?.next_resident(0).filter(|index| *index < end);
        while let Some(index) = next() {
            self.take(index);
            let _ = file.commit(index);
        }
    }
}
