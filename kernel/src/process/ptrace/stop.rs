// SPDX-License-Identifier: MPL-2.0

//! A tracee's stop: from its registers to its tracer, and back.
//!
//! The tracee sleeps until its tracer lets it go on, or SIGKILL ends it. Only the stop before its end ([`Trap::is_last`]) lasts
//! beyond that: there is nothing left to end then, and the tracer is to see it.

use linux_raw_sys::{
    general::{CLD_STOPPED, CLD_TRAPPED, SIGCHLD, SIGTRAP},
    ptrace::PTRACE_EVENT_STOP,
};
use ostd::arch::cpu::context::UserContext;

use super::{Flags, Phase, Registers};
use crate::{
    prelude::*,
    signal::{self, Interrupted, Job, SigDetail, SigInfo},
    wait::Sleeper,
};

/// The trap flag in RFLAGS.
pub(super) const TRAP_FLAG: usize = 1 << 8;

/// Why a tracee stops.
pub(super) struct Trap {
    /// What a wait tells: the signal, with the event above bit 8.
    pub(super) code: u32,
    /// What the stop is about.
    pub(super) info: Option<SigInfo>,
    /// `PTRACE_GETEVENTMSG`.
    pub(super) message: u64,
    /// Whether it is for job control.
    pub(super) is_group_stop: bool,
    /// Whether the thread is about to end.
    pub(super) is_last: bool,
}

impl Trap {
    /// A stop that tells no more than `code`.
    pub(super) fn told_by(ctx: &Ctx, code: u32) -> Self {
        let detail = SigDetail::Sender { pid: ctx.thread.tid(), uid: ctx.credentials().uid };
        let info = SigInfo { signal: code as u8 & 0x7f, errno: 0, code: code as i32, detail };
        Self { code, info: Some(info), message: 0, is_group_stop: false, is_last: false }
    }
}

/// How a tracee goes on.
pub(super) struct Resumption {
    /// The signal that its tracer asks for; 0 for none.
    pub(super) signal: u8,
    /// What the stop was about, as the tracer has left it.
    pub(super) info: Option<SigInfo>,
}

/// Stops the calling thread until its tracer lets it go on. `None` if there is no tracer, or the thread is being ended.
pub(super) fn stop(
    ctx: &Ctx,
    context: &mut UserContext,
    call: &mut Option<Interrupted>,
    trap: Trap,
) -> Option<Resumption> {
    let thread = ctx.thread;
    let tracing = &thread.tracing;
    leave_step(thread, context);
    let registers = Registers::of(ctx, context, *call);
    let fpu = saved_fpu(ctx);
    let told_group = if trap.is_group_stop { signal::take_part(thread) } else { None };
    {
        let mut guard = tracing.lock();
        let state = guard.as_deref_mut().filter(|state| state.link.is_some());
        let is_ending = thread.must_exit.load(Ordering::Relaxed) && !trap.is_last;
        match state {
            Some(state) if !is_ending => {
                let is_notice = trap.code >> 8 == PTRACE_EVENT_STOP;
                thread.signals.clear_job(if is_notice { Job::TRAP.union(Job::NOTIFY) } else { Job::TRAP });
                state.registers = registers;
                state.fpu = fpu;
                state.is_fpu_changed = false;
                state.info = trap.info;
                state.message = trap.message;
                state.phase = Phase::Stopped { code: trap.code, is_told: false, is_listening: false };
                tracing.set(Flags::STOPPED);
            }
            _ => {
                drop(guard);
                // The parent hears of the process's stop all the same.
                told_group.into_iter().for_each(|signal| signal::tell_stop(thread.process(), signal));
                return None;
            }
        }
    }
    tell_tracer(thread, &trap, told_group);
    sleep(thread, trap.is_last);
    Some(go_on(ctx, context, call))
}

/// Takes the trap flag away that is there for single-stepping only.
pub(super) fn leave_step(thread: &Thread, context: &mut UserContext) -> bool {
    let was_own = thread.tracing.flags().contains(Flags::OWN_TRAP);
    if was_own {
        context.set_rflags(context.rflags() & !TRAP_FLAG);
        thread.tracing.clear(Flags::OWN_TRAP);
    }
    was_own
}

/// The calling thread's floating-point state; nothing if there is no memory for it.
fn saved_fpu(ctx: &Ctx) -> Vec<u8> {
    let mut bytes = ctx.thread.tracing.lock().as_deref_mut().map(|state| core::mem::take(&mut state.fpu));
    let mut bytes = bytes.take().unwrap_or_default();
    let len = ctx.local.with_fpu(|fpu| fpu.as_bytes().len());
    bytes.clear();
    if try_reserve(&mut bytes, len).is_ok() {
        ctx.local.with_fpu(|fpu| bytes.extend_from_slice(fpu.as_bytes()));
    }
    bytes
}

/// Tells the tracer of a stop, and the parent, if that is another, of the stop of the whole process.
fn tell_tracer(thread: &Arc<Thread>, trap: &Trap, told_group: Option<u8>) {
    let process = thread.process();
    let tracer = thread.tracing.tracer();
    let is_parent = |tracer: &Thread| tracer.process().pid() == process.parent_pid();
    if let Some(signal) = told_group
        && !tracer.as_deref().is_some_and(is_parent)
    {
        signal::tell_stop(process, signal);
    }
    let Some(tracer) = tracer else { return };
    let reader = tracer.process();
    if !reader.signals.ignores_child_stops() {
        let (code, status) = match told_group {
            _ if !trap.is_group_stop => (CLD_TRAPPED, trap.code & 0x7f),
            Some(signal) => (CLD_STOPPED, signal.into()),
            None => (CLD_STOPPED, trap.code & 0x7f),
        };
        let detail = SigDetail::Child {
            pid: thread.tid(),
            uid: thread.credentials().uid,
            status: status as i32,
            utime: 0,
            stime: 0,
        };
        let info = SigInfo { signal: SIGCHLD as u8, errno: 0, code: code as i32, detail };
        signal::send_to_process(reader, info);
    }
    reader.child_events.wake_all();
}

fn sleep(thread: &Arc<Thread>, is_last: bool) {
    let sleeper = Sleeper::new();
    let _interruptible = thread.interruptible(sleeper.waker());
    loop {
        let is_over = match thread.tracing.lock().as_deref().map(|state| state.phase) {
            Some(Phase::Stopped { is_listening, .. }) => {
                is_listening && thread.signals.job().contains(Job::NOTIFY)
            }
            _ => true,
        };
        if is_over || (thread.must_exit.load(Ordering::Relaxed) && !is_last) {
            return;
        }
        sleeper.sleep();
    }
}

/// Brings the registers back as the tracer has left them.
fn go_on(ctx: &Ctx, context: &mut UserContext, call: &mut Option<Interrupted>) -> Resumption {
    let tracing = &ctx.thread.tracing;
    let mut guard = tracing.lock();
    tracing.clear(Flags::STOPPED);
    let Some(state) = guard.as_deref_mut() else { return Resumption { signal: 0, info: None } };
    let signal = match core::mem::replace(&mut state.phase, Phase::Running) {
        Phase::Resumed { signal } => signal,
        _ => 0,
    };
    let (registers, info) = (state.registers, state.info.take());
    state.message = 0;
    let fpu = core::mem::take(&mut state.is_fpu_changed).then(|| core::mem::take(&mut state.fpu));
    drop(guard);

    ctx.local.set_watches_calls(tracing.watches_calls());
    *call = registers.load(ctx, context);
    if let Some(fpu) = fpu {
        ctx.local.with_fpu(|context| {
            let bytes = context.as_bytes_mut();
            if bytes.len() == fpu.len() {
                bytes.copy_from_slice(&fpu);
            }
        });
    }
    if tracing.flags().contains(Flags::STEP) && context.rflags() & TRAP_FLAG == 0 {
        context.set_rflags(context.rflags() | TRAP_FLAG);
        tracing.set(Flags::OWN_TRAP);
    }
    Resumption { signal, info }
}

/// The signal of a stop for `event`.
pub(super) const fn event_code(event: u32) -> u32 {
    SIGTRAP | event << 8
}
