// SPDX-License-Identifier: MPL-2.0

//! Why a call was refused. Only the [edge](crate::abi) turns this into a number.

use std::fmt;

use vmar::{error, fallible::OutOfMemory};

use crate::host::Errno;

/// Why a call was refused. A call that is refused has changed nothing, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// For a reason that any space has.
    Space(error::Error),
    /// The protection has a bit that the guest's processor does not know.
    UnknownProtection,
    /// The range is that of several mappings, or part of one and of nothing.
    NotOneMapping,
    /// Part of a host page would have to show shared memory, and another part something else.
    SharedHostPage,
    /// Writes are to be shared, and the file's offset and the address lie differently in a host page.
    OffsetOffHostPage,
    /// Nothing is attached there.
    NotAttached,
    /// The host refused.
    Host(Errno),
    /// The host refused, and refused to take back what had been done until then: the space is not what it should be, and every
    /// later call fails like this.
    Broken,
}

impl From<error::Error> for Error {
    fn from(error: error::Error) -> Self {
        Self::Space(error)
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::Space(error::Error::OutOfMemory)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Host(errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Space(error) => error.fmt(f),
            Self::UnknownProtection => f.write_str("the processor does not know a bit of the protection"),
            Self::NotOneMapping => f.write_str("the range is not within one mapping"),
            Self::SharedHostPage => f.write_str("part of a host page cannot be shared"),
            Self::OffsetOffHostPage => f.write_str("offset and address lie differently in a host page"),
            Self::NotAttached => f.write_str("nothing is attached there"),
            Self::Host(errno) => write!(f, "the host refused: {errno}"),
            Self::Broken => f.write_str("the space is broken: the host did not take back what it had done"),
        }
    }
}

impl std::error::Error for Error {}
