// SPDX-License-Identifier: MPL-2.0

//! Backups: what a space was when it was forked, for parent and child to borrow from.
//!
//! A fork that copies the page table takes the longer the more is resident, and most of it is for nothing: the child executes
//! another program, or ends. So the parent's page table is set aside as it is, and both go on with empty ones:
//!
//! ```text
//!            before               after the fork                    the child has ended
//!
//!   parent ─► page table     parent ─► (empty) ──┐              parent ─► page table, with what it
//!                                                ├► backup                wrote since put into it
//!                            child  ─► (empty) ──┘
//! ```
//!
//! A page that one of the two touches moves into its page table, and thereby leaves the backup as far as that one is concerned:
//! read pages are shown, read-only as long as somebody else may hold them; written ones are copied, or taken if the other one
//! needs them no more. When one of the two is gone, whoever is left takes the backup for its page table again
//! ([`reunite`]), and there is nothing to copy any more.
//!
//! # Who borrows what
//!
//! The backup's entries themselves tell, so that nothing need be allocated for it. Nobody runs on them, so two flags are free
//! which a private page otherwise always has ([`PageFlags::PRIVATE`]):
//!
//! | entry | the first borrower, the parent | the second, the child |
//! | --- | --- | --- |
//! | private | as long as it has ACCESSED | as long as it has DIRTY |
//! | any other (an object's page, zeros) | as long as it is there | never: it finds these by itself |
//!
//! # Invariants
//!
//! - What a borrower borrows counts as resident in it, and its mappings' spans cover it.
//! - No page is both borrowed by a space and in its page table.
//! - An entry that nobody borrows is gone, and so is its page.
//! - An entry that has WRITE is the only holder of its page.
//! - A backup borrows from nobody: a space that borrows is forked by copying. So there is never more than one step to a page.
//!
//! All that a borrower does with a backup it does under its mappings' lock; what both do to one entry is kept apart by the
//! backup's transactions.

mod reunite;
mod touched;

use alloc::sync::{Arc, Weak};
use core::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use self::touched::Touched;
use super::{
    Vmar_,
    entries::{CursorOf, clip},
    mappings::Mappings,
    query::ResidentPage,
};
use crate::{
    error::OutOfMemory,
    fallible,
    machine::{AddressSpace, Cursor, Entry, Frame, Machine, PageFlags, PageProps, SleepLock},
    mapping::VmMapping,
    rss::RssDelta,
};

/// The flags of an entry whose page was written; see [`PageFlags::PRIVATE`].
const WRITTEN: PageFlags = PageFlags::ACCESSED.union(PageFlags::DIRTY);

/// One of the two who borrow from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The parent, whose page table the backup was.
    First,
    /// The child.
    Second,
}

impl Side {
    /// Returns the flag of private entries that this one borrows.
    const fn mark(self) -> PageFlags {
        match self {
            Self::First => PageFlags::ACCESSED,
            Self::Second => PageFlags::DIRTY,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A page table that was set aside.
pub(super) struct Backup<M: Machine> {
    /// Only missing before anybody knows the backup, and when nobody does any more.
    space: Option<M::Space>,
    /// Where it has anything at all.
    hull: Range<usize>,
    /// By [`Side`].
    borrowers: [Borrower<M>; 2],
}

/// What a backup knows of a borrower.
struct Borrower<M: Machine> {
    vmar: Weak<Vmar_<M>>,
    /// Where it borrows no longer all that it did at first.
    touched: M::Lock<Touched>,
    /// About how many pages it borrows.
    pages: AtomicUsize,
}

impl<M: Machine> Borrower<M> {
    fn new(vmar: Weak<Vmar_<M>>) -> Self {
        Self { vmar, touched: SleepLock::new(Touched::default()), pages: AtomicUsize::new(0) }
    }
}

impl<M: Machine> Backup<M> {
    /// Makes the backup that a fork of `parent` into `child` will need, still without a page table.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(super) fn prepare(
        parent: Weak<Vmar_<M>>,
        child: Weak<Vmar_<M>>,
        hull: Range<usize>,
    ) -> Result<Arc<Self>, OutOfMemory> {
        let borrowers = [Borrower::new(parent), Borrower::new(child)];
        fallible::try_arc(Self { space: None, hull, borrowers })
    }

    /// Gives it its page table, of which the first borrower borrows `first` pages and the second `second`.
    pub(super) fn fill(self: &mut Arc<Self>, space: M::Space, pages: [usize; 2]) {
        let Some(backup) = Arc::get_mut(self) else { unreachable!("a backup is filled before it is lent") };
        backup.space = Some(space);
        for (borrower, pages) in backup.borrowers.iter_mut().zip(pages) {
            *borrower.pages.get_mut() = pages;
        }
    }

    fn space(&self) -> &M::Space {
        match &self.space {
            Some(space) => space,
            None => unreachable!("a backup has a page table for as long as anybody borrows from it"),
        }
    }

    fn borrower(&self, side: Side) -> &Borrower<M> {
        &self.borrowers[side as usize]
    }

    /// Runs `body` with a cursor over `range`, of which it maps nothing.
    fn transact<T>(&self, range: Range<usize>, body: impl FnOnce(&mut CursorOf<'_, M>) -> T) -> T {
        match self.space().transact(range, 0, body) {
            Ok(value) => value,
            Err(_) => unreachable!("a transaction that maps nothing cannot run out of memory"),
        }
    }
}

impl<M: Machine> Drop for Backup<M> {
    fn drop(&mut self) {
        if let Some(space) = &mut self.space {
            let pages = self.borrowers.iter_mut().map(|borrower| *borrower.pages.get_mut()).max();
            space.retire(pages.unwrap_or(0));
        }
    }
}

/// What a space borrows.
pub(crate) struct Borrow<M: Machine> {
    backup: Arc<Backup<M>>,
    side: Side,
    /// Whether the other borrower is gone.
    is_alone: bool,
}

impl<M: Machine> Borrow<M> {
    pub(super) fn new(backup: Arc<Backup<M>>, side: Side) -> Self {
        Self { backup, side, is_alone: false }
    }

    /// Returns whether anything may be borrowed in `range` (bytes, page-aligned); it costs less than a transaction.
    pub(super) fn may_have(&self, range: &Range<usize>) -> bool {
        self.next_in(range).is_some()
    }

    /// Returns an address in `range` (bytes, page-aligned) before which nothing is borrowed; `None` if nothing is in all of it.
    pub(super) fn next_in(&self, range: &Range<usize>) -> Option<usize> {
        self.backup.space().peek(range)
    }

    /// Returns whether an entry of the backup with `flags` is borrowed.
    pub(super) fn is_borrowed(&self, flags: PageFlags) -> bool {
        match flags.contains(PageFlags::PRIVATE) {
            true => flags.contains(self.side.mark()),
            false => self.side == Side::First,
        }
    }

    /// Returns whether the other one borrows an entry of the backup with `flags`, too.
    pub(super) fn is_borrowed_by_both(&self, flags: PageFlags) -> bool {
        !self.is_alone && flags.contains(PageFlags::PRIVATE | self.side.other().mark())
    }

    /// Runs `body` with a cursor over `range` of the backup.
    pub(super) fn transact<T>(&self, range: Range<usize>, body: impl FnOnce(&mut CursorOf<'_, M>) -> T) -> T {
        self.backup.transact(range, body)
    }

    /// Moves a cursor of the backup to the next entry in `[position, end)` that is borrowed, and returns its address.
    pub(super) fn next(&self, cursor: &mut CursorOf<'_, M>, end: usize) -> Option<usize> {
        while let Some(addr) = cursor.next_mapped(end) {
            if self.is_borrowed(flags_of::<M>(cursor)) {
                return Some(addr);
            }
            if addr + M::PAGE_SIZE >= end {
                return None;
            }
            cursor.seek(addr + M::PAGE_SIZE);
        }
        None
    }

    /// Stops borrowing the entry with `flags` that a cursor of the backup stands at. Where the cursor stands afterwards is
    /// unspecified.
    pub(super) fn let_go(&self, cursor: &mut CursorOf<'_, M>, flags: PageFlags) {
        let end = cursor.position() + M::PAGE_SIZE;
        if self.is_borrowed_by_both(flags) {
            cursor.narrow(end, self.side.mark());
        } else {
            cursor.unmap(end);
        }
    }

    /// Takes note that `pages` pages in `range` are borrowed no more, after the transaction in which that was done.
    pub(super) fn note(&self, range: &Range<usize>, pages: usize) {
        if pages != 0 {
            let borrower = self.backup.borrower(self.side);
            borrower.touched.write().note(range, M::PAGE_SIZE);
            // Only the order of magnitude matters.
            let left = borrower.pages.load(Relaxed).saturating_sub(pages);
            borrower.pages.store(left, Relaxed);
        }
    }

    /// Stops borrowing what `picks` tells by the flags in `range`, and hands the flags of each such entry to `visit`.
    fn release(
        &self,
        range: &Range<usize>,
        picks: impl Fn(PageFlags) -> bool,
        mut visit: impl FnMut(PageFlags),
    ) {
        let Some(first) = self.next_in(range) else { return };
        let mut pages = 0;
        self.transact(first..range.end, |cursor| {
            while let Some(addr) = self.next(cursor, range.end) {
                let flags = flags_of::<M>(cursor);
                if picks(flags) {
                    visit(flags);
                    self.let_go(cursor, flags);
                    pages += 1;
                }
                if addr + M::PAGE_SIZE >= range.end {
                    break;
                }
                cursor.seek(addr + M::PAGE_SIZE);
            }
        });
        self.note(range, pages);
    }

    /// Calls `visit` with the address and entry of each page that is borrowed in `span`, ascending.
    pub(crate) fn for_each_page(
        &self,
        span: &Range<usize>,
        mut visit: impl FnMut(usize, ResidentPage<'_, M>),
    ) {
        let Some(first) = self.next_in(span) else { return };
        self.transact(first..span.end, |cursor| {
            while let Some(run) = cursor.next_run(span.end) {
                for addr in run.clone().step_by(M::PAGE_SIZE) {
                    if addr != run.start {
                        cursor.seek(addr);
                    }
                    if let Entry::Page { frame, props } = cursor.query()
                        && self.is_borrowed(props.flags)
                    {
                        let more_holders = usize::from(self.is_borrowed_by_both(props.flags));
                        visit(addr, ResidentPage { frame: &frame, props: as_in_use(props), more_holders });
                    }
                }
                if run.end >= span.end {
                    break;
                }
                cursor.seek(run.end);
            }
        });
    }
}

/// Returns the flags of the entry that a cursor of a backup stands at. There is no device memory in backups.
fn flags_of<M: Machine>(cursor: &mut CursorOf<'_, M>) -> PageFlags {
    match cursor.query() {
        Entry::Page { props, .. } => props.flags,
        Entry::Empty | Entry::Device { .. } => PageFlags::empty(),
    }
}

/// Returns the properties that an entry of a backup has in the page table of a program.
fn as_in_use(props: PageProps) -> PageProps {
    let marks = if props.flags.contains(PageFlags::PRIVATE) { WRITTEN } else { PageFlags::empty() };
    PageProps { flags: props.flags | marks, ..props }
}

impl<M: Machine> Vmar_<M> {
    /// Stops borrowing what lies in `range`.
    #[inline(always)]
    pub(super) fn release(&self, mappings: &Mappings<M>, range: &Range<usize>, delta: &mut RssDelta<'_, M>) {
        // Most spaces borrow nothing.
        if let Some(borrow) = &mappings.borrow {
            borrow.release_within(mappings, range, delta);
        }
    }
}

impl<M: Machine> Borrow<M> {
    #[cold]
    fn release_within(&self, mappings: &Mappings<M>, range: &Range<usize>, delta: &mut RssDelta<'_, M>) {
        if self.may_have(range) {
            for (found, mapping) in mappings.range(range.clone()) {
                self.release_part(mapping, &clip(&found, range), |_| true, delta);
            }
        }
    }
}

impl<M: Machine> Vmar_<M> {
    /// Shows in the page table all that is borrowed in `range`, as far as it is mapped.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; what was shown until then stays, and nothing that a program can tell has changed.
    pub(super) fn show_all(&self, mappings: &Mappings<M>, range: &Range<usize>) -> Result<(), OutOfMemory> {
        /// Pages that one pair of transactions shows at most.
        const CHUNK: usize = 512;

        let Some(borrow) = &mappings.borrow else { return Ok(()) };
        for (found, mapping) in mappings.range(range.clone()) {
            let Some(span) = mapping.resident_span(&clip(&found, range)) else { continue };
            let mut at = span.start;
            while let Some(first) = borrow.next_in(&(at..span.end)) {
                at = span.end.min(first.saturating_add(CHUNK * M::PAGE_SIZE));
                self.show(borrow, mapping, &(first..at), |_| {})?;
                if at == span.end {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Shows in the page table all that is borrowed in `window`, a part of `mapping`, and hands the address of each such page to
    /// `visit`.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; nothing has changed then.
    pub(super) fn show(
        &self,
        borrow: &Borrow<M>,
        mapping: &VmMapping<M>,
        window: &Range<usize>,
        mut visit: impl FnMut(usize),
    ) -> Result<(), OutOfMemory> {
        let allowed = mapping.perms().page_flags();
        let mut shown = 0;
        self.space.transact(window.clone(), window.len() / M::PAGE_SIZE, |own| {
            borrow.transact(window.clone(), |lent| {
                // Entries of one kind are let go of together.
                let mut run = window.start..window.start;
                let mut is_for_both = false;
                while let Some(addr) = borrow.next(lent, window.end) {
                    let is_this_for_both = borrow.show_here(lent, own, allowed);
                    visit(addr);
                    shown += 1;
                    if addr != run.end || is_this_for_both != is_for_both {
                        borrow.let_go_of_run(lent, &run, is_for_both);
                        run.start = addr;
                        is_for_both = is_this_for_both;
                    }
                    run.end = addr + M::PAGE_SIZE;
                    if run.end >= window.end {
                        break;
                    }
                    lent.seek(run.end);
                }
                borrow.let_go_of_run(lent, &run, is_for_both);
            });
        })?;
        borrow.note(window, shown);
        Ok(())
    }
}

impl<M: Machine> Borrow<M> {
    /// Stops borrowing what `picks` tells by the flags in `part` of a mapping.
    pub(super) fn release_part(
        &self,
        mapping: &VmMapping<M>,
        part: &Range<usize>,
        picks: impl Fn(PageFlags) -> bool,
        delta: &mut RssDelta<'_, M>,
    ) {
        if let Some(span) = mapping.resident_span(part) {
            self.release(&span, picks, |flags| delta.add(mapping.kind_of(flags), -1));
        }
    }

    /// Takes the access `lost` from what lies in `range`: should the backup become a page table again, it must not allow what
    /// its mappings do not. The other one will miss it there, and be given it by a fault.
    pub(super) fn narrow(&self, range: &Range<usize>, lost: PageFlags) {
        if let Some(first) = self.next_in(range) {
            self.transact(first..range.end, |cursor| cursor.narrow(range.end, lost));
        }
    }

    /// Maps the page that `lent`, a cursor of the backup, stands at where it is in the page table, to which `own` is a cursor, and
    /// returns whether the other one borrows it as well. Entries of the mapping allow `allowed` at most.
    fn show_here(&self, lent: &mut CursorOf<'_, M>, own: &mut CursorOf<'_, M>, allowed: PageFlags) -> bool {
        let addr = lent.position();
        let Entry::Page { frame, props } = lent.query() else { return false };
        let flags = props.flags;
        let is_for_both = self.is_borrowed_by_both(flags);
        let mut shown = as_in_use(props);
        shown.flags -= PageFlags::ACCESS - allowed;
        if flags.contains(PageFlags::PRIVATE) {
            shown.flags |= allowed - PageFlags::WRITE;
            if is_for_both {
                shown.flags -= PageFlags::WRITE;
            } else if frame.holders() == 1 {
                shown.flags |= allowed;
            }
        }
        if own.position() != addr {
            own.seek(addr);
        }
        own.map(frame.clone(), shown);
        is_for_both
    }

    /// Stops borrowing the entries of `run`, which have just been shown.
    fn let_go_of_run(&self, lent: &mut CursorOf<'_, M>, run: &Range<usize>, is_for_both: bool) {
        if run.is_empty() {
            return;
        }
        lent.seek(run.start);
        if is_for_both {
            lent.narrow(run.end, self.side.mark() | PageFlags::WRITE);
        } else {
            lent.unmap(run.end);
        }
    }
}

#[cfg(any(test, feature = "sim"))]
impl Borrow<crate::sim::Sim> {
    /// Checks the entries of the backup by themselves.
    ///
    /// # Panics
    ///
    /// Panics if nobody borrows one, or one that can be written has another holder.
    pub(crate) fn audit(&self) {
        for entry in self.backup.space().walk() {
            let flags = entry.props.flags;
            let is_kept_for_other = !self.is_alone
                && match flags.contains(PageFlags::PRIVATE) {
                    true => self.is_borrowed_by_both(flags) || flags.contains(self.side.other().mark()),
                    false => self.side == Side::Second,
                };
            assert!(
                self.is_borrowed(flags) || is_kept_for_other,
                "nobody needs the entry at {:#x}, which has {flags:?}",
                entry.addr
            );
            let is_own = flags.contains(PageFlags::PRIVATE | PageFlags::WRITE);
            assert!(!is_own || entry.holders == 1, "{:#x} is shared and can be written", entry.addr);
        }
    }
}

#[cfg(test)]
mod tests;
