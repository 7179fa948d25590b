// SPDX-License-Identifier: MPL-2.0

//! Advisory locks: record locks of processes and of open files, and `flock`.
//!
//! Three families, as in `fcntl_locking(2)` and `flock(2)`:
//!
//! | family | owner | goes with |
//! | --- | --- | --- |
//! | POSIX record locks | a process (its descriptor table) | any close of the file by the process |
//! | OFD record locks | an open file description | the description |
//! | `flock` | an open file description, whole file | the description |
//!
//! Record locks of the first two families see each other; `flock` is a world of its own. A wait for a POSIX lock that closes a
//! circle of waiting processes fails with EDEADLK.
//!
//! Locks: `FileLocks::state` and the table of waits are leaf locks, the latter taken inside the former.

use super::{file::File, inode::Inode, poll::Blocking};
use crate::{prelude::*, wait::WaitQueue};

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Many may have it.
    Read,
    /// Only one may.
    Write,
}

/// Who has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOwner {
    /// The process with this descriptor table.
    Process(u64),
    /// The open file description at this address.
    File(usize),
}

impl LockOwner {
    /// The description as an owner.
    pub fn of_file(file: &File) -> Self {
        Self::File(core::ptr::from_ref(file).addr())
    }
}

/// A record lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLock {
    /// Who has it.
    pub owner: LockOwner,
    /// The process to tell of; -1 for a description.
    pub pid: i32,
    /// Shared or exclusive.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// The last byte.
    pub end: u64,
}

impl RecordLock {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }

    fn conflicts_with(&self, other: &Self) -> bool {
        self.owner != other.owner
            && self.overlaps(other.start, other.end)
            && (self.kind == LockKind::Write || other.kind == LockKind::Write)
    }
}

#[derive(Default)]
struct State {
    records: Vec<RecordLock>,
    flocks: Vec<(LockOwner, LockKind)>,
}

impl State {
    fn blocker(&self, wanted: &RecordLock) -> Option<RecordLock> {
        let in_the_way = self.records.iter().filter(|held| held.conflicts_with(wanted));
        in_the_way.min_by_key(|held| held.start).copied()
    }

    /// Takes `start..=end` out of what `owner` has.
    fn carve(&mut self, owner: LockOwner, start: u64, end: u64) {
        let mut behind = None;
        self.records.retain_mut(|held| {
            if held.owner != owner || !held.overlaps(start, end) {
                return true;
            }
            let whole = *held;
            let (is_before, is_behind) = (held.start < start, held.end > end);
            if is_before {
                held.end = start - 1;
            }
            if is_behind {
                // Of an owner's locks, which do not overlap, at most one goes beyond both ends.
                let rest = RecordLock { start: end + 1, ..whole };
                if is_before {
                    behind = Some(rest);
                } else {
                    *held = rest;
                }
            }
            is_before || is_behind
        });
        self.records.extend(behind);
    }

    /// Makes room for what one change adds: a lock, and the rest of one that it lies within.
    fn make_room(&mut self) -> Result<()> {
        self.records.try_reserve(2).map_err(|_| ENOLCK)
    }

    /// Puts `new` in place of what its owner had there, joined with its own neighbours of the same kind.
    fn set(&mut self, mut new: RecordLock) {
        self.carve(new.owner, new.start, new.end);
        self.records.retain(|held| {
            let joins = held.owner == new.owner
                && held.kind == new.kind
                && (held.end.checked_add(1) == Some(new.start) || new.end.checked_add(1) == Some(held.start));
            if joins {
                new.start = new.start.min(held.start);
                new.end = new.end.max(held.end);
            }
            !joins
        });
        self.records.push(new);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.flocks.is_empty()
    }
}

/// The locks of one inode.
pub struct FileLocks {
    state: Mutex<State>,
    /// Whether `state` has any locks; spares a lock on every close.
    any: AtomicBool,
    queue: WaitQueue,
}

impl Default for FileLocks {
    fn default() -> Self {
        Self { state: Mutex::new(State::default()), any: AtomicBool::new(false), queue: WaitQueue::new() }
    }
}

/// A process that waits for another.
struct Wait {
    waiter: u64,
    holder: u64,
    /// The address of the locks of the file.
    file: usize,
}

/// Which process waits for which. What is no longer true leaves the table before others can act on it.
static WAITS: Mutex<Vec<Wait>> = Mutex::new(Vec::new());

/// Notes that `waiter` waits for `holder`, unless that closes a circle (EDEADLK) or there is no memory (ENOLCK).
fn note_wait(waiter: u64, holder: u64, file: usize) -> Result<()> {
    let mut waits = WAITS.lock();
    waits.retain(|wait| wait.waiter != waiter);
    let mut at = holder;
    // A chain longer than the table would go round in a circle that does not pass through `waiter`.
    for _ in 0..=waits.len() {
        if at == waiter {
            return Err(EDEADLK);
        }
        match waits.iter().find(|wait| wait.waiter == at) {
            Some(wait) => at = wait.holder,
            None => break,
        }
    }
    try_push(&mut waits, Wait { waiter, holder, file }).map_err(|_| ENOLCK)
}

fn forget_wait(waiter: u64) {
    WAITS.lock().retain(|wait| wait.waiter != waiter);
}

/// Forgets who waits in `file` for `owner`, whose locks there change: who must go on waiting notes it anew.
fn forget_waits_for(owner: LockOwner, file: usize) {
    if let LockOwner::Process(holder) = owner {
        WAITS.lock().retain(|wait| wait.holder != holder || wait.file != file);
    }
}

impl FileLocks {
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// The lock that keeps `wanted` from being set, if one does (`F_GETLK`).
    pub fn test(&self, wanted: &RecordLock) -> Option<RecordLock> {
        self.state.lock().blocker(wanted)
    }

    /// Sets a record lock (`F_SETLK`, `F_SETLKW`).
    ///
    /// # Errors
    ///
    /// EAGAIN if another has it and `blocking` is `No`; EDEADLK; ERESTARTSYS; ENOLCK without memory.
    pub fn lock(&self, wanted: RecordLock, blocking: Blocking) -> Result<()> {
        super::current::require_memory().map_err(|_| ENOLCK)?;
        let attempt = || {
            let mut state = self.state.lock();
            let Some(blocker) = state.blocker(&wanted) else {
                state.make_room()?;
                state.set(wanted);
                self.any.store(true, Ordering::Release);
                if let LockOwner::Process(owner) = wanted.owner {
                    forget_wait(owner);
                }
                forget_waits_for(wanted.owner, self.address());
                return Ok(());
            };
            if let (LockOwner::Process(waiter), LockOwner::Process(holder), Blocking::Yes) =
                (wanted.owner, blocker.owner, blocking)
            {
                note_wait(waiter, holder, self.address())?;
            }
            Err(EAGAIN)
        };
        let result = super::poll::wait_ready(&self.queue, blocking, attempt);
        if let (LockOwner::Process(waiter), Blocking::Yes) = (wanted.owner, blocking) {
            forget_wait(waiter);
        }
        if result.is_ok() {
            // A write lock that has become a read lock may let others in.
            self.queue.wake_all();
        }
        result
    }

    /// Gives up what `owner` has of the bytes `start..=end`.
    ///
    /// # Errors
    ///
    /// ENOLCK if a lock is cut in two and there is no memory for that. Not for all bytes there are.
    pub fn unlock(&self, owner: LockOwner, start: u64, end: u64) -> Result<()> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.state.lock();
        if (start, end) != (0, u64::MAX) {
            state.make_room()?;
        }
        state.carve(owner, start, end);
        forget_waits_for(owner, self.address());
        self.any.store(!state.is_empty(), Ordering::Release);
        drop(state);
        self.queue.wake_all();
        Ok(())
    }

    /// Takes or changes a whole-file lock (`flock`).
    ///
    /// # Errors
    ///
    /// EAGAIN if another has it and `blocking` is `No`; ERESTARTSYS; ENOLCK without memory. A lock that is being changed is given
    /// up first, as flock(2) says.
    pub fn flock(&self, owner: LockOwner, kind: LockKind, blocking: Blocking) -> Result<()> {
        let already = {
            let mut state = self.state.lock();
            let same = state.flocks.contains(&(owner, kind));
            if !same {
                state.flocks.retain(|(other, _)| *other != owner);
            }
            same
        };
        if already {
            return Ok(());
        }
        let result = super::poll::wait_ready(&self.queue, blocking, || {
            let mut state = self.state.lock();
            let exclusive = |held: LockKind| held == LockKind::Write || kind == LockKind::Write;
            if state.flocks.iter().any(|(other, held)| *other != owner && exclusive(*held)) {
                return Err(EAGAIN);
            }
            state.flocks.retain(|(other, _)| *other != owner);
            try_push(&mut state.flocks, (owner, kind)).map_err(|_| ENOLCK)?;
            self.any.store(true, Ordering::Release);
            Ok(())
        });
        self.queue.wake_all();
        result
    }

    /// Gives up a whole-file lock.
    pub fn unflock(&self, owner: LockOwner) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        state.flocks.retain(|(other, _)| *other != owner);
        self.any.store(!state.is_empty(), Ordering::Release);
        drop(state);
        self.queue.wake_all();
    }
}

/// Gives up the POSIX locks that the process with descriptor table `table` has on a file it closes.
pub fn release_owner(inode: &Arc<dyn Inode>, table: u64) {
    if let Some(ext) = inode.ext() {
        let _ = ext.locks.unlock(LockOwner::Process(table), 0, u64::MAX);
    }
}

/// Gives up the locks of an open file description that goes.
pub fn release_file(file: &File) {
    if let Some(ext) = file.inode().ext() {
        let owner = LockOwner::of_file(file);
        let _ = ext.locks.unlock(owner, 0, u64::MAX);
        ext.locks.unflock(owner);
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    fn lock(owner: u64, kind: LockKind, start: u64, end: u64) -> RecordLock {
        RecordLock { owner: LockOwner::Process(owner), pid: owner as i32, kind, start, end }
    }

    #[ktest]
    fn unlocking_the_middle_splits() {
        let locks = FileLocks::default();
        assert_eq!(locks.lock(lock(1, LockKind::Write, 0, 99), Blocking::No), Ok(()));
        locks.unlock(LockOwner::Process(1), 40, 59).unwrap();
        assert_eq!(locks.test(&lock(2, LockKind::Read, 40, 59)), None);
        assert_eq!(locks.test(&lock(2, LockKind::Read, 0, 40)), Some(lock(1, LockKind::Write, 0, 39)));
        assert_eq!(locks.test(&lock(2, LockKind::Read, 59, 70)), Some(lock(1, LockKind::Write, 60, 99)));
    }

    #[ktest]
    fn neighbours_of_one_kind_join() {
        let locks = FileLocks::default();
        assert_eq!(locks.lock(lock(1, LockKind::Read, 0, 9), Blocking::No), Ok(()));
        assert_eq!(locks.lock(lock(1, LockKind::Read, 10, 19), Blocking::No), Ok(()));
        assert_eq!(locks.test(&lock(2, LockKind::Write, 5, 5)), Some(lock(1, LockKind::Read, 0, 19)));
        assert_eq!(locks.lock(lock(2, LockKind::Read, 0, u64::MAX), Blocking::No), Ok(()));
        assert_eq!(locks.lock(lock(2, LockKind::Write, 0, 0), Blocking::No), Err(EAGAIN));
    }

    #[ktest]
    fn circles_of_waiting_are_found() {
        assert_eq!(note_wait(101, 102, 1), Ok(()));
        assert_eq!(note_wait(102, 103, 2), Ok(()));
        assert_eq!(note_wait(103, 101, 1), Err(EDEADLK));
        assert_eq!(note_wait(104, 101, 1), Ok(()));
        forget_waits_for(LockOwner::Process(103), 1);
        assert_eq!(note_wait(103, 101, 1), Err(EDEADLK));
        forget_waits_for(LockOwner::Process(103), 2);
        assert_eq!(note_wait(103, 101, 1), Ok(()));
        for waiter in [101, 103, 104] {
            forget_wait(waiter);
        }
    }
}
