// SPDX-License-Identifier: MPL-2.0

//! Address spaces: OSTD's `VmSpace` behind the framework's transactions.
//!
//! A transaction is one cursor with preemption disabled. What the cursor unmaps is flushed as OSTD's `unmap` asks; what
//! it narrows is collected into one flush. Both are waited for before the transaction returns, so a caller never sees a
//! stale translation of what it took away.

use alloc::sync::Arc;
use core::{
    ops::{Deref, Range},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use ostd::{
    io::IoMem,
    mm::{
        CachePolicy as OstdCache, MAX_USERSPACE_VADDR, PAGE_SIZE, PageFlags as OstdFlags, PageProperty,
        UFrame, VmSpace,
        frame::{FrameRef, untyped::AnyUFrameMeta},
        tlb::TlbFlushOp,
        vm_space::{CursorMut, VmQueriedItem},
    },
    task::disable_preempt,
};
use ref_cast::RefCast;
use vmar::{
    error::OutOfMemory,
    machine::{AddressSpace, CachePolicy, Cursor, Entry, PageFlags, PageProps},
};

use crate::{
    DeviceMemory, Ostd, OstdFrame, reclaim, reserve,
    spare::{self, Areas, Spare},
};

/// What one page-table node of the lowest level covers, in bytes.
pub(crate) const NODE_SPAN: usize = 512 * PAGE_SIZE;

/// The page table of a program.
#[derive(Debug)]
pub struct OstdSpace {
    vm_space: Arc<VmSpace>,
    /// Where it has nodes from an earlier use.
    areas: Areas,
    /// OSTD keeps hold of device memory that was mapped as long as the page table lives.
    has_devices: AtomicBool,
}

impl OstdSpace {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        if let Some(Spare { vm_space, areas }) = spare::take() {
            return Ok(Self { vm_space, areas, has_devices: AtomicBool::new(false) });
        }
        // The root of the page table.
        let _promise = reserve::promise_kernel_frames(1)?;
        let vm_space = Arc::new(VmSpace::new());
        Ok(Self { vm_space, areas: Areas::new(), has_devices: AtomicBool::new(false) })
    }

    /// Makes this the current CPU's address space. It stays held until the CPU activates another.
    pub fn activate(&self) {
        self.vm_space.activate();
    }

    /// Returns OSTD's space, whose readers and writers reach the memory of the running program.
    pub fn vm_space(&self) -> &Arc<VmSpace> {
        &self.vm_space
    }
}

impl AddressSpace for OstdSpace {
    type Machine = Ostd;
    type Cursor<'a> = OstdCursor<'a>;

    fn user_range(&self) -> Range<usize> {
        0..MAX_USERSPACE_VADDR
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
            let mut opened = self.vm_space.cursor_mut(&preempt_guard, &locked);
            let Ok(inner) = &mut opened else { panic!("a transaction over a bad range: {range:#x?}") };
            let mut cursor = OstdCursor { inner, narrowed: None, unmapped: 0, has_devices: false };
            if locked.start != range.start {
                cursor.seek(range.start);
            }
            let result = body(&mut cursor);
            unmapped = cursor.finish();
            if cursor.has_devices {
                self.has_devices.store(true, Relaxed);
            }
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
    fn retire(&mut self, resident: impl Iterator<Item = Range<usize>> + Clone, pages: usize) {
        if pages > spare::MOST_PAGES || *self.has_devices.get_mut() {
            return;
        }
        let mut areas = self.areas.clone();
        if !resident.clone().all(|range| areas.add(&range)) {
            return;
        }
        let mut pending: Option<Range<usize>> = None;
        for piece in resident.flat_map(by_node) {
            pending = Some(match pending {
                Some(before) if before.start / NODE_SPAN == piece.start / NODE_SPAN => {
                    before.start..piece.end
                }
                Some(before) => {
                    self.empty(before);
                    piece
                }
                None => piece,
            });
        }
        if let Some(last) = pending {
            self.empty(last);
        }
        spare::keep(Spare { vm_space: self.vm_space.clone(), areas });
    }
}

impl OstdSpace {
    /// Empties a range within one node of the lowest level.
    fn empty(&self, range: Range<usize>) {
        let end = range.end;
        if self.transact(range, 0, |cursor| cursor.unmap(end)).is_err() {
            unreachable!("a transaction that maps nothing cannot run out of memory");
        }
    }
}

/// Cuts a range at the borders of nodes of the lowest level.
fn by_node(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let nodes = range.start / NODE_SPAN..range.end.div_ceil(NODE_SPAN);
    nodes.map(move |node| range.start.max(node * NODE_SPAN)..range.end.min((node + 1) * NODE_SPAN))
}

/// Returns how many page-table nodes mapping `growth` pages within `range` can take at most.
fn node_count(range: &Range<usize>, growth: usize) -> usize {
    const LEVELS: usize = 3;
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

/// A position in the page table.
pub struct OstdCursor<'a> {
    /// Not the cursor itself: moving it from where OSTD puts it takes 456 instructions, in each transaction. The trait
    /// object hides the cursor's own lifetime.
    inner: &'a mut dyn RawCursor,
    /// The range of addresses that narrowed entries lie in.
    narrowed: Option<Range<usize>>,
    /// How many pages were unmapped.
    unmapped: usize,
    /// Whether device memory was mapped.
    has_devices: bool,
}

/// What is used of OSTD's cursor; see there.
trait RawCursor {
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

impl OstdCursor<'_> {
    /// Flushes what was narrowed, waits for all flushes, and returns how many pages were unmapped.
    fn finish(&mut self) -> usize {
        if let Some(range) = self.narrowed.take() {
            self.inner.flush(range);
            self.inner.sync();
        } else if self.unmapped != 0 {
            self.inner.sync();
        }
        self.unmapped
    }

    fn note_narrowed(&mut self, page: Range<usize>) {
        self.narrowed = Some(match self.narrowed.take() {
            None => page,
            Some(range) => range.start.min(page.start)..range.end.max(page.end),
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
        let len = end - self.position();
        (len != 0).then(|| self.inner.find_next(len)).flatten()
    }

    fn map(&mut self, frame: OstdFrame, props: PageProps) {
        self.inner.map(frame.into_uframe(), to_property(props));
    }

    fn map_device(&mut self, io: &DeviceMemory, offset: usize, props: PageProps) {
        self.has_devices = true;
        self.inner.map_device(io.io_mem().clone(), offset, to_property(props));
    }

    fn unmap(&mut self, end: usize) -> usize {
        let len = end - self.position();
        let count = self.inner.unmap(len);
        self.seek_within(end);
        self.unmapped += count;
        count
    }

    fn take(&mut self) -> Option<(OstdFrame, PageProps)> {
        let addr = self.position();
        let Entry::Page { frame, props } = self.query() else { return None };
        let frame = (*frame).clone();
        self.unmapped += self.inner.unmap(PAGE_SIZE);
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
        while self.position() < end {
            let len = end - self.position();
            match self.inner.change_next(len, lost, gained) {
                Some((page, true)) => self.note_narrowed(page),
                Some((_, false)) => {}
                None => break,
            }
        }
        self.seek_within(end);
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
