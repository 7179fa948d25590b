// SPDX-License-Identifier: MPL-2.0

//! `futex(2)` and its relatives.

use linux_raw_sys::general::*;

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
        FUTEX_CMP_REQUEUE_PI => {
            if (value as i32) < 0 || (timeout as i32) < 0 || addr == addr2 || value != 1 {
                return Err(EINVAL);
            }
            futex::requeue_to_pi(vm, pair, scope, count(timeout as u32), value3)
        }
        FUTEX_WAIT_REQUEUE_PI => {
            let deadline = absolute(ctx, timeout, real)?;
            let wait = Wait { addr, scope, expected: value, bitset: FUTEX_BITSET_MATCH_ANY, deadline };
            futex::wait_requeue_pi(vm, ctx.thread, &wait, addr2).map(|()| 0)
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

/// `struct futex_waitv`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct WaitV {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

/// `futex_waitv(2)`.
pub fn sys_futex_waitv(
    ctx: &Ctx,
    addr: Vaddr,
    count: u32,
    flags: u32,
    timeout: Vaddr,
    clock: u32,
) -> Result<usize> {
    if flags != 0 || count == 0 || count > FUTEX_WAITV_MAX || addr == 0 {
        return Err(EINVAL);
    }
    let deadline = match clock {
        _ if timeout == 0 => Deadline::Never,
        CLOCK_REALTIME | CLOCK_MONOTONIC => absolute(ctx, timeout, clock == CLOCK_REALTIME)?,
        _ => return Err(EINVAL),
    };
    let mut words = Vec::new();
    try_reserve(&mut words, count as usize)?;
    for place in 0..count as usize {
        let at = addr.checked_add(place * size_of::<WaitV>()).ok_or(EFAULT)?;
        let word: WaitV = ctx.vm.read_val(at)?;
        // There are futexes of 32 bits only.
        if word.flags & !FUTEX_PRIVATE_FLAG != FUTEX_32 || word.reserved != 0 {
            return Err(EINVAL);
        }
        let scope = if word.flags & FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Shared };
        words.push((word.addr as Vaddr, scope, word.value as u32));
    }
    futex::wait_any(ctx.vm, &words, deadline)
}
