// SPDX-License-Identifier: MPL-2.0

//! `/proc/PID/mem` and `/proc/PID/pagemap`: the memory of a task, as debuggers reach it.

use vmar::vmar::query::PageSharing;
use zerocopy::IntoBytes;

use super::{
    super::{
        file::{File, FileOps, Position, WriteAt},
        io::{Sink, Source},
        synthetic::seek_plain,
        types::Whence,
    },
    task::Task,
};
use crate::{
    mm::{AddressSpace, layout::TASK_SIZE},
    prelude::*,
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

/// Runs `step` with the address and number of bytes of each piece of `len` bytes at `addr`, until it does less than it was asked
/// to. Answers how many bytes were done.
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
            Ok(count) => {
                done += count;
                if count < wanted {
                    break;
                }
            }
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
        let count = in_pieces(start, src.remain(), |at, wanted| {
            let count = src.read_bytes(&mut bytes[..wanted])?;
            if count < wanted {
                return Err(EFAULT);
            }
            vm.vmar().write_bytes_forced(at, &bytes[..count]).map_err(|_| EIO)
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
}

const ENTRY: usize = size_of::<u64>();
/// The page is in memory.
const PRESENT: u64 = 1 << 63;
/// It belongs to a file or to shared memory.
const FILE_OR_SHARED: u64 = 1 << 61;
/// Nobody else has it.
const EXCLUSIVE: u64 = 1 << 56;

impl OpenPageMap {
    /// Opens the page map of `task`.
    ///
    /// # Errors
    ///
    /// EACCES if the caller may not look into it; ESRCH.
    pub fn new(task: &Task) -> Result<Self> {
        Ok(Self { vm: space_of(task)? })
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
        let end = TASK_SIZE / PAGE_SIZE;
        let mut page = usize::try_from(pos).unwrap_or(usize::MAX) / ENTRY;
        let mut total = 0;
        while dst.avail() > 0 && page < end {
            let count = (dst.avail() / ENTRY).min(CHUNK / ENTRY).min(end - page);
            let mut entries = try_filled(0u64, count)?;
            let range = page * PAGE_SIZE..(page + count) * PAGE_SIZE;
            let guard = vm.vmar().query(range.clone());
            for mapping in guard.iter() {
                mapping.for_each_page(&range, |addr, sharing| {
                    entries[addr / PAGE_SIZE - page] = entry(sharing);
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

    fn seek(&self, _file: &File, current: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek_plain(current, offset, whence)
    }
}

/// What is told of a page. Which frame it is in stays the kernel's secret, as for a program without `CAP_SYS_ADMIN`.
fn entry(sharing: PageSharing) -> u64 {
    let is_file = if sharing.belongs_to_object { FILE_OR_SHARED } else { 0 };
    let is_exclusive = if sharing.holders == 1 { EXCLUSIVE } else { 0 };
    PRESENT | is_file | is_exclusive
}
