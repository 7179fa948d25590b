// SPDX-License-Identifier: MPL-2.0

//! How many pages a file system may have.
//!
//! A file's object charges for each page that it gets, whoever adds it, through the file's [`Ledger`]; what has no object
//! (space that is set aside, names and links) is counted by hand.

use vmar::{error::Error as VmarError, object::Account};

use crate::prelude::*;

/// How many pages a file system may have, and how many it has.
pub struct Quota {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl Quota {
    /// A quota of `limit` pages; `usize::MAX` for none.
    pub const fn new(limit: usize) -> Self {
        Self { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) }
    }

    /// The limit in pages.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit.
    ///
    /// # Errors
    ///
    /// EINVAL if more is in use.
    pub fn set_limit(&self, limit: usize) -> Result<()> {
        if limit < self.used() {
            return Err(EINVAL);
        }
        self.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }

    /// The pages in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts a page, if there is room.
    ///
    /// # Errors
    ///
    /// ENOSPC.
    pub fn charge_page(&self) -> Result<()> {
        let limit = self.limit();
        let fits = |used: usize| (used < limit).then_some(used + 1);
        self.used.try_update(Ordering::AcqRel, Ordering::Acquire, fits).map(drop).map_err(|_| ENOSPC)
    }

    /// Counts a page, whether there is room or not.
    pub fn add_page(&self) {
        self.used.fetch_add(1, Ordering::AcqRel);
    }

    /// No longer counts a page that no file has.
    pub fn release_page(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }

    fn require(&self, pages: usize) -> Result<()> {
        if pages > self.limit().saturating_sub(self.used()) { Err(ENOSPC) } else { Ok(()) }
    }
}

/// Has the quota of a file system count the pages of a file, whoever adds them.
pub(super) struct Ledger {
    quota: Arc<Quota>,
    /// Whether they count: what can be read again does not, it is not in anybody's way.
    is_counting: AtomicBool,
}

impl Ledger {
    /// Counts from the first page on.
    pub(super) fn new(quota: Arc<Quota>) -> Self {
        Self { quota, is_counting: AtomicBool::new(true) }
    }

    /// Counts nothing until it is to [begin](Self::begin).
    pub(super) fn idle(quota: Arc<Quota>) -> Self {
        Self { quota, is_counting: AtomicBool::new(false) }
    }

    /// Counts from now on, when there are `pages` pages.
    pub(super) fn begin(&self, pages: usize) {
        self.recount(0, pages);
        self.is_counting.store(true, Ordering::Release);
    }

    /// Refuses `pages` further pages for which there is no room (`ENOSPC`).
    pub(super) fn require(&self, pages: usize) -> Result<()> {
        self.quota.require(pages)
    }

    /// Counts `now` pages where it has counted `before`, whether there is room or not.
    pub(super) fn recount(&self, before: usize, now: usize) {
        self.quota.used.fetch_add(now.wrapping_sub(before), Ordering::AcqRel);
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({} of {} pages)", self.quota.used(), self.quota.limit())
    }
}

impl Account for Ledger {
    fn charge(&self) -> core::result::Result<(), VmarError> {
        if !self.is_counting.load(Ordering::Acquire) {
            return Ok(());
        }
        self.quota.charge_page().map_err(|_| VmarError::NoSpace)
    }

    fn discharge(&self, pages: usize) {
        if self.is_counting.load(Ordering::Acquire) {
            self.quota.used.fetch_sub(pages, Ordering::AcqRel);
        }
    }
}
