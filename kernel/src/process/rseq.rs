// SPDX-License-Identifier: MPL-2.0

//! Restartable sequences: `rseq(2)`, as in Linux 6.1.
//!
//! A thread registers an area in which the kernel keeps the number of the CPU that it runs on, and in which the thread notes
//! the section of code that must not be disturbed. Whoever was disturbed in it goes on at its abort handler.
//!
//! ```text
//! area                      section                   what disturbs: a switch to another task, a signal's handler,
//! │ cpu_id_start │ cpu_id │  │ version │ flags    │   MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ
//! │ section ──────────────┼► │ start            │
//! │ flags        │        │  │ length           │   the word before the abort handler is the signature that was
//!                            │ abort handler ───┼►  registered, so that no other place can be jumped to
//! ```
//!
//! What disturbs only marks the thread ([`Thread::is_disturbed`]). The thread settles that on its way back to user mode,
//! where user memory can be reached, in [`settle`]. One way back leads past that place: OSTD may switch tasks between the last look and user mode.
//! With interrupts off by then, [`Rseq::settle_late`] can do the usual case, in which there is no section and the area is
//! in memory. For the others the thread goes to user mode in the empty address space of the kernel: its first instruction
//! cannot be fetched, so it is back at once, and has done nothing. The same way leads past signals that came while another task ran,
//! so these mark the thread as well: whoever was killed or stopped while it waited for the CPU does nothing more.

use core::cell::Cell;

use ostd::{arch::cpu::context::UserContext, cpu::CpuId, irq::DisabledLocalIrqGuard, user::UserContextApi};

use crate::{
    mm::{AddressSpace, layout::TASK_SIZE},
    prelude::*,
    signal,
    usermem::check_range,
};

/// The size and the alignment of `struct rseq`.
pub const AREA_LEN: usize = 32;

/// `cpu_id` of an area that is not registered.
const UNINITIALIZED: u32 = u32::MAX;

/// Where the members of `struct rseq` are.
const CPUS: usize = 0;
const SECTION: usize = 8;
const FLAGS: usize = 16;

/// `struct rseq_cs`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
struct Section {
    version: u32,
    flags: u32,
    start: usize,
    len: usize,
    abort: usize,
}

/// What a thread has registered.
#[derive(Clone, Debug, Default)]
pub struct Rseq {
    /// 0 for none.
    area: Cell<Vaddr>,
    signature: Cell<u32>,
    /// Whether the thread has gone to user mode in the kernel's address space.
    is_astray: Cell<bool>,
}

impl Rseq {
    /// Whether there is an area.
    pub fn is_registered(&self) -> bool {
        self.area.get() != 0
    }

    /// Forgets the area, as a new program does.
    pub fn forget(&self) {
        self.area.set(0);
        self.signature.set(0);
    }

    /// Becomes what another thread starts with.
    pub fn become_that_of(&self, other: &Self) {
        self.area.set(other.area.get());
        self.signature.set(other.signature.get());
        self.is_astray.set(other.is_astray.get());
    }

    /// Settles the area of the calling thread just before user mode, with interrupts off; if that cannot be done, or it has signals to
    /// take, answers that the thread must not get to its next instruction. `vm` is its address space, which the CPU has.
    pub fn settle_late(&self, thread: &Thread, vm: &AddressSpace, _guard: &DisabledLocalIrqGuard) -> Outcome {
        if !signal::has_pending(thread) && self.update_if_idle(vm).is_ok() {
            thread.is_disturbed.store(false, Ordering::Relaxed);
            return Outcome::Settled;
        }
        self.is_astray.set(true);
        Outcome::Astray
    }

    /// Whether the thread has gone astray since the last question.
    pub fn was_astray(&self) -> bool {
        self.is_astray.replace(false)
    }

    fn update_if_idle(&self, vm: &AddressSpace) -> Result<()> {
        if !self.is_registered() {
            return Ok(());
        }
        if vm.read_val::<usize>(self.area.get() + SECTION)? != 0 {
            return Err(EAGAIN);
        }
        self.update_cpus(vm)
    }

    fn update_cpus(&self, vm: &AddressSpace) -> Result<()> {
        let cpu = u32::from(CpuId::current_racy());
        vm.write_val(self.area.get() + CPUS, &[cpu, cpu])
    }

    /// Notes the area at `addr`. The caller marks the thread as disturbed then, so that the area is filled.
    ///
    /// # Errors
    ///
    /// `EINVAL` unless it is aligned and `len` is that of an area, or if another is registered; with this one registered,
    /// `EBUSY`, and `EPERM` for another signature; `EFAULT` if it cannot be read.
    pub fn register(&self, vm: &AddressSpace, addr: Vaddr, len: usize, signature: u32) -> Result<()> {
        if self.is_registered() {
            self.check(addr, len, signature)?;
            return Err(EBUSY);
        }
        if !addr.is_multiple_of(AREA_LEN) || len != AREA_LEN {
            return Err(EINVAL);
        }
        check_range(addr, len)?;
        // A C library may use the area of a thread that has ended again, as it was left.
        if vm.read_val::<usize>(addr + SECTION)? != 0 {
            vm.write_val(addr + SECTION, &0usize)?;
        }
        // It is entered with interrupts off, where none can be made.
        AddressSpace::kernel()?;
        self.area.set(addr);
        self.signature.set(signature);
        Ok(())
    }

    /// Forgets the area at `addr`, and says so in it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not registered; `EPERM` if it is with another signature; `EFAULT`.
    pub fn unregister(&self, vm: &AddressSpace, addr: Vaddr, len: usize, signature: u32) -> Result<()> {
        if !self.is_registered() {
            return Err(EINVAL);
        }
        self.check(addr, len, signature)?;
        vm.write_val(addr + CPUS, &[0, UNINITIALIZED])?;
        self.forget();
        Ok(())
    }

    fn check(&self, addr: Vaddr, len: usize, signature: u32) -> Result<()> {
        if addr != self.area.get() || len != AREA_LEN {
            return Err(EINVAL);
        }
        if signature == self.signature.get() { Ok(()) } else { Err(EPERM) }
    }
}

/// How [`Rseq::settle_late`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The area is as it must be.
    Settled,
    /// The CPU must be given the kernel's address space.
    Astray,
}

/// Ends the section that the calling thread was disturbed in, and tells it which CPU it is on.
///
/// # Errors
///
/// `EFAULT` or `EINVAL` if the area or the section is bad, for which Linux sends `SIGSEGV`. The mark has gone all the same.
pub fn settle(ctx: &Ctx, registers: &mut UserContext) -> Result<()> {
    let rseq = ctx.local.rseq();
    // First: a switch from here on counts again.
    ctx.thread.is_disturbed.store(false, Ordering::Relaxed);
    let area = rseq.area.get();
    if !rseq.is_registered() {
        return Ok(());
    }
    let section = ctx.vm.read_val::<usize>(area + SECTION)?;
    if section != 0 {
        let abort = find_abort(ctx, section, registers.instruction_pointer())?;
        ctx.vm.write_val(area + SECTION, &0usize)?;
        if let Some(abort) = abort {
            registers.set_instruction_pointer(abort);
        }
    }
    rseq.update_cpus(ctx.vm)
}

/// Where a thread at `at` that has noted the section at `addr` must go on; nowhere else, if it is not in the section.
fn find_abort(ctx: &Ctx, addr: Vaddr, at: Vaddr) -> Result<Option<Vaddr>> {
    let is_user = |addr: Option<Vaddr>| addr.is_some_and(|addr| addr < TASK_SIZE);
    if !is_user(Some(addr)) {
        return Err(EINVAL);
    }
    let section: Section = ctx.vm.read_val(addr)?;
    let contains = |addr: Vaddr| addr.wrapping_sub(section.start) < section.len;
    if section.version != 0
        || !is_user(Some(section.start))
        || !is_user(section.start.checked_add(section.len))
        || !is_user(Some(section.abort))
        || contains(section.abort)
    {
        return Err(EINVAL);
    }
    let before = section.abort.checked_sub(size_of::<u32>()).ok_or(EFAULT)?;
    if ctx.vm.read_val::<u32>(before)? != ctx.local.rseq().signature.get() {
        return Err(EINVAL);
    }
    if !contains(at) {
        return Ok(None);
    }
    // All flags have been taken out of use.
    let flags = section.flags | ctx.vm.read_val::<u32>(ctx.local.rseq().area.get() + FLAGS)?;
    if flags == 0 { Ok(Some(section.abort)) } else { Err(EINVAL) }
}
