// SPDX-License-Identifier: MPL-2.0

//! Waiting for children, and for what the caller's threads trace.
//!
//! Of a child that is traced, only the tracer sees the end, until it has waited for that or lets the child go. What a tracee stops for
//! is told whatever the options are.

use linux_raw_sys::general::{
    __WALL, __WCLONE, SIGCHLD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED, WUNTRACED,
};

use crate::{
    prelude::*,
    process::{
        ExitStatus, Usage,
        credentials::Uid,
        exit_hooks::zombie_released,
        ptrace,
        table::{self, Table},
    },
};

bitflags::bitflags! {
    /// The options of `wait4(2)` and `waitid(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitOptions: u32 {
        /// Do not wait.
        const NO_HANG = WNOHANG;
        /// Tell of stopped children (`WUNTRACED`, `WSTOPPED`).
        const STOPPED = WSTOPPED | WUNTRACED;
        /// Tell of children that have ended.
        const EXITED = WEXITED;
        /// Tell of continued children.
        const CONTINUED = WCONTINUED;
        /// Leave what is told to be told again.
        const NO_WAIT = WNOWAIT;
        /// Only children that the calling thread itself has made (`__WNOTHREAD`).
        const NO_THREAD = 0x2000_0000;
        /// All children, whatever their exit signal (`__WALL`).
        const ALL = __WALL;
        /// Only children whose exit signal is not `SIGCHLD` (`__WCLONE`).
        const CLONE = __WCLONE;
    }
}

/// Which children to wait for.
#[derive(Clone, Debug)]
pub enum WaitTarget {
    /// Any.
    Any,
    /// The one with this pid.
    Pid(Pid),
    /// Those in this process group.
    Group(Pid),
}

/// What a child has to tell.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// The child.
    pub pid: Pid,
    /// Its real user.
    pub uid: Uid,
    /// What happened.
    pub event: ChildEvent,
    /// What it and its own waited-for children have used.
    pub usage: Usage,
}

/// What can happen to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It has ended.
    Ended(ExitStatus),
    /// It was stopped by this signal.
    Stopped(u8),
    /// It waits for its tracer, which is the caller's process: the signal, with the event above bit 8.
    Trapped(u32),
    /// It was continued.
    Continued,
}

impl ChildEvent {
    /// The status word of `wait4(2)`.
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Ended(status) => status.wait_status(),
            Self::Stopped(signal) => (i32::from(signal) << 8) | 0x7f,
            Self::Trapped(code) => (code << 8) as i32 | 0x7f,
            Self::Continued => 0xffff,
        }
    }
}

/// Waits for a child of the caller's process. `None` if there is nothing to tell and the options say not to wait.
///
/// # Errors
///
/// `ECHILD` if no child can ever match; `ERESTARTSYS` if interrupted.
pub fn wait_for_child(ctx: &Ctx, target: &WaitTarget, options: WaitOptions) -> Result<Option<Waited>> {
    ctx.process.child_events.wait_interruptible_try(None, || {
        let Scanned { found, removed, released } = table::with(|table| scan(table, ctx, target, options))?;
        // The last holder of a process drops it, outside the lock.
        drop(removed);
        if let Some(tracee) = released {
            zombie_released(tracee.process(), ctx.process);
        }
        match found {
            Some(waited) => Ok(Some(Some(waited))),
            None if options.contains(WaitOptions::NO_HANG) => Ok(Some(None)),
            None => Ok(None),
        }
    })
}

/// What a look at all children has found.
#[derive(Default)]
struct Scanned {
    found: Option<Waited>,
    /// What is to be dropped with no lock held.
    removed: (Option<table::Node>, Option<Arc<Thread>>),
    /// A tracee that has ended, whose parent is to be told now.
    released: Option<Arc<Thread>>,
}

fn scan(table: &mut Table, ctx: &Ctx, target: &WaitTarget, options: WaitOptions) -> Result<Scanned> {
    let children = scan_children(table, ctx, target, options);
    if matches!(children, Ok(Scanned { found: Some(_), .. }))
        || ctx.process.tracee_count.load(Ordering::Relaxed) == 0
    {
        return children;
    }
    let tracees = scan_tracees(table, ctx, target, options);
    if tracees.is_ok() { tracees } else { children }
}

/// Looks at those that the caller's threads trace. `ECHILD` if none matches.
fn scan_tracees(table: &mut Table, ctx: &Ctx, target: &WaitTarget, options: WaitOptions) -> Result<Scanned> {
    let own = ctx.process.pid();
    let mut any = false;
    let mut told = None;
    for tracee in table.tracees(own) {
        let process = tracee.process();
        let matches = match target {
            WaitTarget::Any => true,
            WaitTarget::Pid(wanted) => *wanted == tracee.tid(),
            WaitTarget::Group(group) => table.node(process.pid()).is_some_and(|node| node.group == *group),
        };
        let is_own = || tracee.tracing.tracer().is_some_and(|tracer| Arc::ptr_eq(&tracer, ctx.thread));
        if !matches || (options.contains(WaitOptions::NO_THREAD) && !is_own()) {
            continue;
        }
        any = true;
        if let Some(event) = tracee_event(tracee, options) {
            told = Some((tracee.clone(), event));
            break;
        }
    }
    let Some((tracee, event)) = told else {
        return if any { Ok(Scanned::default()) } else { Err(ECHILD) };
    };
    let process = tracee.process();
    let mut usage = process.usage();
    usage += process.times.lock().children;
    let waited = Waited { pid: tracee.tid(), uid: process.real_uid(), event, usage };
    let mut scanned = Scanned { found: Some(waited), ..Scanned::default() };
    if !matches!(event, ChildEvent::Ended(_)) || options.contains(WaitOptions::NO_WAIT) {
        return Ok(scanned);
    }
    scanned.removed.1 = ptrace::unlink(table, &tracee);
    if tracee.tid() == process.pid() {
        if process.parent_pid() == own {
            ctx.process.times.lock().children += usage;
            scanned.removed.0 = table.remove_process(tracee.tid());
        } else {
            scanned.released = Some(tracee);
        }
    }
    Ok(scanned)
}

/// What a tracee has to tell its tracer.
fn tracee_event(tracee: &Thread, options: WaitOptions) -> Option<ChildEvent> {
    let process = tracee.process();
    let keep = options.contains(WaitOptions::NO_WAIT);
    let end = match tracee.tid() == process.pid() {
        // The first thread ends with its process.
        true => process.exit_status().filter(|_| process.is_zombie()),
        false => tracee.tracing.end(),
    };
    if end.is_some() {
        return end.filter(|_| options.contains(WaitOptions::EXITED)).map(ChildEvent::Ended);
    }
    if let Some(code) = tracee.tracing.take_report(keep) {
        return Some(ChildEvent::Trapped(code));
    }
    take_continued(process, options)
}

fn take_continued(process: &Process, options: WaitOptions) -> Option<ChildEvent> {
    let mut report = process.report.lock();
    if !options.contains(WaitOptions::CONTINUED) || !report.continued {
        return None;
    }
    report.continued = options.contains(WaitOptions::NO_WAIT);
    Some(ChildEvent::Continued)
}

fn scan_children(table: &mut Table, ctx: &Ctx, target: &WaitTarget, options: WaitOptions) -> Result<Scanned> {
    let parent = ctx.process;
    let children = &table.node(parent.pid()).ok_or(ECHILD)?.children;
    let candidates = match target {
        WaitTarget::Pid(wanted) => children.range(wanted..=wanted),
        WaitTarget::Any | WaitTarget::Group(_) => children.range(..),
    };
    let mut any = false;
    for (pid, child) in candidates {
        let matches = match target {
            WaitTarget::Any | WaitTarget::Pid(_) => true,
            WaitTarget::Group(group) => table.node(*pid).is_some_and(|node| node.group == *group),
        };
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != SIGCHLD;
        let right_kind =
            options.contains(WaitOptions::ALL) || is_clone == options.contains(WaitOptions::CLONE);
        let own =
            !options.contains(WaitOptions::NO_THREAD) || thread_of(table, parent, child) == ctx.thread.tid();
        if !matches || !right_kind || !own {
            continue;
        }
        any = true;
        let Some(event) = take_event(child, parent, options) else { continue };
        let pid = *pid;
        let mut usage = child.usage();
        usage += child.times.lock().children;
        let waited = Waited { pid, uid: child.real_uid(), event, usage };
        let reap = matches!(event, ChildEvent::Ended(_)) && !options.contains(WaitOptions::NO_WAIT);
        let mut scanned = Scanned { found: Some(waited), ..Scanned::default() };
        if reap {
            parent.times.lock().children += usage;
            scanned.removed = (table.remove_process(pid), ptrace::unlink_first(table, parent.pid(), pid));
        }
        return Ok(scanned);
    }
    if any { Ok(Scanned::default()) } else { Err(ECHILD) }
}

/// The thread of `parent` whose child it is: the one that made it, or the first thread if that is gone.
fn thread_of(table: &Table, parent: &Process, child: &Process) -> Tid {
    let maker = child.maker.load(Ordering::Relaxed);
    match table.thread(maker) {
        Some(thread) if thread.process().pid() == parent.pid() => maker,
        _ => parent.pid(),
    }
}

/// What `child` has to tell `parent`, of what the options ask for. Unless they say otherwise it will not tell it again.
fn take_event(child: &Process, parent: &Process, options: WaitOptions) -> Option<ChildEvent> {
    let tracer = child.tracer_pid.load(Ordering::Relaxed);
    let mut report = child.report.lock();
    let keep = options.contains(WaitOptions::NO_WAIT);
    if report.is_zombie {
        if tracer != 0 && tracer != parent.pid() {
            return None;
        }
        let status = report.exiting.unwrap_or(ExitStatus::Exited(0));
        return options.contains(WaitOptions::EXITED).then_some(ChildEvent::Ended(status));
    }
    if options.contains(WaitOptions::STOPPED)
        && tracer != parent.pid()
        && let Some(signal) = report.stopped
    {
        if !keep {
            report.stopped = None;
        }
        return Some(ChildEvent::Stopped(signal));
    }
    drop(report);
    take_continued(child, options)
}
