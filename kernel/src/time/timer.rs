// SPDX-License-Identifier: MPL-2.0

//! One queue of timers for the machine, driven by the timer interrupt of the first CPU.
//!
//! A [`Timer`] fires once, at or soon after its deadline, and runs its action in interrupt context: the action must not
//! sleep and takes only locks that disable interrupts. Dropping the handle disarms the timer.

use ostd::sync::Waker;

use crate::{prelude::*, time::monotonic_nanos};

type Action = Arc<dyn Fn() + Send + Sync>;

static QUEUE: SpinLock<BTreeMap<(u64, u64), Action>, LocalIrqDisabled> = SpinLock::new(BTreeMap::new());
/// The earliest deadline, so that an idle tick is one comparison.
static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// An armed timer. Dropping it disarms it.
#[must_use]
pub struct Timer {
    key: (u64, u64),
}

/// Runs `action` at `deadline`, in the time of [`crate::time::monotonic`].
pub fn run_at(deadline: Duration, action: impl Fn() + Send + Sync + 'static) -> Timer {
    let nanos = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1);
    let key = (nanos, SERIAL.fetch_add(1, Ordering::Relaxed));
    let mut queue = QUEUE.lock();
    queue.insert(key, Arc::new(action));
    NEXT.fetch_min(nanos, Ordering::Relaxed);
    Timer { key }
}

/// Wakes `waker` at `deadline`.
pub fn wake_at(deadline: Duration, waker: Arc<Waker>) -> Timer {
    run_at(deadline, move || {
        waker.wake_up();
    })
}

impl Timer {
    /// Whether the deadline has passed.
    pub fn has_expired(&self) -> bool {
        monotonic_nanos() >= self.key.0
    }

    /// When the timer fires, in the time of [`crate::time::monotonic`].
    pub fn deadline(&self) -> Duration {
        Duration::from_nanos(self.key.0)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let action = QUEUE.lock().remove(&self.key);
        drop(action);
    }
}

pub(super) fn init() {
    ostd::timer::register_callback_on_cpu(expire);
}

fn expire() {
    let now = monotonic_nanos();
    if NEXT.load(Ordering::Relaxed) > now {
        return;
    }
    loop {
        let due = {
            let mut queue = QUEUE.lock();
            match queue.first_key_value() {
                Some(((nanos, _), _)) if *nanos <= now => queue.pop_first(),
                first => {
                    NEXT.store(first.map_or(u64::MAX, |((nanos, _), _)| *nanos), Ordering::Relaxed);
                    None
                }
            }
        };
        match due {
            Some((_, action)) => action(),
            None => return,
        }
    }
}
