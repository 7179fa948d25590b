// SPDX-License-Identifier: MPL-2.0

//! The machine itself: a zero-sized handle.

use alloc::sync::Arc;

use ostd::{
    io::IoMem,
    mm::{FrameAllocOptions, HasSize, PAGE_SIZE},
};
use spin::Once;
use vmar::{
    error::OutOfMemory,
    machine::{IoMem as DeviceMemoryOps, Machine},
};

use crate::{
    OstdBlank, OstdCounter, OstdFrame, OstdLock, OstdSpace, allocator::alloc_for_program, frame, reserve,
};

/// Who counts the faults of the current task.
static FAULT_COUNTER: Once<fn(usize)> = Once::new();

/// Has `count` told of faults that the current task has caused without touching memory; only the first call has an effect.
///
/// It is called in a task, with no lock held.
pub fn inject_fault_counter(count: fn(usize)) {
    FAULT_COUNTER.call_once(|| count);
}

/// The one OSTD machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ostd;

/// Device memory that can be mapped into a program.
#[derive(Clone, Debug)]
pub struct DeviceMemory(Arc<IoMem>);

impl DeviceMemory {
    /// Wraps acquired I/O memory.
    ///
    /// Returns `None` if its size is not a multiple of the page size: such memory cannot be mapped.
    pub fn new(io_mem: IoMem) -> Option<Self> {
        io_mem.size().is_multiple_of(PAGE_SIZE).then(|| Self(Arc::new(io_mem)))
    }

    pub(crate) fn io_mem(&self) -> &IoMem {
        &self.0
    }
}

impl DeviceMemoryOps for DeviceMemory {
    fn size(&self) -> usize {
        self.0.size()
    }
}

impl Machine for Ostd {
    const PAGE_SIZE: usize = PAGE_SIZE;

    type Space = OstdSpace;
    type Frame = OstdFrame;
    type Blank = OstdBlank;
    type IoMem = DeviceMemory;
    type Lock<T: Send + Sync + 'static> = OstdLock<T>;
    type Counter = OstdCounter;

    fn new_space(&self) -> Result<OstdSpace, OutOfMemory> {
        OstdSpace::new()
    }

    fn new_counter(&self) -> Result<OstdCounter, OutOfMemory> {
        OstdCounter::new()
    }

    fn alloc(&self) -> Result<OstdBlank, OutOfMemory> {
        reserve::ensure_user_frame()?;
        alloc_for_program(FrameAllocOptions::new().zeroed(false)).map(OstdBlank::new)
    }

    fn zero_frame(&self) -> OstdFrame {
        frame::zero_frame()
    }

    fn count_faults(&self, count: usize) {
        if let Some(counter) = FAULT_COUNTER.get() {
            counter(count);
        }
    }
}
