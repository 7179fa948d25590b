// SPDX-License-Identifier: MPL-2.0

//! The table of all processes: pids, parents and children, process groups and sessions.
//!
//! One spin lock, which interrupts may take too, guards it all, so what `fork`, `exit`, `wait` and `setpgid` see of each
//! other is one consistent tree. A process stays in the table until it is waited for. Nothing sleeps, and no user memory is touched, under the lock.

use crate::prelude::*;

/// The largest number of a process, plus one (`/proc/sys/kernel/pid_max`).
pub const PID_MAX: Pid = 32_768;

/// The memory that there must be for each thread: four times what a process of its own takes in the kernel.
const MEMORY_PER_THREAD: usize = 256 << 10;

/// The most threads there can be (`/proc/sys/kernel/threads-max`): as many as memory is enough for, but no fewer than 20
/// and no more than there are numbers.
pub fn max_threads() -> usize {
    (crate::mm::total_memory() / MEMORY_PER_THREAD).clamp(20, PID_MAX as usize)
}

/// The process that all orphans end up with.
pub const INIT: Pid = 1;

static TABLE: SpinLock<Option<Table>, LocalIrqDisabled> = SpinLock::new(None);

/// All processes.
#[derive(Default)]
pub struct Table {
    nodes: BTreeMap<Pid, Node>,
    threads: BTreeMap<Tid, Arc<Thread>>,
    reserved: BTreeSet<Pid>,
    /// By the process of the tracer: those that its threads trace, ended ones included that nobody has waited for.
    tracees: BTreeMap<Pid, Vec<Arc<Thread>>>,
    last_pid: Pid,
}

/// A number that nobody else gets while this lives. Once the thread is in the table it may go.
#[must_use]
pub struct ReservedPid(Pid);

impl ReservedPid {
    /// Reserves a number that no process, thread, group or session has.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there is none.
    pub fn new() -> Result<Self> {
        with(|table| table.reserve_pid()).map(Self)
    }

    /// The number.
    pub fn number(&self) -> Pid {
        self.0
    }
}

impl Drop for ReservedPid {
    fn drop(&mut self) {
        with(|table| table.reserved.remove(&self.0));
    }
}

/// A process's place among the others.
pub struct Node {
    /// The process.
    pub process: Arc<Process>,
    /// Its parent; 0 for the first process.
    pub parent: Pid,
    /// Its children.
    pub children: BTreeMap<Pid, Arc<Process>>,
    /// Its process group.
    pub group: Pid,
    /// Its session.
    pub session: Pid,
}

/// Runs `f` on the table, with the lock held.
pub fn with<R>(f: impl FnOnce(&mut Table) -> R) -> R {
    let mut guard = TABLE.lock();
    f(guard.get_or_insert_with(Table::default))
}

/// The process with this pid, a zombie included.
pub fn process(pid: Pid) -> Option<Arc<Process>> {
    with(|table| table.nodes.get(&pid).map(|node| node.process.clone()))
}

/// The living thread with this number.
pub fn thread(tid: Tid) -> Option<Arc<Thread>> {
    with(|table| table.threads.get(&tid).cloned())
}

/// The members of process group `group`, as [`all`].
pub fn group_members(group: Pid) -> impl Iterator<Item = Arc<Process>> {
    members(0, move |node| node.group == group)
}

/// Calls `f` for each member of process group `group`, those included that members make meanwhile: a signal to a group must
/// not miss a child that is just being made. Clone looks for signals with the table locked, so a member that `f` has sent one
/// to makes no more.
pub fn visit_group(group: Pid, mut f: impl FnMut(&Arc<Process>)) {
    /// Members that ignore the signal could go on for ever.
    const MAX_ROUNDS: usize = 32;
    let mut visited = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        let before = visited.len();
        for process in group_members(group) {
            if visited.insert(process.pid()) {
                f(&process);
            }
        }
        if visited.len() == before {
            break;
        }
    }
}

/// All processes, zombies included, by ascending pid. Those that come or go meanwhile are in it or not. It needs no memory, and
/// nothing is locked while one of them is looked at.
pub fn all() -> impl Iterator<Item = Arc<Process>> {
    all_from(0)
}

/// Those of [`all`] whose pid is `first` or more.
pub fn all_from(first: Pid) -> impl Iterator<Item = Arc<Process>> {
    members(first, |_| true)
}

fn members(first: Pid, filter: impl Fn(&Node) -> bool) -> impl Iterator<Item = Arc<Process>> {
    let mut next = first;
    core::iter::from_fn(move || {
        let found = with(|table| {
            let mut rest = table.nodes.range(next..).map(|(_, node)| node);
            rest.find(|node| filter(node)).map(|node| node.process.clone())
        })?;
        next = found.pid() + 1;
        Some(found)
    })
}

impl Table {
    fn reserve_pid(&mut self) -> Result<Pid> {
        for _ in 0..PID_MAX {
            self.last_pid = if self.last_pid + 1 >= PID_MAX {
                // As Linux does, leave the low numbers to those that started early.
                300
            } else {
                self.last_pid + 1
            };
            let pid = self.last_pid;
            let taken = self.nodes.contains_key(&pid)
                || self.threads.contains_key(&pid)
                || self.reserved.contains(&pid)
                || self.nodes.values().any(|node| node.group == pid || node.session == pid);
            if !taken {
                self.reserved.insert(pid);
                return Ok(pid);
            }
        }
        Err(EAGAIN)
    }

    /// Adds `process` as a child of `parent`, in the group and session of `creator`. The first process is, as on Linux, in
    /// group 0 and session 0, which nobody leads and nobody who has left them can come back to.
    pub fn add_process(&mut self, process: Arc<Process>, parent: Pid, creator: Pid) {
        let pid = process.pid();
        let (group, session) =
            self.nodes.get(&creator).map_or((0, 0), |creator| (creator.group, creator.session));
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children.insert(pid, process.clone());
        }
        process.parent_pid.store(parent, Ordering::Relaxed);
        self.nodes.insert(pid, Node { process, parent, children: BTreeMap::new(), group, session });
    }

    /// Removes a process that was waited for.
    pub fn remove_process(&mut self, pid: Pid) -> Option<Node> {
        let node = self.nodes.remove(&pid)?;
        if let Some(parent) = self.nodes.get_mut(&node.parent) {
            parent.children.remove(&pid);
        }
        Some(node)
    }

    /// Adds a thread.
    pub fn add_thread(&mut self, thread: Arc<Thread>) {
        self.threads.insert(thread.tid(), thread);
    }

    /// Removes a thread that has ended, unless another has taken over its number.
    pub fn remove_thread(&mut self, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
        let tid = thread.tid();
        self.threads.get(&tid).filter(|known| Arc::ptr_eq(known, thread))?;
        self.threads.remove(&tid)
    }

    /// Gives a thread another number. Answers the thread that had it.
    pub fn rename_thread(&mut self, thread: &Arc<Thread>, tid: Tid) -> Option<Arc<Thread>> {
        let this = self.threads.remove(&thread.tid())?;
        thread.set_tid(tid);
        self.threads.insert(tid, this)
    }

    /// What the threads of `tracer` trace.
    pub fn tracees(&self, tracer: Pid) -> &[Arc<Thread>] {
        self.tracees.get(&tracer).map_or(&[], Vec::as_slice)
    }

    /// Notes that a thread of `tracer` traces `tracee`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add_tracee(&mut self, tracer: Pid, tracee: Arc<Thread>) -> Result<()> {
        let node = self.nodes.get(&tracer).ok_or(ESRCH)?;
        let list = self.tracees.entry(tracer).or_default();
        let pushed = try_push(list, tracee);
        if list.is_empty() {
            self.tracees.remove(&tracer);
        }
        pushed?;
        node.process.tracee_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes back what [`Table::add_tracee`] has noted.
    pub(super) fn remove_tracee(&mut self, tracer: Pid, tracee: &Arc<Thread>) -> Option<Arc<Thread>> {
        let list = self.tracees.get_mut(&tracer)?;
        let place = list.iter().position(|other| Arc::ptr_eq(other, tracee))?;
        let removed = list.remove(place);
        if list.is_empty() {
            self.tracees.remove(&tracer);
        }
        if let Some(node) = self.nodes.get(&tracer) {
            node.process.tracee_count.fetch_sub(1, Ordering::Relaxed);
        }
        Some(removed)
    }

    /// Keeps the number of a thread that has ended from others.
    pub(super) fn keep_number(&mut self, tid: Tid) {
        self.reserved.insert(tid);
    }

    /// Lets others have the number again.
    pub(super) fn free_number(&mut self, tid: Tid) {
        self.reserved.remove(&tid);
    }

    /// How many numbers are in use by nobody who lives.
    pub fn kept_numbers(&self) -> usize {
        self.reserved.len()
    }

    /// A process's place.
    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.nodes.get(&pid)
    }

    /// A process's place, to change.
    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.nodes.get_mut(&pid)
    }

    /// The living thread with this number.
    pub fn thread(&self, tid: Tid) -> Option<&Arc<Thread>> {
        self.threads.get(&tid)
    }

    /// The place of the process that the number is, or one of whose threads it is.
    pub fn node_of_thread(&self, tid: Tid) -> Option<&Node> {
        self.node(tid).or_else(|| self.node(self.thread(tid)?.process().pid()))
    }

    /// How many processes there are, zombies included.
    pub fn process_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many threads live.
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// How many living threads satisfy `filter`.
    pub fn count_threads(&self, filter: impl Fn(&Thread) -> bool) -> usize {
        self.threads.values().filter(|thread| filter(thread)).count()
    }

    /// The number given out last.
    pub fn last_pid(&self) -> Pid {
        self.last_pid
    }

    /// Whether any process's place satisfies `filter`.
    pub fn has_member(&self, filter: impl Fn(&Node) -> bool) -> bool {
        self.nodes.values().any(filter)
    }

    /// The process that `weight` finds the heaviest, of those it finds to have any weight. Allocates no memory.
    pub fn heaviest<W: Ord + Copy>(&self, weight: impl Fn(&Process) -> Option<W>) -> Option<Arc<Process>> {
        let weighed = self.nodes.values().filter_map(|node| Some((weight(&node.process)?, &node.process)));
        let (_, process) = weighed.max_by_key(|(weight, _)| *weight)?;
        Some(process.clone())
    }

    /// A process that satisfies `filter`, if there is one. Allocates no memory.
    pub fn find(&self, filter: impl Fn(&Process) -> bool) -> Option<Arc<Process>> {
        self.nodes.values().map(|node| &node.process).find(|process| filter(process)).cloned()
    }

    /// Whether any process is in `group`, and if so, in which session the group is.
    pub fn session_of_group(&self, group: Pid) -> Option<Pid> {
        self.nodes.values().find(|node| node.group == group).map(|node| node.session)
    }

    /// Whether `group` is orphaned: no living member has a parent in another group of the same session. `without`
    /// counts as gone, and the first process as nobody's parent: it continues no jobs (Linux's
    /// `will_become_orphaned_pgrp`).
    pub fn is_orphaned(&self, group: Pid, without: Option<Pid>) -> bool {
        !self.nodes.values().any(|node| {
            node.group == group
                && Some(node.process.pid()) != without
                && Some(node.parent) != without
                && node.parent != INIT
                && !node.process.is_zombie()
                && self
                    .nodes
                    .get(&node.parent)
                    .is_some_and(|parent| parent.group != group && parent.session == node.session)
        })
    }

    /// The parent of `pid`, if it has one.
    pub fn parent_of(&self, pid: Pid) -> Option<Arc<Process>> {
        let parent = self.node(pid)?.parent;
        self.node(parent).map(|node| node.process.clone())
    }

    /// Gives the children of `pid` to the nearest subreaper above it, or to the first process. Answers the new parent
    /// and the children.
    pub fn reparent_children(&mut self, pid: Pid) -> (Option<Arc<Process>>, BTreeMap<Pid, Arc<Process>>) {
        let Some(node) = self.nodes.get_mut(&pid) else { return (None, BTreeMap::new()) };
        let children = core::mem::take(&mut node.children);
        let mut reaper = node.parent;
        while reaper != INIT {
            match self.nodes.get(&reaper) {
                Some(node)
                    if node.process.is_subreaper.load(Ordering::Relaxed) && !node.process.is_exiting() =>
                {
                    break;
                }
                Some(node) if node.parent != 0 => reaper = node.parent,
                _ => reaper = INIT,
            }
        }
        for child in children.keys() {
            if let Some(child) = self.nodes.get_mut(child) {
                child.parent = reaper;
                child.process.parent_pid.store(reaper, Ordering::Relaxed);
            }
        }
        let reaper = self.nodes.get_mut(&reaper).map(|reaper| {
            reaper.children.extend(children.iter().map(|(pid, child)| (*pid, child.clone())));
            reaper.process.clone()
        });
        (reaper, children)
    }
}

impl Process {
    /// Its parent's pid; 0 if it has none.
    pub fn parent_pid(&self) -> Pid {
        self.parent_pid.load(Ordering::Relaxed)
    }

    /// Its parent.
    pub fn parent(&self) -> Option<Arc<Process>> {
        with(|table| table.parent_of(self.pid()))
    }

    /// Its process group.
    pub fn group(&self) -> Pid {
        with(|table| table.node(self.pid()).map_or(0, |node| node.group))
    }

    /// Its session.
    pub fn session(&self) -> Pid {
        with(|table| table.node(self.pid()).map_or(0, |node| node.session))
    }
}
