// SPDX-License-Identifier: MPL-2.0

//! Counters with one part for each CPU.

use core::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use osdk_heap_allocator::{CpuLocalBox, alloc_cpu_local};
use ostd::cpu::{CpuId, all_cpus};
use vmar::{error::OutOfMemory, machine::Counter};

/// A sum whose parts lie in per-CPU storage.
pub struct OstdCounter(CpuLocalBox<AtomicIsize>);

impl OstdCounter {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        alloc_cpu_local(|_| AtomicIsize::new(0)).map(Self).map_err(|_| OutOfMemory)
    }
}

impl Counter for OstdCounter {
    fn add(&self, delta: isize) {
        // A task that is moved between the two steps adds to the part of the CPU it came from: the sum is right all the
        // same, because the parts are atomic.
        self.0.get_on_cpu(CpuId::current_racy()).fetch_add(delta, Relaxed);
    }

    fn sum(&self) -> isize {
        all_cpus().map(|cpu| self.0.get_on_cpu(cpu).load(Relaxed)).sum()
    }
}
