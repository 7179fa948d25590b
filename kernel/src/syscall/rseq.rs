// SPDX-License-Identifier: MPL-2.0

//! `rseq(2)` and `membarrier(2)`: what makes data of one CPU cheap.

use linux_raw_sys::general::{membarrier_cmd, membarrier_cmd_flag};
use ostd::{cpu::CpuSet, smp::inter_processor_call};

use crate::{mm::Barriers, prelude::*, process::table};

/// `RSEQ_FLAG_UNREGISTER` of `linux/rseq.h`.
const UNREGISTER: u32 = 1;

/// `rseq(2)`.
pub fn sys_rseq(ctx: &Ctx, addr: Vaddr, len: u32, flags: u32, signature: u32) -> Result<usize> {
    let rseq = ctx.local.rseq();
    match flags {
        0 => {
            rseq.register(ctx.vm, addr, len as usize, signature)?;
            ctx.thread.is_disturbed.store(true, Ordering::Relaxed);
        }
        UNREGISTER => rseq.unregister(ctx.vm, addr, len as usize, signature)?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}

const QUERY: u32 = membarrier_cmd::MEMBARRIER_CMD_QUERY as u32;
const GLOBAL: u32 = membarrier_cmd::MEMBARRIER_CMD_GLOBAL as u32;
const GLOBAL_EXPEDITED: u32 = membarrier_cmd::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
const REGISTER_GLOBAL: u32 = membarrier_cmd::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
const PRIVATE: u32 = membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
const REGISTER_PRIVATE: u32 = membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
const SYNC_CORE: u32 = membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32;
const REGISTER_SYNC_CORE: u32 = membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32;
const RSEQ: u32 = membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ as u32;
const REGISTER_RSEQ: u32 = membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ as u32;

/// What `membarrier(2)` can do: all of Linux 6.1.
const ALL: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL
    | PRIVATE
    | REGISTER_PRIVATE
    | SYNC_CORE
    | REGISTER_SYNC_CORE
    | RSEQ
    | REGISTER_RSEQ;

/// The CPU is given, and the barrier is for it alone.
const FLAG_CPU: u32 = membarrier_cmd_flag::MEMBARRIER_CMD_FLAG_CPU as u32;

/// `membarrier(2)`.
pub fn sys_membarrier(ctx: &Ctx, command: u32, flags: u32, cpu: u32) -> Result<usize> {
    if flags != 0 && (command != RSEQ || flags != FLAG_CPU) {
        return Err(EINVAL);
    }
    let registered = ctx.vm.barriers();
    match command {
        QUERY => return Ok(ALL as usize),
        REGISTER_GLOBAL => {}
        REGISTER_PRIVATE => registered.register(Barriers::PRIVATE),
        REGISTER_SYNC_CORE => registered.register(Barriers::SYNC_CORE),
        REGISTER_RSEQ => registered.register(Barriers::RSEQ),
        GLOBAL | GLOBAL_EXPEDITED => interrupt(&CpuSet::new_full(), fence),
        PRIVATE => {
            registered.require(Barriers::PRIVATE)?;
            interrupt(&CpuSet::new_full(), fence);
        }
        SYNC_CORE => {
            registered.require(Barriers::SYNC_CORE)?;
            interrupt(&CpuSet::new_full(), serialize);
        }
        RSEQ => {
            registered.require(Barriers::RSEQ)?;
            restart_sections(ctx, (flags == FLAG_CPU).then_some(cpu));
        }
        _ => return Err(EINVAL),
    }
    Ok(0)
}

/// Has the sections of other threads in this address space start again: those on the CPU `only`, or all. A thread that is
/// not on a CPU starts again anyhow.
fn restart_sections(ctx: &Ctx, only: Option<u32>) {
    let is_meant = |thread: &Arc<Thread>| {
        let is_there = |cpu| thread.sched.last_cpu().is_some_and(|last| u32::from(last) == cpu);
        // Whoever is in a section makes no system calls.
        !Arc::ptr_eq(thread, ctx.thread) && only.is_none_or(is_there)
    };
    let sharing = |process: &Arc<Process>| process.vm().is_some_and(|vm| Arc::ptr_eq(&vm, ctx.vm));
    for process in table::all().filter(sharing) {
        process.with_threads(|threads| {
            for thread in threads.iter().filter(|thread| is_meant(thread)) {
                thread.is_disturbed.store(true, Ordering::SeqCst);
            }
        });
    }
    // Whoever is in user mode comes back to look.
    interrupt(&CpuSet::new_full(), fence);
}

fn interrupt(cpus: &CpuSet, function: fn()) {
    inter_processor_call(cpus, function).wait();
}

fn fence() {
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Has the CPU forget what it has fetched of the instructions ahead, which is what CPUID does beside telling of the CPU.
fn serialize() {
    core::hint::black_box(core::arch::x86_64::__cpuid(0));
}
