// SPDX-License-Identifier: MPL-2.0

//! Byte streams between a caller and a file: where bytes come from and where they go.
//!
//! A read fills a [`Sink`], a write drains a [`Source`]. Both are lists of memory segments (one for `read`, many for
//! `readv`) over OSTD's fallible readers and writers, so bytes move straight between user memory and the frames of a
//! file, and the kernel's own buffers look the same as a user's.
//!
//! Invariant: a transfer that meets a bad address after some bytes reports those bytes; only a transfer that moved nothing
//! fails with EFAULT. A short count with room left therefore means that the next attempt will fail.
//! Nothing here may be called with a spin lock held: touching user memory can sleep in the fault handler.

use ostd::mm::{FallibleVmRead, FallibleVmWrite, Infallible, VmReader, VmWriter};

use crate::prelude::*;

/// Where the bytes of a write come from.
pub struct Source<'a> {
    current: VmReader<'a>,
    rest: alloc::vec::IntoIter<VmReader<'a>>,
    remain: usize,
}

impl<'a> Source<'a> {
    /// A source of one segment.
    pub fn new(reader: VmReader<'a>) -> Self {
        let remain = reader.remain();
        Self { current: reader, rest: Vec::new().into_iter(), remain }
    }

    /// A source of many segments, drained in order.
    pub fn from_segments(segments: Vec<VmReader<'a>>) -> Self {
        let remain = segments.iter().map(VmReader::remain).sum();
        Self { current: VmReader::from(&[][..]).to_fallible(), rest: segments.into_iter(), remain }
    }

    /// A source over the kernel's own bytes.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self::new(VmReader::from(bytes).to_fallible())
    }

    /// The number of bytes left.
    pub fn remain(&self) -> usize {
        self.remain
    }

    /// Copies bytes into `writer` until it is full or the source is empty, and returns how many.
    ///
    /// # Errors
    ///
    /// EFAULT if the first byte cannot be read.
    pub fn read_to(&mut self, writer: &mut VmWriter<'_, Infallible>) -> Result<usize> {
        let mut total = 0;
        while writer.has_avail() && self.advance() {
            let (copied, fault) = match self.current.read_fallible(writer) {
                Ok(copied) => (copied, false),
                Err((_, copied)) => (copied, true),
            };
            self.remain -= copied;
            total += copied;
            if fault {
                return if total > 0 { Ok(total) } else { Err(EFAULT) };
            }
        }
        Ok(total)
    }

    /// Copies bytes into `buf` until it is full or the source is empty, and returns how many.
    ///
    /// # Errors
    ///
    /// EFAULT if the first byte cannot be read.
    pub fn read_bytes(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.read_to(&mut VmWriter::from(buf))
    }

    /// Copies all that is left, at most `limit` bytes, into a new buffer.
    ///
    /// # Errors
    ///
    /// ENOMEM without memory; EFAULT if any byte of it cannot be read.
    pub fn read_all(&mut self, limit: usize) -> Result<Vec<u8>> {
        let len = self.remain.min(limit);
        let mut buf = try_filled(0, len)?;
        if self.read_bytes(&mut buf)? < len {
            return Err(EFAULT);
        }
        Ok(buf)
    }

    /// Looks at the first byte that is left, without taking it.
    ///
    /// # Errors
    ///
    /// EFAULT if it cannot be read.
    pub fn check_first(&mut self) -> Result<()> {
        if !self.advance() {
            return Ok(());
        }
        let mut first = self.current.clone();
        let mut byte = [0];
        first.read_fallible(&mut VmWriter::from(&mut byte[..])).map(drop).map_err(|_| EFAULT)
    }

    /// Splits off a source of the next `limit` bytes at most, which this one then no longer has.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn take(&mut self, limit: usize) -> Result<Source<'a>> {
        let mut left = limit.min(self.remain);
        // This one, and those that follow.
        let mut segments = try_with_capacity(1 + self.rest.len())?;
        while left > 0 && self.advance() {
            let mut part = self.current.clone();
            part.limit(left);
            self.current.skip(part.remain());
            self.remain -= part.remain();
            left -= part.remain();
            segments.push(part);
        }
        Ok(Source::from_segments(segments))
    }

    /// Moves on to the next segment with bytes in it. Returns `false` at the end.
    fn advance(&mut self) -> bool {
        while !self.current.has_remain() {
            match self.rest.next() {
                Some(next) => self.current = next,
                None => return false,
            }
        }
        true
    }
}

/// Where the bytes of a read go.
pub struct Sink<'a> {
    current: VmWriter<'a>,
    rest: alloc::vec::IntoIter<VmWriter<'a>>,
    avail: usize,
}

impl<'a> Sink<'a> {
    /// A sink of one segment.
    pub fn new(writer: VmWriter<'a>) -> Self {
        let avail = writer.avail();
        Self { current: writer, rest: Vec::new().into_iter(), avail }
    }

    /// A sink of many segments, filled in order.
    pub fn from_segments(segments: Vec<VmWriter<'a>>) -> Self {
        let avail = segments.iter().map(VmWriter::avail).sum();
        Self { current: VmWriter::from(&mut [][..]).to_fallible(), rest: segments.into_iter(), avail }
    }

    /// A sink over the kernel's own bytes.
    pub fn from_bytes(bytes: &'a mut [u8]) -> Self {
        Self::new(VmWriter::from(bytes).to_fallible())
    }

    /// The number of bytes there is room for.
    pub fn avail(&self) -> usize {
        self.avail
    }

    /// Copies bytes out of `reader` until it is empty or the sink is full, and returns how many.
    ///
    /// # Errors
    ///
    /// EFAULT if the first byte cannot be written.
    pub fn write_from(&mut self, reader: &mut VmReader<'_, Infallible>) -> Result<usize> {
        let mut total = 0;
        while reader.has_remain() && self.advance() {
            let (copied, fault) = match self.current.write_fallible(reader) {
                Ok(copied) => (copied, false),
                Err((_, copied)) => (copied, true),
            };
            self.avail -= copied;
            total += copied;
            if fault {
                return if total > 0 { Ok(total) } else { Err(EFAULT) };
            }
        }
        Ok(total)
    }

    /// Copies `bytes` until they end or the sink is full, and returns how many.
    ///
    /// # Errors
    ///
    /// EFAULT if the first byte cannot be written.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<usize> {
        self.write_from(&mut VmReader::from(bytes))
    }

    /// Writes up to `len` zeros, and returns how many.
    ///
    /// # Errors
    ///
    /// EFAULT if the first byte cannot be written.
    pub fn fill_zeros(&mut self, len: usize) -> Result<usize> {
        let mut total = 0;
        while total < len && self.advance() {
            let step = (len - total).min(self.current.avail());
            let (filled, fault) = match self.current.fill_zeros(step) {
                Ok(filled) => (filled, false),
                Err((_, filled)) => (filled, true),
            };
            self.avail -= filled;
            total += filled;
            if fault {
                return if total > 0 { Ok(total) } else { Err(EFAULT) };
            }
        }
        Ok(total)
    }

    /// Moves on to the next segment with room in it. Returns `false` at the end.
    fn advance(&mut self) -> bool {
        while !self.current.has_avail() {
            match self.rest.next() {
                Some(next) => self.current = next,
                None => return false,
            }
        }
        true
    }
}
