// SPDX-License-Identifier: MPL-2.0

//! Free frames, within reach of every CPU.
//!
//! The frame allocator keeps a pool for each CPU and moves frames between it and the common pool only when that CPU
//! allocates or frees. A CPU that does neither sits on what it has, and allocations elsewhere fail while a good part of
//! memory is free. When memory runs low, [`spread`] therefore has each CPU allocate and free once.
//!
//! ```text
//!   common pool  ◄──balance──  pool of CPU 0      out of frames
//!        ▲
//!        └───────balance────── pool of CPU 1      idle, with a quarter of what was free when it last allocated
//! ```

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ostd::{
    cpu::{CpuSet, num_cpus},
    mm::FrameAllocOptions,
    smp::inter_processor_call,
};

/// Frames allocated between two spreads while memory is low.
const INTERVAL: usize = 256;

/// Frames of the allocation that makes a CPU balance its pool: too many for the cache in front of it.
const PROBE: usize = 8;

static SINCE_SPREAD: AtomicUsize = AtomicUsize::new(0);

/// Has each CPU hand over what its pool has too much of, and waits for it.
///
/// # Panics
///
/// Panics if called with interrupts disabled.
pub fn spread() {
    if num_cpus() > 1 {
        inter_processor_call(&CpuSet::new_full(), probe).wait();
    }
}

/// Spreads now and then; to be called for each frame allocated while memory is low.
pub(crate) fn spread_at_times() {
    if SINCE_SPREAD.fetch_add(1, Relaxed) + 1 >= INTERVAL {
        SINCE_SPREAD.store(0, Relaxed);
        spread();
    }
}

fn probe() {
    // What matters is that both the allocation, which may fail, and the freeing balance the pools.
    drop(FrameAllocOptions::new().zeroed(false).alloc_segment(PROBE));
}
