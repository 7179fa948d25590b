// SPDX-License-Identifier: MPL-2.0

//! How a tracer lets a tracee go on, or interrupts it.

use linux_raw_sys::{general::SIGKILL, ptrace::PTRACE_EVENT_STOP};

use super::{Flags, Options, Phase, State, Tracing, with_stopped};
use crate::{
    prelude::*,
    signal::{self, Job, SIGNAL_COUNT, SigInfo},
};

/// Until what a tracee goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The next signal or event (`PTRACE_CONT`).
    Signal,
    /// The beginning or end of a call (`PTRACE_SYSCALL`).
    Call,
    /// One instruction further (`PTRACE_SINGLESTEP`).
    Step,
    /// The beginning of a call, which is not made (`PTRACE_SYSEMU`).
    Emulated,
    /// One instruction further, or the beginning of a call, which is not made (`PTRACE_SYSEMU_SINGLESTEP`).
    EmulatedStep,
}

impl Until {
    fn flags(self) -> Flags {
        match self {
            Self::Signal => Flags::empty(),
            Self::Call => Flags::CALLS,
            Self::Step => Flags::STEP,
            Self::Emulated => Flags::EMULATE,
            Self::EmulatedStep => Flags::EMULATE.union(Flags::STEP),
        }
    }
}

/// The signal that a tracer sends a tracee on its way with.
///
/// # Errors
///
/// `EIO` if there is no such signal.
pub fn signal_of(data: usize) -> Result<u8> {
    if data <= SIGNAL_COUNT { Ok(data as u8) } else { Err(EIO) }
}

/// Lets a stopped tracee go on.
///
/// # Errors
///
/// `EIO` if `data` is no signal; `ESRCH`.
pub fn resume(tracee: &Thread, until: Until, data: usize) -> Result<()> {
    let signal = signal_of(data)?;
    with_stopped(tracee, |state| {
        state.go_on(&tracee.tracing, until.flags(), signal);
        Ok(())
    })?;
    tracee.interrupt();
    Ok(())
}

impl State {
    /// Lets a stopped tracee go on. The caller wakes it.
    pub(super) fn go_on(&mut self, tracing: &Tracing, flags: Flags, signal: u8) {
        tracing.clear(Flags::CALLS.union(Flags::STEP).union(Flags::EMULATE).union(Flags::STOPPED));
        tracing.set(flags);
        self.phase = Phase::Resumed { signal };
    }
}

/// `PTRACE_KILL`: as `SIGKILL`.
pub fn kill(ctx: &Ctx, tracee: &Thread) {
    let info = SigInfo::user(SIGKILL as u8, ctx.process.pid(), ctx.credentials().uid);
    signal::send_to_thread(tracee, info);
}

/// `PTRACE_INTERRUPT`: stops a seized tracee.
///
/// # Errors
///
/// `EIO` if it is not seized.
pub fn interrupt(tracee: &Thread) -> Result<()> {
    if !tracee.tracing.is_seized() {
        return Err(EIO);
    }
    {
        let mut guard = tracee.tracing.lock();
        tracee.signals.set_job(Job::TRAP);
        // A tracee that listens stops anew.
        if let Some(state) = guard.as_deref_mut()
            && let Phase::Stopped { is_listening: true, .. } = state.phase
        {
            state.go_on(&tracee.tracing, Flags::empty(), 0);
        }
    }
    tracee.interrupt();
    Ok(())
}

/// `PTRACE_LISTEN`: leaves a seized tracee in its group stop, whose end is told.
///
/// # Errors
///
/// `EIO` if it is not in one; `ESRCH`.
pub fn listen(tracee: &Thread) -> Result<()> {
    with_stopped(tracee, |state| {
        let is_group_stop = state.info.is_some_and(|info| info.code as u32 >> 8 == PTRACE_EVENT_STOP);
        if !tracee.tracing.is_seized() || !is_group_stop {
            return Err(EIO);
        }
        if let Phase::Stopped { is_listening, .. } = &mut state.phase {
            *is_listening = true;
        }
        Ok(())
    })?;
    // What has happened meanwhile is told at once.
    tracee.interrupt();
    Ok(())
}

/// `PTRACE_SETOPTIONS`.
///
/// # Errors
///
/// `EINVAL` for an option that is not there; `EPERM` for one that takes `CAP_SYS_ADMIN`; `ESRCH`.
pub fn set_options(ctx: &Ctx, tracee: &Thread, data: usize) -> Result<()> {
    let options = options_of(ctx, data)?;
    with_stopped(tracee, |state| {
        if let Some(link) = &mut state.link {
            link.options = options;
        }
        Ok(())
    })
}

/// The options in `data`.
pub(super) fn options_of(ctx: &Ctx, data: usize) -> Result<Options> {
    let options = u32::try_from(data).ok().and_then(Options::from_bits).ok_or(EINVAL)?;
    if options.contains(Options::SUSPEND_SECCOMP) {
        ctx.credentials().require(crate::process::credentials::CapSet::SYS_ADMIN)?;
    }
    Ok(options)
}
