// SPDX-License-Identifier: MPL-2.0

//! The end of processes, and their numbers.

use crate::{
    prelude::*,
    process::{ExitStatus, exit},
};

/// `exit(2)`: ends the calling thread.
pub fn sys_exit(ctx: &Ctx, code: i32) -> Result<usize> {
    exit::exit_thread(ctx, ExitStatus::Exited(code as u8));
    Ok(0)
}

/// `exit_group(2)`.
pub fn sys_exit_group(ctx: &Ctx, code: i32) -> Result<usize> {
    exit::exit_group(ctx.process, ExitStatus::Exited(code as u8));
    Ok(0)
}

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
