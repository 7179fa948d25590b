// SPDX-License-Identifier: MPL-2.0

//! `futex(2)` and its relatives.

use linux_raw_sys::general::*;
use ostd::{cpu::CpuSet, smp::inter_processor_call};

use crate::{
    futex::{self, Attempt, CompareRequeue, Scope, Wait, WakeOp},
    prelude::*,
    time::{Deadline, TimeSpec},
};

/// `futex(2)`. The fourth argument is a time or a number.
pub fn sys_futex(
    ctx: &Ctx,
    addr: Vaddr,
    op: u32,
    value: u32,
    timeout: usize,
    addr2: Vaddr,
    value3: u32,
) -> Result<usize> {
    let scope = if op & FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Shared };
    let real = op & FUTEX_CLOCK_REALTIME != 0;
    let command = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    if real && ![FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2].contains(&command) {
        return Err(ENOSYS);
    }
    let vm = &**ctx.vm;
    let pair = (addr, addr2);
    match command {
        FUTEX_WAIT => {
            let deadline = match timeout {
                0 => Deadline::Never,
                at => Deadline::Monotonic(TimeSpec::read(ctx, at)?.deadline_from_now()),
            };
            wait(ctx, Wait { addr, scope, expected: value, bitset: FUTEX_BITSET_MATCH_ANY, deadline })
        }
        FUTEX_WAIT_BITSET => {
            let deadline = absolute(ctx, timeout, real)?;
            if value3 == 0 {
                return Err(EINVAL);
            }
            wait(ctx, Wait { addr, scope, expected: value, bitset: value3, deadline })
        }
        FUTEX_WAKE => futex::wake(vm, addr, scope, count(value).max(1), FUTEX_BITSET_MATCH_ANY),
        FUTEX_WAKE_BITSET if value3 == 0 => Err(EINVAL),
        FUTEX_WAKE_BITSET => futex::wake(vm, addr, scope, count(value).max(1), value3),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            if (value as i32) < 0 || (timeout as i32) < 0 {
                return Err(EINVAL);
            }
            let expected = match command {
                FUTEX_REQUEUE => CompareRequeue::Anything,
                _ => CompareRequeue::Value(value3),
            };
            futex::requeue(vm, pair, scope, (count(value), count(timeout as u32)), expected)
        }
        FUTEX_WAKE_OP => {
            let max = (count(value).max(1), count(timeout as u32).max(1));
            futex::wake_op(vm, pair, scope, max, WakeOp::decode(value3)?)
        }
        FUTEX_LOCK_PI => lock(ctx, addr, scope, Attempt::Until(absolute(ctx, timeout, true)?)),
        FUTEX_LOCK_PI2 => lock(ctx, addr, scope, Attempt::Until(absolute(ctx, timeout, real)?)),
        FUTEX_TRYLOCK_PI => lock(ctx, addr, scope, Attempt::Once),
        FUTEX_UNLOCK_PI => futex::unlock_pi(vm, ctx.thread, addr, scope).map(|()| 0),
        _ => Err(ENOSYS),
    }
}

/// A number of waiters; a negative one counts as none.
fn count(value: u32) -> usize {
    (value as i32).max(0) as usize
}

/// A point in time that a program gave.
fn absolute(ctx: &Ctx, addr: Vaddr, real: bool) -> Result<Deadline> {
    if addr == 0 {
        return Ok(Deadline::Never);
    }
    let at = TimeSpec::read(ctx, addr)?.to_duration()?;
    Ok(if real { Deadline::Real(at) } else { Deadline::Monotonic(at) })
}

fn lock(ctx: &Ctx, addr: Vaddr, scope: Scope, attempt: Attempt) -> Result<usize> {
    futex::lock_pi(ctx.vm, ctx.thread, addr, scope, attempt).map(|()| 0)
}

/// Waits; after a signal without a handler, waits only for the time that is left.
fn wait(ctx: &Ctx, what: Wait) -> Result<usize> {
    match futex::wait(ctx.vm, &what) {
        Err(ERESTARTSYS) if what.deadline != Deadline::Never => {
            ctx.thread.signals.set_restart(Box::new(move |ctx| wait(ctx, what)));
            Err(ERESTART_RESTARTBLOCK)
        }
        result => result.map(|()| 0),
    }
}

/// `rseq(2)`: not there, as in a kernel built without it. C libraries go on without.
pub fn sys_rseq(_ctx: &Ctx) -> Result<usize> {
    Err(ENOSYS)
}

/// What `membarrier(2)` can do here.
const BARRIERS: u32 = membarrier_cmd::MEMBARRIER_CMD_GLOBAL as u32
    | membarrier_cmd::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32
    | membarrier_cmd::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32
    | membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32
    | membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;

/// `membarrier(2)`.
pub fn sys_membarrier(ctx: &Ctx, command: i32, flags: u32, _cpu: i32) -> Result<usize> {
    const QUERY: u32 = membarrier_cmd::MEMBARRIER_CMD_QUERY as u32;
    const REGISTER: u32 = membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
    const REGISTER_GLOBAL: u32 = membarrier_cmd::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
    const PRIVATE: u32 = membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;

    let registered = &ctx.process.uses_membarrier;
    match command as u32 {
        _ if flags != 0 => Err(EINVAL),
        QUERY => Ok(BARRIERS as usize),
        REGISTER => {
            registered.store(true, Ordering::Relaxed);
            Ok(0)
        }
        REGISTER_GLOBAL => Ok(0),
        PRIVATE if !registered.load(Ordering::Relaxed) => Err(EPERM),
        command if command.is_power_of_two() && command & BARRIERS != 0 => {
            // Taking the interrupt is the barrier.
            inter_processor_call(&CpuSet::new_full(), || core::sync::atomic::fence(Ordering::SeqCst)).wait();
            Ok(0)
        }
        _ => Err(EINVAL),
    }
}
