// SPDX-License-Identifier: MPL-2.0

//! The signal state of processes and threads.
//!
//! ```text
//! ProcessSignals                                 ThreadSignals
//!   pending   for any thread of the process        pending   for this thread alone
//!   actions   shared by CLONE_SIGHAND              blocked   written by the thread itself only
//!   stop      the job-control stop                 saved     the mask to go back to (sigsuspend, ppoll)
//! ```

use super::{
    SigAction, SigInfo, SigSet,
    action::ActionTable,
    pending::Pending,
    stack::AltStack,
    stop::{Job, StopState},
};
use crate::{prelude::*, wait::WaitQueue};

/// Signals of a process: what is pending for it, and its dispositions.
pub struct ProcessSignals {
    pub(super) pending: Pending,
    actions: SpinLock<Arc<ActionTable>, LocalIrqDisabled>,
    pub(super) stop: StopState,
    pub(super) arrivals: Arc<WaitQueue>,
}

impl ProcessSignals {
    /// Default dispositions, nothing pending.
    pub fn new() -> Self {
        Self::with_actions(Arc::new(ActionTable::new()))
    }

    fn with_actions(actions: Arc<ActionTable>) -> Self {
        Self {
            pending: Pending::new(),
            actions: SpinLock::new(actions),
            stop: StopState::new(),
            arrivals: Arc::new(WaitQueue::new()),
        }
    }

    /// Those of a child: the same dispositions, or with `share` (`CLONE_SIGHAND`) the very same table.
    pub fn clone_for_child(&self, share: bool) -> Self {
        let actions = self.actions();
        Self::with_actions(if share { actions } else { Arc::new(actions.copy()) })
    }

    /// What exec does: handlers become the default, what is ignored stays ignored, a shared table is no longer shared.
    pub fn reset_for_exec(&self) {
        let fresh = Arc::new(self.actions().copy_for_exec());
        let old = core::mem::replace(&mut *self.actions.lock(), fresh);
        drop(old);
    }

    /// What the process does on `signal`.
    pub fn action(&self, signal: u8) -> SigAction {
        self.actions().get(signal)
    }

    /// Changes what the process does on `signal`, and answers what it did.
    pub(super) fn update_action(&self, signal: u8, change: impl FnOnce(&mut SigAction)) -> SigAction {
        self.actions().update(signal, change)
    }

    fn actions(&self) -> Arc<ActionTable> {
        self.actions.lock().clone()
    }

    /// What is pending for the process as a whole.
    pub fn pending(&self) -> SigSet {
        self.pending.set()
    }

    /// What is pending for the process as a whole, by its place in the queue.
    pub fn nth_pending(&self, index: u64) -> Option<SigInfo> {
        self.pending.nth(index)
    }

    /// Woken when a signal arrives for the process or one of its threads.
    pub fn arrivals(&self) -> &Arc<WaitQueue> {
        &self.arrivals
    }

    /// Whether children that end are not to become zombies (`SIGCHLD` ignored, or `SA_NOCLDWAIT`).
    pub fn reaps_children_itself(&self) -> bool {
        let action = self.action(SIGCHLD);
        action.disposition() == super::Disposition::Ignore || action.has(linux_raw_sys::general::SA_NOCLDWAIT)
    }

    /// Whether stops of children are not to be told with `SIGCHLD` (`SA_NOCLDSTOP`, or `SIGCHLD` ignored).
    pub fn ignores_child_stops(&self) -> bool {
        let action = self.action(SIGCHLD);
        action.disposition() == super::Disposition::Ignore || action.has(linux_raw_sys::general::SA_NOCLDSTOP)
    }
}

const SIGCHLD: u8 = linux_raw_sys::general::SIGCHLD as u8;

impl Default for ProcessSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// How to go on with a call that `restart_syscall(2)` restarts.
pub type RestartFn = Box<dyn FnOnce(&Ctx) -> Result<usize> + Send>;

/// Signals of a thread: its mask, what is pending for it alone, its alternate stack.
pub struct ThreadSignals {
    pub(super) pending: Pending,
    blocked: AtomicU64,
    /// What a `sigtimedwait` in progress waits for.
    waited: AtomicU64,
    saved: SpinLock<Option<SigSet>>,
    stack: SpinLock<AltStack>,
    restart: SpinLock<Option<RestartFn>>,
    /// A [`Job`].
    job: AtomicU32,
    is_parked: AtomicBool,
}

impl ThreadSignals {
    /// Nothing blocked, nothing pending, no alternate stack.
    pub fn new() -> Self {
        Self::with(SigSet::EMPTY, AltStack::NONE)
    }

    fn with(blocked: SigSet, stack: AltStack) -> Self {
        Self {
            pending: Pending::new(),
            blocked: AtomicU64::new(blocked.bits()),
            waited: AtomicU64::new(0),
            saved: SpinLock::new(None),
            stack: SpinLock::new(stack),
            restart: SpinLock::new(None),
            job: AtomicU32::new(0),
            is_parked: AtomicBool::new(false),
        }
    }

    /// Those of a new thread or of a child's first thread: the same mask, nothing pending. The alternate stack is kept
    /// unless the address space is shared (`CLONE_VM` without `CLONE_VFORK`).
    pub fn clone_for_child(&self, keep_stack: bool) -> Self {
        Self::with(self.blocked(), if keep_stack { self.stack() } else { AltStack::NONE })
    }

    /// What exec does: no alternate stack.
    pub fn reset_for_exec(&self) {
        self.set_stack(AltStack::NONE);
        let restart = self.take_restart();
        drop(restart);
    }

    /// What is pending for this thread alone.
    pub fn pending(&self) -> SigSet {
        self.pending.set()
    }

    /// The signals it blocks.
    pub fn blocked(&self) -> SigSet {
        SigSet::from_bits(self.blocked.load(Ordering::Relaxed))
    }

    /// The signals that should wake it: those it does not block, and those it waits for.
    pub(super) fn wanted(&self) -> SigSet {
        self.blocked().complement().union(SigSet::from_bits(self.waited.load(Ordering::Relaxed)))
    }

    pub(super) fn store_blocked(&self, blocked: SigSet) {
        self.blocked.store(blocked.without(SigSet::UNMASKABLE).bits(), Ordering::Relaxed);
    }

    pub(super) fn set_waited(&self, waited: SigSet) {
        self.waited.store(waited.bits(), Ordering::Relaxed);
    }

    pub(super) fn set_saved(&self, saved: SigSet) {
        self.saved.lock().get_or_insert(saved);
    }

    pub(super) fn take_saved(&self) -> Option<SigSet> {
        self.saved.lock().take()
    }

    /// The mask as it will be when the call in progress is over, as a tracer sees it.
    pub fn lasting_mask(&self) -> SigSet {
        let saved = *self.saved.lock();
        saved.unwrap_or_else(|| self.blocked())
    }

    /// Changes the mask of a thread that is stopped for its tracer.
    pub fn replace_mask(&self, blocked: SigSet) {
        let _ = self.take_saved();
        self.store_blocked(blocked);
    }

    /// Why it must stop.
    pub fn job(&self) -> Job {
        Job::from_bits_retain(self.job.load(Ordering::Relaxed))
    }

    /// Has it stop; the caller wakes it.
    pub fn set_job(&self, job: Job) {
        self.job.fetch_or(job.bits(), Ordering::SeqCst);
    }

    /// Takes reasons to stop away.
    pub fn clear_job(&self, job: Job) {
        self.job.fetch_and(!job.bits(), Ordering::SeqCst);
    }

    /// Whether it is stopped with its process.
    pub fn is_parked(&self) -> bool {
        self.is_parked.load(Ordering::SeqCst)
    }

    pub(super) fn set_parked(&self, is_parked: bool) {
        self.is_parked.swap(is_parked, Ordering::SeqCst);
    }

    /// What is pending for this thread alone, by its place in the queue.
    pub fn nth_pending(&self, index: u64) -> Option<SigInfo> {
        self.pending.nth(index)
    }

    /// Its alternate stack.
    pub fn stack(&self) -> AltStack {
        *self.stack.lock()
    }

    pub(super) fn set_stack(&self, stack: AltStack) {
        *self.stack.lock() = stack;
    }

    /// Says how `restart_syscall(2)` is to go on with the call that is about to end with `ERESTART_RESTARTBLOCK`.
    pub fn set_restart(&self, restart: RestartFn) {
        let old = self.restart.lock().replace(restart);
        drop(old);
    }

    /// Takes what [`ThreadSignals::set_restart`] has left.
    pub fn take_restart(&self) -> Option<RestartFn> {
        self.restart.lock().take()
    }
}

impl Default for ThreadSignals {
    fn default() -> Self {
        Self::new()
    }
}

/// Changes the mask of the calling thread. A signal for the whole process that it no longer takes is offered to others.
pub fn set_blocked(thread: &Thread, blocked: SigSet) {
    let signals = &thread.signals;
    let newly = blocked.without(signals.blocked());
    signals.store_blocked(blocked);
    let orphaned = thread.process().signals.pending.set().intersection(newly);
    if !orphaned.is_empty() {
        super::send::offer_to_others(thread, orphaned);
    }
}

/// Runs `call` with the mask `blocked` in place of the caller's, as `ppoll`, `pselect` and `epoll_pwait` do; with
/// `None`, just runs it. If a signal has interrupted the call, the old mask comes back only when that signal's handler
/// returns.
pub fn with_mask<R>(ctx: &Ctx, blocked: Option<SigSet>, call: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(blocked) = blocked else { return call() };
    let old = ctx.thread.signals.blocked();
    set_blocked(ctx.thread, blocked);
    let result = call();
    let interrupted = match &result {
        Err(error) => error.restart().is_some() || (*error == EINTR && super::has_pending(ctx.thread)),
        Ok(_) => false,
    };
    if interrupted {
        ctx.thread.signals.set_saved(old);
    } else {
        set_blocked(ctx.thread, old);
    }
    result
}

/// Reads the mask that a call such as `ppoll` was given: none if `addr` is 0.
///
/// # Errors
///
/// `EINVAL` unless `size` is that of the kernel's `sigset_t`; `EFAULT`.
pub fn read_mask(ctx: &Ctx, addr: Vaddr, size: usize) -> Result<Option<SigSet>> {
    if addr == 0 {
        return Ok(None);
    }
    if size != size_of::<SigSet>() {
        return Err(EINVAL);
    }
    ctx.vm.read_val(addr).map(Some)
}

/// Whether a signal is pending that the thread does not block, or the thread must end, or stop for whatever reason.
pub fn has_pending(thread: &Thread) -> bool {
    let own = &thread.signals;
    let shared = &thread.process().signals;
    thread.must_exit.load(Ordering::Relaxed)
        || !own.pending.set().union(shared.pending.set()).without(own.blocked()).is_empty()
        || !own.job().is_empty()
}

/// Takes out the first signal in `wanted` that is pending for the thread, or for its process.
pub(super) fn take(thread: &Thread, wanted: SigSet) -> Option<SigInfo> {
    thread.signals.pending.take(wanted).or_else(|| thread.process().signals.pending.take(wanted))
}
