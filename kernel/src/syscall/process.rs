// SPDX-License-Identifier: MPL-2.0

//! The beginning and the end of processes and threads.

use linux_raw_sys::general::{
    __NR_exit, __NR_exit_group, CLONE_ARGS_SIZE_VER0, CLONE_DETACHED, CLONE_FILES, CLONE_FS, CLONE_PARENT,
    CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, CSIGNAL,
};
use ostd::arch::cpu::context::UserContext;

use crate::{
    prelude::*,
    process::{
        ExitStatus,
        clone::{CloneArgs, clone},
        exit, pidfd, table,
    },
};

/// The size of `struct robust_list_head`.
const ROBUST_LIST_HEAD_SIZE: usize = 24;

/// `exit(2)`: ends the calling thread.
pub fn sys_exit(ctx: &Ctx, code: i32) -> Result<usize> {
    ctx.local.set_call(__NR_exit as usize);
    exit::exit_thread(ctx, ExitStatus::Exited(code as u8));
    Ok(0)
}

/// `exit_group(2)`.
pub fn sys_exit_group(ctx: &Ctx, code: i32) -> Result<usize> {
    ctx.local.set_call(__NR_exit_group as usize);
    exit::exit_group(ctx.process, ExitStatus::Exited(code as u8));
    Ok(0)
}

/// `fork(2)`.
pub fn sys_fork(ctx: &Ctx, registers: &mut UserContext, _: [usize; 6]) -> Result<Option<usize>> {
    clone(ctx, registers, &CloneArgs::fork()).map(|tid| Some(tid as usize))
}

/// `vfork(2)`.
pub fn sys_vfork(ctx: &Ctx, registers: &mut UserContext, _: [usize; 6]) -> Result<Option<usize>> {
    clone(ctx, registers, &CloneArgs::vfork()).map(|tid| Some(tid as usize))
}

/// `clone(2)`.
pub fn sys_clone(ctx: &Ctx, registers: &mut UserContext, arguments: [usize; 6]) -> Result<Option<usize>> {
    let [flags, stack, parent_tid, child_tid, tls, _] = arguments;
    // The upper half belongs to clone3.
    let flags = flags as u32;
    let both = CLONE_PIDFD | CLONE_PARENT_SETTID;
    if flags & both == both {
        return Err(EINVAL);
    }
    let args = CloneArgs {
        flags: u64::from(flags & !CSIGNAL),
        pidfd: parent_tid,
        child_tid,
        parent_tid,
        exit_signal: flags & CSIGNAL,
        stack,
        tls,
    };
    clone(ctx, registers, &args).map(|tid| Some(tid as usize))
}

/// `struct clone_args`, version 2.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct Clone3Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `clone3(2)`.
pub fn sys_clone3(ctx: &Ctx, registers: &mut UserContext, arguments: [usize; 6]) -> Result<Option<usize>> {
    let [addr, size, ..] = arguments;
    if size < CLONE_ARGS_SIZE_VER0 as usize {
        return Err(EINVAL);
    }
    let args: Clone3Args = super::read_extensible(ctx, addr, size)?;
    let known = u64::from(u32::MAX) | linux_raw_sys::general::CLONE_CLEAR_SIGHAND;
    let siblings = u64::from(CLONE_THREAD | CLONE_PARENT);
    if args.flags & !known != 0
        || args.flags & u64::from(CLONE_DETACHED | CSIGNAL) != 0
        || args.exit_signal > 64
        || (args.flags & siblings != 0 && args.exit_signal != 0)
        || (args.stack == 0) != (args.stack_size == 0)
        // Chosen numbers and control groups are for namespaces that are not here.
        || args.set_tid_size != 0
        || args.set_tid != 0
    {
        return Err(EINVAL);
    }
    let stack = args.stack.checked_add(args.stack_size).ok_or(EINVAL)?;
    let args = CloneArgs {
        flags: args.flags,
        pidfd: args.pidfd as usize,
        child_tid: args.child_tid as usize,
        parent_tid: args.parent_tid as usize,
        exit_signal: args.exit_signal as u32,
        stack: stack as usize,
        tls: args.tls as usize,
    };
    clone(ctx, registers, &args).map(|tid| Some(tid as usize))
}

/// `unshare(2)`, of what is not a namespace.
pub fn sys_unshare(ctx: &Ctx, flags: u32) -> Result<usize> {
    let of_the_process = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    if flags & !(of_the_process | CLONE_FILES | CLONE_FS | CLONE_SYSVSEM) != 0 {
        return Err(EINVAL);
    }
    // What the threads of a process share cannot be taken from one of them.
    if flags & of_the_process != 0 && ctx.process.thread_count() > 1 {
        return Err(EINVAL);
    }
    if flags & CLONE_FILES != 0 {
        let own = Arc::new(ctx.files().fork()?);
        drop(ctx.thread.set_files(Some(own)));
    }
    if flags & CLONE_FS != 0 {
        let own = Arc::new((*ctx.fs()).clone());
        drop(ctx.thread.set_fs(Some(own)));
    }
    Ok(0)
}

/// `set_tid_address(2)`.
pub fn sys_set_tid_address(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    ctx.thread.clear_child_tid.store(addr, Ordering::Relaxed);
    Ok(ctx.thread.tid() as usize)
}

/// `set_robust_list(2)`.
pub fn sys_set_robust_list(ctx: &Ctx, head: Vaddr, len: usize) -> Result<usize> {
    if len != ROBUST_LIST_HEAD_SIZE {
        return Err(EINVAL);
    }
    ctx.thread.robust_list.store(head, Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list(2)`.
pub fn sys_get_robust_list(ctx: &Ctx, pid: i32, head: Vaddr, len: Vaddr) -> Result<usize> {
    let thread = match pid {
        0 => ctx.thread.clone(),
        _ => table::thread(pid as Tid).ok_or(ESRCH)?,
    };
    let (own, other) = (ctx.credentials(), thread.credentials());
    if own.euid != other.uid {
        own.require(crate::process::credentials::CapSet::SYS_PTRACE)?;
    }
    ctx.vm.write_val(len, &ROBUST_LIST_HEAD_SIZE)?;
    ctx.vm.write_val(head, &thread.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}

/// `pidfd_open(2)`.
pub fn sys_pidfd_open(ctx: &Ctx, pid: i32, flags: u32) -> Result<usize> {
    pidfd::open(ctx, pid, flags).map(|fd| fd as usize)
}
