// SPDX-License-Identifier: MPL-2.0

//! Making mappings.
//!
//! ```text
//!   vmar.new_map(size).read().write().placement(..).build()
//!         │                │
//!         │                └─ needs the right of that name, in the type
//!         └─ everything else has a default: anonymous, private, anywhere
//! ```

mod options;

use alloc::sync::{Arc, Weak};
use core::{mem, ops::Range};

use aster_rights::Rights;

pub use self::options::VmarMapOptions;
use super::{
    Vmar_,
    edit::Removed,
    entries::{clip, resident_span, unmap_within},
    mappings::Mappings,
    populate::Populate,
    shared::Changing,
};
use crate::{
    backing::{self, Addressing, Backing, Method, Personality, Plan, Terms, Tracing},
    error::{Error, Limit},
    limits::Usage,
    machine::{AddressSpace, CachePolicy, Cursor, IoMem, Machine, PageProps},
    mapping::{self, Mappable, MappedMemory, MappingFlags, Sharing, VmMapping},
    object::{Lease, MappedVmo, Mapper, Vmo, WriteAccess},
    perms::VmPerms,
    placement::Placement,
};

/// What is asked for.
struct Request<M: Machine> {
    size: usize,
    align: usize,
    placement: Placement,
    perms: VmPerms,
    may_perms: VmPerms,
    source: Source<M>,
    mappable: Option<Arc<dyn Mappable>>,
    backing: Option<Backing>,
    personality: Personality,
    sharing: Sharing,
    flags: MappingFlags,
    populate: bool,
}

/// What is to be seen in the mapping.
enum Source<M: Machine> {
    Anonymous,
    Vmo { vmo: Vmo<M>, offset: usize, lease: Option<Arc<Lease>> },
    Device { io: M::IoMem, offset: usize, cache: CachePolicy },
}

impl<M: Machine> Vmar_<M> {
    fn map(self: &Arc<Self>, request: &mut Request<M>, handle: Rights) -> Result<usize, Error> {
        let is_plain = matches!(request.source, Source::Anonymous)
            && request.mappable.is_none()
            && request.backing.is_none()
            && request.sharing == Sharing::Private;
        if is_plain { self.map_plain(request, handle) } else { self.map_other(request, handle) }
    }

    /// Maps anonymous memory, by far the most common case: what it is made of is not moved about.
    #[inline(always)]
    fn map_plain(self: &Arc<Self>, request: &Request<M>, handle: Rights) -> Result<usize, Error> {
        let Request { size, align, placement, .. } = *request;
        check_size(size, align, M::PAGE_SIZE)?;
        let Plan { perms, .. } = backing::negotiate(&Terms {
            handle,
            ceiling: self.ceiling,
            object: Rights::all(),
            backing: None,
            sharing: Sharing::Private,
            wanted: request.perms | request.may_perms,
            personality: request.personality,
            tracing: Tracing::Untraced,
            addressing: Addressing::Translated,
        })?;
        check_placement(placement, align)?;
        let mut removed = Removed::new();
        let mut mappings = self.change_for(placement, size)?;
        if mappings.policy.refuses(perms.access()) {
            return Err(Error::AccessDenied);
        }
        let flags = request.flags | mappings.default_flags();
        let flags = flags | mappings.policy.promise(perms, Sharing::Private, flags);
        let range = mappings.place(size, align, placement, &self.range)?;
        let replaces = matches!(placement, Placement::Replacing(_));
        if replaces {
            self.check_unsealed(&mappings, &range)?;
        }
        self.check_limits(
            &mappings,
            &range,
            replaces,
            mapping::is_data(perms, Sharing::Private, flags),
            flags,
        )?;
        if replaces {
            mappings.try_reserve(2)?;
            removed.try_reserve_for(&mappings, &range)?;
            self.unmap_entries(&mappings, &range);
            // From here on nothing fails.
            mappings.cut(&range, &mut removed);
        }
        mappings.insert_anonymous(&range, perms, flags)?;
        drop(mappings);
        self.populate_new(range.clone(), request.populate, flags);
        Ok(range.start)
    }

    /// Makes the pages of a new mapping resident if that is asked for, or it is locked.
    #[inline(always)]
    fn populate_new(&self, range: Range<usize>, is_asked: bool, flags: MappingFlags) {
        // What is locked as it is touched waits for that, whatever was asked.
        let is_asked = is_asked && !flags.contains(MappingFlags::LOCK_ON_FAULT);
        if is_asked || flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED {
            // The mapping is there; what could not be made resident now is when it is touched.
            let _ = self.populate(range, Populate::AsNeeded);
        }
    }

    #[inline(never)]
    fn map_other(self: &Arc<Self>, request: &mut Request<M>, handle: Rights) -> Result<usize, Error> {
        check_size(request.size, request.align, M::PAGE_SIZE)?;
        let Plan { method, perms, .. } = request.negotiate(handle, self.ceiling)?;
        request.check()?;
        if method == Method::CopyIn {
            request.flags |= MappingFlags::COPIED_IN;
        }
        let Request { size, mut align, placement, sharing, populate, .. } = *request;
        let mut within = self.range.clone();
        if let Some(mappable) = &request.mappable {
            let constraint = mappable.constraint();
            align = align.max(constraint.align);
            check_size(size, align, M::PAGE_SIZE)?;
            within = clip(&within, &constraint.within);
            check_placement(placement, align)?;
        }

        let memory = request.take_memory(self, perms)?;
        let mut removed = Removed::new();
        let replaces = matches!(placement, Placement::Replacing(_));
        let mut mappings = self.change_for(placement, size)?;
        if mappings.policy.refuses(perms.access()) {
            return Err(Error::AccessDenied);
        }
        let mut flags = request.flags | mappings.default_flags();
        flags |= mappings.policy.promise(perms, sharing, flags);
        if matches!(memory, MappedMemory::Device { .. }) {
            // It is always there.
            flags.remove(MappingFlags::ANY_LOCK);
        }
        let range = mappings.place(size, align, placement, &within)?;
        if replaces {
            self.check_unsealed(&mappings, &range)?;
        }
        self.check_limits(&mappings, &range, replaces, mapping::is_data(perms, sharing, flags), flags)?;
        if replaces {
            mappings.try_reserve(2)?;
            removed.try_reserve_for(&mappings, &range)?;
        } else {
            mappings.try_reserve(1)?;
        }
        let mut mapping = VmMapping::new(memory, request.mappable.take(), perms, sharing, flags);
        if mapping.lease().is_some() {
            // What was taken back in between, by somebody who has not found it here.
            let left = mapping.leased_perms();
            if !left.contains(perms.access()) {
                return Err(Error::AccessDenied);
            }
            mapping.keep_perms(left);
        }
        match mapping.memory() {
            MappedMemory::Device { .. } => self.map_device(&mappings, &range, &mapping)?,
            _ if replaces => self.unmap_entries(&mappings, &range),
            _ => {}
        }
        // From here on nothing fails, unless nothing has been done yet.
        if replaces {
            mappings.cut(&range, &mut removed);
        }
        mappings.insert(range.clone(), mapping);
        drop(mappings);
        self.populate_new(range.clone(), populate, flags);
        Ok(range.start)
    }

    /// Locks the mappings for one that is to go there.
    #[inline(always)]
    fn change_for(&self, placement: Placement, size: usize) -> Result<Changing<'_, M>, Error> {
        match placement {
            Placement::Replacing(start) => self.change_within(&(start..start.saturating_add(size))),
            _ => self.change(),
        }
    }

    /// Checks that a mapping at `range`, which `replaces` what is there or not, keeps all limits.
    #[inline(always)]
    fn check_limits(
        &self,
        mappings: &Mappings<M>,
        range: &Range<usize>,
        replaces: bool,
        is_data: bool,
        flags: MappingFlags,
    ) -> Result<(), Error> {
        if mappings.account.is_open() {
            return self.check_limits_among_regions(mappings, range, replaces, is_data, flags);
        }
        let check = |limit, used, more| self.limits.check(limit, used, more);
        check_limits_by(mappings, range, replaces, is_data, flags, check)
    }

    #[cold]
    #[inline(never)]
    fn check_limits_among_regions(
        &self,
        mappings: &Mappings<M>,
        range: &Range<usize>,
        replaces: bool,
        is_data: bool,
        flags: MappingFlags,
    ) -> Result<(), Error> {
        let check = |limit, used, more| self.check_limit(mappings, limit, used, more);
        check_limits_by(mappings, range, replaces, is_data, flags, check)
    }

    /// Replaces the entries of `range` by those of a device mapping: all, or none on failure.
    fn map_device(
        &self,
        mappings: &Mappings<M>,
        range: &Range<usize>,
        mapping: &VmMapping<M>,
    ) -> Result<(), Error> {
        let MappedMemory::Device { io, offset, cache } = mapping.memory() else { return Ok(()) };
        let flags = mapping.perms().page_flags();
        let props = PageProps { flags, cache: *cache };
        mapping.note_entries(range, flags);
        let mut delta = self.rss.delta();
        self.space.transact(range.clone(), range.len() / M::PAGE_SIZE, |cursor| {
            if resident_span(mappings, range, |_| true).is_some() {
                unmap_within(cursor, mappings, range, &mut delta);
                cursor.seek(range.start);
            }
            for page in (0..range.len()).step_by(M::PAGE_SIZE) {
                cursor.map_device(io, offset + page, props);
            }
        })?;
        self.release(mappings, range, &mut delta);
        Ok(())
    }
}

/// Has `check` look at each limit that a mapping at `range` comes up against, what is used of it, and how much more that will be.
#[inline(always)]
fn check_limits_by<M: Machine>(
    mappings: &Mappings<M>,
    range: &Range<usize>,
    replaces: bool,
    is_data: bool,
    flags: MappingFlags,
    check: impl Fn(Limit, usize, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let usage = mappings.usage();
    let replaced = if replaces { mappings.usage_within(range) } else { Usage::default() };
    // As in Linux, the count is looked at before the new mapping is counted.
    check(Limit::Mappings, usage.mappings, 0)?;
    if replaces && mappings.splits_one(range) {
        check(Limit::Mappings, usage.mappings, 1)?;
    }
    if flags.contains(MappingFlags::LOCKED) {
        // As in Linux, before what is replaced is counted out.
        check(Limit::Locked, usage.locked, range.len())?;
    }
    check(Limit::AddressSpace, usage.address_space - replaced.address_space, range.len())?;
    if is_data {
        // As in Linux, whatever is replaced makes room.
        check(Limit::Data, usage.data, range.len() - replaced.address_space)?;
    }
    Ok(())
}

pub(super) fn check_size(size: usize, align: usize, page_size: usize) -> Result<(), Error> {
    if size == 0 || !size.is_multiple_of(page_size) {
        return Err(Error::InvalidSize);
    }
    if !align.is_power_of_two() || align < page_size {
        return Err(Error::InvalidAlignment);
    }
    Ok(())
}

/// Checks that an address that is insisted on is aligned.
fn check_placement(placement: Placement, align: usize) -> Result<(), Error> {
    match placement {
        Placement::Exactly(addr) | Placement::Apart(addr, _) | Placement::Replacing(addr)
            if !addr.is_multiple_of(align) =>
        {
            Err(Error::InvalidAlignment)
        }
        _ => Ok(()),
    }
}

impl<M: Machine> Request<M> {
    fn show(&mut self, vmo: Vmo<M>, lease: Option<Arc<Lease>>) {
        let offset = match self.source {
            Source::Vmo { offset, .. } => offset,
            _ => 0,
        };
        self.source = Source::Vmo { vmo, offset, lease };
    }

    fn check(&self) -> Result<(), Error> {
        check_placement(self.placement, self.align)?;
        let (offset, limit) = match &self.source {
            Source::Anonymous if self.sharing == Sharing::Shared => return Err(Error::InvalidOptions),
            Source::Anonymous => (0, usize::MAX),
            Source::Vmo { offset, .. } => (*offset, usize::MAX),
            Source::Device { io, offset, .. } => (*offset, io.size()),
        };
        if !offset.is_multiple_of(M::PAGE_SIZE) {
            return Err(Error::InvalidAlignment);
        }
        if offset.checked_add(self.size).is_none_or(|end| end > limit) {
            return Err(Error::InvalidOffset);
        }
        if self.flags.contains(MappingFlags::GROWS_DOWN) && self.sharing == Sharing::Shared {
            return Err(Error::InvalidOptions);
        }
        Ok(())
    }

    #[inline]
    fn negotiate(&self, handle: Rights, ceiling: Rights) -> Result<Plan, Error> {
        let (object, known) = match &self.source {
            Source::Anonymous => (Rights::all(), None),
            Source::Vmo { vmo, .. } => (vmo.rights(), Some(Backing::MEMORY)),
            Source::Device { .. } => (Rights::all(), Some(Backing::DEVICE)),
        };
        backing::negotiate(&Terms {
            handle,
            ceiling,
            object,
            backing: self.backing.or(known),
            // Nobody copies device memory: a private mapping of it writes to the device or not at all.
            sharing: if matches!(self.source, Source::Device { .. }) {
                Sharing::Shared
            } else {
                self.sharing
            },
            wanted: self.perms | self.may_perms,
            personality: self.personality,
            // What a debugger writes goes to a copy that is the mapping's own.
            tracing: Tracing::Untraced,
            addressing: Addressing::Translated,
        })
    }

    /// Takes out what is to be seen, as the mapping holds it.
    fn take_memory(&mut self, space: &Arc<Vmar_<M>>, perms: VmPerms) -> Result<MappedMemory<M>, Error> {
        let source = mem::replace(&mut self.source, Source::Anonymous);
        Ok(match source {
            Source::Anonymous => MappedMemory::Anonymous,
            Source::Vmo { vmo, offset, lease } => {
                let access = match self.sharing {
                    Sharing::Private => WriteAccess::Private,
                    Sharing::Shared if perms.contains(VmPerms::MAY_WRITE) => WriteAccess::MayWrite,
                    Sharing::Shared => WriteAccess::SharedReadOnly,
                };
                let mapper: Weak<dyn Mapper<M>> = space.root();
                MappedMemory::Vmo {
                    object: MappedVmo::new(vmo.object().clone(), mapper, access, lease)?,
                    offset,
                }
            }
            Source::Device { io, offset, cache } => MappedMemory::Device { io, offset, cache },
        })
    }
}

#[cfg(test)]
mod tests;
