// SPDX-License-Identifier: MPL-2.0

//! Scheduling: attributes in one structure, and I/O priorities.

use linux_raw_sys::general::{SCHED_BATCH, SCHED_IDLE, SCHED_NORMAL};

use super::sched::{check_may_schedule, find, find_many, set_policy};
use crate::{prelude::*, process::credentials::CapSet};

/// The size of the first version of `struct sched_attr`.
const SCHED_ATTR_SIZE_VER0: u32 = 48;
/// The flag that children do not inherit the policy.
const FLAG_RESET_ON_FORK: u64 = 1;

/// `struct sched_attr`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// `sched_getattr(2)`.
pub fn sys_sched_getattr(ctx: &Ctx, pid: i32, addr: Vaddr, size: u32, flags: u32) -> Result<usize> {
    if pid < 0 || flags != 0 || addr == 0 || !(SCHED_ATTR_SIZE_VER0..=PAGE_SIZE as u32).contains(&size) {
        return Err(EINVAL);
    }
    let thread = find(ctx, pid)?;
    let policy = thread.sched.policy.load(Ordering::Relaxed);
    let reset_on_fork = linux_raw_sys::general::SCHED_RESET_ON_FORK;
    let size = size.min(size_of::<SchedAttr>() as u32);
    let attr = SchedAttr {
        size,
        policy: policy & !reset_on_fork,
        flags: if policy & reset_on_fork != 0 { FLAG_RESET_ON_FORK } else { 0 },
        nice: thread.sched.nice(),
        priority: thread.sched.priority.load(Ordering::Relaxed),
        util_max: 1024,
        ..SchedAttr::default()
    };
    ctx.vm.write_bytes(addr, &zerocopy::IntoBytes::as_bytes(&attr)[..size as usize])?;
    Ok(0)
}

/// `sched_setattr(2)`.
pub fn sys_sched_setattr(ctx: &Ctx, pid: i32, addr: Vaddr, flags: u32) -> Result<usize> {
    if pid < 0 || flags != 0 || addr == 0 {
        return Err(EINVAL);
    }
    let size = match ctx.vm.read_val::<u32>(addr)? {
        0 => SCHED_ATTR_SIZE_VER0,
        size if size < SCHED_ATTR_SIZE_VER0 => return Err(E2BIG),
        size => size,
    };
    let attr: SchedAttr = super::read_extensible(ctx, addr, size as usize)?;
    if attr.flags & !FLAG_RESET_ON_FORK != 0 || !(-20..=19).contains(&attr.nice) {
        return Err(EINVAL);
    }
    let reset = if attr.flags != 0 { linux_raw_sys::general::SCHED_RESET_ON_FORK } else { 0 };
    let thread = find(ctx, pid)?;
    check_may_schedule(ctx, &thread)?;
    if attr.nice < thread.sched.nice() && !ctx.credentials().has(CapSet::SYS_NICE) {
        return Err(EPERM);
    }
    set_policy(ctx, pid, Some(attr.policy | reset), attr.priority as i32)?;
    if matches!(attr.policy, SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE) {
        thread.sched.set_nice(attr.nice);
    }
    Ok(0)
}

/// Where the class of an I/O priority begins.
const IO_CLASS_SHIFT: u32 = 13;
const IO_CLASS_REAL_TIME: u32 = 1;
const IO_CLASS_IDLE: u32 = 3;
/// The levels of a class.
const IO_LEVELS: u32 = 8;

/// `ioprio_get(2)`: of several threads, the highest.
pub fn sys_ioprio_get(ctx: &Ctx, which: u32, who: i32) -> Result<usize> {
    let threads = io_threads(ctx, which, who)?;
    let priorities = threads.iter().map(|thread| thread.io_priority.load(Ordering::Relaxed));
    // The lower the number, the higher the priority.
    priorities.min().map(|priority| priority as usize).ok_or(ESRCH)
}

/// `ioprio_set(2)`.
pub fn sys_ioprio_set(ctx: &Ctx, which: u32, who: i32, priority: u32) -> Result<usize> {
    let (class, level) = (priority >> IO_CLASS_SHIFT, priority & ((1 << IO_CLASS_SHIFT) - 1));
    match class {
        IO_CLASS_REAL_TIME => ctx.credentials().require(CapSet::SYS_ADMIN)?,
        0 if level != 0 => return Err(EINVAL),
        0..=IO_CLASS_IDLE => {}
        _ => return Err(EINVAL),
    }
    if level >= IO_LEVELS {
        return Err(EINVAL);
    }
    let threads = io_threads(ctx, which, who)?;
    if threads.is_empty() {
        return Err(ESRCH);
    }
    for thread in threads {
        check_may_schedule(ctx, &thread)?;
        thread.io_priority.store(priority, Ordering::Relaxed);
    }
    Ok(0)
}

/// The threads meant by `IOPRIO_WHO_*`, which count from 1 where `PRIO_*` count from 0.
fn io_threads(ctx: &Ctx, which: u32, who: i32) -> Result<Vec<Arc<Thread>>> {
    find_many(ctx, which.checked_sub(1).ok_or(EINVAL)?, who)
}
