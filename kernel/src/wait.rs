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

/// Entries in the first part of a queue.
const FEW: usize = 64;

/// Entries in their order: what is in `first` comes before what is in `rest`, and in both the ids ascend.
///
/// Nearly all queues have few entries, which are quickly added to a list. A program can have very many in one, for which there may
/// be no run of memory, and there is nobody to be told; a map of many is in small pieces.
struct Entries {
    next_id: u64,
    first: VecDeque<(u64, Arc<dyn Wake>)>,
    rest: BTreeMap<u64, Arc<dyn Wake>>,
}

impl Entries {
    const fn new() -> Self {
        Self { next_id: 0, first: VecDeque::new(), rest: BTreeMap::new() }
    }

    /// Hands the entries to `is_last` until it says so; returns whether it did.
    fn visit(&self, mut is_last: impl FnMut(&Arc<dyn Wake>) -> bool) -> bool {
        self.first.iter().any(|(_, entry)| is_last(entry))
            || !self.rest.is_empty() && self.rest.values().any(is_last)
    }

    fn add(&mut self, entry: Arc<dyn Wake>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.rest.is_empty() && self.first.len() < FEW {
            self.first.push_back((id, entry));
        } else {
            self.rest.insert(id, entry);
        }
        id
    }

    fn remove(&mut self, id: u64) -> Option<Arc<dyn Wake>> {
        match self.first.iter().position(|(other, _)| *other == id) {
            // Nearly always, and much quicker.
            Some(0) => self.first.pop_front().map(|(_, entry)| entry),
            Some(place) => self.first.remove(place).map(|(_, entry)| entry),
            None => self.rest.remove(&id),
        }
    }
}

/// The name of a subscription, for [`WaitQueue::unsubscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId(u64);

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { entries: SpinLock::new(Entries::new()), len: AtomicUsize::new(0) }
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
        let mut woken = 0;
        self.entries.lock().visit(|entry| {
            woken += usize::from(entry.wake());
            false
        });
        woken
    }

    /// Wakes those at the head of the queue up to and including the first who was asleep.
    pub fn wake_one(&self) -> bool {
        !self.is_empty() && self.entries.lock().visit(|entry| entry.wake())
    }

    /// Adds `entry` to the queue until [`WaitQueue::unsubscribe`].
    pub fn subscribe(&self, entry: Arc<dyn Wake>) -> SubscriptionId {
        let mut entries = self.entries.lock();
        let id = entries.add(entry);
        self.len.fetch_add(1, Ordering::SeqCst);
        SubscriptionId(id)
    }

    /// Removes what [`WaitQueue::subscribe`] has added.
    pub fn unsubscribe(&self, id: SubscriptionId) {
        // Dropped with the lock released: it may be the last reference.
        let removed = self.entries.lock().remove(id.0);
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

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    /// Notes its number when it is woken.
    struct Sign(usize, Arc<SpinLock<Vec<usize>>>);

    impl Wake for Sign {
        fn wake(&self) -> bool {
            self.1.lock().push(self.0);
            self.0.is_multiple_of(2)
        }
    }

    #[ktest]
    fn many_are_woken_in_their_order() {
        let woken = Arc::new(SpinLock::new(Vec::new()));
        let queue = WaitQueue::new();
        let subscribe = |number| queue.subscribe(Arc::new(Sign(number, woken.clone())));
        let mut ids: Vec<_> = (0..3 * FEW).map(subscribe).collect();
        queue.unsubscribe(ids.remove(1));
        queue.unsubscribe(ids.remove(2 * FEW));
        ids.push(subscribe(3 * FEW));
        let expected: Vec<_> = (0..=3 * FEW).filter(|number| ![1, 2 * FEW + 1].contains(number)).collect();
        assert_eq!(queue.wake_all(), expected.iter().filter(|number| number.is_multiple_of(2)).count());
        assert_eq!(core::mem::take(&mut *woken.lock()), expected);
        queue.unsubscribe(ids.remove(0));
        assert!(queue.wake_one());
        assert_eq!(*woken.lock(), [2]);
        ids.into_iter().for_each(|id| queue.unsubscribe(id));
        assert!(queue.is_empty());
        assert_eq!(queue.wake_all(), 0);
    }
}
