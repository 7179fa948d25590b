// SPDX-License-Identifier: MPL-2.0

//! What programs have in their memory, read and written on their behalf.
//!
//! A program on a machine that translates no addresses reads and writes without anybody's help, and nothing stops it. These
//! are for its kernel, which is asked to, and for its debugger.

use vmar::{backing::Tracing, error::Error, mapping::Sharing, perms::VmPerms};

use crate::{
    Flat, Memory,
    program::{Mapping, Place, Program},
};

impl<M: Memory> Flat<M> {
    /// Reads what `program` has at `addr` (bytes) on, all within one mapping.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if the range is not within one mapping.
    /// - [`Error::AccessDenied`] if that was made for no access.
    /// - The file's own, of a mapping of the file's own memory; [`Error::BusError`] behind its end.
    pub fn read(&self, program: &Program, addr: usize, buf: &mut [u8]) -> Result<(), Error> {
        let mapping = within(program, addr, buf.len(), |mapping| !mapping.perms.access().is_empty())?;
        match &mapping.place {
            Place::Copied => {
                self.memory.read(addr, buf);
                Ok(())
            }
            Place::Direct { file, offset } => {
                match file.read_at(offset + (addr - mapping.range.start), buf)? {
                    count if count < buf.len() => Err(Error::BusError),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Writes `bytes` to what `program` has at `addr` (bytes) on, all within one mapping.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`Error::AccessDenied`] if the mapping was not made to be written.
    pub fn write(&mut self, program: &Program, addr: usize, bytes: &[u8]) -> Result<(), Error> {
        let mapping = within(program, addr, bytes.len(), |mapping| mapping.perms.contains(VmPerms::WRITE))?;
        match &mapping.place {
            Place::Copied => {
                self.put(mapping, addr, bytes);
                Ok(())
            }
            Place::Direct { file, offset } => {
                match file.write_at(offset + (addr - mapping.range.start), bytes)? {
                    count if count < bytes.len() => Err(Error::BusError),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Says whether `program` is traced from now on.
    ///
    /// A debugger may write what its program cannot, so what the program has mapped privately and alone is not shown to others
    /// from now on, and what it maps is its own. What others are shown already [cannot be written](Self::poke).
    pub fn set_tracing(&mut self, program: &mut Program, tracing: Tracing) {
        program.tracing = tracing;
        if tracing == Tracing::Untraced {
            return;
        }
        for mapping in &mut program.mappings {
            let Place::Copied = mapping.place else { continue };
            if let Some((_, region)) = self.regions.find_mut(mapping.range.start)
                && region.users == 1
            {
                region.key = None;
                mapping.perms |= VmPerms::MAY_WRITE;
            }
        }
    }

    /// Writes as a debugger does: to private mappings, whether their program may write there or not.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`Error::AccessDenied`] if others see the memory, or the mapping is shared.
    pub fn poke(&mut self, program: &Program, addr: usize, bytes: &[u8]) -> Result<(), Error> {
        let is_own = |mapping: &Mapping| mapping.sharing == Sharing::Private && self.is_own(mapping);
        let mapping = within(program, addr, bytes.len(), is_own)?;
        self.put(mapping, addr, bytes);
        Ok(())
    }

    fn put(&mut self, mapping: &Mapping, addr: usize, bytes: &[u8]) {
        self.memory.write(addr, bytes);
        if mapping.perms.contains(VmPerms::EXEC) {
            self.memory.sync_instructions(addr..addr + bytes.len());
        }
    }
}

/// Returns a mapping that has all of the range, and allows the access.
fn within(
    program: &Program,
    addr: usize,
    len: usize,
    allows: impl Fn(&Mapping) -> bool,
) -> Result<&Mapping, Error> {
    let range = addr..addr.checked_add(len).ok_or(Error::NotMapped)?;
    let mut found = program.around(range).peekable();
    let refusal = if found.peek().is_some() { Error::AccessDenied } else { Error::NotMapped };
    found.find(|mapping| allows(mapping)).ok_or(refusal)
}
