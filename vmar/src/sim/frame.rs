// SPDX-License-Identifier: MPL-2.0

//! Pages of the simulated memory: counted, and checked when they are freed.

use std::{
    boxed::Box,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    vec,
};

use super::PAGE_SIZE;
use crate::machine::{Blank, Frame, IoMem};

/// How much memory is in use, and how much there may be.
#[derive(Debug)]
pub(super) struct Memory {
    /// Frames in use, the frame of zeros aside.
    pub(super) live: AtomicUsize,
    /// How many may be in use.
    pub(super) limit: AtomicUsize,
    next_id: AtomicU64,
    pub(super) instruction_syncs: AtomicUsize,
}

impl Memory {
    pub(super) const fn new() -> Self {
        Self {
            live: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            next_id: AtomicU64::new(1),
            instruction_syncs: AtomicUsize::new(0),
        }
    }
}

/// A handle to one page of simulated memory.
#[derive(Clone, Debug)]
pub struct SimFrame(Arc<FrameCell>);

/// One page of simulated memory.
#[derive(Debug)]
pub(super) struct FrameCell {
    id: u64,
    data: Mutex<Box<[u8]>>,
    memory: Arc<Memory>,
    is_zero_frame: bool,
    /// How many entries of TLBs lead here.
    tlb_entries: AtomicUsize,
    /// Whether a transaction that took the page out of a page table has not been flushed yet.
    is_unflushed: AtomicBool,
    /// Whether instruction fetch sees what the framework has written. What the program writes is its own affair.
    is_synced: AtomicBool,
}

impl SimFrame {
    pub(super) fn new_zero_frame(memory: &Arc<Memory>) -> Self {
        Self::create(memory, zeros(), true)
    }

    fn create(memory: &Arc<Memory>, data: Box<[u8]>, is_zero_frame: bool) -> Self {
        Self(Arc::new(FrameCell {
            id: memory.next_id.fetch_add(1, SeqCst),
            data: Mutex::new(data),
            memory: memory.clone(),
            is_zero_frame,
            tlb_entries: AtomicUsize::new(0),
            is_unflushed: AtomicBool::new(false),
            is_synced: AtomicBool::new(is_zero_frame),
        }))
    }

    pub(super) fn copy_data(&self) -> Box<[u8]> {
        self.0.data().clone()
    }

    /// Returns whether it is the frame of zeros.
    pub fn is_zero_frame(&self) -> bool {
        self.0.is_zero_frame
    }

    pub(super) fn cell(&self) -> &Arc<FrameCell> {
        &self.0
    }

    /// Returns whether instruction fetch sees what the framework has written.
    pub fn is_synced(&self) -> bool {
        self.0.is_synced.load(SeqCst)
    }

    /// Reads the whole page, for tests.
    pub fn bytes(&self) -> Box<[u8]> {
        self.copy_data()
    }
}

impl FrameCell {
    fn data(&self) -> MutexGuard<'_, Box<[u8]>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, offset: usize, buf: &mut [u8]) {
        buf.copy_from_slice(&self.data()[offset..offset + buf.len()]);
    }

    pub(super) fn write(&self, offset: usize, buf: &[u8]) {
        assert!(!self.is_zero_frame, "rule broken: the frame of zeros is written");
        self.data()[offset..offset + buf.len()].copy_from_slice(buf);
    }

    pub(super) fn enter_tlb(&self) {
        self.tlb_entries.fetch_add(1, SeqCst);
    }

    pub(super) fn leave_tlb(&self) {
        self.tlb_entries.fetch_sub(1, SeqCst);
    }

    pub(super) fn set_unflushed(&self, is_unflushed: bool) {
        self.is_unflushed.store(is_unflushed, SeqCst);
    }
}

impl Frame for SimFrame {
    fn read(&self, offset: usize, buf: &mut [u8]) {
        self.0.read(offset, buf);
    }

    fn write(&self, offset: usize, buf: &[u8]) {
        self.0.write(offset, buf);
        self.0.is_synced.store(false, SeqCst);
    }

    fn zero(&self, range: Range<usize>) {
        assert!(!self.0.is_zero_frame, "rule broken: the frame of zeros is written");
        self.0.data()[range].fill(0);
        self.0.is_synced.store(false, SeqCst);
    }

    fn sync_instructions(&self) {
        if !self.0.is_synced.swap(true, SeqCst) {
            self.0.memory.instruction_syncs.fetch_add(1, SeqCst);
        }
    }

    fn id(&self) -> u64 {
        self.0.id
    }

    fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl Drop for FrameCell {
    fn drop(&mut self) {
        if !self.is_zero_frame {
            self.memory.live.fetch_sub(1, SeqCst);
        }
        if std::thread::panicking() {
            return;
        }
        assert!(
            self.tlb_entries.load(SeqCst) == 0,
            "rule broken: frame {} is freed while a TLB can still reach it",
            self.id
        );
        assert!(
            !self.is_unflushed.load(SeqCst),
            "rule broken: frame {} is freed inside the transaction that took it out of a page table",
            self.id
        );
    }
}

/// What a page holds that nobody has filled.
const GARBAGE: u8 = 0xa5;

/// A page of simulated memory that has not been filled.
#[derive(Debug)]
pub struct SimBlank(SimFrame);

impl SimBlank {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        memory.live.fetch_add(1, SeqCst);
        Self(SimFrame::create(memory, vec![GARBAGE; PAGE_SIZE].into(), false))
    }
}

impl Blank for SimBlank {
    type Frame = SimFrame;

    fn zeroed(self) -> SimFrame {
        self.0.0.data().fill(0);
        self.0
    }

    fn copy_of(self, source: &SimFrame) -> SimFrame {
        self.0.0.data().copy_from_slice(&source.copy_data());
        self.0
    }
}

/// Simulated device memory.
#[derive(Clone, Debug)]
pub struct SimIoMem(Arc<Mutex<Box<[u8]>>>);

impl SimIoMem {
    /// Creates device memory of `pages` pages.
    pub fn new(pages: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; pages * PAGE_SIZE].into())))
    }

    fn data(&self) -> MutexGuard<'_, Box<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads device memory from `offset` on.
    pub fn read(&self, offset: usize, buf: &mut [u8]) {
        buf.copy_from_slice(&self.data()[offset..offset + buf.len()]);
    }

    /// Writes device memory from `offset` on.
    pub fn write(&self, offset: usize, buf: &[u8]) {
        self.data()[offset..offset + buf.len()].copy_from_slice(buf);
    }
}

impl IoMem for SimIoMem {
    fn size(&self) -> usize {
        self.data().len()
    }
}

pub(super) fn zeros() -> Box<[u8]> {
    vec![0; PAGE_SIZE].into()
}
