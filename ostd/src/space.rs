// SPDX-License-Identifier: MPL-2.0

//! Address spaces: OSTD's `VmSpace` behind the framework's transactions.
//!
//! A transaction is one cursor with preemption disabled. What the cursor unmaps is flushed as OSTD's `unmap` asks; what
//! it narrows is collected into one flush. Both are waited for before the transaction returns, so a caller never sees a
//! stale translation of what it took away.

use alloc::sync::Arc;
use core::{ops::Range, sync::atomic::Ordering::Relaxed};

use ostd::{
    mm::{MAX_USERSPACE_VADDR, PAGE_SIZE, VmSpace},
    task::disable_preempt,
};
use vmar::{
    error::OutOfMemory,
    fallible,
    machine::{AddressSpace, Cursor},
};

use crate::{Ostd, OstdCursor, present::NODE_SPAN, reclaim, reserve, spare, table::Table};

/// The page table of a program.
#[derive(Debug)]
pub struct OstdSpace {
    table: Arc<Table>,
}

impl OstdSpace {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        if let Some(table) = spare::take() {
            return Ok(Self { table });
        }
        // The root of the page table.
        let _promise = reserve::promise_kernel_frames(1)?;
        Ok(Self { table: fallible::try_arc(Table::new())? })
    }

    /// Makes this the current CPU's address space. It stays held until the CPU activates another.
    pub fn activate(&self) {
        self.table.activate();
    }

    /// Returns OSTD's space, whose readers and writers reach the memory of the running program.
    pub fn vm_space(&self) -> &Arc<VmSpace> {
        &self.table.vm_space
    }
}

impl AddressSpace for OstdSpace {
    type Machine = Ostd;
    type Cursor<'a> = OstdCursor<'a>;

    fn user_range(&self) -> Range<usize> {
        0..MAX_USERSPACE_VADDR
    }

    fn peek(&self, range: &Range<usize>) -> Option<usize> {
        self.table.present.first_run(range).map(|run| run.start)
    }

    fn may_be_mapped(&self, page: usize) -> bool {
        // In half the time of a range.
        !self.table.present.is_clear(page)
    }

    fn transact<T>(
        &self,
        range: Range<usize>,
        growth: usize,
        body: impl FnOnce(&mut OstdCursor<'_>) -> T,
    ) -> Result<T, OutOfMemory> {
        let promise = match growth {
            0 => None,
            _ => Some(reserve::promise_kernel_frames(node_count(&range, growth))?),
        };
        let unmapped;
        let result = {
            let preempt_guard = disable_preempt();
            let locked = widened(&range);
            let mut opened = self.table.vm_space.cursor_mut(&preempt_guard, &locked);
            let Ok(inner) = &mut opened else { panic!("a transaction over a bad range: {range:#x?}") };
            let mut cursor = OstdCursor::new(inner, &self.table);
            if locked.start != range.start {
                cursor.seek(range.start);
            }
            let result = body(&mut cursor);
            unmapped = cursor.finish();
            result
        };
        drop(promise);
        if unmapped != 0 {
            reclaim::note_unmapped(unmapped);
        }
        Ok(result)
    }

    /// Keeps the page table for another program, if it is small.
    ///
    /// The nodes are what is dear: making and dropping one takes more than emptying it of a few pages.
    fn retire(&mut self, pages: usize) {
        let Table { present, has_devices, .. } = &*self.table;
        let is_large = pages > spare::MOST_PAGES || present.area_count() > spare::MOST_AREAS;
        if is_large || present.has_given_up() || has_devices.load(Relaxed) {
            return;
        }
        for part in present.parts() {
            let end = part.end;
            if self.transact(part, 0, |cursor| cursor.unmap(end)).is_err() {
                unreachable!("a transaction that maps nothing cannot run out of memory");
            }
        }
        spare::keep(self.table.clone());
    }
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

/// Widens a range that exactly covers nodes by one page, where there is room.
///
/// A cursor over exactly one node locks that node and takes its pages out one by one; a cursor that is a page wider locks
/// the node above and takes the whole node out, 75 times cheaper.
fn widened(range: &Range<usize>) -> Range<usize> {
    if !range.start.is_multiple_of(NODE_SPAN) || !range.len().is_multiple_of(NODE_SPAN) {
        range.clone()
    } else if range.end + PAGE_SIZE <= MAX_USERSPACE_VADDR {
        range.start..range.end + PAGE_SIZE
    } else {
        range.start - PAGE_SIZE..range.end
    }
}
