// SPDX-License-Identifier: MPL-2.0

//! Making an area of one space one that others can map.
//!
//! ```text
//!   private                                        shared
//!
//!   area ─► page table: pages of its own           area ──┐
//!    │                  pages of the object               ├─► object: the pages that were published
//!    └────► object, or zeros                       others ┘      └──► what the area showed before, or zeros
//! ```
//!
//! | the area | what is published |
//! | --- | --- |
//! | can be written | every page in use: its own as they are, those of the object behind it as copies |
//! | is read-only | only pages that are not of the object behind it; that one is shared itself if there are none |
//! | is shared already | nothing |
//!
//! What is not in use comes from where it came from before, when somebody touches it. From then on all pages are asked for in the
//! object's own map first.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::ops::Range;

use aster_rights::{Rights, TRightSet, TRights, require};

use super::{Vmar, Vmar_, edit::Removed, mappings::Mappings};
use crate::{
    error::Error,
    fallible::try_push,
    machine::{Blank, Frame, Machine, PageFlags},
    mapping::{MappedMemory, MappingFlags, Sharing, VmMapping},
    object::{MappedVmo, Mapper, Vmo, Vmo_, WriteAccess},
    perms::VmPerms,
};

/// An area that can be mapped elsewhere, with [`shared`](super::VmarMapOptions::shared).
#[derive(Debug)]
pub struct SharedArea<M: Machine> {
    /// What is seen in it, with the rights that were asked for.
    pub vmo: Vmo<M>,
    /// Where in that it starts (bytes, page-aligned).
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

impl<M: Machine, R: TRights> Vmar<M, TRightSet<R>> {
    /// Makes the area `area` (bytes, exactly one mapping) one that others can map for what `perms` says, and gives them the means to.
    ///
    /// A private area is shared from now on: what is written to it is seen by all, forked children included. An area that is being
    /// made, or changed, is waited for.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    ///
    /// - [`Error::NotMapped`] if there is no area.
    /// - [`Error::InvalidSize`] if `area` is not the whole of one.
    /// - [`Error::NotPermitted`] if it does not allow what is asked for.
    /// - [`Error::NotSupported`] if it cannot be shared: device memory, what grows down, what is reserved late, what rights can be
    ///   taken back from.
    /// - [`Error::OutOfMemory`].
    #[require(R > Dup | Read | Write)]
    pub fn share(&self, area: Range<usize>, perms: VmPerms) -> Result<SharedArea<M>, Error> {
        let mapper: Weak<dyn Mapper<M>> = self.inner.root();
        let perms = perms.access();
        let (object, offset) = self.inner.share(&area, perms, &mapper)?;
        let mut rights = Rights::READ | Rights::DUP;
        rights.set(Rights::WRITE, perms.contains(VmPerms::WRITE));
        rights.set(Rights::EXEC, perms.contains(VmPerms::EXEC));
        Ok(SharedArea { vmo: Vmo::<M>::of(object, rights), offset, size: area.len() })
    }
}

/// What of an area is to be published.
enum Published<M: Machine> {
    /// A page, as it is.
    Moved(usize, M::Frame),
    /// A copy of a page.
    Copied(usize, M::Frame),
}

impl<M: Machine> Vmar_<M> {
    fn share(
        &self,
        area: &Range<usize>,
        perms: VmPerms,
        mapper: &Weak<dyn Mapper<M>>,
    ) -> Result<(Arc<Vmo_<M>>, usize), Error> {
        if self.has_children()
            && let Some(result) = self.inside(area, |region| region.share(area, perms, mapper))
        {
            return result;
        }
        self.check_range(area)?;
        // Declared first: dropped after the lock is let go.
        let mut removed = Removed::new();
        let mut mappings = self.change_within(area)?;
        let mappings = &mut *mappings;
        let mapping = find_shareable(mappings, area, perms)?;
        let allowed = mapping.perms();
        let (beneath, offset) = match mapping.memory() {
            MappedMemory::Anonymous => (None, 0),
            MappedMemory::Vmo { object, offset } if mapping.is_shared() => {
                return Ok((object.object().clone(), *offset));
            }
            MappedMemory::Vmo { object, offset } => (Some(object.object().clone()), *offset),
            MappedMemory::Device { .. } | MappedMemory::Region(_) => return Err(Error::NotSupported),
        };
        let is_read_only = !allowed.contains(VmPerms::WRITE);
        let first = offset / M::PAGE_SIZE;
        let mut published = Vec::new();
        let (object, may) = match beneath {
            // Nothing is its own: what it shows can be shared as it is.
            Some(object) if is_read_only && !mapping.is_mixed() => (object, allowed - VmPerms::MAY_WRITE),
            beneath => {
                published = self.in_use(mappings, mapping, area, is_read_only)?;
                let object =
                    Vmo_::shown_by_area(&self.machine, area.len(), beneath.map(|object| (object, first)))?;
                (object, allowed)
            }
        };
        let access = match may.contains(VmPerms::MAY_WRITE) {
            true => WriteAccess::MayWrite,
            false => WriteAccess::SharedReadOnly,
        };
        let place = MappedVmo::new(object.clone(), mapper.clone(), access, None)?;
        let memory = MappedMemory::Vmo { object: place, offset };
        let new = VmMapping::new(memory, mapping.mappable().cloned(), may, Sharing::Shared, mapping.flags());
        let copies = self.fill(&object, first, &published)?;
        let kept = (may != allowed).then(|| mapping.resident_span(area)).flatten();
        removed.try_reserve_for(mappings, area)?;
        mappings.try_reserve(1)?;
        // From here on nothing fails. Nobody can write to what is copied any more.
        match kept {
            Some(span) => new.note_entries(&span, PageFlags::empty()),
            None => self.unmap_entries(mappings, area),
        }
        for (source, copy) in copies {
            copy_page::<M>(source, &copy);
        }
        mappings.cut(area, &mut removed);
        mappings.insert(area.clone(), new);
        Ok((object, offset))
    }

    /// Returns the pages in use that are to be published: those that are the area's own, and unless it is read-only the object's as
    /// well.
    fn in_use(
        &self,
        mappings: &Mappings<M>,
        mapping: &VmMapping<M>,
        area: &Range<usize>,
        is_read_only: bool,
    ) -> Result<Vec<Published<M>>, Error> {
        let mut published = Vec::new();
        let Some(span) = mapping.resident_span(area) else { return Ok(published) };
        let is_anonymous = matches!(mapping.memory(), MappedMemory::Anonymous);
        let mut count = 0;
        self.for_each_page(mappings, &span, |_, _| count += 1);
        crate::fallible::try_reserve_exact(&mut published, count)?;
        self.for_each_page(mappings, &span, |addr, page| {
            let index = (addr - area.start) / M::PAGE_SIZE;
            let is_own = page.props.flags.contains(PageFlags::PRIVATE);
            if is_own && page.is_only_here() {
                published.push(Published::Moved(index, page.frame.clone()));
            } else if is_own || !(is_read_only || is_anonymous) {
                published.push(Published::Copied(index, page.frame.clone()));
            }
        });
        Ok(published)
    }

    /// Gives `object` what is to be published, page 0 of the area as its page `first`; returns which pages are yet to be copied, and
    /// where to.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn fill<'a>(
        &self,
        object: &Vmo_<M>,
        first: usize,
        published: &'a [Published<M>],
    ) -> Result<Vec<(&'a M::Frame, M::Frame)>, Error> {
        let mut copies = Vec::new();
        for page in published {
            match page {
                Published::Moved(index, frame) => object.adopt(first + index, frame.clone())?,
                Published::Copied(index, source) => {
                    let copy = self.machine.alloc()?.zeroed();
                    object.adopt(first + index, copy.clone())?;
                    try_push(&mut copies, (source, copy))?;
                }
            }
        }
        Ok(copies)
    }
}

/// Finds the mapping that is exactly `area`, if it allows `perms` and can be shared.
fn find_shareable<'a, M: Machine>(
    mappings: &'a Mappings<M>,
    area: &Range<usize>,
    perms: VmPerms,
) -> Result<&'a VmMapping<M>, Error> {
    let (found, mapping) = mappings.find(area.start).ok_or(Error::NotMapped)?;
    if found != *area {
        return Err(Error::InvalidSize);
    }
    if !mapping.perms().contains(perms) {
        return Err(Error::NotPermitted);
    }
    let is_bound = mapping.flags().intersects(MappingFlags::GROWS_DOWN | MappingFlags::COPIED_IN);
    let is_late = mapping.object().is_some_and(|object| !object.may_share());
    if is_bound || is_late || mapping.lease().is_some() {
        return Err(Error::NotSupported);
    }
    Ok(mapping)
}

fn copy_page<M: Machine>(source: &M::Frame, target: &M::Frame) {
    const CHUNK: usize = 256;
    let mut bytes = [0; CHUNK];
    for at in (0..M::PAGE_SIZE).step_by(CHUNK) {
        let piece = &mut bytes[..CHUNK.min(M::PAGE_SIZE - at)];
        source.read(at, piece);
        target.write(at, piece);
    }
}

#[cfg(test)]
mod tests;
