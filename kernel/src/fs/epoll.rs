// SPDX-License-Identifier: MPL-2.0

//! Interest lists, as in `epoll(7)`.
//!
//! ```text
//!   Epoll ── items ──► Item { file (weak), interest, PollTable } ──in the queues of──► file
//!     │                                                                                  │ change
//!     └───── Ready { keys, queue } ◄──────────── Signal { key } ◄────────────────────────┘
//!                              └──wakes──► epoll_wait, or the Signal of an outer epoll
//! ```
//!
//! - A key is in the list of [`Ready`] at most once; whoever takes it out looks at the file only after that, so that no
//!   change is lost.
//! - What a file's queue holds is a [`Signal`], which knows neither file nor epoll: there is no cycle of references, and nothing
//!   is dropped where a file wakes its queue, which may be an interrupt.
//! - An item does not keep its file open. One whose file is closed is dead, and goes when it is next met.
//!
//! Epolls that wait for epolls form a graph without cycles and with few levels, because waking goes along it by recursion; one
//! lock ([`NESTING`]) guards its shape. Order of locks: `NESTING`, then `items` of the outer epoll, then of the inner.

use linux_raw_sys::general::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT,
    EPOLLWAKEUP,
};

use super::{
    anon,
    file::{File, FileOps, OpenFlags},
    poll::{PollEvents, PollTable},
    synthetic::{Text, put},
    types::FileType,
};
use crate::{
    prelude::*,
    wait::{WaitQueue, Wake},
};

/// How many epolls there may be above one another.
const MAX_LEVELS: usize = 5;

/// The flags among an item's events.
const FLAGS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

/// The shape of the graph of epolls.
static NESTING: Mutex<()> = Mutex::new(());

/// `struct epoll_event`, which is packed on x86-64: the events and two halves of the data.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
pub struct EpollEvent {
    /// `EPOLLIN` and the like, and flags.
    pub events: u32,
    /// What the caller wants to be told, low half first.
    pub data: [u32; 2],
}

/// A file under one of its numbers: the number, and the address of the file.
type Key = (i32, usize);

fn key_of(fd: i32, file: &Arc<File>) -> Key {
    (fd, Arc::as_ptr(file).addr())
}

/// An open epoll.
pub struct Epoll {
    this: Weak<Epoll>,
    items: Mutex<Items>,
    ready: Arc<Ready>,
    /// Epolls that wait for this one.
    outer: SpinLock<Vec<Weak<Epoll>>>,
}

#[derive(Default)]
struct Items {
    map: BTreeMap<Key, Item>,
    /// When there are so many items, dead ones are looked for.
    purge_at: usize,
}

struct Item {
    file: Weak<File>,
    /// Whether the file is an epoll.
    is_epoll: bool,
    interest: EpollEvent,
    signal: Arc<Signal>,
    /// Keeps the signal in the file's queues.
    _table: PollTable,
}

/// The keys of files that may be ready.
struct Ready {
    keys: SpinLock<VecDeque<Key>, LocalIrqDisabled>,
    queue: Arc<WaitQueue>,
}

/// What a file's queues wake.
struct Signal {
    key: Key,
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Signal {
    fn wake(&self) -> bool {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.ready.keys.lock().push_back(self.key);
        }
        self.ready.queue.wake_all() > 0
    }
}

impl Item {
    /// The events that are there and asked for; none if the item is switched off (`EPOLLONESHOT`).
    fn look(&self, file: &Arc<File>, table: &mut PollTable) -> PollEvents {
        let asked = self.interest.events & !FLAGS;
        file.poll(table) & PollEvents::from_bits_truncate(asked)
    }

    fn has(&self, flag: u32) -> bool {
        self.interest.events & flag != 0
    }
}

/// Makes an epoll and opens it.
///
/// # Errors
///
/// EINVAL for unknown flags; EMFILE; ENOMEM.
pub fn create(ctx: &Ctx, flags: u32) -> Result<usize> {
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(EINVAL);
    }
    let ops = Arc::new_cyclic(|this| Epoll {
        this: this.clone(),
        items: Mutex::new(Items { map: BTreeMap::new(), purge_at: 64 }),
        ready: Arc::new(Ready { keys: SpinLock::new(VecDeque::new()), queue: Arc::new(WaitQueue::new()) }),
        outer: SpinLock::new(Vec::new()),
    });
    anon::install(ctx, "anon_inode:[eventpoll]", ops, OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags))
}

/// `epoll_ctl(2)`: changes the interest of the epoll that `file` is in `target`, known as `fd`.
///
/// # Errors
///
/// Those of the man page, EBADF and EFAULT aside.
pub fn control(
    file: &Arc<File>,
    operation: u32,
    fd: i32,
    target: &Arc<File>,
    event: EpollEvent,
) -> Result<()> {
    // Files that are always ready cannot be waited for.
    if matches!(target.inode().kind(), FileType::Regular | FileType::Directory) {
        return Err(EPERM);
    }
    let epoll = of(file)?;
    if Arc::ptr_eq(file, target) {
        return Err(EINVAL);
    }
    let inner = target.downcast_ops::<Epoll>();
    let exclusive = event.events & EPOLLEXCLUSIVE != 0;
    let with_exclusive = PollEvents::IN.bits()
        | PollEvents::OUT.bits()
        | PollEvents::ERR.bits()
        | PollEvents::HUP.bits()
        | EPOLLWAKEUP
        | EPOLLET
        | EPOLLEXCLUSIVE;
    if exclusive
        && (operation == EPOLL_CTL_MOD
            || operation == EPOLL_CTL_ADD && (inner.is_some() || event.events & !with_exclusive != 0))
    {
        return Err(EINVAL);
    }
    // These are told whether asked for or not.
    let always = (PollEvents::ERR | PollEvents::HUP).bits();
    let event = EpollEvent { events: event.events | always, ..event };
    let key = key_of(fd, target);
    match operation {
        EPOLL_CTL_ADD => match inner {
            Some(inner) => {
                let _nesting = NESTING.lock();
                epoll.check_nesting(inner)?;
                // Nobody but who has locked the shape uses the room that is made here.
                try_reserve(&mut *inner.outer.lock(), 1)?;
                epoll.add(key, target, event)?;
                inner.outer.lock().push(epoll.this.clone());
                Ok(())
            }
            None => epoll.add(key, target, event),
        },
        EPOLL_CTL_DEL => {
            epoll.remove(key)?;
            if let Some(inner) = inner {
                let _nesting = NESTING.lock();
                inner.outer.lock().retain(|outer| !Weak::ptr_eq(outer, &epoll.this));
            }
            Ok(())
        }
        EPOLL_CTL_MOD => epoll.modify(key, target, event),
        _ => Err(EINVAL),
    }
}

/// The epoll that `file` is.
///
/// # Errors
///
/// EINVAL if it is none.
pub fn of(file: &Arc<File>) -> Result<&Epoll> {
    file.downcast_ops::<Epoll>().ok_or(EINVAL)
}

impl Epoll {
    fn add(&self, key: Key, target: &Arc<File>, interest: EpollEvent) -> Result<()> {
        let mut items = self.items.lock();
        if items.map.contains_key(&key) {
            return Err(EEXIST);
        }
        if items.map.len() >= items.purge_at {
            items.map.retain(|_, item| item.file.strong_count() > 0);
            items.purge_at = (2 * items.map.len()).max(64);
            // Who is gone cannot be woken any more.
            self.ready.keys.lock().retain(|key| items.map.contains_key(key));
        }
        let room = items.map.len() + 1;
        {
            // Only items have their keys in the list, each at most once, so that waking never has to allocate.
            let mut keys = self.ready.keys.lock();
            let more = room.saturating_sub(keys.len());
            try_reserve(&mut *keys, more)?;
        }
        let signal = Arc::new(Signal { key, is_queued: AtomicBool::new(false), ready: self.ready.clone() });
        let mut table = PollTable::new(signal.clone());
        let found = target.poll(&mut table);
        table.check()?;
        table.stop();
        let is_epoll = target.downcast_ops::<Epoll>().is_some();
        let item = Item { file: Arc::downgrade(target), is_epoll, interest, signal, _table: table };
        if !found.is_empty() {
            item.signal.wake();
        }
        items.map.insert(key, item);
        Ok(())
    }

    fn remove(&self, key: Key) -> Result<()> {
        let mut items = self.items.lock();
        // Out of the file's queues first, so that the key does not come back.
        drop(items.map.remove(&key).ok_or(ENOENT)?);
        self.ready.keys.lock().retain(|other| *other != key);
        Ok(())
    }

    fn modify(&self, key: Key, target: &Arc<File>, interest: EpollEvent) -> Result<()> {
        let mut items = self.items.lock();
        let item = items.map.get_mut(&key).ok_or(ENOENT)?;
        if item.has(EPOLLEXCLUSIVE) {
            return Err(EINVAL);
        }
        item.interest = interest;
        if !item.look(target, &mut PollTable::query()).is_empty() {
            item.signal.wake();
        }
        Ok(())
    }

    /// Fails if `self` could not wait for `inner` too.
    fn check_nesting(&self, inner: &Epoll) -> Result<()> {
        let below = inner.levels_below(self, 0)?;
        if below + self.levels_above(0)? > MAX_LEVELS { Err(ELOOP) } else { Ok(()) }
    }

    /// How many levels of epolls begin with this one. Fails if `outer` is among them.
    fn levels_below(&self, outer: &Epoll, depth: usize) -> Result<usize> {
        if core::ptr::eq(self, outer) || depth > MAX_LEVELS {
            return Err(ELOOP);
        }
        let files = {
            let items = self.items.lock();
            let epolls = items.map.values().filter(|item| item.is_epoll);
            try_collect(epolls.filter_map(|item| item.file.upgrade()))?
        };
        let mut levels = 0;
        for file in &files {
            if let Some(inner) = file.downcast_ops::<Epoll>() {
                levels = levels.max(inner.levels_below(outer, depth + 1)?);
            }
        }
        Ok(levels + 1)
    }

    /// How many levels of epolls end with this one.
    fn levels_above(&self, depth: usize) -> Result<usize> {
        if depth > MAX_LEVELS {
            return Ok(depth);
        }
        let outer = {
            let mut outer = self.outer.lock();
            outer.retain(|outer| outer.strong_count() > 0);
            try_collect(outer.iter().filter_map(Weak::upgrade))?
        };
        let mut most = 0;
        for outer in &outer {
            most = most.max(outer.levels_above(depth + 1)?);
        }
        Ok(1 + most)
    }

    /// Waits until files are ready, and hands the events of at most `max` of them to `report`. Answers how many there were;
    /// none at the deadline.
    ///
    /// # Errors
    ///
    /// EINTR if a signal comes first; those of `report`, if the first event could not be reported.
    pub fn wait(
        &self,
        max: usize,
        deadline: Option<Duration>,
        mut report: impl FnMut(usize, EpollEvent) -> Result<()>,
    ) -> Result<usize> {
        let attempt = || match self.collect(max, &mut report) {
            Ok(0) => None,
            done => Some(done),
        };
        match self.ready.queue.wait_interruptible(deadline, attempt) {
            Ok(done) => done,
            Err(ETIMEDOUT) => Ok(0),
            Err(_) => Err(EINTR),
        }
    }

    /// [`wait`](Self::wait), without waiting.
    ///
    /// # Errors
    ///
    /// Those of `report`, if the first event could not be reported.
    pub fn collect(
        &self,
        max: usize,
        report: &mut impl FnMut(usize, EpollEvent) -> Result<()>,
    ) -> Result<usize> {
        let mut items = self.items.lock();
        // What comes back to the list in the meantime is not looked at twice.
        let mut turns = self.ready.keys.lock().len();
        let mut count = 0;
        let mut result = Ok(());
        while turns > 0 && count < max && result.is_ok() {
            turns -= 1;
            let Some(key) = self.ready.keys.lock().pop_front() else { break };
            let Some(item) = items.map.get_mut(&key) else { continue };
            item.signal.is_queued.store(false, Ordering::SeqCst);
            let Some(file) = item.file.upgrade() else {
                items.map.remove(&key);
                continue;
            };
            let events = item.look(&file, &mut PollTable::query());
            if events.is_empty() {
                continue;
            }
            result = report(count, EpollEvent { events: events.bits(), data: item.interest.data });
            if result.is_err() {
                item.signal.requeue();
                break;
            }
            count += 1;
            if item.has(EPOLLONESHOT) {
                item.interest.events &= FLAGS;
            } else if !item.has(EPOLLET) {
                item.signal.requeue();
            }
        }
        match result {
            Err(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    /// Whether a wait would find something.
    fn has_events(&self) -> bool {
        let items = self.items.lock();
        // With the items locked, keys come only at the end, and none goes.
        let key_at = |place: usize| self.ready.keys.lock().get(place).copied();
        (0..).map_while(key_at).filter_map(|key| items.map.get(&key)).any(|item| {
            item.file.upgrade().is_some_and(|file| !item.look(&file, &mut PollTable::query()).is_empty())
        })
    }
}

impl Signal {
    /// Puts the key back into the list, and wakes nobody.
    fn requeue(&self) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.ready.keys.lock().push_back(self.key);
        }
    }
}

impl FileOps for Epoll {
    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.ready.queue);
        if self.has_events() { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn fdinfo(&self, _file: &File, out: &mut Text) {
        for ((fd, _), item) in &self.items.lock().map {
            let Some(file) = item.file.upgrade() else { continue };
            let meta = file.inode().metadata();
            let [low, high] = item.interest.data;
            put!(
                out,
                "tfd: {fd:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}\n",
                item.interest.events,
                u64::from(high) << 32 | u64::from(low),
                file.offset(),
                meta.ino,
                meta.dev.encode(),
            );
        }
    }
}
