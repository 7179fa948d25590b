// SPDX-License-Identifier: MPL-2.0

//! What a userfaultfd is told of changes of the mappings it watches: forks, moves, removals.
//!
//! Whoever makes the change waits until it has been read of. As long as a change is under way or not read of, the userfaultfd
//! fills nothing (`EAGAIN`): what is to be filled may be elsewhere by now.
//!
//! ```text
//!   unmapping(range) ─► Announcement ─► the change is made ─► tell() ─► read(2) ─► the caller goes on
//!        │  filling fails from here on                           │                     filling works again
//!        └──────── the change fails: dropped, nobody is told ◄───┘
//! ```

use core::{any::Any, ops::Range};

use linux_raw_sys::general::{UFFD_EVENT_FORK, UFFD_EVENT_REMAP, UFFD_EVENT_REMOVE, UFFD_EVENT_UNMAP};
use vmar::{mapping::MappingFlags, vmar::watch::FaultHandler};

use super::{
    UserFaultFd,
    abi::{Features, Message},
};
use crate::{
    ipc::shm::{self, Segment},
    mm::AddressSpace,
    prelude::*,
    wait::{WaitQueue, wait_killable},
};

/// A change under way; the userfaultfd fills nothing while this lives.
pub(super) struct Changing(Arc<UserFaultFd>);

impl Changing {
    pub(super) fn of(uffd: Arc<UserFaultFd>) -> Self {
        uffd.changing.fetch_add(1, Ordering::SeqCst);
        Self(uffd)
    }

    /// Has the userfaultfd read `message`, and waits until it has. Answers whether it did: it may be closed instead, or the caller
    /// ended.
    fn tell(self, message: Message, child: Option<Arc<UserFaultFd>>) -> bool {
        let event =
            Arc::new(Event { message, child, is_over: AtomicBool::new(false), queue: WaitQueue::new() });
        let uffd = &self.0;
        if uffd.is_released() || uffd.enqueue_event(&event).is_err() {
            return false;
        }
        uffd.readers.wake_all();
        let waited = wait_killable(&event.queue, || {
            let is_over = event.is_over.load(Ordering::Acquire);
            (is_over || uffd.is_released()).then_some(is_over)
        });
        // Somebody may be reading it right now, and will have read it.
        waited == Ok(true) || !uffd.withdraw_event(&event)
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.changing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Something to be read, and who waits for that.
pub(super) struct Event {
    message: Message,
    /// Of a fork: the userfaultfd of the child.
    child: Option<Arc<UserFaultFd>>,
    is_over: AtomicBool,
    queue: WaitQueue,
}

impl Event {
    pub(super) fn is_fork(&self) -> bool {
        self.child.is_some()
    }

    pub(super) fn message(&self) -> Message {
        self.message
    }

    /// Lets go on who has waited for it to be read.
    pub(super) fn complete(&self) {
        self.is_over.store(true, Ordering::Release);
        self.queue.wake_all();
    }

    pub(super) fn wake(&self) {
        self.queue.wake_all();
    }
}

impl UserFaultFd {
    /// Opens the descriptor that a fork is read with.
    ///
    /// # Errors
    ///
    /// EMFILE, ENOMEM; the event is there again to be read.
    pub(super) fn resolve_fork(&self, event: &Arc<Event>) -> Result<Message> {
        let child = event.child.clone().ok_or(EINVAL)?;
        match child.install() {
            Ok(fd) => {
                event.complete();
                Ok(Message::new(UFFD_EVENT_FORK, [fd.into(), 0, 0]))
            }
            Err(error) => {
                if self.enqueue_event(event).is_err() {
                    event.complete();
                }
                Err(error)
            }
        }
    }
}

/// A change that is about to be made, and who is to be told when it is.
#[must_use = "those who are to be told fill nothing until they are"]
pub struct Announcement {
    told: Vec<(Changing, Message)>,
    /// Segments of System V memory that are detached; they note by whom.
    segments: Vec<Arc<Segment>>,
}

impl Announcement {
    const NOBODY: Self = Self { told: Vec::new(), segments: Vec::new() };

    /// Tells everybody, one after the other, and waits until they have read of it.
    pub fn tell(self) {
        self.segments.iter().for_each(|segment| segment.note_detached());
        for (changing, message) in self.told {
            changing.tell(message, None);
        }
    }
}

/// The userfaultfd behind a handler.
pub(super) fn of_handler(handler: &Arc<dyn FaultHandler>) -> Option<Arc<UserFaultFd>> {
    let any: Arc<dyn Any + Send + Sync> = handler.clone();
    any.downcast().ok()
}

/// Who wants to be told of a change.
struct Concerned {
    uffd: Arc<UserFaultFd>,
    /// What it watches of the range that is changed.
    part: Range<Vaddr>,
    is_locked: bool,
}

/// Those in `range` of a space that want to be told of `feature`: one for each mapping.
fn concerned(vm: &AddressSpace, range: &Range<Vaddr>, feature: Features) -> Result<Vec<Concerned>> {
    let mut concerned = Vec::new();
    for mapping in vm.vmar().query(range.clone()).iter() {
        let uffd = mapping.watcher().and_then(|(handler, _)| of_handler(handler));
        if let Some(uffd) = uffd.filter(|uffd| uffd.has(feature)) {
            let found = mapping.range();
            let part = found.start.max(range.start)..found.end.min(range.end);
            let is_locked = mapping.flags().contains(MappingFlags::LOCKED);
            try_push(&mut concerned, Concerned { uffd, part, is_locked })?;
        }
    }
    Ok(concerned)
}

/// Announces that what is mapped in `range` is about to be unmapped (`UFFD_EVENT_UNMAP`).
///
/// # Errors
///
/// ENOMEM.
pub fn unmapping(vm: &AddressSpace, range: &Range<Vaddr>) -> Result<Announcement> {
    if !vm.is_watched() || range.is_empty() {
        return Ok(Announcement::NOBODY);
    }
    let mut told: Vec<(Changing, Message)> = Vec::new();
    for Concerned { uffd, .. } in concerned(vm, range, Features::EVENT_UNMAP)? {
        if !told.iter().any(|(changing, _)| Arc::ptr_eq(&changing.0, &uffd)) {
            let message = Message::new(UFFD_EVENT_UNMAP, [range.start as u64, range.end as u64, 0]);
            try_push(&mut told, (Changing::of(uffd), message))?;
        }
    }
    let mut segments = Vec::new();
    let mut outcome = Ok(());
    shm::for_each_attached(vm, range.clone(), |segment| {
        if outcome.is_ok() {
            outcome = try_push(&mut segments, segment.clone());
        }
    });
    outcome?;
    Ok(Announcement { told, segments })
}

/// Tells that the content of `range` is about to go while its mappings stay, and waits until that has been read
/// (`UFFD_EVENT_REMOVE`). What is locked stays, and nobody is told of it.
///
/// # Errors
///
/// ENOMEM.
pub fn remove(vm: &AddressSpace, range: &Range<Vaddr>) -> Result<()> {
    if vm.is_watched() {
        for Concerned { uffd, part, is_locked } in concerned(vm, range, Features::EVENT_REMOVE)? {
            if !is_locked {
                let message = Message::new(UFFD_EVENT_REMOVE, [part.start as u64, part.end as u64, 0]);
                Changing::of(uffd).tell(message, None);
            }
        }
    }
    Ok(())
}

/// A move of mappings that is about to be made.
#[must_use = "those who are to be told fill nothing until they are"]
pub struct Move {
    old: Range<Vaddr>,
    follower: Option<Changing>,
    /// What is unmapped where it goes.
    target: Announcement,
    /// What is unmapped where it was, should it move, and should it not.
    source: [Announcement; 2],
}

/// Announces that what is mapped in `old` is about to become `new_size` bytes large and perhaps to move, to `target` if that is
/// given (`UFFD_EVENT_REMAP`, `UFFD_EVENT_UNMAP`).
///
/// # Errors
///
/// ENOMEM.
pub fn moving(
    vm: &AddressSpace,
    old: &Range<Vaddr>,
    new_size: usize,
    target: Option<Vaddr>,
    keeps_old: bool,
) -> Result<Move> {
    let first = old.start..old.start.saturating_add(PAGE_SIZE);
    let follower = concerned(vm, &first, Features::EVENT_REMAP)?.pop();
    let follower = follower.map(|concerned| Changing::of(concerned.uffd));
    let tail = old.end.min(old.start.saturating_add(new_size))..old.end;
    let gone = if keeps_old { &tail } else { old };
    let replaced = target.map_or(0..0, |start| start..start.saturating_add(new_size));
    Ok(Move {
        old: old.clone(),
        follower,
        target: unmapping(vm, &replaced)?,
        source: [unmapping(vm, gone)?, unmapping(vm, &tail)?],
    })
}

impl Move {
    /// Tells those who are to be told that the mappings are at `start` now, and waits until they have read of it.
    pub fn tell(self, start: Vaddr) {
        let Self { old, follower, target, source: [moved, stayed] } = self;
        if start == old.start {
            drop((moved, target, follower));
            return stayed.tell();
        }
        drop(stayed);
        target.tell();
        if let Some(changing) = follower {
            let args = [old.start as u64, start as u64, old.len() as u64];
            changing.tell(Message::new(UFFD_EVENT_REMAP, args), None);
        }
        moved.tell();
    }
}

/// Tells that a space was forked into `child`, and waits until that has been read (`UFFD_EVENT_FORK`).
///
/// # Errors
///
/// ENOMEM; the child cannot be run then.
pub fn forked(parent: &AddressSpace, child: &Arc<AddressSpace>) -> Result<()> {
    if !parent.is_watched() {
        return Ok(());
    }
    for handler in child.vmar().watchers()? {
        let Some(uffd) = of_handler(&handler) else { continue };
        uffd.belong_to(child);
        child.note_watched();
        let birth = uffd.birth.lock().take();
        let is_read = birth
            .is_some_and(|changing| changing.tell(Message::new(UFFD_EVENT_FORK, [0; 3]), Some(uffd.clone())));
        if !is_read {
            uffd.detach();
        }
    }
    Ok(())
}
