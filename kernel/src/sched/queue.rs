// SPDX-License-Identifier: MPL-2.0

//! The run queue of one CPU.

use ostd::{
    cpu::{CpuId, PrivilegeLevel},
    irq::InterruptLevel,
    task::{
        Task,
        scheduler::{LocalRunQueue, UpdateFlags, info::CommonSchedInfo},
    },
};

use super::{SchedEntity, address, entity};
use crate::{prelude::*, time::monotonic_nanos};

/// How long a task runs before another with less virtual run time gets its turn, in nanoseconds.
const SLICE: u64 = 4_000_000;
/// How much later than those that are there a new task has its turn: its maker goes on, and is not behind it when it waits for it.
const NEW_DEBIT: u64 = 2_000_000;
/// How far back a sleeper is put, at most.
const SLEEPER_CREDIT: u64 = 3_000_000;
/// How much less virtual run time a task needs to preempt the current one when it wakes.
const WAKE_GRANULARITY: u64 = 1_000_000;

/// The tasks that run, or wait to run, on one CPU.
pub(super) struct RunQueue {
    current: Option<Arc<Task>>,
    /// When the current task was last charged, and when its slice began.
    charged_at: u64,
    slice_start: u64,
    waiting: BTreeMap<(u64, u64), Arc<Task>>,
    serial: u64,
    /// Never decreases: where new and woken tasks are put.
    min_vruntime: u64,
    idle: Option<Arc<Task>>,
    /// Set to a task's address before it goes from here; the CPU clears it when it has switched.
    leaving: Option<&'static AtomicUsize>,
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self {
            current: None,
            charged_at: 0,
            slice_start: 0,
            waiting: BTreeMap::new(),
            serial: 0,
            min_vruntime: 0,
            idle: None,
            leaving: None,
        }
    }

    /// Gives the queue the task to run when there is nothing to run, and the place to note the task it is leaving.
    pub(super) fn set_up(&mut self, idle: Arc<Task>, leaving: &'static AtomicUsize) {
        self.idle = Some(idle);
        self.leaving = Some(leaving);
    }

    /// How many tasks wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many tasks wait or run, the idle task not counted.
    pub(super) fn runnable(&self) -> usize {
        self.waiting.len() + usize::from(!self.is_idle())
    }

    /// Whether there is nothing to run but the idle task.
    pub(super) fn wants_work(&self) -> bool {
        self.waiting.is_empty() && self.is_idle()
    }

    /// Adds a task that wakes or is new. Answers whether the current task should make room.
    ///
    /// Whoever wakes a task tells it first and queues it then. In between it may have seen that it was woken, and ended: such a
    /// task is not added.
    pub(super) fn add(&mut self, task: Arc<Task>, cpu: CpuId) -> bool {
        let place = |entity: &SchedEntity| (!entity.has_ended()).then(|| self.place(entity, cpu));
        let Some(vruntime) = entity::with(&task, place).unwrap_or(Some(self.min_vruntime)) else {
            task.cpu().set_to_none();
            return false;
        };
        self.insert(task, vruntime);
        self.is_idle() || self.charge(|_| {}) > vruntime.saturating_add(WAKE_GRANULARITY)
    }

    /// Gives `entity`, which wakes or is new on `cpu`, its virtual run time, and answers that.
    pub(super) fn place(&self, entity: &SchedEntity, cpu: CpuId) -> u64 {
        let floor = self.min_vruntime.saturating_sub(SLEEPER_CREDIT);
        // Queues do not share a zero: a task from elsewhere must not wait for this one's to catch up.
        let ceiling =
            if entity.last_cpu() == Some(cpu) { u64::MAX } else { self.min_vruntime.saturating_add(SLICE) };
        let vruntime = match entity.last_cpu() {
            Some(_) => entity.vruntime().clamp(floor, ceiling),
            None => entity.vruntime().clamp(self.min_vruntime, ceiling) + NEW_DEBIT,
        };
        entity.set_vruntime(vruntime);
        entity.set_last_cpu(cpu);
        vruntime
    }

    /// Takes over a task that waited on another CPU.
    pub(super) fn adopt(&mut self, task: Arc<Task>, cpu: CpuId) {
        entity::with(&task, |entity| {
            entity.set_vruntime(self.min_vruntime);
            entity.set_last_cpu(cpu);
        });
        self.insert(task, self.min_vruntime);
    }

    /// Gives up the waiting task that would run last here, of those that may run on `cpu`. `leaving` is not for taking.
    pub(super) fn give_away(&mut self, cpu: CpuId, leaving: usize) -> Option<Arc<Task>> {
        let key = self.waiting.iter().rev().find_map(|(key, task)| {
            let is_allowed = entity::with(task, |entity| entity.may_run_on(cpu)) != Some(false);
            (is_allowed && address(task) != leaving).then_some(*key)
        })?;
        self.waiting.remove(&key)
    }

    fn insert(&mut self, task: Arc<Task>, vruntime: u64) {
        self.serial += 1;
        self.waiting.insert((vruntime, self.serial), task);
    }

    fn is_idle(&self) -> bool {
        match (&self.current, &self.idle) {
            (Some(current), Some(idle)) => Arc::ptr_eq(current, idle),
            (current, _) => current.is_none(),
        }
    }

    fn first_vruntime(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((vruntime, _), _)| *vruntime)
    }

    /// Gives `f` the scheduling state of the current task.
    fn with_current<R>(&self, f: impl FnOnce(&SchedEntity) -> R) -> Option<R> {
        self.current.as_ref().and_then(|task| entity::with(task, f))
    }

    fn current_vruntime(&self) -> u64 {
        self.with_current(SchedEntity::vruntime).unwrap_or(self.min_vruntime)
    }

    /// Charges the current task for the time since it was charged last, and answers its virtual run time. `also` has a look at
    /// it then. The idle task is not charged.
    pub(super) fn charge(&mut self, also: impl FnOnce(&SchedEntity)) -> u64 {
        let now = monotonic_nanos();
        let nanos = now.saturating_sub(self.charged_at);
        self.charged_at = now;
        if self.is_idle() {
            return self.min_vruntime;
        }
        let charged = self.with_current(|entity| {
            entity.charge(nanos);
            also(entity);
            entity.vruntime()
        });
        let current = charged.unwrap_or(self.min_vruntime);
        let least = self.first_vruntime().map_or(current, |first| first.min(current));
        self.min_vruntime = self.min_vruntime.max(least);
        current
    }

    fn note_leaving(&self, task: usize) {
        if let Some(leaving) = self.leaving {
            leaving.store(task, Ordering::Release);
        }
    }
}

impl LocalRunQueue<Task> for RunQueue {
    fn current(&self) -> Option<&Arc<Task>> {
        self.current.as_ref()
    }

    fn update_current(&mut self, flags: UpdateFlags) -> bool {
        let first = self.first_vruntime();
        let vruntime = self.charge(|entity| match flags {
            UpdateFlags::Tick => {
                entity.tick(InterruptLevel::current() == InterruptLevel::L1(PrivilegeLevel::User));
            }
            UpdateFlags::Yield => {
                if let Some(first) = first {
                    entity.set_vruntime(entity.vruntime().max(first + 1));
                    entity.count_switch(true);
                }
            }
            UpdateFlags::Wait => entity.count_switch(true),
            UpdateFlags::Exit => entity.note_end(),
        });
        if self.is_idle() {
            return first.is_some() || (self.current.is_none() && self.idle.is_some());
        }
        match flags {
            UpdateFlags::Tick => {
                let is_over = self.charged_at.saturating_sub(self.slice_start) >= SLICE;
                is_over && first.is_some_and(|first| first < vruntime)
            }
            UpdateFlags::Yield => first.is_some(),
            UpdateFlags::Wait | UpdateFlags::Exit => true,
        }
    }

    fn try_pick_next(&mut self) -> Option<&Arc<Task>> {
        let was_idle = self.is_idle();
        if !was_idle && self.first_vruntime()? >= self.current_vruntime() {
            return None;
        }
        let next = match self.waiting.pop_first() {
            Some((_, next)) => next,
            None if self.current.is_none() => self.idle.clone()?,
            None => return None,
        };
        if !was_idle {
            self.with_current(|entity| entity.count_switch(false));
        }
        let vruntime = self.current_vruntime();
        match self.current.replace(next) {
            Some(previous) => {
                self.note_leaving(address(&previous));
                if !was_idle {
                    self.insert(previous, vruntime);
                }
            }
            // The task that was about to sleep has been woken, and stays.
            None => {
                let chosen = self.current.as_ref().map_or(0, address);
                if self.leaving.is_some_and(|leaving| leaving.load(Ordering::Relaxed) == chosen) {
                    self.note_leaving(0);
                }
            }
        }
        self.charged_at = monotonic_nanos();
        self.slice_start = self.charged_at;
        self.current.as_ref()
    }

    fn dequeue_current(&mut self) -> Option<Arc<Task>> {
        let task = self.current.take()?;
        self.note_leaving(address(&task));
        task.cpu().set_to_none();
        Some(task)
    }
}
