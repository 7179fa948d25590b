// SPDX-License-Identifier: MPL-2.0

//! The edge: numbers in, errno out.
//!
//! These take the arguments of a system call of Linux's generic table, as AArch64, RISC-V and x86-64 have them, with the file already
//! looked up. They are the only place where an [`Error`] becomes a number. An emulator of a processor with other numbers
//! calls the typed operations.

use std::{os::fd::OwnedFd, sync::Arc};

use vmar::{backing::Refusal, error, perms::VmPerms, placement::Placement};

use crate::{
    advise::Advice,
    error::Error,
    host::{Errno, Host},
    map::MapOptions,
    mapping::{ArchProt, OnFork, Prot},
    remap::{OldRange, RemapTarget},
    segment::{AttachAt, Rounding},
    space::GuestSpace,
};

/// The numbers, as `<asm-generic/mman.h>` has them.
mod number {
    pub const PROT_RWX: u64 = 7;
    pub const PROT_SEM: u64 = 8;
    pub const PROT_ARCH: u64 = 0xf0;

    pub const MAP_TYPE: u64 = 0xf;
    pub const MAP_SHARED: u64 = 1;
    pub const MAP_PRIVATE: u64 = 2;
    pub const MAP_SHARED_VALIDATE: u64 = 3;
    pub const MAP_FIXED: u64 = 0x10;
    pub const MAP_ANONYMOUS: u64 = 0x20;
    /// GROWSDOWN, DENYWRITE, EXECUTABLE, LOCKED, NORESERVE, POPULATE, NONBLOCK, STACK: no difference to what is mapped.
    pub const MAP_HARMLESS: u64 = 0x100 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000;
    pub const MAP_HUGETLB: u64 = 0x40000;
    pub const MAP_FIXED_NOREPLACE: u64 = 0x100000;

    pub const MREMAP_MAYMOVE: u64 = 1;
    pub const MREMAP_FIXED: u64 = 2;
    pub const MREMAP_DONTUNMAP: u64 = 4;

    pub const SHM_RDONLY: u64 = 0o10000;
    pub const SHM_RND: u64 = 0o20000;
    pub const SHM_REMAP: u64 = 0o40000;
    pub const SHM_EXEC: u64 = 0o100000;
}
use number::*;

/// A call, for what its errors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syscall {
    /// mmap.
    Map,
    /// munmap.
    Unmap,
    /// mprotect.
    Protect,
    /// mremap.
    Remap,
    /// madvise.
    Advise,
    /// shmat and shmdt.
    Segment,
    /// read, write and whatever else is handed an address.
    Access,
}

/// Returns the number that Linux gives for an error.
pub fn errno(call: Syscall, error: Error) -> Errno {
    match error {
        Error::Host(errno) => errno,
        Error::Broken => Errno::NOMEM,
        Error::NotOneMapping => Errno::FAULT,
        Error::UnknownProtection | Error::SharedHostPage | Error::OffsetOffHostPage | Error::NotAttached => {
            Errno::INVAL
        }
        Error::Space(error) => match (error, call) {
            (_, Syscall::Access) => Errno::FAULT,
            (error::Error::AccessDenied, _) => Errno::ACCESS,
            (error::Error::Refused(refusal), _) => match refusal {
                Refusal::NotReadable | Refusal::NotWritable | Refusal::AppendOnly => Errno::ACCESS,
                Refusal::Locked => Errno::AGAIN,
                Refusal::Sealed | Refusal::NoExec => Errno::PERM,
                Refusal::NotMappable | Refusal::NotDirect | Refusal::NotCopyable => Errno::NODEV,
                Refusal::BeyondCapabilities => Errno::INVAL,
            },
            (error::Error::Occupied, Syscall::Segment) => Errno::INVAL,
            (error::Error::Occupied, _) => Errno::EXIST,
            (error::Error::InvalidOffset, Syscall::Map) => Errno::OVERFLOW,
            (error::Error::NotMapped, Syscall::Remap) => Errno::FAULT,
            (error::Error::OutOfRange, Syscall::Map | Syscall::Protect | Syscall::Advise) => Errno::NOMEM,
            (
                error::Error::OutOfMemory
                | error::Error::NoRoom
                | error::Error::LimitExceeded(_)
                | error::Error::NotMapped,
                _,
            ) => Errno::NOMEM,
            (error::Error::NotSupported, Syscall::Remap) => Errno::FAULT,
            (error::Error::BusError, _) => Errno::FAULT,
            _ => Errno::INVAL,
        },
    }
}

/// Turns the protection of a call into what it means.
///
/// # Errors
///
/// [`Error::UnknownProtection`] for a bit that no processor has.
pub fn prot(bits: u64) -> Result<Prot, Error> {
    if bits & !(PROT_RWX | PROT_SEM | PROT_ARCH) != 0 {
        return Err(Error::UnknownProtection);
    }
    let arch = ArchProt::from_bits((bits & PROT_ARCH) as u32).ok_or(Error::UnknownProtection)?;
    Ok(Prot { perms: VmPerms::from_bits_truncate((bits & PROT_RWX) as u8), arch })
}

impl<H: Host> GuestSpace<H> {
    /// mmap: a `file` is what the descriptor stands for, unless the mapping is anonymous.
    ///
    /// # Errors
    ///
    /// As mmap(2).
    pub fn sys_mmap(
        &self,
        addr: usize,
        len: usize,
        prot_bits: u64,
        flags: u64,
        file: Option<&Arc<OwnedFd>>,
        offset: u64,
    ) -> Result<usize, Errno> {
        if !offset.is_multiple_of(self.page_size() as u64) {
            return Err(Errno::INVAL);
        }
        let name = |error| errno(Syscall::Map, error);
        let mut options = MapOptions::new(len).prot(prot(prot_bits).map_err(name)?);
        let known = MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_HARMLESS | MAP_FIXED_NOREPLACE;
        if flags & MAP_HUGETLB != 0 {
            return Err(Errno::INVAL);
        }
        match flags & MAP_TYPE {
            MAP_SHARED => options = options.shared(),
            MAP_SHARED_VALIDATE if flags & !known != 0 => return Err(Errno::OPNOTSUPP),
            MAP_SHARED_VALIDATE if flags & MAP_ANONYMOUS == 0 => options = options.shared(),
            MAP_PRIVATE => {}
            _ => return Err(Errno::INVAL),
        }
        if flags & MAP_ANONYMOUS == 0 {
            options = options.file(file.ok_or(Errno::BADF)?.clone(), offset);
        }
        if len == 0 {
            return Err(Errno::INVAL);
        }
        options = options.placement(if flags & MAP_FIXED_NOREPLACE != 0 {
            Placement::Exactly(addr)
        } else if flags & MAP_FIXED != 0 {
            Placement::Replacing(addr)
        } else if addr != 0 {
            Placement::Hint(addr)
        } else {
            Placement::Anywhere
        });
        self.map(&options).map_err(name)
    }

    /// munmap.
    ///
    /// # Errors
    ///
    /// As munmap(2).
    pub fn sys_munmap(&self, addr: usize, len: usize) -> Result<(), Errno> {
        self.unmap(addr, len).map_err(|error| errno(Syscall::Unmap, error))
    }

    /// mprotect.
    ///
    /// # Errors
    ///
    /// As mprotect(2).
    pub fn sys_mprotect(&self, addr: usize, len: usize, prot_bits: u64) -> Result<(), Errno> {
        if !addr.is_multiple_of(self.page_size()) {
            return Err(Errno::INVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let name = |error| errno(Syscall::Protect, error);
        self.protect(addr, len, prot(prot_bits).map_err(name)?).map_err(name)
    }

    /// mremap.
    ///
    /// # Errors
    ///
    /// As mremap(2). A move over several mappings at once is EFAULT, as it was before Linux 6.17.
    pub fn sys_mremap(
        &self,
        addr: usize,
        old_len: usize,
        new_len: usize,
        flags: u64,
        new_addr: usize,
    ) -> Result<usize, Errno> {
        if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 {
            return Err(Errno::INVAL);
        }
        let target = match (flags & MREMAP_MAYMOVE != 0, flags & MREMAP_FIXED != 0) {
            (true, true) => RemapTarget::Fixed(new_addr),
            (true, false) => RemapTarget::MayMove,
            (false, true) => return Err(Errno::INVAL),
            (false, false) => RemapTarget::InPlace,
        };
        let old = if flags & MREMAP_DONTUNMAP != 0 { OldRange::Kept } else { OldRange::Unmapped };
        self.remap(addr, old_len, new_len, target, old).map_err(|error| errno(Syscall::Remap, error))
    }

    /// madvise.
    ///
    /// # Errors
    ///
    /// As madvise(2). Advice that is not known is EINVAL.
    pub fn sys_madvise(&self, addr: usize, len: usize, advice: u64) -> Result<(), Errno> {
        let advice = match advice {
            // NORMAL, RANDOM, SEQUENTIAL, WILLNEED; FREE may come late; huge pages, core dumps, cold and page-out.
            0..=3 | 8 | 14..=17 | 20 | 21 => Advice::Usage,
            4 => Advice::Discard,
            18 => Advice::OnFork(OnFork::Wipe),
            19 => Advice::OnFork(OnFork::Keep),
            _ => return Err(Errno::INVAL),
        };
        self.advise(addr, len, advice).map_err(|error| errno(Syscall::Advise, error))
    }

    /// shmat.
    ///
    /// # Errors
    ///
    /// As shmat(2).
    pub fn sys_shmat(&self, id: i32, addr: usize, flags: u64) -> Result<usize, Errno> {
        let at = match (addr, flags & SHM_REMAP != 0) {
            (0, true) => return Err(Errno::INVAL),
            (0, false) => AttachAt::Anywhere,
            (_, true) => AttachAt::Replacing(addr),
            (_, false) => AttachAt::Exactly(addr),
        };
        let rounding = if flags & SHM_RND != 0 { Rounding::Down } else { Rounding::Refuse };
        let mut perms = VmPerms::READ;
        perms.set(VmPerms::WRITE, flags & SHM_RDONLY == 0);
        perms.set(VmPerms::EXEC, flags & SHM_EXEC != 0);
        self.attach(id, at, rounding, perms).map_err(|error| errno(Syscall::Segment, error))
    }

    /// shmdt.
    ///
    /// # Errors
    ///
    /// As shmdt(2).
    pub fn sys_shmdt(&self, addr: usize) -> Result<(), Errno> {
        self.detach(addr).map_err(|error| errno(Syscall::Segment, error))
    }
}
