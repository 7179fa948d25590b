// SPDX-License-Identifier: MPL-2.0

//! Simulated CPUs: each reaches memory through a TLB of its own that forgets nothing by itself.
//!
//! As on x86-64, an access that a TLB entry refuses drops that entry, walks the page table once more, and only then
//! faults; and an entry that was filled by a read asks the page table again at the first write, to set the dirty bit.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    vec::Vec,
};

use super::{
    PAGE_SIZE, Sim,
    frame::{FrameCell, SimIoMem},
    space::{Pte, SimSpace, Target},
};
use crate::machine::PageFlags;

/// A fault, as the hardware reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that was accessed, in bytes.
    pub addr: usize,
    /// What it was accessed for: one of the access bits.
    pub access: PageFlags,
}

/// What one CPU remembers of page tables.
#[derive(Debug, Default)]
pub(super) struct Tlb(Mutex<HashMap<(u64, usize), TlbEntry>>);

#[derive(Debug)]
struct TlbEntry {
    target: TlbTarget,
    flags: PageFlags,
}

#[derive(Debug)]
enum TlbTarget {
    Page(Weak<FrameCell>),
    Device { io: SimIoMem, offset: usize },
}

impl TlbEntry {
    fn new(pte: &Pte) -> Self {
        let target = match &pte.target {
            Target::Page(frame) => {
                frame.cell().enter_tlb();
                TlbTarget::Page(std::sync::Arc::downgrade(frame.cell()))
            }
            Target::Device { io, offset } => TlbTarget::Device { io: io.clone(), offset: *offset },
        };
        Self { target, flags: pte.props.flags }
    }

    fn access(&self, offset: usize, data: Data<'_>) {
        match &self.target {
            TlbTarget::Page(frame) => {
                let frame = frame.upgrade().expect("rule broken: a TLB leads to a freed frame");
                match data {
                    Data::In(buf) => frame.read(offset, buf),
                    Data::Out(buf) => frame.write(offset, buf),
                }
            }
            TlbTarget::Device { io, offset: base } => match data {
                Data::In(buf) => io.read(base + offset, buf),
                Data::Out(buf) => io.write(base + offset, buf),
            },
        }
    }
}

impl Drop for TlbEntry {
    fn drop(&mut self) {
        if let TlbTarget::Page(frame) = &self.target
            && let Some(frame) = frame.upgrade()
        {
            frame.leave_tlb();
        }
    }
}

enum Data<'a> {
    In(&'a mut [u8]),
    Out(&'a [u8]),
}

impl Tlb {
    fn entries(&self) -> MutexGuard<'_, HashMap<(u64, usize), TlbEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn flush_pages(&self, space: u64, pages: &[usize]) {
        let mut entries = self.entries();
        for page in pages {
            entries.remove(&(space, *page));
        }
    }

    /// Returns what is remembered of a page.
    pub(super) fn flags_of(&self, space: u64, page: usize) -> PageFlags {
        self.entries().get(&(space, page)).map_or(PageFlags::empty(), |entry| entry.flags)
    }

    pub(super) fn flush_space(&self, space: u64) {
        self.entries().retain(|(owner, _), _| *owner != space);
    }
}

/// A simulated CPU.
#[derive(Clone, Debug)]
pub struct Cpu {
    pub(super) sim: Sim,
    pub(super) number: usize,
}

impl Cpu {
    /// Reads from the program's memory at `addr` on; the range must not leave its page.
    ///
    /// # Errors
    ///
    /// The fault; nothing has been read then.
    pub fn load(&self, space: &SimSpace, addr: usize, buf: &mut [u8]) -> Result<(), PageFault> {
        self.access(space, addr, PageFlags::READ, Data::In(buf))
    }

    /// Writes to the program's memory at `addr` on; the range must not leave its page.
    ///
    /// # Errors
    ///
    /// The fault; nothing has been written then.
    pub fn store(&self, space: &SimSpace, addr: usize, buf: &[u8]) -> Result<(), PageFault> {
        self.access(space, addr, PageFlags::WRITE, Data::Out(buf))
    }

    /// Fetches an instruction (bytes) at `addr`; the range must not leave its page.
    ///
    /// # Errors
    ///
    /// The fault; nothing has been read then.
    pub fn fetch(&self, space: &SimSpace, addr: usize, buf: &mut [u8]) -> Result<(), PageFault> {
        self.access(space, addr, PageFlags::EXEC, Data::In(buf))
    }

    fn access(
        &self,
        space: &SimSpace,
        addr: usize,
        access: PageFlags,
        data: Data<'_>,
    ) -> Result<(), PageFault> {
        super::yield_now();
        super::set_current_cpu(self.number);
        let page = addr / PAGE_SIZE * PAGE_SIZE;
        let key = (space.id(), page);
        let tlb = self.sim.tlb(self.number);
        {
            let mut entries = tlb.entries();
            if let Some(entry) = entries.get(&key) {
                let is_clean_write = access == PageFlags::WRITE && !entry.flags.contains(PageFlags::DIRTY);
                if entry.flags.contains(access) && !is_clean_write {
                    entry.access(addr - page, data);
                    return Ok(());
                }
                entries.remove(&key);
            }
        }
        // Order of locks: the page table, then a TLB, as in a flush.
        let mut table = space.table();
        let Some(pte) = table.entries.get_mut(&page).filter(|pte| pte.props.flags.contains(access)) else {
            return Err(PageFault { addr, access });
        };
        pte.props.flags |= PageFlags::ACCESSED;
        if access == PageFlags::WRITE {
            pte.props.flags |= PageFlags::DIRTY;
        }
        let entry = TlbEntry::new(pte);
        entry.access(addr - page, data);
        let flags = entry.flags;
        tlb.entries().insert(key, entry);
        self.sim.note_in_force(space.id(), page, flags);
        Ok(())
    }

    /// Returns the pages (addresses, ascending) of `space` that its TLB knows, for tests.
    pub fn tlb_pages(&self, space: &SimSpace) -> Vec<usize> {
        let mut pages: Vec<_> = self
            .sim
            .tlb(self.number)
            .entries()
            .keys()
            .filter(|(owner, _)| *owner == space.id())
            .map(|(_, page)| *page)
            .collect();
        pages.sort_unstable();
        pages
    }
}
