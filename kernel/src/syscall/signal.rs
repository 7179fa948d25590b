// SPDX-License-Identifier: MPL-2.0

//! Dispositions, masks, stacks and waits: the calls of `signal(7)` that concern the caller itself.

use linux_raw_sys::general::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK};
use ostd::{arch::cpu::context::UserContext, user::UserContextApi};

use crate::{
    prelude::*,
    signal::{self, AltStack, SIGNAL_COUNT, SigAction, SigSet},
    time::TimeSpec,
};

/// `EINVAL` unless a program's idea of `sigset_t` is the kernel's.
fn check_size(size: usize) -> Result<()> {
    if size == size_of::<SigSet>() { Ok(()) } else { Err(EINVAL) }
}

/// `rt_sigaction(2)`.
pub fn sys_rt_sigaction(ctx: &Ctx, signal: i32, new: Vaddr, old: Vaddr, size: usize) -> Result<usize> {
    check_size(size)?;
    let new: Option<SigAction> = if new != 0 { Some(ctx.vm.read_val(new)?) } else { None };
    if signal < 1 || signal as usize > SIGNAL_COUNT {
        return Err(EINVAL);
    }
    let signal = signal as u8;
    let before = match new {
        Some(_) if SigSet::UNMASKABLE.contains(signal) => return Err(EINVAL),
        Some(new) => signal::set_action(ctx.process, signal, new),
        None => ctx.process.signals.action(signal),
    };
    if old != 0 {
        ctx.vm.write_val(old, &before)?;
    }
    Ok(0)
}

/// `rt_sigprocmask(2)`.
pub fn sys_rt_sigprocmask(ctx: &Ctx, how: u32, new: Vaddr, old: Vaddr, size: usize) -> Result<usize> {
    check_size(size)?;
    let before = ctx.thread.signals.blocked();
    if new != 0 {
        let set: SigSet = ctx.vm.read_val(new)?;
        let blocked = match how {
            SIG_BLOCK => before.union(set),
            SIG_UNBLOCK => before.without(set),
            SIG_SETMASK => set,
            _ => return Err(EINVAL),
        };
        signal::set_blocked(ctx.thread, blocked);
    }
    if old != 0 {
        ctx.vm.write_val(old, &before)?;
    }
    Ok(0)
}

/// `rt_sigpending(2)`.
pub fn sys_rt_sigpending(ctx: &Ctx, set: Vaddr, size: usize) -> Result<usize> {
    if size > size_of::<SigSet>() {
        return Err(EINVAL);
    }
    let pending = signal::pending_for(ctx.thread).intersection(ctx.thread.signals.blocked());
    ctx.vm.write_bytes(set, &pending.bits().to_le_bytes()[..size])?;
    Ok(0)
}

/// `rt_sigsuspend(2)`.
pub fn sys_rt_sigsuspend(ctx: &Ctx, set: Vaddr, size: usize) -> Result<usize> {
    check_size(size)?;
    let blocked = ctx.vm.read_val(set)?;
    signal::with_mask(ctx, Some(blocked), signal::suspend)
}

/// `pause(2)`.
pub fn sys_pause(_ctx: &Ctx) -> Result<usize> {
    signal::suspend()
}

/// `rt_sigtimedwait(2)`.
pub fn sys_rt_sigtimedwait(ctx: &Ctx, set: Vaddr, info: Vaddr, timeout: Vaddr, size: usize) -> Result<usize> {
    check_size(size)?;
    let wanted = ctx.vm.read_val(set)?;
    let deadline = match timeout {
        0 => None,
        addr => Some(TimeSpec::read(ctx, addr)?.deadline_from_now()),
    };
    let found = signal::wait_for(ctx, wanted, deadline)?;
    if info != 0 {
        ctx.vm.write_val(info, &found.to_raw())?;
    }
    Ok(usize::from(found.signal))
}

/// `sigaltstack(2)`.
pub fn sys_sigaltstack(
    ctx: &Ctx,
    registers: &mut UserContext,
    [new, old, ..]: [usize; 6],
) -> Result<Option<usize>> {
    let stack: Option<AltStack> = if new != 0 { Some(ctx.vm.read_val(new)?) } else { None };
    let before = signal::set_stack(ctx.thread, stack, registers.stack_pointer())?;
    if old != 0 {
        ctx.vm.write_val(old, &before)?;
    }
    Ok(Some(0))
}

/// `rt_sigreturn(2)`.
pub fn sys_rt_sigreturn(
    ctx: &Ctx,
    registers: &mut UserContext,
    _arguments: [usize; 6],
) -> Result<Option<usize>> {
    signal::sigreturn(ctx, registers);
    Ok(None)
}

/// `restart_syscall(2)`.
pub fn sys_restart_syscall(ctx: &Ctx) -> Result<usize> {
    match ctx.thread.signals.take_restart() {
        Some(restart) => restart(ctx),
        None => Err(EINTR),
    }
}

/// `signalfd4(2)`.
pub fn sys_signalfd4(ctx: &Ctx, fd: i32, set: Vaddr, size: usize, flags: u32) -> Result<usize> {
    check_size(size)?;
    let set = ctx.vm.read_val(set)?;
    signal::signalfd::open(ctx, fd, set, flags)
}

/// `signalfd(2)`, as it was before it had flags.
pub fn sys_signalfd(ctx: &Ctx, fd: i32, set: Vaddr, size: usize) -> Result<usize> {
    sys_signalfd4(ctx, fd, set, size, 0)
}
