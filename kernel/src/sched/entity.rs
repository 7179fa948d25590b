// SPDX-License-Identifier: MPL-2.0

//! What the scheduler keeps of each task.

use core::sync::atomic::fence;

use ostd::{
    cpu::{CpuId, num_cpus},
    task::Task,
};

use crate::{
    prelude::*,
    process::{TaskData, Usage},
};

/// The weights of the nice levels -20 to 19: a level more is a quarter less. As in Linux.
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121,
    2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29,
    23, 18, 15,
];

/// How urgent a task of nice level 0 is. A lower level is more urgent, and any real-time priority is more urgent than that.
const NICE_0_URGENCY: i32 = 20;
/// How urgent a task of the lowest nice level is.
const MAX_FAIR_URGENCY: u32 = 40;

/// The weight of nice level 0.
pub const NICE_0_WEIGHT: u64 = 1024;

const NO_CPU: u32 = u32::MAX;

/// The scheduling state of a task.
pub struct SchedEntity {
    vruntime: AtomicU64,
    nice: AtomicI32,
    affinity: AtomicU64,
    last_cpu: AtomicU32,
    home: Option<CpuId>,
    has_ended: AtomicBool,
    run_nanos: AtomicU64,
    user_ticks: AtomicU64,
    system_ticks: AtomicU64,
    /// Times the task gave up the CPU by itself.
    pub voluntary_switches: AtomicU64,
    /// Times the CPU was taken from it.
    pub involuntary_switches: AtomicU64,
    /// Page faults served from memory.
    pub minor_faults: AtomicU64,
    /// Page faults for which a page of a file was read.
    pub major_faults: AtomicU64,
    /// Pages of files that were read, for a fault or otherwise.
    pub pages_read: AtomicU64,
    /// The policy that `sched_setscheduler(2)` has set. All are scheduled fairly.
    pub policy: AtomicU32,
    /// The real-time priority that goes with it.
    pub priority: AtomicU32,
    /// How urgent those are who wait for a lock of the task; 0 if nobody does.
    boost: AtomicU32,
}

impl SchedEntity {
    /// A task that may run anywhere, at nice level 0.
    pub fn new() -> Self {
        Self::with(0, u64::MAX, None)
    }

    /// A kernel task that runs on `cpu` only.
    pub fn pinned(cpu: CpuId) -> Self {
        Self::with(0, u64::MAX, Some(cpu))
    }

    /// What a cloned thread starts with: the same nice level, affinity and policy; no time used.
    pub fn clone_for_child(&self) -> Self {
        let child = Self::with(self.nice(), self.affinity(), None);
        child.vruntime.store(self.vruntime(), Ordering::Relaxed);
        child.policy.store(self.policy.load(Ordering::Relaxed), Ordering::Relaxed);
        child.priority.store(self.priority.load(Ordering::Relaxed), Ordering::Relaxed);
        child
    }

    fn with(nice: i32, affinity: u64, home: Option<CpuId>) -> Self {
        Self {
            vruntime: AtomicU64::new(0),
            nice: AtomicI32::new(nice),
            affinity: AtomicU64::new(affinity),
            last_cpu: AtomicU32::new(NO_CPU),
            home,
            has_ended: AtomicBool::new(false),
            run_nanos: AtomicU64::new(0),
            user_ticks: AtomicU64::new(0),
            system_ticks: AtomicU64::new(0),
            voluntary_switches: AtomicU64::new(0),
            involuntary_switches: AtomicU64::new(0),
            minor_faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            pages_read: AtomicU64::new(0),
            policy: AtomicU32::new(0),
            priority: AtomicU32::new(0),
            boost: AtomicU32::new(0),
        }
    }

    /// Notes that the task is about to leave its queue for good.
    pub(super) fn note_end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// Whether it has left its queue for good: certain for whoever has found it in no queue.
    pub(super) fn has_ended(&self) -> bool {
        fence(Ordering::Acquire);
        self.has_ended.load(Ordering::Relaxed)
    }

    /// The real-time priority that it has set; 0 if none.
    pub fn real_time_priority(&self) -> u32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// How urgent it is, by what it has set or by who waits for it.
    pub fn urgency(&self) -> u32 {
        let own = match self.real_time_priority() {
            0 => self.fair_urgency(),
            priority => MAX_FAIR_URGENCY + priority,
        };
        own.max(self.boost.load(Ordering::Relaxed))
    }

    fn fair_urgency(&self) -> u32 {
        (NICE_0_URGENCY - self.nice()) as u32
    }

    /// Notes how urgent those are who wait for a lock of the task; 0 if nobody does. Answers whether that is a change.
    pub fn set_boost(&self, urgency: u32) -> bool {
        self.boost.swap(urgency, Ordering::Relaxed) != urgency
    }

    /// Its priority as `/proc` tells it: 20 more than the nice level, or below 0 for a real-time priority, of its own or lent
    /// by who waits for it.
    pub fn shown_priority(&self) -> i32 {
        let boost = self.boost.load(Ordering::Relaxed).saturating_sub(MAX_FAIR_URGENCY);
        match self.real_time_priority().max(boost) {
            0 => NICE_0_URGENCY + self.nice(),
            priority => -1 - priority as i32,
        }
    }

    /// What its time is divided by. Whoever waits for the task lends it its nice level, or the lowest for a real-time priority.
    fn weight(&self) -> u64 {
        let urgency = self.fair_urgency().max(self.boost.load(Ordering::Relaxed)).clamp(1, MAX_FAIR_URGENCY);
        u64::from(WEIGHTS[(MAX_FAIR_URGENCY - urgency) as usize])
    }

    /// Its nice level, -20 to 19.
    pub fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed)
    }

    /// Sets the nice level; what is out of range counts as the nearest level.
    pub fn set_nice(&self, nice: i32) {
        self.nice.store(nice.clamp(-20, 19), Ordering::Relaxed);
    }

    /// The CPUs it may run on: bit `n` for CPU `n`. CPUs from 64 on are always allowed.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Sets the CPUs it may run on. The caller has checked that one of them exists.
    pub fn set_affinity(&self, mask: u64) {
        self.affinity.store(mask, Ordering::Relaxed);
    }

    /// Whether it may run on `cpu`.
    pub fn may_run_on(&self, cpu: CpuId) -> bool {
        let cpu = u32::from(cpu);
        cpu >= 64 || self.affinity() & (1 << cpu) != 0
    }

    /// The CPU it ran on last.
    pub fn last_cpu(&self) -> Option<CpuId> {
        let last = self.last_cpu.load(Ordering::Relaxed) as usize;
        (last < num_cpus()).then(|| CpuId::try_from(last).ok()).flatten()
    }

    /// The time it has run, in nanoseconds.
    pub fn run_nanos(&self) -> u64 {
        self.run_nanos.load(Ordering::Relaxed)
    }

    /// What it has used. The time it has run is exact; how much of it was in user mode is sampled at each tick.
    pub fn usage(&self) -> Usage {
        let total = self.run_nanos();
        let user = self.user_ticks.load(Ordering::Relaxed);
        let system = self.system_ticks.load(Ordering::Relaxed);
        let user_nanos = match user + system {
            0 => total,
            ticks => (u128::from(total) * u128::from(user) / u128::from(ticks)) as u64,
        };
        Usage {
            user_nanos,
            system_nanos: total - user_nanos,
            minor_faults: self.minor_faults.load(Ordering::Relaxed),
            major_faults: self.major_faults.load(Ordering::Relaxed),
            voluntary_switches: self.voluntary_switches.load(Ordering::Relaxed),
            involuntary_switches: self.involuntary_switches.load(Ordering::Relaxed),
            ..Usage::default()
        }
    }

    /// Counts a fault that was served: for a major one more pages have been read than the `before` that were when it began.
    pub fn count_fault(&self, before: u64) {
        let is_minor = self.pages_read.load(Ordering::Relaxed) == before;
        let faults = if is_minor { &self.minor_faults } else { &self.major_faults };
        faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn home(&self) -> Option<CpuId> {
        self.home
    }

    pub(super) fn vruntime(&self) -> u64 {
        self.vruntime.load(Ordering::Relaxed)
    }

    pub(super) fn set_vruntime(&self, vruntime: u64) {
        self.vruntime.store(vruntime, Ordering::Relaxed);
    }

    pub(super) fn set_last_cpu(&self, cpu: CpuId) {
        self.last_cpu.store(cpu.into(), Ordering::Relaxed);
    }

    /// Adds time that the task has run.
    pub(super) fn charge(&self, nanos: u64) {
        self.run_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.vruntime.fetch_add(nanos.saturating_mul(NICE_0_WEIGHT) / self.weight(), Ordering::Relaxed);
    }

    /// Counts that the CPU goes to another task: whether this one gave it up by itself.
    pub(super) fn count_switch(&self, is_voluntary: bool) {
        let count = if is_voluntary { &self.voluntary_switches } else { &self.involuntary_switches };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a tick that has interrupted the task.
    pub(super) fn tick(&self, in_user_mode: bool) {
        let ticks = if in_user_mode { &self.user_ticks } else { &self.system_ticks };
        ticks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for SchedEntity {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives `f` the scheduling state of `task`, if it is one of the kernel's own. `f` takes no lock.
pub(super) fn with<R>(task: &Arc<Task>, f: impl FnOnce(&SchedEntity) -> R) -> Option<R> {
    match task.data().downcast_ref::<TaskData>()? {
        TaskData::User(worker) => Some(worker.with_sched(f)),
        TaskData::Kernel(entity) => Some(f(entity)),
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn nicer_tasks_pay_more_for_their_time() {
        let normal = SchedEntity::new();
        let nice = SchedEntity::new();
        nice.set_nice(5);
        normal.charge(1_000_000);
        nice.charge(1_000_000);
        assert_eq!(normal.vruntime(), 1_000_000);
        assert!(nice.vruntime() > 3 * normal.vruntime());
        assert_eq!(nice.run_nanos(), normal.run_nanos());
    }

    #[ktest]
    fn a_boost_lends_weight_until_it_is_undone() {
        let entity = SchedEntity::new();
        entity.set_nice(19);
        let urgent = SchedEntity::new();
        assert!(entity.set_boost(urgent.urgency()) && !entity.set_boost(urgent.urgency()));
        assert_eq!((entity.weight(), entity.shown_priority()), (NICE_0_WEIGHT, 39));
        urgent.priority.store(10, Ordering::Relaxed);
        entity.set_boost(urgent.urgency());
        assert_eq!((entity.weight(), entity.shown_priority()), (u64::from(WEIGHTS[0]), -11));
        entity.set_boost(0);
        assert_eq!((entity.weight(), entity.shown_priority()), (15, 39));
    }

    #[ktest]
    fn time_is_split_by_the_ticks() {
        let entity = SchedEntity::new();
        entity.charge(8_000);
        assert_eq!(entity.usage().user_nanos, 8_000);
        for in_user_mode in [true, true, true, false] {
            entity.tick(in_user_mode);
        }
        let usage = entity.usage();
        assert_eq!((usage.user_nanos, usage.system_nanos), (6_000, 2_000));
    }

    #[ktest]
    fn nice_levels_and_affinity_are_inherited_but_time_is_not() {
        let parent = SchedEntity::new();
        parent.set_nice(100);
        parent.set_affinity(1);
        parent.charge(5);
        let child = parent.clone_for_child();
        assert_eq!((child.nice(), child.affinity(), child.run_nanos()), (19, 1, 0));
    }
}
