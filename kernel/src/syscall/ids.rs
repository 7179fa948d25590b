// SPDX-License-Identifier: MPL-2.0

//! Numbers of processes, process groups and sessions.

use crate::{
    prelude::*,
    process::table::{self, Table},
};

/// `getpid(2)`.
pub fn sys_getpid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.process.pid() as usize)
}

/// `gettid(2)`.
pub fn sys_gettid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.thread.tid() as usize)
}

/// `getppid(2)`.
pub fn sys_getppid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.process.parent_pid() as usize)
}

/// `getpgrp(2)`.
pub fn sys_getpgrp(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.process.group() as usize)
}

/// `getpgid(2)`.
pub fn sys_getpgid(ctx: &Ctx, pid: i32) -> Result<usize> {
    let pid = own_if_zero(ctx, pid)?;
    table::with(|table| table.node_of_thread(pid).map(|node| node.group as usize)).ok_or(ESRCH)
}

/// `getsid(2)`.
pub fn sys_getsid(ctx: &Ctx, pid: i32) -> Result<usize> {
    let pid = own_if_zero(ctx, pid)?;
    table::with(|table| table.node_of_thread(pid).map(|node| node.session as usize)).ok_or(ESRCH)
}

/// `setpgid(2)`.
pub fn sys_setpgid(ctx: &Ctx, pid: i32, group: i32) -> Result<usize> {
    if group < 0 || (group == 0 && pid < 0) {
        return Err(EINVAL);
    }
    let pid = own_if_zero(ctx, pid)?;
    let group = if group == 0 { pid } else { group as Pid };
    table::with(|table| set_group(table, ctx.process.pid(), pid, group))?;
    Ok(0)
}

fn set_group(table: &mut Table, caller: Pid, pid: Pid, group: Pid) -> Result<()> {
    let caller_session = table.node(caller).ok_or(ESRCH)?.session;
    let node = table.node(pid).ok_or(ESRCH)?;
    if pid != caller {
        if node.parent != caller {
            return Err(ESRCH);
        }
        if node.session != caller_session {
            return Err(EPERM);
        }
        if node.process.has_execed.load(Ordering::Relaxed) {
            return Err(EACCES);
        }
    }
    if node.session == pid {
        return Err(EPERM);
    }
    if group != pid && table.session_of_group(group) != Some(caller_session) {
        return Err(EPERM);
    }
    if let Some(node) = table.node_mut(pid) {
        node.group = group;
    }
    Ok(())
}

/// `setsid(2)`.
pub fn sys_setsid(ctx: &Ctx) -> Result<usize> {
    let pid = ctx.process.pid();
    table::with(|table| {
        if table.session_of_group(pid).is_some() {
            return Err(EPERM);
        }
        let node = table.node_mut(pid).ok_or(ESRCH)?;
        node.group = pid;
        node.session = pid;
        Ok(pid as usize)
    })
}

fn own_if_zero(ctx: &Ctx, pid: i32) -> Result<Pid> {
    match pid {
        0 => Ok(ctx.process.pid()),
        1.. => Ok(pid as Pid),
        _ => Err(ESRCH),
    }
}
