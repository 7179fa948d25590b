// SPDX-License-Identifier: MPL-2.0

//! What a thread has read and written: the figures of `/proc/PID/io`.
//!
//! The calls `read(2)`, `write(2)` and their relatives count, whatever the file is; those of sockets and memory do not. Nothing
//! is ever brought from or to a disk.

use crate::prelude::*;

/// The figures of a thread, or of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct IoUsage {
    /// Bytes read (`rchar`).
    pub read_bytes: u64,
    /// Bytes written (`wchar`).
    pub written_bytes: u64,
    /// Calls that read (`syscr`).
    pub reads: u64,
    /// Calls that wrote (`syscw`).
    pub writes: u64,
}

impl core::ops::AddAssign for IoUsage {
    fn add_assign(&mut self, other: Self) {
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.reads += other.reads;
        self.writes += other.writes;
    }
}

/// Counts for one thread.
#[derive(Default)]
pub struct IoCounters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl IoCounters {
    /// Counts a call that has read so many bytes, or none.
    pub fn count_read(&self, result: Result<usize>) -> Result<usize> {
        count(&self.reads, &self.read_bytes, &result);
        result
    }

    /// Counts a call that has written so many bytes, or none.
    pub fn count_write(&self, result: Result<usize>) -> Result<usize> {
        count(&self.writes, &self.written_bytes, &result);
        result
    }

    /// Counts a call that has copied so many bytes from one file to another.
    pub fn count_copy(&self, result: Result<usize>) -> Result<usize> {
        self.count_write(self.count_read(result))
    }

    /// The figures so far.
    pub fn usage(&self) -> IoUsage {
        IoUsage {
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }
}

fn count(calls: &AtomicU64, bytes: &AtomicU64, result: &Result<usize>) {
    calls.fetch_add(1, Ordering::Relaxed);
    if let Ok(count) = result {
        bytes.fetch_add(*count as u64, Ordering::Relaxed);
    }
}
