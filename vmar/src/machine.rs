// SPDX-License-Identifier: MPL-2.0

//! What the framework asks of a machine.
//!
//! A backend implements [`Machine`] once; everything else in this crate is generic over it. The contract is small
//! on purpose: an address space worked on through transactions, frames, a lock that may sleep, counters kept per CPU.
//!
//! ```text
//!   Machine ── new_space ──► AddressSpace ── transact(range) ──► Cursor      (page-table entries)
//!      │
//!      ├────── alloc ──► Blank ── zeroed, copy_of ──► Frame                  (one page of memory)
//!      ├────── Lock<T>                                                       (sleeping reader-writer lock)
//!      └────── Counter                                                       (a sum kept in per-CPU parts)
//! ```
//!
//! # Protocol
//!
//! 1. A transaction owns the page-table entries of its range: two transactions on overlapping ranges of one space
//!    exclude each other; on disjoint ranges they may run at once.
//! 2. Nothing sleeps and nothing is allocated by the framework while a cursor lives. What a transaction may need for
//!    page-table nodes is promised before it opens (`growth`), so that no cursor operation can fail.
//! 3. When `transact` returns, every translation that the cursor removed or narrowed is gone from every CPU. A frame
//!    that was unmapped goes back to the allocator only after that. Widening needs no flush: a stale narrower
//!    translation leads to a spurious fault, which is harmless.

use core::{
    fmt::Debug,
    ops::{Deref, DerefMut, Range},
};

use crate::error::OutOfMemory;

/// A machine that address spaces can be made on.
///
/// A machine is a handle, cheap to clone; where there is only one it is a zero-sized type.
pub trait Machine: Clone + Debug + Send + Sync + Sized + 'static {
    /// The granule in bytes, a power of two. All mappings are multiples of it.
    const PAGE_SIZE: usize;

    /// Whether the machine translates addresses at all.
    const TRANSLATES: bool = true;

    /// An address space's page table.
    type Space: AddressSpace<Machine = Self>;
    /// A handle to one page of memory.
    type Frame: Frame;
    /// A page of memory that nothing has been put into.
    type Blank: Blank<Frame = Self::Frame>;
    /// A handle to device memory.
    type IoMem: IoMem;
    /// A reader-writer lock that may sleep.
    type Lock<T: Send + Sync + 'static>: SleepLock<T>;
    /// A counter kept per CPU.
    type Counter: Counter;

    /// Creates an empty address space.
    fn new_space(&self) -> Result<Self::Space, OutOfMemory>;

    /// Creates a counter that stands at zero.
    fn new_counter(&self) -> Result<Self::Counter, OutOfMemory>;

    /// Allocates a page of memory, to be filled by its [`Blank`].
    ///
    /// Fails while memory reserved for the kernel itself would still be left.
    fn alloc(&self) -> Result<Self::Blank, OutOfMemory>;

    /// Returns the frame of zeros that all spaces share; it is never mapped writable.
    fn zero_frame(&self) -> Self::Frame;

    /// Notes that whoever calls has had `count` pages made present which the program has not touched yet: faults that it has caused
    /// all the same, as `getrusage(2)` counts them. May be called with no lock held only.
    fn count_faults(&self, count: usize) {
        let _ = count;
    }
}

/// A page of memory that nobody has seen yet. It becomes a [`Frame`] when it is filled, which can be done where nothing can
/// be allocated: under a cursor.
pub trait Blank {
    /// What it becomes.
    type Frame: Frame;

    /// Fills it with zeros.
    fn zeroed(self) -> Self::Frame;

    /// Fills it with what `source` holds.
    fn copy_of(self, source: &Self::Frame) -> Self::Frame;
}

/// A handle to one page of memory. Clones are handles to the same page; the last one to go frees it.
pub trait Frame: Clone + Send + Sync + 'static {
    /// Copies bytes from `offset` (bytes within the page) on into `buf`.
    ///
    /// # Panics
    ///
    /// Panics if the range leaves the page.
    fn read(&self, offset: usize, buf: &mut [u8]);

    /// Copies `buf` into the page at `offset` (bytes within the page).
    ///
    /// # Panics
    ///
    /// Panics if the range leaves the page.
    fn write(&self, offset: usize, buf: &[u8]);

    /// Fills `range` (bytes within the page) with zeros.
    ///
    /// # Panics
    ///
    /// Panics if the range leaves the page.
    fn zero(&self, range: Range<usize>);

    /// Makes what the page holds visible to instruction fetch on every CPU. Must not sleep, nor allocate.
    ///
    /// Called before an entry of a page table lets the page be executed that did not before, and after the framework has
    /// written where it may be. By default it does nothing: on x86-64, instruction fetch sees what was written.
    fn sync_instructions(&self) {}

    /// Makes the page ready for an entry that gains `flags`.
    fn prepare_for(&self, flags: PageFlags) {
        if flags.contains(PageFlags::EXEC) {
            self.sync_instructions();
        }
    }

    /// Returns a number that tells this page from every other live page.
    fn id(&self) -> u64;

    /// Returns how many hold the page: handles and page-table entries together, a borrowed handle not counted.
    ///
    /// The count is never too low. It may be too high for a while after an unmapping, where a machine frees late.
    fn holders(&self) -> usize;
}

/// A handle to device memory.
pub trait IoMem: Clone + Debug + Send + Sync + 'static {
    /// Returns the size in bytes, a multiple of the page size.
    fn size(&self) -> usize;
}

/// A sleeping reader-writer lock.
pub trait SleepLock<T>: Send + Sync {
    /// What holds the lock for reading.
    type ReadGuard<'a>: Deref<Target = T>
    where
        Self: 'a;
    /// What holds the lock for writing.
    type WriteGuard<'a>: DerefMut<Target = T>
    where
        Self: 'a;

    /// Creates an unlocked lock over `value`.
    fn new(value: T) -> Self;
    /// Waits for the lock and takes it for reading.
    fn read(&self) -> Self::ReadGuard<'_>;
    /// Waits for the lock and takes it for writing.
    fn write(&self) -> Self::WriteGuard<'_>;
}

/// A sum kept in per-CPU parts: adding touches only the current CPU's part.
pub trait Counter: Send + Sync {
    /// Adds `delta`, which may be negative, to the current CPU's part.
    fn add(&self, delta: isize);
    /// Returns the sum of all parts: exact when nobody adds, close to it otherwise.
    fn sum(&self) -> isize;
}

bitflags::bitflags! {
    /// What a page-table entry says of its page.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct PageFlags: u8 {
        /// The program may read.
        const READ = 1 << 0;
        /// The program may write.
        const WRITE = 1 << 1;
        /// The program may execute.
        const EXEC = 1 << 2;
        /// The page has been accessed.
        const ACCESSED = 1 << 3;
        /// The page has been written. Not to be trusted: a machine may lose it.
        const DIRTY = 1 << 4;
        /// The page belongs to the mapping alone (anonymous memory, a private copy), not to an object behind it. It was made by
        /// a write: such an entry is made with ACCESSED and DIRTY.
        const PRIVATE = 1 << 5;
    }
}

impl PageFlags {
    /// The bits that say what the program may do.
    pub const ACCESS: Self = Self::READ.union(Self::WRITE).union(Self::EXEC);
}

/// How a page is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CachePolicy {
    /// Write-back: ordinary memory.
    #[default]
    WriteBack,
    /// Write-through.
    WriteThrough,
    /// Write-combining: frame buffers.
    WriteCombining,
    /// Uncacheable: device registers.
    Uncacheable,
}

/// What a page-table entry holds beside its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageProps {
    /// Permissions and state.
    pub flags: PageFlags,
    /// Cache policy.
    pub cache: CachePolicy,
}

impl PageProps {
    /// Returns the properties of an ordinary, cached page.
    pub const fn new(flags: PageFlags) -> Self {
        Self { flags, cache: CachePolicy::WriteBack }
    }
}

/// A page table.
pub trait AddressSpace: Send + Sync + Sized + 'static {
    /// The machine that it is of.
    type Machine: Machine<Space = Self>;
    /// A cursor over a part of it.
    type Cursor<'a>: Cursor<Machine = Self::Machine>
    where
        Self: 'a;

    /// What is aligned to this (bytes) can have page-table locks of its own, see [`isolate`](Self::isolate).
    const ISOLATION: usize = <Self::Machine as Machine>::PAGE_SIZE;

    /// Returns the addresses (bytes) that a program can ever use, page-aligned.
    fn user_range(&self) -> Range<usize>;

    /// Runs `body` with a cursor that owns the entries of `range` (bytes, page-aligned, not empty) and stands at its
    /// start. At most `growth` pages may be mapped by the body.
    ///
    /// The body must not sleep or allocate. Transactions on two different spaces may be nested.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if page-table nodes for `growth` pages cannot be promised; the body has not run then. With a
    /// growth of zero it never fails.
    fn transact<T>(
        &self,
        range: Range<usize>,
        growth: usize,
        body: impl FnOnce(&mut Self::Cursor<'_>) -> T,
    ) -> Result<T, OutOfMemory>;

    /// Returns the first page in `range` (bytes, page-aligned) that may be mapped; `None` if none is for sure, unless somebody
    /// is mapping one right now. It costs less than a transaction.
    fn peek(&self, range: &Range<usize>) -> Option<usize>;

    /// Sees to it that transactions within `range` (bytes, a multiple of [`ISOLATION`](Self::ISOLATION) at both ends), in which nothing is
    /// mapped, share no lock with transactions outside of it. By default they do not anyway.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; nothing has changed then.
    fn isolate(&self, range: &Range<usize>) -> Result<(), OutOfMemory> {
        let _ = range;
        Ok(())
    }

    /// [Peeks](Self::peek) at a single page (its address): whether it may be mapped.
    fn may_be_mapped(&self, page: usize) -> bool {
        self.peek(&(page..page + Self::Machine::PAGE_SIZE)).is_some()
    }

    /// Goes on with an empty page table, and returns the one it had until now as a space of its own.
    ///
    /// The caller keeps everybody else from working on the space meanwhile; programs may run on it. When this returns, every CPU
    /// that ran on the old page table runs on the empty one, and no translation of the old one is left.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] if there is no second page table to go on with; nothing has changed then.
    fn detach(&self) -> Result<Self, OutOfMemory>;

    /// Goes on with the page table of `other`: what [`detach`](Self::detach) once returned, of this space or another. Its own
    /// must be empty.
    ///
    /// The same holds of who else is about as for `detach`.
    fn attach(&self, other: Self);

    /// Takes note that the space will not be used again, just before it is dropped. About `pages` pages are resident in it.
    ///
    /// A machine to which page tables are dear can empty this one here and keep it for the next
    /// [`new_space`](Machine::new_space). By default it does nothing.
    fn retire(&mut self, pages: usize) {
        let _ = pages;
    }
}

/// What a cursor finds at an address.
pub enum Entry<F> {
    /// Nothing.
    Empty,
    /// A page of memory.
    Page {
        /// A borrowed handle to the page.
        frame: F,
        /// Its properties.
        props: PageProps,
    },
    /// A page of device memory.
    Device {
        /// Its properties.
        props: PageProps,
    },
}

/// A position in the page table, exclusive owner of the entries of its transaction's range.
///
/// All addresses are bytes, page-aligned, within the range.
pub trait Cursor {
    /// The machine that it is of.
    type Machine: Machine;
    /// A borrowed handle: while it lives the entry cannot change. It does not count as a holder.
    type FrameRef<'a>: Deref<Target = <Self::Machine as Machine>::Frame>
    where
        Self: 'a;

    /// Returns the address it stands at.
    fn position(&self) -> usize;

    /// Moves to `addr`.
    fn seek(&mut self, addr: usize);

    /// Looks at the entry it stands at, without moving.
    fn query(&mut self) -> Entry<Self::FrameRef<'_>>;

    /// Moves to the next entry in use in `[position, end)` and returns its address, or `None` if there is none;
    /// where it stands then is unspecified.
    fn next_mapped(&mut self, end: usize) -> Option<usize>;

    /// Moves to the next entry in use in `[position, end)` as [`next_mapped`](Self::next_mapped) does, and returns the addresses from
    /// there on whose entries are all in use, as far as the cursor can tell at once: a page at least.
    fn next_run(&mut self, end: usize) -> Option<Range<usize>> {
        let start = self.next_mapped(end)?;
        Some(start..start + <Self::Machine as Machine>::PAGE_SIZE)
    }

    /// Fills the empty entry it stands at, and moves one page on. What is executed is made visible to instruction fetch first.
    ///
    /// # Panics
    ///
    /// Panics if the entry is in use.
    fn map(&mut self, frame: <Self::Machine as Machine>::Frame, props: PageProps) {
        frame.prepare_for(props.flags);
        self.put(frame, props);
    }

    /// Fills the empty entry it stands at, and moves one page on; the work of [`map`](Self::map).
    ///
    /// # Panics
    ///
    /// Panics if the entry is in use.
    fn put(&mut self, frame: <Self::Machine as Machine>::Frame, props: PageProps);

    /// Fills the entries from where it stands on, all of them empty, with `pages`, of which it takes at most `most`. Stands behind the
    /// last one afterwards.
    ///
    /// # Panics
    ///
    /// Panics if an entry is in use.
    fn map_run(
        &mut self,
        most: usize,
        pages: impl Iterator<Item = (<Self::Machine as Machine>::Frame, PageProps)>,
    ) {
        pages.take(most).for_each(|(frame, props)| self.map(frame, props));
    }

    /// Fills the empty entry it stands at with the page of device memory at `offset` bytes, and moves one page on.
    ///
    /// # Panics
    ///
    /// Panics if the entry is in use, or the offset is outside the device memory.
    fn map_device(&mut self, io: &<Self::Machine as Machine>::IoMem, offset: usize, props: PageProps);

    /// Empties the entries of `[position, end)`, stands at `end` afterwards, and returns how many were in use.
    fn unmap(&mut self, end: usize) -> usize;

    /// Empties the entry it stands at and hands out what was there; does not move. `None` for an empty entry and for
    /// device memory, which it leaves alone.
    fn take(&mut self) -> Option<(<Self::Machine as Machine>::Frame, PageProps)>;

    /// Takes `lost` from the flags of each entry in use in `[position, end)`, stands at `end` afterwards.
    fn narrow(&mut self, end: usize, lost: PageFlags);

    /// Adds `gained` to the flags of each entry in use in `[position, end)`, stands at `end` afterwards. Nothing is flushed.
    /// Whoever lets a page be executed so that could not be has made it [ready](Frame::prepare_for).
    fn widen(&mut self, end: usize, gained: PageFlags);
}
