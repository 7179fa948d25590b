// SPDX-License-Identifier: MPL-2.0

//! Waiting for children.

use linux_raw_sys::general::{
    __WALL, __WCLONE, SIGCHLD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED, WUNTRACED,
};

use crate::{
    prelude::*,
    process::{
        ExitStatus, Usage,
        credentials::Uid,
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
    /// It was continued.
    Continued,
}

impl ChildEvent {
    /// The status word of `wait4(2)`.
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Ended(status) => status.wait_status(),
            Self::Stopped(signal) => (i32::from(signal) << 8) | 0x7f,
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
        let (found, removed) = table::with(|table| scan(table, ctx, target, options))?;
        // The last holder of a process drops it, outside the lock.
        drop(removed);
        match found {
            Some(waited) => Ok(Some(Some(waited))),
            None if options.contains(WaitOptions::NO_HANG) => Ok(Some(None)),
            None => Ok(None),
        }
    })
}

type Scanned = (Option<Waited>, Option<table::Node>);

fn scan(table: &mut Table, ctx: &Ctx, target: &WaitTarget, options: WaitOptions) -> Result<Scanned> {
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
        let Some(event) = take_event(child, options) else { continue };
        let pid = *pid;
        let mut usage = child.usage();
        usage += child.times.lock().children;
        let waited = Waited { pid, uid: child.real_uid(), event, usage };
        let reap = matches!(event, ChildEvent::Ended(_)) && !options.contains(WaitOptions::NO_WAIT);
        let removed = if reap {
            parent.times.lock().children += usage;
            table.remove_process(pid)
        } else {
            None
        };
        return Ok((Some(waited), removed));
    }
    if any { Ok((None, None)) } else { Err(ECHILD) }
}

/// The thread of `parent` whose child it is: the one that made it, or the first thread if that is gone.
fn thread_of(table: &Table, parent: &Process, child: &Process) -> Tid {
    let maker = child.maker.load(Ordering::Relaxed);
    match table.thread(maker) {
        Some(thread) if thread.process().pid() == parent.pid() => maker,
        _ => parent.pid(),
    }
}

/// What `child` has to tell, of what the options ask for. Unless they say otherwise it will not tell it again.
fn take_event(child: &Process, options: WaitOptions) -> Option<ChildEvent> {
    let mut report = child.report.lock();
    let keep = options.contains(WaitOptions::NO_WAIT);
    if report.is_zombie {
        let status = report.exiting.unwrap_or(ExitStatus::Exited(0));
        return options.contains(WaitOptions::EXITED).then_some(ChildEvent::Ended(status));
    }
    if options.contains(WaitOptions::STOPPED)
        && let Some(signal) = report.stopped
    {
        if !keep {
            report.stopped = None;
        }
        return Some(ChildEvent::Stopped(signal));
    }
    if options.contains(WaitOptions::CONTINUED) && report.continued {
        report.continued = keep;
        return Some(ChildEvent::Continued);
    }
    None
}
