// SPDX-License-Identifier: MPL-2.0

//! A simulated program: it accesses memory on a CPU, and its faults are served.

use std::{vec, vec::Vec};

use super::{Cpu, PAGE_SIZE, PageFault, Sim};
use crate::{
    error::Error,
    limits::Limits,
    machine::PageFlags,
    vmar::{
        FullVmar,
        fault::{Access, FaultError},
    },
};

/// A program, its memory and the CPU it runs on.
#[derive(Debug)]
pub struct Process {
    /// Its memory.
    pub vmar: FullVmar<Sim>,
    cpu: Cpu,
}

impl Process {
    /// Starts a program with no memory, on CPU `cpu`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new(sim: &Sim, cpu: usize) -> Result<Self, Error> {
        Ok(Self { vmar: FullVmar::new(sim.clone(), Limits::new())?, cpu: sim.cpu(cpu) })
    }

    /// Returns a second thread of it, on CPU `cpu`.
    pub fn thread_on(&self, cpu: usize) -> Self {
        Self { vmar: self.vmar.dup(), cpu: self.cpu.sim.cpu(cpu) }
    }

    /// Forks it; the child runs on CPU `cpu`.
    ///
    /// # Errors
    ///
    /// Those of [`Vmar::fork`](crate::vmar::Vmar::fork).
    pub fn fork_on(&self, cpu: usize) -> Result<Self, Error> {
        Ok(Self { vmar: self.vmar.fork()?, cpu: self.cpu.sim.cpu(cpu) })
    }

    /// Returns the CPU that it runs on.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// Reads `len` bytes at `addr`.
    ///
    /// # Errors
    ///
    /// Those of the fault that could not be served.
    pub fn read(&self, addr: usize, len: usize) -> Result<Vec<u8>, FaultError> {
        let mut bytes = vec![0; len];
        for (addr, range) in pieces(addr, len) {
            let buf = &mut bytes[range];
            self.retry(|| self.cpu.load(self.vmar.space(), addr, buf))?;
        }
        Ok(bytes)
    }

    /// Reads the byte at `addr`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_byte(&self, addr: usize) -> Result<u8, FaultError> {
        Ok(self.read(addr, 1)?[0])
    }

    /// Writes `bytes` at `addr`; those of the pages before one that faults are written.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn write(&self, addr: usize, bytes: &[u8]) -> Result<(), FaultError> {
        for (addr, range) in pieces(addr, bytes.len()) {
            self.retry(|| self.cpu.store(self.vmar.space(), addr, &bytes[range.clone()]))?;
        }
        Ok(())
    }

    /// Fetches the instruction byte at `addr`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn fetch_byte(&self, addr: usize) -> Result<u8, FaultError> {
        let mut byte = [0];
        self.retry(|| self.cpu.fetch(self.vmar.space(), addr, &mut byte))?;
        Ok(byte[0])
    }

    fn retry(&self, mut access: impl FnMut() -> Result<(), PageFault>) -> Result<(), FaultError> {
        // Faults that are served and come back for ever would be a defect of their own.
        for _ in 0..1000 {
            let Err(fault) = access() else { return Ok(()) };
            let access = match fault.access {
                PageFlags::WRITE => Access::Write,
                PageFlags::EXEC => Access::Exec,
                _ => Access::Read,
            };
            self.vmar.handle_page_fault(fault.addr, access)?;
        }
        panic!("a fault that is served comes back for ever");
    }
}

/// Cuts a range of bytes at page boundaries: addresses, and where they lie in the range.
fn pieces(addr: usize, len: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = addr + done;
        let start = done;
        done = len.min(start + PAGE_SIZE - at % PAGE_SIZE);
        (start < len).then_some((at, start..done))
    })
}
