// SPDX-License-Identifier: MPL-2.0

//! The tasks that run user threads, one after another.
//!
//! A task needs a kernel stack. OSTD gives each stack addresses of its own, always below those of all that live, and
//! keeps the page tables of these addresses for ever. So the task of a thread that has ended is kept for another:
//!
//! ```text
//!             hire              start             its thread ends
//! idle ──────────────► hired ──────────► busy ───────────────────► idle
//!  ▲   the oldest, or    │                                          │ the youngest, if there are more than enough and
//!  │   a new one         │ dropped                                  │ no busy one is younger, or memory is short
//!  └─────────────────────┘                                          ▼
//!                                                                  end
//! ```
//!
//! Invariant: the younger a worker, the lower its stack. What ends below all others leaves addresses that are used again. What
//! ended above another would not, and is kept instead: no more addresses are taken than for as many threads as have lived at
//! a time, except where memory ran out meanwhile.
//!
//! Only the worker itself lets go of its thread and of what that leaves behind. A waker of a thread that has ended can
//! still wake the worker: it looks for an order, finds none, and sleeps again.

mod pool;

use ostd::{
    arch::cpu::context::UserContext,
    sync::{Waiter, Waker},
    task::{Task, TaskOptions},
};

use self::pool::{Pool, SPARE};
use crate::{
    prelude::*,
    process::{TaskData, ThreadLocal, local, run},
    sched::{self, SchedEntity},
};

static POOL: SpinLock<Pool<Idle>> = SpinLock::new(Pool::new());

/// The number of the next worker, locked while its stack is made.
static NEXT_NUMBER: Mutex<u64> = Mutex::new(0);

/// A task that runs threads.
pub struct Worker {
    number: u64,
    thread: SpinLock<Option<Arc<Thread>>, LocalIrqDisabled>,
    /// What the scheduler keeps of it while it has no thread.
    sched: SchedEntity,
    order: SpinLock<Option<Order>>,
}

/// What a worker is to do next.
enum Order {
    /// Run its thread.
    Run(Box<Job>),
    End,
}

/// What a thread starts with.
struct Job {
    local: ThreadLocal,
    registers: UserContext,
}

/// An idle worker, and what wakes it.
struct Idle {
    worker: Arc<Worker>,
    waker: Arc<Waker>,
}

/// A worker for a thread that has not started. It goes back to the others if this is dropped before.
#[must_use]
pub struct Hired {
    worker: Arc<Worker>,
    /// None once it has started.
    start: Option<Start>,
}

struct Start {
    thread: Arc<Thread>,
    job: Box<Job>,
    by: StartBy,
}

enum StartBy {
    /// Running the task, which is new.
    Running(Arc<Task>),
    /// Waking it.
    Waking(Arc<Waker>),
}

impl Worker {
    /// The thread that it runs.
    pub fn thread(&self) -> Option<Arc<Thread>> {
        self.thread.lock().clone()
    }

    /// Gives `f` what the scheduler keeps of its thread, or of itself if it has none. `f` takes no lock.
    pub fn with_sched<R>(&self, f: impl FnOnce(&SchedEntity) -> R) -> R {
        match &*self.thread.lock() {
            Some(thread) => f(&thread.sched),
            None => f(&self.sched),
        }
    }

    /// Runs the worker's thread to its end.
    fn run(&self, job: Job, local: &ThreadLocal) {
        let Some(thread) = self.thread() else { return };
        sched::settle_new(&thread);
        local.become_that_of(job.local);
        run::run(&thread, local, job.registers);
        local.become_nobodys();
        let seated = self.thread.lock().take();
        drop((seated, thread));
    }
}

impl Hired {
    /// Has the worker run the thread.
    pub fn start(mut self) {
        let Some(Start { thread, job, by }) = self.start.take() else { return };
        *self.worker.thread.lock() = Some(thread);
        *self.worker.order.lock() = Some(Order::Run(job));
        match by {
            StartBy::Running(task) => task.run(),
            StartBy::Waking(waker) => {
                waker.wake_up();
            }
        }
    }
}

impl Drop for Hired {
    fn drop(&mut self) {
        match self.start.take().map(|start| start.by) {
            Some(StartBy::Running(_)) => POOL.lock().remove(self.worker.number),
            Some(StartBy::Waking(waker)) => rest(Idle { worker: self.worker.clone(), waker }),
            None => {}
        }
    }
}

/// Finds a worker that is to run `thread` in user mode with the given registers.
///
/// # Errors
///
/// `ENOMEM` if none is idle and there is no memory for a kernel stack.
pub fn hire(thread: Arc<Thread>, local: ThreadLocal, registers: UserContext) -> Result<Hired> {
    let job = Box::new(Job { local, registers });
    let idle = POOL.lock().hire();
    let (worker, by) = match idle {
        Some(Idle { worker, waker }) => (worker, StartBy::Waking(waker)),
        None => {
            let (worker, task) = make()?;
            (worker, StartBy::Running(task))
        }
    };
    Ok(Hired { worker, start: Some(Start { thread, job, by }) })
}

/// Makes a worker, a busy one.
fn make() -> Result<(Arc<Worker>, Arc<Task>)> {
    vmar_ostd::reserve::ensure_stack()?;
    let local = ThreadLocal::of_nobody()?;
    let mut next = NEXT_NUMBER.lock();
    let worker = Arc::new(Worker {
        number: *next,
        thread: SpinLock::new(None),
        sched: SchedEntity::new(),
        order: SpinLock::new(None),
    });
    let own = worker.clone();
    let task = TaskOptions::new(move || work(&own))
        .data(TaskData::User(worker.clone()))
        .local_data(local)
        .build()
        .map_err(|_| ENOMEM)?;
    POOL.lock().add(worker.number);
    *next += 1;
    Ok((worker, Arc::new(task)))
}

/// The life of a worker.
fn work(worker: &Arc<Worker>) {
    let Some(task) = Task::current() else { return };
    let Some(local) = local::of(&task) else { return };
    let (waiter, waker) = Waiter::new_pair();
    loop {
        let order = worker.order.lock().take();
        match order {
            Some(Order::Run(job)) => {
                worker.run(*job, local);
                rest(Idle { worker: worker.clone(), waker: waker.clone() });
            }
            Some(Order::End) => return,
            None => waiter.wait(),
        }
    }
}

/// Takes back a worker, and ends those that are not needed.
fn rest(idle: Idle) {
    POOL.lock().rest(idle.worker.number, idle);
    while let Some(surplus) = take_surplus() {
        end(&surplus);
    }
}

fn take_surplus() -> Option<Idle> {
    POOL.lock().take_surplus()
}

/// Ends the idle workers that are more than enough, because memory is short. Answers whether that helps: there were many, which
/// are gone soon.
pub fn dismiss_idle() -> bool {
    let mut count = 0;
    while let Some(idle) = take_extra() {
        end(&idle);
        count += 1;
    }
    count >= SPARE
}

fn take_extra() -> Option<Idle> {
    POOL.lock().take_extra()
}

fn end(idle: &Idle) {
    *idle.worker.order.lock() = Some(Order::End);
    idle.waker.wake_up();
}

/// How many workers there are, and how many of them are idle.
pub fn counts() -> [usize; 2] {
    let pool = POOL.lock();
    [pool.count(), pool.count_idle()]
}
