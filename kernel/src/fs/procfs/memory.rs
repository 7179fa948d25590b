// SPDX-License-Identifier: MPL-2.0

//! `mem`, `pagemap` and `clear_refs`: the memory of a task, as debuggers reach it.

use vmar::{
    machine::PageFlags,
    mapping::MappingFlags,
    vmar::{history::Which, query::PageSharing},
};
use zerocopy::IntoBytes;

use super::{
    super::{
        file::{File, FileOps, Position, WriteAt},
        io::{Sink, Source},
        synthetic::{Text, seek_plain},
        types::Whence,
    },
    parse_setting,
    task::Task,
};
use crate::{
    mm::{self, AddressSpace, layout::TASK_SIZE},
    prelude::*,
    process::credentials::CapSet,
};

/// How many bytes are moved in one go.
const CHUNK: usize = PAGE_SIZE;

/// An open `mem`: the address space that the task had when it was opened. It does not keep it alive.
pub struct OpenMem {
    vm: Weak<AddressSpace>,
}

fn space_of(task: &Task) -> Result<Weak<AddressSpace>> {
    task.check_access()?;
    Ok(task.vm()?.as_ref().map_or_else(Weak::new, Arc::downgrade))
}

impl OpenMem {
    /// Opens the memory of `task`.
    ///
    /// # Errors
    ///
    /// EACCES if the caller may not look into it; ESRCH.
    pub fn new(task: &Task) -> Result<Self> {
        Ok(Self { vm: space_of(task)? })
    }
}

/// Runs `step` with the address and number of bytes of each piece of `len` bytes at `addr`, until it fails. Answers how many bytes
/// were done.
///
/// # Errors
///
/// As in Linux, EFAULT for a buffer of the caller's even if it comes up late; what `step` says if it did nothing.
fn in_pieces(addr: u64, len: usize, mut step: impl FnMut(Vaddr, usize) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < len {
        let at = (addr as Vaddr).checked_add(done).ok_or(EIO)?;
        let wanted = CHUNK.min(len - done);
        match step(at, wanted) {
            // What stands in the way of the rest is in the way of the next piece, too.
            Ok(count) => done += count,
            Err(error) if done == 0 || error == EFAULT => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

impl FileOps for OpenMem {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        let Some(vm) = self.vm.upgrade() else { return Ok(0) };
        let mut bytes = try_filled(0, CHUNK)?;
        in_pieces(pos, dst.avail(), |at, wanted| {
            let count = vm.vmar().read_bytes_forced(at, &mut bytes[..wanted]).map_err(|_| EIO)?;
            if dst.write_bytes(&bytes[..count])? < count { Err(EFAULT) } else { Ok(count) }
        })
    }

    fn write_at(&self, _file: &File, at: WriteAt, src: &mut Source<'_>) -> Result<(u64, usize)> {
        let WriteAt::Offset(start) = at else { return Err(EINVAL) };
        let Some(vm) = self.vm.upgrade() else { return Ok((start, 0)) };
        let mut bytes = try_filled(0, CHUNK)?;
        // How many bytes were taken from the source, but not written.
        let mut left = 0;
        let count = in_pieces(start, src.remain(), |at, wanted| {
            if src.read_bytes(&mut bytes[left..wanted])? < wanted - left {
                return Err(EFAULT);
            }
            let count = vm.vmar().write_bytes_forced(at, &bytes[..wanted]).map_err(|_| EIO)?;
            bytes.copy_within(count..wanted, 0);
            left = wanted - count;
            Ok(count)
        })?;
        Ok((start, count))
    }

    fn seek(&self, _file: &File, current: u64, offset: i64, whence: Whence) -> Result<u64> {
        match whence {
            // An address may be so high that it is negative as an offset.
            Whence::Set => Ok(offset as u64),
            _ => seek_plain(current, offset, whence),
        }
    }
}

/// An open `pagemap`.
pub struct OpenPageMap {
    vm: Weak<AddressSpace>,
    /// Whether it was opened by somebody who may know which frames pages are in.
    shows_frames: bool,
}

const ENTRY: usize = size_of::<u64>();
/// The page is in memory.
const PRESENT: u64 = 1 << 63;
/// It is not in memory: of pages that are never elsewhere, what is left is the mark of a userfaultfd (Linux 6.1, `pte_marker`).
const ELSEWHERE: u64 = 1 << 62;
/// It belongs to a file or to shared memory.
const FILE_OR_SHARED: u64 = 1 << 61;
/// Nobody else has it.
const EXCLUSIVE: u64 = 1 << 56;
/// A userfaultfd is asked before it is written.
const WRITE_PROTECTED: u64 = 1 << 57;
/// It was written since `clear_refs`, or mapped.
const SOFT_DIRTY: u64 = 1 << 55;
/// The number of its frame, for those who may know.
const FRAME: u64 = (1 << 55) - 1;

impl OpenPageMap {
    /// Opens the page map of `task`.
    ///
    /// # Errors
    ///
    /// EACCES if the caller may not look into it; ESRCH.
    pub fn new(task: &Task) -> Result<Self> {
        let shows_frames = Thread::current().is_none_or(|caller| caller.credentials().has(CapSet::SYS_ADMIN));
        Ok(Self { vm: space_of(task)?, shows_frames })
    }

    /// What is told of a page of a mapping that is tracked or not.
    fn entry(&self, page: &PageSharing, is_tracked: bool) -> u64 {
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        PRESENT
            | flag(page.belongs_to_object && !page.is_zeros, FILE_OR_SHARED)
            | flag(page.holders == 1 && !page.is_zeros, EXCLUSIVE)
            | flag(!is_tracked || page.flags.contains(PageFlags::DIRTY), SOFT_DIRTY)
            | flag(self.shows_frames, page.frame & FRAME)
    }
}

impl FileOps for OpenPageMap {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        if !pos.is_multiple_of(ENTRY as u64) || !dst.avail().is_multiple_of(ENTRY) {
            return Err(EINVAL);
        }
        let Some(vm) = self.vm.upgrade() else { return Ok(0) };
        // What others have given up is nobody's any more.
        mm::finish_frees();
        let end = TASK_SIZE / PAGE_SIZE;
        let mut page = usize::try_from(pos).unwrap_or(usize::MAX) / ENTRY;
        let mut total = 0;
        while dst.avail() > 0 && page < end {
            let count = (dst.avail() / ENTRY).min(CHUNK / ENTRY).min(end - page);
            let mut entries = try_filled(0u64, count)?;
            let range = page * PAGE_SIZE..(page + count) * PAGE_SIZE;
            let guard = vm.vmar().query(range.clone());
            for mapping in guard.iter() {
                let is_tracked = mapping.flags().contains(MappingFlags::TRACKED);
                if !is_tracked {
                    let part = mapping.range().start.max(range.start)..mapping.range().end.min(range.end);
                    entries[part.start / PAGE_SIZE - page..part.end / PAGE_SIZE - page].fill(SOFT_DIRTY);
                }
                mapping.for_each_page(&range, |addr, found| {
                    entries[addr / PAGE_SIZE - page] = self.entry(&found, is_tracked);
                });
                mapping.for_each_write_protected(&range, |addr| {
                    let entry = &mut entries[addr / PAGE_SIZE - page];
                    *entry |=
                        if *entry & PRESENT == 0 { ELSEWHERE | WRITE_PROTECTED } else { WRITE_PROTECTED };
                });
            }
            drop(guard);
            match dst.write_bytes(entries.as_bytes()) {
                Ok(written) => total += written,
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
            page += count;
        }
        Ok(total)
    }

    fn write_at(&self, _file: &File, _at: WriteAt, _src: &mut Source<'_>) -> Result<(u64, usize)> {
        Err(EINVAL)
    }

    fn seek(&self, _file: &File, current: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek_plain(current, offset, whence)
    }
}

/// Reading `clear_refs`, which cannot be done.
pub(super) fn cannot_be_read(_task: &Task, _text: &mut Text) -> Result<()> {
    Err(EINVAL)
}

/// Writing `clear_refs`: what was done to pages is forgotten (`proc(5)`).
pub(super) fn clear_refs(task: &Task, bytes: &[u8]) -> Result<()> {
    let what = parse_setting(bytes)?;
    if !(1..=5).contains(&what) {
        return Err(EINVAL);
    }
    let Some(vm) = task.vm()? else { return Ok(()) };
    match what {
        1 => vm.vmar().forget_accesses(Which::All)?,
        2 => vm.vmar().forget_accesses(Which::Anonymous)?,
        3 => vm.vmar().forget_accesses(Which::Objects)?,
        4 => vm.vmar().track_writes()?,
        _ => vm.forget_peak(),
    }
    Ok(())
}
