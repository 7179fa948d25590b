// SPDX-License-Identifier: MPL-2.0

//! A process: threads that share a pid, an address space, signal dispositions and limits.

use crate::{
    fs::Path,
    mm::AddressSpace,
    prelude::*,
    process::{ExitStatus, ThreadName, credentials::Uid, exec::ProgramFile, io::IoUsage, rlimit::Rlimits},
    signal::ProcessSignals,
    wait::WaitQueue,
};

/// A process.
pub struct Process {
    pid: Pid,
    vm: SpinLock<Option<Arc<AddressSpace>>>,
    threads: SpinLock<Vec<Arc<Thread>>, LocalIrqDisabled>,
    exe: SpinLock<Option<Arc<ProgramFile>>>,
    /// Signals pending for the process as a whole, and what it does on each.
    pub signals: ProcessSignals,
    /// Its resource limits.
    pub rlimits: Rlimits,
    /// What it tells its parent.
    pub report: SpinLock<Report, LocalIrqDisabled>,
    /// Woken when a child has something to report.
    pub child_events: WaitQueue,
    /// Woken when the process has ended, for its pidfds.
    pub ended: Arc<WaitQueue>,
    /// Its interval timers and POSIX timers.
    pub timers: crate::time::ProcessTimers,
    /// Woken when the process leaves the address space it borrowed (`vfork`), or ends.
    pub vfork_done: WaitQueue,
    /// Whether a `vfork` parent still waits for this process.
    pub in_vfork: AtomicBool,
    /// Its parent's pid; 0 if it has none. The table keeps it, and it alone writes it.
    pub(super) parent_pid: AtomicU32,
    /// The process of whoever traces its first thread; 0 for nobody. Kept by [`super::ptrace`].
    pub tracer_pid: AtomicU32,
    /// How many threads its own threads trace. The table keeps it.
    pub tracee_count: AtomicUsize,
    /// The thread that made it, for waits that ask for a thread's own children (`__WNOTHREAD`).
    pub maker: AtomicU32,
    /// The signal its parent gets at its end; 0 for none.
    pub exit_signal: AtomicU32,
    /// Set by its first exec; `setpgid(2)` of the parent fails from then on.
    pub has_execed: AtomicBool,
    /// Orphans among its descendants become its children (`PR_SET_CHILD_SUBREAPER`).
    pub is_subreaper: AtomicBool,
    /// Times of its ended threads and waited-for children.
    pub times: SpinLock<Times, LocalIrqDisabled>,
    /// When it started, since boot.
    pub start_time: Duration,
    /// `personality(2)`.
    pub personality: AtomicU32,
    /// Whether others may look into it (`PR_SET_DUMPABLE`).
    pub dumpable: AtomicBool,
    /// Whether a thread is ending all others to run another program.
    pub is_in_exec: AtomicBool,
    /// Woken when a thread has ended.
    pub thread_exits: WaitQueue,
    /// Whether it is stopped by a signal.
    pub stopped: AtomicBool,
    /// The real user of the thread that ended last.
    pub last_uid: AtomicU32,
    /// The name of the thread that ended last.
    pub last_name: SpinLock<ThreadName>,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: AtomicI32,
    /// How low it may be set without a capability.
    pub oom_score_adj_min: AtomicI32,
}

/// What a process tells its parent through `wait`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// All threads must end; the status of the process, once decided.
    pub exiting: Option<ExitStatus>,
    /// The process has ended and only waits to be waited for.
    pub is_zombie: bool,
    /// Stopped by this signal, and not yet told.
    pub stopped: Option<u8>,
    /// Continued, and not yet told.
    pub continued: bool,
}

/// CPU times and counts, of ended threads or of waited-for children.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Of the process's threads that have ended.
    pub own: Usage,
    /// Of children that were waited for, with theirs.
    pub children: Usage,
}

/// What `getrusage(2)` tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time in user mode, in nanoseconds.
    pub user_nanos: u64,
    /// Time in the kernel, in nanoseconds.
    pub system_nanos: u64,
    /// Page faults served without reading from anywhere.
    pub minor_faults: u64,
    /// Page faults that had to read.
    pub major_faults: u64,
    /// Times the thread gave up the CPU by itself.
    pub voluntary_switches: u64,
    /// Times the CPU was taken from it.
    pub involuntary_switches: u64,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// What was read and written.
    pub io: IoUsage,
}

impl core::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.user_nanos += other.user_nanos;
        self.system_nanos += other.system_nanos;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.max_rss_kib = self.max_rss_kib.max(other.max_rss_kib);
        self.io += other.io;
    }
}

impl Process {
    /// A process without threads, in nobody's list.
    pub fn new(pid: Pid, vm: Arc<AddressSpace>, signals: ProcessSignals, rlimits: Rlimits) -> Self {
        Self {
            pid,
            vm: SpinLock::new(Some(vm)),
            threads: SpinLock::new(Vec::new()),
            exe: SpinLock::new(None),
            signals,
            rlimits,
            report: SpinLock::new(Report::default()),
            child_events: WaitQueue::new(),
            ended: Arc::new(WaitQueue::new()),
            timers: crate::time::ProcessTimers::new(),
            vfork_done: WaitQueue::new(),
            in_vfork: AtomicBool::new(false),
            parent_pid: AtomicU32::new(0),
            tracer_pid: AtomicU32::new(0),
            tracee_count: AtomicUsize::new(0),
            maker: AtomicU32::new(0),
            exit_signal: AtomicU32::new(linux_raw_sys::general::SIGCHLD),
            has_execed: AtomicBool::new(false),
            is_subreaper: AtomicBool::new(false),
            times: SpinLock::new(Times::default()),
            start_time: crate::time::monotonic(),
            personality: AtomicU32::new(0),
            dumpable: AtomicBool::new(true),
            is_in_exec: AtomicBool::new(false),
            thread_exits: WaitQueue::new(),
            stopped: AtomicBool::new(false),
            last_uid: AtomicU32::new(0),
            last_name: SpinLock::new(ThreadName::default()),
            oom_score_adj: AtomicI32::new(0),
            oom_score_adj_min: AtomicI32::new(0),
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its address space; none once it has ended.
    pub fn vm(&self) -> Option<Arc<AddressSpace>> {
        self.vm.lock().clone()
    }

    /// Whether `vm` is its address space. To be called with a spin lock held, as [`Process::has_vm`].
    pub fn runs_in(&self, vm: &Arc<AddressSpace>) -> bool {
        self.vm.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, vm))
    }

    /// Whether it has an address space. Unlike with [`Process::vm`], nothing is left to be given up afterwards: to be called
    /// with a spin lock held.
    pub fn has_vm(&self) -> bool {
        self.vm.lock().is_some()
    }

    /// Whether it has an address space whose memory was not taken away. To be called with a spin lock held, as
    /// [`Process::has_vm`].
    pub fn has_memory(&self) -> bool {
        self.vm.lock().as_ref().is_some_and(|vm| !vm.is_reaped())
    }

    /// How many pages its address space has in memory, with its page tables, if it has one. To be called with a spin lock held, as
    /// [`Process::has_vm`].
    pub fn pages_held(&self) -> Option<usize> {
        let vm = self.vm.lock();
        let vm = vm.as_ref()?;
        Some(vm.vmar().rss().total_pages() + vm.table_pages())
    }

    /// Replaces its address space, and answers the one it had.
    pub fn set_vm(&self, vm: Option<Arc<AddressSpace>>) -> Option<Arc<AddressSpace>> {
        core::mem::replace(&mut *self.vm.lock(), vm)
    }

    /// Where its program's file is; none once it has ended.
    pub fn exe(&self) -> Option<Path> {
        self.program_file().map(|file| file.path().clone())
    }

    /// Its program's file; none once it has ended.
    pub fn program_file(&self) -> Option<Arc<ProgramFile>> {
        self.exe.lock().clone()
    }

    /// Notes its program's file.
    pub fn set_exe(&self, exe: Option<Arc<ProgramFile>>) {
        let old = core::mem::replace(&mut *self.exe.lock(), exe);
        drop(old);
    }

    /// Its living threads.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn threads(&self) -> Result<Vec<Arc<Thread>>> {
        try_to_vec(&self.threads.lock())
    }

    /// Its oldest living thread.
    pub fn main_thread(&self) -> Option<Arc<Thread>> {
        self.threads.lock().first().cloned()
    }

    /// How many threads live.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Runs `f` on the living threads. Any context.
    pub fn with_threads<R>(&self, f: impl FnOnce(&[Arc<Thread>]) -> R) -> R {
        f(&self.threads.lock())
    }

    /// Adds a thread, unless the process is about to end.
    pub(super) fn add_thread(&self, thread: Arc<Thread>) -> Result<()> {
        let mut threads = self.threads.lock();
        if self.report.lock().exiting.is_some() || self.is_in_exec.load(Ordering::Acquire) {
            return Err(EAGAIN);
        }
        try_reserve(&mut *threads, 1)?;
        threads.push(thread);
        Ok(())
    }

    /// Takes a thread out, and counts what it has used as used by one that has ended; answers how many are left.
    pub(super) fn remove_thread(&self, thread: &Arc<Thread>) -> usize {
        let mut threads = self.threads.lock();
        // At once, so that whoever looks meanwhile finds it counted once.
        self.times.lock().own += thread.usage();
        threads.retain(|other| !Arc::ptr_eq(other, thread));
        threads.len()
    }

    /// Whether all its threads must end.
    pub fn is_exiting(&self) -> bool {
        self.report.lock().exiting.is_some()
    }

    /// Whether it has ended.
    pub fn is_zombie(&self) -> bool {
        self.report.lock().is_zombie
    }

    /// How it ended, once that is decided.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.report.lock().exiting
    }

    /// Whether it is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The real user of its threads.
    pub fn real_uid(&self) -> Uid {
        self.main_thread()
            .map_or_else(|| self.last_uid.load(Ordering::Relaxed), |thread| thread.credentials().uid)
    }

    /// What its threads have used, those that have ended included. Any context.
    pub fn usage(&self) -> Usage {
        self.with_threads(|threads| {
            let mut usage = self.times.lock().own;
            threads.iter().for_each(|thread| usage += thread.usage());
            usage
        })
    }
}
