// SPDX-License-Identifier: MPL-2.0

//! The frame allocator: OSTD's own, with a stash behind it that is for the kernel alone.
//!
//! The reserve (see [`reserve`](crate::reserve)) counts frames, and free frames can be useless: the allocator takes runs
//! of eight, and when programs have used up the last run, the kernel gets nothing although the reserve is untouched. So some
//! frames are set aside at the start, and handed out when an allocation that is not for a program finds nothing else.
//!
//! ```text
//!   alloc ──► OSTD's allocator ──► frames
//!                 │ none
//!                 ├─ for a program ──► none: the program fails
//!                 └─ for the kernel ─► stash: single frames, and runs of four
//!   free ───► stash, while it is not full ──► OSTD's allocator
//! ```

use core::{
    alloc::Layout,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use osdk_frame_allocator::FrameAllocator;
use ostd::{
    cpu::{CpuId, PinCurrentCpu},
    irq,
    mm::{Frame, FrameAllocOptions, PAGE_SIZE, Paddr, frame::GlobalFrameAllocator},
    sync::{LocalIrqDisabled, SpinLock},
};
use vmar::error::OutOfMemory;

/// Single frames in the stash (2 MiB).
const SINGLES: usize = 512;
/// Runs of [`RUN`] frames in the stash (1 MiB).
const RUNS: usize = 64;
/// The frames of a run.
const RUN: usize = 4;

/// The most CPUs there can be.
const MAX_CPUS: usize = 64;

/// Whether a CPU is allocating for a program.
static FOR_PROGRAM: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Set once programs can run: before that, what is freed is not stashed.
static IS_FILLED: AtomicBool = AtomicBool::new(false);

static STASH: SpinLock<Stash, LocalIrqDisabled> =
    SpinLock::new(Stash { singles: Stack::new(), runs: Stack::new() });

#[ostd::global_frame_allocator]
static FRAME_ALLOCATOR: StashingAllocator = StashingAllocator;

/// OSTD's allocator with the stash behind it.
struct StashingAllocator;

struct Stash {
    singles: Stack<SINGLES>,
    runs: Stack<RUNS>,
}

/// A stack of places of equal size.
struct Stack<const N: usize> {
    places: [Paddr; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    const fn new() -> Self {
        Self { places: [0; N], len: 0 }
    }

    fn push(&mut self, place: Paddr) -> bool {
        if self.len == N {
            return false;
        }
        self.places[self.len] = place;
        self.len += 1;
        true
    }

    fn pop(&mut self) -> Option<Paddr> {
        self.len = self.len.checked_sub(1)?;
        Some(self.places[self.len])
    }
}

impl Stash {
    fn take(&mut self, layout: Layout) -> Option<Paddr> {
        if layout.align() > PAGE_SIZE {
            return None;
        }
        match layout.size() / PAGE_SIZE {
            1 => self.singles.pop(),
            2..=RUN => {
                let run = self.runs.pop()?;
                // What is over fills up the single frames; there is room, or else it is lost to nobody but the stash.
                for frame in layout.size() / PAGE_SIZE..RUN {
                    let addr = run + frame * PAGE_SIZE;
                    if !self.singles.push(addr) {
                        FrameAllocator.dealloc(addr, PAGE_SIZE);
                    }
                }
                Some(run)
            }
            _ => None,
        }
    }
}

impl GlobalFrameAllocator for StashingAllocator {
    fn alloc(&self, layout: Layout) -> Option<Paddr> {
        FrameAllocator.alloc(layout).or_else(|| {
            let guard = irq::disable_local();
            match is_for_program(guard.current_cpu()) {
                true => None,
                false => STASH.lock().take(layout),
            }
        })
    }

    fn dealloc(&self, addr: Paddr, size: usize) {
        if size == PAGE_SIZE && IS_FILLED.load(Relaxed) && STASH.lock().singles.push(addr) {
            return;
        }
        FrameAllocator.dealloc(addr, size);
    }

    fn add_free_memory(&self, addr: Paddr, size: usize) {
        FrameAllocator.add_free_memory(addr, size);
    }
}

fn is_for_program(cpu: CpuId) -> bool {
    FOR_PROGRAM.get(u32::from(cpu) as usize).is_some_and(|flag| flag.load(Relaxed))
}

/// Sets frames aside for the kernel. To be called once, before the first program.
pub fn fill_stash() {
    let layout = |frames: usize| Layout::from_size_align(frames * PAGE_SIZE, PAGE_SIZE).ok();
    for (frames, count) in [(RUN, RUNS), (1, SINGLES)] {
        for _ in 0..count {
            let Some(place) = layout(frames).and_then(|layout| FrameAllocator.alloc(layout)) else { return };
            let mut stash = STASH.lock();
            let pushed = if frames == 1 { stash.singles.push(place) } else { stash.runs.push(place) };
            drop(stash);
            if !pushed {
                FrameAllocator.dealloc(place, frames * PAGE_SIZE);
            }
        }
    }
    IS_FILLED.store(true, Relaxed);
}

/// Allocates a frame for a program: never from the stash.
pub(crate) fn alloc_for_program(options: &FrameAllocOptions) -> Result<Frame<()>, OutOfMemory> {
    let guard = irq::disable_local();
    let flag = FOR_PROGRAM.get(u32::from(guard.current_cpu()) as usize);
    if let Some(flag) = flag {
        flag.store(true, Relaxed);
    }
    let frame = options.alloc_frame();
    if let Some(flag) = flag {
        flag.store(false, Relaxed);
    }
    frame.map_err(|_| OutOfMemory)
}
