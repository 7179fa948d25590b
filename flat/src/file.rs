// SPDX-License-Identifier: MPL-2.0

//! What can be mapped beside memory that is nobody's.

use core::fmt::Debug;

use vmar::{backing::Backing, error::Error};

/// An open file, as far as mapping it goes: in a ROM file system, in memory, on a card, or a device.
pub trait File: Debug + Send + Sync {
    /// Returns a number that tells the file from every other: two openings of one file have the same.
    fn id(&self) -> u64;

    /// Returns what can be done with it, by its nature and by the way it was opened.
    fn backing(&self) -> Backing;

    /// Reads from `offset` (bytes) on into `buf`, and returns how many bytes that was: fewer only at its end.
    ///
    /// # Errors
    ///
    /// The file's own.
    fn read_at(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error>;

    /// Writes to `offset` (bytes) on what a program writes to a shared mapping of it, and returns how many bytes that was.
    ///
    /// # Errors
    ///
    /// The file's own; [`Error::NotSupported`] if it is never mapped to be written.
    fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<usize, Error> {
        let _ = (offset, bytes);
        Err(Error::NotSupported)
    }

    /// Returns the address that `len` bytes from `offset` on have in memory, from now on until the file is closed; `None` if
    /// it declines, because just these are not in one piece, say.
    ///
    /// # Errors
    ///
    /// The file's own: then the mapping fails, and nothing else is tried.
    fn locate(&self, offset: usize, len: usize) -> Result<Option<usize>, Error> {
        let _ = (offset, len);
        Ok(None)
    }
}
