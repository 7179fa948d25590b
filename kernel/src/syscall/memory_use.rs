// SPDX-License-Identifier: MPL-2.0

//! Memory: residence and locking.

use core::ops::Range;

use linux_raw_sys::general::{
    MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT, MS_ASYNC, MS_INVALIDATE, MS_SYNC,
};
use vmar::{
    error::{Error, Limit},
    mapping::MappingFlags,
    vmar::lock::LockMode,
};

use super::memory::{refresh_lock_limit, require_may_lock};
use crate::{
    mm::{AddressSpace, layout::TASK_SIZE},
    prelude::*,
};

/// How many pages `mincore` looks at in one go.
const MINCORE_CHUNK: usize = 4096;

/// The whole pages of `addr..addr + len`, where `addr` must be the start of one; `overflow` if they do not end.
pub(super) fn pages(addr: Vaddr, len: usize, overflow: Errno) -> Result<Range<Vaddr>> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(overflow)?;
    let end = addr.checked_add(size).ok_or(overflow)?;
    Ok(addr..end)
}

/// `ENOMEM` unless every page of `range` is mapped.
pub(super) fn require_mapped(vm: &AddressSpace, range: Range<Vaddr>) -> Result<()> {
    if range.end > TASK_SIZE || !vm.vmar().query(range).is_fully_mapped() { Err(ENOMEM) } else { Ok(()) }
}

/// Whether any memory of `range` is locked.
pub(super) fn is_locked(vm: &AddressSpace, range: Range<Vaddr>) -> bool {
    vm.vmar().query(range).iter().any(|info| info.flags().contains(MappingFlags::LOCKED))
}

/// `msync(2)`. What is mapped is the file: there is nothing to write anywhere.
pub fn sys_msync(ctx: &Ctx, addr: Vaddr, len: usize, flags: u32) -> Result<usize> {
    let both = MS_ASYNC | MS_SYNC;
    if flags & !(both | MS_INVALIDATE) != 0 || flags & both == both {
        return Err(EINVAL);
    }
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    // A length that wraps around is none.
    let size = len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0);
    let range = addr..addr.checked_add(size).ok_or(ENOMEM)?;
    if range.start >= range.end {
        return Ok(0);
    }
    if flags & MS_INVALIDATE != 0 && range.end <= TASK_SIZE && is_locked(ctx.vm, range.clone()) {
        return Err(EBUSY);
    }
    require_mapped(ctx.vm, range)?;
    Ok(0)
}

/// `mincore(2)`.
pub fn sys_mincore(ctx: &Ctx, addr: Vaddr, len: usize, vector: Vaddr) -> Result<usize> {
    let range = pages(addr, len, ENOMEM)?;
    if range.end > TASK_SIZE {
        return Err(ENOMEM);
    }
    if vector.checked_add(range.len() / PAGE_SIZE).is_none_or(|end| end > TASK_SIZE) {
        return Err(EFAULT);
    }
    let mut at = range.start;
    let mut place = vector;
    while at < range.end {
        // One mapping after the other: what comes before a hole is told.
        let mapped = ctx.vm.vmar().query(at..at + PAGE_SIZE).first().ok_or(ENOMEM)?.range().end;
        let end = range.end.min(mapped).min(at + MINCORE_CHUNK * PAGE_SIZE);
        let mut resident = try_filled(false, (end - at) / PAGE_SIZE)?;
        ctx.vm.vmar().resident(at..end, &mut resident)?;
        let bytes = try_collect(resident.iter().map(|resident| u8::from(*resident)))?;
        ctx.vm.write_bytes(place, &bytes)?;
        place += bytes.len();
        at = end;
    }
    Ok(0)
}

/// Where the pages that `addr..addr + len` touches begin, and how many bytes they are: none if the length wraps around.
fn touched(addr: Vaddr, len: usize) -> (Vaddr, usize) {
    let start = addr / PAGE_SIZE * PAGE_SIZE;
    (start, len.wrapping_add(addr - start).checked_next_multiple_of(PAGE_SIZE).unwrap_or(0))
}

/// `mlock(2)`.
pub fn sys_mlock(ctx: &Ctx, addr: Vaddr, len: usize) -> Result<usize> {
    sys_mlock2(ctx, addr, len, 0)
}

/// `mlock2(2)`.
pub fn sys_mlock2(ctx: &Ctx, addr: Vaddr, len: usize, flags: u32) -> Result<usize> {
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(EINVAL);
    }
    require_may_lock(ctx)?;
    refresh_lock_limit(ctx);
    let vmar = ctx.vm.vmar();
    let (start, size) = touched(addr, len);
    let range = match start.checked_add(size) {
        Some(end) if size != 0 => start..end,
        // Nothing to lock; but the limit has the first word.
        end => {
            let is_over = vmar.usage().locked.saturating_add(size) > vmar.limits().get(Limit::Locked);
            return if is_over { Err(ENOMEM) } else { end.map(|_| 0).ok_or(EINVAL) };
        }
    };
    let mode = if flags & MLOCK_ONFAULT != 0 { LockMode::OnFault } else { LockMode::Now };
    vmar.lock(range, mode).map(|()| 0).map_err(|error| match error {
        // The memory is locked, but some of it could not be made resident.
        Error::OutOfMemory => EAGAIN,
        _ => ENOMEM,
    })
}

/// `munlock(2)`.
pub fn sys_munlock(ctx: &Ctx, addr: Vaddr, len: usize) -> Result<usize> {
    let (start, size) = touched(addr, len);
    let end = start.checked_add(size).ok_or(EINVAL)?;
    if size != 0 {
        ctx.vm.vmar().unlock(start..end).map_err(|_| ENOMEM)?;
    }
    Ok(0)
}

/// `mlockall(2)`.
pub fn sys_mlockall(ctx: &Ctx, flags: u32) -> Result<usize> {
    if flags & (MCL_CURRENT | MCL_FUTURE) == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 {
        return Err(EINVAL);
    }
    require_may_lock(ctx)?;
    refresh_lock_limit(ctx);
    let mode = if flags & MCL_ONFAULT != 0 { LockMode::OnFault } else { LockMode::Now };
    let vmar = ctx.vm.vmar();
    if flags & MCL_CURRENT != 0 {
        vmar.lock_all(mode)?;
    }
    ctx.vm.lock_future(if flags & MCL_FUTURE != 0 { mode.flags() } else { MappingFlags::empty() });
    Ok(0)
}

/// `munlockall(2)`.
pub fn sys_munlockall(ctx: &Ctx) -> Result<usize> {
    ctx.vm.lock_future(MappingFlags::empty());
    ctx.vm.vmar().unlock_all();
    Ok(0)
}
