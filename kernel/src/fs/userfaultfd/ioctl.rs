// SPDX-License-Identifier: MPL-2.0

//! What a userfaultfd is told to do (`ioctl_userfaultfd(2)`).

use core::{any::Any, ops::Range};

use linux_raw_sys::{
    general::UFFD_API,
    ioctl::{
        UFFDIO_API, UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WAKE,
        UFFDIO_WRITEPROTECT, UFFDIO_ZEROPAGE,
    },
};
use ostd::mm::{FallibleVmRead, io::util::HasVmReaderWriter};
use vmar::{
    error::Error,
    machine::{Blank, Machine},
    mapping::VmMapping,
    object::VmoKind,
    vmar::watch::{FaultHandler, Fill, WatchModes, WriteProtection},
};
use vmar_ostd::Ostd;

use super::{
    INITIALIZED, UserFaultFd,
    abi::{
        API_IOCTLS, Api, COPY_WP, Copy, Extent, ExtentAndMode, FILL_DONTWAKE, Features, MINOR_IOCTLS,
        PROTECT_DONTWAKE, PROTECT_WP, RANGE_IOCTLS, REGISTER_MINOR, REGISTER_MISSING, REGISTER_WP, WP_IOCTLS,
    },
    event::of_handler,
};
use crate::{
    fs::current,
    ipc::shm::Attachment,
    mm::{self, AddressSpace, layout::TASK_SIZE},
    prelude::*,
    process::credentials::CapSet,
};

/// What is at the end of each structure that has an answer, after what was asked.
fn answer<Asked>(vm: &AddressSpace, arg: Vaddr, value: i64) -> Result<()> {
    vm.write_val(arg.checked_add(size_of::<Asked>()).ok_or(EFAULT)?, &value)
}

/// The addresses that an extent names.
fn checked(extent: Extent) -> Result<Range<Vaddr>> {
    let (start, len) = (extent.start as usize, extent.len as usize);
    let is_aligned = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
    if !is_aligned || len == 0 || start >= TASK_SIZE || len > TASK_SIZE - start {
        return Err(EINVAL);
    }
    Ok(start..start + len)
}

/// Whether a mapping that shows an object is one of shared memory: of a memory file, of a file in a tmpfs, of nothing else. As in
/// Linux, System V segments are not.
fn is_shared_memory(mapping: &VmMapping<Ostd>) -> bool {
    let is_segment = mapping.mappable().is_some_and(|known| {
        let any: &dyn Any = &**known;
        any.is::<Attachment>()
    });
    !is_segment && mapping.object().is_some_and(|object| object.kind() == VmoKind::SharedMemory)
}

/// What is put where there is nothing.
#[derive(Clone, Copy)]
enum Source {
    /// What is at this address in the caller's memory.
    Copy(Vaddr),
    Zeros,
    /// What the object has.
    Object,
}

impl UserFaultFd {
    /// Obeys an ioctl.
    ///
    /// # Errors
    ///
    /// EINVAL for one that it does not know, or before `UFFDIO_API`; those of the command.
    pub(super) fn obey(&self, command: u32, arg: Vaddr) -> Result<usize> {
        let caller = Thread::current().and_then(|thread| thread.process().vm()).ok_or(EFAULT)?;
        if command != UFFDIO_API && !self.is_initialized() {
            return Err(EINVAL);
        }
        match command {
            UFFDIO_API => self.agree(&caller, arg),
            UFFDIO_REGISTER => self.register(&caller, arg),
            UFFDIO_UNREGISTER => self.unregister(&caller, arg),
            UFFDIO_WAKE => {
                self.wake(checked(caller.read_val(arg)?)?);
                Ok(0)
            }
            UFFDIO_COPY => self.copy(&caller, arg),
            UFFDIO_ZEROPAGE => self.fill_extent(&caller, arg, Source::Zeros),
            UFFDIO_CONTINUE => self.fill_extent(&caller, arg, Source::Object),
            UFFDIO_WRITEPROTECT => self.write_protect(&caller, arg),
            _ => Err(EINVAL),
        }
    }

    /// `UFFDIO_API`.
    fn agree(&self, caller: &AddressSpace, arg: Vaddr) -> Result<usize> {
        let asked: Api = caller.read_val(arg)?;
        let outcome = self.agree_on(&asked).and_then(|features| {
            let given = Api { features: Features::all().bits(), ioctls: API_IOCTLS, ..asked };
            caller.write_val(arg, &given)?;
            self.features
                .compare_exchange(0, features, Ordering::Relaxed, Ordering::Relaxed)
                .map(|_| 0)
                .map_err(|_| EINVAL)
        });
        if outcome.is_err_and(|error| error != EFAULT) {
            caller.write_val(arg, &Api::default())?;
        }
        outcome
    }

    fn agree_on(&self, asked: &Api) -> Result<u32> {
        if asked.api != u64::from(UFFD_API) {
            return Err(EINVAL);
        }
        if asked.features & Features::EVENT_FORK.bits() != 0 {
            current::credentials().require(CapSet::SYS_PTRACE)?;
        }
        let features = Features::from_bits(asked.features).ok_or(EINVAL)?;
        Ok(features.bits() as u32 | INITIALIZED)
    }

    /// `UFFDIO_REGISTER`.
    fn register(&self, caller: &AddressSpace, arg: Vaddr) -> Result<usize> {
        let ExtentAndMode { extent, mode } = caller.read_val(arg)?;
        if mode == 0 || mode & !(REGISTER_MISSING | REGISTER_WP | REGISTER_MINOR) != 0 {
            return Err(EINVAL);
        }
        let mut modes = WatchModes::empty();
        modes.set(WatchModes::MISSING, mode & REGISTER_MISSING != 0);
        modes.set(WatchModes::WRITES, mode & REGISTER_WP != 0);
        modes.set(WatchModes::MINOR, mode & REGISTER_MINOR != 0);
        let range = checked(extent)?;
        let space = self.space().ok_or(ENOMEM)?;
        let handler: Arc<dyn FaultHandler> = self.me.upgrade().ok_or(ENOMEM)?;
        space.note_watched();
        space
            .vmar()
            .watch(range.clone(), modes, &handler, is_shared_memory)
            .map_err(|error| errno_of(&space, &range, error))?;
        let mut ioctls = RANGE_IOCTLS;
        ioctls |= if mode & REGISTER_WP != 0 { WP_IOCTLS } else { 0 };
        ioctls |= if mode & REGISTER_MINOR != 0 { MINOR_IOCTLS } else { 0 };
        answer::<ExtentAndMode>(caller, arg, ioctls as i64)?;
        Ok(0)
    }

    /// `UFFDIO_UNREGISTER`.
    fn unregister(&self, caller: &AddressSpace, arg: Vaddr) -> Result<usize> {
        let range = checked(caller.read_val(arg)?)?;
        let space = self.space().ok_or(ENOMEM)?;
        let wake = |part: Range<Vaddr>, handler: &Arc<dyn FaultHandler>| {
            if let Some(uffd) = of_handler(handler) {
                uffd.wake(part);
            }
        };
        space
            .vmar()
            .unwatch(range.clone(), is_shared_memory, wake)
            .map_err(|error| errno_of(&space, &range, error))?;
        Ok(0)
    }

    /// `UFFDIO_COPY`.
    fn copy(&self, caller: &AddressSpace, arg: Vaddr) -> Result<usize> {
        self.check_unchanging()?;
        let Copy { target, source, len, mode } = caller.read_val(arg)?;
        let range = checked(Extent { start: target, len })?;
        if source.checked_add(len).is_none() || mode & !(FILL_DONTWAKE | COPY_WP) != 0 {
            return Err(EINVAL);
        }
        let protection = if mode & COPY_WP != 0 { WriteProtection::Set } else { WriteProtection::Cleared };
        let filled = self.fill(caller, &range, Source::Copy(source as usize), protection)?;
        self.finish_fill::<Copy>(caller, arg, &range, filled, mode)
    }

    /// `UFFDIO_ZEROPAGE`, `UFFDIO_CONTINUE`.
    fn fill_extent(&self, caller: &AddressSpace, arg: Vaddr, source: Source) -> Result<usize> {
        self.check_unchanging()?;
        let ExtentAndMode { extent, mode } = caller.read_val(arg)?;
        let range = checked(extent)?;
        if mode & !FILL_DONTWAKE != 0 {
            return Err(EINVAL);
        }
        let filled = self.fill(caller, &range, source, WriteProtection::Cleared)?;
        self.finish_fill::<ExtentAndMode>(caller, arg, &range, filled, mode)
    }

    fn check_unchanging(&self) -> Result<()> {
        if self.changing.load(Ordering::SeqCst) == 0 { Ok(()) } else { Err(EAGAIN) }
    }

    /// Answers how much of `range` was filled, and wakes who has waited for that.
    fn finish_fill<Asked>(
        &self,
        caller: &AddressSpace,
        arg: Vaddr,
        range: &Range<Vaddr>,
        filled: Result<usize>,
        mode: u64,
    ) -> Result<usize> {
        let value = match filled {
            Ok(count) => count as i64,
            Err(error) => -i64::from(error.code()),
        };
        answer::<Asked>(caller, arg, value)?;
        let count = filled?;
        if mode & FILL_DONTWAKE == 0 {
            self.wake(range.start..range.start + count);
        }
        if count == range.len() { Ok(0) } else { Err(EAGAIN) }
    }

    /// Fills the pages of `range` from the lowest on, up to the first that cannot be; how many bytes that were, or why not one.
    ///
    /// # Errors
    ///
    /// ESRCH if the space is gone, of which there is no other answer.
    fn fill(
        &self,
        caller: &AddressSpace,
        range: &Range<Vaddr>,
        source: Source,
        protection: WriteProtection,
    ) -> Result<Result<usize>> {
        let space = self.space().ok_or(ESRCH)?;
        for page in range.clone().step_by(PAGE_SIZE) {
            if let Err(error) = self.fill_page(caller, &space, range, page, source, protection) {
                let count = page - range.start;
                return Ok(if count == 0 { Err(error) } else { Ok(count) });
            }
        }
        Ok(Ok(range.len()))
    }

    fn fill_page(
        &self,
        caller: &AddressSpace,
        space: &AddressSpace,
        range: &Range<Vaddr>,
        page: Vaddr,
        source: Source,
        protection: WriteProtection,
    ) -> Result<()> {
        self.check_unchanging()?;
        if page != range.start
            && Thread::current().is_some_and(|thread| thread.must_exit.load(Ordering::Relaxed))
        {
            return Err(EINTR);
        }
        let content = match source {
            Source::Copy(from) => {
                check_target(space, range, protection)?;
                let frame = Ostd.alloc()?.zeroed();
                let mut reader = caller.reader(from + (page - range.start), PAGE_SIZE)?;
                reader.read_fallible(&mut frame.as_uframe().writer()).map_err(|_| EFAULT)?;
                Fill::Page(frame)
            }
            Source::Zeros => Fill::Zeros,
            Source::Object => {
                require_shared_memory(space, range)?;
                Fill::Object
            }
        };
        space.vmar().fill(range.clone(), page, content, protection).map_err(|error| match error {
            Error::NotMapped | Error::OutOfRange => ENOENT,
            Error::NoSpace => ENOMEM,
            other => other.into(),
        })
    }

    /// `UFFDIO_WRITEPROTECT`.
    fn write_protect(&self, caller: &AddressSpace, arg: Vaddr) -> Result<usize> {
        /// What the mark of a page takes at most, in bytes.
        const MARK: usize = 2;
        self.check_unchanging()?;
        let ExtentAndMode { extent, mode } = caller.read_val(arg)?;
        let range = checked(extent)?;
        let (is_set, stays_asleep) = (mode & PROTECT_WP != 0, mode & PROTECT_DONTWAKE != 0);
        if mode & !(PROTECT_WP | PROTECT_DONTWAKE) != 0 || (is_set && stays_asleep) {
            return Err(EINVAL);
        }
        let space = self.space().ok_or(ESRCH)?;
        let protection = if is_set { WriteProtection::Set } else { WriteProtection::Cleared };
        check_watched(&space, &range)?;
        if is_set && !mm::can_kernel_spare(range.len() / PAGE_SIZE * MARK) {
            return Err(ENOMEM);
        }
        space.vmar().write_protect(range.clone(), protection).map_err(|error| match error {
            Error::NotMapped => ENOENT,
            other => other.into(),
        })?;
        if !is_set && !stays_asleep {
            self.wake(range);
        }
        Ok(0)
    }
}

/// What the refusal to watch, or to stop watching, is in a program's terms.
fn errno_of(space: &AddressSpace, range: &Range<Vaddr>, error: Error) -> Errno {
    match error {
        Error::NotMapped if space.vmar().query(range.start..TASK_SIZE).first().is_none() => ENOMEM,
        Error::NotMapped => EINVAL,
        Error::Occupied => EBUSY,
        other => other.into(),
    }
}

/// ENOENT unless one mapping covers `range` and is watched; its modes.
fn check_watched(space: &AddressSpace, range: &Range<Vaddr>) -> Result<WatchModes> {
    let query = space.vmar().query(range.clone());
    let mapping = query.first().ok_or(ENOENT)?;
    let found = mapping.range();
    let (_, modes) = mapping.watcher().ok_or(ENOENT)?;
    if found.start <= range.start && range.end <= found.end { Ok(modes) } else { Err(ENOENT) }
}

/// Fails where a page could not be put whatever is in it: that comes before what is wrong with the source.
fn check_target(space: &AddressSpace, range: &Range<Vaddr>, protection: WriteProtection) -> Result<()> {
    let modes = check_watched(space, range)?;
    match protection {
        WriteProtection::Set if !modes.contains(WatchModes::WRITES) => Err(EINVAL),
        _ => Ok(()),
    }
}

/// EINVAL unless `range` shows shared memory.
fn require_shared_memory(space: &AddressSpace, range: &Range<Vaddr>) -> Result<()> {
    check_watched(space, range)?;
    let query = space.vmar().query(range.clone());
    let is_object = query.first().is_some_and(|mapping| mapping.mappable().is_some());
    if is_object { Ok(()) } else { Err(EINVAL) }
}
