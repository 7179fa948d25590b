// SPDX-License-Identifier: MPL-2.0

//! What lies behind a mapping is capable of, and what that allows the mapping.
//!
//! ```text
//!   handle, ceiling ──┐
//!   object rights ────┤
//!   Backing ──────────┼──► negotiate ──► Plan: how the mapping is made, what it allows now and may ever allow
//!   what is asked ────┤            └───► or a typed refusal
//!   who asks, where ──┘
//! ```
//!
//! [`negotiate`] is the one place where that is decided. It is a pure function, so every combination of what it looks at
//! is checked against a second account of the rules (`tests`). The builder of mappings calls it, and so does everybody
//! who wants to know early, or who maps on a machine that translates no addresses.
//!
//! The answer is stored as the mapping's permissions, MAY bits included, and nothing downstream decides again.

mod negotiate;
#[cfg(test)]
mod tests;

use core::fmt;

use aster_rights::Rights;

pub use self::negotiate::{negotiate, negotiate_declined, withdraw};
use crate::{mapping::Sharing, perms::VmPerms};

bitflags::bitflags! {
    /// What something behind a mapping can do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Capabilities: u8 {
        /// Dirty pages are never written back: memory is all there is.
        const NO_WRITEBACK = 1 << 0;
        /// Its own memory can be mapped.
        const MAP_DIRECT = 1 << 1;
        /// A copy of what it holds can be mapped.
        const MAP_COPY = 1 << 2;
        /// A direct mapping can be read.
        const READ_MAP = 1 << 3;
        /// A direct mapping can be written.
        const WRITE_MAP = 1 << 4;
        /// A direct mapping can be executed.
        const EXEC_MAP = 1 << 5;
    }
}

impl Capabilities {
    /// A direct mapping can do everything.
    pub const ANY_MAP: Self = Self::READ_MAP.union(Self::WRITE_MAP).union(Self::EXEC_MAP);

    /// Returns the rights that a direct mapping can have.
    pub const fn direct_rights(self) -> Rights {
        let mut rights = Rights::empty();
        if self.contains(Self::READ_MAP) {
            rights = rights.union(Rights::READ);
        }
        if self.contains(Self::WRITE_MAP) {
            rights = rights.union(Rights::WRITE);
        }
        if self.contains(Self::EXEC_MAP) {
            rights = rights.union(Rights::EXEC);
        }
        rights
    }
}

bitflags::bitflags! {
    /// What the code behind a backing can be asked.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Operations: u8 {
        /// To be mapped at all. Directories, pipes and most devices cannot.
        const MAP = 1 << 0;
        /// Where it is in memory. Whatever cannot say loses [`Capabilities::MAP_DIRECT`].
        const LOCATE = 1 << 1;
        /// What it holds. Whatever cannot be read loses [`Capabilities::MAP_COPY`].
        const READ = 1 << 2;
    }
}

bitflags::bitflags! {
    /// How a file was opened, and what it, its locks, its seals and its mount say.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FileState: u8 {
        /// It is open for reading.
        const READABLE = 1 << 0;
        /// It is open for writing.
        const WRITABLE = 1 << 1;
        /// It may only grow. This is the file's attribute (`chattr +a`), not the way of opening it.
        const APPEND_ONLY = 1 << 2;
        /// Somebody else holds a mandatory lock on it.
        const LOCKED = 1 << 3;
        /// A seal forbids new ways of writing.
        const SEALED = 1 << 4;
        /// Its file system is mounted so that nothing on it is executed.
        const NO_EXEC = 1 << 5;
    }
}

/// What lies behind a mapping, as far as it bounds the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it can be asked.
    pub operations: Operations,
    /// The file's state; for what is no file, that of one which is open for everything.
    pub state: FileState,
}

impl Backing {
    /// Memory that is there for its own sake: it can do everything, and nothing is ever written back.
    pub const MEMORY: Self = Self {
        capabilities: Capabilities::all(),
        operations: Operations::all(),
        state: FileState::READABLE.union(FileState::WRITABLE),
    };

    /// Device memory: it is where it is, and nobody copies it.
    pub const DEVICE: Self = Self {
        capabilities: Capabilities::ANY_MAP.union(Capabilities::MAP_DIRECT).union(Capabilities::NO_WRITEBACK),
        operations: Operations::MAP.union(Operations::LOCATE),
        state: FileState::READABLE.union(FileState::WRITABLE),
    };

    /// Something that cannot be mapped at all, whose state still has a say in why.
    pub const fn unmappable(state: FileState) -> Self {
        Self { capabilities: Capabilities::empty(), operations: Operations::empty(), state }
    }

    /// Returns what it can do, less what its operations do not carry.
    pub const fn effective(&self) -> Capabilities {
        let mut capabilities = self.capabilities;
        if !self.operations.contains(Operations::LOCATE) {
            capabilities = capabilities.difference(Capabilities::MAP_DIRECT);
        }
        if !self.operations.contains(Operations::READ) {
            capabilities = capabilities.difference(Capabilities::MAP_COPY);
        }
        capabilities
    }
}

/// Whether addresses are translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// Each program has addresses of its own, page by page.
    #[default]
    Translated,
    /// All see the same addresses: what is mapped is where it is, or is copied somewhere.
    Flat,
}

/// What a program's personality makes of its wishes (`personality(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Personality {
    /// Nothing.
    #[default]
    Usual,
    /// What it can read it can execute, where that is possible (`READ_IMPLIES_EXEC`).
    ReadImpliesExec,
}

/// Whether a debugger may change what the program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// None does.
    #[default]
    Untraced,
    /// One may write where the program itself cannot.
    Traced,
}

/// Everything that bounds a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The rights of the capability to the address space.
    pub handle: Rights,
    /// The most that the space, or the region of it, allows anybody.
    pub ceiling: Rights,
    /// The rights of the capability to the object; all of them where there is none.
    pub object: Rights,
    /// What lies behind it; `None` for anonymous memory.
    pub backing: Option<Backing>,
    /// Whether writes are seen by others.
    pub sharing: Sharing,
    /// The access that is asked for, and the MAY bits that are wanted with it.
    pub wanted: VmPerms,
    /// What the program's personality makes of that.
    pub personality: Personality,
    /// Whether the program is traced.
    pub tracing: Tracing,
    /// Whether addresses are translated.
    pub addressing: Addressing,
}

/// How a mapping is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The backing's own memory is shown.
    Direct,
    /// The backing's own memory is shown; a page that is written is copied first.
    CopyOnWrite,
    /// A copy of what the backing holds is shown.
    CopyIn,
    /// Zeros are shown: anonymous memory.
    Zeros,
}

/// Whether several mappings may show one region of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Others that ask for the same may be shown it.
    Shared,
    /// It is the mapping's own.
    Own,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How the mapping is made.
    pub method: Method,
    /// What it allows, and may ever allow.
    pub perms: VmPerms,
    /// Whether others may be shown the same memory. Where addresses are translated this says nothing about frames, which
    /// are shared page by page.
    pub region: Region,
}

/// Why a backing cannot be mapped as asked. The comment on each variant names the errno that a Linux-like edge gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file is not open for reading (`EACCES`).
    NotReadable,
    /// The file is not open for writing (`EACCES`).
    NotWritable,
    /// The file may only grow (`EACCES`).
    AppendOnly,
    /// The file is locked (`EAGAIN`).
    Locked,
    /// A seal forbids to write (`EPERM`).
    Sealed,
    /// Nothing on the file system is executed (`EPERM`).
    NoExec,
    /// It cannot be mapped at all (`ENODEV`).
    NotMappable,
    /// Its memory cannot be mapped, which a shared mapping needs (`ENODEV`).
    NotDirect,
    /// It cannot be copied, which a private mapping needs (`ENODEV`).
    NotCopyable,
    /// A direct mapping of it does not allow that (`EINVAL`).
    BeyondCapabilities,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReadable => "the file is not open for reading",
            Self::NotWritable => "the file is not open for writing",
            Self::AppendOnly => "the file may only grow",
            Self::Locked => "the file is locked",
            Self::Sealed => "the file is sealed against writing",
            Self::NoExec => "the file system forbids execution",
            Self::NotMappable => "a file of this kind cannot be mapped",
            Self::NotDirect => "the memory behind the mapping cannot be shared",
            Self::NotCopyable => "what lies behind the mapping cannot be copied",
            Self::BeyondCapabilities => "what lies behind the mapping does not allow the access",
        })
    }
}
