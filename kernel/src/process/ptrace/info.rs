// SPDX-License-Identifier: MPL-2.0

//! What a tracer can ask of a stop, and of the signals of a tracee.

use linux_raw_sys::{
    general::SIGTRAP,
    ptrace::{
        PTRACE_EVENTMSG_SYSCALL_ENTRY, PTRACE_EVENTMSG_SYSCALL_EXIT, PTRACE_PEEKSIGINFO_SHARED,
        PTRACE_SYSCALL_INFO_ENTRY, PTRACE_SYSCALL_INFO_EXIT, PTRACE_SYSCALL_INFO_NONE,
    },
};

use super::{State, report::CALL_MARK, with_stopped};
use crate::{
    prelude::*,
    signal::{RawSigInfo, SIGNAL_COUNT, SigInfo, SigSet},
};

/// `AUDIT_ARCH_X86_64`.
const ARCHITECTURE: u32 = 0xc000_003e;

/// The largest error number.
const MAX_ERRNO: usize = 4095;

/// `struct ptrace_syscall_info`, less what there is only for seccomp.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
pub struct CallInfo {
    op: u32,
    architecture: u32,
    rip: usize,
    rsp: usize,
    rest: [usize; 8],
}

/// How many bytes of [`CallInfo`] count, by its kind.
const NONE_LEN: usize = 24;
const ENTRY_LEN: usize = 80;
const EXIT_LEN: usize = 33;

/// `PTRACE_GET_SYSCALL_INFO`: what there is to tell, and how many bytes of it count.
pub fn call_info(state: &State) -> (CallInfo, usize) {
    let registers = &state.registers;
    let mut info = CallInfo {
        op: PTRACE_SYSCALL_INFO_NONE,
        architecture: ARCHITECTURE,
        rip: registers.rip(),
        rsp: registers.rsp(),
        rest: [0; 8],
    };
    let is_call = state.info.is_some_and(|info| info.code as u32 == SIGTRAP | CALL_MARK);
    let len = match state.message as u32 {
        PTRACE_EVENTMSG_SYSCALL_ENTRY if is_call => {
            info.op = PTRACE_SYSCALL_INFO_ENTRY;
            info.rest[..7].copy_from_slice(&registers.call());
            ENTRY_LEN
        }
        PTRACE_EVENTMSG_SYSCALL_EXIT if is_call => {
            info.op = PTRACE_SYSCALL_INFO_EXIT;
            let is_error = registers.rax().wrapping_neg().wrapping_sub(1) < MAX_ERRNO;
            info.rest[..2].copy_from_slice(&[registers.rax(), usize::from(is_error)]);
            EXIT_LEN
        }
        _ => NONE_LEN,
    };
    (info, len)
}

/// `PTRACE_GETSIGINFO`.
///
/// # Errors
///
/// `EINVAL` if the stop is about no signal, as a group stop; `ESRCH`.
pub fn signal_info(tracee: &Thread) -> Result<RawSigInfo> {
    with_stopped(tracee, |state| state.info.as_ref().map(SigInfo::to_raw).ok_or(EINVAL))
}

/// `PTRACE_SETSIGINFO`.
///
/// # Errors
///
/// As [`signal_info`].
pub fn set_signal_info(tracee: &Thread, raw: RawSigInfo) -> Result<()> {
    with_stopped(tracee, |state| {
        let info = state.info.as_mut().ok_or(EINVAL)?;
        // A number that is no signal's is that of no signal that the tracee will go on with.
        let signal = u8::try_from(raw.signo).ok().filter(|signal| usize::from(*signal) <= SIGNAL_COUNT);
        *info = raw.into_info(signal.unwrap_or(0));
        Ok(())
    })
}

/// `struct ptrace_peeksiginfo_args`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
pub struct PeekArgs {
    first: u64,
    flags: u32,
    count: i32,
}

/// `PTRACE_PEEKSIGINFO`: gives `put` the signals that are pending, and answers how many.
///
/// # Errors
///
/// `EINVAL` for flags that are not there and a negative number; `ESRCH`; what `put` says to the first.
pub fn pending(
    tracee: &Thread,
    args: PeekArgs,
    mut put: impl FnMut(usize, &RawSigInfo) -> Result<()>,
) -> Result<usize> {
    if args.flags & !PTRACE_PEEKSIGINFO_SHARED != 0 || args.count < 0 {
        return Err(EINVAL);
    }
    let mut done = 0;
    while done < args.count as usize {
        let Some(place) = args.first.checked_add(done as u64) else { break };
        let info = with_stopped(tracee, |_| {
            Ok(match args.flags {
                0 => tracee.signals.nth_pending(place),
                _ => tracee.process().signals.nth_pending(place),
            })
        })?;
        let Some(info) = info else { break };
        match put(done, &info.to_raw()) {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// `PTRACE_GETSIGMASK`.
///
/// # Errors
///
/// `ESRCH`.
pub fn mask(tracee: &Thread) -> Result<SigSet> {
    with_stopped(tracee, |_| Ok(tracee.signals.lasting_mask()))
}

/// `PTRACE_SETSIGMASK`.
///
/// # Errors
///
/// `ESRCH`.
pub fn set_mask(tracee: &Thread, mask: SigSet) -> Result<()> {
    with_stopped(tracee, |_| {
        tracee.signals.replace_mask(mask);
        Ok(())
    })
}
