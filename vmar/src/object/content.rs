// SPDX-License-Identifier: MPL-2.0

//! Reading and writing an object's bytes.

use core::ops::Range;

use super::{
    source::Purpose,
    vmo::{Lookup, Vmo_},
};
use crate::{
    error::Error,
    machine::{Frame, Machine, SleepLock},
};

impl<M: Machine> Vmo_<M> {
    /// Reads up to the object's end; see [`Vmo::read_bytes`](super::Vmo::read_bytes).
    pub(crate) fn read_bytes(&self, offset: usize, buf: &mut [u8]) -> Result<usize, Error> {
        let len = self.clamp(offset, buf.len());
        let buf = &mut buf[..len];
        self.each_page(offset, len, |index, within, done| {
            let target = &mut buf[done..done + within.len()];
            match self.lookup(index) {
                Lookup::Resident(frame) => frame.read(within.start, target),
                // A hole reads as zeros and stays one.
                Lookup::Absent => target.fill(0),
                Lookup::Paged | Lookup::PastEnd => {
                    self.commit(index, Purpose::Read)?.read(within.start, target)
                }
            }
            Ok(())
        })
    }

    /// Writes up to the object's end; see [`Vmo::write_bytes`](super::Vmo::write_bytes).
    pub(crate) fn write_bytes(&self, offset: usize, buf: &[u8]) -> Result<usize, Error> {
        let len = self.clamp(offset, buf.len());
        self.each_page(offset, len, |index, within, done| {
            let bytes = &buf[done..done + within.len()];
            self.note_write(index);
            while !self.try_write(index, within.start, bytes) {
                self.commit(index, Purpose::Write)?;
            }
            // Whoever writes pages back may have taken this one for clean in between.
            self.note_write(index);
            Ok(())
        })
    }

    /// Writes within a page if it is there to be written. A snapshot has what is written before it, and nothing of what comes after.
    fn try_write(&self, index: usize, within: usize, bytes: &[u8]) -> bool {
        let _no_snapshot = self.resizing.read();
        match self.look(index, Purpose::Write) {
            Lookup::Resident(frame) => frame.write(within, bytes),
            _ => return false,
        }
        true
    }

    /// Returns how many of `len` bytes from `offset` on lie within the object.
    fn clamp(&self, offset: usize, len: usize) -> usize {
        len.min(self.size().saturating_sub(offset))
    }

    /// Calls `body` with the index of each page of the range, the bytes of it (within the page), and how many bytes
    /// came before; returns how many bytes were done.
    fn each_page(
        &self,
        offset: usize,
        len: usize,
        mut body: impl FnMut(usize, Range<usize>, usize) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let start = at % M::PAGE_SIZE;
            let end = M::PAGE_SIZE.min(start + len - done);
            match body(at / M::PAGE_SIZE, start..end, done) {
                Ok(()) => done += end - start,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}
