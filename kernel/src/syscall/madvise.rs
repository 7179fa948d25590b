// SPDX-License-Identifier: MPL-2.0

//! Memory: advice, about one's own and other processes' memory.
//!
//! There are no large pages, nothing makes one of pages with the same content, and no memory is ever broken. So large pages and
//! merging can be wished for, which leaves a mark on the mapping, and nothing else: `MADV_COLLAPSE`, which must do something, answers
//! as a Linux without large pages does, and `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` as one without `CONFIG_MEMORY_FAILURE`.

use core::ops::Range;

use linux_raw_sys::general::{
    MADV_COLD, MADV_COLLAPSE, MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP, MADV_DONTFORK, MADV_DONTNEED,
    MADV_DONTNEED_LOCKED, MADV_FREE, MADV_HUGEPAGE, MADV_KEEPONFORK, MADV_MERGEABLE, MADV_NOHUGEPAGE,
    MADV_NORMAL, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM, MADV_REMOVE,
    MADV_SEQUENTIAL, MADV_UNMERGEABLE, MADV_WILLNEED, MADV_WIPEONFORK,
};
use vmar::{
    error::Error,
    mapping::{Mappable, MappingFlags},
    perms::VmPerms,
    vmar::{advise::Advice, discard::Discard, populate::Populate},
};

use super::{
    memory_use::{is_locked, pages, require_mapped},
    process_vm::check_may_access,
};
use crate::{
    fs::{inode::Allocate, userfaultfd},
    mm::{AddressSpace, layout::TASK_SIZE, mapped_file::Known},
    prelude::*,
    process::{credentials::CapSet, pidfd},
};

/// `madvise(2)`.
pub fn sys_madvise(ctx: &Ctx, addr: Vaddr, len: usize, advice: u32) -> Result<usize> {
    advise(ctx.vm, addr, len, advice).map(|()| 0)
}

/// `process_madvise(2)`. Answers how many bytes the advice was taken for.
pub fn sys_process_madvise(
    ctx: &Ctx,
    pidfd: i32,
    parts: Vaddr,
    count: usize,
    advice: u32,
    flags: u32,
) -> Result<usize> {
    if flags != 0 {
        return Err(EINVAL);
    }
    let parts = ctx.vm.read_iovecs(parts, count)?;
    let process = pidfd::process_of(ctx, pidfd)?;
    let thread = process.main_thread().ok_or(ESRCH)?;
    if !matches!(advice, MADV_COLD | MADV_PAGEOUT | MADV_WILLNEED | MADV_COLLAPSE) {
        return Err(EINVAL);
    }
    let vm = process.vm().ok_or(ESRCH)?;
    check_may_access(ctx, &thread).map_err(|_| EACCES)?;
    ctx.credentials().require(CapSet::SYS_NICE)?;
    let mut done = 0;
    for part in parts.iter().filter(|part| part.len != 0) {
        match advise(&vm, part.base, part.len, advice) {
            Ok(()) => done += part.len,
            Err(_) if done != 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn advise(vm: &AddressSpace, addr: Vaddr, len: usize, advice: u32) -> Result<()> {
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
        MADV_MERGEABLE => Some(Advice::Mergeable),
        MADV_UNMERGEABLE => Some(Advice::Unmergeable),
        MADV_HUGEPAGE => Some(Advice::HugePages),
        MADV_NOHUGEPAGE => Some(Advice::NoHugePages),
        MADV_WILLNEED | MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_FREE | MADV_REMOVE | MADV_COLD
        | MADV_PAGEOUT | MADV_POPULATE_READ | MADV_POPULATE_WRITE => None,
        _ => return Err(EINVAL),
    };
    let range = pages(addr, len, EINVAL)?;
    if range.start >= range.end {
        return Ok(());
    }
    if range.end > TASK_SIZE {
        return Err(ENOMEM);
    }
    if matches!(advice, MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_FREE) {
        vm.sample_rss();
        userfaultfd::event::remove(vm, &range)?;
    }
    let vmar = vm.vmar();
    let done = match (noted, advice) {
        (Some(noted), _) => {
            return vmar.advise(range, noted).map_err(|error| match error {
                Error::OutOfMemory | Error::LimitExceeded(_) => EAGAIN,
                other => other.into(),
            });
        }
        (None, MADV_WILLNEED) => vmar.populate(range, Populate::Prefetch),
        (None, MADV_DONTNEED) => vmar.discard(range, Discard::Now),
        (None, MADV_DONTNEED_LOCKED) => vmar.discard(range, Discard::NowEvenLocked),
        (None, MADV_FREE) => vmar.discard(range, Discard::AnyTime),
        (None, MADV_POPULATE_READ) => return populate(vm, range, Populate::Read),
        (None, MADV_POPULATE_WRITE) => return populate(vm, range, Populate::Write),
        (None, MADV_REMOVE) => return remove(vm, range),
        (None, _) if is_locked(vm, range.clone()) => return Err(EINVAL),
        // Nothing is paged out here: only the range counts.
        (None, _) => return require_mapped(vm, range),
    };
    done.map_err(Errno::from)
}

fn populate(vm: &AddressSpace, range: Range<Vaddr>, how: Populate) -> Result<()> {
    vm.vmar().populate(range, how).map_err(|error| match error {
        Error::AccessDenied => EINVAL,
        Error::BusError => EFAULT,
        other => other.into(),
    })
}

/// `MADV_REMOVE`: makes the part of shared files and memory that is mapped in `range` a hole.
///
/// As in Linux it stops at the first mapping that has none, with what comes before it done, and passes over holes, which it tells of
/// afterwards.
fn remove(vm: &AddressSpace, range: Range<Vaddr>) -> Result<()> {
    let mut holes: Vec<(Arc<dyn Mappable>, Range<usize>)> = Vec::new();
    let mut outcome = Ok(());
    {
        let query = vm.vmar().query(range.clone());
        for info in query.iter() {
            let Some(known) = info.mappable().filter(|_| !info.flags().contains(MappingFlags::LOCKED)) else {
                outcome = Err(EINVAL);
                break;
            };
            // A file that was opened only for reading is mapped as if it were private.
            if !info.is_shared() || !info.perms().contains(VmPerms::MAY_WRITE) {
                outcome = Err(EACCES);
                break;
            }
            let mapped = info.range();
            let part = mapped.start.max(range.start)..mapped.end.min(range.end);
            let shift = info.offset().wrapping_sub(mapped.start);
            let hole = part.start.wrapping_add(shift)..part.end.wrapping_add(shift);
            // No offset of a file is so high, whatever is mapped there.
            if hole.end > isize::MAX as usize {
                outcome = Err(if hole.start > isize::MAX as usize { EINVAL } else { EFBIG });
                break;
            }
            try_push(&mut holes, (known.clone(), hole))?;
        }
        if outcome.is_ok() && !query.is_fully_mapped() {
            outcome = Err(ENOMEM);
        }
    }
    if !holes.is_empty() {
        userfaultfd::event::remove(vm, &range)?;
    }
    for (known, hole) in holes {
        punch(&*known, hole)?;
    }
    outcome
}

fn punch(known: &dyn Mappable, hole: Range<usize>) -> Result<()> {
    match Known::of(known).ok_or(EINVAL)? {
        Known::File(mapped) => {
            let inode = mapped.file().inode();
            inode.allocate(Allocate::PunchHole, hole.start as u64, hole.len() as u64)?;
        }
        Known::Memory(memory) => memory.object().decommit(hole)?,
        Known::Segment(segment) => segment.object().decommit(hole)?,
    }
    Ok(())
}
