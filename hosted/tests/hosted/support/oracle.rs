// SPDX-License-Identifier: MPL-2.0

//! The host's kernel as the oracle: system calls on a range of this process that nothing else uses.

use std::{
    ops::Range,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::Arc,
};

use vmar_hosted::host::Errno;

/// A range of this process, between two pages that nothing grows into.
pub struct Linux {
    range: Range<usize>,
}

const PAGE: usize = 4096;

fn result(value: isize) -> Result<usize, Errno> {
    if value == -1 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap())
    } else {
        Ok(value as usize)
    }
}

impl Linux {
    pub fn new(range: Range<usize>) -> Self {
        let linux = Self { range };
        let guards = [linux.range.start - PAGE, linux.range.end];
        for guard in guards {
            linux.mmap(guard, PAGE, 0, 0x100022, None, 0).unwrap();
        }
        linux
    }

    pub fn mmap(
        &self,
        addr: usize,
        len: usize,
        prot: u64,
        flags: u64,
        file: Option<&Arc<OwnedFd>>,
        offset: u64,
    ) -> Result<usize, Errno> {
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        // SAFETY: an address that is insisted on lies in the range, where nothing but the oracle is.
        result(unsafe {
            libc::mmap(ptr::without_provenance_mut(addr), len, prot as _, flags as _, fd, offset as _)
        } as isize)
    }

    pub fn munmap(&self, addr: usize, len: usize) -> Result<(), Errno> {
        // SAFETY: what is unmapped is the oracle's.
        result(unsafe { libc::munmap(ptr::without_provenance_mut(addr), len) } as isize).map(drop)
    }

    pub fn mprotect(&self, addr: usize, len: usize, prot: u64) -> Result<(), Errno> {
        // SAFETY: what is protected is the oracle's.
        result(unsafe { libc::mprotect(ptr::without_provenance_mut(addr), len, prot as _) } as isize)
            .map(drop)
    }

    pub fn mremap(
        &self,
        addr: usize,
        old_len: usize,
        new_len: usize,
        flags: u64,
        new_addr: usize,
    ) -> Result<usize, Errno> {
        // SAFETY: what is moved is the oracle's, and so is the place it goes to.
        result(unsafe { libc::syscall(libc::SYS_mremap, addr, old_len, new_len, flags, new_addr) } as isize)
    }

    pub fn madvise(&self, addr: usize, len: usize, advice: u64) -> Result<(), Errno> {
        // SAFETY: what is advised about is the oracle's.
        result(unsafe { libc::madvise(ptr::without_provenance_mut(addr), len, advice as _) } as isize)
            .map(drop)
    }

    /// Attaches a segment of shared memory.
    pub fn shmat(&self, id: i32, addr: usize, flags: u64) -> Result<usize, Errno> {
        // SAFETY: an address that is insisted on lies in the range.
        result(unsafe { libc::shmat(id, ptr::without_provenance(addr), flags as _) } as isize)
    }

    pub fn shmdt(&self, addr: usize) -> Result<(), Errno> {
        // SAFETY: what is detached is the oracle's.
        result(unsafe { libc::shmdt(ptr::without_provenance(addr)) } as isize).map(drop)
    }

    /// Copies out, and returns how many bytes could be read.
    pub fn read(&self, addr: usize, buf: &mut [u8]) -> usize {
        let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let remote = libc::iovec { iov_base: ptr::without_provenance_mut(addr), iov_len: buf.len() };
        // SAFETY: the kernel writes to the buffer, which is borrowed for that.
        let count = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        count.max(0) as usize
    }

    /// Copies in, and returns how many bytes could be written.
    pub fn write(&self, addr: usize, bytes: &[u8]) -> usize {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: ptr::without_provenance_mut(addr), iov_len: bytes.len() };
        // SAFETY: what is written to is the oracle's.
        let count = unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) };
        count.max(0) as usize
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        let _ = self.munmap(self.range.start - PAGE, self.range.len() + 2 * PAGE);
    }
}

/// A segment of System V shared memory, removed when dropped.
pub struct Segment(pub i32);

impl Segment {
    pub fn new(size: usize) -> Self {
        // SAFETY: it makes a segment, which touches no memory of ours.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, size, 0o600 | libc::IPC_CREAT) };
        assert!(id >= 0, "no segment can be made");
        Self(id)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: it removes a segment, which goes when nobody is attached any more.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, ptr::null_mut()) };
    }
}

/// Forks. The child runs `child` and ends with the status that it returns; the parent gets its number.
pub fn fork(child: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child runs no code that needs another thread, and ends without running what the parent will run.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: nothing of the child's is to be run any more.
            unsafe { libc::_exit(if well { 0 } else { 1 }) }
        }
        pid => pid,
    }
}

/// Waits for a child, and returns whether all went well in it.
pub fn wait(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: the kernel writes the status.
    unsafe { libc::waitpid(pid, &mut status, 0) == pid && status == 0 }
}

/// Forks, and returns on both sides: 0 in the child.
pub fn raw_fork() -> i32 {
    // SAFETY: the child runs no code that needs another thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    pid
}

/// Ends a child.
pub fn exit_now(well: bool) -> ! {
    // SAFETY: nothing of the child's is to be run any more.
    unsafe { libc::_exit(if well { 0 } else { 1 }) }
}
