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
//!                                       └─ more than LIMIT frames behind markers: the unmapper waits
//! ```

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use ostd::{
    sync::{RcuDrop, SpinLock, Waiter, Waker},
    task::Task,
};

use crate::{spare, table::Table};

/// Frames behind one marker.
const BATCH: usize = 512;

/// Frames that may wait for a grace period before whoever unmaps more must wait too (32 MiB).
const LIMIT: usize = 8192;

/// How often a waiter makes all CPUs switch before it gives up: only where a CPU has no switcher.
const ATTEMPTS: usize = 10_000;

static SINCE_MARKER: AtomicUsize = AtomicUsize::new(0);
static BEHIND_MARKERS: AtomicUsize = AtomicUsize::new(0);
static SWITCHERS: SpinLock<Vec<Arc<Waker>>> = SpinLock::new(Vec::new());

/// Returns how many unmapped frames may not have been given back yet.
pub fn pending_frames() -> usize {
    SINCE_MARKER.load(Relaxed) + BEHIND_MARKERS.load(Relaxed)
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
    place_marker(SINCE_MARKER.swap(0, Relaxed));
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

/// Takes note of frames that an address space has let go.
pub(crate) fn note_unmapped(count: usize) {
    if SINCE_MARKER.fetch_add(count, Relaxed) + count < BATCH {
        return;
    }
    place_marker(SINCE_MARKER.swap(0, Relaxed));
    wake_switchers();
    if BEHIND_MARKERS.load(Relaxed) > LIMIT {
        synchronize();
    }
}

fn place_marker(count: usize) {
    if count != 0 {
        BEHIND_MARKERS.fetch_add(count, Relaxed);
        drop(RcuDrop::new(Marker(count)));
    }
}

fn wake_switchers() {
    for waker in SWITCHERS.disable_irq().lock().iter() {
        waker.wake_up();
    }
}

/// Goes when the frames unmapped before it have gone.
struct Marker(usize);

impl Drop for Marker {
    fn drop(&mut self) {
        BEHIND_MARKERS.fetch_sub(self.0, Relaxed);
    }
}

/// Tells a waiter that the grace period is over.
struct Signal(Arc<AtomicBool>);

impl Drop for Signal {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}
