// SPDX-License-Identifier: MPL-2.0

//! Late frees, bounded.
//!
//! OSTD gives an unmapped frame back after a grace period: after every CPU has switched contexts. A CPU that idles, or
//! runs one program all the time, never does. So each CPU has a *switcher*: a task that does nothing but sleep; waking
//! it makes its CPU switch to it and back.
//!
//! ```text
//!   unmap ──► since marker ──(BATCH)──► marker behind the frames, switchers woken ──► grace period over: marker drops
//!                                       │
//!                                       └─ more than LIMIT behind markers: the unmapper waits
//! ```
//!
//! Both bounds are of frames and of transactions: OSTD keeps what waits in a list, with an entry for each time that pages were
//! unmapped on each CPU, and a long list needs a run of memory.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use ostd::{
    cpu::num_cpus,
    sync::{RcuDrop, SpinLock, Waiter, Waker},
    task::Task,
};

use crate::{spare, table::Table};

/// What is put behind one marker.
const BATCH: Pending = Pending::new(512, 128);

/// What may wait for a grace period before whoever unmaps more must wait too (32 MiB).
const LIMIT: Pending = Pending::new(8192, 512);

/// How often a waiter makes all CPUs switch before it gives up: only where a CPU has no switcher.
const ATTEMPTS: usize = 10_000;

static SINCE_MARKER: AtomicPending = AtomicPending::new();
static BEHIND_MARKERS: AtomicPending = AtomicPending::new();
static SWITCHERS: SpinLock<Vec<Arc<Waker>>> = SpinLock::new(Vec::new());

/// Returns how many unmapped frames may not have been given back yet.
pub fn pending_frames() -> usize {
    SINCE_MARKER.get().frames() + BEHIND_MARKERS.get().frames()
}

/// Frames, and the transactions that unmapped them: one word, in which both are counted at once.
#[derive(Clone, Copy)]
struct Pending(usize);

impl Pending {
    const NONE: Self = Self(0);
    const TRANSACTION: usize = 1 << 32;

    const fn new(frames: usize, transactions: usize) -> Self {
        Self(frames + transactions * Self::TRANSACTION)
    }

    const fn frames(self) -> usize {
        self.0 % Self::TRANSACTION
    }

    const fn transactions(self) -> usize {
        self.0 / Self::TRANSACTION
    }

    /// Whether either is as many as in `other`.
    const fn reaches(self, other: Self) -> bool {
        self.frames() >= other.frames() || self.transactions() >= other.transactions()
    }
}

/// A count that all CPUs change.
struct AtomicPending(AtomicUsize);

impl AtomicPending {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn get(&self) -> Pending {
        Pending(self.0.load(Relaxed))
    }

    /// Adds to it, and returns what it is then.
    fn add(&self, more: Pending) -> Pending {
        Pending(self.0.fetch_add(more.0, Relaxed) + more.0)
    }

    fn subtract(&self, less: Pending) {
        self.0.fetch_sub(less.0, Relaxed);
    }

    fn take(&self) -> Pending {
        Pending(self.0.swap(Pending::NONE.0, Relaxed))
    }
}

/// Sleeps for ever, except that it wakes up whenever its CPU is to switch contexts.
///
/// A kernel runs this in one task on each CPU, bound to it, once, and has each task that runs a program
/// [activate](crate::OstdSpace::activate) its space whenever it is switched to.
pub fn run_switcher() -> ! {
    let (waiter, waker) = Waiter::new_pair();
    SWITCHERS.disable_irq().lock().push(waker);
    // A CPU holds the page table that it ran on last. Here it lets go of it, whose program may have ended.
    let nobodys = Arc::new(Table::new());
    loop {
        waiter.wait();
        nobodys.activate();
    }
}

/// Waits until everything that was unmapped before is given back, and the page tables kept for use again with it.
///
/// Returns whether it is: not so where a CPU has no switcher and does not switch by itself. Does nothing in the bootstrap
/// context, before there are tasks.
///
/// # Panics
///
/// Panics if called where sleeping is not allowed.
pub fn synchronize() -> bool {
    if Task::current().is_none() {
        return false;
    }
    spare::drop_all();
    place_marker();
    let is_over = Arc::new(AtomicBool::new(false));
    drop(RcuDrop::new(Signal(is_over.clone())));
    for _ in 0..ATTEMPTS {
        if is_over.load(Acquire) {
            return true;
        }
        wake_switchers();
        Task::yield_now();
    }
    is_over.load(Acquire)
}

/// Has the CPU switch soon if it is the only one, so that what was unmapped is given back.
///
/// It pays when a program has ended: whoever shared its memory may write his own again without copying it first, because nobody
/// else holds it. Where there are more CPUs, all would have to switch, which takes more than the copies do.
pub fn hasten() {
    if num_cpus() == 1 && SINCE_MARKER.get().transactions() != 0 {
        wake_switchers();
    }
}

/// Takes note of frames that an address space has let go in one transaction.
///
/// A caller that may not wait, being in another transaction, leaves it to the next one to see to them.
pub(crate) fn note_unmapped(count: usize, may_wait: bool) {
    if SINCE_MARKER.add(Pending::new(count, 1)).reaches(BATCH) && may_wait {
        finish_batch();
    }
}

/// Returns whether a batch waits for somebody to finish it.
#[cfg(ktest)]
pub(crate) fn is_batch_due() -> bool {
    SINCE_MARKER.get().reaches(BATCH)
}

#[cold]
#[inline(never)]
fn finish_batch() {
    place_marker();
    wake_switchers();
    if BEHIND_MARKERS.get().reaches(LIMIT) {
        synchronize();
    }
}

fn place_marker() {
    let batch = SINCE_MARKER.take();
    if batch.transactions() != 0 {
        BEHIND_MARKERS.add(batch);
        drop(RcuDrop::new(Marker(batch)));
    }
}

fn wake_switchers() {
    for waker in SWITCHERS.disable_irq().lock().iter() {
        waker.wake_up();
    }
}

/// Goes when the frames unmapped before it have gone.
struct Marker(Pending);

impl Drop for Marker {
    fn drop(&mut self) {
        BEHIND_MARKERS.subtract(self.0);
    }
}

/// Tells a waiter that the grace period is over.
struct Signal(Arc<AtomicBool>);

impl Drop for Signal {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}
