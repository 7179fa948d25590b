// SPDX-License-Identifier: MPL-2.0

//! The end of threads and processes.

use linux_raw_sys::general::SIGKILL;

use crate::{
    futex::Leaving,
    mm,
    prelude::*,
    process::{ExitStatus, ThreadLocal, ptrace, table},
    signal::{self, SigInfo},
};

/// Ends the calling thread; the process too, with `status`, if it is the last.
pub fn exit_thread(ctx: &Ctx, status: ExitStatus) {
    ctx.process.with_threads(|threads| {
        ctx.thread.must_exit.store(true, Ordering::Relaxed);
        ctx.thread.tracing.note_exit(status);
        // Those that are on their way out as well do not count: of several, one must be the last.
        if threads.iter().all(|thread| thread.must_exit.load(Ordering::Relaxed)) {
            ctx.process.report.lock().exiting.get_or_insert(status);
        }
    });
}

/// Ends all threads of `process`. The first to decide on the status wins. Any context.
pub fn exit_group(process: &Arc<Process>, status: ExitStatus) {
    process.with_threads(|threads| {
        process.report.lock().exiting.get_or_insert(status);
        for thread in threads {
            thread.must_exit.store(true, Ordering::Relaxed);
            thread.interrupt();
        }
    });
}

/// The last thing a thread does.
pub(super) fn thread_exited(thread: &Arc<Thread>, local: &ThreadLocal) {
    let process = thread.process();
    let vm = local.vm();
    crate::futex::thread_leaves(thread, &vm, Leaving::Exit);
    super::exit_hooks::clear_child_tid(thread, &vm);
    drop(vm);

    let files = thread.set_files(None);
    let fs = thread.set_fs(None);
    drop((files, fs));

    super::exit_hooks::account(thread);
    let left = process.remove_thread(thread);
    let removed = table::with(|table| table.remove_thread(thread));
    drop(removed);
    process.thread_exits.wake_all();
    signal::thread_exited(thread);
    ptrace::tracee_exited(thread);
    ptrace::tracer_exited(thread);
    if let Ok(kernel) = mm::AddressSpace::kernel() {
        local.set_vm(kernel);
    }
    if left == 0 {
        process_exited(process);
    }
}

fn process_exited(process: &Arc<Process>) {
    process.timers.clear();
    let status = *process.report.lock().exiting.get_or_insert(ExitStatus::Exited(0));
    if process.pid() == table::INIT {
        crate::power::init_exited(status.shell_status());
    }
    let vm = process.set_vm(None);
    drop(vm);
    vmar_ostd::reclaim::hasten();
    process.set_exe(None);
    release_vfork_parent(process);
    if process.session() == process.pid() {
        crate::tty::session_ended(process.pid());
    }

    let orphaned = super::exit_hooks::newly_orphaned_groups(process);
    let (reaper, children) = table::with(|table| table.reparent_children(process.pid()));
    for child in children.values() {
        super::exit_hooks::parent_died(child);
    }
    for group in orphaned {
        signal::hang_up_orphaned_group(group);
    }
    if let Some(reaper) = reaper {
        // A zombie among the children is the new parent's to wait for.
        if children.values().any(|child| child.is_zombie()) {
            super::exit_hooks::reap_ignored(&reaper, &children);
            reaper.child_events.wake_all();
        }
    }
    super::exit_hooks::become_zombie(process, status);
}

/// Lets a `vfork` parent go on.
pub fn release_vfork_parent(process: &Process) {
    if process.in_vfork.swap(false, Ordering::AcqRel) {
        process.vfork_done.wake_all();
    }
}

/// Ends `process` as `SIGKILL` does.
pub fn kill(process: &Arc<Process>) {
    signal::send_to_process(process, SigInfo::kernel(SIGKILL as u8));
}
