// SPDX-License-Identifier: MPL-2.0

//! Memory: resizing and moving mappings, and showing other pages of the same file.

use core::ops::Range;

use linux_raw_sys::general::{MAP_NONBLOCK, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use vmar::{
    backing::Refusal,
    error::{Error, Limit},
    mapping::{Mappable, MappedMemory, MappingFlags},
    perms::VmPerms,
    placement::Placement,
    vmar::remap::RemapTarget,
};

use super::memory::{personality_of, refresh_lock_limit};
use crate::{
    fs::{File, file, page_cache::FileVmo, userfaultfd},
    ipc::shm,
    mm::{
        commit,
        layout::TASK_SIZE,
        mapped_file::{Known, backing_of, is_fully_shared},
    },
    prelude::*,
    process::credentials::CapSet,
};

/// `mremap(2)`.
pub fn sys_mremap(
    ctx: &Ctx,
    addr: Vaddr,
    old_len: usize,
    new_len: usize,
    flags: u32,
    new_addr: Vaddr,
) -> Result<usize> {
    let moves = flags & MREMAP_MAYMOVE != 0;
    let (is_fixed, keeps) = (flags & MREMAP_FIXED != 0, flags & MREMAP_DONTUNMAP != 0);
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 || ((is_fixed || keeps) && !moves) {
        return Err(EINVAL);
    }
    if keeps && old_len != new_len || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    // What wraps around is nothing.
    let old_size = old_len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0);
    let new_size = new_len.checked_next_multiple_of(PAGE_SIZE).filter(|size| *size != 0).ok_or(EINVAL)?;
    let is_mapped = || addr < TASK_SIZE && ctx.vm.vmar().query(addr..addr + PAGE_SIZE).first().is_some();
    if old_size == new_size && new_size > TASK_SIZE && !is_fixed && !keeps {
        // A length that stays is not looked at.
        return if is_mapped() { Ok(addr) } else { Err(EFAULT) };
    }
    // That nothing is mapped there has the first word.
    let refused = |why: Errno| if is_mapped() { why } else { EFAULT };
    let old = addr..addr.checked_add(old_size).ok_or_else(|| refused(EINVAL))?;
    if is_fixed || keeps {
        let is_inside = new_size <= TASK_SIZE && new_addr <= TASK_SIZE - new_size;
        let overlaps = || old.end > new_addr && new_addr + new_size > addr;
        if !new_addr.is_multiple_of(PAGE_SIZE) || !is_inside || overlaps() {
            return Err(refused(EINVAL));
        }
    } else if new_size > TASK_SIZE {
        return Err(too_large(ctx, &old));
    }
    if is_fixed && old.is_empty() && (new_addr..new_addr + new_size).contains(&addr) && is_mapped() {
        // Linux makes room first, and then finds nothing to be mapped once more.
        ctx.vm.vmar().unmap(new_addr..new_addr + new_size)?;
        return Err(EFAULT);
    }
    let target = match (keeps, is_fixed) {
        (true, true) => RemapTarget::DontUnmap(Placement::Replacing(new_addr)),
        (true, false) if new_addr != 0 => RemapTarget::DontUnmap(Placement::Hint(new_addr)),
        (true, false) => RemapTarget::DontUnmap(Placement::Anywhere),
        (false, true) => RemapTarget::Fixed(new_addr),
        (false, false) if moves => RemapTarget::MayMove,
        (false, false) => RemapTarget::InPlace,
    };
    refresh_lock_limit(ctx);
    let more = if keeps { new_size } else { new_size.saturating_sub(old_size) };
    let moved = if ctx.vm.is_watched() {
        remap_watched(ctx, more, &old, new_size, target)
    } else if commit::may_refuse(more) && old.end <= TASK_SIZE && is_promised(ctx, old.start) {
        remap_promised(ctx, more, old.clone(), new_size, target)
    } else {
        remap(ctx, old.clone(), new_size, target)
    };
    if moved.is_err_and(|error| error != EPERM) && is_fixed && is_mapped() {
        // Linux has made room by the time it finds out.
        let _ = ctx.vm.vmar().unmap(new_addr..new_addr + new_size);
        if old_size > new_size {
            let _ = ctx.vm.vmar().unmap(addr + new_size..old.end);
        }
    }
    moved
}

/// Why what is mapped at `old` cannot become larger than all that a program can use.
#[cold]
fn too_large(ctx: &Ctx, old: &Range<Vaddr>) -> Errno {
    if old.start >= TASK_SIZE {
        return EFAULT;
    }
    let query = ctx.vm.vmar().query(old.start..old.start + PAGE_SIZE);
    match query.first() {
        Some(mapping) if old.is_empty() && !mapping.is_shared() => EINVAL,
        Some(mapping) if old.end <= mapping.range().end => {
            // The limit on locked memory has the first word.
            let is_locked = mapping.flags().contains(MappingFlags::LOCKED);
            if is_locked && !ctx.credentials().has(CapSet::IPC_LOCK) { EAGAIN } else { ENOMEM }
        }
        _ => EFAULT,
    }
}

#[inline(always)]
fn remap(ctx: &Ctx, old: Range<Vaddr>, new_size: usize, target: RemapTarget) -> Result<usize> {
    ctx.vm.vmar().remap(old, new_size, target).map_err(|error| match error {
        Error::NotMapped | Error::NotSupported => EFAULT,
        Error::LimitExceeded(Limit::Locked) => EAGAIN,
        Error::OutOfRange => EINVAL,
        other => other.into(),
    })
}

/// The same for what `more` memory is to be promised to.
#[cold]
#[inline(never)]
fn remap_promised(
    ctx: &Ctx,
    more: usize,
    old: Range<Vaddr>,
    new_size: usize,
    target: RemapTarget,
) -> Result<usize> {
    let _promise = commit::promise(ctx.vm, more).map_err(|_| too_large(ctx, &old))?;
    remap(ctx, old, new_size, target)
}

/// The same for what a userfaultfd may have to be told of.
#[cold]
#[inline(never)]
fn remap_watched(
    ctx: &Ctx,
    more: usize,
    old: &Range<Vaddr>,
    new_size: usize,
    target: RemapTarget,
) -> Result<usize> {
    let (fixed, keeps_old) = match target {
        RemapTarget::Fixed(addr) => (Some(addr), false),
        RemapTarget::DontUnmap(Placement::Replacing(addr)) => (Some(addr), true),
        RemapTarget::DontUnmap(_) => (None, true),
        RemapTarget::InPlace | RemapTarget::MayMove => (None, false),
    };
    let announced = userfaultfd::event::moving(ctx.vm, old, new_size, fixed, keeps_old)?;
    let segment = shm::attached_at(ctx.vm, old.start);
    let is_promised = old.end <= TASK_SIZE && is_promised(ctx, old.start);
    let start = match is_promised {
        true => remap_promised(ctx, more, old.clone(), new_size, target)?,
        false => remap(ctx, old.clone(), new_size, target)?,
    };
    announced.tell(start);
    if let Some(segment) = segment.filter(|_| start != old.start) {
        // There is a new mapping of it, whatever has become of the old one.
        segment.note_attached();
    }
    Ok(start)
}

/// Whether memory is promised to what is mapped at `addr`.
fn is_promised(ctx: &Ctx, addr: Vaddr) -> bool {
    let query = ctx.vm.vmar().query(addr..addr.saturating_add(1));
    query.first().is_some_and(|mapping| mapping.flags().contains(MappingFlags::PROMISED))
}

/// What a program sees in a mapping, to be mapped once more.
struct Shown {
    vmo: FileVmo,
    mappable: Arc<dyn Mappable>,
    /// The file, if it is one that was mapped.
    file: Option<Arc<File>>,
    perms: VmPerms,
    flags: MappingFlags,
}

/// `remap_file_pages(2)`, as Linux has it since 4.0: a mapping of other pages takes the place of the range.
pub fn sys_remap_file_pages(
    ctx: &Ctx,
    addr: Vaddr,
    size: usize,
    prot: usize,
    page: usize,
    flags: u32,
) -> Result<usize> {
    if prot != 0 {
        return Err(EINVAL);
    }
    let (start, size) = (addr / PAGE_SIZE * PAGE_SIZE, size / PAGE_SIZE * PAGE_SIZE);
    let end = start.checked_add(size).filter(|end| *end > start).ok_or(EINVAL)?;
    page.checked_add(size / PAGE_SIZE).ok_or(EINVAL)?;
    let shown = shown_at(ctx, start..end)?;
    let offset = page.checked_mul(PAGE_SIZE).filter(|offset| offset.checked_add(size).is_some());
    let offset = offset.filter(|offset| *offset <= isize::MAX as usize).ok_or(EOVERFLOW)?;
    let kept = MappingFlags::LOCKED | MappingFlags::FAULT_AROUND;
    let mut map = ctx.vm.vmar().new_map(size).perms(shown.perms).personality(personality_of(ctx));
    map = map.placement(Placement::Replacing(start)).flags(shown.flags & kept).shared();
    if let Some(file) = &shown.file {
        map = map.backing(backing_of(file));
    }
    if flags & MAP_NONBLOCK == 0 {
        map = map.populate();
    }
    refresh_lock_limit(ctx);
    map.vmo(shown.vmo).vmo_offset(offset).mappable(shown.mappable).build().map_err(|error| match error {
        Error::LimitExceeded(Limit::Locked) => EAGAIN,
        Error::InvalidOffset => EOVERFLOW,
        Error::Refused(Refusal::Sealed) => {
            // Linux asks the file when it has made room.
            let _ = ctx.vm.vmar().unmap(start..end);
            EPERM
        }
        other => other.into(),
    })?;
    Ok(0)
}

/// What is shown all over `range`.
///
/// # Errors
///
/// `EINVAL` unless that is one thing, shared and mapped in one way.
fn shown_at(ctx: &Ctx, range: Range<Vaddr>) -> Result<Shown> {
    let query = ctx.vm.vmar().query(range.clone());
    let first = query.first().filter(|info| info.range().start <= range.start).ok_or(EINVAL)?;
    let (perms, flags) = (first.perms(), first.flags());
    let mappable = first.mappable().ok_or(EINVAL)?.clone();
    let watched = first.watcher().map(|(_, modes)| modes);
    let is_object = matches!(first.memory(), MappedMemory::Vmo { .. });
    if !is_fully_shared(&first) || !is_object || !query.is_fully_mapped() {
        return Err(EINVAL);
    }
    let is_alike = query.iter().all(|info| {
        let is_same = info.mappable().is_some_and(|other| Arc::ptr_eq(other, &mappable));
        let is_watched_alike = info.watcher().map(|(_, modes)| modes) == watched;
        // The policy need not be the same.
        let is_flagged_alike = info.flags() - MappingFlags::LABEL == flags - MappingFlags::LABEL;
        is_same && info.perms() == perms && is_flagged_alike && is_watched_alike
    });
    drop(query);
    if !is_alike {
        return Err(EINVAL);
    }
    let (vmo, file) = match Known::of(&*mappable).ok_or(EINVAL)? {
        Known::File(mapped) => {
            let file = mapped.file().clone();
            match file.ops().mappable(&file)? {
                file::Mappable::Vmo(vmo) => (vmo, Some(file)),
                file::Mappable::Zero => return Err(EINVAL),
            }
        }
        Known::Memory(memory) => (memory.object().dup().to_dynamic(), None),
        Known::Segment(segment) => (segment.object().dup().to_dynamic(), None),
    };
    Ok(Shown { vmo, mappable, file, perms: perms.access(), flags })
}
