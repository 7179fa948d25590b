// SPDX-License-Identifier: MPL-2.0

//! Readiness: what a file can do at once, and how those who wait for it hear of a change.
//!
//! A file that can block keeps `Arc<WaitQueue>`s (one for readers and one for writers, say). Whoever waits for the file
//! (a blocking read, poll, select, an epoll item) gets into its queues. The protocol has two sides:
//!
//! - the waiter gets into the queue first and looks at the file's state second;
//! - the file changes its state first and wakes the queue second.
//!
//! So no change can fall between looking and waiting.

use bitflags::bitflags;

use crate::{
    prelude::*,
    wait::{SubscriptionId, WaitQueue, Wake},
};

bitflags! {
    /// Readiness events; the values are those of `poll(2)` and `epoll(7)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PollEvents: u32 {
        /// There is data to read.
        const IN = 0x001;
        /// Something exceptional has happened.
        const PRI = 0x002;
        /// Writing will not block.
        const OUT = 0x004;
        /// An error; always reported.
        const ERR = 0x008;
        /// The peer has hung up; always reported.
        const HUP = 0x010;
        /// Not an open file.
        const NVAL = 0x020;
        /// The same as `IN`.
        const RDNORM = 0x040;
        /// Priority data can be read.
        const RDBAND = 0x080;
        /// The same as `OUT`.
        const WRNORM = 0x100;
        /// Priority data can be written.
        const WRBAND = 0x200;
        /// The peer has shut down its writing half.
        const RDHUP = 0x2000;
        /// Readable, under both of its names.
        const READABLE = Self::IN.bits() | Self::RDNORM.bits();
        /// Writable, under both of its names.
        const WRITABLE = Self::OUT.bits() | Self::WRNORM.bits();
        /// What is reported whether asked for or not.
        const ALWAYS = Self::ERR.bits() | Self::HUP.bits() | Self::NVAL.bits();
    }
}

/// Whether an operation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Sleep until it can be done.
    Yes,
    /// Fail with EAGAIN instead.
    No,
}

/// Runs `attempt` until it gives something else than EAGAIN, sleeping in `queue` in between.
///
/// # Errors
///
/// Those of `attempt` (EAGAIN included if `blocking` is [`Blocking::No`]); ERESTARTSYS if a signal arrives first.
pub fn wait_ready<T>(
    queue: &WaitQueue,
    blocking: Blocking,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    match blocking {
        Blocking::No => attempt(),
        Blocking::Yes => queue.wait_interruptible(None, || match attempt() {
            Err(EAGAIN) => None,
            done => Some(done),
        })?,
    }
}

/// How many queues a waker can be in whatever memory there is.
const MANY: usize = 64;

/// What `FileOps::poll` is handed: a waker to put into the file's queues, or none to only ask.
///
/// Dropping the table takes the waker out of all queues.
#[derive(Default)]
pub struct PollTable {
    wake: Option<Arc<dyn Wake>>,
    subscriptions: Vec<(Arc<WaitQueue>, SubscriptionId)>,
    lacks_memory: bool,
}

impl PollTable {
    /// A table that only asks for the present state.
    pub const fn query() -> Self {
        Self { wake: None, subscriptions: Vec::new(), lacks_memory: false }
    }

    /// A table that has `wake` told of changes in every file that is polled with it, as long as the table lives.
    pub const fn new(wake: Arc<dyn Wake>) -> Self {
        Self { wake: Some(wake), subscriptions: Vec::new(), lacks_memory: false }
    }

    /// Stops getting into further queues; those it is in already stay. For a poll that has found a ready file.
    pub fn stop(&mut self) {
        self.wake = None;
    }

    /// Called by a file for each of its queues, before it looks at its own state.
    pub fn observe(&mut self, queue: &Arc<WaitQueue>) {
        if let Some(wake) = &self.wake {
            // Each takes a little memory in the queue as well, and many more can follow within one call.
            let is_too_many = self.subscriptions.len() >= MANY && crate::mm::is_kernel_short();
            if is_too_many || try_reserve(&mut self.subscriptions, 1).is_err() {
                self.lacks_memory = true;
                return;
            }
            let id = queue.subscribe(wake.clone());
            self.subscriptions.push((queue.clone(), id));
        }
    }

    /// Fails if it could not get into a queue. To be asked before anything is waited for.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn check(&self) -> Result<()> {
        if self.lacks_memory { Err(ENOMEM) } else { Ok(()) }
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        for (queue, id) in self.subscriptions.drain(..) {
            queue.unsubscribe(id);
        }
    }
}
