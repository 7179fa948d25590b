// SPDX-License-Identifier: MPL-2.0

//! Making mappings.
//!
//! ```text
//!   vmar.new_map(size).read().write().placement(..).build()
//!         │                │
//!         │                └─ needs the right of that name, in the type
//!         └─ everything else has a default: anonymous, private, anywhere
//! ```

use alloc::sync::{Arc, Weak};
use core::{marker::PhantomData, mem, ops::Range};

use aster_rights::{Rights, TRightSet, TRights, require};

use super::{
    Vmar, Vmar_,
    edit::Removed,
    entries::{clip, resident_span, unmap_within},
    mappings::Mappings,
    populate::Populate,
};
use crate::{
    backing::{self, Addressing, Backing, Method, Personality, Plan, Terms, Tracing},
    error::{Error, Limit},
    limits::Usage,
    machine::{AddressSpace, CachePolicy, Cursor, IoMem, Machine, PageProps, SleepLock},
    mapping::{self, Mappable, MappedMemory, MappingFlags, Sharing, VmMapping},
    object::{Grant, Lease, MappedVmo, Mapper, Vmo, WriteAccess},
    perms::VmPerms,
    placement::Placement,
};

/// A mapping in the making.
#[must_use = "nothing is mapped before `build`"]
pub struct VmarMapOptions<'a, M: Machine, R> {
    vmar: &'a Arc<Vmar_<M>>,
    request: Request<M>,
    rights: PhantomData<fn() -> R>,
}

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

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Starts to make a mapping of `size` bytes: by default private, anonymous memory that allows no access, anywhere.
    #[inline]
    pub fn new_map(&self, size: usize) -> VmarMapOptions<'_, M, R> {
        VmarMapOptions {
            vmar: &self.inner,
            request: Request {
                size,
                align: M::PAGE_SIZE,
                placement: Placement::Anywhere,
                perms: VmPerms::empty(),
                may_perms: VmPerms::MAY,
                source: Source::Anonymous,
                mappable: None,
                backing: None,
                personality: Personality::Usual,
                sharing: Sharing::Private,
                flags: MappingFlags::empty(),
                populate: false,
            },
            rights: PhantomData,
        }
    }

    /// Returns where a mapping of `size` bytes at a multiple of `align` (bytes) would go now. Nobody keeps the place free.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSize`], [`Error::InvalidAlignment`] and [`Error::NoRoom`] as for
    /// [`build`](VmarMapOptions::build).
    pub fn find_room(&self, size: usize, align: usize) -> Result<usize, Error> {
        check_size(size, align, M::PAGE_SIZE)?;
        let user = &self.inner.range;
        let range = self.inner.mappings.read().place(size, align, Placement::Anywhere, user)?;
        Ok(range.start)
    }
}

impl<M: Machine, R: TRights> VmarMapOptions<'_, M, R> {
    /// Allows what `perms` says; its MAY bits have no meaning here.
    #[require(R > Read | Write | Exec)]
    #[inline]
    pub fn perms(mut self, perms: VmPerms) -> Self {
        self.request.perms = perms.access();
        self
    }

    /// Allows to read.
    #[require(R > Read)]
    #[inline]
    pub fn read(mut self) -> Self {
        self.request.perms |= VmPerms::READ;
        self
    }

    /// Allows to write.
    #[require(R > Write)]
    #[inline]
    pub fn write(mut self) -> Self {
        self.request.perms |= VmPerms::WRITE;
        self
    }

    /// Allows to execute.
    #[require(R > Exec)]
    #[inline]
    pub fn exec(mut self) -> Self {
        self.request.perms |= VmPerms::EXEC;
        self
    }

    /// Keeps only these MAY bits of those that the rights give. All of them by default.
    pub fn may_perms(mut self, may_perms: VmPerms) -> Self {
        self.request.may_perms = may_perms & VmPerms::MAY;
        self
    }

    /// Shows an object, from its start on unless [`vmo_offset`](Self::vmo_offset) says otherwise.
    pub fn vmo(mut self, vmo: impl Into<Vmo<M>>) -> Self {
        self.request.show(vmo.into(), None);
        self
    }

    /// Shows an object in the same way, by a capability that can be taken back.
    pub fn grant(mut self, grant: &Grant<M>) -> Self {
        let (vmo, lease) = grant.parts();
        self.request.show(vmo, Some(lease));
        self
    }

    /// Shows the object given before from `offset` (bytes) on.
    pub fn vmo_offset(mut self, new_offset: usize) -> Self {
        if let Source::Vmo { offset, .. } = &mut self.request.source {
            *offset = new_offset;
        }
        self
    }

    /// Shows device memory from `offset` (bytes) on. Its pages are all mapped at once.
    pub fn device(mut self, io: M::IoMem, offset: usize, cache: CachePolicy) -> Self {
        self.request.source = Source::Device { io, offset, cache };
        self
    }

    /// Starts at a multiple of `align` (bytes). The page size by default.
    pub fn align(mut self, align: usize) -> Self {
        self.request.align = align;
        self
    }

    /// Goes there. [`Placement::Anywhere`] by default.
    #[inline]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.request.placement = placement;
        self
    }

    /// Lets others see what is written. Only an object or a device can be shared.
    #[inline]
    pub fn shared(mut self) -> Self {
        self.request.sharing = Sharing::Shared;
        self
    }

    /// Lets a fault map resident neighbours as well.
    pub fn fault_around(self) -> Self {
        self.flags(MappingFlags::FAULT_AROUND)
    }

    /// Adds what the kernel knows of the mapping.
    pub fn mappable(mut self, mappable: Arc<dyn Mappable>) -> Self {
        self.request.mappable = Some(mappable);
        self
    }

    /// Says what the mapping's backing allows. Without it, objects are taken for [memory](Backing::MEMORY).
    pub fn backing(mut self, backing: Backing) -> Self {
        self.request.backing = Some(backing);
        self
    }

    /// Says what the program's personality makes of the permissions.
    #[inline]
    pub fn personality(mut self, personality: Personality) -> Self {
        self.request.personality = personality;
        self
    }

    /// Adds traits.
    #[inline]
    pub fn flags(mut self, flags: MappingFlags) -> Self {
        self.request.flags |= flags;
        self
    }

    /// Makes its pages resident before [`build`](Self::build) returns (`MAP_POPULATE`). Failing to is no error.
    pub fn populate(mut self) -> Self {
        self.request.populate = true;
        self
    }

    /// Decides, without doing it, how [`build`](Self::build) makes the mapping and what that will allow.
    ///
    /// # Errors
    ///
    /// As for [`negotiate`](backing::negotiate).
    pub fn plan(&self) -> Result<Plan, Error> {
        self.request.negotiate(TRightSet::<R>::RIGHTS, self.vmar.ceiling)
    }

    /// Makes the mapping, and returns its address (bytes).
    ///
    /// A mapping that is [locked](MappingFlags::LOCKED), and not just on faults, is populated as well.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidSize`] if the size is zero or no multiple of the page size.
    /// - [`Error::InvalidAlignment`] if an address or offset is none of whole pages, the alignment no power of two
    ///   or less than a page, or an address that was insisted on not what [its object needs](Mappable::constraint).
    /// - [`Error::InvalidOffset`] if offset and size together overflow, or leave the device memory.
    /// - [`Error::InvalidOptions`] if anonymous memory is to be shared, or something that grows down.
    /// - [`Error::AccessDenied`] if the permissions go beyond the rights of the handle or of the object.
    /// - [`Error::Refused`] if the [backing](Self::backing) does not go along.
    /// - [`Error::Occupied`] and [`Error::OutOfRange`] for an address that was insisted on, [`Error::NoRoom`] for one
    ///   that was not.
    /// - [`Error::LimitExceeded`].
    /// - [`Error::Destroyed`].
    /// - [`Error::OutOfMemory`].
    #[inline]
    pub fn build(mut self) -> Result<usize, Error> {
        self.vmar.map(&mut self.request, TRightSet::<R>::RIGHTS)
    }
}

impl<M: Machine> Vmar_<M> {
    fn map(self: &Arc<Self>, request: &mut Request<M>, handle: Rights) -> Result<usize, Error> {
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
            if let Placement::Exactly(addr) | Placement::Replacing(addr) = placement
                && !addr.is_multiple_of(align)
            {
                return Err(Error::InvalidAlignment);
            }
        }

        // Nothing but anonymous memory, by far the most common case, is moved about for free.
        let is_plain = matches!(request.source, Source::Anonymous) && request.mappable.is_none();
        let memory = if is_plain { None } else { Some(request.take_memory(self, perms)?) };
        let mut removed = Removed::new();
        let replaces = matches!(placement, Placement::Replacing(_));
        let mut mappings = match placement {
            Placement::Replacing(start) => self.change_within(&(start..start.saturating_add(size)))?,
            _ => self.change()?,
        };
        mappings.policy.check_access(perms.access())?;
        let mut flags = request.flags | mappings.default_flags();
        if matches!(memory, Some(MappedMemory::Device { .. })) {
            // It is always there.
            flags.remove(MappingFlags::ANY_LOCK);
        }
        let range = mappings.place(size, align, placement, &within)?;
        self.check_limits(&mappings, &range, replaces, mapping::is_data(perms, sharing, flags), flags)?;
        if replaces {
            mappings.try_reserve(2)?;
            removed.try_reserve_for(&mappings, &range)?;
        } else if !is_plain {
            mappings.try_reserve(1)?;
        }
        let mut mapping =
            memory.map(|memory| VmMapping::new(memory, request.mappable.take(), perms, sharing, flags));
        if let Some(mapping) = mapping.as_mut().filter(|mapping| mapping.lease().is_some()) {
            // What was taken back in between, by somebody who has not found it here.
            let left = mapping.leased_perms();
            if !left.contains(perms.access()) {
                return Err(Error::AccessDenied);
            }
            mapping.keep_perms(left);
        }
        match &mapping {
            Some(mapping) if matches!(mapping.memory(), MappedMemory::Device { .. }) => {
                self.map_device(&mappings, &range, mapping)?;
            }
            _ if replaces => self.unmap_entries(&mappings, &range),
            _ => {}
        }
        // From here on nothing fails, unless nothing has been done yet.
        if replaces {
            mappings.cut(&range, &mut removed);
        }
        let start = range.start;
        let populate = populate || flags & MappingFlags::ANY_LOCK == MappingFlags::LOCKED;
        let populated = populate.then(|| range.clone());
        match mapping {
            Some(mapping) => mappings.insert(range, mapping),
            None => mappings.insert_anonymous(&range, perms, flags)?,
        }
        drop(mappings);
        if let Some(range) = populated {
            // The mapping is there; what could not be made resident now is when it is touched.
            let _ = self.populate(range, Populate::AsNeeded);
        }
        Ok(start)
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
        check(Limit::Locked, usage.locked - replaced.locked, range.len())?;
    }
    check(Limit::AddressSpace, usage.address_space - replaced.address_space, range.len())?;
    if is_data {
        check(Limit::Data, usage.data - replaced.data, range.len())?;
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

impl<M: Machine> Request<M> {
    fn show(&mut self, vmo: Vmo<M>, lease: Option<Arc<Lease>>) {
        let offset = match self.source {
            Source::Vmo { offset, .. } => offset,
            _ => 0,
        };
        self.source = Source::Vmo { vmo, offset, lease };
    }

    fn check(&self) -> Result<(), Error> {
        if let Placement::Exactly(addr) | Placement::Replacing(addr) = self.placement
            && !addr.is_multiple_of(self.align)
        {
            return Err(Error::InvalidAlignment);
        }
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
