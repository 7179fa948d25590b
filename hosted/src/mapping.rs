// SPDX-License-Identifier: MPL-2.0

//! One mapping of the guest's: what it asked for, and what the host has there.
//!
//! The two differ where pages do. A guest's private mapping of a file may start in the middle of a host page: that page is
//! private memory into which the file was read, while the pages behind it are the file's own. Both are one mapping to the
//! guest, and two entries of the [table](crate::table).

use std::{os::fd::OwnedFd, sync::Arc};

use vmar::{mapping::Sharing, perms::VmPerms};

use crate::host::HostProt;

bitflags::bitflags! {
    /// Protection bits beyond read, write and execute that some processors have, by the numbers of Linux.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ArchProt: u32 {
        /// Branch targets are checked (AArch64's `PROT_BTI`), or accesses strongly ordered (POWER's `PROT_SAO`).
        const BIT4 = 0x10;
        /// Memory has tags (AArch64's `PROT_MTE`).
        const BIT5 = 0x20;
    }
}

impl ArchProt {
    /// AArch64: branch targets are checked.
    pub const BTI: Self = Self::BIT4;
    /// AArch64: memory has tags.
    pub const MTE: Self = Self::BIT5;
    /// POWER: accesses are strongly ordered.
    pub const SAO: Self = Self::BIT4;
}

/// What the guest may do with a mapping: the plain permissions, and those of its processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prot {
    /// Read, write and execute. MAY bits have no meaning here.
    pub perms: VmPerms,
    /// What else the guest's processor knows.
    pub arch: ArchProt,
}

impl From<VmPerms> for Prot {
    fn from(perms: VmPerms) -> Self {
        Self { perms: perms.access(), arch: ArchProt::empty() }
    }
}

/// What a mapping shows.
#[derive(Clone, Debug)]
pub enum Source {
    /// Zeros at first.
    Anonymous,
    /// A file.
    File {
        /// The file, kept open: parts of it are read again when they are discarded, and a mapping may grow.
        file: Arc<OwnedFd>,
        /// Where in the file it starts (bytes, a multiple of the guest's page size).
        offset: u64,
    },
    /// Zeros at first, in a file without a name that is shared with children.
    Nameless {
        /// The file.
        file: Arc<OwnedFd>,
        /// Where in the file it starts (bytes).
        offset: u64,
    },
    /// A segment of System V shared memory.
    Segment {
        /// Its number.
        id: i32,
        /// Where in the segment it starts (bytes).
        offset: u64,
        /// Tells one attachment from another.
        attachment: u64,
    },
}

impl Source {
    /// Returns the file behind it, and where in the file it starts.
    pub(crate) fn file(&self) -> Option<(&Arc<OwnedFd>, u64)> {
        match self {
            Self::File { file, offset } | Self::Nameless { file, offset } => Some((file, *offset)),
            Self::Anonymous | Self::Segment { .. } => None,
        }
    }
}

/// What the host has at a part of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMemory {
    /// Private memory, whatever was read into it.
    Anonymous,
    /// A file, with pages that were written copied.
    PrivateFile,
    /// Memory that others see as well.
    Shared,
}

/// What a child has of private memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFork {
    /// A copy.
    #[default]
    Keep,
    /// Zeros (`MADV_WIPEONFORK`).
    Wipe,
}

/// One mapping, or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// What is allowed, and what may ever be.
    pub perms: VmPerms,
    /// What else is allowed.
    pub arch: ArchProt,
    /// What is shown.
    pub source: Source,
    /// Whether others see writes.
    pub sharing: Sharing,
    /// What the host has there.
    pub memory: HostMemory,
    /// What a child has.
    pub on_fork: OnFork,
}

impl Mapping {
    /// Returns what the host must allow.
    pub fn host_prot(&self) -> HostProt {
        HostProt::of(self.perms)
    }

    /// Returns whether the host's pages there cannot be exchanged for private ones without anybody noticing.
    pub fn is_tied(&self) -> bool {
        self.memory == HostMemory::Shared && self.perms.contains(VmPerms::MAY_WRITE)
    }

    /// Returns whether it counts as data: private and writable.
    pub fn is_data(&self) -> bool {
        self.sharing == Sharing::Private && self.perms.contains(VmPerms::WRITE)
    }

    /// Returns what is `distance` bytes further on.
    pub fn advanced(&self, distance: usize) -> Self {
        let mut next = self.clone();
        match &mut next.source {
            Source::Anonymous => {}
            Source::File { offset, .. }
            | Source::Nameless { offset, .. }
            | Source::Segment { offset, .. } => *offset += distance as u64,
        }
        next
    }

    /// Returns whether `next`, `length` bytes behind, is more of the same mapping to the guest.
    pub fn continues_with(&self, length: usize, next: &Self) -> bool {
        let same_source = match (&self.source, &next.source) {
            (Source::Anonymous, Source::Anonymous) => true,
            (Source::File { file: one, offset: from }, Source::File { file: two, offset })
            | (Source::Nameless { file: one, offset: from }, Source::Nameless { file: two, offset }) => {
                Arc::ptr_eq(one, two) && from + length as u64 == *offset
            }
            (
                Source::Segment { attachment: one, offset: from, .. },
                Source::Segment { attachment: two, offset, .. },
            ) => one == two && from + length as u64 == *offset,
            _ => false,
        };
        same_source
            && self.perms == next.perms
            && self.arch == next.arch
            && self.sharing == next.sharing
            && self.on_fork == next.on_fork
    }
}
