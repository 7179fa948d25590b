// SPDX-License-Identifier: MPL-2.0

//! Memory: mapping, unmapping, and the heap.

use core::ops::Range;

use linux_raw_sys::general::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_DENYWRITE, MAP_EXECUTABLE, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN,
    MAP_HUGE_1GB, MAP_HUGE_2MB, MAP_HUGE_MASK, MAP_HUGE_SHIFT, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK,
    MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MAP_TYPE,
    MAP_UNINITIALIZED, PROT_EXEC, PROT_READ, PROT_WRITE, RLIMIT_AS, RLIMIT_MEMLOCK,
};
use vmar::{
    backing::{Backing, Personality, Refusal},
    error::{Error, Limit},
    mapping::MappingFlags,
    perms::VmPerms,
    placement::Placement,
};

use crate::{
    fs::{
        File,
        file::{AccessMode, Mappable},
        inode_file::touch_atime,
        memfd::{SealFlags, Seals},
        page_cache::FileVmo,
        types::FileType,
        userfaultfd,
    },
    mm::{
        commit::{self, Mode, SharedPromise},
        layout::{MIN_ADDR, TASK_SIZE},
        mapped_file::{MappedFile, SharedMemory, backing_of},
    },
    prelude::*,
    process::credentials::CapSet,
};

/// `personality(2)`: what can be read can be executed.
const READ_IMPLIES_EXEC: u32 = 0x040_0000;
/// The room for `MAP_32BIT`: 31 bits, the lower half of which is left to programs that name their addresses.
const LOW: Range<Vaddr> = 1 << 30..1 << 31;

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

/// What is asked of `mmap(2)`, as it is given.
struct Request {
    addr: Vaddr,
    len: usize,
    prot: u32,
    flags: u32,
    fd: i32,
    offset: usize,
}

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
    // Made where it is handed on: the most frequent way has no need of it in memory.
    let request = || Request { addr, len, prot, flags, fd, offset };
    if commit::may_refuse(len) {
        return map_promised(ctx, &request());
    }
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) == MAP_FIXED && ctx.vm.is_watched() {
        return map_over_watched(ctx, &request());
    }
    map(ctx, &request(), false)
}

/// `mmap` over what is there, of which somebody may have to be told.
#[cold]
#[inline(never)]
fn map_over_watched(ctx: &Ctx, request: &Request) -> Result<usize> {
    let Request { addr, len, .. } = *request;
    let size = len.checked_next_multiple_of(PAGE_SIZE);
    let Some(end) = size.and_then(|size| addr.checked_add(size)) else {
        // It is refused, but what is wrong with the file comes first.
        return map(ctx, request, false);
    };
    let announced = userfaultfd::event::unmapping(ctx.vm, &(addr..end))?;
    let start = map_promised(ctx, request)?;
    announced.tell();
    Ok(start)
}

/// `mmap` of what may be more than can be promised.
#[cold]
#[inline(never)]
fn map_promised(ctx: &Ctx, request: &Request) -> Result<usize> {
    let Request { addr, len, prot, flags, .. } = *request;
    let Some(size) = len.checked_next_multiple_of(PAGE_SIZE) else {
        return map(ctx, request, false);
    };
    let is_unreserved = flags & MAP_NORESERVE != 0 && commit::mode() != Mode::Never;
    let is_promised = !is_unreserved && flags & MAP_TYPE == MAP_PRIVATE && prot & PROT_WRITE != 0;
    let promise = match flags & MAP_FIXED {
        _ if !is_promised => None,
        0 => Some(commit::promise(ctx.vm, size)),
        _ => Some(commit::promise_in_place(ctx.vm, addr, size)),
    };
    let is_too_much = matches!(promise, Some(Err(_)));
    map(ctx, request, is_too_much)
}

#[inline(always)]
fn map(ctx: &Ctx, request: &Request, is_too_much: bool) -> Result<usize> {
    let Request { addr, len, prot, flags, fd, offset } = *request;
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    let file = if flags & MAP_ANONYMOUS == 0 { Some(ctx.files().get(fd)?) } else { None };
    if len == 0 {
        return Err(EINVAL);
    }
    if flags & MAP_HUGETLB != 0 {
        return Err(refuse_huge_pages(flags, file.is_some()));
    }
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
    let placement = placement_for(ctx, addr, size, flags)?;
    let locks = flags & MAP_LOCKED != 0 || ctx.vm.locks_future();
    let refused = |why| refused(ctx, size, placement, locks, why);
    let is_too_far = |file: &Arc<File>| !can_end(file, offset, size);
    let is_shared = match (flags & MAP_TYPE, &file) {
        (_, Some(file)) if is_too_far(file) => return Err(refused(EOVERFLOW)),
        (MAP_PRIVATE, _) => false,
        (MAP_SHARED, _) => true,
        (MAP_SHARED_VALIDATE, Some(_)) if flags & !VALIDATED_FLAGS != 0 => return Err(refused(EOPNOTSUPP)),
        (MAP_SHARED_VALIDATE, Some(_)) => true,
        _ => return Err(refused(EINVAL)),
    };
    let perms = perms_from(prot);
    let mut traits = MappingFlags::empty();
    traits.set(MappingFlags::GROWS_DOWN, flags & MAP_GROWSDOWN != 0);
    let is_unreserved = flags & MAP_NORESERVE != 0 && commit::mode() != Mode::Never;
    traits.set(MappingFlags::NO_RESERVE, is_unreserved);
    traits.set(MappingFlags::LOCKED, flags & MAP_LOCKED != 0);
    if flags & MAP_LOCKED != 0 {
        require_may_lock(ctx)?;
    }
    if flags & MAP_LOCKED != 0 || ctx.vm.locks_future() {
        refresh_lock_limit(ctx);
    }

    let contents = match &file {
        None => None,
        Some(file) => contents_of(file).map_err(refused)?,
    };
    if flags & MAP_GROWSDOWN != 0 && file.is_some() {
        return Err(EINVAL);
    }
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
        let is_file = file.is_some();
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
        match (contents, file) {
            // What lies behind it has the first word.
            _ if is_too_much => match map.plan() {
                Ok(_) => return Err(ENOMEM),
                Err(error) => Err(error),
            },
            (Some(Contents::Pages(vmo)), Some(file)) => {
                touch_atime(&file);
                map.vmo(vmo).vmo_offset(offset).mappable(MappedFile::of(file)).fault_around().build()
            }
            (None, _) if is_shared => {
                let promise = match is_unreserved {
                    true => SharedPromise::ByPage,
                    false => SharedPromise::at_once(ctx.vm, size)?,
                };
                let vmo = promise.make_object(size)?;
                let known = Arc::new(SharedMemory::new(vmo.dup(), promise));
                // Of a file that gives zeros there is as much as is mapped, and perhaps some of it lies beyond.
                let offset = if is_file { offset } else { 0 };
                map.vmo(vmo.to_dynamic()).vmo_offset(offset).mappable(known).build()
            }
            _ => map.build(),
        }
    };
    start.map_err(|error| match error {
        Error::LimitExceeded(Limit::Locked) => EAGAIN,
        Error::InvalidOffset => EOVERFLOW,
        Error::Refused(why) => {
            let refused = refused(error.into());
            match why {
                Refusal::Sealed if refused == EPERM && is_sealed_for_the_future(ctx, fd) => {
                    refused_late(ctx, size, placement)
                }
                _ => refused,
            }
        }
        Error::InvalidOptions => refused(error.into()),
        other => other.into(),
    })
}

/// Whether a file can be written through the mappings that it has, and no others.
#[cold]
fn is_sealed_for_the_future(ctx: &Ctx, fd: i32) -> bool {
    let Ok(file) = ctx.files().get(fd) else { return false };
    let seals = file.inode().seals().map_or(SealFlags::empty(), Seals::get);
    seals & (SealFlags::WRITE | SealFlags::FUTURE_WRITE) == SealFlags::FUTURE_WRITE
}

/// Why what is sealed for the future is not mapped: Linux asks the file when it has made room, for which there are limits.
#[cold]
fn refused_late(ctx: &Ctx, size: usize, placement: Placement) -> Errno {
    let replaced = match placement {
        Placement::Replacing(start) => start..start + size,
        _ => 0..0,
    };
    let gone: usize = {
        let query = ctx.vm.vmar().query(replaced.clone());
        let within = |range: Range<Vaddr>| range.end.min(replaced.end) - range.start.max(replaced.start);
        query.iter().map(|info| within(info.range())).sum()
    };
    let limit = ctx.process.rlimits.soft(RLIMIT_AS);
    if (ctx.vm.vmar().usage().address_space - gone + size) as u64 > limit {
        return ENOMEM;
    }
    if !replaced.is_empty() {
        let _ = ctx.vm.vmar().unmap(replaced);
    }
    EPERM
}

/// Why a mapping of huge pages is refused: it is no file of any, or there is no such size, or there are none set aside.
#[cold]
fn refuse_huge_pages(flags: u32, is_file: bool) -> Errno {
    const SIZES: [u32; 3] = [0, MAP_HUGE_2MB, MAP_HUGE_1GB];
    let is_size = SIZES.contains(&(flags & MAP_HUGE_MASK << MAP_HUGE_SHIFT));
    if is_file || !is_size { EINVAL } else { ENOMEM }
}

/// Why a mapping cannot be made: there is no place for it, or too much would be locked, or else `why`. That is the order in which
/// Linux looks.
#[cold]
fn refused(ctx: &Ctx, size: usize, placement: Placement, locks: bool, why: Errno) -> Errno {
    if let Err(error) = ctx.vm.vmar().find_place(size, PAGE_SIZE, placement) {
        return error.into();
    }
    let limit = ctx.process.rlimits.soft(RLIMIT_MEMLOCK);
    let is_limited = locks && !ctx.credentials().has(CapSet::IPC_LOCK);
    if is_limited && (ctx.vm.vmar().usage().locked + size) as u64 > limit { EAGAIN } else { why }
}

/// Whether a file can have an end so far away.
fn can_end(file: &File, offset: usize, size: usize) -> bool {
    let most = if file.inode().kind() == FileType::Regular { i64::MAX as usize } else { usize::MAX };
    most.checked_sub(size).is_some_and(|last| offset <= last)
}

/// Where a new mapping goes.
pub(super) fn placement_for(ctx: &Ctx, addr: Vaddr, size: usize, flags: u32) -> Result<Placement> {
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
        _ if flags & MAP_32BIT != 0 => {
            let is_good = hint != 0 && hint <= LOW.end.saturating_sub(size);
            let hint = is_good.then_some(hint.max(MIN_ADDR));
            Placement::Between { hint, from: LOW.start, below: LOW.end }
        }
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

pub(super) fn perms_from(prot: u32) -> VmPerms {
    let mut perms = VmPerms::empty();
    perms.set(VmPerms::READ, prot & PROT_READ != 0);
    perms.set(VmPerms::WRITE, prot & PROT_WRITE != 0);
    perms.set(VmPerms::EXEC, prot & PROT_EXEC != 0);
    perms
}

pub(super) fn personality_of(ctx: &Ctx) -> Personality {
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
#[inline(always)]
pub fn sys_munmap(ctx: &Ctx, addr: Vaddr, len: usize) -> Result<usize> {
    unmap(ctx, addr, len, Announced::No)
}

/// Whether those who are to be told by their userfaultfd have been found already.
///
/// What watched spaces need beside the rest calls the same function a second time: it stays the only one to call the framework, and
/// is one with it, which spares all others what they would pay for passing arguments on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announced {
    No,
    Yes,
}

fn unmap(ctx: &Ctx, addr: Vaddr, len: usize, announced: Announced) -> Result<usize> {
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(EINVAL)?;
    let end = addr.checked_add(size).filter(|end| *end <= TASK_SIZE).ok_or(EINVAL)?;
    ctx.vm.sample_rss_before(size);
    if announced == Announced::No && ctx.vm.is_watched() {
        return unmap_watched(ctx, addr, len, end);
    }
    ctx.vm.vmar().unmap(addr..end).map_err(|error| match error {
        Error::OutOfRange => EINVAL,
        other => other.into(),
    })?;
    Ok(0)
}

#[cold]
#[inline(never)]
fn unmap_watched(ctx: &Ctx, addr: Vaddr, len: usize, end: Vaddr) -> Result<usize> {
    let announced = userfaultfd::event::unmapping(ctx.vm, &(addr..end))?;
    unmap(ctx, addr, len, Announced::Yes)?;
    announced.tell();
    Ok(0)
}

/// `brk(2)` as the kernel has it: answers the end of the heap.
pub fn sys_brk(ctx: &Ctx, end: Vaddr) -> Result<usize> {
    if ctx.vm.locks_future() {
        refresh_lock_limit(ctx);
    }
    if !ctx.vm.is_watched() {
        return Ok(ctx.vm.move_heap_end(end, &ctx.process.rlimits));
    }
    let new_end = end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(end);
    let gone = new_end..ctx.vm.heap().end.next_multiple_of(PAGE_SIZE);
    let announced = userfaultfd::event::unmapping(ctx.vm, &gone)?;
    let moved = ctx.vm.move_heap_end(end, &ctx.process.rlimits);
    if moved == end {
        announced.tell();
    }
    Ok(moved)
}
