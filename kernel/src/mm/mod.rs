// SPDX-License-Identifier: MPL-2.0

//! Memory of user programs: glue between the system calls and the VMAR framework.
//!
//! An [`AddressSpace`] is a process's address space: a `Vmar` with all rights, and the little that Linux knows beside it
//! (where the heap and the stack begin, what was on the stack at the start). System calls parse their arguments, call
//! one operation of the framework and turn its error into an errno ([`mod@errno`]).

mod barriers;
pub mod cache;
pub mod commit;
pub mod errno;
pub mod fault;
pub mod layout;
pub mod mapped_file;
pub mod mempolicy;
pub mod oom;
mod reap;
pub mod settings;
pub mod shared_policy;
mod space;

use ostd::{boot::boot_info, mm::Paddr};
use vmar_ostd::{reclaim, reserve};

pub use self::{
    barriers::Barriers,
    space::{AddressSpace, ProgramLayout, for_each_space, max_mappings, set_max_mappings},
};
use crate::prelude::*;

/// Memory for programs and for the kernel, in bytes.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// What of it was in use when stock was taken: the kernel itself, and what OSTD knows of each page; in bytes.
static AT_START: AtomicUsize = AtomicUsize::new(0);

/// How large the kernel's stack of a thread is, in bytes: as it is built (`OSTD_TASK_STACK_SIZE_IN_PAGES`).
pub const KERNEL_STACK: usize = 8 * PAGE_SIZE;

/// Takes stock of memory. Called once, early.
pub fn init() {
    use ostd::boot::memory_region::MemoryRegionType;
    let usable = boot_info().memory_regions.iter().filter(|region| {
        matches!(
            region.typ(),
            MemoryRegionType::Usable | MemoryRegionType::Kernel | MemoryRegionType::Reclaimable
        )
    });
    let total: Paddr = usable.map(|region| region.len()).sum();
    TOTAL.store(total, Ordering::Relaxed);
    AT_START.store(total.saturating_sub(reserve::free_frames() * PAGE_SIZE), Ordering::Relaxed);
    commit::init();
    fault::init();
}

/// All memory, in bytes.
pub fn total_memory() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// What was in use before the first program was there, in bytes.
pub fn memory_at_start() -> usize {
    AT_START.load(Ordering::Relaxed)
}

/// Waits until what was given up is free, and so held by nobody any more.
///
/// # Panics
///
/// Panics if called where sleeping is not allowed.
pub fn finish_frees() {
    reclaim::synchronize();
}

/// Free memory, in bytes. What was given up and waits for a grace period is waited for: a program that has seen another end
/// finds its memory free.
///
/// # Panics
///
/// Panics if called where sleeping is not allowed.
pub fn free_memory() -> usize {
    finish_frees();
    reserve::free_frames() * PAGE_SIZE
}

/// Whether the kernel has begun to use up what programs have left it.
pub fn is_kernel_short() -> bool {
    reserve::free_frames() < reserve::reserve() / 4 * 3
}

/// Whether the kernel would not have begun to use up what programs have left it if so many more bytes were in use.
pub fn can_kernel_spare(bytes: usize) -> bool {
    reserve::free_frames() >= (reserve::reserve() / 4 * 3).saturating_add(bytes.div_ceil(PAGE_SIZE))
}

/// Waits until what was given up is free; returns whether that relieves the kernel.
pub fn relieve_kernel() -> bool {
    finish_frees();
    !is_kernel_short()
}

/// Memory that programs can still get, in bytes.
pub fn available_memory() -> usize {
    reserve::available_frames() * PAGE_SIZE
}
