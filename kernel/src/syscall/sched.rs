// SPDX-License-Identifier: MPL-2.0

//! Scheduling: policies, nice levels and affinity.

use linux_raw_sys::general::{
    PRIO_PGRP, PRIO_PROCESS, PRIO_USER, RLIMIT_NICE, SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_NORMAL,
    SCHED_RR,
};
use ostd::{
    cpu::{CpuId, num_cpus},
    task::Task,
};

use crate::{
    futex,
    prelude::*,
    process::{credentials::CapSet, table},
    sched,
};

/// Set in a policy: children do not inherit it.
const RESET_ON_FORK: u32 = linux_raw_sys::general::SCHED_RESET_ON_FORK;
/// The length of a time slice, as `sched_rr_get_interval(2)` tells it.
const SLICE_NANOS: i64 = 4_000_000;

/// `sched_yield(2)`.
pub fn sys_sched_yield(_ctx: &Ctx) -> Result<usize> {
    Task::yield_now();
    Ok(0)
}

/// `getcpu(2)`. The machine counts as one node.
pub fn sys_getcpu(ctx: &Ctx, cpu: Vaddr, node: Vaddr) -> Result<usize> {
    if cpu != 0 {
        ctx.vm.write_val(cpu, &u32::from(CpuId::current_racy()))?;
    }
    if node != 0 {
        ctx.vm.write_val(node, &0u32)?;
    }
    Ok(0)
}

/// `sched_getaffinity(2)`: answers the size of the mask in bytes.
pub fn sys_sched_getaffinity(ctx: &Ctx, pid: i32, size: u32, addr: Vaddr) -> Result<usize> {
    let thread = find(ctx, pid)?;
    let size = size as usize;
    if !size.is_multiple_of(8) || size * 8 < num_cpus() {
        return Err(EINVAL);
    }
    ctx.vm.write_val(addr, &(thread.sched.affinity() & existing()))?;
    Ok(8)
}

/// `sched_setaffinity(2)`.
pub fn sys_sched_setaffinity(ctx: &Ctx, pid: i32, size: u32, addr: Vaddr) -> Result<usize> {
    let mut mask = [0; 8];
    let len = mask.len().min(size as usize);
    ctx.vm.read_bytes(addr, &mut mask[..len])?;
    let thread = find(ctx, pid)?;
    check_may_schedule(ctx, &thread)?;
    let mask = u64::from_le_bytes(mask) & existing();
    if mask == 0 {
        return Err(EINVAL);
    }
    thread.sched.set_affinity(mask);
    if Arc::ptr_eq(&thread, ctx.thread) {
        sched::migrate_current(&thread);
    }
    Ok(0)
}

/// The mask of the CPUs there are.
fn existing() -> u64 {
    u64::MAX >> (64 - num_cpus().clamp(1, 64))
}

/// `getpriority(2)`: answers 20 less the nice level, as the C library expects it.
pub fn sys_getpriority(ctx: &Ctx, which: u32, who: i32) -> Result<usize> {
    let threads = find_many(ctx, which, who)?;
    threads.iter().map(|thread| (20 - thread.sched.nice()) as usize).max().ok_or(ESRCH)
}

/// `setpriority(2)`.
pub fn sys_setpriority(ctx: &Ctx, which: u32, who: i32, nice: i32) -> Result<usize> {
    let nice = nice.clamp(-20, 19);
    let threads = find_many(ctx, which, who)?;
    if threads.is_empty() {
        return Err(ESRCH);
    }
    let mut result = Ok(0);
    for thread in threads {
        let lowest = 20 - ctx.process.rlimits.soft(RLIMIT_NICE).min(40) as i32;
        let privileged = ctx.credentials().has(CapSet::SYS_NICE);
        if check_may_schedule(ctx, &thread).is_err() {
            result = Err(EPERM);
        } else if nice < thread.sched.nice() && nice < lowest && !privileged {
            result = Err(EACCES);
        } else {
            thread.sched.set_nice(nice);
            futex::urgency_changed(&thread);
        }
    }
    result
}

pub(super) fn find_many(ctx: &Ctx, which: u32, who: i32) -> Result<Vec<Arc<Thread>>> {
    let mut found = Vec::new();
    match which {
        PRIO_PROCESS => found.extend(find(ctx, who)),
        PRIO_PGRP => {
            let group = if who == 0 { ctx.process.group() } else { who as Pid };
            for process in table::group_members(group) {
                process.threads()?.into_iter().try_for_each(|thread| try_push(&mut found, thread))?;
            }
        }
        PRIO_USER => {
            let uid = if who == 0 { ctx.credentials().uid } else { who as u32 };
            for process in table::all() {
                let mut threads = process.threads()?;
                threads.retain(|thread| thread.credentials().uid == uid);
                threads.into_iter().try_for_each(|thread| try_push(&mut found, thread))?;
            }
        }
        _ => return Err(EINVAL),
    }
    Ok(found)
}

/// `sched_getscheduler(2)`.
pub fn sys_sched_getscheduler(ctx: &Ctx, pid: i32) -> Result<usize> {
    if pid < 0 {
        return Err(EINVAL);
    }
    Ok(find(ctx, pid)?.sched.policy.load(Ordering::Relaxed) as usize)
}

/// `sched_setscheduler(2)`.
pub fn sys_sched_setscheduler(ctx: &Ctx, pid: i32, policy: i32, param: Vaddr) -> Result<usize> {
    if pid < 0 || policy < 0 || param == 0 {
        return Err(EINVAL);
    }
    let priority: i32 = ctx.vm.read_val(param)?;
    set_policy(ctx, pid, Some(policy as u32), priority)
}

/// `sched_setparam(2)`.
pub fn sys_sched_setparam(ctx: &Ctx, pid: i32, param: Vaddr) -> Result<usize> {
    if pid < 0 || param == 0 {
        return Err(EINVAL);
    }
    let priority: i32 = ctx.vm.read_val(param)?;
    set_policy(ctx, pid, None, priority)
}

pub(super) fn set_policy(ctx: &Ctx, pid: i32, policy: Option<u32>, priority: i32) -> Result<usize> {
    let thread = find(ctx, pid)?;
    let policy = policy.unwrap_or_else(|| thread.sched.policy.load(Ordering::Relaxed));
    let range = priority_range(policy & !RESET_ON_FORK)?;
    if !range.contains(&priority) {
        return Err(EINVAL);
    }
    check_may_schedule(ctx, &thread)?;
    let is_real_time = *range.end() > 0;
    if is_real_time {
        ctx.credentials().require(CapSet::SYS_NICE)?;
    }
    thread.sched.policy.store(policy, Ordering::Relaxed);
    thread.sched.priority.store(priority as u32, Ordering::Relaxed);
    futex::urgency_changed(&thread);
    Ok(0)
}

/// `sched_getparam(2)`.
pub fn sys_sched_getparam(ctx: &Ctx, pid: i32, param: Vaddr) -> Result<usize> {
    if pid < 0 || param == 0 {
        return Err(EINVAL);
    }
    let priority = find(ctx, pid)?.sched.priority.load(Ordering::Relaxed);
    ctx.vm.write_val(param, &priority)?;
    Ok(0)
}

/// `sched_get_priority_max(2)`.
pub fn sys_sched_get_priority_max(_ctx: &Ctx, policy: u32) -> Result<usize> {
    Ok(*priority_range(policy)?.end() as usize)
}

/// `sched_get_priority_min(2)`.
pub fn sys_sched_get_priority_min(_ctx: &Ctx, policy: u32) -> Result<usize> {
    Ok(*priority_range(policy)?.start() as usize)
}

/// `sched_rr_get_interval(2)`.
pub fn sys_sched_rr_get_interval(ctx: &Ctx, pid: i32, addr: Vaddr) -> Result<usize> {
    if pid < 0 {
        return Err(EINVAL);
    }
    find(ctx, pid)?;
    ctx.vm.write_val(addr, &[0i64, SLICE_NANOS])?;
    Ok(0)
}

fn priority_range(policy: u32) -> Result<core::ops::RangeInclusive<i32>> {
    match policy {
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE => Ok(0..=0),
        SCHED_FIFO | SCHED_RR => Ok(1..=99),
        _ => Err(EINVAL),
    }
}

/// The thread with this number; the caller for 0.
pub(super) fn find(ctx: &Ctx, pid: i32) -> Result<Arc<Thread>> {
    match pid {
        0 => Ok(ctx.thread.clone()),
        _ => table::thread(pid as Tid).ok_or(ESRCH),
    }
}

/// `EPERM` unless the caller is the thread's user or may change anybody's scheduling.
pub(super) fn check_may_schedule(ctx: &Ctx, thread: &Thread) -> Result<()> {
    let (own, other) = (ctx.credentials(), thread.credentials());
    if own.euid == other.euid || own.euid == other.uid { Ok(()) } else { own.require(CapSet::SYS_NICE) }
}
