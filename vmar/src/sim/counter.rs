// SPDX-License-Identifier: MPL-2.0

//! Counters in per-CPU parts.

use std::{
    boxed::Box,
    cell::Cell,
    sync::atomic::{AtomicIsize, Ordering::SeqCst},
};

use crate::machine::Counter;

std::thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Says which CPU the current thread runs on from now on.
pub(super) fn set_current_cpu(number: usize) {
    CURRENT.set(number);
}

/// A sum kept in per-CPU parts.
#[derive(Debug)]
pub struct SimCounter(Box<[AtomicIsize]>);

impl SimCounter {
    pub(super) fn new(cpus: usize) -> Self {
        Self((0..cpus).map(|_| AtomicIsize::new(0)).collect())
    }
}

impl Counter for SimCounter {
    fn add(&self, delta: isize) {
        self.0[CURRENT.get() % self.0.len()].fetch_add(delta, SeqCst);
    }

    fn sum(&self) -> isize {
        self.0.iter().map(|part| part.load(SeqCst)).sum()
    }
}
