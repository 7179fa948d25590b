// SPDX-License-Identifier: MPL-2.0

//! The framework's errors as errno: the one place where they meet.
//!
//! Where a call's man page wants another number for one of them, that call says so itself.

use vmar::{
    backing::Refusal,
    error::{Error, OutOfMemory},
    vmar::fault::FaultError,
};

use crate::prelude::*;

impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory
            | Error::NoRoom
            | Error::LimitExceeded(_)
            | Error::NotMapped
            | Error::OutOfRange => ENOMEM,
            Error::InvalidSize
            | Error::InvalidAlignment
            | Error::InvalidOffset
            | Error::InvalidOptions
            | Error::NotSupported => EINVAL,
            Error::AccessDenied => EACCES,
            Error::Refused(refusal) => refusal.into(),
            Error::Occupied => EEXIST,
            Error::NotPermitted | Error::Sealed => EPERM,
            Error::ReserveExhausted => ENOMEM,
            Error::NoSpace => ENOSPC,
            Error::BusError | Error::Destroyed => EFAULT,
            Error::Interrupted => EINTR,
        }
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotReadable | Refusal::NotWritable | Refusal::AppendOnly => EACCES,
            Refusal::Locked => EAGAIN,
            Refusal::Sealed | Refusal::NoExec => EPERM,
            Refusal::NotMappable | Refusal::NotDirect | Refusal::NotCopyable => ENODEV,
            Refusal::BeyondCapabilities => EINVAL,
        }
    }
}

impl From<OutOfMemory> for Errno {
    fn from(_: OutOfMemory) -> Self {
        ENOMEM
    }
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::OutOfMemory | FaultError::ReserveExhausted => ENOMEM,
            _ => EFAULT,
        }
    }
}
