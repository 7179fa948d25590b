// SPDX-License-Identifier: MPL-2.0

//! What a tracee stops for.
//!
//! ```text
//!   call ─► enters ─► the call itself ─► events (fork, exec) ─► exits ─► group stop ─► signal ─► user mode
//! ```

use linux_raw_sys::{
    general::{CLONE_UNTRACED, CLONE_VFORK, SIGCHLD, SIGSTOP, SIGTRAP, TRAP_BRKPT},
    ptrace::{
        PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_EXIT, PTRACE_EVENT_FORK, PTRACE_EVENT_STOP,
        PTRACE_EVENT_VFORK, PTRACE_EVENT_VFORK_DONE, PTRACE_EVENTMSG_SYSCALL_ENTRY,
        PTRACE_EVENTMSG_SYSCALL_EXIT,
    },
};
use ostd::{arch::cpu::context::UserContext, user::UserContextApi};

use super::{
    Flags, Options,
    stop::{Resumption, TRAP_FLAG, Trap, event_code, leave_step, stop},
};
use crate::{
    prelude::*,
    process::{ExitStatus, clone::CloneArgs},
    signal::{self, Interrupted, Job, SigInfo},
};

/// Marks a stop for a system call, with [`Options::CALLS_TOLD`].
pub(super) const CALL_MARK: u32 = 0x80;

/// What happens to a tracee that its tracer may want to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has made a child.
    Fork,
    /// It has made a child that it waits for.
    Vfork,
    /// It has made a thread, or a child with another signal than `SIGCHLD`.
    Clone,
    /// It has become another program.
    Exec,
    /// The child that it waited for lets it go on.
    VforkDone,
    /// It is about to end.
    Exit,
}

impl Event {
    fn option(self) -> Options {
        match self {
            Self::Fork => Options::FORK,
            Self::Vfork => Options::VFORK,
            Self::Clone => Options::CLONE,
            Self::Exec => Options::EXEC,
            Self::VforkDone => Options::VFORK_DONE,
            Self::Exit => Options::EXIT,
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Fork => PTRACE_EVENT_FORK,
            Self::Vfork => PTRACE_EVENT_VFORK,
            Self::Clone => PTRACE_EVENT_CLONE,
            Self::Exec => PTRACE_EVENT_EXEC,
            Self::VforkDone => PTRACE_EVENT_VFORK_DONE,
            Self::Exit => PTRACE_EVENT_EXIT,
        }
    }

    /// The event that a clone is, if the tracer of the calling thread wants to see it.
    pub fn of_clone(thread: &Thread, args: &CloneArgs) -> Option<Self> {
        if !thread.tracing.is_traced() || args.flags & u64::from(CLONE_UNTRACED) != 0 {
            return None;
        }
        let event = match () {
            () if args.flags & u64::from(CLONE_VFORK) != 0 => Self::Vfork,
            () if args.exit_signal != SIGCHLD => Self::Clone,
            () => Self::Fork,
        };
        thread.tracing.options().contains(event.option()).then_some(event)
    }
}

/// Stops for `event`, if the tracer wants to see it. Answers whether it did.
fn event(ctx: &Ctx, context: &mut UserContext, event: Event, message: u64) -> bool {
    if !ctx.thread.tracing.options().contains(event.option()) {
        return false;
    }
    let trap =
        Trap { message, is_last: event == Event::Exit, ..Trap::told_by(ctx, event_code(event.number())) };
    let _ = stop(ctx, context, &mut None, trap);
    if event != Event::Exit {
        ctx.local.set_exit_due(ctx.thread);
    }
    true
}

/// Stops for something that happens within a call, if the tracer wants to see it. The call has no result yet.
pub fn call_event(ctx: &Ctx, context: &mut UserContext, what: Event, message: u64) {
    if ctx.thread.tracing.is_traced() {
        context.set_rax(ENOSYS.to_return_value());
        event(ctx, context, what, message);
    }
}

/// Tells that the calling thread has become another program. Without [`Options::EXEC`] that is by `SIGTRAP`, as it was before
/// there were events.
pub fn executed(ctx: &Ctx, context: &mut UserContext, old_tid: Tid) {
    let flags = ctx.thread.tracing.flags();
    if !flags.contains(Flags::TRACED) {
        return;
    }
    let result = context.rax();
    context.set_rax(ENOSYS.to_return_value());
    let is_seen = event(ctx, context, Event::Exec, old_tid.into());
    context.set_rax(result);
    if is_seen {
        return;
    }
    if !flags.contains(Flags::SEIZED) {
        let info = SigInfo::user(SIGTRAP as u8, ctx.process.pid(), ctx.credentials().uid);
        signal::send_to_thread(ctx.thread, info);
    }
}

/// Tells that the calling thread is about to end.
pub fn exits(ctx: &Ctx, context: &mut UserContext) {
    let status = end_of(ctx.thread);
    event(ctx, context, Event::Exit, status.wait_status() as u64);
}

/// How a thread that must end does: as its process, or by its own call of `exit(2)`, or for the program of another thread.
pub(super) fn end_of(thread: &Thread) -> ExitStatus {
    let own = || thread.tracing.lock().as_deref().and_then(|state| state.exit);
    let killed = ExitStatus::Killed { signal: linux_raw_sys::general::SIGKILL as u8, core: false };
    thread.process().exit_status().or_else(own).unwrap_or(killed)
}

/// Reports that a call begins. Answers its number, which the tracer may have changed; `None` if it is not to be made.
pub fn call_enters(ctx: &Ctx, context: &mut UserContext) -> Option<usize> {
    let tracing = &ctx.thread.tracing;
    let flags = tracing.flags();
    ctx.local.set_watches_calls(tracing.watches_calls());
    if flags.intersects(Flags::CALLS.union(Flags::EMULATE)) {
        context.set_rax(ENOSYS.to_return_value());
        report_call(ctx, context, &mut None, PTRACE_EVENTMSG_SYSCALL_ENTRY);
        if flags.contains(Flags::EMULATE) || ctx.thread.must_exit.load(Ordering::Relaxed) {
            return None;
        }
    }
    let number = ctx.local.call();
    (number as i32 != -1).then_some(number)
}

/// Reports that a call has ended.
pub fn call_exits(ctx: &Ctx, context: &mut UserContext, call: &mut Option<Interrupted>) {
    let flags = ctx.thread.tracing.flags();
    if flags.contains(Flags::EMULATE) {
        return;
    }
    if flags.contains(Flags::STEP) {
        // The CPU traps only behind the instruction after the call.
        let at = context.instruction_pointer();
        signal::force(ctx.thread, SigInfo::fault(SIGTRAP as u8, TRAP_BRKPT as i32, at));
    } else if flags.contains(Flags::CALLS) {
        report_call(ctx, context, call, PTRACE_EVENTMSG_SYSCALL_EXIT);
    }
}

fn report_call(ctx: &Ctx, context: &mut UserContext, call: &mut Option<Interrupted>, message: u32) {
    let is_told = ctx.thread.tracing.options().contains(Options::CALLS_TOLD);
    let code = SIGTRAP | if is_told { CALL_MARK } else { 0 };
    let trap = Trap { message: message.into(), ..Trap::told_by(ctx, code) };
    if let Some(Resumption { signal: signal @ 1.., .. }) = stop(ctx, context, call, trap) {
        signal::send_to_thread(ctx.thread, SigInfo::kernel(signal));
    }
}

/// Reports a signal before it is delivered. Answers the signal that is to be delivered in its place, if one is.
pub fn delivers(
    ctx: &Ctx,
    context: &mut UserContext,
    call: &mut Option<Interrupted>,
    info: SigInfo,
) -> Option<SigInfo> {
    let tracer = ctx.thread.tracing.tracer();
    let trap =
        Trap { code: info.signal.into(), info: Some(info), message: 0, is_group_stop: false, is_last: false };
    let Some(resumption) = stop(ctx, context, call, trap) else { return Some(info) };
    let signal = resumption.signal;
    if signal == 0 {
        return None;
    }
    let info = match resumption.info {
        Some(info) if info.signal == signal => info,
        _ => {
            let (pid, uid) =
                tracer.map_or((0, 0), |tracer| (tracer.process().pid(), tracer.credentials().uid));
            SigInfo::user(signal, pid, uid)
        }
    };
    if u32::from(signal) == linux_raw_sys::general::SIGKILL || ctx.thread.signals.blocked().contains(signal) {
        signal::send_to_thread(ctx.thread, info);
        return None;
    }
    Some(info)
}

/// Stops for job control, or because the tracer has asked for it.
pub fn job_stop(ctx: &Ctx, context: &mut UserContext, call: &mut Option<Interrupted>) {
    let is_seized = ctx.thread.tracing.is_seized();
    let default = if is_seized { SIGTRAP } else { SIGSTOP };
    let signal = signal::stop_signal(ctx.process).map_or(default, u32::from);
    let trap = if is_seized {
        Trap { is_group_stop: true, ..Trap::told_by(ctx, signal | PTRACE_EVENT_STOP << 8) }
    } else {
        Trap { code: signal, info: None, message: 0, is_group_stop: true, is_last: false }
    };
    if stop(ctx, context, call, trap).is_none() {
        ctx.thread.signals.clear_job(Job::TRAP.union(Job::NOTIFY));
    }
}

/// Takes single-stepping out of the registers, which a handler's frame is to hold. Answers whether it was there.
pub fn pause_step(ctx: &Ctx, context: &mut UserContext) -> bool {
    leave_step(ctx.thread, context)
}

/// Takes single-stepping of `thread` out of registers that its child begins with.
pub fn clear_step(thread: &Thread, context: &mut UserContext) {
    if thread.tracing.flags().contains(Flags::OWN_TRAP) {
        context.set_rflags(context.rflags() & !TRAP_FLAG);
    }
}

/// Reports the first instruction of a handler to a tracer that goes step by step.
pub fn handler_entered(ctx: &Ctx, context: &mut UserContext) {
    let _ = stop(ctx, context, &mut None, Trap::told_by(ctx, SIGTRAP));
}
