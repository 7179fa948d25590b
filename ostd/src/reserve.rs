// SPDX-License-Identifier: MPL-2.0

//! A reserve of frames for the kernel: user memory runs out first.
//!
//! ```text
//!   free frames   0 ........ floor ........ reserve ........................... all
//!                 │ kernel's  │  page tables │  page tables, and the memory of   │
//!                 │ heap only │  that were   │  programs                         │
//!                 │           │  promised    │                                   │
//! ```
//!
//! OSTD panics when it cannot allocate a page-table node, so every transaction that may need nodes first has them
//! promised here, and nobody else takes promised frames: programs stop at the reserve, promises at the floor.
//! Before either is refused, what was freed late, or kept for use again, is waited for ([`crate::reclaim`]).

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use vmar::error::OutOfMemory;

use crate::{allocator, reclaim};

/// The reserve in frames; half of it is the floor for promises.
static RESERVE: AtomicUsize = AtomicUsize::new(2048);

/// Frames promised to transactions that are under way.
static PROMISED: AtomicUsize = AtomicUsize::new(0);

/// Sets how many frames programs leave free. The default is 2048 (8 MiB).
pub fn set_reserve(frames: usize) {
    RESERVE.store(frames, Relaxed);
}

/// Returns how many frames programs leave free.
pub fn reserve() -> usize {
    RESERVE.load(Relaxed)
}

/// Returns how many frames are free, those waiting to be given back not included.
pub fn free_frames() -> usize {
    allocator::free_frames()
}

/// Returns how many frames programs can still get.
pub fn available_frames() -> usize {
    free_frames().saturating_sub(reserve() + PROMISED.load(Relaxed))
}

/// Refuses a frame to a program when only the reserve is left.
pub fn ensure_user_frame() -> Result<(), OutOfMemory> {
    if available_frames() != 0 {
        return Ok(());
    }
    reclaim::synchronize();
    if available_frames() != 0 { Ok(()) } else { Err(OutOfMemory) }
}

/// Refuses a new thread for which there is no kernel stack, or only one that the kernel may come to need for itself.
///
/// # Errors
///
/// [`OutOfMemory`].
pub fn ensure_stack() -> Result<(), OutOfMemory> {
    if allocator::can_spare_stack() {
        return Ok(());
    }
    reclaim::synchronize();
    if allocator::can_spare_stack() { Ok(()) } else { Err(OutOfMemory) }
}

/// Frames that the kernel may take while this lives.
#[must_use]
#[derive(Debug)]
pub struct Promise(usize);

impl Drop for Promise {
    fn drop(&mut self) {
        PROMISED.fetch_sub(self.0, Relaxed);
    }
}

/// Promises `count` frames to the kernel.
///
/// # Errors
///
/// [`OutOfMemory`] if less than half of the reserve would be left beside them.
pub fn promise_kernel_frames(count: usize) -> Result<Promise, OutOfMemory> {
    let promise = Promise(count);
    PROMISED.fetch_add(count, Relaxed);
    let is_kept = || free_frames() >= PROMISED.load(Relaxed) + reserve() / 2;
    if is_kept() {
        return Ok(promise);
    }
    reclaim::synchronize();
    if is_kept() { Ok(promise) } else { Err(OutOfMemory) }
}
