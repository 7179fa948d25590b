// SPDX-License-Identifier: MPL-2.0

//! The program's own memory: a piece of its data, given out from begin to end and never taken back.
//!
//! So the heap that `brk` moves is empty and untouched until an operation uses it, the address space is the same in
//! every run, and no libc decides what is mapped.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

/// More than any operation needs; what is not used is never touched.
const SIZE: usize = 8 << 20;

#[repr(align(4096))]
struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: the counter gives each byte to one caller only.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };

// SAFETY: what is given out is inside of `bytes`, aligned, and given out once.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let align_up = |used: usize| used.next_multiple_of(layout.align());
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            align_up(used).checked_add(layout.size()).filter(|&end| end <= SIZE)
        });
        match grown {
            // SAFETY: the end was checked to be inside. The arena's begin is aligned to a page.
            Ok(used) if layout.align() <= 4096 => unsafe {
                self.bytes.get().cast::<u8>().add(align_up(used))
            },
            _ => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
