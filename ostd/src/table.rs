// SPDX-License-Identifier: MPL-2.0

//! A page table, what is known of it, and the CPUs that run on it.
//!
//! OSTD knows the CPUs too, and keeps it to itself: its flush takes a thousand instructions to find that nobody else runs on
//! the page table. So the CPUs are noted here as well:
//!
//! ```text
//!   this CPU changes entries ─► fence ─► looks who is active: nobody else? flushes itself ── somebody? has OSTD flush
//!   another becomes active   ─► notes itself ─► loads the page table, and sees the entries as they are
//! ```

use alloc::sync::Arc;
use core::{
    ops::Range,
    sync::atomic::{
        AtomicBool, AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Relaxed, SeqCst},
        fence,
    },
};

use ostd::{
    cpu::{CpuId, CpuSet, PinCurrentCpu, all_cpus, num_cpus},
    cpu_local, irq,
    mm::{VmSpace, tlb::TlbFlushOp},
    smp::inter_processor_call,
    sync::{LocalIrqDisabled, SpinLock},
    task::disable_preempt,
};

use crate::present::Present;

cpu_local! {
    /// What the CPU runs on.
    static ACTIVE: SpinLock<Option<Arc<Table>>, LocalIrqDisabled> = SpinLock::new(None);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) vm_space: Arc<VmSpace>,
    pub(crate) present: Present,
    /// Whether device memory was ever mapped, which OSTD keeps hold of as long as the page table lives.
    pub(crate) has_devices: AtomicBool,
    /// A bit for each CPU that runs on it; meaningless on a machine with more CPUs than bits.
    active: AtomicU64,
    /// The page table that CPUs which run on this one are to go over to.
    successor: SpinLock<Option<Arc<Table>>, LocalIrqDisabled>,
    /// How many spaces have it: those that run on it, or did and may again.
    pub(crate) owners: AtomicUsize,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            vm_space: Arc::new(VmSpace::new()),
            present: Present::new(),
            has_devices: AtomicBool::new(false),
            active: AtomicU64::new(0),
            successor: SpinLock::new(None),
            owners: AtomicUsize::new(0),
        }
    }

    /// Has the current CPU run on it.
    pub(crate) fn activate(self: &Arc<Self>) {
        let guard = irq::disable_local();
        let cpu = guard.current_cpu();
        let mut slot = ACTIVE.get_on_cpu(cpu).lock();
        if slot.as_ref().is_some_and(|active| Arc::ptr_eq(active, self)) {
            return;
        }
        self.active.fetch_or(bit(cpu), AcqRel);
        self.vm_space.activate();
        let old = slot.replace(self.clone());
        drop(slot);
        if let Some(old) = &old {
            old.active.fetch_and(!bit(cpu), AcqRel);
        }
        drop(guard);
        drop(old);
    }

    /// Has every CPU that runs on it run on `next` instead, and waits for them. Whoever activates it later is not seen.
    pub(crate) fn hand_over(&self, next: &Arc<Table>) {
        // Whoever becomes active from now on is told of `next`, and whoever is not seen here was not active before.
        fence(SeqCst);
        let guard = disable_preempt();
        let active = self.active.load(Relaxed);
        let is_exact = num_cpus() <= u64::BITS as usize;
        if is_exact && active & !bit(guard.current_cpu()) == 0 {
            if active != 0 {
                next.activate();
            }
            return;
        }
        drop(guard);
        let mut cpus = CpuSet::new_empty();
        for cpu in all_cpus().filter(|cpu| !is_exact || active & bit(*cpu) != 0) {
            cpus.add(cpu);
        }
        *self.successor.lock() = Some(next.clone());
        inter_processor_call(&cpus, follow_successor).wait();
        let successor = self.successor.lock().take();
        drop(successor);
    }

    /// Returns whether another CPU than the current one may hold translations. Entries that were changed before the call are seen
    /// by whoever becomes active after it.
    pub(crate) fn is_active_elsewhere(&self) -> bool {
        fence(SeqCst);
        num_cpus() > u64::BITS as usize || self.active.load(Relaxed) & !bit(CpuId::current_racy()) != 0
    }

    /// Flushes the translations of `range` (bytes, page-aligned) that the current CPU holds.
    pub(crate) fn flush_here(&self, range: Range<usize>) {
        if self.active.load(Relaxed) & bit(CpuId::current_racy()) != 0 {
            TlbFlushOp::for_range(range).perform_on_current();
        }
    }
}

/// Returns whether the current CPU runs on one of `tables`. It is asked once: an interrupt may exchange one for another at any time.
pub(crate) fn runs_on_one_of<'a>(mut tables: impl Iterator<Item = &'a Arc<Table>>) -> bool {
    let guard = irq::disable_local();
    let active = ACTIVE.get_on_cpu(guard.current_cpu()).lock();
    active.as_ref().is_some_and(|active| tables.any(|table| Arc::ptr_eq(table, active)))
}

/// Activates the successor of what the current CPU runs on, if it has one. Runs in an interrupt.
fn follow_successor() {
    let guard = irq::disable_local();
    let active = ACTIVE.get_on_cpu(guard.current_cpu()).lock().clone();
    if let Some(next) = active.and_then(|active| active.successor.lock().clone()) {
        next.activate();
    }
}

fn bit(cpu: CpuId) -> u64 {
    1_u64.checked_shl(cpu.into()).unwrap_or(0)
}
