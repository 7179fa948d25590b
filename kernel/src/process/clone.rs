// SPDX-License-Identifier: MPL-2.0

//! New processes and threads.
//!
//! Everything that can fail is done first, on objects that nobody else can see; then the child enters the table, and then
//! it runs. A clone that fails leaves nothing behind but an unused number.

use linux_raw_sys::general::{
    CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_CLEAR_SIGHAND, CLONE_DETACHED, CLONE_FILES, CLONE_FS,
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
    CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE_SETTLS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK,
    CLONE_VM, RLIMIT_NPROC, SIGCHLD,
};
use ostd::{arch::cpu::context::UserContext, mm::MAX_USERSPACE_VADDR, user::UserContextApi};
use vmar_ostd::reserve;

use crate::{
    fs::userfaultfd,
    mm::AddressSpace,
    prelude::*,
    process::{
        credentials::CapSet,
        ptrace::{self, report::Event},
        table::{self, ReservedPid},
        thread::ThreadParts,
        worker,
    },
    signal::has_pending,
    wait::wait_killable,
};

/// More frames than the kernel's stack and its notes of a thread and a process take.
const FRAMES_PER_THREAD: usize = 64;

/// What `clone(2)` is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs {
    /// `CLONE_*`.
    pub flags: u64,
    /// Where the parent finds a file descriptor for the child (`CLONE_PIDFD`).
    pub pidfd: Vaddr,
    /// Where the child's number goes in the child's memory (`CLONE_CHILD_SETTID`, `CLONE_CHILD_CLEARTID`).
    pub child_tid: Vaddr,
    /// Where the child's number goes in the parent's memory (`CLONE_PARENT_SETTID`).
    pub parent_tid: Vaddr,
    /// The signal the parent gets at the child's end; 0 for none.
    pub exit_signal: u32,
    /// The child's stack pointer; 0 for the parent's.
    pub stack: Vaddr,
    /// The child's FS base (`CLONE_SETTLS`).
    pub tls: Vaddr,
}

impl CloneArgs {
    /// What `fork(2)` asks for.
    pub const fn fork() -> Self {
        Self { flags: 0, exit_signal: SIGCHLD, pidfd: 0, child_tid: 0, parent_tid: 0, stack: 0, tls: 0 }
    }

    /// What `vfork(2)` asks for.
    pub const fn vfork() -> Self {
        Self { flags: (CLONE_VM | CLONE_VFORK) as u64, ..Self::fork() }
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    /// What the man page's section on errors says of flags.
    fn check(&self) -> Result<()> {
        const NAMESPACES: u32 = CLONE_NEWNS
            | CLONE_NEWCGROUP
            | CLONE_NEWUTS
            | CLONE_NEWIPC
            | CLONE_NEWUSER
            | CLONE_NEWPID
            | CLONE_NEWNET;
        let needs = |flag, needed| self.has(flag) && !self.has(needed);
        let clear_handlers = self.flags & CLONE_CLEAR_SIGHAND != 0;
        if needs(CLONE_SIGHAND, CLONE_VM)
            || needs(CLONE_THREAD, CLONE_SIGHAND)
            || (clear_handlers && self.has(CLONE_SIGHAND))
            // Until Linux 6.9 no descriptor stands for a thread.
            || (self.has(CLONE_PIDFD) && (self.has(CLONE_THREAD) || self.has(CLONE_DETACHED)))
            || self.has(NAMESPACES)
            || self.exit_signal > 64
            || (self.has(CLONE_SETTLS) && self.tls >= MAX_USERSPACE_VADDR)
        {
            return Err(EINVAL);
        }
        Ok(())
    }
}

/// Makes a child of the calling thread and starts it. Answers the child's number.
///
/// # Errors
///
/// `EINVAL` for flags that contradict each other or ask for namespaces; `EAGAIN` at a limit; `ENOMEM`; `ERESTARTNOINTR` if
/// a signal waits.
pub fn clone(ctx: &Ctx, registers: &mut UserContext, args: &CloneArgs) -> Result<Tid> {
    args.check()?;
    check_process_limit(ctx)?;
    // The kernel's own memory for the child comes from a reserve that must not run dry.
    reserve::ensure_user_frame()?;
    let _promise = reserve::promise_kernel_frames(FRAMES_PER_THREAD)?;
    let vm = if args.has(CLONE_VM) { ctx.vm.clone() } else { ctx.vm.fork()? };
    if !args.has(CLONE_VM) {
        userfaultfd::event::forked(ctx.vm, &vm)?;
    }
    let parts = thread_parts(ctx, args)?;
    let pid = ReservedPid::new()?;
    let tid = pid.number();
    let process =
        if args.has(CLONE_THREAD) { ctx.process.clone() } else { new_process(ctx, args, tid, vm.clone()) };

    let thread = Arc::new(Thread::new(tid, process.clone(), parts));
    if args.has(CLONE_CHILD_CLEARTID) {
        thread.clear_child_tid.store(args.child_tid, Ordering::Relaxed);
    }
    if args.has(CLONE_CHILD_SETTID) {
        thread.set_child_tid.store(args.child_tid, Ordering::Relaxed);
    }
    let event = Event::of_clone(ctx.thread, args);
    let mut traced = ptrace::inherit(ctx, args, event)?;
    let local = ctx.local.clone_for(vm);
    if args.has(CLONE_SETTLS) {
        local.set_fs_base(args.tls);
    }
    thread.is_disturbed.store(local.rseq().is_registered(), Ordering::Relaxed);
    let mut child_registers = registers.clone();
    child_registers.set_rax(0);
    if args.stack != 0 {
        child_registers.set_stack_pointer(args.stack);
    }
    ptrace::report::clear_step(ctx.thread, &mut child_registers);
    let worker = worker::hire(thread.clone(), local, child_registers)?;
    let pidfd =
        args.has(CLONE_PIDFD).then(|| super::pidfd::install(ctx, &process, args.pidfd)).transpose()?;

    let added = process.add_thread(thread.clone()).and_then(|()| {
        table::with(|table| {
            // Either a signal to the group is seen here, or its sender sees the child.
            if has_pending(ctx.thread) {
                return Err(ERESTARTNOINTR);
            }
            if let Some(traced) = &mut traced {
                traced.apply(table, ctx.thread, &thread)?;
            }
            if !args.has(CLONE_THREAD) {
                let parent = parent_for(table, ctx, args)?;
                table.add_process(process.clone(), parent, ctx.process.pid());
            }
            table.add_thread(thread.clone());
            Ok(())
        })
    });
    if let Err(error) = added {
        process.remove_thread(&thread);
        if let Some(pidfd) = pidfd {
            super::pidfd::remove(ctx, pidfd);
        }
        return Err(error);
    }
    drop(pid);
    if args.has(CLONE_PARENT_SETTID) {
        // As Linux does, a bad address is the program's own fault.
        let _ = ctx.vm.write_val(args.parent_tid, &tid);
    }
    worker.start();
    if let Some(event) = event {
        ptrace::report::call_event(ctx, registers, event, tid.into());
    }
    if args.has(CLONE_VFORK) {
        let is_over = || (!process.in_vfork.load(Ordering::Acquire)).then_some(());
        // Only the end of the parent itself ends this wait early, and then nobody asks for the answer.
        if wait_killable(&process.vfork_done, is_over).is_ok() {
            ptrace::report::call_event(ctx, registers, Event::VforkDone, tid.into());
        }
    }
    Ok(tid)
}

/// The process whose child the new process becomes.
fn parent_for(table: &table::Table, ctx: &Ctx, args: &CloneArgs) -> Result<Pid> {
    let own = ctx.process.pid();
    if !args.has(CLONE_PARENT) {
        return Ok(own);
    }
    // A sibling of the first process would have no parent.
    match table.node(own).map(|node| node.parent) {
        Some(parent) if parent != 0 => Ok(parent),
        _ => Err(EINVAL),
    }
}

fn new_process(ctx: &Ctx, args: &CloneArgs, pid: Pid, vm: Arc<AddressSpace>) -> Arc<Process> {
    let parent = ctx.process;
    let signals = parent.signals.clone_for_child(args.has(CLONE_SIGHAND));
    if args.flags & CLONE_CLEAR_SIGHAND != 0 {
        signals.reset_for_exec();
    }
    let child = Arc::new(Process::new(pid, vm, signals, parent.rlimits.clone()));
    child.set_exe(parent.program_file());
    child.maker.store(ctx.thread.tid(), Ordering::Relaxed);
    let exit_signal =
        if args.has(CLONE_PARENT) { parent.exit_signal.load(Ordering::Relaxed) } else { args.exit_signal };
    child.exit_signal.store(exit_signal, Ordering::Relaxed);
    child.in_vfork.store(args.has(CLONE_VFORK), Ordering::Relaxed);
    child.personality.store(parent.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    child.dumpable.store(parent.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    child.oom_score_adj.store(parent.oom_score_adj.load(Ordering::Relaxed), Ordering::Relaxed);
    child.oom_score_adj_min.store(parent.oom_score_adj_min.load(Ordering::Relaxed), Ordering::Relaxed);
    child
}

fn thread_parts(ctx: &Ctx, args: &CloneArgs) -> Result<ThreadParts> {
    let files = ctx.files();
    let fs = ctx.fs();
    // A child in the same memory needs a stack of its own for signals, unless its parent waits for it.
    let keeps_stack = !args.has(CLONE_VM) || args.has(CLONE_VFORK);
    Ok(ThreadParts {
        name: ctx.thread.name(),
        credentials: ctx.credentials(),
        files: if args.has(CLONE_FILES) { files } else { Arc::new(files.fork()?) },
        fs: if args.has(CLONE_FS) { fs } else { Arc::new((*fs).clone()) },
        signals: ctx.thread.signals.clone_for_child(keeps_stack),
        sched: ctx.thread.sched.clone_for_child(),
        mem_policy: *ctx.thread.mem_policy.lock(),
        timer_slack: ctx.thread.timer_slack.clone_for_child(),
    })
}

/// `EAGAIN` if the user has as many threads as `RLIMIT_NPROC` allows, or the machine as many as it has numbers.
fn check_process_limit(ctx: &Ctx) -> Result<()> {
    let credentials = ctx.credentials();
    let exempt =
        credentials.uid == 0 || credentials.has(CapSet::SYS_RESOURCE) || credentials.has(CapSet::SYS_ADMIN);
    let limit = ctx.process.rlimits.soft(RLIMIT_NPROC);
    let count = table::with(|table| match exempt {
        true => 0,
        false => table.count_threads(|thread| thread.credentials().uid == credentials.uid),
    });
    let all = table::with(|table| table.thread_count() + table.kept_numbers());
    if (count as u64 >= limit && !exempt) || all >= table::max_threads() { Err(EAGAIN) } else { Ok(()) }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    fn check(flags: u32) -> Result<()> {
        CloneArgs { flags: flags.into(), ..CloneArgs::default() }.check()
    }

    #[ktest]
    fn flags_need_each_other() {
        assert_eq!(CloneArgs::fork().check(), Ok(()));
        assert_eq!(CloneArgs::vfork().check(), Ok(()));
        assert_eq!(check(CLONE_SIGHAND), Err(EINVAL));
        assert_eq!(check(CLONE_THREAD | CLONE_VM), Err(EINVAL));
        assert_eq!(check(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM), Ok(()));
        assert_eq!(check(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_PIDFD), Err(EINVAL));
        assert_eq!(check(CLONE_NEWNS), Err(EINVAL));
    }

    #[ktest]
    fn signals_and_addresses_have_bounds() {
        let with = |exit_signal, flags, tls| {
            CloneArgs { exit_signal, flags: u64::from(flags), tls, ..CloneArgs::default() }.check()
        };
        assert_eq!(with(64, 0, 0), Ok(()));
        assert_eq!(with(65, 0, 0), Err(EINVAL));
        assert_eq!(with(0, CLONE_SETTLS, MAX_USERSPACE_VADDR), Err(EINVAL));
    }
}
