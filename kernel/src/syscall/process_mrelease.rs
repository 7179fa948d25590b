// SPDX-License-Identifier: MPL-2.0

//! `process_mrelease(2)`.

use crate::{
    prelude::*,
    process::{pidfd, table},
};

/// `process_mrelease(2)`: gives back the memory of a process that was killed, which may take long to come to its end itself.
pub fn sys_process_mrelease(ctx: &Ctx, pidfd: i32, flags: u32) -> Result<usize> {
    if flags != 0 {
        return Err(EINVAL);
    }
    let process = pidfd::process_of(ctx, pidfd)?;
    let vm = process.vm().ok_or(ESRCH)?;
    if table::with(|table| table.find(|other| other.runs_in(&vm) && !other.is_exiting())).is_some() {
        return Err(EINVAL);
    }
    vm.reap();
    Ok(0)
}
