// SPDX-License-Identifier: MPL-2.0

//! What the end of a thread or process means to others.

use linux_raw_sys::general::{CLD_DUMPED, CLD_EXITED, CLD_KILLED, SIGCHLD};

use crate::{
    mm::AddressSpace,
    prelude::*,
    process::{ExitStatus, Usage, table},
    signal::{self, SigDetail, SigInfo},
};

/// `set_tid_address(2)`: clears the thread's number in user memory and wakes who waits for that.
pub(super) fn clear_child_tid(thread: &Arc<Thread>, vm: &Arc<AddressSpace>) {
    let addr = thread.clear_child_tid.swap(0, Ordering::Relaxed);
    // With no other user of the memory, nobody could see it.
    if addr != 0 && Arc::strong_count(vm) > 3 && vm.write_val(addr, &0u32).is_ok() {
        crate::futex::wake_at(vm, addr);
    }
}

/// Notes what will be asked of the thread's process when the thread has ended.
pub(super) fn account(thread: &Arc<Thread>) {
    let process = thread.process();
    if let Some(vm) = process.vm() {
        let max_rss_kib = vm.peak_rss_kib();
        process.times.lock().own += Usage { max_rss_kib, ..Usage::default() };
    }
    process.last_uid.store(thread.credentials().uid, Ordering::Relaxed);
    *process.last_name.lock() = thread.name();
}

/// Groups that are orphaned by the end of `process` and have a stopped member.
pub(super) fn newly_orphaned_groups(process: &Arc<Process>) -> BTreeSet<Pid> {
    table::with(|table| {
        let pid = process.pid();
        let mut groups = BTreeSet::new();
        let Some(node) = table.node(pid) else { return groups };
        groups.insert(node.group);
        groups.extend(node.children.keys().filter_map(|child| table.node(*child)).map(|child| child.group));
        groups.retain(|group| {
            let has_stopped = table.has_member(|other| other.group == *group && other.process.is_stopped());
            has_stopped && !table.is_orphaned(*group, None) && table.is_orphaned(*group, Some(pid))
        });
        groups
    })
}

/// Tells a child that its parent has ended (`PR_SET_PDEATHSIG`).
pub(super) fn parent_died(child: &Arc<Process>) {
    let wanted = |thread: &Thread| thread.parent_death_signal.load(Ordering::Relaxed) as u8;
    let next = |after: Tid| {
        child.with_threads(|threads| {
            let rest = threads.iter().filter(|thread| thread.tid() > after && wanted(thread) != 0);
            rest.min_by_key(|thread| thread.tid()).cloned()
        })
    };
    let mut after = 0;
    while let Some(thread) = next(after) {
        signal::send_to_thread(&thread, SigInfo::user(wanted(&thread), 0, 0));
        after = thread.tid();
    }
}

/// Forgets those zombies among `children` that their new parent does not want to wait for.
pub(super) fn reap_ignored(parent: &Arc<Process>, children: &BTreeMap<Pid, Arc<Process>>) {
    if parent.signals.reaps_children_itself() {
        for child in children.values().filter(|child| child.is_zombie()) {
            let node = table::with(|table| table.remove_process(child.pid()));
            drop(node);
        }
    }
}

/// Makes `process` a zombie and tells its parent, or forgets it if the parent does not want to know. Another process that
/// traces it is told first, and the parent when that one has let it go.
pub(super) fn become_zombie(process: &Arc<Process>, status: ExitStatus) {
    // In one step: a parent that ends now either finds a zombie and tells whoever inherits it, or is the parent no more.
    let (parent, tracer) = table::with(|table| {
        process.report.lock().is_zombie = true;
        let tracer = table.node(process.tracer_pid.load(Ordering::Relaxed)).map(|node| node.process.clone());
        (table.parent_of(process.pid()), tracer)
    });
    process.ended.wake_all();
    let is_parent = |tracer: &Process| parent.as_ref().is_some_and(|parent| parent.pid() == tracer.pid());
    match tracer {
        Some(tracer) if !is_parent(&tracer) => {
            signal::send_to_process(&tracer, child_info(process, SIGCHLD as u8, status));
            tracer.child_events.wake_all();
        }
        // Whoever traces its child is to see the end, even if it does not want to see those of other children.
        Some(_) => tell_end(process, status, Unwanted::Kept),
        None => tell_end(process, status, Unwanted::Forgotten),
    }
}

/// What becomes of a zombie that its parent does not want to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwanted {
    Forgotten,
    Kept,
}

/// What follows when `tracer`, which has ended or has seen the end of `zombie`, traces it no more.
pub(super) fn zombie_released(zombie: &Arc<Process>, tracer: &Arc<Process>) {
    if zombie.parent_pid() != tracer.pid() {
        let status = zombie.exit_status().unwrap_or(ExitStatus::Exited(0));
        tell_end(zombie, status, Unwanted::Forgotten);
    } else if tracer.signals.reaps_children_itself() {
        let node = table::with(|table| table.remove_process(zombie.pid()));
        drop(node);
        tracer.child_events.wake_all();
    }
}

fn tell_end(process: &Arc<Process>, status: ExitStatus, unwanted: Unwanted) {
    let signal = process.exit_signal.load(Ordering::Relaxed) as u8;
    let Some(parent) = process.parent() else { return };
    let unwanted = unwanted == Unwanted::Forgotten
        && u32::from(signal) == SIGCHLD
        && parent.signals.reaps_children_itself();
    if unwanted {
        let node = table::with(|table| table.remove_process(process.pid()));
        drop(node);
    }
    if signal != 0 {
        signal::send_to_process(&parent, child_info(process, signal, status));
    }
    parent.child_events.wake_all();
}

/// What `SIGCHLD` says about a child that has ended.
pub fn child_info(process: &Process, signal: u8, status: ExitStatus) -> SigInfo {
    let (code, value) = match status {
        ExitStatus::Exited(code) => (CLD_EXITED, i32::from(code)),
        ExitStatus::Killed { signal, core: true } => (CLD_DUMPED, i32::from(signal)),
        ExitStatus::Killed { signal, core: false } => (CLD_KILLED, i32::from(signal)),
    };
    child_report(process, signal, code as i32, value)
}

/// What `SIGCHLD` says about a child: `code` is one of `CLD_*`.
pub fn child_report(process: &Process, signal: u8, code: i32, status: i32) -> SigInfo {
    let Usage { user_nanos, system_nanos, .. } = process.usage();
    SigInfo {
        signal,
        errno: 0,
        code,
        detail: SigDetail::Child {
            pid: process.pid(),
            uid: process.real_uid(),
            status,
            utime: (user_nanos / 10_000_000) as i64,
            stime: (system_nanos / 10_000_000) as i64,
        },
    }
}
