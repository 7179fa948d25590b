// SPDX-License-Identifier: MPL-2.0

//! Why an operation was refused.
//!
//! The errors say what refused and why; only the edge of a kernel turns them into numbers. The comment on each variant
//! names the errno that a Linux-like edge gives for it.

use core::fmt;

use crate::backing::Refusal;

/// Memory has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// A bound on what a space may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Total size (`RLIMIT_AS`).
    AddressSpace,
    /// Private writable memory (`RLIMIT_DATA`).
    Data,
    /// The size of a mapping that grows down (`RLIMIT_STACK`).
    Stack,
    /// Locked memory (`RLIMIT_MEMLOCK`).
    Locked,
    /// The number of mappings (`vm.max_map_count`).
    Mappings,
}

/// Why an operation was refused. An operation that is refused has changed nothing, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Memory has run out (`ENOMEM`).
    OutOfMemory,
    /// A size is zero or overflows (`EINVAL`).
    InvalidSize,
    /// An address, offset or alignment is not a multiple of the page size, or an alignment is no power of two
    /// (`EINVAL`).
    InvalidAlignment,
    /// An offset lies outside the object, or overflows (`EINVAL`, for a file mapping `EOVERFLOW`).
    InvalidOffset,
    /// Options contradict each other (`EINVAL`).
    InvalidOptions,
    /// A capability, to the space or to the object, lacks a right, or the mapping may never allow that (`EACCES`).
    AccessDenied,
    /// What lies behind the mapping, or the way its file was opened, does not allow that (by the [`Refusal`]).
    Refused(Refusal),
    /// Something is mapped there already (`EEXIST`).
    Occupied,
    /// No free range is large enough within the bounds asked for (`ENOMEM`).
    NoRoom,
    /// A limit would be passed (`ENOMEM`; for locked memory `EAGAIN` or `ENOMEM` by the call).
    LimitExceeded(Limit),
    /// A part of the range is not mapped (`ENOMEM` or `EFAULT` by the call).
    NotMapped,
    /// The range leaves the addresses that a program can use (`ENOMEM` or `EINVAL` by the call).
    OutOfRange,
    /// The mapping or the object cannot do that: a device mapping cannot grow, say (`EFAULT`, `EINVAL` or `ENOTSUP` by the call).
    NotSupported,
    /// The region that the capability is to is no more (`EFAULT`; no capability that a program works through can be to one).
    Destroyed,
    /// More is asked for than whoever gives it has (`EPERM`).
    NotPermitted,
    /// What is there is sealed against that (`EPERM`).
    Sealed,
    /// Memory that was to be reserved when it is touched cannot be: the program that touched it ends (`SIGKILL`).
    ReserveExhausted,
    /// Whoever counts the pages of an object has no room for another one (`ENOSPC`; a fault is a bus error).
    NoSpace,
    /// The access ends in a bus error: past the end of the object, or the object could not read its page.
    BusError,
    /// Somebody who serves faults was waited for, and the wait ended early (`EINTR`).
    Interrupted,
}

impl Limit {
    /// All bounds, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::AddressSpace, Self::Data, Self::Stack, Self::Locked, Self::Mappings];
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory has run out")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "memory has run out",
            Self::InvalidSize => "the size is zero or too large",
            Self::InvalidAlignment => "not a multiple of the page size",
            Self::InvalidOffset => "the offset lies outside the object",
            Self::InvalidOptions => "the options contradict each other",
            Self::AccessDenied => "the capability lacks a right",
            Self::Refused(refusal) => return refusal.fmt(f),
            Self::Occupied => "the range is occupied",
            Self::NoRoom => "no free range is large enough",
            Self::LimitExceeded(Limit::AddressSpace) => "the limit on the address space is reached",
            Self::LimitExceeded(Limit::Data) => "the limit on private writable memory is reached",
            Self::LimitExceeded(Limit::Stack) => "the limit on the stack is reached",
            Self::LimitExceeded(Limit::Locked) => "the limit on locked memory is reached",
            Self::LimitExceeded(Limit::Mappings) => "the limit on the number of mappings is reached",
            Self::NotMapped => "a part of the range is not mapped",
            Self::OutOfRange => "the range leaves the address space",
            Self::NotSupported => "the mapping does not support the operation",
            Self::Destroyed => "the region has been destroyed",
            Self::NotPermitted => "the giver has fewer rights",
            Self::Sealed => "the mapping is sealed",
            Self::ReserveExhausted => "no memory is left to reserve",
            Self::NoSpace => "there is no room for another page",
            Self::BusError => "the object has no page there",
            Self::Interrupted => "the wait was interrupted",
        })
    }
}

impl core::error::Error for OutOfMemory {}
impl core::error::Error for Error {}
