// SPDX-License-Identifier: MPL-2.0

//! Who traces whom: how that begins, is inherited, and ends.
//!
//! ```text
//! table: tracer's process ──► its threads' tracees ──► State ──► Link ──► tracer
//! ```
//!
//! Both directions change together, with the table locked. A tracee stays in its tracer's list when it has ended, until it is
//! waited for: so what is in the list is what a wait can be told of. The number of a thread that is told of so is nobody else's.

use linux_raw_sys::general::{CLONE_PTRACE, SIGCHLD, SIGKILL, SIGSTOP};

use super::{
    Flags, Link, Options, Phase, State, new_state,
    report::{Event, end_of},
    resume,
};
use crate::{
    prelude::*,
    process::{
        clone::CloneArgs,
        credentials::CapSet,
        exit_hooks,
        table::{self, Table},
    },
    signal::{self, Job, SigDetail, SigInfo},
    wait::wait_killable,
};

/// How a tracer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// `PTRACE_ATTACH`: the tracee is stopped.
    Stop,
    /// `PTRACE_SEIZE`: it goes on.
    Seize {
        /// Must be 0.
        addr: usize,
        /// The options.
        options: usize,
    },
}

/// Whether it is the first thread of its process, whose end is that of the process.
fn is_first(thread: &Thread) -> bool {
    thread.tid() == thread.process().pid()
}

fn link(
    table: &mut Table,
    tracee: &Arc<Thread>,
    link: Link,
    flags: Flags,
    spare: &mut Option<Box<State>>,
) -> Result<()> {
    let is_alive = table.thread(tracee.tid()).is_some_and(|thread| Arc::ptr_eq(thread, tracee));
    if !is_alive || tracee.tracing.is_traced() {
        return Err(EPERM);
    }
    link_new(table, tracee, link, flags, spare)
}

/// As [`link`], for a thread that may not be in the table yet.
fn link_new(
    table: &mut Table,
    tracee: &Arc<Thread>,
    link: Link,
    flags: Flags,
    spare: &mut Option<Box<State>>,
) -> Result<()> {
    let tracer_pid = link.tracer_pid;
    let mut guard = tracee.tracing.lock();
    if guard.is_none() {
        *guard = spare.take();
    }
    let state = guard.as_deref_mut().ok_or(ENOMEM)?;
    table.add_tracee(tracer_pid, tracee.clone())?;
    state.link = Some(link);
    tracee.tracing.set(Flags::TRACED.union(flags));
    if is_first(tracee) {
        tracee.process().tracer_pid.store(tracer_pid, Ordering::Relaxed);
    }
    Ok(())
}

/// Ends the tracing of `tracee`, which has still to be woken. Answers what the tracer had of it, to be dropped with no lock held.
pub fn unlink(table: &mut Table, tracee: &Arc<Thread>) -> Option<Arc<Thread>> {
    let (link, has_ended) = {
        let mut guard = tracee.tracing.lock();
        let state = guard.as_deref_mut()?;
        (state.link.take()?, state.end.is_some())
    };
    let all = Flags::TRACED | Flags::SEIZED | Flags::CALLS | Flags::EMULATE | Flags::STEP;
    tracee.tracing.clear(all);
    if is_first(tracee) {
        tracee.process().tracer_pid.store(0, Ordering::Relaxed);
    } else if has_ended {
        table.free_number(tracee.tid());
    }
    table.remove_tracee(link.tracer_pid, tracee)
}

/// As [`unlink`], for the first thread of process `pid`, if a thread of `tracer` traces it.
pub fn unlink_first(table: &mut Table, tracer: Pid, pid: Pid) -> Option<Arc<Thread>> {
    let tracee = table.tracees(tracer).iter().find(|tracee| tracee.tid() == pid)?.clone();
    // What is in the list is not the last of it: the caller has the answer.
    unlink(table, &tracee)
}

/// Lets a thread go on that has just lost its tracer: with `signal`, or with what it was just about to be told of.
fn release(tracee: &Thread, signal: Option<u8>) {
    tracee.signals.clear_job(Job::TRAP.union(Job::NOTIFY));
    {
        let mut guard = tracee.tracing.lock();
        if let Some(state) = guard.as_deref_mut()
            && let Phase::Stopped { code, is_told, .. } = state.phase
        {
            let is_delivery = state.info.is_some_and(|info| u32::from(info.signal) == code);
            let own = if !is_told && is_delivery { code as u8 } else { 0 };
            state.go_on(&tracee.tracing, Flags::empty(), signal.unwrap_or(own));
        }
    }
    signal::rejoin_stop(tracee);
    tracee.interrupt();
}

/// `PTRACE_TRACEME`: has the parent of the calling thread's process trace the thread.
///
/// # Errors
///
/// `EPERM` if it is traced, or the parent may not; `ENOMEM`.
pub fn trace_me(ctx: &Ctx) -> Result<()> {
    if ctx.thread.tracing.is_traced() {
        return Err(EPERM);
    }
    let mut spare = Some(new_state()?);
    let own = ctx.credentials();
    table::with(|table| {
        let Some(parent) = table.parent_of(ctx.process.pid()) else { return Ok(()) };
        let maker = table.thread(ctx.process.maker.load(Ordering::Relaxed));
        let of_parent = maker.filter(|thread| thread.process().pid() == parent.pid());
        // A parent that is about to end traces nobody.
        let Some(tracer) = of_parent.or_else(|| table.thread(parent.pid())) else { return Ok(()) };
        let theirs = tracer.credentials();
        if !theirs.permitted.contains(own.permitted) {
            theirs.require(CapSet::SYS_PTRACE)?;
        }
        let new = Link {
            tracer: Arc::downgrade(tracer),
            tracer_pid: parent.pid(),
            options: Options::empty(),
            is_capable: own.has(CapSet::SYS_PTRACE),
        };
        link(table, ctx.thread, new, Flags::empty(), &mut spare)
    })
}

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`. The caller has found that the calling thread may look into `tracee`.
///
/// # Errors
///
/// `EPERM` for a thread of the caller's own process, and for one that is traced or has ended; `ENOMEM`; `EINTR`; for
/// [`Attach::Seize`] `EIO` and `EPERM` about its options.
pub fn attach(ctx: &Ctx, tracee: &Arc<Thread>, how: Attach) -> Result<()> {
    let (options, flags) = match how {
        Attach::Stop => (Options::empty(), Flags::empty()),
        Attach::Seize { options, .. } => (resume::options_of(ctx, options)?, Flags::SEIZED),
    };
    let mut spare = Some(new_state()?);
    let new = Link {
        tracer: Arc::downgrade(ctx.thread),
        tracer_pid: ctx.process.pid(),
        options,
        is_capable: ctx.credentials().has(CapSet::SYS_PTRACE),
    };
    table::with(|table| link(table, tracee, new, flags, &mut spare))?;
    if how == Attach::Stop {
        signal::send_to_thread(tracee, SigInfo::kernel(SIGSTOP as u8));
    }
    // One that is stopped already stops for its tracer instead, before anything else is asked of it.
    if tracee.signals.is_parked() {
        tracee.signals.set_job(Job::TRAP);
        tracee.interrupt();
        let has_moved = || {
            let is_over = !tracee.signals.job().contains(Job::TRAP);
            (is_over || tracee.must_exit.load(Ordering::Relaxed)).then_some(())
        };
        // Only the end of the caller ends this early, and then nobody asks.
        let _ = wait_killable(&ctx.process.child_events, has_moved);
    }
    Ok(())
}

impl Attach {
    /// Checks what can be checked without a tracee.
    ///
    /// # Errors
    ///
    /// `EIO`.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Stop => Ok(()),
            Self::Seize { addr: 0, options } => {
                let known = u32::try_from(options).ok().and_then(Options::from_bits);
                known.map(|_| ()).ok_or(EIO)
            }
            Self::Seize { .. } => Err(EIO),
        }
    }
}

/// `PTRACE_DETACH`: lets a stopped tracee go on untraced, with the signal `data`.
///
/// # Errors
///
/// `EIO` if `data` is no signal; `ESRCH`.
pub fn detach(tracee: &Arc<Thread>, data: usize) -> Result<()> {
    let signal = resume::signal_of(data)?;
    let listed = table::with(|table| {
        super::with_stopped(tracee, |_| Ok(()))?;
        Ok::<_, Errno>(unlink(table, tracee))
    })?;
    release(tracee, Some(signal));
    drop(listed);
    Ok(())
}

/// What a thread that is being cloned will be traced with.
pub struct Inheritance {
    spare: Option<Box<State>>,
}

/// Prepares the tracing of a child of the calling thread by the thread's own tracer: if that wants to see `event`, or the clone
/// is to be traced anyway.
///
/// # Errors
///
/// `ENOMEM`.
pub fn inherit(ctx: &Ctx, args: &CloneArgs, event: Option<Event>) -> Result<Option<Inheritance>> {
    let is_asked_for = args.flags & u64::from(CLONE_PTRACE) != 0;
    if !ctx.thread.tracing.is_traced() || !(is_asked_for || event.is_some()) {
        return Ok(None);
    }
    Ok(Some(Inheritance { spare: Some(new_state()?) }))
}

impl Inheritance {
    /// Has the tracer of `parent`, if it still has one, trace `child`, which has not run yet and stops when it does.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn apply(&mut self, table: &mut Table, parent: &Thread, child: &Arc<Thread>) -> Result<()> {
        let new = {
            let guard = parent.tracing.lock();
            let Some(link) = guard.as_deref().and_then(|state| state.link.as_ref()) else { return Ok(()) };
            Link { tracer: link.tracer.clone(), ..*link }
        };
        let is_seized = parent.tracing.is_seized();
        let flags = if is_seized { Flags::SEIZED } else { Flags::empty() };
        link_new(table, child, new, flags, &mut self.spare)?;
        if is_seized {
            child.signals.set_job(Job::TRAP);
        } else {
            signal::preset(child, SIGSTOP as u8);
        }
        Ok(())
    }
}

/// Tells the tracer that `thread`, which has left its process, has ended. Of a first thread it hears when the process has.
pub fn tracee_exited(thread: &Arc<Thread>) {
    if !thread.tracing.is_traced() {
        return;
    }
    let status = end_of(thread);
    let tracer = table::with(|table| {
        let mut guard = thread.tracing.lock();
        let state = guard.as_deref_mut()?;
        let tracer = state.link.as_ref()?.tracer.upgrade();
        state.end = Some(status);
        state.fpu = Vec::new();
        if !is_first(thread) {
            table.keep_number(thread.tid());
        }
        tracer
    });
    let Some(tracer) = tracer else { return };
    if !is_first(thread) {
        let mut info = exit_hooks::child_info(thread.process(), SIGCHLD as u8, status);
        if let SigDetail::Child { pid, .. } = &mut info.detail {
            *pid = thread.tid();
        }
        signal::send_to_process(tracer.process(), info);
    }
    tracer.process().child_events.wake_all();
}

/// Lets all tracees of `thread` go, which has left the table, or ends them if that is what it has asked for.
pub fn tracer_exited(thread: &Arc<Thread>) {
    let process = thread.process();
    while process.tracee_count.load(Ordering::Relaxed) != 0 {
        let next = table::with(|table| {
            let is_own = |tracee: &&Arc<Thread>| {
                tracee.tracing.lock().as_deref().is_some_and(|state| state.is_traced_by(thread))
            };
            let tracee = table.tracees(process.pid()).iter().find(is_own)?.clone();
            let ends = tracee.tracing.options().contains(Options::EXIT_KILL);
            let listed = unlink(table, &tracee);
            let is_zombie = is_first(&tracee) && tracee.process().is_zombie();
            Some((tracee, listed, ends, is_zombie))
        });
        let Some((tracee, listed, ends, is_zombie)) = next else { return };
        if ends {
            signal::send_to_process(tracee.process(), SigInfo::kernel(SIGKILL as u8));
        }
        release(&tracee, None);
        if is_zombie {
            exit_hooks::zombie_released(tracee.process(), process);
        }
        drop((tracee, listed));
    }
}

/// Notes that `new` has taken over the number of its process's first thread, of which nobody is told any more.
pub fn first_thread_replaced(table: &mut Table, new: &Arc<Thread>) -> Option<Arc<Thread>> {
    let process = new.process();
    let tracer_pid = process.tracer_pid.load(Ordering::Relaxed);
    let is_old = |tracee: &&Arc<Thread>| {
        is_first(tracee) && Arc::ptr_eq(tracee.process(), process) && !Arc::ptr_eq(tracee, new)
    };
    let old = table.tracees(tracer_pid).iter().find(is_old).cloned();
    // What is in the list is not the last of it.
    let gone = old.as_ref().and_then(|old| unlink(table, old));
    let tracer_pid = {
        let guard = new.tracing.lock();
        guard.as_deref().and_then(|state| state.link.as_ref()).map_or(0, |link| link.tracer_pid)
    };
    process.tracer_pid.store(tracer_pid, Ordering::Relaxed);
    gone
}
