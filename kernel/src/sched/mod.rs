// SPDX-License-Identifier: MPL-2.0

//! The scheduler: fair, preemptive, one run queue for each CPU.
//!
//! Each task has a virtual run time: the time it has run, divided by its weight (its nice level). A CPU runs the task
//! with the least. When a task wakes it gets at least the queue's smallest virtual run time less a small credit, so
//! a sleeper runs soon but cannot save up time. A CPU with nothing to do takes a task from the longest queue.
//!
//! ```text
//! enqueue ─► queue of one CPU, by virtual run time ─► current ─┬─► back into the queue (slice used up, yield)
//!                 ▲                                            └─► out (sleeps, ends)
//!                 └── an idle CPU steals from here
//! ```

mod entity;
pub mod load;
mod queue;

use ostd::{
    cpu::{CpuId, CpuSet, PinCurrentCpu, all_cpus, num_cpus},
    smp::inter_processor_call,
    task::{
        Task, TaskOptions, disable_preempt, halt_cpu,
        scheduler::{
            EnqueueFlags, LocalRunQueue, Scheduler, enable_preemption_on_cpu, info::CommonSchedInfo,
            inject_scheduler,
        },
    },
};

pub use self::entity::SchedEntity;
use self::queue::RunQueue;
use crate::{mm::AddressSpace, prelude::*, process::TaskData, time::timer, wait::Sleeper};

/// The most CPUs there can be.
pub const MAX_CPUS: usize = 64;

/// The injected scheduler.
struct FairScheduler {
    cpus: [Cpu; MAX_CPUS],
}

struct Cpu {
    queue: SpinLock<RunQueue, LocalIrqDisabled>,
    /// How many tasks wait in the queue, to look at without its lock.
    waiting: AtomicUsize,
    /// The task that this CPU is about to leave, by its address; 0 for none. It must not start elsewhere before the
    /// CPU has left it: two CPUs that switch to each other's task would wait for each other forever.
    leaving: AtomicUsize,
}

static SCHEDULER: FairScheduler = FairScheduler {
    cpus: [const {
        Cpu {
            queue: SpinLock::new(RunQueue::new()),
            waiting: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
        }
    }; MAX_CPUS],
};

/// Installs the scheduler. Called once, before any task exists.
pub fn init() {
    inject_scheduler(&SCHEDULER);
}

/// Gives the current CPU its idle task and its tick. Called once on every CPU.
pub fn init_on_cpu() {
    let cpu = disable_preempt().current_cpu();
    let idle = TaskOptions::new(|| {
        loop {
            halt_cpu();
            // The CPU keeps the address space of the last program it ran until it gets another. By now it has been idle
            // for a tick: let go of it, for that program may have ended.
            if let Ok(kernel) = AddressSpace::kernel() {
                kernel.activate();
            }
        }
    })
    .data(TaskData::Kernel(SchedEntity::pinned(cpu)))
    .build();
    match idle {
        Ok(idle) => {
            let idle = Arc::new(idle);
            idle.cpu().set_anyway(cpu);
            let this = SCHEDULER.cpu(cpu);
            this.queue.lock().set_up(idle, &this.leaving);
        }
        Err(error) => error!("no idle task for CPU {}: {:?}", u32::from(cpu), error),
    }
    enable_preemption_on_cpu();
    crate::time::init_on_cpu();
    if cpu == CpuId::bsp() {
        ostd::timer::register_callback_on_cpu(load::tick);
    }
}

/// What the other CPUs do when the kernel has set itself up. It returns for OSTD to run tasks.
pub fn ap_entry() {
    init_on_cpu();
    // The last thing: it may be run at once, and then this never returns.
    spawn_switcher(disable_preempt().current_cpu());
}

/// Gives `cpu` the task that lets memory be given back in time (see [`vmar_ostd::reclaim`]).
pub fn spawn_switcher(cpu: CpuId) {
    let spawned = TaskOptions::new(|| vmar_ostd::reclaim::run_switcher())
        .data(TaskData::Kernel(SchedEntity::pinned(cpu)))
        .spawn();
    if let Err(error) = spawned {
        error!("no switcher for CPU {}: {:?}", u32::from(cpu), error);
    }
}

/// Brings what the current task has run up to date.
pub fn charge_current() {
    let guard = disable_preempt();
    SCHEDULER.cpu(guard.current_cpu()).queue.lock().charge(|_| {});
}

/// Notes that the current CPU has left the task it ran before. OSTD calls it after every switch.
pub fn after_switch() {
    let guard = disable_preempt();
    SCHEDULER.cpu(guard.current_cpu()).leaving.store(0, Ordering::Release);
}

/// How many tasks run or want to run.
pub fn runnable_count() -> usize {
    all_cpus().map(|cpu| SCHEDULER.cpu(cpu).queue.lock().runnable()).sum()
}

/// Whether the calling thread is on a CPU that its affinity allows. It can lose that any time another thread changes it.
pub fn is_at_home(thread: &Thread) -> bool {
    thread.sched.may_run_on(CpuId::current_racy())
}

/// Gives a new thread its place on the current CPU if the task that runs it was there already, and did not have to be queued for it.
pub fn settle_new(thread: &Thread) {
    if thread.sched.last_cpu().is_none() {
        let guard = disable_preempt();
        let cpu = guard.current_cpu();
        SCHEDULER.cpu(cpu).queue.lock().place(&thread.sched, cpu);
    }
}

/// Has the thread come back from user mode for a moment, if it may be there on another CPU. Any context.
pub fn kick(thread: &Thread) {
    if num_cpus() > 1
        && let Some(cpu) = thread.sched.last_cpu()
        && cpu != CpuId::current_racy()
    {
        // That it is interrupted is all that is wanted.
        inter_processor_call(&CpuSet::from(cpu), || {});
    }
}

/// Moves the calling thread to a CPU that its affinity allows, if it is not on one.
pub fn migrate_current(thread: &Thread) {
    if !is_at_home(thread) {
        // A task that wakes is put where it may run. So sleep for a moment.
        let sleeper = Sleeper::new();
        let _timer = timer::wake_at(crate::time::monotonic(), sleeper.waker());
        sleeper.sleep();
    }
}

impl FairScheduler {
    fn cpu(&self, cpu: CpuId) -> &Cpu {
        &self.cpus[u32::from(cpu) as usize]
    }

    /// The CPU for a waking or new task: where it ran last, unless tasks wait there and another has fewer.
    fn choose_cpu(&self, task: &Arc<Task>) -> CpuId {
        let here = CpuId::current_racy();
        let choice = entity::with(task, |entity| {
            if let Some(cpu) = entity.home() {
                return cpu;
            }
            let preferred = entity.last_cpu().unwrap_or(here);
            let load = |cpu: CpuId| self.cpu(cpu).waiting.load(Ordering::Relaxed);
            let least = all_cpus().filter(|cpu| entity.may_run_on(*cpu)).min_by_key(|cpu| load(*cpu));
            match least {
                Some(least) if !entity.may_run_on(preferred) || load(least) < load(preferred) => least,
                _ => preferred,
            }
        });
        choice.unwrap_or(here)
    }

    /// The CPU that is about to leave `task`, if one is.
    fn is_left_by(&self, task: &Arc<Task>) -> Option<CpuId> {
        all_cpus().find(|cpu| self.cpu(*cpu).leaving.load(Ordering::Acquire) == address(task))
    }

    /// Takes a task that waits elsewhere and may run on `thief`.
    fn steal_for(&self, thief: CpuId) -> Option<Arc<Task>> {
        let victim = all_cpus()
            .filter(|cpu| *cpu != thief)
            .map(|cpu| self.cpu(cpu))
            .max_by_key(|cpu| cpu.waiting.load(Ordering::Relaxed))?;
        if victim.waiting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // Two CPUs may want to steal from each other: neither waits for the other's lock.
        let mut queue = victim.queue.try_lock()?;
        let leaving = victim.leaving.load(Ordering::Acquire);
        let stolen = queue.give_away(thief, leaving)?;
        stolen.cpu().set_anyway(thief);
        victim.waiting.store(queue.waiting(), Ordering::Relaxed);
        Some(stolen)
    }
}

impl Scheduler<Task> for FairScheduler {
    fn enqueue(&self, task: Arc<Task>, _flags: EnqueueFlags) -> Option<CpuId> {
        let mut chosen = self.choose_cpu(&task);
        loop {
            // `task.cpu()` tells in which queue the task is. It leaves a queue only under that queue's lock, so a task
            // that is found there under the lock has not gone to sleep yet, and will see that it was woken.
            let before = task.cpu().set_if_is_none(chosen);
            let mut at = before.err().unwrap_or(chosen);
            if before.is_ok()
                && let Some(last) = self.is_left_by(&task)
            {
                task.cpu().set_anyway(last);
                at = last;
            }
            let cpu = self.cpu(at);
            let mut queue = cpu.queue.lock();
            if before.is_err() {
                match task.cpu().set_if_is_none(at) {
                    Ok(()) => {}
                    Err(now) if now == at => return None,
                    Err(now) => {
                        chosen = now;
                        continue;
                    }
                }
            }
            let preempts = queue.add(task, at);
            cpu.waiting.store(queue.waiting(), Ordering::Relaxed);
            return preempts.then_some(at);
        }
    }

    fn local_rq_with(&self, f: &mut dyn FnMut(&dyn LocalRunQueue<Task>)) {
        let guard = disable_preempt();
        f(&*self.cpu(guard.current_cpu()).queue.lock());
    }

    fn mut_local_rq_with(&self, f: &mut dyn FnMut(&mut dyn LocalRunQueue<Task>)) {
        let guard = disable_preempt();
        let id = guard.current_cpu();
        let cpu = self.cpu(id);
        let mut queue = cpu.queue.lock();
        if num_cpus() > 1
            && queue.wants_work()
            && let Some(task) = self.steal_for(id)
        {
            queue.adopt(task, id);
        }
        f(&mut *queue);
        cpu.waiting.store(queue.waiting(), Ordering::Relaxed);
    }
}

/// What tells one task from another.
fn address(task: &Arc<Task>) -> usize {
    Arc::as_ptr(task).addr()
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn a_task_that_has_ended_is_not_queued_by_a_late_waker() {
        let build = || {
            let options = TaskOptions::new(|| {}).data(TaskData::Kernel(SchedEntity::pinned(CpuId::bsp())));
            Arc::new(options.build().unwrap())
        };
        let (ended, asleep) = (build(), build());
        entity::with(&ended, SchedEntity::note_end).unwrap();
        assert_eq!(SCHEDULER.enqueue(ended.clone(), EnqueueFlags::Wake), None);
        assert_eq!(ended.cpu().get(), None);
        assert_eq!(SCHEDULER.cpu(CpuId::bsp()).queue.lock().waiting(), 0);
        assert_eq!(SCHEDULER.enqueue(asleep.clone(), EnqueueFlags::Wake), Some(CpuId::bsp()));
        assert_eq!(asleep.cpu().get(), Some(CpuId::bsp()));
        let mut queue = SCHEDULER.cpu(CpuId::bsp()).queue.lock();
        assert_eq!(queue.waiting(), 1);
        assert!(queue.give_away(CpuId::bsp(), 0).is_some());
    }
}
