// SPDX-License-Identifier: MPL-2.0

//! Simulated page tables, and transactions on them that watch who uses them.
//!
//! There is one table for each space, but it is told which nodes of a table of four levels there would be, and which of them a
//! transaction would lock: the lowest that covers its range, and above it the last one that was there already, if nodes
//! had to be made.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

use super::{
    PAGE_SIZE, Sim,
    frame::{SimFrame, SimIoMem},
    record::{self, LockId},
    rules::{self, Transaction},
};
use crate::{
    error::OutOfMemory,
    fallible,
    machine::{AddressSpace, Cursor, Entry, Frame, IoMem, Machine, PageFlags, PageProps},
};

/// A simulated page table.
#[derive(Debug)]
pub struct SimSpace {
    id: u64,
    sim: Sim,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// By the page's address.
    pub(super) entries: BTreeMap<usize, Pte>,
    /// The nodes below the root, by level and number.
    nodes: BTreeSet<(u32, usize)>,
}

/// The level of the root.
const ROOT: u32 = 4;

/// Returns how many bytes a node of `level` covers.
const fn node_span(level: u32) -> usize {
    PAGE_SIZE << (9 * level)
}

impl Table {
    /// Makes the nodes over `addr` down to `level`, and returns at which level there was one already.
    fn make_nodes(&mut self, addr: usize, level: u32) -> u32 {
        let there = (level..ROOT).find(|level| self.nodes.contains(&(*level, addr / node_span(*level))));
        let there = there.unwrap_or(ROOT);
        self.nodes.extend((level..there).map(|level| (level, addr / node_span(level))));
        there
    }

    /// Notes the locks that a transaction over `range` takes.
    fn note_locks(&mut self, space: u64, range: &Range<usize>) {
        let covers = |level: &u32| range.start / node_span(*level) == (range.end - 1) / node_span(*level);
        let level = (1..ROOT).find(covers).unwrap_or(ROOT);
        for level in [level, self.make_nodes(range.start, level)] {
            record::note(LockId::Node { space, level, index: range.start / node_span(level) });
        }
    }
}

#[derive(Debug)]
pub(super) struct Pte {
    pub(super) target: Target,
    pub(super) props: PageProps,
}

#[derive(Debug)]
pub(super) enum Target {
    Page(SimFrame),
    Device { io: SimIoMem, offset: usize },
}

/// What an entry has that was made by a write.
const WRITTEN: PageFlags = PageFlags::ACCESSED.union(PageFlags::DIRTY);

/// An entry as a test sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The page's address, in bytes.
    pub addr: usize,
    /// The frame's number; `None` for device memory.
    pub frame: Option<u64>,
    /// Whether the frame is the frame of zeros.
    pub is_zero_frame: bool,
    /// How many hold the frame.
    pub holders: usize,
    /// Its properties.
    pub props: PageProps,
}

impl SimSpace {
    pub(super) fn new(id: u64, sim: Sim) -> Self {
        sim.count_space(1);
        Self { id, sim, table: Mutex::default() }
    }

    /// Returns a number that tells the space from every other.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all entries in use, ascending.
    pub fn walk(&self) -> Vec<Mapped> {
        let table = self.table();
        let entries = table.entries.iter().map(|(addr, pte)| match &pte.target {
            Target::Page(frame) => Mapped::of_page(*addr, frame, pte.props),
            Target::Device { .. } => {
                Mapped { addr: *addr, frame: None, is_zero_frame: false, holders: 0, props: pte.props }
            }
        });
        entries.collect()
    }
}

impl Mapped {
    pub(super) fn of_page(addr: usize, frame: &SimFrame, props: PageProps) -> Self {
        let (is_zero_frame, holders) = (frame.is_zero_frame(), frame.holders());
        Self { addr, frame: Some(frame.id()), is_zero_frame, holders, props }
    }
}

impl Drop for SimSpace {
    fn drop(&mut self) {
        self.sim.flush_space(self.id);
        self.sim.count_space(-1);
    }
}

impl AddressSpace for SimSpace {
    type Machine = Sim;
    type Cursor<'a> = SimCursor<'a>;

    fn user_range(&self) -> Range<usize> {
        self.sim.0.user_range.clone()
    }

    /// A gigabyte: what a node of the second level covers.
    const ISOLATION: usize = node_span(2);

    fn isolate(&self, range: &Range<usize>) -> Result<(), OutOfMemory> {
        fallible::gate()?;
        let mut table = self.table();
        range.clone().step_by(Self::ISOLATION).for_each(|start| {
            table.make_nodes(start, 2);
        });
        Ok(())
    }

    fn peek(&self, range: &Range<usize>) -> Option<usize> {
        self.table().entries.range(range.clone()).next().map(|(addr, _)| *addr)
    }

    fn detach(&self) -> Result<Self, OutOfMemory> {
        rules::assert_no_cursor("a page table is detached");
        let detached = self.sim.new_space()?;
        mem::swap(&mut *self.table(), &mut *detached.table());
        // The CPUs go over to the new page table one after the other.
        super::yield_now();
        self.sim.flush_space(self.id);
        Ok(detached)
    }

    fn attach(&self, other: Self) {
        rules::assert_no_cursor("a page table is attached");
        assert!(self.table().entries.is_empty(), "rule broken: the page table of {} is not empty", self.id);
        mem::swap(&mut *self.table(), &mut *other.table());
        self.sim.flush_space(self.id);
    }

    fn transact<T>(
        &self,
        range: Range<usize>,
        growth: usize,
        body: impl FnOnce(&mut SimCursor<'_>) -> T,
    ) -> Result<T, OutOfMemory> {
        let user = self.user_range();
        assert!(
            range.start < range.end && range.start >= user.start && range.end <= user.end,
            "rule broken: a transaction over {range:#x?}"
        );
        assert!(is_aligned(range.start) && is_aligned(range.end), "rule broken: {range:#x?} is not aligned");
        if growth > 0 {
            fallible::gate()?;
        }
        super::yield_now();
        let transaction = Transaction::open(self.id);
        let mut table = self.table();
        table.note_locks(self.id, &range);
        let mut cursor = SimCursor {
            space: self,
            table,
            position: range.start,
            range,
            growth,
            removed: Vec::new(),
            taken: Vec::new(),
            stale: Vec::new(),
        };
        let result = body(&mut cursor);
        let SimCursor { table, removed, taken, stale, .. } = cursor;
        self.sim.finish_transaction(self.id, &stale);
        for page in &stale {
            let left = table.entries.get(page).map_or(PageFlags::empty(), |pte| pte.props.flags);
            self.sim.note_in_force(self.id, *page, left);
        }
        drop(table);
        drop(transaction);
        for frame in taken.iter().filter_map(std::sync::Weak::upgrade) {
            frame.set_unflushed(false);
        }
        self.sim.free_late(removed);
        super::yield_now();
        Ok(result)
    }
}

/// A position in a simulated page table.
#[derive(Debug)]
pub struct SimCursor<'a> {
    space: &'a SimSpace,
    table: MutexGuard<'a, Table>,
    range: Range<usize>,
    position: usize,
    growth: usize,
    /// What was unmapped: kept until the flush.
    removed: Vec<SimFrame>,
    /// What was handed out.
    taken: Vec<std::sync::Weak<super::frame::FrameCell>>,
    /// Pages whose translations were removed or narrowed.
    stale: Vec<usize>,
}

impl SimCursor<'_> {
    fn check_here(&self) {
        assert!(
            self.range.contains(&self.position),
            "rule broken: a cursor over {:#x?} works at {:#x}",
            self.range,
            self.position
        );
    }

    fn check_end(&self, end: usize) {
        assert!(
            is_aligned(end) && end >= self.position && end <= self.range.end,
            "rule broken: a cursor over {:#x?} at {:#x} works up to {end:#x}",
            self.range,
            self.position
        );
    }

    fn fill(&mut self, target: Target, props: PageProps) {
        self.check_here();
        assert!(self.growth > 0, "rule broken: a transaction maps more pages than it promised");
        self.growth -= 1;
        check_zero_frame(&target, props.flags);
        assert!(
            !props.flags.contains(PageFlags::PRIVATE) || props.flags.contains(WRITTEN),
            "rule broken: a private page that nobody has written is mapped at {:#x}",
            self.position
        );
        self.table.make_nodes(self.position, 1);
        let old = self.table.entries.insert(self.position, Pte { target, props });
        assert!(old.is_none(), "rule broken: the entry at {:#x} is in use", self.position);
        self.space.sim.note_in_force(self.space.id, self.position, props.flags);
        self.position += PAGE_SIZE;
    }
}

impl Cursor for SimCursor<'_> {
    type Machine = Sim;
    type FrameRef<'a>
        = &'a SimFrame
    where
        Self: 'a;

    fn position(&self) -> usize {
        self.position
    }

    fn seek(&mut self, addr: usize) {
        assert!(
            is_aligned(addr) && self.range.contains(&addr),
            "rule broken: a cursor over {:#x?} moves to {addr:#x}",
            self.range
        );
        self.position = addr;
    }

    fn query(&mut self) -> Entry<&SimFrame> {
        self.check_here();
        match self.table.entries.get(&self.position) {
            None => Entry::Empty,
            Some(Pte { target: Target::Page(frame), props }) => Entry::Page { frame, props: *props },
            Some(Pte { target: Target::Device { .. }, props }) => Entry::Device { props: *props },
        }
    }

    fn next_mapped(&mut self, end: usize) -> Option<usize> {
        self.check_end(end);
        let next = self.table.entries.range(self.position..end).next().map(|(addr, _)| *addr);
        self.position = next.unwrap_or(end);
        next
    }

    fn put(&mut self, frame: SimFrame, props: PageProps) {
        self.fill(Target::Page(frame), props);
    }

    fn map_device(&mut self, io: &SimIoMem, offset: usize, props: PageProps) {
        assert!(
            is_aligned(offset) && offset < io.size(),
            "rule broken: offset {offset:#x} is outside the device memory"
        );
        self.fill(Target::Device { io: io.clone(), offset }, props);
    }

    fn unmap(&mut self, end: usize) -> usize {
        self.check_end(end);
        let mut count = 0;
        while let Some((addr, _)) = self.table.entries.range(self.position..end).next() {
            let addr = *addr;
            if let Some(pte) = self.table.entries.remove(&addr) {
                if let Target::Page(frame) = pte.target {
                    self.removed.push(frame);
                }
                self.stale.push(addr);
                count += 1;
            }
        }
        self.position = end;
        count
    }

    fn take(&mut self) -> Option<(SimFrame, PageProps)> {
        self.check_here();
        let Some(Pte { target: Target::Page(frame), props }) = self.table.entries.get(&self.position) else {
            return None;
        };
        let taken = (frame.clone(), *props);
        self.table.entries.remove(&self.position);
        self.stale.push(self.position);
        if !taken.0.is_zero_frame() {
            taken.0.cell().set_unflushed(true);
            self.taken.push(std::sync::Arc::downgrade(taken.0.cell()));
        }
        Some(taken)
    }

    fn narrow(&mut self, end: usize, lost: PageFlags) {
        self.check_end(end);
        for (addr, pte) in self.table.entries.range_mut(self.position..end) {
            if pte.props.flags.intersects(lost) {
                self.stale.push(*addr);
            }
            pte.props.flags.remove(lost);
            self.space.sim.note_in_force(self.space.id, *addr, pte.props.flags);
        }
        self.position = end;
    }

    fn widen(&mut self, end: usize, gained: PageFlags) {
        self.check_end(end);
        for (addr, pte) in self.table.entries.range_mut(self.position..end) {
            let news = gained - pte.props.flags;
            if let Target::Page(frame) = &pte.target {
                assert!(
                    !news.contains(PageFlags::EXEC) || frame.is_synced(),
                    "rule broken: what was written can be executed at {addr:#x}, and may not be seen"
                );
            }
            pte.props.flags.insert(gained);
            self.space.sim.note_in_force(self.space.id, *addr, pte.props.flags);
            check_zero_frame(&pte.target, pte.props.flags);
        }
        self.position = end;
    }
}

fn check_zero_frame(target: &Target, flags: PageFlags) {
    if let Target::Page(frame) = target {
        assert!(
            !(frame.is_zero_frame() && flags.contains(PageFlags::WRITE)),
            "rule broken: the frame of zeros is mapped writable"
        );
    }
}

fn is_aligned(addr: usize) -> bool {
    addr.is_multiple_of(PAGE_SIZE)
}
