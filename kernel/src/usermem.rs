// SPDX-License-Identifier: MPL-2.0

//! User memory, as the kernel reads and writes it for a system call.
//!
//! Addresses from a program are allegations. Everything here goes through the caller's address space, which must be the
//! one the CPU has active, resolves page faults on the way, and answers `EFAULT` for what the program may not touch. None
//! of it may be called with a spin lock held.
//!
//! Large data is moved without a copy in between: [`AddressSpace::reader`] and [`AddressSpace::writer`] give OSTD's
//! `VmReader` and `VmWriter` over user memory, which a file reads from or writes to directly.

use alloc::ffi::CString;

use ostd::mm::{Fallible, FallibleVmRead, FallibleVmWrite, MAX_USERSPACE_VADDR, VmReader, VmWriter};

use crate::{mm::AddressSpace, prelude::*};

/// The longest path, with its NUL.
pub const PATH_MAX: usize = linux_raw_sys::general::PATH_MAX as usize;
/// The most buffers of one `readv` or `writev`.
pub const IOV_MAX: usize = 1024;
/// The most bytes that one call moves, as in Linux.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;

/// `struct iovec`: a buffer of a program.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
pub struct IoVec {
    /// Where it begins.
    pub base: Vaddr,
    /// Its length in bytes.
    pub len: usize,
}

impl AddressSpace {
    /// Reads a value.
    pub fn read_val<T: Pod>(&self, addr: Vaddr) -> Result<T> {
        self.reader(addr, size_of::<T>())?.read_val().map_err(|_| EFAULT)
    }

    /// Writes a value.
    pub fn write_val<T: Pod>(&self, addr: Vaddr, value: &T) -> Result<()> {
        self.writer(addr, size_of::<T>())?.write_val(value).map_err(|_| EFAULT)
    }

    /// Fills `bytes` from user memory.
    pub fn read_bytes(&self, addr: Vaddr, bytes: &mut [u8]) -> Result<()> {
        self.reader(addr, bytes.len())?.read_fallible(&mut VmWriter::from(bytes)).map_err(|_| EFAULT)?;
        Ok(())
    }

    /// Writes `bytes` to user memory.
    pub fn write_bytes(&self, addr: Vaddr, bytes: &[u8]) -> Result<()> {
        self.writer(addr, bytes.len())?.write_fallible(&mut VmReader::from(bytes)).map_err(|_| EFAULT)?;
        Ok(())
    }

    /// Reads `count` values. The caller has bounded `count`.
    pub fn read_vec<T: Pod>(&self, addr: Vaddr, count: usize) -> Result<Vec<T>> {
        let len = count.checked_mul(size_of::<T>()).ok_or(EFAULT)?;
        let mut reader = self.reader(addr, len)?;
        let mut values = try_with_capacity(count)?;
        for _ in 0..count {
            values.push(reader.read_val().map_err(|_| EFAULT)?);
        }
        Ok(values)
    }

    /// Writes values one after the other.
    pub fn write_slice<T: Pod>(&self, addr: Vaddr, values: &[T]) -> Result<()> {
        self.write_bytes(addr, zerocopy::IntoBytes::as_bytes(values))
    }

    /// Fills user memory with zeros.
    pub fn fill_zeros(&self, addr: Vaddr, len: usize) -> Result<()> {
        self.writer(addr, len)?.fill_zeros(len).map_err(|_| EFAULT)?;
        Ok(())
    }

    /// Reads a string up to its NUL, which must come within `max` bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `ENAMETOOLONG` if there is no NUL in `max` bytes.
    pub fn read_cstring(&self, addr: Vaddr, max: usize) -> Result<CString> {
        let mut bytes = Vec::new();
        self.append_cstring(addr, max, &mut bytes)?;
        CString::from_vec_with_nul(bytes).map_err(|_| EINVAL)
    }

    /// Reads a string up to its NUL, which must come within `max` bytes, and appends both to `bytes`.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::read_cstring`]; `ENOMEM`. A part of the string may have been appended.
    pub fn append_cstring(&self, addr: Vaddr, max: usize, bytes: &mut Vec<u8>) -> Result<()> {
        // Most strings are short, and clearing and copying more than they need is what costs.
        let mut chunk = [0; 64];
        let (mut at, mut left) = (addr, max);
        while left > 0 {
            // Never past the end of a page: the next one need not be there.
            let len = (PAGE_SIZE - at % PAGE_SIZE).min(chunk.len()).min(left);
            self.read_bytes(at, &mut chunk[..len])?;
            let end = chunk[..len].iter().position(|byte| *byte == 0);
            let part = &chunk[..end.map_or(len, |end| end + 1)];
            try_reserve(bytes, part.len())?;
            bytes.extend_from_slice(part);
            if end.is_some() {
                return Ok(());
            }
            at += len;
            left -= len;
        }
        Err(ENAMETOOLONG)
    }

    /// Reads a path.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::read_cstring`].
    pub fn read_path(&self, addr: Vaddr) -> Result<CString> {
        self.read_cstring(addr, PATH_MAX)
    }

    /// Reads the buffers of a `readv` or `writev`, cut off so that they move no more than [`MAX_RW_COUNT`] bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are too many or one's length is negative; `EFAULT` if one lies outside user space.
    pub fn read_iovecs(&self, addr: Vaddr, count: usize) -> Result<Vec<IoVec>> {
        if count > IOV_MAX {
            return Err(EINVAL);
        }
        let mut iovecs: Vec<IoVec> = self.read_vec(addr, count)?;
        let mut left = MAX_RW_COUNT;
        for iovec in &mut iovecs {
            if iovec.len > isize::MAX as usize {
                return Err(EINVAL);
            }
            check_range(iovec.base, iovec.len)?;
            iovec.len = iovec.len.min(left);
            left -= iovec.len;
        }
        Ok(iovecs)
    }

    /// A reader of user memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the range does not lie in user space, or this is not the caller's own space.
    pub fn reader(&self, addr: Vaddr, len: usize) -> Result<VmReader<'_, Fallible>> {
        self.vmar().space().reader(addr, len).map_err(|_| EFAULT)
    }

    /// A writer of user memory.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::reader`].
    pub fn writer(&self, addr: Vaddr, len: usize) -> Result<VmWriter<'_, Fallible>> {
        self.vmar().space().writer(addr, len).map_err(|_| EFAULT)
    }
}

/// `EFAULT` unless `addr..addr + len` lies in user space.
pub fn check_range(addr: Vaddr, len: usize) -> Result<()> {
    match addr.checked_add(len) {
        Some(end) if end <= MAX_USERSPACE_VADDR => Ok(()),
        _ => Err(EFAULT),
    }
}
