// SPDX-License-Identifier: MPL-2.0

//! What memory allows: mprotect, protection keys, and seals.
//!
//! The CPU is taken for one without protection keys, whatever it has. Then no key can be had, and none named (`pkeys(7)`, Linux 6.1).

use core::ops::Range;

use linux_raw_sys::general::{PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE};
use vmar::{error::Error, mapping::MappingFlags, perms::VmPerms};

use super::memory::{perms_from, personality_of};
use crate::{
    mm::{
        commit::{self, Mode},
        layout::TASK_SIZE,
    },
    prelude::*,
};

/// What stands for no key.
const NO_KEY: i32 = -1;
/// What a key can forbid: to access, to write.
const KEY_RIGHTS: usize = 0b11;

/// `mprotect(2)`.
pub fn sys_mprotect(ctx: &Ctx, addr: Vaddr, len: usize, prot: u32) -> Result<usize> {
    sys_pkey_mprotect(ctx, addr, len, prot, NO_KEY)
}

/// `pkey_mprotect(2)`.
#[inline]
pub fn sys_pkey_mprotect(ctx: &Ctx, addr: Vaddr, len: usize, prot: u32, key: i32) -> Result<usize> {
    let grows = PROT_GROWSDOWN | PROT_GROWSUP;
    let known = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM | grows;
    if !addr.is_multiple_of(PAGE_SIZE) || prot & grows == grows {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
    let end = addr.checked_add(size).ok_or(ENOMEM)?;
    if prot & !known != 0 || key != NO_KEY {
        return Err(EINVAL);
    }
    let mut start = addr;
    if prot & grows != 0 {
        let query = ctx.vm.vmar().query(addr..end.min(TASK_SIZE).max(addr + PAGE_SIZE));
        let first = query.first().ok_or(ENOMEM)?;
        if prot & PROT_GROWSUP != 0 && first.range().start > addr {
            return Err(ENOMEM);
        }
        // Nothing grows up here.
        if prot & PROT_GROWSUP != 0 || !first.flags().contains(MappingFlags::GROWS_DOWN) {
            return Err(EINVAL);
        }
        start = first.range().start;
    }
    let perms = perms_from(prot);
    // By default only a large range can have a mapping that is too large.
    if perms.contains(VmPerms::WRITE) && commit::may_refuse(end - start) {
        return protect_promised(ctx, start..end, perms);
    }
    ctx.vm.vmar().protect_as(start..end, perms, personality_of(ctx))?;
    Ok(0)
}

/// Lets `range` be written once memory is promised to those of its mappings that need that then.
#[cold]
#[inline(never)]
fn protect_promised(ctx: &Ctx, range: Range<Vaddr>, perms: VmPerms) -> Result<usize> {
    let promised = if range.end <= TASK_SIZE { newly_promised(ctx, range.clone())? } else { 0 };
    let protect = || ctx.vm.vmar().protect_as(range, perms, personality_of(ctx));
    commit::with_promise(ctx.vm, promised, protect)??;
    Ok(0)
}

/// How much memory is promised to the mappings of `range` once they can be written, where all of it counts together.
///
/// # Errors
///
/// `ENOMEM` if one is too large by itself.
fn newly_promised(ctx: &Ctx, range: Range<Vaddr>) -> Result<usize> {
    let mut sum = 0_usize;
    for mapping in ctx.vm.vmar().query(range.clone()).iter() {
        let spared = MappingFlags::PROMISED | MappingFlags::NO_RESERVE;
        if mapping.is_shared() || mapping.flags().intersects(spared) {
            continue;
        }
        let own = mapping.range();
        let size = own.end.min(range.end) - own.start.max(range.start);
        // The heuristic looks at each for itself.
        if commit::mode() == Mode::Heuristic && commit::may_refuse(size) {
            return Err(ENOMEM);
        }
        sum += size;
    }
    Ok(if commit::mode() == Mode::Never { sum } else { 0 })
}

/// `pkey_alloc(2)`.
///
/// There is none to be had. Linux says so by `EINVAL` the first time that an address space asks, and by `ENOSPC` from then on.
pub fn sys_pkey_alloc(ctx: &Ctx, flags: usize, rights: usize) -> Result<usize> {
    if flags != 0 || rights & !KEY_RIGHTS != 0 {
        return Err(EINVAL);
    }
    Err(if ctx.vm.note_wish_for_key() { ENOSPC } else { EINVAL })
}

/// `pkey_free(2)`: nobody has any.
pub fn sys_pkey_free(_ctx: &Ctx, _key: i32) -> Result<usize> {
    Err(EINVAL)
}

/// `mseal(2)`, of Linux 6.10.
pub fn sys_mseal(ctx: &Ctx, addr: Vaddr, len: usize, flags: usize) -> Result<usize> {
    if flags != 0 || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
    let end = addr.checked_add(size).ok_or(EINVAL)?;
    if size == 0 {
        return Ok(0);
    }
    ctx.vm.vmar().seal(addr..end).map(|()| 0).map_err(|error| match error {
        Error::OutOfRange => ENOMEM,
        other => other.into(),
    })
}
