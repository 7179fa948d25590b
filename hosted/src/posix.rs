// SPDX-License-Identifier: MPL-2.0

//! The real host, and the only unsafe code.
//!
//! # Why it is sound
//!
//! An [`Area`] owns a range of the process's addresses: it came from the kernel as a place that nothing else was at, it has
//! no hole that somebody else could be given, and it is unmapped when it is dropped. Every call below stays inside the
//! areas that it is handed, which is checked. No Rust reference to an area's memory is ever made: all access is by calls in which
//! the kernel does the copying, and which fail rather than end the process where there is no memory (a file that has become shorter).
//!
//! Linux 5.13 is needed: [`take`](Host::take) leaves the mapping in its place (`MREMAP_DONTUNMAP`), so that there is no
//! moment at which another thread's mmap could land in the guest's range.

use std::{
    ffi::c_void,
    mem::{self, MaybeUninit},
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use rustix::{
    fs::{self, MemfdFlags},
    mm::{self, MapFlags, MprotectFlags, MremapFlags, ProtFlags},
    param,
    process::getpid,
};
use vmar::mapping::Sharing;

use crate::host::{Errno, Host, HostProt, Memory, last_errno};

/// A range of the process's addresses that nothing else is at. It is unmapped when dropped.
#[derive(Debug)]
pub struct Area {
    start: usize,
    size: usize,
}

impl Area {
    /// Returns the address it starts at.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns its size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Cuts it in two at `offset` (bytes, a multiple of the host's page size).
    ///
    /// # Panics
    ///
    /// Panics if the offset is no multiple of the page size, or outside.
    pub fn split(self, offset: usize) -> (Self, Self) {
        assert!(offset <= self.size && offset.is_multiple_of(param::page_size()), "offset leaves the area");
        let area = mem::ManuallyDrop::new(self);
        (
            Self { start: area.start, size: offset },
            Self { start: area.start + offset, size: area.size - offset },
        )
    }

    /// Returns a pointer to a byte.
    fn at(&self, offset: usize) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.start + offset)
    }

    /// Returns a pointer to the first byte of a range of whole pages.
    ///
    /// # Panics
    ///
    /// Panics if the range is empty, leaves the area, or is none of whole pages.
    fn pages(&self, range: &Range<usize>) -> *mut c_void {
        let page = param::page_size();
        assert!(range.start < range.end && range.end <= self.size, "{range:x?} leaves the area");
        assert!(range.start.is_multiple_of(page) && range.end.is_multiple_of(page), "{range:x?} cuts a page");
        self.at(range.start)
    }

    /// Returns a pointer to the first of `len` bytes.
    ///
    /// # Panics
    ///
    /// Panics if they leave the area.
    fn bytes(&self, offset: usize, len: usize) -> *mut c_void {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.size), "the bytes leave the area");
        self.at(offset)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        if self.size > 0 {
            // SAFETY: the area owns these addresses, and nobody knows them any more.
            let _ = unsafe { mm::munmap(self.at(0), self.size) };
        }
    }
}

/// The host that this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Posix;

const fn prot_flags(prot: HostProt) -> ProtFlags {
    match prot {
        HostProt::None => ProtFlags::empty(),
        HostProt::Read => ProtFlags::READ,
        HostProt::ReadWrite => ProtFlags::READ.union(ProtFlags::WRITE),
    }
}

/// Makes a mapping of private memory where the kernel likes.
fn map_anywhere(size: usize, prot: HostProt, flags: MapFlags) -> Result<Area, Errno> {
    // SAFETY: without MAP_FIXED the kernel chooses addresses that nothing is at.
    let start =
        unsafe { mm::mmap_anonymous(ptr::null_mut(), size, prot_flags(prot), MapFlags::PRIVATE | flags)? };
    Ok(Area { start: start.expose_provenance(), size })
}

impl Host for Posix {
    fn page_size(&self) -> usize {
        param::page_size()
    }

    fn reserve(&self, size: usize, align: usize) -> Result<Area, Errno> {
        let room = size.checked_add(align - param::page_size()).ok_or(Errno::NOMEM)?;
        let area = map_anywhere(room, HostProt::None, MapFlags::NORESERVE)?;
        // What is not needed goes with the halves that are dropped here.
        let before = area.start.next_multiple_of(align) - area.start;
        Ok(area.split(before).1.split(size).0)
    }

    fn stage(&self, size: usize) -> Result<Area, Errno> {
        map_anywhere(size, HostProt::ReadWrite, MapFlags::empty())
    }

    fn map(&self, area: &Area, range: Range<usize>, prot: HostProt, memory: Memory<'_>) -> Result<(), Errno> {
        let (at, len) = (area.pages(&range), range.len());
        // SAFETY: the area owns the addresses, so nothing of anybody else's is replaced. Nobody has references to what was
        // there: the module's doc says why.
        unsafe {
            match memory {
                Memory::Reservation => {
                    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
                    mm::mmap_anonymous(at, len, ProtFlags::empty(), flags)?
                }
                Memory::Anonymous => {
                    mm::mmap_anonymous(at, len, prot_flags(prot), MapFlags::PRIVATE | MapFlags::FIXED)?
                }
                Memory::File { file, offset, sharing } => {
                    let sharing = match sharing {
                        Sharing::Private => MapFlags::PRIVATE,
                        Sharing::Shared => MapFlags::SHARED,
                    };
                    mm::mmap(at, len, prot_flags(prot), sharing | MapFlags::FIXED, file, offset)?
                }
            };
        }
        Ok(())
    }

    fn protect(&self, area: &Area, range: Range<usize>, prot: HostProt) -> Result<(), Errno> {
        let flags = match prot {
            HostProt::None => MprotectFlags::empty(),
            HostProt::Read => MprotectFlags::READ,
            HostProt::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
        };
        // SAFETY: the area owns the addresses, and nobody has references to what is there.
        unsafe { mm::mprotect(area.pages(&range), range.len(), flags) }
    }

    fn take(&self, area: &Area, range: Range<usize>) -> Result<Area, Errno> {
        let (at, size) = (area.pages(&range), range.len());
        // SAFETY: the area owns the addresses; the kernel chooses the new ones, which nothing is at. DONTUNMAP leaves the area
        // without a hole.
        let start = unsafe { mm::mremap(at, size, size, MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP)? };
        Ok(Area { start: start.expose_provenance(), size })
    }

    fn put(&self, from: Area, area: &Area, range: Range<usize>) -> Result<(), (Area, Errno)> {
        let to = area.pages(&range);
        assert!(from.size <= range.len(), "more is moved than there is room for");
        // SAFETY: both areas own their addresses. What is moved away leaves a hole, which is why its area is forgotten.
        let moved = unsafe { mm::mremap_fixed(from.at(0), from.size, range.len(), MremapFlags::MAYMOVE, to) };
        match moved {
            Ok(_) => {
                mem::forget(from);
                Ok(())
            }
            Err(errno) => Err((from, errno)),
        }
    }

    fn discard(&self, area: &Area, range: Range<usize>) -> Result<(), Errno> {
        // SAFETY: the area owns the addresses, and nobody has references to what is there.
        unsafe { mm::madvise(area.pages(&range), range.len(), mm::Advice::LinuxDontNeed) }
    }

    fn read(&self, area: &Area, offset: usize, buf: &mut [u8]) -> Result<usize, Errno> {
        let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let remote = libc::iovec { iov_base: area.bytes(offset, buf.len()), iov_len: buf.len() };
        // SAFETY: the kernel writes `buf.len()` bytes at most to the buffer, which is borrowed for that. It reads the area as it
        // would another process's memory: what is not there ends the copy.
        let copied =
            unsafe { libc::process_vm_readv(getpid().as_raw_nonzero().get(), &local, 1, &remote, 1, 0) };
        if copied < 0 { Err(last_errno()) } else { Ok(copied as usize) }
    }

    fn write(&self, area: &Area, offset: usize, bytes: &[u8]) -> Result<usize, Errno> {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: area.bytes(offset, bytes.len()), iov_len: bytes.len() };
        // SAFETY: the kernel only reads the bytes. It writes to the area, which nobody has references to, as it would to another
        // process's memory: what is not there or not writable ends the copy.
        let copied =
            unsafe { libc::process_vm_writev(getpid().as_raw_nonzero().get(), &local, 1, &remote, 1, 0) };
        if copied < 0 { Err(last_errno()) } else { Ok(copied as usize) }
    }

    fn read_file(
        &self,
        area: &Area,
        range: Range<usize>,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < range.len() {
            let rest = range.len() - done;
            let to = area.bytes(range.start + done, rest);
            let offset = i64::try_from(offset + done as u64).map_err(|_| Errno::OVERFLOW)?;
            // SAFETY: the kernel writes to the area, which nobody has references to.
            match unsafe { libc::pread(file.as_raw_fd(), to, rest, offset) } {
                0 => break,
                count if count > 0 => done += count as usize,
                _ => match last_errno() {
                    Errno::INTR => {}
                    errno => return Err(errno),
                },
            }
        }
        Ok(done)
    }

    fn file_size(&self, file: BorrowedFd<'_>) -> Result<u64, Errno> {
        Ok(fs::fstat(file)?.st_size.try_into().unwrap_or(0))
    }

    fn nameless_file(&self, size: usize) -> Result<OwnedFd, Errno> {
        let file = fs::memfd_create("guest", MemfdFlags::CLOEXEC)?;
        fs::ftruncate(file.as_fd(), size as u64)?;
        Ok(file)
    }

    fn attach(&self, segment: i32, prot: HostProt) -> Result<Area, Errno> {
        let flags = if prot == HostProt::ReadWrite { 0 } else { libc::SHM_RDONLY };
        // SAFETY: without an address the kernel chooses one that nothing is at.
        let start = unsafe { libc::shmat(segment, ptr::null(), flags) };
        if start.expose_provenance() == usize::MAX {
            return Err(last_errno());
        }
        // While it is attached its size cannot change, nor its number be given to another one.
        match self.segment_size(segment) {
            Ok(size) => {
                let size = size.next_multiple_of(param::page_size());
                Ok(Area { start: start.expose_provenance(), size })
            }
            Err(errno) => {
                // SAFETY: it was attached just now, and nobody knows where.
                unsafe { libc::shmdt(start) };
                Err(errno)
            }
        }
    }

    fn segment_size(&self, segment: i32) -> Result<usize, Errno> {
        let mut state = MaybeUninit::<libc::shmid_ds>::uninit();
        // SAFETY: the kernel fills the structure, and says so by not failing.
        unsafe {
            if libc::shmctl(segment, libc::IPC_STAT, state.as_mut_ptr()) != 0 {
                return Err(last_errno());
            }
            Ok(state.assume_init().shm_segsz)
        }
    }
}
