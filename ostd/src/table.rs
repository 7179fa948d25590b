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
        AtomicBool, AtomicU64,
        Ordering::{AcqRel, Relaxed, SeqCst},
        fence,
    },
};

use ostd::{
    cpu::{CpuId, PinCurrentCpu, num_cpus},
    cpu_local, irq,
    mm::{VmSpace, tlb::TlbFlushOp},
    sync::{LocalIrqDisabled, SpinLock},
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
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            vm_space: Arc::new(VmSpace::new()),
            present: Present::new(),
            has_devices: AtomicBool::new(false),
            active: AtomicU64::new(0),
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

fn bit(cpu: CpuId) -> u64 {
    1_u64.checked_shl(cpu.into()).unwrap_or(0)
}
