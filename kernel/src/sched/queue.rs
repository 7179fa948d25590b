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

use super::{address, entity};
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
    pub(super) fn add(&mut self, task: Arc<Task>, cpu: CpuId) -> bool {
        let mut vruntime = self.min_vruntime;
        if let Some(entity) = entity::of(&task) {
            let floor = self.min_vruntime.saturating_sub(SLEEPER_CREDIT);
            // Queues do not share a zero: a task from elsewhere must not wait for this one's to catch up.
            let ceiling = if entity.last_cpu() == Some(cpu) {
                u64::MAX
            } else {
                self.min_vruntime.saturating_add(SLICE)
            };
            vruntime = match entity.last_cpu() {
                Some(_) => entity.vruntime().clamp(floor, ceiling),
                None => entity.vruntime().clamp(self.min_vruntime, ceiling) + NEW_DEBIT,
            };
            entity.set_vruntime(vruntime);
            entity.set_last_cpu(cpu);
        }
        self.insert(task, vruntime);
        if self.is_idle() {
            return true;
        }
        self.charge();
        self.current_vruntime() > vruntime.saturating_add(WAKE_GRANULARITY)
    }

    /// Takes over a task that waited on another CPU.
    pub(super) fn adopt(&mut self, task: Arc<Task>, cpu: CpuId) {
        if let Some(entity) = entity::of(&task) {
            entity.set_vruntime(self.min_vruntime);
            entity.set_last_cpu(cpu);
        }
        self.insert(task, self.min_vruntime);
    }

    /// Gives up the waiting task that would run last here, of those that may run on `cpu`. `leaving` is not for taking.
    pub(super) fn give_away(&mut self, cpu: CpuId, leaving: usize) -> Option<Arc<Task>> {
        let key = self.waiting.iter().rev().find_map(|(key, task)| {
            let allowed = entity::of(task).is_none_or(|entity| entity.may_run_on(cpu));
            (allowed && address(task) != leaving).then_some(*key)
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

    fn current_vruntime(&self) -> u64 {
        self.current.as_ref().and_then(entity::of).map_or(self.min_vruntime, |entity| entity.vruntime())
    }

    /// Charges the current task for the time since it was charged last.
    pub(super) fn charge(&mut self) {
        let now = monotonic_nanos();
        let nanos = now.saturating_sub(self.charged_at);
        self.charged_at = now;
        if self.is_idle() {
            return;
        }
        if let Some(entity) = self.current.as_ref().and_then(entity::of) {
            entity.charge(nanos);
        }
        let current = self.current_vruntime();
        let least = self.first_vruntime().map_or(current, |first| first.min(current));
        self.min_vruntime = self.min_vruntime.max(least);
    }

    fn note_leaving(&self, task: usize) {
        if let Some(leaving) = self.leaving {
            leaving.store(task, Ordering::Release);
        }
    }

    fn count_switch(&self, voluntary: bool) {
        if let Some(entity) = self.current.as_ref().and_then(entity::of) {
            let count = if voluntary { &entity.voluntary_switches } else { &entity.involuntary_switches };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LocalRunQueue<Task> for RunQueue {
    fn current(&self) -> Option<&Arc<Task>> {
        self.current.as_ref()
    }

    fn update_current(&mut self, flags: UpdateFlags) -> bool {
        self.charge();
        if self.is_idle() {
            return !self.waiting.is_empty() || (self.current.is_none() && self.idle.is_some());
        }
        match flags {
            UpdateFlags::Tick => {
                if let Some(entity) = self.current.as_ref().and_then(entity::of) {
                    entity.tick(InterruptLevel::current() == InterruptLevel::L1(PrivilegeLevel::User));
                }
                let Some(first) = self.first_vruntime() else { return false };
                first < self.current_vruntime() && self.charged_at.saturating_sub(self.slice_start) >= SLICE
            }
            UpdateFlags::Yield => {
                let Some(first) = self.first_vruntime() else { return false };
                if let Some(entity) = self.current.as_ref().and_then(entity::of) {
                    entity.set_vruntime(entity.vruntime().max(first + 1));
                }
                self.count_switch(true);
                true
            }
            UpdateFlags::Wait => {
                self.count_switch(true);
                true
            }
            UpdateFlags::Exit => {
                if let Some(entity) = self.current.as_ref().and_then(entity::of) {
                    entity.note_end();
                }
                true
            }
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
            self.count_switch(false);
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
