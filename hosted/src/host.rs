// SPDX-License-Identifier: MPL-2.0

//! What the library asks of a host, one call at a time.
//!
//! ```text
//!   the guest's range          ┌──────── Area ────────┐        made once, never has a hole
//!                              │ ···· │ page │ ······ │
//!                                       ▲   │
//!                                  put  │   │  take            a page at a time, or a mapping
//!                                       │   ▼
//!   aside                             ┌──────┐                 small areas that live for one operation
//! ```
//!
//! All memory that is touched lies in an [`Area`], which only the [real host](crate::posix::Posix) makes, and is named by
//! offsets into it. So the trait is safe to implement and to call: a test puts itself between the library and the real
//! host to refuse a call, or to look at what is asked for. Every call either has its effect or none.

use std::{
    io,
    ops::Range,
    os::fd::{BorrowedFd, OwnedFd},
};

pub use rustix::io::Errno;
use vmar::{mapping::Sharing, perms::VmPerms};

pub use crate::posix::Area;

/// What the host's processor may do with a page of the guest's. To execute is not among it: the host runs none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostProt {
    /// Nothing.
    #[default]
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

impl HostProt {
    /// Returns what the host needs for what the guest may do: what a guest executes its emulator reads.
    pub fn of(perms: VmPerms) -> Self {
        if perms.contains(VmPerms::WRITE) {
            Self::ReadWrite
        } else if perms.access().is_empty() {
            Self::None
        } else {
            Self::Read
        }
    }

    /// Returns what allows both.
    pub fn union(self, other: Self) -> Self {
        self.max(other)
    }
}

/// What is to be seen in a part of an area.
#[derive(Clone, Copy, Debug)]
pub enum Memory<'a> {
    /// Nothing, and nothing else may come there.
    Reservation,
    /// Private memory, zero at first.
    Anonymous,
    /// A file.
    File {
        /// The file.
        file: BorrowedFd<'a>,
        /// Where in the file it starts: bytes, a multiple of the host's page size.
        offset: u64,
        /// Whether writes reach the file.
        sharing: Sharing,
    },
}

/// A host. Offsets and sizes are bytes, multiples of the page size unless said otherwise.
pub trait Host: Send + Sync + 'static {
    /// Returns the size of a page (bytes).
    fn page_size(&self) -> usize;

    /// Reserves an area of `size` bytes that starts at a multiple of `align` (bytes, a power of two, at least a page).
    ///
    /// # Errors
    ///
    /// What the host says, here and below.
    fn reserve(&self, size: usize, align: usize) -> Result<Area, Errno>;

    /// Makes an area of zeros that can be read and written.
    fn stage(&self, size: usize) -> Result<Area, Errno>;

    /// Replaces what is in a part of an area.
    fn map(&self, area: &Area, range: Range<usize>, prot: HostProt, memory: Memory<'_>) -> Result<(), Errno>;

    /// Sets what may be done with a part of an area.
    fn protect(&self, area: &Area, range: Range<usize>, prot: HostProt) -> Result<(), Errno>;

    /// Moves the pages of a part of an area, one mapping of the host's, to a new area. The mapping itself stays, with no pages.
    fn take(&self, area: &Area, range: Range<usize>) -> Result<Area, Errno>;

    /// Moves what is in `from` to a part of an area, in place of what is there. A part larger than `from` shows more of
    /// the same.
    ///
    /// # Errors
    ///
    /// What the host says, and the area.
    fn put(&self, from: Area, area: &Area, range: Range<usize>) -> Result<(), (Area, Errno)>;

    /// Drops the pages of private memory in a part of an area: they are zero, or the file's, when next touched.
    fn discard(&self, area: &Area, range: Range<usize>) -> Result<(), Errno>;

    /// Copies bytes out of an area, from any offset on, and returns how many could be read.
    fn read(&self, area: &Area, offset: usize, buf: &mut [u8]) -> Result<usize, Errno>;

    /// Copies bytes into an area, to any offset, and returns how many could be written.
    fn write(&self, area: &Area, offset: usize, bytes: &[u8]) -> Result<usize, Errno>;

    /// Reads a file from any offset on into a part of an area, to any offset, and returns how many bytes there were.
    fn read_file(
        &self,
        area: &Area,
        range: Range<usize>,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<usize, Errno>;

    /// Returns the size of a file (bytes).
    fn file_size(&self, file: BorrowedFd<'_>) -> Result<u64, Errno>;

    /// Makes a file of `size` bytes of zeros that has no name.
    fn nameless_file(&self, size: usize) -> Result<OwnedFd, Errno>;

    /// Attaches a segment of System V shared memory as an area of its own.
    fn attach(&self, segment: i32, prot: HostProt) -> Result<Area, Errno>;

    /// Returns the size of a segment of System V shared memory (bytes, any number).
    fn segment_size(&self, segment: i32) -> Result<usize, Errno>;
}

/// Turns the C library's last error into a number.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
