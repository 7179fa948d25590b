// SPDX-License-Identifier: MPL-2.0

//! Who maps an object: so that pages which leave the object also leave every page table.
//!
//! Each address space that maps an object is on the object's list once, with the number of its mappings. A
//! [`MappedVmo`] is one such mapping's place on the list: it is taken when the mapping is made (which can fail), shared
//! by the parts that the mapping is split into (which cannot), and given back when the last of them is dropped.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    fmt,
    ops::{Deref, Range},
};

use super::{Vmo_, grant::Lease};
use crate::{
    error::Error,
    fallible::{try_arc, try_reserve},
    machine::{Machine, SleepLock},
};

/// An address space, seen from an object that it maps.
pub trait Mapper<M: Machine>: Send + Sync {
    /// Drops the entries for the pages `pages` (indices) of `object` from the page table.
    ///
    /// When this returns, no fault that found one of those pages before it was removed from the object is still to
    /// map it.
    fn zap(&self, object: &Vmo_<M>, pages: Range<usize>, which: Zap);

    /// Takes from the mappings made under `lease` the rights that were withdrawn, and from their entries in the page table.
    fn obey(&self, lease: &Lease);
}

/// Which entries leave the page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zap {
    /// The object's own pages: private copies stay (a hole is punched).
    Object,
    /// Private copies too (the object is truncated).
    All,
}

/// What a mapping has in common with others, and whether the program may ever write to the object through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAccess {
    /// A shared mapping that may be writable.
    MayWrite,
    /// A shared mapping that can never be writable.
    SharedReadOnly,
    /// A private mapping.
    Private,
}

/// The address spaces that map an object.
pub(super) struct Mappers<M: Machine> {
    /// Sorted by the address of the space.
    spaces: Vec<Entry<M>>,
    /// Mappings, all and those that share.
    mappings: usize,
    sharers: usize,
    /// Mappings through which the object may be written.
    writers: usize,
    /// Whether new ones are refused.
    writers_denied: bool,
}

struct Entry<M: Machine> {
    space: Weak<dyn Mapper<M>>,
    mappings: usize,
}

impl<M: Machine> Entry<M> {
    fn key(&self) -> usize {
        key_of(&self.space)
    }
}

fn key_of<M: Machine>(space: &Weak<dyn Mapper<M>>) -> usize {
    space.as_ptr().addr()
}

impl<M: Machine> Mappers<M> {
    pub(super) const fn new() -> Self {
        Self { spaces: Vec::new(), mappings: 0, sharers: 0, writers: 0, writers_denied: false }
    }

    fn position(&self, key: usize) -> Result<usize, usize> {
        self.spaces.binary_search_by_key(&key, Entry::key)
    }

    /// Counts `count` writers less.
    pub(super) fn forget_writers(&mut self, count: usize) {
        self.writers -= count;
    }

    /// Returns the first living space whose key is above `key`, and its key.
    fn after(&self, key: usize) -> Option<(usize, Arc<dyn Mapper<M>>)> {
        let first = self.spaces.partition_point(|entry| entry.key() <= key);
        self.spaces[first..].iter().find_map(|entry| Some((entry.key(), entry.space.upgrade()?)))
    }
}

/// An object as the mapping of it holds it, and all parts that the mapping is split into.
///
/// One pointer, because mappings are moved about.
pub struct MappedVmo<M: Machine>(Arc<Place<M>>);

/// Where a mapping comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It is new.
    New,
    /// It is that of a forked space.
    Forked,
}

/// A mapping's place on the list of its object.
///
/// Where the object shows pages of another, it has a place on that one's list for as long, as a space has.
struct Place<M: Machine> {
    object: Arc<Vmo_<M>>,
    space: Weak<dyn Mapper<M>>,
    access: WriteAccess,
    /// What it was made under, if that can be taken back.
    lease: Option<Arc<Lease>>,
    _beneath: Option<MappedVmo<M>>,
}

impl<M: Machine> MappedVmo<M> {
    /// Puts a mapping of `object` in `space` on the object's list.
    ///
    /// # Errors
    ///
    /// - [`Error::OutOfMemory`] if the list cannot grow.
    /// - [`Error::AccessDenied`] if the mapping may write and new writers are denied, or its lease forbids to write.
    /// - [`Error::NotSupported`] if the mapping shares an object that cannot be shared.
    pub fn new(
        object: Arc<Vmo_<M>>,
        space: Weak<dyn Mapper<M>>,
        access: WriteAccess,
        lease: Option<Arc<Lease>>,
    ) -> Result<Self, Error> {
        Self::enter(object, space, access, lease, Origin::New)
    }

    /// Puts the same mapping, of a forked space, on the object's list: a writer begets a writer.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if the list cannot grow.
    pub fn fork(&self, space: Weak<dyn Mapper<M>>) -> Result<Self, Error> {
        Self::enter(self.object().clone(), space, self.0.access, self.0.lease.clone(), Origin::Forked)
    }

    fn enter(
        object: Arc<Vmo_<M>>,
        space: Weak<dyn Mapper<M>>,
        access: WriteAccess,
        lease: Option<Arc<Lease>>,
        origin: Origin,
    ) -> Result<Self, Error> {
        if access != WriteAccess::Private && !object.may_share() {
            return Err(Error::NotSupported);
        }
        let beneath = match object.source().and_then(|source| source.beneath()) {
            None => None,
            Some(beneath) => {
                let access = if beneath.is_written_through { access } else { WriteAccess::Private };
                let upper: Weak<dyn Mapper<M>> = Arc::<Vmo_<M>>::downgrade(&object);
                Some(Self::enter(beneath.object.clone(), upper, access, None, origin)?)
            }
        };
        {
            let mut mappers = object.mappers.write();
            let is_allowed = lease.as_ref().is_none_or(|lease| lease.allows_writers());
            let is_denied = mappers.writers_denied || !is_allowed;
            if origin == Origin::New && access == WriteAccess::MayWrite && is_denied {
                return Err(Error::AccessDenied);
            }
            match mappers.position(key_of(&space)) {
                Ok(at) => mappers.spaces[at].mappings += 1,
                Err(at) => {
                    try_reserve(&mut mappers.spaces, 1)?;
                    mappers.spaces.insert(at, Entry { space: space.clone(), mappings: 1 });
                }
            }
            mappers.mappings += 1;
            if access == WriteAccess::MayWrite && is_allowed {
                mappers.writers += 1;
                if let Some(lease) = &lease {
                    lease.count_writer(1);
                }
            }
            if access != WriteAccess::Private {
                mappers.sharers += 1;
                if let Some(source) = object.source() {
                    if mappers.sharers == 1 {
                        source.create_shared();
                    }
                    source.share();
                }
            }
        }
        // Should this fail, dropping the place gives it back.
        Ok(Self(try_arc(Place { object, space, access, lease, _beneath: beneath })?))
    }

    /// Returns the object.
    pub fn object(&self) -> &Arc<Vmo_<M>> {
        &self.0.object
    }

    /// Returns what the mapping was made under, if that can be taken back.
    pub fn lease(&self) -> Option<&Lease> {
        self.0.lease.as_deref()
    }

    /// Returns whether `other` is the same object, mapped under the same lease.
    pub fn is_alike(&self, other: &Self) -> bool {
        let lease = |mapped: &Self| mapped.0.lease.as_ref().map(Arc::as_ptr);
        Arc::ptr_eq(self.object(), other.object()) && lease(self) == lease(other)
    }
}

impl<M: Machine> Deref for MappedVmo<M> {
    type Target = Vmo_<M>;

    fn deref(&self) -> &Vmo_<M> {
        &self.0.object
    }
}

impl<M: Machine> Clone for MappedVmo<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> Drop for Place<M> {
    fn drop(&mut self) {
        let mut mappers = self.object.mappers.write();
        if let Ok(at) = mappers.position(key_of(&self.space)) {
            mappers.spaces[at].mappings -= 1;
            if mappers.spaces[at].mappings == 0 {
                mappers.spaces.remove(at);
            }
        }
        let lease = self.lease.as_ref();
        if self.access == WriteAccess::MayWrite && lease.is_none_or(|lease| lease.allows_writers()) {
            mappers.writers -= 1;
            if let Some(lease) = lease {
                lease.count_writer(-1);
            }
        }
        mappers.mappings -= 1;
        mappers.sharers -= usize::from(self.access != WriteAccess::Private);
        let ends = self.access != WriteAccess::Private && mappers.sharers == 0;
        let left = mappers.mappings;
        if let Some(source) = self.object.source() {
            if ends {
                source.destroy_shared();
            }
            source.unmapped(left);
        }
    }
}

/// An object that shows pages of another, seen from that one.
impl<M: Machine> Mapper<M> for Vmo_<M> {
    fn zap(&self, _object: &Self, pages: Range<usize>, which: Zap) {
        let Some(source) = self.source() else { return };
        let shown = source.shown(pages);
        if which == Zap::All && source.lends() && !shown.is_empty() {
            self.drop_copies(shown.clone());
        }
        self.zap(shown, which);
    }

    /// What shows the object was made without the lease.
    fn obey(&self, _lease: &Lease) {}
}

impl<M: Machine> fmt::Debug for MappedVmo<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { object, access, lease, .. } = &*self.0;
        let mut shown = f.debug_struct("MappedVmo");
        shown.field("object", object).field("access", access).field("lease", lease).finish()
    }
}

impl<M: Machine> Vmo_<M> {
    /// Drops the entries for `pages` from every page table that has them.
    ///
    /// Takes the lock of each space in turn, and no lock of the object meanwhile. A space that starts to map the
    /// object while this runs may be passed over: it finds the object as it is now.
    pub(super) fn zap(&self, pages: Range<usize>, which: Zap) {
        if !pages.is_empty() {
            self.visit_mappers(|space| space.zap(self, pages.clone(), which));
        }
    }

    /// Calls `visit` with each space that maps the object, one after the other, and without any lock of the object. A space
    /// that starts to map it meanwhile may be passed over.
    pub(super) fn visit_mappers(&self, visit: impl Fn(&dyn Mapper<M>)) {
        let mut key = 0;
        loop {
            let next = self.mappers.read().after(key);
            let Some((space_key, space)) = next else { return };
            visit(&*space);
            key = space_key;
        }
    }

    /// Returns how many shared mappings may write the object, now or after a change of their permissions.
    pub(super) fn count_writers(&self) -> usize {
        self.mappers.read().writers
    }

    /// Refuses shared mappings that may write from now on.
    pub(super) fn deny_writers(&self) -> Result<(), Error> {
        let mut mappers = self.mappers.write();
        if mappers.writers != 0 {
            return Err(Error::Occupied);
        }
        mappers.writers_denied = true;
        Ok(())
    }
}
