// SPDX-License-Identifier: MPL-2.0

//! Where an object's pages come from when memory does not hold them.

use core::{fmt::Debug, ops::Range};

use crate::{error::Error, machine::Machine};

/// Something that can fill an object's pages: a file system, a device, another program.
///
/// A pager may be slow: it is always called without any lock that a fault on another page would need. Two callers may
/// ask for the same page at once; one of the answers is used.
pub trait Pager<M: Machine>: Debug + Send + Sync {
    /// Fills `frame`, which holds zeros, with the object's page `index`.
    ///
    /// # Errors
    ///
    /// Any error; a fault turns all but [`Error::OutOfMemory`] into a bus error.
    fn read_page(&self, index: usize, frame: &M::Frame) -> Result<(), Error>;

    /// Notes that page `index` is about to be written, or may be from now on through a mapping.
    ///
    /// May be called with the lock of an address space held: it must not wait for a fault. What is written otherwise than
    /// through a mapping is noted before and after.
    fn note_write(&self, index: usize) {
        let _ = index;
    }

    /// Notes that pages whose indices lie in `range` have left memory: they will be asked for again.
    ///
    /// May be called with the lock of an address space held: it must not wait for a fault.
    fn freed(&self, range: Range<usize>) {
        let _ = range;
    }
}
