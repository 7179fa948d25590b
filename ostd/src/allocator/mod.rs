// SPDX-License-Identifier: MPL-2.0

//! The frame allocator: a free frame is within reach of every CPU, wherever it is.
//!
//! OSTD's companion crate `osdk-frame-allocator` keeps a pool for each CPU and takes single frames in runs of eight. Two
//! things follow that a kernel under memory pressure cannot live with: an allocation fails while a good part of memory is
//! free in another CPU's pool, and frames whose neighbours are in use are never found again. So this is another one.
//!
//! ```text
//!   alloc ──► cache of this CPU ──► pool: chunks of 2ⁿ frames ──► caches of the other CPUs ──► zone
//!             up to 64 frames       behind one lock               emptied for it               for the kernel alone
//! ```
//!
//! - A single frame is refused to the kernel only if none is free, and to a program only if none is free but in the zone.
//! - The *zone* is contiguous memory that goes to the kernel, and only when there is no other. What was taken from it comes
//!   back to it, so it has runs of frames for kernel stacks, and for lists that the kernel cannot do without, when all other free
//!   memory is in single frames.
//! - Frames are counted exactly: [`free_frames`] is what could be had one by one.

pub(crate) mod buddies;
pub(crate) mod cache;

use core::{
    alloc::Layout,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use ostd::{
    cpu::{PinCurrentCpu, all_cpus},
    cpu_local, irq,
    mm::{Frame, FrameAllocOptions, HasPaddr, PAGE_SIZE, Paddr, frame::GlobalFrameAllocator},
    sync::{LocalIrqDisabled, SpinLock},
};
use vmar::error::OutOfMemory;

use self::{
    buddies::{Buddies, Order},
    cache::{BATCH, Cache},
};

/// The zone's size: 2^10 frames, 4 MiB.
const ZONE_ORDER: Order = 10;

/// The zone's frames.
pub(crate) const ZONE_FRAMES: usize = 1 << ZONE_ORDER;

/// The frames of a run that three quarters of the zone are for: such long lists can do without.
const LONG_RUN: usize = 16;

/// A thread's kernel stack: 8 frames in a row.
const STACK_ORDER: Order = 3;

/// The part of the zone that new threads leave alone: the kernel's own lists, when they grow, must not fail.
const NOT_FOR_STACKS: usize = ZONE_FRAMES / 4 * 3;

/// A region of memory gives some of it up for the zone only if it is so many times as large.
const ZONE_PORTION: usize = 8;

#[ostd::global_frame_allocator]
static FRAME_ALLOCATOR: TesseraAllocator = TesseraAllocator;

/// All free frames but those in caches. To be locked after a cache, never before.
static POOL: SpinLock<Pool, LocalIrqDisabled> = SpinLock::new(Pool::new());

/// The address of the zone; 0 if there is none.
static ZONE: AtomicUsize = AtomicUsize::new(0);

/// Free frames: those of the pool, the caches, and the zone.
static FREE: AtomicUsize = AtomicUsize::new(0);

cpu_local! {
    static CACHE: SpinLock<Cache, LocalIrqDisabled> = SpinLock::new(Cache::new());
}

/// See the module.
pub(crate) struct TesseraAllocator;

struct Pool {
    common: Buddies,
    zone: Buddies,
    zone_free: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { common: Buddies::new(), zone: Buddies::new(), zone_free: 0 }
    }

    fn insert(&mut self, addr: Paddr, frames: usize) {
        match is_in_zone(addr) {
            true => {
                self.zone.insert_range(addr, frames);
                self.zone_free += frames;
            }
            false => self.common.insert_range(addr, frames),
        }
    }

    /// Whether there is a stack for a new thread.
    fn has_stack(&self) -> bool {
        self.common.has(STACK_ORDER) || self.zone_free >= NOT_FOR_STACKS && self.zone.has(STACK_ORDER)
    }

    /// Takes a chunk from the zone. Long runs leave a part of it for the rest.
    fn alloc_from_zone(&mut self, order: Order) -> Option<Paddr> {
        let frames = 1 << order;
        let left = match frames {
            LONG_RUN.. => ZONE_FRAMES / 4,
            _ => 0,
        };
        let addr = (self.zone_free >= left + frames).then(|| self.zone.alloc(order)).flatten()?;
        self.zone_free -= frames;
        Some(addr)
    }
}

impl GlobalFrameAllocator for TesseraAllocator {
    fn alloc(&self, layout: Layout) -> Option<Paddr> {
        let frames = layout.size() / PAGE_SIZE;
        let found = match frames {
            1 if layout.align() <= PAGE_SIZE => alloc_single(),
            _ => alloc_run(frames, layout.align()),
        };
        if found.is_some() {
            FREE.fetch_sub(frames, Relaxed);
        }
        found
    }

    fn dealloc(&self, addr: Paddr, size: usize) {
        let frames = size / PAGE_SIZE;
        if frames == 1 && !is_in_zone(addr) {
            let guard = irq::disable_local();
            CACHE.get_on_cpu(guard.current_cpu()).lock().push(addr, |addr| POOL.lock().insert(addr, 1));
        } else {
            POOL.lock().insert(addr, frames);
        }
        FREE.fetch_add(frames, Relaxed);
    }

    fn add_free_memory(&self, addr: Paddr, size: usize) {
        let zone_size = PAGE_SIZE << ZONE_ORDER;
        if ZONE.load(Relaxed) == 0 && size >= ZONE_PORTION * zone_size {
            let start = addr.next_multiple_of(zone_size);
            ZONE.store(start, Relaxed);
            let end = start + zone_size;
            for part in [addr..start, start..end, end..addr + size] {
                POOL.lock().insert(part.start, part.len() / PAGE_SIZE);
            }
        } else {
            POOL.lock().insert(addr, size / PAGE_SIZE);
        }
        FREE.fetch_add(size / PAGE_SIZE, Relaxed);
    }
}

/// Returns how many frames are free, those for the kernel alone included.
pub fn free_frames() -> usize {
    FREE.load(Relaxed)
}

/// Returns whether there is a stack for a new thread that the kernel can spare. Who makes the thread asks for it next; a few who
/// do so at the same time may all be told of the same one.
pub(crate) fn can_spare_stack() -> bool {
    let has_stack = || POOL.lock().has_stack();
    has_stack() || {
        // Frames in caches keep their neighbours from becoming one with them.
        empty_caches();
        has_stack()
    }
}

/// Allocates a frame for a program: never from the zone.
pub(crate) fn alloc_for_program(options: &FrameAllocOptions) -> Result<Frame<()>, OutOfMemory> {
    let frame = options.alloc_frame().map_err(|_| OutOfMemory)?;
    // There was no other; dropped, it goes back.
    if is_in_zone(frame.paddr()) { Err(OutOfMemory) } else { Ok(frame) }
}

fn is_in_zone(addr: Paddr) -> bool {
    let zone = ZONE.load(Relaxed);
    zone != 0 && (zone..zone + (PAGE_SIZE << ZONE_ORDER)).contains(&addr)
}

fn alloc_single() -> Option<Paddr> {
    let guard = irq::disable_local();
    let here = guard.current_cpu();
    let from_here = || {
        let refill = |put: &mut dyn FnMut(Paddr)| POOL.lock().common.alloc_singles(BATCH, put);
        CACHE.get_on_cpu(here).lock().pop(refill)
    };
    from_here().or_else(|| {
        // A frame that moves from a cache to the pool meanwhile is in neither when looked for, hence the second look.
        let elsewhere = all_cpus().filter(|cpu| *cpu != here);
        let stolen = elsewhere.map(|cpu| CACHE.get_on_cpu(cpu).lock().take()).find_map(|frame| frame);
        stolen.or_else(from_here).or_else(|| POOL.lock().alloc_from_zone(0))
    })
}

fn alloc_run(frames: usize, align: usize) -> Option<Paddr> {
    let run = frames.checked_next_power_of_two()?.max(align / PAGE_SIZE);
    let order = run.trailing_zeros() as Order;
    let common = || POOL.lock().common.alloc(order);
    let addr = common()
        .or_else(|| {
            // Frames in caches keep their neighbours from becoming one with them.
            empty_caches();
            common()
        })
        .or_else(|| POOL.lock().alloc_from_zone(order))?;
    POOL.lock().insert(addr + frames * PAGE_SIZE, run - frames);
    Some(addr)
}

fn empty_caches() {
    for cpu in all_cpus() {
        let mut cache = CACHE.get_on_cpu(cpu).lock();
        while let Some(addr) = cache.take() {
            POOL.lock().insert(addr, 1);
        }
    }
}
