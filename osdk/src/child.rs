// SPDX-License-Identifier: MPL-2.0

//! Waiting for a child: with a time limit, and without leaving it behind.
//!
//! Whatever ends the wait (the child, the clock, a signal to this tool), the child is gone afterwards.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// The time was up, and it was ended.
    TimedOut,
    /// This tool was told to stop by that signal, and it was ended.
    Interrupted(i32),
}

impl Ended {
    /// Whether it ended by itself, with status 0.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Itself(status) if status.success())
    }
}

/// Who is to be ended along with the child.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The child alone, at once.
    Child,
    /// Its whole process group, which it must lead; it is asked before it is ended.
    Group,
}

/// The last signal that asked this tool to stop; 0 is none.
static STOP: LazyLock<Arc<AtomicUsize>> = LazyLock::new(|| {
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        // These signals can be caught; should the host refuse all the same, the default action stays.
        let _ = signal_hook::flag::register_usize(signal, stop.clone(), signal as usize);
    }
    stop
});

/// Takes over the signals that ask this tool to stop; call it before a child is started.
pub fn catch_signals() {
    LazyLock::force(&STOP);
}

/// Waits until the child ends, the limit passes, or this tool is told to stop.
pub fn wait(child: &mut Child, limit: Option<Duration>, reach: Reach) -> Result<Ended> {
    /// What a child gets between being asked to end and being ended.
    const GRACE: Duration = Duration::from_secs(2);
    const POLL: Duration = Duration::from_millis(10);

    let start = Instant::now();
    let mut verdict = None;
    let mut deadline = limit.map(|limit| start + limit);
    loop {
        let ended = child.try_wait().context("a child cannot be waited for")?;
        let signal = STOP.load(Ordering::Relaxed);
        if let Some(status) = ended {
            if reach == Reach::Group && verdict.is_some() {
                end(child, reach, Signal::KILL);
            }
            // A signal from the keyboard reaches both: it counts, whichever of them was faster.
            let interrupted = (signal != 0).then_some(Ended::Interrupted(signal as i32));
            return Ok(verdict.or(interrupted).unwrap_or(Ended::Itself(status)));
        }
        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match verdict {
            None if signal != 0 || late => {
                verdict = Some(if signal != 0 { Ended::Interrupted(signal as i32) } else { Ended::TimedOut });
                let first = if reach == Reach::Child { Signal::KILL } else { Signal::TERM };
                end(child, reach, first);
                deadline = Some(Instant::now() + GRACE);
            }
            Some(_) if late => end(child, reach, Signal::KILL),
            _ => {}
        }
        thread::sleep(POLL);
    }
}

/// Sends a signal; that the child may be gone by now is no error.
fn end(child: &Child, reach: Reach, signal: Signal) {
    let Some(pid) = Pid::from_raw(child.id() as i32) else { return };
    let _ = match reach {
        Reach::Child => kill_process(pid, signal),
        Reach::Group => kill_process_group(pid, signal),
    };
}

/// An exit status in a few words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}
