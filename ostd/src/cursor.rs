// SPDX-License-Identifier: MPL-2.0

//! A position in a page table: OSTD's cursor behind the framework's.
//!
//! What OSTD need not be asked is answered by the [bits](crate::present) beside the page table. What is unmapped OSTD flushes by
//! itself; what is narrowed is collected into one flush.

use core::{
    ops::{Deref, Range},
    sync::atomic::Ordering::Relaxed,
};

use ostd::{
    io::IoMem,
    mm::{
        CachePolicy as OstdCache, PAGE_SIZE, PageFlags as OstdFlags, PageProperty, UFrame,
        frame::{FrameRef, untyped::AnyUFrameMeta},
        tlb::TlbFlushOp,
        vm_space::{CursorMut, VmQueriedItem},
    },
};
use ref_cast::RefCast;
use vmar::machine::{CachePolicy, Cursor, Entry, PageFlags, PageProps};

use crate::{DeviceMemory, Ostd, OstdFrame, present::NODE_SPAN, table::Table};

/// The size of a hole between two runs of pages, in bytes, that is not worth a flush of its own: to look through it takes less.
const SMALL_HOLE: usize = 40 * PAGE_SIZE;

/// A position in the page table.
pub struct OstdCursor<'a> {
    /// Not the cursor itself: moving it from where OSTD puts it takes 456 instructions, in each transaction. The trait
    /// object hides the cursor's own lifetime.
    inner: &'a mut dyn RawCursor,
    table: &'a Table,
    /// The range of addresses that narrowed entries lie in.
    narrowed: Option<Range<usize>>,
    /// How many pages were unmapped.
    unmapped: usize,
}

/// What is used of OSTD's cursor; see there.
pub(crate) trait RawCursor {
    fn position(&self) -> usize;
    fn jump(&mut self, addr: usize) -> ostd::Result<()>;
    fn query(&mut self) -> ostd::Result<(Range<usize>, Option<VmQueriedItem<'_>>)>;
    fn find_next(&mut self, len: usize) -> Option<usize>;
    fn map(&mut self, frame: UFrame, prop: PageProperty);
    fn map_device(&mut self, io: IoMem, offset: usize, prop: PageProperty);
    fn unmap(&mut self, len: usize) -> usize;
    /// Changes the flags of the next entry in use within `len` bytes, and returns its page and whether it had any of `lost`.
    fn change_next(&mut self, len: usize, lost: OstdFlags, gained: OstdFlags)
    -> Option<(Range<usize>, bool)>;
    fn flush(&mut self, range: Range<usize>);
    fn sync(&mut self);
}

impl RawCursor for CursorMut<'_> {
    #[inline]
    fn position(&self) -> usize {
        self.virt_addr()
    }

    #[inline]
    fn jump(&mut self, addr: usize) -> ostd::Result<()> {
        self.jump(addr)
    }

    #[inline]
    fn query(&mut self) -> ostd::Result<(Range<usize>, Option<VmQueriedItem<'_>>)> {
        self.query()
    }

    #[inline]
    fn find_next(&mut self, len: usize) -> Option<usize> {
        self.find_next(len)
    }

    #[inline]
    fn map(&mut self, frame: UFrame, prop: PageProperty) {
        self.map(frame, prop);
    }

    #[inline]
    fn map_device(&mut self, io: IoMem, offset: usize, prop: PageProperty) {
        self.map_iomem(io, prop, PAGE_SIZE, offset);
    }

    #[inline]
    fn unmap(&mut self, len: usize) -> usize {
        self.unmap(len)
    }

    #[inline]
    fn change_next(
        &mut self,
        len: usize,
        lost: OstdFlags,
        gained: OstdFlags,
    ) -> Option<(Range<usize>, bool)> {
        let mut had_lost = false;
        let page = self.protect_next(len, |flags, _| {
            had_lost = flags.intersects(lost);
            *flags = flags.difference(lost).union(gained);
        })?;
        Some((page, had_lost))
    }

    #[inline]
    fn flush(&mut self, range: Range<usize>) {
        self.flusher().issue_tlb_flush(TlbFlushOp::for_range(range));
        self.flusher().dispatch_tlb_flush();
    }

    #[inline]
    fn sync(&mut self) {
        self.flusher().sync_tlb_flush();
    }
}

impl<'a> OstdCursor<'a> {
    pub(crate) fn new(inner: &'a mut dyn RawCursor, table: &'a Table) -> Self {
        Self { inner, table, narrowed: None, unmapped: 0 }
    }

    /// Flushes what was narrowed, waits for all flushes, and returns how many pages were unmapped.
    pub(crate) fn finish(&mut self) -> usize {
        let narrowed = self.narrowed.take();
        if narrowed.is_some() || self.unmapped != 0 {
            let is_active_elsewhere = self.table.is_active_elsewhere();
            match narrowed {
                Some(range) if is_active_elsewhere => self.inner.flush(range),
                Some(range) => self.table.flush_here(range),
                // What was unmapped is being flushed already.
                None => {}
            }
            if is_active_elsewhere {
                self.inner.sync();
            }
        }
        self.unmapped
    }

    fn note_narrowed(&mut self, pages: Range<usize>) {
        self.narrowed = Some(match self.narrowed.take() {
            None => pages,
            Some(range) => range.start.min(pages.start)..range.end.max(pages.end),
        });
    }
}

/// A page in a page table, borrowed from the cursor.
pub struct BorrowedFrame<'a>(FrameRef<'a, dyn AnyUFrameMeta>);

impl Deref for BorrowedFrame<'_> {
    type Target = OstdFrame;

    fn deref(&self) -> &OstdFrame {
        OstdFrame::ref_cast(&self.0)
    }
}

impl Cursor for OstdCursor<'_> {
    type Machine = Ostd;
    type FrameRef<'a>
        = BorrowedFrame<'a>
    where
        Self: 'a;

    fn position(&self) -> usize {
        self.inner.position()
    }

    fn seek(&mut self, addr: usize) {
        self.inner.jump(addr).expect("a cursor moved out of its range");
    }

    fn query(&mut self) -> Entry<BorrowedFrame<'_>> {
        if self.table.present.is_clear(self.position()) {
            return Entry::Empty;
        }
        let (_, item) = self.inner.query().expect("a cursor looked out of its range");
        match item {
            None => Entry::Empty,
            Some(VmQueriedItem::MappedRam { frame, prop }) => {
                Entry::Page { frame: BorrowedFrame(frame), props: from_property(prop) }
            }
            Some(VmQueriedItem::MappedIoMem { prop, .. }) => Entry::Device { props: from_property(prop) },
        }
    }

    fn next_mapped(&mut self, end: usize) -> Option<usize> {
        self.next_run(end).map(|run| run.start)
    }

    fn next_run(&mut self, end: usize) -> Option<Range<usize>> {
        let run = self.table.present.first_run(&(self.position()..end))?;
        self.seek_within(run.start);
        if self.table.present.has_given_up() {
            let start = self.inner.find_next(run.len())?;
            return Some(start..start + PAGE_SIZE);
        }
        Some(run)
    }

    fn put(&mut self, frame: OstdFrame, props: PageProps) {
        self.table.present.set(self.position());
        self.inner.map(frame.into_uframe(), to_property(props));
    }

    fn map_run(&mut self, most: usize, pages: impl Iterator<Item = (OstdFrame, PageProps)>) {
        let start = self.position();
        let end = start + most * PAGE_SIZE;
        self.table.present.set_all(&(start..end));
        for (frame, props) in pages.take(most) {
            self.inner.map(frame.into_uframe(), to_property(props));
        }
        let at = self.position();
        if at != end {
            self.table.present.clear(&(at..end));
        }
    }

    fn map_device(&mut self, io: &DeviceMemory, offset: usize, props: PageProps) {
        self.table.has_devices.store(true, Relaxed);
        self.table.present.set(self.position());
        self.inner.map_device(io.io_mem().clone(), offset, to_property(props));
    }

    fn unmap(&mut self, end: usize) -> usize {
        let all = self.position()..end;
        if all.len() == PAGE_SIZE {
            let count = self.inner.unmap(PAGE_SIZE);
            self.table.present.clear(&all);
            self.seek_within(end);
            self.unmapped += count;
            return count;
        }
        let mut at = all.start;
        let mut count = 0;
        while let Some(mut run) = self.table.present.first_run(&(at..end)) {
            // Each of OSTD's unmaps flushes by itself.
            while let Some(next) = self.table.present.first_run(&(run.end..end))
                && next.start - run.end <= SMALL_HOLE
            {
                run.end = next.end;
            }
            let run = with_whole_nodes(run, &all);
            self.seek_within(run.start);
            count += self.inner.unmap(run.len());
            self.table.present.clear(&run);
            at = run.end;
        }
        self.seek_within(end);
        self.unmapped += count;
        count
    }

    fn take(&mut self) -> Option<(OstdFrame, PageProps)> {
        let addr = self.position();
        let Entry::Page { frame, props } = self.query() else { return None };
        let frame = (*frame).clone();
        self.unmapped += self.inner.unmap(PAGE_SIZE);
        self.table.present.clear(&(addr..addr + PAGE_SIZE));
        self.seek_within(addr);
        Some((frame, props))
    }

    fn narrow(&mut self, end: usize, lost: PageFlags) {
        self.change(end, to_flags(lost), OstdFlags::empty());
    }

    fn widen(&mut self, end: usize, gained: PageFlags) {
        self.change(end, OstdFlags::empty(), to_flags(gained));
    }
}

impl OstdCursor<'_> {
    /// Takes `lost` from the flags of each entry in use up to `end`, adds `gained`, and stands at `end` afterwards.
    fn change(&mut self, end: usize, lost: OstdFlags, gained: OstdFlags) {
        let mut at = self.position();
        if end - at == PAGE_SIZE {
            self.change_run(end, lost, gained);
        } else {
            while let Some(run) = self.table.present.first_run(&(at..end)) {
                self.seek_within(run.start);
                self.change_run(run.end, lost, gained);
                at = run.end;
            }
        }
        self.seek_within(end);
    }

    fn change_run(&mut self, end: usize, lost: OstdFlags, gained: OstdFlags) {
        let mut at = self.position();
        let mut narrowed: Option<Range<usize>> = None;
        while at < end
            && let Some((page, had_lost)) = self.inner.change_next(end - at, lost, gained)
        {
            at = page.end;
            if had_lost {
                narrowed = Some(narrowed.map_or(page.start, |range| range.start)..page.end);
            }
        }
        if let Some(range) = narrowed {
            self.note_narrowed(range);
        }
    }

    /// Moves to `addr`, which may be the end of the cursor's range. OSTD's cursor may have run past it, skipping a node
    /// with nothing in it.
    fn seek_within(&mut self, addr: usize) {
        if self.position() == addr {
            return;
        }
        // Fails only for the end of the range, where no operation but dropping the cursor is left.
        let _ = self.inner.jump(addr);
    }
}

/// Widens a part of `all` to what the nodes at its ends cover, where that is within `all`: emptied as a whole, they go.
fn with_whole_nodes(part: Range<usize>, all: &Range<usize>) -> Range<usize> {
    let node = |addr: usize| addr - addr % NODE_SPAN..addr - addr % NODE_SPAN + NODE_SPAN;
    let is_whole = |node: &Range<usize>| node.start >= all.start && node.end <= all.end;
    let (first, last) = (node(part.start), node(part.end - PAGE_SIZE));
    let start = if is_whole(&first) { first.start } else { part.start };
    let end = if is_whole(&last) { last.end } else { part.end };
    start..end
}

/// The bits that mean the same on both sides, at the same places.
const SAME_BITS: u8 = 0b1_1111;
/// How many places further up OSTD has the bit that says PRIVATE, its only free one.
const PRIVATE_SHIFT: u32 =
    OstdFlags::AVAIL2.bits().trailing_zeros() - PageFlags::PRIVATE.bits().trailing_zeros();

const _: () = {
    assert!(PageFlags::READ.bits() == OstdFlags::R.bits());
    assert!(PageFlags::WRITE.bits() == OstdFlags::W.bits());
    assert!(PageFlags::EXEC.bits() == OstdFlags::X.bits());
    assert!(PageFlags::ACCESSED.bits() == OstdFlags::ACCESSED.bits());
    assert!(PageFlags::DIRTY.bits() == OstdFlags::DIRTY.bits());
    assert!(PageFlags::all().bits() == SAME_BITS | PageFlags::PRIVATE.bits());
};

fn to_flags(flags: PageFlags) -> OstdFlags {
    let bits = flags.bits();
    OstdFlags::from_bits_truncate((bits & SAME_BITS) | ((bits & !SAME_BITS) << PRIVATE_SHIFT))
}

fn from_flags(flags: OstdFlags) -> PageFlags {
    let bits = flags.bits();
    PageFlags::from_bits_truncate((bits & SAME_BITS) | ((bits & OstdFlags::AVAIL2.bits()) >> PRIVATE_SHIFT))
}

fn to_property(props: PageProps) -> PageProperty {
    let cache = match props.cache {
        CachePolicy::WriteBack => OstdCache::Writeback,
        CachePolicy::WriteThrough => OstdCache::Writethrough,
        CachePolicy::WriteCombining => OstdCache::WriteCombining,
        CachePolicy::Uncacheable => OstdCache::Uncacheable,
    };
    PageProperty::new_user(to_flags(props.flags), cache)
}

fn from_property(prop: PageProperty) -> PageProps {
    let cache = match prop.cache {
        OstdCache::Writeback => CachePolicy::WriteBack,
        OstdCache::Writethrough | OstdCache::WriteProtected => CachePolicy::WriteThrough,
        OstdCache::WriteCombining => CachePolicy::WriteCombining,
        OstdCache::Uncacheable => CachePolicy::Uncacheable,
    };
    PageProps { flags: from_flags(prop.flags), cache }
}
