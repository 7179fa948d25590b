// SPDX-License-Identifier: MPL-2.0

//! A thread of a user program.

use ostd::{
    sync::Waker,
    task::{CurrentTask, Task},
};

use crate::{
    fs::{FileTable, FsContext},
    mm::mempolicy::MemPolicy,
    prelude::*,
    process::{Credentials, Usage, io::IoCounters, ptrace::Tracing, worker::Worker},
    sched::{self, SchedEntity},
    signal::ThreadSignals,
};

/// The I/O priority that all threads start with: best effort, in the middle.
const IO_PRIORITY_NORMAL: u32 = 2 << 13 | 4;

/// The data of every OSTD task of the kernel.
pub enum TaskData {
    /// The task runs user threads.
    User(Arc<Worker>),
    /// The task runs kernel code only.
    Kernel(SchedEntity),
}

/// A thread of a user program.
pub struct Thread {
    tid: AtomicU32,
    process: Arc<Process>,
    name: SpinLock<ThreadName>,
    credentials: SpinLock<Arc<Credentials>>,
    files: SpinLock<Option<Arc<FileTable>>>,
    fs: SpinLock<Option<Arc<FsContext>>>,
    waker: SpinLock<Option<Arc<Waker>>, LocalIrqDisabled>,
    /// Signal state: the mask, what is pending for this thread alone, the alternate stack.
    pub signals: ThreadSignals,
    /// Who traces it.
    pub tracing: Tracing,
    /// What the scheduler keeps of the thread.
    pub sched: SchedEntity,
    /// Where to write 0 and wake a futex when the thread ends; 0 for nowhere (`set_tid_address(2)`).
    pub clear_child_tid: AtomicUsize,
    /// Where the new thread writes its number before it runs; 0 for nowhere (`CLONE_CHILD_SETTID`).
    pub set_child_tid: AtomicUsize,
    /// The head of the robust futex list; 0 if none (`set_robust_list(2)`).
    pub robust_list: AtomicUsize,
    /// Set once the thread, which is about to end, has left its futexes behind: nobody may wait for it any more.
    pub has_left_futexes: AtomicBool,
    /// Set once the thread must go; it goes when it next would return to user mode.
    pub must_exit: AtomicBool,
    /// Set by what ends a restartable sequence, and where signals may be passed by; the thread settles it before it next goes to user mode ([`super::rseq`]).
    pub is_disturbed: AtomicBool,
    /// `ioprio_set(2)`: the class in the upper bits, from bit 13 on. Nothing is ever queued by it.
    pub io_priority: AtomicU32,
    /// Where its memory comes from.
    pub mem_policy: SpinLock<MemPolicy>,
    /// How late its sleeps may end.
    pub timer_slack: TimerSlack,
    /// What it has read and written.
    pub io: IoCounters,
    /// The signal that a `vfork` child, or a thread's parent, is told at the end of this thread's parent.
    pub parent_death_signal: AtomicU32,
}

/// What a new thread takes from the one that clones it.
pub struct ThreadParts {
    /// Its name.
    pub name: ThreadName,
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// Its open files.
    pub files: Arc<FileTable>,
    /// Its root, working directory and umask.
    pub fs: Arc<FsContext>,
    /// Its signal state.
    pub signals: ThreadSignals,
    /// Its scheduling state.
    pub sched: SchedEntity,
    /// Where its memory comes from.
    pub mem_policy: MemPolicy,
    /// How late its sleeps may end.
    pub timer_slack: TimerSlack,
}

/// How many nanoseconds later than asked for a thread's sleeps may end (`PR_SET_TIMERSLACK`). Timers here are never late by
/// intent, which keeps to any slack.
pub struct TimerSlack {
    current: AtomicU64,
    initial: u64,
}

impl TimerSlack {
    /// The first process's.
    const FIRST: u64 = 50_000;

    /// A child's, which begins with what its maker has at the time.
    pub fn clone_for_child(&self) -> Self {
        let current = self.get();
        Self { current: AtomicU64::new(current), initial: current }
    }

    /// The slack in nanoseconds.
    pub fn get(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Changes the slack; 0 stands for what it was at the beginning.
    pub fn set(&self, nanos: u64) {
        let nanos = if nanos == 0 { self.initial } else { nanos };
        self.current.store(nanos, Ordering::Relaxed);
    }
}

impl Default for TimerSlack {
    fn default() -> Self {
        Self { current: AtomicU64::new(Self::FIRST), initial: Self::FIRST }
    }
}

impl Thread {
    /// A thread of `process`, not yet running and in nobody's list.
    pub fn new(tid: Tid, process: Arc<Process>, parts: ThreadParts) -> Self {
        Self {
            tid: AtomicU32::new(tid),
            process,
            name: SpinLock::new(parts.name),
            credentials: SpinLock::new(parts.credentials),
            files: SpinLock::new(Some(parts.files)),
            fs: SpinLock::new(Some(parts.fs)),
            waker: SpinLock::new(None),
            signals: parts.signals,
            tracing: Tracing::new(),
            sched: parts.sched,
            clear_child_tid: AtomicUsize::new(0),
            set_child_tid: AtomicUsize::new(0),
            robust_list: AtomicUsize::new(0),
            has_left_futexes: AtomicBool::new(false),
            must_exit: AtomicBool::new(false),
            is_disturbed: AtomicBool::new(false),
            io_priority: AtomicU32::new(IO_PRIORITY_NORMAL),
            mem_policy: SpinLock::new(parts.mem_policy),
            timer_slack: parts.timer_slack,
            io: IoCounters::default(),
            parent_death_signal: AtomicU32::new(0),
        }
    }

    /// The calling thread, if the caller is one.
    pub fn current() -> Option<Arc<Thread>> {
        Task::current().as_ref().and_then(Self::of)
    }

    /// The thread that `task` runs, if it runs one.
    pub fn of(task: &CurrentTask) -> Option<Arc<Thread>> {
        match task.data().downcast_ref::<TaskData>() {
            Some(TaskData::User(worker)) => worker.thread(),
            _ => None,
        }
    }

    /// Its number.
    pub fn tid(&self) -> Tid {
        self.tid.load(Ordering::Relaxed)
    }

    /// Gives it another number: that of its process, whose first thread it has become.
    pub(super) fn set_tid(&self, tid: Tid) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Its process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Its name (`comm`).
    pub fn name(&self) -> ThreadName {
        *self.name.lock()
    }

    /// Renames it.
    pub fn set_name(&self, name: ThreadName) {
        *self.name.lock() = name;
    }

    /// Its credentials, as they are now.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// Replaces its credentials.
    pub fn set_credentials(&self, credentials: Credentials) {
        let credentials = Arc::new(credentials);
        let old = core::mem::replace(&mut *self.credentials.lock(), credentials);
        drop(old);
    }

    /// Its open files; an empty table once the thread has ended.
    pub fn files(&self) -> Arc<FileTable> {
        let files = self.files.lock().clone();
        files.unwrap_or_default()
    }

    /// Replaces its open files, and answers the table it had.
    pub fn set_files(&self, files: Option<Arc<FileTable>>) -> Option<Arc<FileTable>> {
        core::mem::replace(&mut *self.files.lock(), files)
    }

    /// Its root, working directory and umask; the machine's root once the thread has ended.
    pub fn fs(&self) -> Arc<FsContext> {
        let fs = self.fs.lock().clone();
        fs.unwrap_or_default()
    }

    /// Replaces its root, working directory and umask, and answers what it had.
    pub fn set_fs(&self, fs: Option<Arc<FsContext>>) -> Option<Arc<FsContext>> {
        core::mem::replace(&mut *self.fs.lock(), fs)
    }

    /// What it has used.
    pub fn usage(&self) -> Usage {
        Usage { io: self.io.usage(), ..self.sched.usage() }
    }

    /// Lets [`Thread::interrupt`] end the sleep that is about to begin, until the guard goes.
    pub fn interruptible(&self, waker: Arc<Waker>) -> Interruptible<'_> {
        *self.waker.lock() = Some(waker);
        Interruptible(self)
    }

    /// Whether it is in an interruptible sleep.
    pub fn is_sleeping(&self) -> bool {
        self.waker.lock().is_some()
    }

    /// Ends an interruptible sleep of the thread, if it is in one; else has it come back from user mode, if it is there on
    /// another CPU. Any context.
    pub fn interrupt(&self) {
        let waker = self.waker.lock().clone();
        match waker {
            Some(waker) => {
                waker.wake_up();
            }
            None => sched::kick(self),
        }
    }
}

/// While this lives, a signal can wake the thread.
#[must_use]
pub struct Interruptible<'a>(&'a Thread);

impl Drop for Interruptible<'_> {
    fn drop(&mut self) {
        let waker = self.0.waker.lock().take();
        drop(waker);
    }
}

/// A thread's name: at most 15 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ThreadName([u8; 16]);

impl ThreadName {
    /// The name made of the first 15 bytes of `name`, or of those before its first NUL.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; 16];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len()).min(15);
        bytes[..end].copy_from_slice(&name[..end]);
        Self(bytes)
    }

    /// The name without its NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// The name with its NUL and padding, as `prctl(PR_GET_NAME)` writes it.
    pub fn as_padded(&self) -> &[u8; 16] {
        &self.0
    }
}
