// SPDX-License-Identifier: MPL-2.0

//! A mapping: what one contiguous range of addresses means.
//!
//! A [`VmMapping`] is a value in the interval map of its address space; the range is the key and not stored again.
//!
//! ```text
//!   0x1000 ─────────── 0x5000   VmMapping { memory: Vmo { offset: 0x3000 }, perms, sharing, flags, residency, .. }
//!        │ split_off(0x2000)
//!        ▼
//!   0x1000 ─ 0x3000   { Vmo { offset: 0x3000 }, .. }    0x3000 ─ 0x5000  { Vmo { offset: 0x5000 }, .. }
//! ```
//!
//! # Invariants
//!
//! - An entry of the page table never allows more than its mapping does. It may allow less: permissions are granted
//!   lazily, by the fault that misses them, and taken away eagerly.
//! - An entry with [`PageFlags::PRIVATE`](crate::machine::PageFlags::PRIVATE) belongs to the mapping alone. One
//!   without it shows a page of the object, or in anonymous memory the shared frame of zeros.
//! - What was [noted](VmMapping::note_entries) of a mapping bounds from above what the page table holds for it.

mod mappable;
mod residency;

use alloc::sync::{Arc, Weak};
use core::{
    fmt::Debug,
    mem,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

pub use self::mappable::{Joint, Mappable};
pub(crate) use self::residency::Noted;
use self::{mappable::same_mappable, residency::Residency};
use crate::{
    backing::withdraw,
    error::Error,
    machine::{CachePolicy, Machine, PageFlags},
    object::{Lease, MappedVmo, Mapper},
    perms::VmPerms,
    rss::RssKind,
    vmar::{policy::Promises, region::Region, watch::WatchSlot},
};

/// Whether writes are seen by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Writes go to pages of the mapping's own (`MAP_PRIVATE`).
    #[default]
    Private,
    /// Writes go to the object (`MAP_SHARED`).
    Shared,
}

bitflags::bitflags! {
    /// Traits of a mapping beyond its permissions.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MappingFlags: u32 {
        /// A fault just below the mapping makes it larger (`MAP_GROWSDOWN`).
        const GROWS_DOWN = 1 << 0;
        /// Its pages stay resident (`mlock`).
        const LOCKED = 1 << 1;
        /// With `LOCKED`: pages become resident when they are touched (`MLOCK_ONFAULT`).
        const LOCK_ON_FAULT = 1 << 2;
        /// No memory is set aside for it (`MAP_NORESERVE`).
        const NO_RESERVE = 1 << 3;
        /// A forked child does not get it (`MADV_DONTFORK`).
        const DONT_FORK = 1 << 4;
        /// A forked child finds zeros in it (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 1 << 5;
        /// Left out of core dumps (`MADV_DONTDUMP`).
        const DONT_DUMP = 1 << 6;
        /// The stack that a program starts on; only a mark for the kernel.
        const STACK = 1 << 7;
        /// A fault may map resident neighbours of the page as well.
        const FAULT_AROUND = 1 << 8;
        /// Accesses are expected in order (`MADV_SEQUENTIAL`).
        const SEQUENTIAL = 1 << 9;
        /// Accesses are expected in no order (`MADV_RANDOM`).
        const RANDOM = 1 << 10;
        /// Private, and nearly all of its pages are going to be written: a fault may copy several at once.
        const WRITE_AROUND = 1 << 11;
        /// Private, and never shows the object's own pages: a fault copies, whatever the access.
        const COPIED_IN = 1 << 12;
        /// It can no longer be taken away, moved or given other permissions (`mseal`).
        const SEALED = 1 << 13;
        /// Memory is promised to it, since it can be written or could be once (see
        /// [`Promises`](crate::vmar::policy::Promises)).
        const PROMISED = 1 << 14;
        /// Its pages may be made one with others of the same content (`MADV_MERGEABLE`); only a mark, nothing does that.
        const MERGEABLE = 1 << 15;
        /// Large pages are wanted for it (`MADV_HUGEPAGE`); only a mark, there are none.
        const HUGE_PAGES = 1 << 16;
        /// Large pages are not wanted for it (`MADV_NOHUGEPAGE`); only a mark.
        const NO_HUGE_PAGES = 1 << 17;
        /// Entries tell which of its pages were written since somebody [asked](crate::vmar::history). Of one without, all count
        /// as written; what continues it on either side without being tracked makes it one of these.
        const TRACKED = 1 << 18;
        /// The kernel's own mark on it: eight bits, not one (see [`label`](crate::vmar::Vmar::label)).
        const LABEL = 0xff << 24;
    }
}

impl MappingFlags {
    /// The flags by which memory is locked.
    pub const ANY_LOCK: Self = Self::LOCKED.union(Self::LOCK_ON_FAULT);
}

/// What a mapping shows.
#[derive(Debug)]
pub enum MappedMemory<M: Machine> {
    /// Zeros until written. Always private: anonymous memory that is shared is an object.
    Anonymous,
    /// An object.
    Vmo {
        /// The object, which knows of the mapping.
        object: MappedVmo<M>,
        /// Where in it the mapping starts (bytes, page-aligned).
        offset: usize,
    },
    /// Device memory.
    Device {
        /// The device memory.
        io: M::IoMem,
        /// Where in it the mapping starts (bytes, page-aligned).
        offset: usize,
        /// How it is cached.
        cache: CachePolicy,
    },
    /// A child region: what is there is its own affair, and no entry of the page table is its parent's.
    Region(Region<M>),
}

/// What a contiguous range of addresses means.
///
/// Kept to 64 bytes on 64-bit machines: a kernel, which has no vector registers to move values with, moves a larger one
/// byte by byte.
#[derive(Debug)]
pub struct VmMapping<M: Machine> {
    memory: MappedMemory<M>,
    mappable: Option<Arc<dyn Mappable>>,
    perms: VmPerms,
    sharing: Sharing,
    flags: MappingFlags,
    /// Who is handed its faults.
    pub(crate) watch: Option<WatchSlot>,
    /// Whether entries may be of several kinds; widened and shrunk as the residency is.
    mixed: AtomicBool,
    residency: Residency,
}

impl<M: Machine> VmMapping<M> {
    /// Makes a mapping of which nothing is resident.
    #[inline]
    pub fn new(
        memory: MappedMemory<M>,
        mappable: Option<Arc<dyn Mappable>>,
        perms: VmPerms,
        sharing: Sharing,
        flags: MappingFlags,
    ) -> Self {
        Self {
            memory,
            mappable,
            perms,
            sharing,
            flags,
            watch: None,
            mixed: AtomicBool::new(false),
            residency: Residency::none(),
        }
    }

    /// Makes a mapping of anonymous memory.
    #[inline]
    pub fn anonymous(perms: VmPerms, flags: MappingFlags) -> Self {
        Self::new(MappedMemory::Anonymous, None, perms, Sharing::Private, flags)
    }

    /// Returns what it shows.
    pub fn memory(&self) -> &MappedMemory<M> {
        &self.memory
    }

    /// Returns the object it shows, if it shows one.
    pub fn object(&self) -> Option<&MappedVmo<M>> {
        match &self.memory {
            MappedMemory::Vmo { object, .. } => Some(object),
            _ => None,
        }
    }

    /// Returns the child region that it stands for, if it is none of the region's own mappings.
    pub(crate) fn region(&self) -> Option<&Region<M>> {
        match &self.memory {
            MappedMemory::Region(region) => Some(region),
            _ => None,
        }
    }

    /// Returns what the kernel knows of it.
    pub fn mappable(&self) -> Option<&Arc<dyn Mappable>> {
        self.mappable.as_ref()
    }

    /// Returns what it allows now, and may ever allow.
    pub fn perms(&self) -> VmPerms {
        self.perms
    }

    /// Returns whether writes are seen by others.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Returns whether it is shared.
    pub fn is_shared(&self) -> bool {
        self.sharing == Sharing::Shared
    }

    /// Returns its traits.
    pub fn flags(&self) -> MappingFlags {
        self.flags
    }

    /// Returns the kernel's own mark on it: see [`label`](crate::vmar::Vmar::label).
    pub fn label(&self) -> u8 {
        (self.flags.bits() >> MappingFlags::LABEL.bits().trailing_zeros()) as u8
    }

    /// Returns whether somebody is handed its faults.
    pub(crate) fn is_handed(&self) -> bool {
        self.watch.is_some()
    }

    /// Returns where in its object or device it starts (bytes); zero for anonymous memory.
    pub fn offset(&self) -> usize {
        match &self.memory {
            MappedMemory::Anonymous | MappedMemory::Region(_) => 0,
            MappedMemory::Vmo { offset, .. } | MappedMemory::Device { offset, .. } => *offset,
        }
    }

    /// Returns the part of `range` (bytes) outside of which the page table certainly holds nothing for the mapping;
    /// `None` if that is all of it.
    pub fn resident_span(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let span = self.residency.span();
        let span = span.start.max(range.start)..span.end.min(range.end);
        (!span.is_empty()).then_some(span)
    }

    /// Returns whether the page table may hold anything for it.
    pub(crate) fn has_entries(&self) -> bool {
        !self.residency.span().is_empty()
    }

    /// Returns whether something may be resident right below `addr` (bytes), and nothing is at `addr` or above.
    pub fn ends_at(&self, addr: usize) -> bool {
        self.residency.high.load(Relaxed) == addr
    }

    /// Returns whether its entries may be of several kinds, so that each must be asked for its PRIVATE flag. Otherwise
    /// all are of the [main kind](Self::main_kind), and counting them is enough.
    pub fn is_mixed(&self) -> bool {
        self.mixed.load(Relaxed)
    }

    /// Notes that entries with `flags` are about to be made in `range` (bytes): to be called before the first is, with
    /// the mappings' lock held for reading or writing. Cheap when it tells nothing new.
    pub fn note_entries(&self, range: &Range<usize>, flags: PageFlags) {
        let is_anonymous = matches!(self.memory, MappedMemory::Anonymous);
        self.residency.note(range);
        if flags.contains(PageFlags::PRIVATE) != is_anonymous && !self.is_mixed() {
            self.mixed.store(true, Relaxed);
        }
    }

    /// Notes that no entries are left. Those who have just emptied them hold the mappings' lock for writing.
    pub fn forget_entries(&mut self) {
        self.residency = Residency::none();
        *self.mixed.get_mut() = false;
    }

    /// Returns what its entries count as unless it is [mixed](Self::is_mixed): private pages in anonymous memory, the
    /// object's own pages otherwise; `None` for device memory, which is not counted.
    pub fn main_kind(&self) -> Option<RssKind> {
        match &self.memory {
            MappedMemory::Anonymous => Some(RssKind::Anonymous),
            MappedMemory::Vmo { object, .. } => Some(object.kind().into()),
            MappedMemory::Device { .. } | MappedMemory::Region(_) => None,
        }
    }

    /// Returns what an entry with `flags` counts as; `None` if it is not counted (the frame of zeros, a device).
    pub fn kind_of(&self, flags: PageFlags) -> Option<RssKind> {
        if flags.contains(PageFlags::PRIVATE) {
            return Some(RssKind::Anonymous);
        }
        match &self.memory {
            MappedMemory::Vmo { object, .. } => Some(object.kind().into()),
            MappedMemory::Anonymous | MappedMemory::Device { .. } | MappedMemory::Region(_) => None,
        }
    }

    /// Returns whether it counts as data: private, writable, and no stack (`RLIMIT_DATA`; Linux since 4.5).
    pub fn is_data(&self) -> bool {
        is_data(self.perms, self.sharing, self.flags)
    }

    /// Splits it, `distance` bytes after its start, at the address `at`, and returns the upper part. The caller
    /// shortens this one's range.
    pub fn split_off(&mut self, distance: usize, at: usize) -> Self {
        Self {
            memory: self.memory.at(distance),
            mappable: self.mappable.clone(),
            perms: self.perms,
            sharing: self.sharing,
            flags: self.flags,
            watch: self.watch,
            mixed: AtomicBool::new(self.is_mixed()),
            residency: self.residency.split_off(at),
        }
    }

    /// Returns the same mapping from `distance` bytes on, of which nothing is resident.
    pub fn copy_at(&self, distance: usize) -> Self {
        Self {
            memory: self.memory.at(distance),
            mappable: self.mappable.clone(),
            perms: self.perms,
            sharing: self.sharing,
            flags: self.flags,
            watch: self.watch,
            mixed: AtomicBool::new(false),
            residency: Residency::none(),
        }
    }

    /// Cuts `distance` bytes off its front, so that it starts at `at`. The caller shortens its range.
    pub fn cut_front(&mut self, distance: usize, at: usize) {
        self.memory.shift(distance as isize);
        self.residency = self.residency.split_off(at);
    }

    /// Makes it start `distance` bytes earlier. The caller extends its range.
    pub fn extend_front(&mut self, distance: usize) {
        self.memory.shift(-(distance as isize));
    }

    /// Cuts off what lies at `at` and above. The caller shortens its range.
    pub fn cut_back(&mut self, at: usize) {
        self.residency.cut_back(at);
    }

    /// Tells whoever knows of it that it has been cut.
    #[inline(always)]
    pub(crate) fn note_cut(&self) {
        if let Some(mappable) = &self.mappable {
            mappable.note_cut();
        }
    }

    /// Returns how it hangs together with others of the same.
    #[inline(always)]
    pub(crate) fn joint(&self) -> Joint {
        self.mappable.as_ref().map_or(Joint::Seamless, |mappable| mappable.joint())
    }

    /// Returns whether `next`, which starts `length` bytes after this one does and where this one ends, continues
    /// it: one mapping could stand for both.
    pub fn continues_with(&self, length: usize, next: &Self) -> bool {
        self.is_alike(length, next) && self.joint() == Joint::Seamless
    }

    /// The same, whether or not they may become one.
    #[inline(always)]
    pub(crate) fn is_alike(&self, length: usize, next: &Self) -> bool {
        self.perms == next.perms
            && self.flags == next.flags
            && self.watch == next.watch
            && self.sharing == next.sharing
            && same_mappable(self.mappable.as_ref(), next.mappable.as_ref())
            && self.memory.continues_with(length, &next.memory)
    }

    /// Returns what was noted of its entries.
    pub(crate) fn noted(&self) -> Noted {
        Noted { span: self.residency.span(), mixed: self.is_mixed() }
    }

    /// Takes over the entries of a mapping for which [`continues_with`](Self::continues_with) holds. The caller extends the
    /// range.
    pub(crate) fn absorb(&mut self, next: &Noted) {
        if !next.span.is_empty() {
            self.residency.note(&next.span);
            *self.mixed.get_mut() |= next.mixed;
        }
    }

    /// Returns the same mapping with nothing resident and nobody who watches it, for the forked space `child`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if the object's list of mappings cannot grow.
    pub fn fork(&self, child: Weak<dyn Mapper<M>>) -> Result<Self, Error> {
        let memory = match &self.memory {
            MappedMemory::Vmo { object, offset } => {
                MappedMemory::Vmo { object: object.fork(child)?, offset: *offset }
            }
            other => other.at(0),
        };
        Ok(Self::new(memory, self.mappable.clone(), self.perms, self.sharing, self.flags))
    }

    /// Replaces what it allows now; the MAY bits stay. Notes that memory is promised to it if the space keeps its promises.
    pub(crate) fn set_access(&mut self, access: VmPerms, promises: Promises) {
        self.perms = (self.perms & VmPerms::MAY) | access.access();
        self.flags |= promises.to(access, self.sharing, self.flags);
    }

    /// Returns what it was made under, if that can be taken back.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.object().and_then(|object| object.lease())
    }

    /// Returns what is left of its permissions after what its lease has withdrawn.
    pub(crate) fn leased_perms(&self) -> VmPerms {
        match self.lease() {
            Some(lease) => withdraw(self.perms, self.sharing, lease.withdrawn()),
            None => self.perms,
        }
    }

    /// Takes away what is not in `perms`.
    pub(crate) fn keep_perms(&mut self, perms: VmPerms) {
        self.perms &= perms;
    }

    /// Replaces the kernel's own mark on it.
    pub(crate) fn set_label(&mut self, label: u8) {
        let label = u32::from(label) << MappingFlags::LABEL.bits().trailing_zeros();
        self.flags = (self.flags - MappingFlags::LABEL) | MappingFlags::from_bits_truncate(label);
    }

    /// Replaces its traits, and returns the former.
    pub(crate) fn set_flags(&mut self, flags: MappingFlags) -> MappingFlags {
        mem::replace(&mut self.flags, flags)
    }

    /// Returns whether dropping it has effects beyond this crate's own memory, and so is better done without locks.
    pub(crate) fn is_heavy(&self) -> bool {
        !matches!(self.memory, MappedMemory::Anonymous) || self.mappable.is_some()
    }
}

impl<M: Machine> MappedMemory<M> {
    /// Returns the same memory from `distance` bytes on.
    fn at(&self, distance: usize) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Vmo { object, offset } => Self::Vmo { object: object.clone(), offset: offset + distance },
            Self::Device { io, offset, cache } => {
                Self::Device { io: io.clone(), offset: offset + distance, cache: *cache }
            }
            Self::Region(region) => Self::Region(region.clone()),
        }
    }

    /// Moves the start by `distance` bytes.
    fn shift(&mut self, distance: isize) {
        match self {
            Self::Anonymous | Self::Region(_) => {}
            Self::Vmo { offset, .. } | Self::Device { offset, .. } => {
                *offset = offset.wrapping_add_signed(distance);
            }
        }
    }

    fn continues_with(&self, length: usize, next: &Self) -> bool {
        match (self, next) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::Vmo { object, offset }, Self::Vmo { object: next_object, offset: next_offset }) => {
                offset.checked_add(length) == Some(*next_offset) && object.is_alike(next_object)
            }
            // Device mappings never merge: what they show is not ours to compare. Regions are no mappings.
            _ => false,
        }
    }
}

/// Returns whether a mapping with these traits counts as data.
pub(crate) fn is_data(perms: VmPerms, sharing: Sharing, flags: MappingFlags) -> bool {
    perms.contains(VmPerms::WRITE) && sharing == Sharing::Private && !flags.contains(MappingFlags::GROWS_DOWN)
}

#[cfg(test)]
mod tests;
