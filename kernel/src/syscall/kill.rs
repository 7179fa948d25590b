// SPDX-License-Identifier: MPL-2.0

//! Signals to others: `kill(2)`, `tgkill(2)`, `rt_sigqueueinfo(2)`, `pidfd_send_signal(2)`.

use linux_raw_sys::general::{RLIMIT_SIGPENDING, SI_TKILL, SI_USER, SIGCONT, SIGRTMIN};

use crate::{
    prelude::*,
    process::{credentials::CapSet, pidfd, table},
    signal::{self, Queued, RawSigInfo, SIGNAL_COUNT, SigInfo, Slot},
};

/// The number that a program gave for a signal: `None` for 0, which only asks whether it could be sent.
fn check_signal(signal: i32) -> Result<Option<u8>> {
    match signal {
        0 => Ok(None),
        1.. if signal as usize <= SIGNAL_COUNT => Ok(Some(signal as u8)),
        _ => Err(EINVAL),
    }
}

/// `EPERM` unless the caller may send `signal` to `target` (`kill(2)`).
fn check_permission(ctx: &Ctx, target: &Arc<Process>, signal: Option<u8>) -> Result<()> {
    if Arc::ptr_eq(ctx.process, target) {
        return Ok(());
    }
    let own = ctx.credentials();
    let (uid, suid) = match target.main_thread() {
        Some(thread) => {
            let other = thread.credentials();
            (other.uid, other.suid)
        }
        None => (target.real_uid(), target.real_uid()),
    };
    let same_user = [own.euid, own.uid].iter().any(|user| *user == uid || *user == suid);
    let continues = signal == Some(SIGCONT as u8) && ctx.process.session() == target.session();
    if same_user || continues || own.has(CapSet::KILL) { Ok(()) } else { Err(EPERM) }
}

/// Queues a signal that a program sends.
///
/// # Errors
///
/// `EAGAIN` if as many are queued as the receiver's limit allows, and the signal is one that must not be lost.
fn queue(process: &Arc<Process>, thread: Option<&Thread>, info: SigInfo) -> Result<()> {
    let slot = Slot::take(process.real_uid(), process.rlimits.soft(RLIMIT_SIGPENDING));
    let may_be_lost = u32::from(info.signal) < SIGRTMIN || info.code == SI_USER as i32;
    if slot.is_none() && !may_be_lost {
        return Err(EAGAIN);
    }
    signal::post(process, thread, Queued { info, slot, owner: None });
    Ok(())
}

/// Sends what `kill(2)` sends, if the caller may.
fn kill_one(ctx: &Ctx, target: &Arc<Process>, signal: Option<u8>) -> Result<()> {
    check_permission(ctx, target, signal)?;
    match signal {
        Some(signal) => queue(target, None, from_caller(ctx, signal, SI_USER as i32)),
        None => Ok(()),
    }
}

fn from_caller(ctx: &Ctx, signal: u8, code: i32) -> SigInfo {
    SigInfo { code, ..SigInfo::user(signal, ctx.process.pid(), ctx.credentials().uid) }
}

/// The process with this number, or the one of the thread with it.
fn process_of(number: Pid) -> Result<Arc<Process>> {
    table::process(number)
        .or_else(|| table::thread(number).map(|thread| thread.process().clone()))
        .ok_or(ESRCH)
}

/// `kill(2)`.
pub fn sys_kill(ctx: &Ctx, pid: i32, signal: i32) -> Result<usize> {
    if pid == i32::MIN {
        return Err(ESRCH);
    }
    let signal = check_signal(signal)?;
    match pid {
        1.. => kill_one(ctx, &process_of(pid as Pid)?, signal)?,
        0 => kill_group(ctx, ctx.process.group(), signal)?,
        -1 => kill_all(ctx, signal)?,
        _ => kill_group(ctx, pid.unsigned_abs(), signal)?,
    }
    Ok(0)
}

/// Succeeds if one member at least could be sent the signal.
fn kill_group(ctx: &Ctx, group: Pid, signal: Option<u8>) -> Result<()> {
    let mut result = Err(ESRCH);
    table::visit_group(group, |target| {
        let one = kill_one(ctx, target, signal);
        result = result.or(one);
    });
    result
}

/// Everybody but the first process and the caller's own. That some may not be sent the signal is no error, as in Linux.
fn kill_all(ctx: &Ctx, signal: Option<u8>) -> Result<()> {
    let mut result = Err(ESRCH);
    for target in table::all() {
        if target.pid() == table::INIT || Arc::ptr_eq(&target, ctx.process) {
            continue;
        }
        result = match (kill_one(ctx, &target, signal), result) {
            (Err(EPERM), Err(ESRCH)) => Ok(()),
            (Err(EPERM), before) => before,
            (one, _) => one,
        };
    }
    result
}

/// `tkill(2)`.
pub fn sys_tkill(ctx: &Ctx, tid: i32, signal: i32) -> Result<usize> {
    if tid <= 0 {
        return Err(EINVAL);
    }
    kill_thread(ctx, None, tid, signal)
}

/// `tgkill(2)`.
pub fn sys_tgkill(ctx: &Ctx, tgid: i32, tid: i32, signal: i32) -> Result<usize> {
    if tgid <= 0 || tid <= 0 {
        return Err(EINVAL);
    }
    kill_thread(ctx, Some(tgid), tid, signal)
}

fn kill_thread(ctx: &Ctx, tgid: Option<i32>, tid: i32, signal: i32) -> Result<usize> {
    let thread = thread_of(tgid, tid)?;
    let signal = check_signal(signal)?;
    check_permission(ctx, thread.process(), signal)?;
    if let Some(signal) = signal {
        queue(thread.process(), Some(&thread), from_caller(ctx, signal, SI_TKILL))?;
    }
    Ok(0)
}

fn thread_of(tgid: Option<i32>, tid: i32) -> Result<Arc<Thread>> {
    let thread = table::thread(tid as Tid).ok_or(ESRCH)?;
    match tgid {
        Some(tgid) if thread.process().pid() != tgid as Pid => Err(ESRCH),
        _ => Ok(thread),
    }
}

/// Reads what a program has put together. Only to itself may it pretend to be the kernel, or somebody's `kill`.
fn read_info(ctx: &Ctx, addr: Vaddr, to_itself: bool) -> Result<RawSigInfo> {
    let info: RawSigInfo = ctx.vm.read_val(addr)?;
    if (info.code >= 0 || info.code == SI_TKILL) && !to_itself { Err(EPERM) } else { Ok(info) }
}

/// `rt_sigqueueinfo(2)`.
pub fn sys_rt_sigqueueinfo(ctx: &Ctx, tgid: i32, signal: i32, info: Vaddr) -> Result<usize> {
    let info = read_info(ctx, info, tgid as Pid == ctx.process.pid())?;
    let target = if tgid > 0 { process_of(tgid as Pid)? } else { return Err(ESRCH) };
    let signal = check_signal(signal)?;
    check_permission(ctx, &target, signal)?;
    if let Some(signal) = signal {
        queue(&target, None, info.into_info(signal))?;
    }
    Ok(0)
}

/// `rt_tgsigqueueinfo(2)`.
pub fn sys_rt_tgsigqueueinfo(ctx: &Ctx, tgid: i32, tid: i32, signal: i32, info: Vaddr) -> Result<usize> {
    if tgid <= 0 || tid <= 0 {
        return Err(EINVAL);
    }
    let info = read_info(ctx, info, tid as Tid == ctx.thread.tid())?;
    let thread = thread_of(Some(tgid), tid)?;
    let signal = check_signal(signal)?;
    check_permission(ctx, thread.process(), signal)?;
    if let Some(signal) = signal {
        queue(thread.process(), Some(&thread), info.into_info(signal))?;
    }
    Ok(0)
}

/// `pidfd_send_signal(2)`.
pub fn sys_pidfd_send_signal(ctx: &Ctx, fd: i32, signal: i32, info: Vaddr, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(EINVAL);
    }
    let target = pidfd::process_of(ctx, fd)?;
    if target.is_zombie() && table::process(target.pid()).is_none_or(|now| !Arc::ptr_eq(&now, &target)) {
        return Err(ESRCH);
    }
    let to_itself = Arc::ptr_eq(&target, ctx.process);
    let made_up = if info != 0 { Some(read_info(ctx, info, to_itself)?) } else { None };
    if made_up.is_some_and(|info| info.signo != signal) {
        return Err(EINVAL);
    }
    let signal = check_signal(signal)?;
    check_permission(ctx, &target, signal)?;
    if let Some(signal) = signal {
        let info = made_up
            .map_or_else(|| from_caller(ctx, signal, SI_USER as i32), |made_up| made_up.into_info(signal));
        queue(&target, None, info)?;
    }
    Ok(0)
}
