// SPDX-License-Identifier: MPL-2.0

//! Those who wait for a userfaultfd: threads whose faults it serves, and threads that tell it of a change.
//!
//! A fault is read once and stays in the queue until it is woken; an event is over when it is read. Faults come before events,
//! and both in the order in which they came.

use core::ops::Range;

use vmar::vmar::fault::FaultError;

use super::{UserFaultFd, abi::Message, event::Event};
use crate::{prelude::*, wait::WaitQueue};

/// Who waits.
pub(super) struct Queue {
    faults: Vec<Waiting>,
    events: Vec<Arc<Event>>,
}

/// A thread whose fault is to be served.
struct Waiting {
    message: Message,
    is_read: bool,
    waiter: Arc<Waiter>,
}

/// What a thread waits with.
pub(super) struct Waiter {
    is_woken: AtomicBool,
    queue: WaitQueue,
}

/// A thread's place in the queue, which it leaves when this goes.
pub(super) struct Place<'a> {
    uffd: &'a UserFaultFd,
    waiter: Arc<Waiter>,
}

/// What is to be read next.
pub(super) enum Taken {
    /// This.
    Message(Message),
    /// A fork, for which a descriptor must be opened first.
    Fork(Arc<Event>),
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { faults: Vec::new(), events: Vec::new() }
    }
}

impl Place<'_> {
    pub(super) fn queue(&self) -> &WaitQueue {
        &self.waiter.queue
    }

    pub(super) fn is_woken(&self) -> bool {
        self.waiter.is_woken.load(Ordering::Acquire)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.uffd.queue.lock();
        queue.faults.retain(|waiting| !Arc::ptr_eq(&waiting.waiter, &self.waiter));
    }
}

impl UserFaultFd {
    /// Has the running thread wait with a fault.
    pub(super) fn enqueue(&self, message: Message) -> core::result::Result<Place<'_>, FaultError> {
        let waiter = Arc::new(Waiter { is_woken: AtomicBool::new(false), queue: WaitQueue::new() });
        {
            let mut queue = self.queue.lock();
            try_reserve(&mut queue.faults, 1).map_err(|_| FaultError::OutOfMemory)?;
            queue.faults.push(Waiting { message, is_read: false, waiter: waiter.clone() });
        }
        Ok(Place { uffd: self, waiter })
    }

    /// Lets those try again whose faults are in `range` (bytes).
    pub(super) fn wake(&self, range: Range<Vaddr>) {
        let mut queue = self.queue.lock();
        queue.faults.retain(|waiting| {
            let is_waiting_on = !range.contains(&waiting.message.fault_addr());
            if !is_waiting_on {
                waiting.waiter.is_woken.store(true, Ordering::Release);
                // The thread's own place still holds the waiter.
                waiting.waiter.queue.wake_all();
            }
            is_waiting_on
        });
    }

    /// Takes what is to be read next.
    ///
    /// # Errors
    ///
    /// EAGAIN if there is nothing.
    pub(super) fn take(&self) -> Result<Taken> {
        let mut queue = self.queue.lock();
        if let Some(waiting) = queue.faults.iter_mut().find(|waiting| !waiting.is_read) {
            waiting.is_read = true;
            return Ok(Taken::Message(waiting.message));
        }
        if queue.events.is_empty() {
            return Err(EAGAIN);
        }
        let event = queue.events.remove(0);
        if event.is_fork() {
            return Ok(Taken::Fork(event));
        }
        let message = event.message();
        event.complete();
        Ok(Taken::Message(message))
    }

    /// Has an event wait to be read.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub(super) fn enqueue_event(&self, event: &Arc<Event>) -> Result<()> {
        let mut queue = self.queue.lock();
        try_reserve(&mut queue.events, 1)?;
        queue.events.push(event.clone());
        Ok(())
    }

    /// Takes an event back that nobody has read; returns whether it was there.
    pub(super) fn withdraw_event(&self, event: &Arc<Event>) -> bool {
        let mut queue = self.queue.lock();
        let place = queue.events.iter().position(|other| Arc::ptr_eq(other, event));
        place.map(|place| queue.events.remove(place)).is_some()
    }

    /// Has those who wait for their events to be read look about themselves.
    pub(super) fn wake_events(&self) {
        self.queue.lock().events.iter().for_each(|event| event.wake());
    }

    pub(super) fn has_something_to_read(&self) -> bool {
        let queue = self.queue.lock();
        !queue.events.is_empty() || queue.faults.iter().any(|waiting| !waiting.is_read)
    }

    /// How many faults were not read yet, and how many wait in all.
    pub(super) fn count_faults(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.faults.iter().filter(|waiting| !waiting.is_read).count(), queue.faults.len())
    }
}
