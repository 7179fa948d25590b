// SPDX-License-Identifier: MPL-2.0

//! Delivery: what is done about pending signals on the way back to user mode.
//!
//! ```text
//! ┌─► must end? ─► must stop? ─► take a signal ─► ignored ─┐
//! │                                  │       ─► default ───┤ end, stop, nothing
//! │                                  │       ─► handler ───┤ a frame on its stack; the call before it
//! └──────────────────────────────────┼─────────────────────┘ says EINTR or will be restarted
//!                                    ▼ none left
//!                  no handler: restart the call, bring the saved mask back
//! ```

use linux_raw_sys::general::{
    __NR_restart_syscall, RLIMIT_CORE, SA_NODEFER, SA_RESETHAND, SA_RESTART, SIGSEGV,
};
use ostd::{arch::cpu::context::UserContext, user::UserContextApi};

use super::{
    DefaultAction, Disposition, SigAction, SigInfo, SigSet, action::default_action, force, frame, send,
    set_blocked, state, stop, stop::Job,
};
use crate::{
    error::Restart,
    prelude::*,
    process::{
        ExitStatus, exit,
        ptrace::{registers::NO_CALL, report},
        rseq,
    },
};

/// The length of the `syscall` instruction.
const SYSCALL_LEN: usize = 2;

/// A call that ended with one of the `ERESTART*` codes: the registers hold `EINTR` already.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// The call's number, to restart it with.
    pub number: usize,
    /// When to restart it.
    pub restart: Restart,
}

/// Does what is pending for the calling thread: runs handlers, stops it, ends it; and restarts the call that was
/// interrupted where no handler runs.
pub fn deliver(ctx: &Ctx, registers: &mut UserContext, mut interrupted: Option<Interrupted>) {
    let signals = &ctx.thread.signals;
    while !ctx.thread.must_exit.load(Ordering::Relaxed) {
        stop::tell_continue(ctx.process);
        let job = signals.job();
        if !job.is_empty() {
            if ctx.thread.tracing.is_traced() {
                report::job_stop(ctx, registers, &mut interrupted);
            } else {
                signals.clear_job(Job::TRAP.union(Job::NOTIFY));
                stop::park(ctx);
            }
            continue;
        }
        let generation = ctx.process.signals.stop.generation();
        let Some(info) = state::take(ctx.thread, signals.blocked().complement()) else { break };
        let info = if ctx.thread.tracing.is_traced() {
            match report::delivers(ctx, registers, &mut interrupted, info) {
                Some(info) => info,
                None => continue,
            }
        } else {
            info
        };
        let action = ctx.process.signals.action(info.signal);
        match action.disposition() {
            Disposition::Ignore => {}
            Disposition::Default => act_by_default(ctx, &info, generation),
            Disposition::Handler(handler) => {
                if let Some(call) = interrupted.take() {
                    settle_call(registers, call, &action);
                }
                let is_stepped = report::pause_step(ctx, registers);
                if run_handler(ctx, registers, &action, handler, &info).is_err() {
                    force_segv(ctx, info.signal);
                } else if is_stepped {
                    report::handler_entered(ctx, registers);
                }
            }
        }
    }
    if let Some(call) = interrupted {
        restart(registers, call);
    }
    if let Some(saved) = signals.take_saved() {
        set_blocked(ctx.thread, saved);
    }
}

/// `rt_sigreturn(2)`: goes back to what the handler has interrupted.
pub fn sigreturn(ctx: &Ctx, registers: &mut UserContext) {
    ctx.local.set_call(NO_CALL);
    if frame::pop(ctx, registers).is_err() {
        force_segv(ctx, SIGSEGV as u8);
    }
}

fn act_by_default(ctx: &Ctx, info: &SigInfo, generation: u64) {
    let signal = info.signal;
    let core = match default_action(signal) {
        DefaultAction::Ignore => return,
        DefaultAction::Stop => {
            if !send::is_protected(ctx.process, info) {
                stop::begin(ctx.thread, signal, generation);
            }
            return;
        }
        DefaultAction::Terminate => false,
        // Nothing is dumped; the status says what Linux would say.
        DefaultAction::Core => {
            ctx.process.rlimits.soft(RLIMIT_CORE) > 0 && ctx.process.dumpable.load(Ordering::Relaxed)
        }
    };
    if !send::is_protected(ctx.process, info) {
        exit::exit_group(ctx.process, ExitStatus::Killed { signal, core });
    }
}

/// Puts the handler's frame on the stack, and blocks what is to be blocked while it runs.
fn run_handler(
    ctx: &Ctx,
    registers: &mut UserContext,
    action: &SigAction,
    handler: Vaddr,
    info: &SigInfo,
) -> Result<()> {
    let signals = &ctx.thread.signals;
    let blocked = signals.blocked();
    let saved = signals.take_saved();
    if action.has(SA_RESETHAND) {
        ctx.process.signals.update_action(info.signal, |action| action.set_default());
    }
    // The handler must not find the thread in a restartable sequence, and the frame must not lead back into it.
    if rseq::settle(ctx, registers).is_err() {
        force_segv(ctx, info.signal);
    }
    let mask = saved.unwrap_or(blocked);
    if let Err(error) = frame::push(ctx, registers, action, handler, info, mask) {
        set_blocked(ctx.thread, mask);
        return Err(error);
    }
    let own = if action.has(SA_NODEFER) { SigSet::EMPTY } else { SigSet::single(info.signal) };
    set_blocked(ctx.thread, blocked.union(action.mask).union(own));
    Ok(())
}

/// `SIGSEGV` for a frame that could not be written or read. If it is the handler of `SIGSEGV` itself that could not be run,
/// there is no second try.
fn force_segv(ctx: &Ctx, signal: u8) {
    if u32::from(signal) == SIGSEGV {
        ctx.process.signals.update_action(signal, |action| action.set_default());
    }
    force(ctx.thread, SigInfo::kernel(SIGSEGV as u8));
}

/// Decides, when a handler runs, whether the call it interrupted is restarted or ends with `EINTR`.
fn settle_call(registers: &mut UserContext, call: Interrupted, action: &SigAction) {
    let restarts = match call.restart {
        Restart::IfSaRestart => action.has(SA_RESTART),
        Restart::Always => true,
        Restart::IfNoHandler | Restart::Block => false,
    };
    if restarts {
        restart(registers, call);
    }
}

/// Has the thread make the call again.
fn restart(registers: &mut UserContext, call: Interrupted) {
    registers.set_rax(match call.restart {
        Restart::Block => __NR_restart_syscall as usize,
        _ => call.number,
    });
    registers.set_instruction_pointer(registers.instruction_pointer().wrapping_sub(SYSCALL_LEN));
}
