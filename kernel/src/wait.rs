// SPDX-License-Identifier: MPL-2.0

//! Waiting: wait queues, interruptible waits and time limits.
//!
//! A [`WaitQueue`] belongs to something that can become ready. Whoever makes it ready changes the state first and calls
//! [`WaitQueue::wake_all`] (or [`WaitQueue::wake_one`]) then. A wait is a loop around a condition:
//!
//! ```ignore
//! let byte = pipe.readers.wait_interruptible(None, || pipe.try_pop())?;
//! ```
//!
//! - [`WaitQueue::wait`] cannot be interrupted; use it only for what is certain to happen soon.
//! - [`WaitQueue::wait_interruptible`] ends early with `ERESTARTSYS` when a signal is pending for the thread and with
//!   `ETIMEDOUT` at the deadline. The caller maps `ERESTARTSYS` to another code where the call's man page says so.
//! - `poll`, `select` and `epoll` wait for many queues: [`WaitQueue::subscribe`] adds any [`Wake`], and a
//!   [`Sleeper`] waits for whichever comes first.
//!
//! The condition is called with no lock of this module held. It may be called often and must be cheap. Waking is
//! allowed in interrupt context; waiting only where a thread can sleep (no spin lock held).

use ostd::sync::{Waiter, Waker};

use crate::{prelude::*, time::timer};

/// Something that wants to know when a queue is woken.
pub trait Wake: Send + Sync {
    /// Told once for each waking. Called in any context, interrupts included: must not sleep. Answers whether somebody
    /// was woken by it, which is what [`WaitQueue::wake_one`] counts.
    fn wake(&self) -> bool;
}

impl Wake for Waker {
    fn wake(&self) -> bool {
        self.wake_up()
    }
}

/// A queue of those who wait for one thing.
pub struct WaitQueue {
    entries: SpinLock<Entries, LocalIrqDisabled>,
    len: AtomicUsize,
}

struct Entries {
    next_id: u64,
    list: VecDeque<(u64, Arc<dyn Wake>)>,
}

/// The name of a subscription, for [`WaitQueue::unsubscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId(u64);

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            entries: SpinLock::new(Entries { next_id: 0, list: VecDeque::new() }),
            len: AtomicUsize::new(0),
        }
    }

    /// Waits, without being disturbed by signals, until `condition` gives a value.
    pub fn wait<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        if let Some(value) = condition() {
            return value;
        }
        let sleeper = Sleeper::new();
        let _subscription = sleeper.watch(self);
        loop {
            if let Some(value) = condition() {
                return value;
            }
            sleeper.sleep();
        }
    }

    /// Waits until `condition` gives a value.
    ///
    /// `deadline` is in the time of [`crate::time::monotonic`].
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` if a signal is pending for the calling thread, `ETIMEDOUT` once the deadline has passed. A
    /// condition that is already true wins over both.
    pub fn wait_interruptible<R>(
        &self,
        deadline: Option<Duration>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        let sleeper = Sleeper::new();
        let _subscription = sleeper.watch(self);
        sleeper.sleep_until(deadline, condition)
    }

    /// As [`WaitQueue::wait_interruptible`], for a condition that can itself fail and so end the wait.
    pub fn wait_interruptible_try<R>(
        &self,
        deadline: Option<Duration>,
        mut condition: impl FnMut() -> Result<Option<R>>,
    ) -> Result<R> {
        self.wait_interruptible(deadline, || condition().transpose())?
    }

    /// Wakes everybody in the queue. Answers how many were asleep.
    pub fn wake_all(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.entries.lock().list.iter().filter(|(_, entry)| entry.wake()).count()
    }

    /// Wakes those at the head of the queue up to and including the first who was asleep.
    pub fn wake_one(&self) -> bool {
        !self.is_empty() && self.entries.lock().list.iter().any(|(_, entry)| entry.wake())
    }

    /// Adds `entry` to the queue until [`WaitQueue::unsubscribe`].
    pub fn subscribe(&self, entry: Arc<dyn Wake>) -> SubscriptionId {
        let mut entries = self.entries.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push_back((id, entry));
        self.len.fetch_add(1, Ordering::SeqCst);
        SubscriptionId(id)
    }

    /// Removes what [`WaitQueue::subscribe`] has added.
    pub fn unsubscribe(&self, id: SubscriptionId) {
        let removed = {
            let mut entries = self.entries.lock();
            let place = entries.list.iter().position(|(other, _)| *other == id.0);
            place.and_then(|place| entries.list.remove(place))
        };
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether nobody waits. Ordered after the change of state that precedes a waking.
    pub fn is_empty(&self) -> bool {
        self.len.fetch_add(0, Ordering::SeqCst) == 0
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").field("len", &self.len).finish()
    }
}

/// Waits until `condition` gives a value; only the end of the thread ends the wait early.
///
/// # Errors
///
/// `EINTR` if the thread must end, as after a deadly signal.
pub fn wait_killable<R>(queue: &WaitQueue, mut condition: impl FnMut() -> Option<R>) -> Result<R> {
    let sleeper = Sleeper::new();
    let _subscription = sleeper.watch(queue);
    let thread = Thread::current();
    let _interruptible = thread.as_ref().map(|thread| thread.interruptible(sleeper.waker()));
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if thread.as_ref().is_some_and(|thread| thread.must_exit.load(Ordering::Relaxed)) {
            return Err(EINTR);
        }
        sleeper.sleep();
    }
}

/// The calling thread, about to sleep until any of several queues is woken.
pub struct Sleeper {
    waiter: Waiter,
}

/// Keeps a [`Sleeper`] in a queue; leaving the scope takes it out.
#[must_use]
pub struct Watching<'a> {
    queue: &'a WaitQueue,
    id: SubscriptionId,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.queue.unsubscribe(self.id);
    }
}

impl Sleeper {
    /// A sleeper for the calling thread.
    pub fn new() -> Self {
        Self { waiter: Waiter::new_pair().0 }
    }

    /// Has the sleeper woken by `queue` from now on. Check the condition after this, never only before.
    pub fn watch<'a>(&self, queue: &'a WaitQueue) -> Watching<'a> {
        Watching { queue, id: queue.subscribe(self.waker()) }
    }

    /// What wakes this sleeper.
    pub fn waker(&self) -> Arc<Waker> {
        self.waiter.waker()
    }

    /// Sleeps until woken. Signals do not wake.
    pub fn sleep(&self) {
        self.waiter.wait();
    }

    /// Sleeps until `condition` gives a value, a signal is pending, or `deadline` has passed.
    ///
    /// # Errors
    ///
    /// As [`WaitQueue::wait_interruptible`].
    pub fn sleep_until<R>(
        &self,
        deadline: Option<Duration>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let thread = Thread::current();
        let waker = self.waker();
        let _interruptible = thread.as_ref().map(|thread| thread.interruptible(waker.clone()));
        let timer = deadline.map(|deadline| timer::wake_at(deadline, waker));
        loop {
            if let Some(value) = condition() {
                return Ok(value);
            }
            if thread.as_ref().is_some_and(|thread| crate::signal::has_pending(thread)) {
                return Err(ERESTARTSYS);
            }
            if timer.as_ref().is_some_and(|timer| timer.has_expired()) {
                return Err(ETIMEDOUT);
            }
            self.waiter.wait();
        }
    }
}

impl Default for Sleeper {
    fn default() -> Self {
        Self::new()
    }
}
