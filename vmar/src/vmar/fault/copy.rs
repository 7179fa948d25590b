// SPDX-License-Identifier: MPL-2.0

//! Copies of an object's pages, several at once, where all of them will be written.
//!
//! A program that can be anywhere begins by writing addresses all over its data, page after page. That is known before the
//! first fault, and the mapping says so ([`MappingFlags::WRITE_AROUND`]): the fault copies a block at once, be it a read or a
//! write, and spares the others.

use alloc::sync::Arc;

use super::{Fault, FaultError};
use crate::{
    machine::{AddressSpace, Blank, Cursor, Entry, Machine, PageFlags, PageProps},
    mapping::MappingFlags,
    object::Vmo_,
};

/// How many pages, the faulting one included, are copied at once.
const BLOCK: usize = 16;

impl<M: Machine> Fault<'_, M> {
    /// Maps copies of the object's page `index` and of its neighbours in memory, if the mapping is one of those that will be
    /// written. Returns whether it did: not so where the page may be there, or is not in memory.
    pub(super) fn copy_around(&self, object: &Arc<Vmo_<M>>, index: usize) -> Result<bool, FaultError> {
        let is_written = self.mapping.flags().contains(MappingFlags::WRITE_AROUND)
            && self.allowed.contains(PageFlags::WRITE)
            && !self.mapping.is_shared();
        if !is_written || self.may_be_resident() {
            return Ok(false);
        }
        let block = self.block(BLOCK);
        let own = (self.page - block.start) / M::PAGE_SIZE;
        let base = index - own;
        let mut frames = [const { None }; BLOCK];
        object.look_around(index, base..base + block.len() / M::PAGE_SIZE, |index, frame| {
            frames[index - base] = Some(frame.clone());
        });
        let Some(source) = frames[own].take() else { return Ok(false) };
        frames[own] = Some(self.space.machine.alloc()?.copy_of(&source));
        let mut growth = 1;
        let mut span = self.one();
        for (addr, frame) in block.clone().step_by(M::PAGE_SIZE).zip(&mut frames) {
            if addr == self.page {
                continue;
            }
            // What cannot be copied now is left to its own fault.
            let source = frame.take().filter(|_| !self.space.space.may_be_mapped(addr));
            let blank = source.and_then(|source| Some((self.space.machine.alloc().ok()?, source)));
            if let Some((blank, source)) = blank {
                *frame = Some(blank.copy_of(&source));
                growth += 1;
                span = span.start.min(addr)..span.end.max(addr + M::PAGE_SIZE);
            }
        }
        let flags = self.written() | PageFlags::PRIVATE;
        self.mapping.note_entries(&span, flags);
        let mut added = 0;
        self.space.space.transact(span, growth, |cursor| {
            for (addr, frame) in block.step_by(M::PAGE_SIZE).zip(&mut frames) {
                if frame.is_none() {
                    continue;
                }
                if cursor.position() != addr {
                    cursor.seek(addr);
                }
                if matches!(cursor.query(), Entry::Empty)
                    && let Some(frame) = frame.take()
                {
                    cursor.map(frame, PageProps::new(flags));
                    added += 1;
                }
            }
        })?;
        self.space.rss.add(self.mapping.kind_of(flags), added);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
