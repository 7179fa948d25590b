// SPDX-License-Identifier: MPL-2.0

//! Address spaces: OSTD's `VmSpace` behind the framework's transactions.
//!
//! A transaction is one cursor with preemption disabled. What the cursor unmaps is flushed as OSTD's `unmap` asks; what
//! it narrows is collected into one flush. Both are waited for before the transaction returns, so a caller never sees a
//! stale translation of what it took away.

use alloc::sync::Arc;
use core::{
    ops::Range,
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
        fence,
    },
};

use ostd::{
    cpu::PinCurrentCpu,
    cpu_local,
    mm::{Fallible, MAX_USERSPACE_VADDR, PAGE_SIZE, Vaddr, VmReader, VmSpace, VmWriter},
    task::disable_preempt,
};
use spin::Once;
use vmar::{
    error::OutOfMemory,
    fallible,
    machine::{AddressSpace, Cursor, PageFlags, PageProps},
};

use crate::{
    Ostd, OstdCursor, frame,
    present::NODE_SPAN,
    reclaim, reserve, spare,
    table::{self, Table},
};

cpu_local! {
    /// How many transactions the CPU is in: one within another, of two page tables.
    static OPEN: AtomicUsize = AtomicUsize::new(0);
}

/// The address space of a program.
///
/// What it maps is in one page table; while that is lent to a [backup](vmar::vmar::ForkPolicy::Backup) it goes on with another one.
/// It keeps both, so that whoever was given a reference to one can go on using it:
///
/// ```text
///   tables:   0  ──► page table      ◄── in use at first
///             1  ──► (page table)    ◄── in use from a fork until the backup's end, and so on in turn
/// ```
#[derive(Debug)]
pub struct OstdSpace {
    tables: [Once<Arc<Table>>; 2],
    /// How often it has gone over from one to the other: the lowest bit tells which is in use.
    turns: AtomicUsize,
}

impl OstdSpace {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Ok(Self::with(new_table()?))
    }

    fn with(table: Arc<Table>) -> Self {
        table.owners.fetch_add(1, Relaxed);
        Self { tables: [Once::initialized(table), Once::new()], turns: AtomicUsize::new(0) }
    }

    /// Returns the page table in use.
    #[inline]
    pub(crate) fn table(&self) -> &Arc<Table> {
        match self.tables[self.turns.load(Acquire) % 2].get() {
            Some(table) => table,
            None => unreachable!("the page table in use is there"),
        }
    }

    /// Goes on with the page table `next`, one of the two.
    fn turn_to(&self, next: &Arc<Table>) {
        let old = self.table();
        if !Arc::ptr_eq(old, next) {
            // Whoever becomes active sees this, or is seen as active on the old one.
            self.turns.fetch_add(1, SeqCst);
            old.hand_over(next);
        }
    }

    /// Makes this the current CPU's address space. It stays held until the CPU activates another.
    pub fn activate(&self) {
        loop {
            let turn = self.turns.load(Acquire);
            self.table().activate();
            fence(SeqCst);
            if self.turns.load(Relaxed) == turn {
                return;
            }
        }
    }

    /// Returns how many frames the page table takes, about: the nodes of its last level that are known, and those above them.
    pub fn table_pages(&self) -> usize {
        let leaves = self.table().present.area_count();
        leaves + leaves.div_ceil(512) + leaves.div_ceil(512 * 512) + 1
    }

    /// Returns OSTD's space that is in use now.
    pub fn vm_space(&self) -> &Arc<VmSpace> {
        &self.table().vm_space
    }

    /// Returns a reader of the running program's memory.
    ///
    /// # Errors
    ///
    /// If this is not the current CPU's address space, or the range (bytes) is none of a program's.
    #[inline]
    pub fn reader(&self, addr: Vaddr, len: usize) -> ostd::Result<VmReader<'_, Fallible>> {
        let look = || self.vm_space().reader(addr, len);
        look().or_else(|error| self.retry_in_turn(error, look))
    }

    /// Returns a writer of the running program's memory.
    ///
    /// # Errors
    ///
    /// As [`reader`](Self::reader).
    #[inline]
    pub fn writer(&self, addr: Vaddr, len: usize) -> ostd::Result<VmWriter<'_, Fallible>> {
        let look = || self.vm_space().writer(addr, len);
        look().or_else(|error| self.retry_in_turn(error, look))
    }

    /// Tries again what failed because the page table was exchanged, or is being: this CPU may be the next to be told.
    #[cold]
    fn retry_in_turn<T>(&self, error: ostd::Error, look: impl Fn() -> ostd::Result<T>) -> ostd::Result<T> {
        /// Exchanges that may come in between before the fault is taken to lie in the range.
        const MOST: usize = 100;

        for _ in 0..MOST {
            if !table::runs_on_one_of(self.tables.iter().filter_map(Once::get)) {
                break;
            }
            self.activate();
            if let Ok(found) = look() {
                return Ok(found);
            }
        }
        Err(error)
    }
}

fn new_table() -> Result<Arc<Table>, OutOfMemory> {
    if let Some(table) = spare::take() {
        return Ok(table);
    }
    // The root of the page table.
    let _promise = reserve::promise_kernel_frames(1)?;
    fallible::try_arc(Table::new())
}

impl Drop for OstdSpace {
    fn drop(&mut self) {
        for table in self.tables.iter().filter_map(Once::get) {
            table.owners.fetch_sub(1, Relaxed);
        }
    }
}

impl AddressSpace for OstdSpace {
    type Machine = Ostd;
    type Cursor<'a> = OstdCursor<'a>;

    /// What a node of the second level covers: a gigabyte.
    const ISOLATION: usize = 512 * NODE_SPAN;

    fn user_range(&self) -> Range<usize> {
        0..MAX_USERSPACE_VADDR
    }

    /// A cursor locks the lowest node that covers its range, and the one above it while it makes that. So the nodes of the second
    /// level are made here: a page that is mapped and taken out again leaves them.
    fn isolate(&self, range: &Range<usize>) -> Result<(), OutOfMemory> {
        for start in range.clone().step_by(Self::ISOLATION) {
            let zeros = frame::zero_frame();
            self.transact(start..start + PAGE_SIZE, 1, |cursor| {
                cursor.map(zeros, PageProps::new(PageFlags::READ));
                cursor.seek(start);
                cursor.unmap(start + PAGE_SIZE);
            })?;
        }
        Ok(())
    }

    fn peek(&self, range: &Range<usize>) -> Option<usize> {
        self.table().present.first_run(range).map(|run| run.start)
    }

    fn may_be_mapped(&self, page: usize) -> bool {
        // In half the time of a range.
        !self.table().present.is_clear(page)
    }

    fn transact<T>(
        &self,
        range: Range<usize>,
        growth: usize,
        body: impl FnOnce(&mut OstdCursor<'_>) -> T,
    ) -> Result<T, OutOfMemory> {
        transact(self.table(), range, growth, body)
    }

    fn detach(&self) -> Result<Self, OutOfMemory> {
        let next = self.tables[(self.turns.load(Acquire) + 1) % 2].try_call_once(|| {
            let table = new_table()?;
            table.owners.fetch_add(1, Relaxed);
            Ok(table)
        })?;
        if next.owners.load(Acquire) != 1 {
            // It is still lent.
            return Err(OutOfMemory);
        }
        next.present.start_anew();
        let detached = Self::with(self.table().clone());
        self.turn_to(next);
        Ok(detached)
    }

    fn attach(&self, other: Self) {
        let table = other.table();
        let next = self.tables[(self.turns.load(Acquire) + 1) % 2].call_once(|| {
            table.owners.fetch_add(1, Relaxed);
            table.clone()
        });
        assert!(Arc::ptr_eq(next, table), "a page table is attached while another one is lent");
        self.turn_to(next);
    }

    /// Keeps the page tables for other programs, if they are small.
    ///
    /// The nodes are what is dear: making and dropping one takes more than emptying it of a few pages.
    fn retire(&mut self, pages: usize) {
        for table in self.tables.iter().filter_map(Once::get) {
            let Table { present, has_devices, owners, .. } = &**table;
            let is_large = pages > spare::MOST_PAGES || present.area_count() > spare::MOST_AREAS;
            // Now, not when this is dropped: the next program may have a spare by then, and finds it lent.
            let is_lent = owners.fetch_sub(1, AcqRel) != 1;
            if is_large || is_lent || present.has_given_up() || has_devices.load(Relaxed) {
                continue;
            }
            for part in present.parts() {
                let end = part.end;
                if transact(table, part, 0, |cursor| cursor.unmap(end)).is_err() {
                    unreachable!("a transaction that maps nothing cannot run out of memory");
                }
            }
            spare::keep(table.clone());
        }
        self.tables = [Once::new(), Once::new()];
    }
}

/// Runs `body` with a cursor over `range` of a page table; see [`AddressSpace::transact`].
#[inline]
fn transact<T>(
    table: &Table,
    range: Range<usize>,
    growth: usize,
    body: impl FnOnce(&mut OstdCursor<'_>) -> T,
) -> Result<T, OutOfMemory> {
    let promise = match growth {
        0 => None,
        _ => Some(reserve::promise_kernel_frames(node_count(&range, growth))?),
    };
    let (unmapped, is_outermost);
    let result = {
        let preempt_guard = disable_preempt();
        let open = OPEN.get_on_cpu(preempt_guard.current_cpu());
        let around = open.load(Relaxed);
        open.store(around + 1, Relaxed);
        let locked = widened(&range);
        let mut opened = table.vm_space.cursor_mut(&preempt_guard, &locked);
        let Ok(inner) = &mut opened else { panic!("a transaction over a bad range: {range:#x?}") };
        let mut cursor = OstdCursor::new(inner, table);
        if locked.start != range.start {
            cursor.seek(range.start);
        }
        let result = body(&mut cursor);
        unmapped = cursor.finish();
        open.store(around, Relaxed);
        is_outermost = around == 0;
        result
    };
    drop(promise);
    if unmapped != 0 {
        reclaim::note_unmapped(unmapped, is_outermost);
    }
    Ok(result)
}

/// Returns how many page-table nodes mapping `growth` pages within `range` can take at most.
fn node_count(range: &Range<usize>, growth: usize) -> usize {
    const LEVELS: usize = 3;
    if growth == 1 || range.start / NODE_SPAN == (range.end - 1) / NODE_SPAN {
        return LEVELS;
    }
    let mut nodes = 0;
    let mut span = NODE_SPAN;
    for _ in 0..LEVELS {
        let covering = (range.end - 1) / span - range.start / span + 1;
        nodes += covering.min(growth);
        span *= 512;
    }
    nodes
}

/// Widens a range that exactly covers nodes by one page, where there is room: to where no other node of the second level is, if
/// that can be, so that no lock is taken that an [isolated](AddressSpace::isolate) range does not own.
///
/// A cursor over exactly one node locks that node and takes its pages out one by one; a cursor that is a page wider locks
/// the node above and takes the whole node out, 75 times cheaper.
fn widened(range: &Range<usize>) -> Range<usize> {
    if !range.start.is_multiple_of(NODE_SPAN) || !range.len().is_multiple_of(NODE_SPAN) {
        range.clone()
    } else if range.end.is_multiple_of(OstdSpace::ISOLATION)
        && !range.start.is_multiple_of(OstdSpace::ISOLATION)
        || range.end + PAGE_SIZE > MAX_USERSPACE_VADDR
    {
        range.start - PAGE_SIZE..range.end
    } else {
        range.start..range.end + PAGE_SIZE
    }
}
