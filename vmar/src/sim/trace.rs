// SPDX-License-Identifier: MPL-2.0

//! A record of what page tables and TLBs allow, for tests that look at every moment of an operation.

use std::{
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    vec::Vec,
};

use crate::machine::PageFlags;

/// What was in force of a page at one point of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The page's address, in bytes.
    pub page: usize,
    /// What the page table, or a TLB, allowed.
    pub access: PageFlags,
}

/// The record, if one is kept.
#[derive(Debug, Default)]
pub(super) struct Trace {
    is_kept: AtomicBool,
    record: Mutex<Vec<InForce>>,
}

impl Trace {
    pub(super) fn start(&self) {
        self.is_kept.store(true, SeqCst);
    }

    pub(super) fn stop(&self) -> Vec<InForce> {
        self.is_kept.store(false, SeqCst);
        mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note(&self, look: impl FnOnce() -> InForce) {
        if self.is_kept.load(SeqCst) {
            let seen = look();
            self.record.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        }
    }
}
