// SPDX-License-Identifier: MPL-2.0

//! `wait4(2)` and `waitid(2)`.

use linux_raw_sys::general::{
    CLD_CONTINUED, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, CLD_TRAPPED, P_ALL, P_PGID, P_PID,
    P_PIDFD, SIGCHLD, SIGCONT,
};

use super::usage::Rusage;
use crate::{
    prelude::*,
    process::{
        ExitStatus,
        wait::{ChildEvent, WaitOptions, WaitTarget, Waited, wait_for_child},
    },
};

/// `wait4(2)`.
pub fn sys_wait4(ctx: &Ctx, pid: i32, status: Vaddr, options: u32, usage: Vaddr) -> Result<usize> {
    let options = WaitOptions::from_bits(options).ok_or(EINVAL)?;
    if options.intersects(WaitOptions::NO_WAIT | WaitOptions::EXITED) {
        return Err(EINVAL);
    }
    let target = match pid {
        i32::MIN => return Err(ESRCH),
        -1 => WaitTarget::Any,
        0 => WaitTarget::Group(ctx.process.group()),
        1.. => WaitTarget::Pid(pid as Pid),
        _ => WaitTarget::Group(pid.unsigned_abs()),
    };
    let Some(waited) = wait_for_child(ctx, &target, options | WaitOptions::EXITED)? else { return Ok(0) };
    if status != 0 {
        ctx.vm.write_val(status, &waited.event.wait_status())?;
    }
    if usage != 0 {
        ctx.vm.write_val(usage, &Rusage::from(waited.usage))?;
    }
    Ok(waited.pid as usize)
}

/// `siginfo_t` as `waitid(2)` fills it.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct ChildInfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    pid: Pid,
    uid: u32,
    status: i32,
}

impl From<Waited> for ChildInfo {
    fn from(waited: Waited) -> Self {
        let (code, status) = match waited.event {
            ChildEvent::Ended(ExitStatus::Exited(code)) => (CLD_EXITED, i32::from(code)),
            ChildEvent::Ended(ExitStatus::Killed { signal, core: true }) => (CLD_DUMPED, i32::from(signal)),
            ChildEvent::Ended(ExitStatus::Killed { signal, core: false }) => (CLD_KILLED, i32::from(signal)),
            ChildEvent::Stopped(signal) => (CLD_STOPPED, i32::from(signal)),
            ChildEvent::Trapped(code) => (CLD_TRAPPED, code as i32),
            ChildEvent::Continued => (CLD_CONTINUED, SIGCONT as i32),
        };
        Self {
            signal: SIGCHLD as i32,
            code: code as i32,
            pid: waited.pid,
            uid: waited.uid,
            status,
            ..Self::default()
        }
    }
}

/// `waitid(2)`.
pub fn sys_waitid(ctx: &Ctx, kind: u32, id: i32, info: Vaddr, options: u32, usage: Vaddr) -> Result<usize> {
    let options = WaitOptions::from_bits(options).ok_or(EINVAL)?;
    if !options.intersects(WaitOptions::EXITED | WaitOptions::STOPPED | WaitOptions::CONTINUED) {
        return Err(EINVAL);
    }
    let target = match kind {
        P_ALL => WaitTarget::Any,
        P_PID if id > 0 => WaitTarget::Pid(id as Pid),
        P_PGID if id > 0 => WaitTarget::Group(id as Pid),
        P_PGID if id == 0 => WaitTarget::Group(ctx.process.group()),
        P_PIDFD if id >= 0 => WaitTarget::Pid(crate::process::pidfd::process_of(ctx, id)?.pid()),
        _ => return Err(EINVAL),
    };
    let waited = wait_for_child(ctx, &target, options)?;
    if usage != 0
        && let Some(waited) = waited
    {
        ctx.vm.write_val(usage, &Rusage::from(waited.usage))?;
    }
    if info != 0 {
        ctx.vm.write_val(info, &waited.map_or_else(ChildInfo::default, ChildInfo::from))?;
    }
    Ok(0)
}
