// SPDX-License-Identifier: MPL-2.0

//! What passes between a program and its userfaultfd, as `ioctl_userfaultfd(2)` and `userfaultfd(2)` have it.

use linux_raw_sys::general as abi;

use crate::prelude::*;

/// `struct uffd_msg`: a fault or an event, as it is read.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
pub(super) struct Message {
    pub(super) event: u8,
    reserved_1: u8,
    reserved_2: u16,
    reserved_3: u32,
    /// What they mean depends on the event.
    pub(super) args: [u64; 3],
}

impl Message {
    /// How many bytes it has.
    pub(super) const SIZE: usize = 32;

    pub(super) fn new(event: u32, args: [u64; 3]) -> Self {
        Self { event: event as u8, args, ..Self::default() }
    }

    /// The address of a fault.
    pub(super) fn fault_addr(&self) -> Vaddr {
        self.args[1] as Vaddr
    }
}

const _: () = assert!(size_of::<Message>() == Message::SIZE);

bitflags::bitflags! {
    /// What a program may ask for by `UFFDIO_API`; all that Linux 6.1 has. Of huge pages, which there are none of, all is true.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Features: u64 {
        const PAGEFAULT_FLAG_WP = abi::UFFD_FEATURE_PAGEFAULT_FLAG_WP as u64;
        const EVENT_FORK = abi::UFFD_FEATURE_EVENT_FORK as u64;
        const EVENT_REMAP = abi::UFFD_FEATURE_EVENT_REMAP as u64;
        const EVENT_REMOVE = abi::UFFD_FEATURE_EVENT_REMOVE as u64;
        const EVENT_UNMAP = abi::UFFD_FEATURE_EVENT_UNMAP as u64;
        const MISSING_HUGETLBFS = abi::UFFD_FEATURE_MISSING_HUGETLBFS as u64;
        const MISSING_SHMEM = abi::UFFD_FEATURE_MISSING_SHMEM as u64;
        const SIGBUS = abi::UFFD_FEATURE_SIGBUS as u64;
        const THREAD_ID = abi::UFFD_FEATURE_THREAD_ID as u64;
        const MINOR_HUGETLBFS = abi::UFFD_FEATURE_MINOR_HUGETLBFS as u64;
        const MINOR_SHMEM = abi::UFFD_FEATURE_MINOR_SHMEM as u64;
        const EXACT_ADDRESS = abi::UFFD_FEATURE_EXACT_ADDRESS as u64;
        const WP_HUGETLBFS_SHMEM = abi::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64;
    }
}

/// `struct uffdio_api`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
pub(super) struct Api {
    pub(super) api: u64,
    pub(super) features: u64,
    pub(super) ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// An extent and a mode: what `struct uffdio_register`, `uffdio_zeropage`, `uffdio_writeprotect` and `uffdio_continue` begin with.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
pub(super) struct ExtentAndMode {
    pub(super) extent: Extent,
    pub(super) mode: u64,
}

/// What `struct uffdio_copy` begins with.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
pub(super) struct Copy {
    pub(super) target: u64,
    pub(super) source: u64,
    pub(super) len: u64,
    pub(super) mode: u64,
}

/// `UFFDIO_REGISTER_MODE_MISSING`.
pub(super) const REGISTER_MISSING: u64 = 1 << 0;
/// `UFFDIO_REGISTER_MODE_WP`.
pub(super) const REGISTER_WP: u64 = 1 << 1;
/// `UFFDIO_REGISTER_MODE_MINOR`.
pub(super) const REGISTER_MINOR: u64 = 1 << 2;
/// `UFFDIO_COPY_MODE_DONTWAKE`, `UFFDIO_ZEROPAGE_MODE_DONTWAKE` and `UFFDIO_CONTINUE_MODE_DONTWAKE`.
pub(super) const FILL_DONTWAKE: u64 = 1 << 0;
/// `UFFDIO_COPY_MODE_WP`.
pub(super) const COPY_WP: u64 = 1 << 1;
/// `UFFDIO_WRITEPROTECT_MODE_WP`.
pub(super) const PROTECT_WP: u64 = 1 << 0;
/// `UFFDIO_WRITEPROTECT_MODE_DONTWAKE`.
pub(super) const PROTECT_DONTWAKE: u64 = 1 << 1;

/// What can be done with every userfaultfd.
pub(super) const API_IOCTLS: u64 =
    1 << abi::_UFFDIO_REGISTER | 1 << abi::_UFFDIO_UNREGISTER | 1 << abi::_UFFDIO_API;
/// What can be done with any range.
pub(super) const RANGE_IOCTLS: u64 =
    1 << abi::_UFFDIO_WAKE | 1 << abi::_UFFDIO_COPY | 1 << abi::_UFFDIO_ZEROPAGE;
/// What can be done with a range in which writes are watched.
pub(super) const WP_IOCTLS: u64 = 1 << abi::_UFFDIO_WRITEPROTECT;
/// What can be done with a range in which minor faults are watched.
pub(super) const MINOR_IOCTLS: u64 = 1 << abi::_UFFDIO_CONTINUE;
