// SPDX-License-Identifier: MPL-2.0

//! Memory: mapping, unmapping, protecting, moving, and the heap.

use linux_raw_sys::general::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_DENYWRITE, MAP_EXECUTABLE, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN,
    MAP_HUGE_1GB, MAP_HUGE_2MB, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK, MAP_NORESERVE, MAP_POPULATE,
    MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MAP_TYPE, MAP_UNINITIALIZED, MREMAP_DONTUNMAP,
    MREMAP_FIXED, MREMAP_MAYMOVE, PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE,
    RLIMIT_MEMLOCK,
};
use vmar::{
    backing::{Backing, Personality},
    error::{Error, Limit},
    mapping::MappingFlags,
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    vmar::remap::RemapTarget,
};
use vmar_ostd::Ostd;

use crate::{
    fs::{
        File,
        file::{AccessMode, Mappable},
        inode_file::touch_atime,
        page_cache::FileVmo,
    },
    mm::{
        self,
        layout::{MIN_ADDR, TASK_SIZE},
        mapped_file::{MappedFile, SharedMemory, backing_of},
    },
    prelude::*,
    process::credentials::CapSet,
};

/// `personality(2)`: what can be read can be executed.
const READ_IMPLIES_EXEC: u32 = 0x040_0000;
/// Where the room for `MAP_32BIT` ends.
const END_32BIT: Vaddr = 1 << 31;

/// The flags that `MAP_SHARED_VALIDATE` accepts.
const VALIDATED_FLAGS: u32 = MAP_TYPE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_UNINITIALIZED
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_HUGE_2MB
    | MAP_HUGE_1GB;
/// From how many bytes on it is worth while to take note of the resident set before memory goes.
const LARGE: usize = 16 * PAGE_SIZE;

/// `mmap(2)`.
pub fn sys_mmap(
    ctx: &Ctx,
    addr: Vaddr,
    len: usize,
    prot: u32,
    flags: u32,
    fd: i32,
    offset: usize,
) -> Result<usize> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    let file = if flags & MAP_ANONYMOUS == 0 { Some(ctx.files().get(fd)?) } else { None };
    if len == 0 {
        return Err(EINVAL);
    }
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
    offset.checked_add(size).ok_or(EOVERFLOW)?;
    let sharing = flags & MAP_TYPE;
    let is_shared = match (sharing, &file) {
        (MAP_PRIVATE, _) => false,
        (MAP_SHARED, _) => true,
        (MAP_SHARED_VALIDATE, Some(_)) if flags & !VALIDATED_FLAGS != 0 => return Err(EOPNOTSUPP),
        (MAP_SHARED_VALIDATE, Some(_)) => true,
        _ => return Err(EINVAL),
    };
    if flags & MAP_HUGETLB != 0 {
        // There are no huge pages set aside.
        return Err(if file.is_some() { EINVAL } else { ENOMEM });
    }
    let placement = placement_for(ctx, addr, size, flags)?;
    let perms = perms_from(prot);
    let mut traits = MappingFlags::empty();
    traits.set(MappingFlags::GROWS_DOWN, flags & MAP_GROWSDOWN != 0);
    traits.set(MappingFlags::NO_RESERVE, flags & MAP_NORESERVE != 0);
    traits.set(MappingFlags::LOCKED, flags & MAP_LOCKED != 0);
    if flags & MAP_LOCKED != 0 {
        require_may_lock(ctx)?;
    }
    if flags & MAP_LOCKED != 0 || ctx.vm.locks_future() {
        refresh_lock_limit(ctx);
    }

    let contents = match &file {
        None => None,
        Some(file) => contents_of(file)?,
    };
    let is_counted = flags & MAP_NORESERVE == 0
        && if is_shared { contents.is_none() } else { perms.contains(VmPerms::WRITE) };
    let is_too_much = is_counted && mm::check_commit(size).is_err();
    let populates = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
    let personality = personality_of(ctx);
    // For the most frequent case one chain from here to the end: a builder that comes from several sides is moved, byte by
    // byte.
    let new_map = || {
        ctx.vm.vmar().new_map(size).perms(perms).personality(personality).placement(placement).flags(traits)
    };
    let start = if file.is_none() && !is_shared && !populates && !is_too_much {
        new_map().build()
    } else {
        let mut map = if populates { new_map().populate() } else { new_map() };
        if let Some(file) = &file {
            map = map.backing(match contents {
                Some(Contents::Nothing) => Backing::unmappable(backing_of(file).state),
                _ => backing_of(file),
            });
        }
        if is_shared {
            map = map.shared();
        }
        if is_too_much {
            // What lies behind it has the first word.
            map.plan()?;
            return Err(ENOMEM);
        }
        match (contents, file) {
            (Some(Contents::Pages(vmo)), Some(file)) => {
                touch_atime(&file);
                map.vmo(vmo).vmo_offset(offset).mappable(MappedFile::of(file)).fault_around().build()
            }
            (None, _) if is_shared => {
                let vmo = Vmo::new(&Ostd, size, VmoKind::SharedMemory)?;
                let known = Arc::new(SharedMemory(vmo.dup()));
                map.vmo(vmo.to_dynamic()).mappable(known).build()
            }
            _ => map.build(),
        }
    };
    start.map_err(|error| match error {
        Error::LimitExceeded(Limit::Locked) => EAGAIN,
        Error::InvalidOffset => EOVERFLOW,
        other => other.into(),
    })
}

/// Where a new mapping goes.
fn placement_for(ctx: &Ctx, addr: Vaddr, size: usize, flags: u32) -> Result<Placement> {
    if size > TASK_SIZE {
        return Err(ENOMEM);
    }
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if addr > TASK_SIZE - size {
            return Err(ENOMEM);
        }
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(EINVAL);
        }
        if addr < MIN_ADDR && !ctx.credentials().has(CapSet::SYS_ADMIN) {
            return Err(EPERM);
        }
        return Ok(match flags & MAP_FIXED_NOREPLACE {
            0 => Placement::Replacing(addr),
            _ => Placement::Exactly(addr),
        });
    }
    let hint = addr / PAGE_SIZE * PAGE_SIZE;
    Ok(match hint {
        0 if flags & MAP_32BIT != 0 => Placement::Below(END_32BIT),
        0 => Placement::Anywhere,
        _ if hint > TASK_SIZE - size => Placement::Anywhere,
        _ => Placement::Hint(hint.max(MIN_ADDR)),
    })
}

/// What is mapped of a file that is not fresh zeros.
enum Contents {
    /// The file's pages.
    Pages(FileVmo),
    /// Nothing: it cannot be mapped, and the rights decide why not.
    Nothing,
}

/// The contents of a file to map; `None` for fresh zeros.
fn contents_of(file: &Arc<File>) -> Result<Option<Contents>> {
    file.require(AccessMode::NONE)?;
    match file.ops().mappable(file) {
        Ok(Mappable::Vmo(vmo)) => Ok(Some(Contents::Pages(vmo))),
        Ok(Mappable::Zero) => Ok(None),
        Err(ENODEV) => Ok(Some(Contents::Nothing)),
        Err(error) => Err(error),
    }
}

fn perms_from(prot: u32) -> VmPerms {
    let mut perms = VmPerms::empty();
    perms.set(VmPerms::READ, prot & PROT_READ != 0);
    perms.set(VmPerms::WRITE, prot & PROT_WRITE != 0);
    perms.set(VmPerms::EXEC, prot & PROT_EXEC != 0);
    perms
}

fn personality_of(ctx: &Ctx) -> Personality {
    match ctx.process.personality.load(Ordering::Relaxed) & READ_IMPLIES_EXEC {
        0 => Personality::Usual,
        _ => Personality::ReadImpliesExec,
    }
}

/// `EPERM` unless the caller may lock memory at all.
pub(super) fn require_may_lock(ctx: &Ctx) -> Result<()> {
    if ctx.process.rlimits.soft(RLIMIT_MEMLOCK) != 0 || ctx.credentials().has(CapSet::IPC_LOCK) {
        Ok(())
    } else {
        Err(EPERM)
    }
}

/// Lifts the limit on locked memory for a caller to whom it does not apply, and puts it in force for others.
pub(super) fn refresh_lock_limit(ctx: &Ctx) {
    let limit = match ctx.credentials().has(CapSet::IPC_LOCK) {
        true => usize::MAX,
        false => usize::try_from(ctx.process.rlimits.soft(RLIMIT_MEMLOCK)).unwrap_or(usize::MAX),
    };
    ctx.vm.vmar().limits().set(Limit::Locked, limit);
}

/// `munmap(2)`.
pub fn sys_munmap(ctx: &Ctx, addr: Vaddr, len: usize) -> Result<usize> {
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
    let end = addr.checked_add(size).filter(|end| *end <= TASK_SIZE).ok_or(EINVAL)?;
    if size >= LARGE {
        ctx.vm.sample_rss();
    }
    ctx.vm.vmar().unmap(addr..end).map_err(|error| match error {
        Error::OutOfRange => EINVAL,
        other => other.into(),
    })?;
    Ok(0)
}

/// `mprotect(2)`.
pub fn sys_mprotect(ctx: &Ctx, addr: Vaddr, len: usize, prot: u32) -> Result<usize> {
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
    if prot & !known != 0 {
        return Err(EINVAL);
    }
    let mut start = addr;
    if prot & grows != 0 {
        let query = ctx.vm.vmar().query(addr..end.min(TASK_SIZE).max(addr + PAGE_SIZE));
        let first = query.first().ok_or(ENOMEM)?;
        // Nothing grows up here.
        if prot & PROT_GROWSUP != 0 || !first.flags().contains(MappingFlags::GROWS_DOWN) {
            return Err(EINVAL);
        }
        start = first.range().start;
    }
    let perms = perms_from(prot);
    // Only a large range can have a mapping that is too large.
    if perms.contains(VmPerms::WRITE) && mm::check_commit(end - start).is_err() {
        check_writable(ctx, start..end)?;
    }
    ctx.vm.vmar().protect_as(start..end, perms, personality_of(ctx))?;
    Ok(0)
}

/// `ENOMEM` if a mapping that is counted once it can be written is larger in `range` than memory.
#[cold]
fn check_writable(ctx: &Ctx, range: core::ops::Range<Vaddr>) -> Result<()> {
    if range.end > TASK_SIZE {
        return Ok(());
    }
    for mapping in ctx.vm.vmar().query(range.clone()).iter() {
        // What could be written before is counted already.
        let was_counted = mapping.perms().contains(VmPerms::WRITE);
        let is_counted = !mapping.is_shared() && !mapping.flags().contains(MappingFlags::NO_RESERVE);
        if is_counted && !was_counted {
            let own = mapping.range();
            mm::check_commit(own.end.min(range.end) - own.start.max(range.start))?;
        }
    }
    Ok(())
}

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
    let old_size = old_len.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
    let new_size = new_len.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
    if keeps && old_size != new_size {
        return Err(EINVAL);
    }
    let old = addr..addr.checked_add(old_size).ok_or(EINVAL)?;
    if is_fixed && (new_size > TASK_SIZE || new_addr > TASK_SIZE - new_size) {
        return Err(EINVAL);
    }
    let target = match (keeps, is_fixed) {
        (true, true) => RemapTarget::DontUnmap(Placement::Replacing(new_addr)),
        (true, false) if new_addr != 0 => {
            RemapTarget::DontUnmap(Placement::Hint(new_addr & !(PAGE_SIZE - 1)))
        }
        (true, false) => RemapTarget::DontUnmap(Placement::Anywhere),
        (false, true) => RemapTarget::Fixed(new_addr),
        (false, false) if moves => RemapTarget::MayMove,
        (false, false) => RemapTarget::InPlace,
    };
    refresh_lock_limit(ctx);
    if new_size > old_size && mm::check_commit(new_size - old_size).is_err() && old.end <= TASK_SIZE {
        let is_counted =
            ctx.vm.vmar().query(old.start..old.start + PAGE_SIZE).first().is_some_and(|mapping| {
                mapping.perms().contains(VmPerms::WRITE)
                    && !mapping.is_shared()
                    && !mapping.flags().contains(MappingFlags::NO_RESERVE)
            });
        if is_counted {
            return Err(ENOMEM);
        }
    }
    ctx.vm.vmar().remap(old, new_size, target).map_err(|error| match error {
        Error::NotMapped | Error::NotSupported => EFAULT,
        Error::LimitExceeded(Limit::Locked) => EAGAIN,
        Error::OutOfRange => EINVAL,
        other => other.into(),
    })
}

/// `brk(2)` as the kernel has it: answers the end of the heap.
pub fn sys_brk(ctx: &Ctx, end: Vaddr) -> Result<usize> {
    if ctx.vm.locks_future() {
        refresh_lock_limit(ctx);
    }
    Ok(ctx.vm.move_heap_end(end, &ctx.process.rlimits))
}
