// SPDX-License-Identifier: MPL-2.0

//! Tracing: `ptrace(2)`, as in Linux 6.1.
//!
//! ```text
//! tracee ── reports: signal, call, event, group stop ──► STOPPED ── resumed, detached ──► goes on
//!             │                                            ▲ │
//!             │ SIGCHLD, and the end of a wait             │ └ ended by SIGKILL, whatever the tracer does
//!             ▼                                            │
//! tracer ── wait4 ──► requests: registers, memory, signal ─┘
//! ```
//!
//! - A tracer is a thread, and so is a tracee. [`link`] says who traces whom.
//! - A tracee stops itself, in [`stop`], where it has its registers at hand. They lie in its [`State`] until it goes on: so a request
//!   never touches a thread that runs. [`report`] holds the reasons to stop.
//! - [`resume`] lets it go on; [`registers`] and [`mod@info`] are what a tracer can ask and change.
//!
//! Locks: that of the process table, then that of a [`Tracing`]. Signals are sent with neither held.
//!
//! What costs a thread that nobody traces: one look at a flag in each system call.

pub mod info;
mod link;
pub mod registers;
pub mod report;
pub mod resume;
mod stop;

use ostd::sync::SpinLockGuard;
use vmar_ostd::reserve;

pub use self::{
    link::{
        Attach, Inheritance, attach, detach, first_thread_replaced, inherit, trace_me, tracee_exited,
        tracer_exited, unlink, unlink_first,
    },
    registers::Registers,
};
use crate::{prelude::*, process::ExitStatus, signal::SigInfo};

bitflags::bitflags! {
    /// What is to be looked at without a lock.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// It has a tracer.
        const TRACED = 1 << 0;
        /// The tracer used `PTRACE_SEIZE`.
        const SEIZED = 1 << 1;
        /// System calls are reported (`PTRACE_SYSCALL`).
        const CALLS = 1 << 2;
        /// System calls are reported and not made (`PTRACE_SYSEMU`).
        const EMULATE = 1 << 3;
        /// It runs one instruction at a time.
        const STEP = 1 << 4;
        /// It is in a stop.
        const STOPPED = 1 << 5;
        /// The trap flag in its registers is there for [`Flags::STEP`], not by the program's own doing.
        const OWN_TRAP = 1 << 6;
    }

    /// `PTRACE_O_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Options: u32 {
        /// Stops for system calls can be told from others.
        const CALLS_TOLD = 1 << 0;
        /// Stop after fork.
        const FORK = 1 << 1;
        /// Stop after vfork.
        const VFORK = 1 << 2;
        /// Stop after clone.
        const CLONE = 1 << 3;
        /// Stop after exec.
        const EXEC = 1 << 4;
        /// Stop when a vfork child lets its parent go on.
        const VFORK_DONE = 1 << 5;
        /// Stop before the end.
        const EXIT = 1 << 6;
        /// Stop for seccomp's `SECCOMP_RET_TRACE`, which never is.
        const SECCOMP = 1 << 7;
        /// The tracee ends with its tracer.
        const EXIT_KILL = 1 << 20;
        /// Seccomp's filters, of which there are none, are not asked.
        const SUSPEND_SECCOMP = 1 << 21;
    }
}

/// The tracing of a thread, by whomever.
pub struct Tracing {
    flags: AtomicU32,
    /// There from when the thread is traced for the first time.
    state: SpinLock<Option<Box<State>>, LocalIrqDisabled>,
}

/// What is known of a thread that is or was traced.
pub struct State {
    link: Option<Link>,
    phase: Phase,
    /// While it is stopped: its registers.
    pub registers: Registers,
    /// While it is stopped: its floating-point state, empty if there was no memory for it.
    pub fpu: Vec<u8>,
    is_fpu_changed: bool,
    /// While it is stopped: what the stop is about.
    pub info: Option<SigInfo>,
    /// `PTRACE_GETEVENTMSG`.
    pub message: u64,
    /// How the thread has ended, once it has.
    end: Option<ExitStatus>,
    /// With what it ends, once it has called `exit(2)`.
    exit: Option<ExitStatus>,
}

/// Who traces, and how.
struct Link {
    tracer: Weak<Thread>,
    /// The number of the tracer's process.
    tracer_pid: Pid,
    options: Options,
    /// Whether the tracer may trace programs with more rights than it has itself.
    is_capable: bool,
}

/// Where a tracee is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It runs, or sleeps on its own account.
    Running,
    /// It waits for its tracer. `code` is what a wait tells: the signal, with the event above bit 8.
    Stopped { code: u32, is_told: bool, is_listening: bool },
    /// It is about to go on with this signal, 0 for none.
    Resumed { signal: u8 },
}

impl State {
    fn new() -> Self {
        Self {
            link: None,
            phase: Phase::Running,
            registers: Registers::default(),
            fpu: Vec::new(),
            is_fpu_changed: false,
            info: None,
            message: 0,
            end: None,
            exit: None,
        }
    }

    fn is_traced_by(&self, tracer: &Arc<Thread>) -> bool {
        self.link.as_ref().is_some_and(|link| core::ptr::eq(link.tracer.as_ptr(), Arc::as_ptr(tracer)))
    }

    /// Whether a tracer can ask things of it.
    fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Stopped { is_listening: false, .. })
    }

    /// Notes that the floating-point state was changed.
    pub fn change_fpu(&mut self) -> &mut [u8] {
        self.is_fpu_changed = true;
        &mut self.fpu
    }
}

/// What the state of a thread is made in, before any lock is taken.
///
/// # Errors
///
/// `ENOMEM`.
fn new_state() -> Result<Box<State>> {
    let _promise = reserve::promise_kernel_frames(1)?;
    Ok(Box::new(State::new()))
}

type StateGuard<'a> = SpinLockGuard<'a, Option<Box<State>>, LocalIrqDisabled>;

impl Tracing {
    /// Nobody traces.
    pub const fn new() -> Self {
        Self { flags: AtomicU32::new(0), state: SpinLock::new(None) }
    }

    /// Its flags.
    pub fn flags(&self) -> Flags {
        Flags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    fn set(&self, flags: Flags) {
        self.flags.fetch_or(flags.bits(), Ordering::Relaxed);
    }

    fn clear(&self, flags: Flags) {
        self.flags.fetch_and(!flags.bits(), Ordering::Relaxed);
    }

    /// Whether somebody traces the thread.
    pub fn is_traced(&self) -> bool {
        self.flags().contains(Flags::TRACED)
    }

    /// Whether the thread waits for its tracer.
    pub fn is_stopped(&self) -> bool {
        self.flags().contains(Flags::STOPPED)
    }

    /// Whether somebody traces the thread who has used `PTRACE_SEIZE`.
    pub fn is_seized(&self) -> bool {
        self.flags().contains(Flags::SEIZED)
    }

    /// Whether the thread has more to do in a system call than to make it.
    fn watches_calls(&self) -> bool {
        self.flags().intersects(Flags::CALLS.union(Flags::EMULATE).union(Flags::STEP))
    }

    fn lock(&self) -> StateGuard<'_> {
        self.state.lock()
    }

    /// The thread that traces, if one does.
    pub fn tracer(&self) -> Option<Arc<Thread>> {
        if !self.is_traced() {
            return None;
        }
        self.lock().as_ref()?.link.as_ref()?.tracer.upgrade()
    }

    /// Whether a tracer may not see the thread gain rights by running a program.
    pub fn forbids_gain(&self) -> bool {
        let is_capable = |state: &State| state.link.as_ref().is_none_or(|link| link.is_capable);
        self.is_traced() && !self.lock().as_deref().is_none_or(is_capable)
    }

    fn options(&self) -> Options {
        let options = |state: &State| state.link.as_ref().map(|link| link.options);
        self.lock().as_deref().and_then(options).unwrap_or(Options::empty())
    }

    /// What a wait of the tracer can be told of the stop that the thread is in. Unless the wait leaves it, it is not told again.
    pub fn take_report(&self, keep: bool) -> Option<u32> {
        let mut guard = self.lock();
        match guard.as_deref_mut()?.phase {
            Phase::Stopped { code, ref mut is_told, is_listening: false } if !*is_told => {
                *is_told = !keep;
                Some(code)
            }
            _ => None,
        }
    }

    /// How the thread has ended, if it has.
    pub fn end(&self) -> Option<ExitStatus> {
        self.lock().as_ref()?.end
    }

    /// Notes with what the thread ends, if somebody may ask.
    pub fn note_exit(&self, status: ExitStatus) {
        if self.is_traced()
            && let Some(state) = self.lock().as_deref_mut()
        {
            state.exit = Some(status);
        }
    }
}

impl Default for Tracing {
    fn default() -> Self {
        Self::new()
    }
}

/// The tracee of the calling thread with the number `tid`. To be found it must be stopped, unless `running` is fine, too.
///
/// # Errors
///
/// `ESRCH`.
pub fn find(ctx: &Ctx, tid: Tid, at_rest: AtRest) -> Result<Arc<Thread>> {
    let thread = super::table::thread(tid).ok_or(ESRCH)?;
    {
        let guard = thread.tracing.lock();
        let state = guard.as_deref().filter(|state| state.is_traced_by(ctx.thread)).ok_or(ESRCH)?;
        if at_rest == AtRest::Yes && !state.is_at_rest() {
            return Err(ESRCH);
        }
    }
    Ok(thread)
}

/// Whether a request is for a tracee that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtRest {
    /// It is.
    Yes,
    /// It makes no difference.
    Any,
}

/// Runs `f` on what is known of `tracee`, which is stopped. `f` must not touch user memory.
///
/// # Errors
///
/// `ESRCH` if it has gone on meanwhile, which only its end can make it; what `f` says.
pub fn with_stopped<R>(tracee: &Thread, f: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
    let mut guard = tracee.tracing.lock();
    f(guard.as_deref_mut().filter(|state| state.is_at_rest()).ok_or(ESRCH)?)
}
