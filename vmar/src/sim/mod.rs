// SPDX-License-Identifier: MPL-2.0

//! A simulated machine, on which the framework proves itself.
//!
//! ```text
//!   Cpu 0..n ── TLB ──► SimSpace (page table) ──► SimFrame (one page)
//!                          ▲
//!                     SimCursor: what the framework works with
//! ```
//!
//! Frames, page tables and the TLBs of several CPUs are plain data. The machine keeps the rules of the framework by
//! panicking when one is broken:
//!
//! - while a cursor is open no sleeping lock is taken, and nothing is allocated;
//! - a frame is freed only when no TLB can reach it, and not within the transaction that took it out of a page table;
//! - a cursor stays in its range, maps only empty entries, and no more of them than its transaction promised;
//! - the frame of zeros is never written, nor mapped writable;
//! - a thread does not take a lock that it holds;
//! - what the framework has written is made visible to instruction fetch before it can be executed.
//!
//! Which locks a thread takes can be [recorded](record_locks), those of page-table nodes among them.
//!
//! Every allocation goes through [`fallible::gate`], where a test can make it fail. Like a real machine it may free
//! frames late ([`Sim::set_late_frees`]), so that a count of holders is too high for a while.

mod audit;
mod counter;
mod cpu;
mod frame;
mod lock;
mod process;
mod record;
mod rules;
mod space;
mod trace;
pub mod unchecked;

use std::{
    boxed::Box,
    mem,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    vec::Vec,
};

pub use self::{
    counter::SimCounter,
    cpu::{Cpu, PageFault},
    frame::{SimBlank, SimFrame, SimIoMem},
    lock::SimLock,
    process::Process,
    record::{LockId, Recording, record_locks},
    rules::assert_no_cursor,
    space::{Mapped, SimCursor, SimSpace},
    trace::InForce,
};
use self::{counter::set_current_cpu, cpu::Tlb, frame::Memory, trace::Trace};
use crate::{
    error::OutOfMemory,
    fallible,
    machine::{Machine, PageFlags},
};

/// The page size, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// The addresses that a program can use: those of four-level paging on x86-64, without the lowest 64 KiB.
const USER_RANGE: Range<usize> = 0x1_0000..USER_END;

/// Where they end.
const USER_END: usize = 0x7fff_ffff_f000;

/// A handle to a simulated machine.
#[derive(Clone, Debug)]
pub struct Sim(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Arc<Memory>,
    zero_frame: SimFrame,
    tlbs: Box<[Tlb]>,
    spaces: AtomicUsize,
    next_space: AtomicU64,
    frees_late: AtomicBool,
    unmapped: Mutex<Vec<SimFrame>>,
    transactions: AtomicU64,
    flushes: AtomicU64,
    user_range: Range<usize>,
    trace: Trace,
}

impl Sim {
    /// Creates a machine with `cpus` CPUs and as much memory as anybody asks for.
    pub fn new(cpus: usize) -> Self {
        Self::with_user_range(cpus, USER_RANGE)
    }

    /// Creates a machine on which programs can use page 0 as well.
    pub fn with_page_zero(cpus: usize) -> Self {
        Self::with_user_range(cpus, 0..USER_END)
    }

    fn with_user_range(cpus: usize, user_range: Range<usize>) -> Self {
        let memory = Arc::new(Memory::new());
        Self(Arc::new(Inner {
            zero_frame: SimFrame::new_zero_frame(&memory),
            memory,
            tlbs: (0..cpus).map(|_| Tlb::default()).collect(),
            spaces: AtomicUsize::new(0),
            next_space: AtomicU64::new(0),
            frees_late: AtomicBool::new(false),
            unmapped: Mutex::default(),
            transactions: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            user_range,
            trace: Trace::default(),
        }))
    }

    /// Returns CPU `number`.
    pub fn cpu(&self, number: usize) -> Cpu {
        assert!(number < self.0.tlbs.len(), "there is no CPU {number}");
        Cpu { sim: self.clone(), number }
    }

    /// Chooses whether unmapped frames are freed late: only by [`quiesce`](Self::quiesce).
    pub fn set_late_frees(&self, frees_late: bool) {
        self.0.frees_late.store(frees_late, SeqCst);
    }

    /// Frees all that was unmapped.
    pub fn quiesce(&self) {
        let unmapped = mem::take(&mut *self.0.unmapped.lock().unwrap_or_else(PoisonError::into_inner));
        drop(unmapped);
    }

    /// Bounds how many frames may be in use; more are refused.
    pub fn set_frame_limit(&self, limit: usize) {
        self.0.memory.limit.store(limit, SeqCst);
    }

    /// Returns how many frames are in use, the frame of zeros aside.
    pub fn live_frames(&self) -> usize {
        self.0.memory.live.load(SeqCst)
    }

    /// Returns how many page tables there are.
    pub fn live_spaces(&self) -> usize {
        self.0.spaces.load(SeqCst)
    }

    /// Returns how many transactions there have been.
    pub fn transactions(&self) -> u64 {
        self.0.transactions.load(SeqCst)
    }

    /// Returns how many transactions had to flush TLBs.
    pub fn flushes(&self) -> u64 {
        self.0.flushes.load(SeqCst)
    }

    /// Returns how many times a page was made visible to instruction fetch.
    pub fn instruction_syncs(&self) -> usize {
        self.0.memory.instruction_syncs.load(SeqCst)
    }

    /// Returns all that has been in force, one change after the other, while `body` ran: each time an entry of a page table or of a
    /// TLB changed, what the two allowed of the page together.
    pub fn trace<T>(&self, body: impl FnOnce() -> T) -> (T, Vec<InForce>) {
        self.0.trace.start();
        let result = body();
        (result, self.0.trace.stop())
    }

    /// Notes what is in force of a page whose entry in the page table has the flags `entry`.
    fn note_in_force(&self, space: u64, page: usize, entry: PageFlags) {
        self.0.trace.note(|| {
            let flags = self.0.tlbs.iter().fold(entry, |flags, tlb| flags | tlb.flags_of(space, page));
            InForce { page, access: flags & PageFlags::ACCESS }
        });
    }

    /// Checks that nothing is in use any more.
    ///
    /// # Panics
    ///
    /// Panics if a frame or a page table is.
    pub fn assert_no_leaks(&self) {
        self.quiesce();
        assert_eq!(self.live_spaces(), 0, "page tables have leaked");
        assert_eq!(self.live_frames(), 0, "frames have leaked");
    }

    fn tlb(&self, cpu: usize) -> &Tlb {
        &self.0.tlbs[cpu]
    }

    fn count_space(&self, delta: isize) {
        if delta > 0 {
            self.0.spaces.fetch_add(1, SeqCst);
        } else {
            self.0.spaces.fetch_sub(1, SeqCst);
        }
    }

    fn finish_transaction(&self, space: u64, stale: &[usize]) {
        self.0.transactions.fetch_add(1, SeqCst);
        if !stale.is_empty() {
            self.0.flushes.fetch_add(1, SeqCst);
            self.0.tlbs.iter().for_each(|tlb| tlb.flush_pages(space, stale));
        }
    }

    fn flush_space(&self, space: u64) {
        self.0.tlbs.iter().for_each(|tlb| tlb.flush_space(space));
    }

    fn free_late(&self, frames: Vec<SimFrame>) {
        if self.0.frees_late.load(SeqCst) {
            self.0.unmapped.lock().unwrap_or_else(PoisonError::into_inner).extend(frames);
        }
    }
}

impl Machine for Sim {
    const PAGE_SIZE: usize = PAGE_SIZE;

    type Space = SimSpace;
    type Frame = SimFrame;
    type Blank = SimBlank;
    type IoMem = SimIoMem;
    type Lock<T: Send + Sync + 'static> = SimLock<T>;
    type Counter = SimCounter;

    fn new_space(&self) -> Result<SimSpace, OutOfMemory> {
        fallible::gate()?;
        Ok(SimSpace::new(self.0.next_space.fetch_add(1, SeqCst), self.clone()))
    }

    fn new_counter(&self) -> Result<SimCounter, OutOfMemory> {
        fallible::gate()?;
        Ok(SimCounter::new(self.0.tlbs.len()))
    }

    fn alloc(&self) -> Result<SimBlank, OutOfMemory> {
        assert_no_cursor("a frame is allocated");
        fallible::gate()?;
        if self.live_frames() >= self.0.memory.limit.load(SeqCst) {
            self.quiesce();
            if self.live_frames() >= self.0.memory.limit.load(SeqCst) {
                return Err(OutOfMemory);
            }
        }
        Ok(SimBlank::new(&self.0.memory))
    }

    fn zero_frame(&self) -> SimFrame {
        self.0.zero_frame.clone()
    }
}

/// Lets another thread run, where a scheduler that tries all schedules is in charge.
fn yield_now() {
    #[cfg(shuttle)]
    if !rules::has_cursor() {
        shuttle::thread::yield_now();
    }
}

#[cfg(test)]
mod tests;
