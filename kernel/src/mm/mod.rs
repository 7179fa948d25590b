// SPDX-License-Identifier: MPL-2.0

//! Memory of user programs: glue between the system calls and the VMAR framework.
//!
//! An [`AddressSpace`] is a process's address space: a `Vmar` with all rights, and the little that Linux knows beside it
//! (where the heap and the stack begin, what was on the stack at the start). System calls parse their arguments, call
//! one operation of the framework and turn its error into an errno ([`mod@errno`]).

mod barriers;
pub mod errno;
pub mod fault;
pub mod layout;
pub mod mapped_file;
pub mod oom;
mod space;

use ostd::{boot::boot_info, mm::Paddr};
use vmar_ostd::reserve;

pub use self::{
    barriers::Barriers,
    space::{AddressSpace, ProgramLayout},
};
use crate::prelude::*;

/// Memory for programs and for the kernel, in bytes.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

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
    vmar_ostd::allocator::fill_stash();
    fault::init();
}

/// All memory, in bytes.
pub fn total_memory() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// Free memory, in bytes.
pub fn free_memory() -> usize {
    reserve::free_frames() * PAGE_SIZE
}

/// Memory that programs can still get, in bytes.
pub fn available_memory() -> usize {
    reserve::available_frames() * PAGE_SIZE
}
