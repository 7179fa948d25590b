// SPDX-License-Identifier: MPL-2.0

//! Descriptor tables: the small numbers a process knows its open files by.
//!
//! A table is shared between processes made with `CLONE_FILES` and copied by fork. Its identity is also the owner of POSIX
//! record locks, which go when the process closes any descriptor of the file.
//!
//! Lock: the slots are under a spin lock; files are dropped only after it is released, since that can sleep. Many are taken out
//! some at a time: closing must not need memory.

use super::{file::File, locks};
use crate::prelude::*;

/// A file descriptor.
pub type Fd = i32;

/// The most descriptors a table ever holds (`fs.nr_open`).
pub const NR_OPEN: usize = 1 << 20;

/// Slots that are emptied in one go.
const BATCH: usize = 32;

/// Whether a descriptor survives execve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOnExec {
    /// It does not.
    Yes,
    /// It does.
    No,
}

impl CloseOnExec {
    /// `Yes` if `flag` is set.
    pub const fn from_flag(flag: bool) -> Self {
        if flag { Self::Yes } else { Self::No }
    }
}

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    close_on_exec: CloseOnExec,
}

#[derive(Default)]
struct Slots {
    list: Vec<Option<Slot>>,
    /// No slot below this one is free.
    lowest_free: usize,
}

impl Slots {
    fn copy(&self) -> Result<Self> {
        let list = try_to_vec(&self.list)?;
        Ok(Self { list, lowest_free: self.lowest_free })
    }

    fn get(&self, fd: Fd) -> Result<&Slot> {
        usize::try_from(fd).ok().and_then(|at| self.list.get(at)?.as_ref()).ok_or(EBADF)
    }

    fn get_mut(&mut self, fd: Fd) -> Result<&mut Slot> {
        usize::try_from(fd).ok().and_then(|at| self.list.get_mut(at)?.as_mut()).ok_or(EBADF)
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let slot = self.list.get_mut(at)?.take()?;
        self.lowest_free = self.lowest_free.min(at);
        Some(slot)
    }

    /// Makes the list long enough to have a slot `at`.
    fn reach(&mut self, at: usize) -> Result<()> {
        if at >= self.list.len() {
            let more = at + 1 - self.list.len();
            try_reserve(&mut self.list, more)?;
            self.list.resize(at + 1, None);
        }
        Ok(())
    }

    /// Finds the lowest free slot from `min` on, below `limit`, and makes sure that the list has it.
    fn vacant(&mut self, min: usize, limit: usize) -> Result<usize> {
        let start = min.max(self.lowest_free);
        let free = (start..self.list.len()).find(|at| self.list[*at].is_none());
        let at = free.unwrap_or(start.max(self.list.len()));
        if at >= limit.min(NR_OPEN) {
            return Err(EMFILE);
        }
        self.reach(at)?;
        if min <= self.lowest_free {
            self.lowest_free = at;
        }
        Ok(at)
    }
}

/// The open files of a process.
pub struct FileTable {
    slots: RwLock<Slots>,
    id: u64,
}

impl FileTable {
    /// A table without files.
    pub fn new() -> Self {
        Self { slots: RwLock::new(Slots::default()), id: next_id() }
    }

    /// A copy that refers to the same open files.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn fork(&self) -> Result<Self> {
        Ok(Self { slots: RwLock::new(self.slots.read().copy()?), id: next_id() })
    }

    /// The identity of the table as an owner of locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The file that `fd` refers to.
    ///
    /// # Errors
    ///
    /// EBADF.
    pub fn get(&self, fd: Fd) -> Result<Arc<File>> {
        Ok(self.slots.read().get(fd)?.file.clone())
    }

    /// Fails if there is no free number below `limit`.
    ///
    /// # Errors
    ///
    /// EMFILE; ENOMEM.
    pub fn check_room(&self, limit: usize) -> Result<()> {
        self.slots.write().vacant(0, limit).map(drop)
    }

    /// Gives `file` the lowest free number from `min` on, below `limit` (`RLIMIT_NOFILE`).
    ///
    /// # Errors
    ///
    /// EMFILE; ENOMEM.
    pub fn insert(
        &self,
        file: Arc<File>,
        close_on_exec: CloseOnExec,
        min: usize,
        limit: usize,
    ) -> Result<Fd> {
        let mut slots = self.slots.write();
        let at = slots.vacant(min, limit)?;
        slots.list[at] = Some(Slot { file, close_on_exec });
        Ok(at as Fd)
    }

    /// Gives two files the lowest free numbers, or neither of them.
    ///
    /// # Errors
    ///
    /// EMFILE; ENOMEM.
    pub fn insert_pair(
        &self,
        files: (Arc<File>, Arc<File>),
        close_on_exec: CloseOnExec,
        limit: usize,
    ) -> Result<(Fd, Fd)> {
        let mut slots = self.slots.write();
        let first = slots.vacant(0, limit)?;
        slots.list[first] = Some(Slot { file: files.0.clone(), close_on_exec });
        match slots.vacant(first + 1, limit) {
            Ok(second) => {
                slots.list[second] = Some(Slot { file: files.1.clone(), close_on_exec });
                Ok((first as Fd, second as Fd))
            }
            Err(error) => {
                // Not the last references: `files` still holds both.
                slots.take(first);
                Err(error)
            }
        }
    }

    /// Makes `new` refer to the file of `old`, closing what it referred to (`dup2`, `dup3`).
    ///
    /// # Errors
    ///
    /// EBADF if `old` is not open or `new` is not below `limit`; ENOMEM.
    pub fn replace(&self, old: Fd, new: Fd, close_on_exec: CloseOnExec, limit: usize) -> Result<Fd> {
        let at = usize::try_from(new).map_err(|_| EBADF)?;
        let mut slots = self.slots.write();
        let file = slots.get(old)?.file.clone();
        if at >= limit.min(NR_OPEN) {
            return Err(EBADF);
        }
        slots.reach(at)?;
        let closed = slots.list[at].replace(Slot { file, close_on_exec });
        drop(slots);
        if let Some(slot) = closed {
            self.closed(slot);
        }
        Ok(new)
    }

    /// Closes `fd`.
    ///
    /// # Errors
    ///
    /// EBADF.
    pub fn close(&self, fd: Fd) -> Result<()> {
        let at = usize::try_from(fd).map_err(|_| EBADF)?;
        let slot = self.slots.write().take(at).ok_or(EBADF)?;
        self.closed(slot);
        Ok(())
    }

    /// Closes all descriptors from `first` to `last`, both included.
    pub fn close_range(&self, first: usize, last: usize) {
        self.close_those(first, last, |_| true);
    }

    /// Marks all descriptors from `first` to `last`, both included, to be closed on execve.
    pub fn close_range_on_exec(&self, first: usize, last: usize) {
        let mut slots = self.slots.write();
        let end = slots.list.len().min(last.saturating_add(1));
        if first < end {
            for slot in slots.list[first..end].iter_mut().flatten() {
                slot.close_on_exec = CloseOnExec::Yes;
            }
        }
    }

    /// Closes what execve must close.
    pub fn close_on_exec(&self) {
        self.close_those(0, usize::MAX, |slot| slot.close_on_exec == CloseOnExec::Yes);
    }

    /// Whether `fd` is closed on execve.
    ///
    /// # Errors
    ///
    /// EBADF.
    pub fn is_close_on_exec(&self, fd: Fd) -> Result<CloseOnExec> {
        Ok(self.slots.read().get(fd)?.close_on_exec)
    }

    /// Changes whether `fd` is closed on execve.
    ///
    /// # Errors
    ///
    /// EBADF.
    pub fn set_close_on_exec(&self, fd: Fd, close_on_exec: CloseOnExec) -> Result<()> {
        self.slots.write().get_mut(fd)?.close_on_exec = close_on_exec;
        Ok(())
    }

    /// The lowest open descriptor from `min` on (`/proc/PID/fd`).
    pub fn next_open(&self, min: usize) -> Option<Fd> {
        let slots = self.slots.read();
        (min..slots.list.len()).find(|at| slots.list[*at].is_some()).map(|at| at as Fd)
    }

    /// The highest open descriptor.
    pub fn last_open(&self) -> Option<Fd> {
        self.slots.read().list.iter().rposition(Option::is_some).map(|at| at as Fd)
    }

    /// Closes those descriptors from `first` to `last` that are meant.
    fn close_those(&self, first: usize, last: usize, is_meant: impl Fn(&Slot) -> bool) {
        let mut start = first;
        while let Some(taken) = self.take_batch(start, last, &is_meant) {
            taken.into_iter().flatten().for_each(|slot| self.closed(slot));
            start += BATCH;
        }
    }

    /// Takes those that are meant out of the next slots; `None` if there are no more slots.
    fn take_batch(
        &self,
        start: usize,
        last: usize,
        is_meant: impl Fn(&Slot) -> bool,
    ) -> Option<[Option<Slot>; BATCH]> {
        let mut slots = self.slots.write();
        let end = slots.list.len().min(last.saturating_add(1));
        (start < end).then(|| {
            core::array::from_fn(|nth| {
                let at = start + nth;
                let is_taken = at < end && slots.list[at].as_ref().is_some_and(&is_meant);
                if is_taken { slots.take(at) } else { None }
            })
        })
    }

    /// What every close of a descriptor does, whoever else still has the file open.
    fn closed(&self, slot: Slot) {
        locks::release_owner(slot.file.inode(), self.id);
    }
}

impl Default for FileTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        let slots = core::mem::take(self.slots.get_mut());
        slots.list.into_iter().flatten().for_each(|slot| self.closed(slot));
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;
    use crate::fs::{OpenFlags, pipe};

    const LIMIT: usize = 8;

    fn any_file() -> Arc<File> {
        pipe::new_pipe(OpenFlags::empty()).unwrap().0
    }

    fn open(table: &FileTable) -> Vec<Fd> {
        let next = |fd: &Fd| table.next_open(*fd as usize + 1);
        core::iter::successors(table.next_open(0), next).collect()
    }

    #[ktest]
    fn the_lowest_free_number_is_given_out() {
        let table = FileTable::new();
        let insert = |min| table.insert(any_file(), CloseOnExec::No, min, LIMIT);
        assert_eq!((insert(0), insert(0), insert(0)), (Ok(0), Ok(1), Ok(2)));
        assert_eq!(insert(5), Ok(5));
        assert_eq!(table.close(1), Ok(()));
        assert_eq!(table.close(1), Err(EBADF));
        assert_eq!((insert(0), insert(0)), (Ok(1), Ok(3)));
        assert_eq!((insert(6), insert(6), insert(6)), (Ok(6), Ok(7), Err(EMFILE)));
        assert_eq!((insert(0), insert(0)), (Ok(4), Err(EMFILE)));
        assert_eq!(table.get(-1).err(), Some(EBADF));
        assert_eq!(table.get(i32::MAX).err(), Some(EBADF));
    }

    #[ktest]
    fn a_pair_is_given_out_whole() {
        let table = FileTable::new();
        let pair = || pipe::new_pipe(OpenFlags::empty()).unwrap();
        assert_eq!(table.insert_pair(pair(), CloseOnExec::No, 3), Ok((0, 1)));
        assert_eq!(table.insert_pair(pair(), CloseOnExec::No, 3), Err(EMFILE));
        assert_eq!(open(&table), [0, 1]);
        assert_eq!(table.insert(any_file(), CloseOnExec::No, 0, 3), Ok(2));
    }

    #[ktest]
    fn execve_closes_what_is_marked() {
        let table = FileTable::new();
        table.insert(any_file(), CloseOnExec::Yes, 0, LIMIT).unwrap();
        table.insert(any_file(), CloseOnExec::No, 0, LIMIT).unwrap();
        assert_eq!(table.replace(0, 4, CloseOnExec::No, LIMIT), Ok(4));
        assert_eq!(table.replace(0, LIMIT as Fd, CloseOnExec::No, LIMIT), Err(EBADF));
        let copy = table.fork().unwrap();
        table.close_on_exec();
        assert_eq!(open(&table), [1, 4]);
        copy.close_range_on_exec(1, usize::MAX);
        copy.close_on_exec();
        assert_eq!(open(&copy), []);
        table.close_range(2, usize::MAX);
        assert_eq!(open(&table), [1]);
        assert_eq!((table.last_open(), copy.last_open()), (Some(1), None));
    }

    #[ktest]
    fn a_range_of_many_batches_is_closed() {
        let many = 3 * BATCH + 1;
        let table = FileTable::new();
        let file = any_file();
        for _ in 0..many {
            table.insert(file.clone(), CloseOnExec::No, 0, many).unwrap();
        }
        table.close_range(1, many - 2);
        assert_eq!(open(&table), [0, many as Fd - 1]);
        assert_eq!(Arc::strong_count(&file), 3);
        drop(table);
        assert_eq!(Arc::strong_count(&file), 1);
    }
}
