// SPDX-License-Identifier: MPL-2.0

//! Serving system calls.
//!
//! Both architectures have the generic table of numbers, which is where the names come from; what the `syscalls` crate calls AArch64's is
//! that table. What is not served is ENOSYS, which C libraries know how to live with.

mod files;
mod memory;
mod process;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use syscalls::aarch64::Sysno;
use vmar_hosted::{
    GuestSpace,
    abi::{Syscall, errno},
    host::Errno,
};

use crate::isa::Isa;

/// The number that is RISC-V's own: its code is made visible to instruction fetch, which it always is here.
const RISCV_FLUSH_ICACHE: u64 = 259;

/// What comes of a system call.
pub enum Outcome {
    /// A value for the program.
    Return(u64),
    /// The end of the program, with its status.
    Exit(u8),
}

/// What a program has of a kernel.
pub struct Kernel {
    space: GuestSpace,
    isa: Isa,
    files: BTreeMap<i32, Arc<OwnedFd>>,
    path: PathBuf,
}

/// The arguments of a call.
#[derive(Clone, Copy)]
struct Arguments([u64; 6]);

impl Arguments {
    fn addr(self, at: usize) -> usize {
        self.0[at] as usize
    }

    fn int(self, at: usize) -> i32 {
        self.0[at] as i32
    }
}

impl Kernel {
    pub fn new(space: GuestSpace, isa: Isa, path: &Path) -> Self {
        Self { space, isa, files: files::standard(), path: path.to_owned() }
    }

    pub fn space(&self) -> &GuestSpace {
        &self.space
    }

    /// Serves a call.
    pub fn serve(&mut self, number: u64, arguments: [u64; 6]) -> Outcome {
        if self.isa == Isa::Riscv64 && number == RISCV_FLUSH_ICACHE {
            return Outcome::Return(0);
        }
        let call = Sysno::new(number as usize);
        if let Some(Sysno::exit | Sysno::exit_group) = call {
            return Outcome::Exit(arguments[0] as u8);
        }
        let result = match call {
            Some(call) => self.dispatch(call, Arguments(arguments)),
            None => Err(Errno::NOSYS),
        };
        match result {
            Ok(Outcome::Return(value)) => Outcome::Return(value),
            Ok(exit) => exit,
            Err(errno) => Outcome::Return(-i64::from(errno.raw_os_error()) as u64),
        }
    }

    fn dispatch(&mut self, call: Sysno, arguments: Arguments) -> Result<Outcome, Errno> {
        if let Some(result) = self.memory(call, arguments) {
            return result.map(Outcome::Return);
        }
        if let Some(result) = self.file(call, arguments) {
            return result.map(Outcome::Return);
        }
        self.process(call, arguments)
    }

    /// Reads `len` bytes of the program's.
    fn read(&self, addr: usize, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len];
        if len > 0 && self.space.read(addr, &mut bytes).map_err(|error| errno(Syscall::Access, error))? < len
        {
            return Err(Errno::FAULT);
        }
        Ok(bytes)
    }

    /// Writes bytes to the program's memory, all of them.
    fn write(&self, addr: usize, bytes: &[u8]) -> Result<(), Errno> {
        if !bytes.is_empty()
            && self.space.write(addr, bytes).map_err(|error| errno(Syscall::Access, error))? < bytes.len()
        {
            return Err(Errno::FAULT);
        }
        Ok(())
    }

    /// Reads words of 64 bits.
    fn read_words<const COUNT: usize>(&self, addr: usize) -> Result<[u64; COUNT], Errno> {
        let bytes = self.read(addr, COUNT * 8)?;
        let mut words = [0; COUNT];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    /// Writes words of 64 bits.
    fn write_words(&self, addr: usize, words: &[u64]) -> Result<(), Errno> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(addr, &bytes)
    }

    /// Reads a string that ends with a zero.
    fn read_string(&self, addr: usize) -> Result<Vec<u8>, Errno> {
        /// The longest path there is.
        const LONGEST: usize = 4096;
        let mut bytes = vec![0; LONGEST];
        let count = self.space.read(addr, &mut bytes).map_err(|error| errno(Syscall::Access, error))?;
        let end = bytes[..count].iter().position(|byte| *byte == 0);
        bytes.truncate(end.ok_or(if count < LONGEST { Errno::FAULT } else { Errno::NAMETOOLONG })?);
        Ok(bytes)
    }
}
