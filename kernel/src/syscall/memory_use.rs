// SPDX-License-Identifier: MPL-2.0

//! Memory: advice, residence, locking, and other processes' memory.

use core::{any::Any, ops::Range};

use linux_raw_sys::general::{
    MADV_COLD, MADV_COLLAPSE, MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP, MADV_DONTFORK, MADV_DONTNEED,
    MADV_DONTNEED_LOCKED, MADV_FREE, MADV_HUGEPAGE, MADV_KEEPONFORK, MADV_MERGEABLE, MADV_NOHUGEPAGE,
    MADV_NORMAL, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM, MADV_REMOVE,
    MADV_SEQUENTIAL, MADV_UNMERGEABLE, MADV_WILLNEED, MADV_WIPEONFORK, MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT,
    MLOCK_ONFAULT, MS_ASYNC, MS_INVALIDATE, MS_SYNC,
};
use ostd::mm::{FallibleVmWrite, io::util::HasVmReaderWriter};
use vmar::{
    error::Error,
    mapping::MappingFlags,
    perms::VmPerms,
    vmar::{advise::Advice, discard::Discard, lock::LockMode, populate::Populate},
};

use super::memory::{refresh_lock_limit, require_may_lock};
use crate::{
    fs::inode::Allocate,
    mm::{
        AddressSpace,
        layout::TASK_SIZE,
        mapped_file::{MappedFile, SharedMemory},
    },
    prelude::*,
    process::{credentials::CapSet, table},
    usermem::IoVec,
};

/// How many pages `mincore` looks at in one go.
const MINCORE_CHUNK: usize = 4096;

/// The whole pages of `addr..addr + len`, where `addr` must be the start of one; `overflow` if they do not end.
fn pages(addr: Vaddr, len: usize, overflow: Errno) -> Result<Range<Vaddr>> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    let size = len.checked_next_multiple_of(PAGE_SIZE).ok_or(overflow)?;
    let end = addr.checked_add(size).ok_or(overflow)?;
    Ok(addr..end)
}

/// `ENOMEM` unless every page of `range` is mapped.
fn require_mapped(vm: &AddressSpace, range: Range<Vaddr>) -> Result<()> {
    if range.end > TASK_SIZE || !vm.vmar().query(range).is_fully_mapped() { Err(ENOMEM) } else { Ok(()) }
}

/// Whether any memory of `range` is locked.
fn is_locked(vm: &AddressSpace, range: Range<Vaddr>) -> bool {
    vm.vmar().query(range).iter().any(|info| info.flags().contains(MappingFlags::LOCKED))
}

/// `madvise(2)`.
pub fn sys_madvise(ctx: &Ctx, addr: Vaddr, len: usize, advice: u32) -> Result<usize> {
    let noted = match advice {
        MADV_NORMAL => Some(Advice::Normal),
        MADV_RANDOM => Some(Advice::Random),
        MADV_SEQUENTIAL => Some(Advice::Sequential),
        MADV_DONTFORK => Some(Advice::DontFork),
        MADV_DOFORK => Some(Advice::DoFork),
        MADV_WIPEONFORK => Some(Advice::WipeOnFork),
        MADV_KEEPONFORK => Some(Advice::KeepOnFork),
        MADV_DONTDUMP => Some(Advice::DontDump),
        MADV_DODUMP => Some(Advice::DoDump),
        MADV_WILLNEED | MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_FREE | MADV_REMOVE | MADV_COLD
        | MADV_PAGEOUT | MADV_POPULATE_READ | MADV_POPULATE_WRITE | MADV_MERGEABLE | MADV_UNMERGEABLE
        | MADV_HUGEPAGE | MADV_NOHUGEPAGE | MADV_COLLAPSE => None,
        _ => return Err(EINVAL),
    };
    let range = pages(addr, len, EINVAL)?;
    if range.start >= range.end {
        return Ok(0);
    }
    if range.end > TASK_SIZE {
        return Err(ENOMEM);
    }
    if matches!(advice, MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_FREE) {
        ctx.vm.sample_rss();
    }
    let vmar = ctx.vm.vmar();
    let done = match (noted, advice) {
        (Some(noted), _) => {
            return vmar.advise(range, noted).map(|()| 0).map_err(|error| match error {
                Error::OutOfMemory | Error::LimitExceeded(_) => EAGAIN,
                other => other.into(),
            });
        }
        (None, MADV_WILLNEED) => vmar.populate(range, Populate::Prefetch),
        (None, MADV_DONTNEED) => vmar.discard(range, Discard::Now),
        (None, MADV_DONTNEED_LOCKED) => vmar.discard(range, Discard::NowEvenLocked),
        (None, MADV_FREE) => vmar.discard(range, Discard::AnyTime),
        (None, MADV_POPULATE_READ) => return populate(ctx, range, Populate::Read),
        (None, MADV_POPULATE_WRITE) => return populate(ctx, range, Populate::Write),
        (None, MADV_REMOVE) => return remove(ctx, range),
        (None, MADV_COLD | MADV_PAGEOUT) if is_locked(ctx.vm, range.clone()) => return Err(EINVAL),
        // Nothing is paged out, merged or made of huge pages here: only the range counts.
        (None, _) => return require_mapped(ctx.vm, range).map(|()| 0),
    };
    done.map(|()| 0).map_err(Errno::from)
}

fn populate(ctx: &Ctx, range: Range<Vaddr>, how: Populate) -> Result<usize> {
    ctx.vm.vmar().populate(range, how).map(|()| 0).map_err(|error| match error {
        Error::AccessDenied => EINVAL,
        Error::BusError => EFAULT,
        other => other.into(),
    })
}

/// What a hole is made in.
enum Holed {
    File(Arc<MappedFile>, Range<usize>),
    Shared(Arc<SharedMemory>, Range<usize>),
}

/// `MADV_REMOVE`: makes the part of shared files and memory that is mapped in `range` a hole.
fn remove(ctx: &Ctx, range: Range<Vaddr>) -> Result<usize> {
    let mut holes = Vec::new();
    {
        let query = ctx.vm.vmar().query(range.clone());
        for info in query.iter() {
            let Some(known) = info.mappable().filter(|_| !info.flags().contains(MappingFlags::LOCKED)) else {
                return Err(EINVAL);
            };
            if !info.is_shared() || !info.perms().contains(VmPerms::WRITE) {
                return Err(EACCES);
            }
            let mapped = info.range();
            let part = mapped.start.max(range.start)..mapped.end.min(range.end);
            let shift = info.offset().wrapping_sub(mapped.start);
            let hole = part.start.wrapping_add(shift)..part.end.wrapping_add(shift);
            let known: Arc<dyn Any + Send + Sync> = known.clone();
            let hole = match known.downcast::<MappedFile>() {
                Ok(file) => Holed::File(file, hole),
                Err(other) => Holed::Shared(other.downcast().map_err(|_| EINVAL)?, hole),
            };
            try_push(&mut holes, hole)?;
        }
        if !query.is_fully_mapped() {
            return Err(ENOMEM);
        }
    }
    for hole in holes {
        match hole {
            Holed::File(mapped, hole) => {
                let inode = mapped.file().inode();
                inode.allocate(Allocate::PunchHole, hole.start as u64, hole.len() as u64)?;
            }
            Holed::Shared(memory, hole) => memory.0.decommit(hole)?,
        }
    }
    Ok(0)
}

/// `msync(2)`. What is mapped is the file: there is nothing to write anywhere.
pub fn sys_msync(ctx: &Ctx, addr: Vaddr, len: usize, flags: u32) -> Result<usize> {
    let both = MS_ASYNC | MS_SYNC;
    if flags & !(both | MS_INVALIDATE) != 0 || flags & both == both {
        return Err(EINVAL);
    }
    let range = pages(addr, len, ENOMEM)?;
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
    let mut at = range.start;
    let mut place = vector;
    while at < range.end {
        let end = range.end.min(at + MINCORE_CHUNK * PAGE_SIZE);
        let mut resident = try_filled(false, (end - at) / PAGE_SIZE)?;
        ctx.vm.vmar().resident(at..end, &mut resident)?;
        let bytes = try_collect(resident.iter().map(|resident| u8::from(*resident)))?;
        ctx.vm.write_bytes(place, &bytes)?;
        place += bytes.len();
        at = end;
    }
    Ok(0)
}

/// The pages that `addr..addr + len` touches.
fn touched(addr: Vaddr, len: usize) -> Result<Range<Vaddr>> {
    let start = addr / PAGE_SIZE * PAGE_SIZE;
    let end = len
        .checked_add(addr - start)
        .and_then(|size| size.checked_next_multiple_of(PAGE_SIZE))
        .and_then(|size| start.checked_add(size))
        .ok_or(EINVAL)?;
    Ok(start..end)
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
    let range = touched(addr, len)?;
    if range.start >= range.end {
        return Ok(0);
    }
    refresh_lock_limit(ctx);
    let mode = if flags & MLOCK_ONFAULT != 0 { LockMode::OnFault } else { LockMode::Now };
    ctx.vm.vmar().lock(range, mode).map(|()| 0).map_err(|error| match error {
        // The memory is locked, but some of it could not be made resident.
        Error::OutOfMemory => EAGAIN,
        _ => ENOMEM,
    })
}

/// `munlock(2)`.
pub fn sys_munlock(ctx: &Ctx, addr: Vaddr, len: usize) -> Result<usize> {
    let range = touched(addr, len)?;
    if range.start < range.end {
        ctx.vm.vmar().unlock(range).map_err(|_| ENOMEM)?;
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
    ctx.vm.vmar().unlock_all();
    Ok(0)
}

/// The most bytes that are copied to another process in one go.
const COPY_CHUNK: usize = 16 * PAGE_SIZE;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    FromOther,
    ToOther,
}

/// `process_vm_readv(2)`.
pub fn sys_process_vm_readv(
    ctx: &Ctx,
    pid: i32,
    local: Vaddr,
    local_count: usize,
    remote: Vaddr,
    remote_count: usize,
    flags: usize,
) -> Result<usize> {
    let lists = [(local, local_count), (remote, remote_count)];
    copy_between(ctx, pid, lists, flags, Direction::FromOther)
}

/// `process_vm_writev(2)`.
pub fn sys_process_vm_writev(
    ctx: &Ctx,
    pid: i32,
    local: Vaddr,
    local_count: usize,
    remote: Vaddr,
    remote_count: usize,
    flags: usize,
) -> Result<usize> {
    let lists = [(local, local_count), (remote, remote_count)];
    copy_between(ctx, pid, lists, flags, Direction::ToOther)
}

fn copy_between(
    ctx: &Ctx,
    pid: i32,
    [local, remote]: [(Vaddr, usize); 2],
    flags: usize,
    direction: Direction,
) -> Result<usize> {
    if flags != 0 {
        return Err(EINVAL);
    }
    let mut local = ctx.vm.read_iovecs(local.0, local.1)?;
    if remote.1 > crate::usermem::IOV_MAX {
        return Err(EINVAL);
    }
    let mut remote: Vec<IoVec> = ctx.vm.read_vec(remote.0, remote.1)?;
    let thread = table::thread(pid as Tid).ok_or(ESRCH)?;
    check_may_access(ctx, &thread)?;
    let other = thread.process().vm().ok_or(ESRCH)?;
    let mut buffer = try_filled(0, if direction == Direction::ToOther { COPY_CHUNK } else { 0 })?;

    let mut done = 0;
    let (mut mine, mut theirs) = (local.iter_mut(), remote.iter_mut());
    let (mut here, mut there) = (mine.next(), theirs.next());
    while let (Some(own), Some(foreign)) = (here.as_deref_mut(), there.as_deref_mut()) {
        let most = if direction == Direction::ToOther { COPY_CHUNK } else { usize::MAX };
        let len = own.len.min(foreign.len).min(most);
        if len != 0 {
            let copied = match direction {
                Direction::FromOther => read_other(ctx.vm, &other, own.base, foreign.base, len),
                Direction::ToOther => write_other(ctx.vm, &other, own.base, foreign.base, &mut buffer[..len]),
            };
            match copied {
                Ok(count) => {
                    done += count;
                    (own.base, own.len) = (own.base + count, own.len - count);
                    (foreign.base, foreign.len) = (foreign.base.wrapping_add(count), foreign.len - count);
                    if count < len {
                        return Ok(done);
                    }
                }
                Err(_) if done != 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        if own.len == 0 {
            here = mine.next();
        }
        if foreign.len == 0 {
            there = theirs.next();
        }
    }
    Ok(done)
}

/// Copies `len` bytes at `there` in `other` to `here`, straight from the frames, and returns how many it could.
fn read_other(
    own: &AddressSpace,
    other: &AddressSpace,
    here: Vaddr,
    there: Vaddr,
    len: usize,
) -> Result<usize> {
    let mut writer = own.writer(here, len)?;
    let copied = other.vmar().read_with(there, len, |frame, piece| {
        let mut reader = frame.as_uframe().reader();
        reader.skip(piece.start).limit(piece.len());
        match writer.write_fallible(&mut reader) {
            Ok(count) | Err((_, count)) => count,
        }
    });
    match copied {
        Ok(0) | Err(_) => Err(EFAULT),
        Ok(count) => Ok(count),
    }
}

/// Copies what is at `here` to `there` in `other`, through `buffer`, and returns how many bytes it could.
fn write_other(
    own: &AddressSpace,
    other: &AddressSpace,
    here: Vaddr,
    there: Vaddr,
    buffer: &mut [u8],
) -> Result<usize> {
    own.read_bytes(here, buffer)?;
    other.vmar().write_bytes(there, buffer).map_err(|_| EFAULT)
}

/// `EPERM` unless the caller may look into the thread's process, as `ptrace(2)` has it (`PTRACE_MODE_ATTACH_REALCREDS`).
fn check_may_access(ctx: &Ctx, thread: &Thread) -> Result<()> {
    if Arc::ptr_eq(thread.process(), ctx.process) {
        return Ok(());
    }
    let (own, other) = (ctx.credentials(), thread.credentials());
    let same = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid)
        && thread.process().dumpable.load(Ordering::Relaxed);
    if same { Ok(()) } else { own.require(CapSet::SYS_PTRACE) }
}
