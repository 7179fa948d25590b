// SPDX-License-Identifier: MPL-2.0

//! Exceptions of user programs, and page faults of the kernel on their memory.

use linux_raw_sys::general::{SEGV_MAPERR, SIGSEGV};
use ostd::arch::cpu::context::{CpuException, UserContext};

use crate::{
    prelude::*,
    signal::{self, SigInfo},
};

/// Resolves an exception that user code has caused, or sends the signal it stands for.
pub fn handle_exception(ctx: &Ctx, exception: &CpuException, _registers: &UserContext) {
    let info = match exception {
        CpuException::PageFault(fault) => SigInfo::fault(SIGSEGV as u8, SEGV_MAPERR as i32, fault.addr),
        _ => SigInfo::kernel(SIGSEGV as u8),
    };
    signal::force(ctx.thread, info);
}

/// Has OSTD call this module when the kernel itself faults on user memory.
pub fn init() {
    ostd::mm::fault::inject_user_page_fault_handler(|_| Err(()));
}
