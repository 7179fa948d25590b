// SPDX-License-Identifier: MPL-2.0

//! System V shared memory: shmget, shmat, shmdt, shmctl. The errors are those of Linux 6.1 (`ipc/shm.c`).

use linux_raw_sys::general::RLIMIT_MEMLOCK;
use vmar::{
    backing::{Backing, FileState},
    error::{Error, Limit},
    perms::VmPerms,
    placement::Placement,
};

use super::memory::{personality_of, placement_for, refresh_lock_limit};
use crate::{
    fs::userfaultfd,
    ipc::{
        perm::{IpcPerm, PERMISSIONS},
        shm::{self, Attachment, Segment},
    },
    mm::{
        commit::{self, Mode, SharedPromise},
        layout::TASK_SIZE,
        mapped_file::known_as,
    },
    prelude::*,
    process::credentials::CapSet,
};

/// The key of segments that no key finds.
const IPC_PRIVATE: i32 = 0;
/// Makes what is not there.
const IPC_CREAT: u32 = 0o1000;
/// Only makes, never finds.
const IPC_EXCL: u32 = 0o2000;

/// Flags of `shmget`.
const SHM_HUGETLB: u32 = 0o4000;
const SHM_NORESERVE: u32 = 0o10000;
const SHM_HUGE_SHIFT: u32 = 26;
const SHM_HUGE_MASK: u32 = 0x3f;

/// Flags of `shmat`.
const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100_000;

/// Commands of `shmctl`.
const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `struct ipc64_perm`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct RawPerm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    padding: [u16; 3],
    unused: [u64; 2],
}

/// `struct shmid64_ds`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct RawStatus {
    perm: RawPerm,
    size: u64,
    attached: i64,
    detached: i64,
    changed: i64,
    maker: i32,
    last: i32,
    attaches: u64,
    unused: [u64; 2],
}

/// `struct shminfo64`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct RawLimits {
    max: u64,
    min: u64,
    count: u64,
    per_process: u64,
    all: u64,
    unused: [u64; 4],
}

/// `struct shm_info`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct RawUsage {
    segments: i32,
    padding: i32,
    pages: u64,
    resident: u64,
    swapped: u64,
    swap_attempts: u64,
    swap_successes: u64,
}

/// `shmget(2)`.
pub fn sys_shmget(ctx: &Ctx, key: i32, size: usize, flags: u32) -> Result<usize> {
    let caller = ctx.credentials();
    let id = shm::with_table(|table| {
        let found = if key == IPC_PRIVATE { None } else { table.find_key(key) };
        if let Some(segment) = found {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(EEXIST);
            }
            if segment.size() < size {
                return Err(EINVAL);
            }
            segment.status().perm.check(&caller, flags & PERMISSIONS)?;
            return Ok(segment.id());
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(ENOENT);
        }
        let is_unreserved = flags & SHM_NORESERVE != 0 && commit::mode() != Mode::Never;
        table.make(size, IpcPerm::new(key, flags, &caller), ctx.process.pid(), |bytes| {
            if flags & SHM_HUGETLB != 0 {
                return Err(refuse_huge_pages(flags));
            }
            if is_unreserved { Ok(SharedPromise::ByPage) } else { SharedPromise::at_once(ctx.vm, bytes) }
        })
    })?;
    Ok(id as usize)
}

/// Why a segment of huge pages is refused: there is no such size, or there are none set aside.
#[cold]
fn refuse_huge_pages(flags: u32) -> Errno {
    const SIZES: [u32; 3] = [0, 21, 30];
    if SIZES.contains(&(flags >> SHM_HUGE_SHIFT & SHM_HUGE_MASK)) { ENOMEM } else { EINVAL }
}

/// `shmat(2)`.
pub fn sys_shmat(ctx: &Ctx, id: i32, addr: Vaddr, flags: u32) -> Result<usize> {
    let start = addr / PAGE_SIZE * PAGE_SIZE;
    let is_rounded = start != addr;
    if id < 0 || (is_rounded && flags & SHM_RND == 0) || (start == 0 && flags & SHM_REMAP != 0) {
        return Err(EINVAL);
    }
    let mut perms = VmPerms::READ;
    let mut state = FileState::READABLE;
    let mut wanted = 0o444;
    if flags & SHM_RDONLY == 0 {
        perms |= VmPerms::WRITE;
        state |= FileState::WRITABLE;
        wanted |= 0o222;
    }
    if flags & SHM_EXEC != 0 {
        perms |= VmPerms::EXEC;
        wanted |= 0o111;
    }
    let attachment = shm::with_table(|table| {
        let segment = table.find(id)?;
        segment.status().perm.check(&ctx.credentials(), wanted)?;
        Ok::<_, Errno>(segment.attachment())
    })?;
    let segment = attachment.segment().clone();
    let object = segment.object();
    let size = object.size();
    let placement = match (addr, flags & SHM_REMAP) {
        (0, _) => Placement::Anywhere,
        // What is rounded to address 0 replaces, as in Linux.
        (_, 0) if start != 0 => {
            // The size as it was asked for: rounded, that of the last page would wrap around.
            let end = start.checked_add(segment.size()).ok_or(EINVAL)?;
            if ctx.vm.vmar().query(start..end).first().is_some() {
                return Err(EINVAL);
            }
            Placement::Exactly(start)
        }
        _ => Placement::Replacing(start),
    };
    if addr != 0 {
        // As mmap(MAP_FIXED) has it.
        placement_for(ctx, start, size, linux_raw_sys::general::MAP_FIXED)?;
    }
    if ctx.vm.locks_future() {
        refresh_lock_limit(ctx);
    }
    let announced = match placement {
        Placement::Replacing(start) => Some(userfaultfd::event::unmapping(ctx.vm, &(start..start + size))?),
        _ => None,
    };
    let vmo = object.dup().to_dynamic();
    let map = ctx.vm.vmar().new_map(size).perms(perms).personality(personality_of(ctx)).placement(placement);
    let map = map.backing(Backing { state, ..Backing::MEMORY }).shared().vmo(vmo).mappable(attachment);
    let start = map.build().map_err(|error| match error {
        Error::Occupied => EINVAL,
        Error::LimitExceeded(Limit::Locked) => EAGAIN,
        other => other.into(),
    })?;
    ctx.vm.note_segment();
    if let Some(announced) = announced {
        announced.tell();
    }
    segment.note_attached();
    Ok(start)
}

/// `shmdt(2)`: takes away what is left of the attach that began at `addr`.
pub fn sys_shmdt(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    let (segment, parts) = attached_at(ctx, addr)?;
    for part in parts {
        ctx.vm.vmar().unmap(part)?;
    }
    segment.note_detached();
    Ok(0)
}

/// The segment that was attached at `addr`, and the parts of that attach that are still where they were.
fn attached_at(ctx: &Ctx, addr: Vaddr) -> Result<(Arc<Segment>, Vec<core::ops::Range<Vaddr>>)> {
    let mut segment: Option<Arc<Segment>> = None;
    let mut parts = Vec::new();
    if addr >= TASK_SIZE {
        return Err(EINVAL);
    }
    for info in ctx.vm.vmar().query(addr..TASK_SIZE).iter() {
        let range = info.range();
        if let Some(found) = &segment
            && range.end - addr > found.object().size()
        {
            break;
        }
        let is_in_place = range.start >= addr && range.start - addr == info.offset();
        let Some(attachment) = known_as::<Attachment>(&info).filter(|_| is_in_place) else { continue };
        if segment.as_ref().is_none_or(|found| Arc::ptr_eq(found, attachment.segment())) {
            segment.get_or_insert_with(|| attachment.segment().clone());
            try_push(&mut parts, range)?;
        }
    }
    Ok((segment.ok_or(EINVAL)?, parts))
}

/// `shmctl(2)`.
pub fn sys_shmctl(ctx: &Ctx, id: i32, command: i32, buffer: Vaddr) -> Result<usize> {
    if id < 0 || command < 0 {
        return Err(EINVAL);
    }
    let caller = ctx.credentials();
    match command {
        IPC_INFO => {
            let limits = shm::limits();
            let raw = RawLimits {
                max: limits.max as u64,
                min: 1,
                count: limits.count as u64,
                per_process: limits.count as u64,
                all: limits.all as u64,
                ..RawLimits::default()
            };
            ctx.vm.write_val(buffer, &raw)?;
            Ok(shm::with_table(|table| table.highest_place()))
        }
        SHM_INFO => {
            let (segments, (pages, resident), highest) =
                shm::with_table(|table| (table.len(), table.pages(), table.highest_place()));
            let raw = RawUsage {
                segments: segments as i32,
                pages: pages as u64,
                resident: resident as u64,
                ..RawUsage::default()
            };
            ctx.vm.write_val(buffer, &raw)?;
            Ok(highest)
        }
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let segment = shm::with_table(|table| match command {
                IPC_STAT => table.find(id).cloned(),
                _ => table.at_place(id).cloned(),
            })?;
            let status = segment.status();
            if command != SHM_STAT_ANY {
                status.perm.check(&caller, 0o444)?;
            }
            ctx.vm.write_val(buffer, &raw_status(&segment))?;
            Ok(if command == IPC_STAT { 0 } else { segment.id() as usize })
        }
        IPC_SET => {
            let new: RawStatus = ctx.vm.read_val(buffer)?;
            let segment = shm::with_table(|table| table.find(id).cloned())?;
            let is_nobody = new.perm.uid == u32::MAX || new.perm.gid == u32::MAX;
            segment.status().perm.require_owner(&caller)?;
            if is_nobody {
                return Err(EINVAL);
            }
            segment.set_perm(&caller, |perm| {
                (perm.uid, perm.gid) = (new.perm.uid, new.perm.gid);
                perm.mode = perm.mode & !PERMISSIONS | new.perm.mode & PERMISSIONS;
            })?;
            Ok(0)
        }
        IPC_RMID => shm::with_table(|table| table.remove(id, &caller)).map(|()| 0),
        SHM_LOCK | SHM_UNLOCK => {
            let locks = command == SHM_LOCK;
            let limit = ctx.process.rlimits.soft(RLIMIT_MEMLOCK);
            shm::with_table(|table| {
                let segment = table.find(id)?;
                let is_owner = segment.status().perm.is_owner(&caller);
                if !caller.has(CapSet::IPC_LOCK) && (!is_owner || locks && limit == 0) {
                    return Err(EPERM);
                }
                if locks {
                    table.lock(segment, &caller, limit)?;
                } else {
                    segment.unlock();
                }
                Ok(0)
            })
        }
        _ => Err(EINVAL),
    }
}

fn raw_status(segment: &Segment) -> RawStatus {
    let status = segment.status();
    let IpcPerm { key, uid, gid, cuid, cgid, mode } = status.perm;
    RawStatus {
        perm: RawPerm {
            key,
            uid,
            gid,
            cuid,
            cgid,
            mode,
            seq: (segment.id() >> 15) as u16,
            ..RawPerm::default()
        },
        size: segment.size() as u64,
        attached: status.attached,
        detached: status.detached,
        changed: status.changed,
        maker: status.maker as i32,
        last: status.last as i32,
        attaches: segment.attaches() as u64,
        unused: [0; 2],
    }
}
