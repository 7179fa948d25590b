// SPDX-License-Identifier: MPL-2.0

//! What happens when memory has run out: what can be read again is given back, or else one process is ended so that the others
//! can go on.
//!
//! As in Linux, the victim is the one with the most memory, and `/proc/PID/oom_score_adj` shifts the balance: a thousand
//! points count as all the memory there is. The first process is never ended. `/proc/PID/oom_score` tells who is next, and the
//! log says who it was, in Linux's words (`mm/oom_kill.c` in 6.1). One that does not get to its end, because a debugger keeps it
//! there, has its memory taken away ([`AddressSpace::reap`]), and the others are looked at again.
//!
//! Among those that are alike, within a hundredth of all memory, it is the youngest: when what has filled memory belongs to
//! nobody (files, the kernel's own notes of many small processes), a shell goes after what it has started.

use vmar::rss::RssKind;

use super::{AddressSpace, cache, settings};
use crate::{
    log, mm,
    prelude::*,
    process::{ThreadName, exit, table, worker},
    time,
    wait::Sleeper,
};

/// The value of `oom_score_adj` that protects a process altogether.
const NEVER: i32 = -1000;

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the memory of a process that has ended may take to come back, during which nobody else is ended: whoever was to go on
/// would go next.
const AFTERMATH: Duration = Duration::from_millis(50);

/// Who wants memory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A program, for a page.
    Page,
    /// The kernel, for a note that a program can also be refused. Nobody is ended for it who has less than a hundredth of
    /// all memory: many such notes would be paid for with many programs.
    Note,
}

/// What is to be expected when memory has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// A process is about to end.
    Hopeful,
    /// There is nobody to be ended.
    Hopeless,
    /// It has been for long and does not get there. Perhaps it waits for a lock that the caller has.
    Stuck,
}

/// The process that is about to end.
#[derive(Clone, Copy)]
struct Awaited {
    pid: Pid,
    /// Tells it from another with the same number.
    start_time: Duration,
    since: Duration,
    /// When it was last seen with its memory.
    seen: Duration,
}

/// How many processes were ended.
static ENDED: AtomicU64 = AtomicU64::new(0);

static AWAITED: SpinLock<Awaited, LocalIrqDisabled> = SpinLock::new(Awaited {
    pid: 0,
    start_time: Duration::ZERO,
    since: Duration::ZERO,
    seen: Duration::ZERO,
});

impl Awaited {
    fn new(process: &Process) -> Self {
        let now = time::monotonic();
        Self { pid: process.pid(), start_time: process.start_time, since: now, seen: now }
    }

    fn is(&self, process: &Process) -> bool {
        self.pid == process.pid() && self.start_time == process.start_time
    }

    fn outlook(&self) -> Outlook {
        match time::monotonic().saturating_sub(self.since) > PATIENCE {
            true => Outlook::Stuck,
            false => Outlook::Hopeful,
        }
    }
}

/// How many processes were ended for lack of memory.
pub fn count_ended() -> u64 {
    ENDED.load(Ordering::Relaxed)
}

/// Gives back what is kept for use again, and what can be read again. Where that is little, ends the process with the most memory,
/// unless one is about to end anyway, and waits a moment for it to do so.
///
/// If the caller is the victim, it returns at once: the caller must come to its end.
pub fn make_room(need: Need) -> Outlook {
    if worker::dismiss_idle() {
        pause();
        return Outlook::Hopeful;
    }
    if cache::give_back() {
        return Outlook::Hopeful;
    }
    let awaited = *AWAITED.lock();
    let now = time::monotonic();
    let is_being_freed = now < awaited.seen + AFTERMATH;
    let is_ending = |process: &Process| process.is_exiting() && process.has_memory();
    let (ending, victim) = table::with(|table| {
        let known = table.node(awaited.pid).map(|node| &node.process);
        // It counts from when it is chosen: it takes a while to be told of in the log, and to get to its end.
        let known = known.filter(|process| awaited.is(process) && process.has_memory());
        match known.cloned().or_else(|| table.find(is_ending)) {
            Some(ending) => (Some(ending), None),
            None if is_being_freed => (None, None),
            None => (None, own_process().or_else(|| table.heaviest(|process| weight(process, need)))),
        }
    });
    let outlook = match (ending, victim) {
        (Some(ending), _) if awaited.is(&ending) => {
            let mut latest = AWAITED.lock();
            if latest.is(&ending) {
                latest.seen = now;
            }
            awaited.outlook()
        }
        (Some(ending), _) => {
            *AWAITED.lock() = Awaited::new(&ending);
            Outlook::Hopeful
        }
        (None, Some(victim)) => {
            *AWAITED.lock() = Awaited::new(&victim);
            report(&victim);
            ENDED.fetch_add(1, Ordering::Relaxed);
            exit::kill(&victim);
            Outlook::Hopeful
        }
        (None, None) if is_being_freed => Outlook::Hopeful,
        (None, None) if need == Need::Note => return Outlook::Hopeless,
        (None, None) => {
            error!("Out of memory and no killable processes...");
            Outlook::Hopeless
        }
    };
    pause();
    outlook
}

/// Lets others run for a moment.
fn pause() {
    let sleeper = Sleeper::new();
    let _timer = time::timer::wake_at(time::monotonic() + Duration::from_millis(1), sleeper.waker());
    sleeper.sleep();
}

/// Takes the memory of a process away that was ended long ago and does not get there. To be called with no lock held, by whoever
/// has found out that it is [`Outlook::Stuck`].
pub fn reap_stuck() {
    let awaited = *AWAITED.lock();
    let Some(process) = table::process(awaited.pid).filter(|process| awaited.is(process)) else { return };
    let Some(vm) = process.vm() else { return };
    let is_used = |other: &Process| other.runs_in(&vm) && !other.is_exiting();
    if process.is_exiting() && table::with(|table| table.find(is_used)).is_none() {
        vm.reap();
    }
}

/// The process that wants memory, if the settings say that it is the one to end, and it can be.
fn own_process() -> Option<Arc<Process>> {
    if settings::OOM_KILL_ALLOCATING_TASK.get() == 0 {
        return None;
    }
    let process = Thread::current()?.process().clone();
    badness(&process).is_some().then_some(process)
}

/// How much is to be gained by ending a process, in pages; all memory is a thousand points of its adjustment. `None` if it is not to
/// be ended, or if what it has is its parent's (`oom_badness`).
fn badness(process: &Process) -> Option<i64> {
    let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
    if process.pid() == table::INIT || adjustment == NEVER || process.in_vfork.load(Ordering::Relaxed) {
        return None;
    }
    Some(process.pages_held()? as i64 + i64::from(adjustment) * (all_pages() / 1000))
}

fn all_pages() -> i64 {
    (mm::total_memory() / PAGE_SIZE).max(1) as i64
}

/// The same in hundredths of all memory, and when the process started. `None` if it is not to be ended for that need.
fn weight(process: &Process, need: Need) -> Option<(i64, Duration)> {
    let hundredths = badness(process)? * 100 / all_pages();
    let is_enough = need == Need::Page || hundredths > 0;
    (is_enough && !process.is_exiting()).then_some((hundredths.max(0), process.start_time))
}

/// What `/proc/PID/oom_score` says: the share of memory in thousandths, from which Linux 6.1 makes two thirds above a third of a
/// thousand (`proc_oom_score`).
pub fn score(process: &Process) -> i64 {
    badness(process).map_or(0, |pages| ((1000 + pages * 1000 / all_pages()) * 2 / 3).max(0))
}

/// Tells the log who is ended, and why.
fn report(victim: &Process) {
    let name_of = |process: &Process| {
        process.main_thread().map_or_else(|| *process.last_name.lock(), |thread| thread.name())
    };
    if let Some(caller) = Thread::current() {
        let adjustment = caller.process().oom_score_adj.load(Ordering::Relaxed);
        warn!(
            "{} invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj={}",
            Name(&caller.name()),
            adjustment
        );
    }
    if settings::OOM_DUMP_TASKS.get() != 0 {
        log::note(format_args!("Tasks state (memory values in pages):"));
        log::note(format_args!(
            "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name"
        ));
        for process in table::all() {
            let Some(vm) = process.vm() else { continue };
            let held = Held::by(&vm);
            log::note(format_args!(
                "[{:7}] {:5} {:5} {:8} {:8} {:8} {:8}         {:5} {}",
                process.pid(),
                process.real_uid(),
                process.pid(),
                held.size / 4,
                (held.anonymous + held.file + held.shared) / 4,
                held.tables * 1024,
                0,
                process.oom_score_adj.load(Ordering::Relaxed),
                Name(&name_of(&process)),
            ));
        }
    }
    let name = name_of(victim);
    let (pid, uid) = (victim.pid(), victim.real_uid());
    log::note(format_args!(
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task={},pid={pid},uid={uid}",
        Name(&name),
    ));
    let Some(vm) = victim.vm() else { return };
    let Held { size, anonymous, file, shared, tables } = Held::by(&vm);
    error!(
        "Out of memory: Killed process {} ({}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB, UID:{} pgtables:{}kB oom_score_adj:{}",
        pid,
        Name(&name),
        size,
        anonymous,
        file,
        shared,
        uid,
        tables,
        victim.oom_score_adj.load(Ordering::Relaxed)
    );
}

/// What a space has, in KiB.
struct Held {
    size: usize,
    anonymous: usize,
    file: usize,
    shared: usize,
    tables: usize,
}

impl Held {
    fn by(vm: &AddressSpace) -> Self {
        const PAGE_KIB: usize = PAGE_SIZE / 1024;
        let pages = |kind| vm.vmar().rss().pages(kind) * PAGE_KIB;
        Self {
            size: vm.vmar().usage().address_space / 1024,
            anonymous: pages(RssKind::Anonymous),
            file: pages(RssKind::File),
            shared: pages(RssKind::SharedMemory),
            tables: vm.table_pages() * PAGE_KIB,
        }
    }
}

/// A name in the log.
struct Name<'a>(&'a ThreadName);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}
