// SPDX-License-Identifier: MPL-2.0

//! The suite's heap: a bump allocator inside the program's own zeroed data.
//!
//! Cases look at `/proc/self/maps`, fill holes and set limits, so nothing may map memory behind their backs, as libc's
//! allocator would. This one makes no system call, and takes no lock that a fork could leave held. Only the latest block
//! is ever given back: a case is a short-lived process.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr::null_mut,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes in the arena; those never used cost no frame.
const SIZE: usize = 32 << 20;

#[repr(align(4096))]
struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: the bytes are handed out in disjoint blocks, each to one owner.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };

// SAFETY: every block starts at a multiple of its alignment (the arena itself is page aligned, and nothing asks for more),
// lies behind all blocks handed out before, and is handed out again only once its owner has given it back.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut start = 0;
        let taken = self.used.fetch_update(Relaxed, Relaxed, |used| {
            start = used.next_multiple_of(layout.align());
            start.checked_add(layout.size()).filter(|&end| end <= SIZE)
        });
        match taken {
            Ok(_) => self.bytes.get().cast::<u8>().wrapping_add(start),
            Err(_) => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = block as usize - self.bytes.get() as usize;
        let _ = self.used.compare_exchange(start + layout.size(), start, Relaxed, Relaxed);
    }

    /// The latest block grows and shrinks where it is.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = block as usize - self.bytes.get() as usize;
        let (end, wanted) = (start + layout.size(), start.saturating_add(size));
        if wanted <= SIZE && self.used.compare_exchange(end, wanted, Relaxed, Relaxed).is_ok() {
            return block;
        }
        // SAFETY: the caller's layout with another size, which the caller says does not overflow; both blocks are valid
        // for the smaller of the two sizes and do not overlap.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}
