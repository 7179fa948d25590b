// SPDX-License-Identifier: MPL-2.0

//! The builder of mappings: what is asked for, one option after the other.

use alloc::sync::Arc;
use core::marker::PhantomData;

use aster_rights::{TRightSet, TRights, require};

use super::{Request, Source, check_size};
use crate::{
    backing::{Backing, Personality, Plan},
    error::Error,
    machine::{CachePolicy, Machine, SleepLock},
    mapping::{Mappable, MappingFlags, Sharing},
    object::{Grant, Vmo},
    perms::VmPerms,
    placement::Placement,
    vmar::{Vmar, Vmar_},
};

/// A mapping in the making.
#[must_use = "nothing is mapped before `build`"]
pub struct VmarMapOptions<'a, M: Machine, R> {
    vmar: &'a Arc<Vmar_<M>>,
    request: Request<M>,
    rights: PhantomData<fn() -> R>,
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
        self.find_place(size, align, Placement::Anywhere)
    }

    /// Returns where such a mapping would go if it were to go there.
    ///
    /// # Errors
    ///
    /// Those of [`find_room`](Self::find_room), and [`Error::OutOfRange`] and [`Error::Occupied`] as for
    /// [`build`](VmarMapOptions::build).
    pub fn find_place(&self, size: usize, align: usize, placement: Placement) -> Result<usize, Error> {
        check_size(size, align, M::PAGE_SIZE)?;
        let user = &self.inner.range;
        let range = self.inner.mappings.read().place(size, align, placement, user)?;
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
    /// As for [`negotiate`](crate::backing::negotiate).
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
    /// - [`Error::Sealed`] if anything that is to be replaced is sealed.
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
