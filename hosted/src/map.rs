// SPDX-License-Identifier: MPL-2.0

//! Making a mapping.
//!
//! What a mapping is and may ever be allowed to do the framework decides, once ([`negotiate`](vmar::backing::negotiate)): from the
//! kind of file, how it was opened, its mount, and whether writes are shared. Where it goes is decided here, and how the host is made to show it in [`realize`](crate::realize).

use std::{
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use aster_rights::Rights;
use rustix::fs::{FileType, OFlags, StatVfsMountFlags, fcntl_getfl, fstat, fstatvfs};
use vmar::{
    backing::{self, Addressing, Backing, FileState, Personality, Terms, Tracing},
    error::{self, Limit},
    limits::Usage,
    mapping::Sharing,
    perms::VmPerms,
    placement::Placement,
};

use crate::{
    error::Error,
    host::{Errno, Host},
    mapping::{HostMemory, Mapping, OnFork, Prot, Source},
    observer::Change,
    realize::{Content, Finality},
    space::{Call, GuestSpace},
};

/// What is to be mapped.
#[derive(Clone, Debug)]
pub struct MapOptions {
    pub(crate) size: usize,
    pub(crate) placement: Placement,
    pub(crate) prot: Prot,
    pub(crate) sharing: Sharing,
    pub(crate) file: Option<(Arc<OwnedFd>, u64)>,
}

impl MapOptions {
    /// Private zeros of `size` bytes (rounded up to guest pages) anywhere, that allow no access.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            placement: Placement::Anywhere,
            prot: Prot::default(),
            sharing: Sharing::Private,
            file: None,
        }
    }

    /// Allows this.
    #[must_use]
    pub fn prot(mut self, prot: impl Into<Prot>) -> Self {
        self.prot = prot.into();
        self
    }

    /// Goes there.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Lets others see what is written: whoever maps the file, or a child.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.sharing = Sharing::Shared;
        self
    }

    /// Shows a file from `offset` (bytes, a multiple of the guest's page size) on. The file stays open while it is mapped. Two
    /// mappings can become one if they are given the same `Arc`.
    #[must_use]
    pub fn file(mut self, file: Arc<OwnedFd>, offset: u64) -> Self {
        self.file = Some((file, offset));
        self
    }
}

impl<H: Host> GuestSpace<H> {
    /// Makes a mapping, and returns its address.
    ///
    /// # Errors
    ///
    /// - [`Error::Space`]: a size of zero, a bad alignment or offset, a file that was not opened for this, an address outside
    ///   the guest's range or in use, no room, a limit.
    /// - [`Error::UnknownProtection`].
    /// - [`Error::SharedHostPage`] and [`Error::OffsetOffHostPage`] where guest pages are smaller than the host's and writes are to
    ///   be shared.
    /// - [`Error::Host`].
    pub fn map(&self, options: &MapOptions) -> Result<usize, Error> {
        self.enter()?.map(options)
    }
}

impl<H: Host> Call<'_, H> {
    pub fn map(&mut self, options: &MapOptions) -> Result<usize, Error> {
        let layout = self.layout();
        if options.size == 0 {
            return Err(error::Error::InvalidSize.into());
        }
        // Larger than all addresses: there is no such room.
        let size = layout.guest_size(options.size).ok_or(error::Error::NoRoom)?;
        self.check_arch(options.prot)?;
        if let Some((_, offset)) = options.file {
            if !offset.is_multiple_of(layout.guest as u64) {
                return Err(error::Error::InvalidAlignment.into());
            }
            if offset.checked_add(size as u64).is_none_or(|end| end > i64::MAX as u64) {
                return Err(error::Error::InvalidOffset.into());
            }
        }
        // The order is Linux's: the place, then the file, then the limits.
        let range = self.place(size, layout.unit(), options.placement, options.sharing)?;
        let perms = negotiate(options)?;
        let mut mapping = Mapping {
            perms,
            arch: options.prot.arch,
            source: Source::Anonymous,
            sharing: options.sharing,
            memory: HostMemory::Anonymous,
            on_fork: OnFork::Keep,
        };
        self.check_limits(&range, &mapping, Some(&range))?;
        match (&options.file, options.sharing) {
            (Some((file, offset)), _) => {
                mapping.source = Source::File { file: file.clone(), offset: *offset };
            }
            (None, Sharing::Private) => {}
            (None, Sharing::Shared) => {
                let around = layout.around(&range);
                let file = Arc::new(self.host().nameless_file(around.len())?);
                mapping.source = Source::Nameless { file, offset: (range.start - around.start) as u64 };
            }
        }
        self.set(range.clone(), mapping)?;
        Ok(range.start)
    }

    /// Puts a fresh mapping at `range`, in place of what is there.
    pub fn set(&mut self, range: Range<usize>, mapping: Mapping) -> Result<(), Error> {
        let prot = Prot { perms: mapping.perms.access(), arch: mapping.arch };
        self.attempt(|call, commit| {
            let realized = call.realize(commit, &range, &mapping, Content::Fresh, Finality::Final)?;
            call.note(&range, mapping, realized);
            Ok(())
        })?;
        self.tell(Change::Mapped(range, prot));
        Ok(())
    }

    /// Finds the range for `size` bytes. Only [`Placement::Replacing`] gives one that may be in use.
    pub fn place(
        &mut self,
        size: usize,
        align: usize,
        placement: Placement,
        sharing: Sharing,
    ) -> Result<Range<usize>, Error> {
        let layout = self.layout();
        let at = |addr: usize| -> Result<Range<usize>, Error> {
            if !layout.is_guest_page(addr) {
                return Err(error::Error::InvalidAlignment.into());
            }
            let end = addr.checked_add(size).ok_or(error::Error::OutOfRange)?;
            if layout.contains(&(addr..end)) { Ok(addr..end) } else { Err(error::Error::OutOfRange.into()) }
        };
        let state = &mut *self.state;
        let map = state.table.map();
        // Whole host pages, so that nothing is mapped in part of one unless the guest insists.
        let room = size.checked_next_multiple_of(layout.unit()).ok_or(error::Error::NoRoom)?;
        let found = match placement {
            Placement::Replacing(addr) => return at(addr),
            Placement::Exactly(addr) => {
                let range = at(addr)?;
                if state.table.overlaps(&range) {
                    return Err(error::Error::Occupied.into());
                }
                return Ok(range);
            }
            Placement::Apart(addr, behind) => {
                let range = at(addr)?;
                if state.table.overlaps(&(addr..range.end.saturating_add(behind))) {
                    return Err(error::Error::Occupied.into());
                }
                return Ok(range);
            }
            Placement::Anywhere => state.search.find(map, room, align),
            Placement::Below(limit) => state.search.find_below(map, room, align, limit),
            Placement::Between { hint, from, below } => match hint {
                Some(hint)
                    if hint.saturating_add(room) <= below && state.search.takes_hint(map, hint, room) =>
                {
                    Some(hint)
                }
                _ => map.lowest_gap(room, align, from..below),
            },
            Placement::Hint(addr) => {
                let hint = addr.checked_next_multiple_of(layout.guest).unwrap_or(usize::MAX);
                // What is shared cannot have part of a host page beside something else.
                let (wanted, fits) = match sharing {
                    Sharing::Private => (size, true),
                    Sharing::Shared => (room, hint.is_multiple_of(layout.unit())),
                };
                if fits && state.search.takes_hint(map, hint, wanted) {
                    Some(hint)
                } else {
                    state.search.find(map, room, align)
                }
            }
        };
        let start = found.ok_or(error::Error::NoRoom)?;
        Ok(start..start + size)
    }

    /// Checks that `mapping` at a range as long as `range` keeps all limits. What lies in `replaced` goes.
    pub fn check_limits(
        &self,
        range: &Range<usize>,
        mapping: &Mapping,
        replaced: Option<&Range<usize>>,
    ) -> Result<(), Error> {
        let table = &self.state.table;
        let usage = table.usage();
        let mut gone = Usage::default();
        for (part, old) in replaced.into_iter().flat_map(|replaced| table.pieces(replaced.clone())) {
            gone.address_space += part.len();
            gone.data += if old.is_data() { part.len() } else { 0 };
        }
        let limits = self.space().limits();
        limits.check(Limit::Mappings, usage.mappings, 0)?;
        limits.check(Limit::AddressSpace, usage.address_space - gone.address_space, range.len())?;
        if mapping.is_data() {
            limits.check(Limit::Data, usage.data - gone.data, range.len())?;
        }
        Ok(())
    }

    /// Checks that the guest's processor knows the protection (Q15).
    pub fn check_arch(&self, prot: Prot) -> Result<(), Error> {
        if self.space().arch_prot().contains(prot.arch) { Ok(()) } else { Err(Error::UnknownProtection) }
    }
}

/// Returns what a mapping allows, and what it may ever allow.
fn negotiate(options: &MapOptions) -> Result<VmPerms, Error> {
    let terms = Terms {
        handle: Rights::all(),
        ceiling: Rights::all(),
        object: Rights::all(),
        backing: options.file.as_ref().map(|(file, _)| backing_of(file)).transpose()?,
        sharing: options.sharing,
        wanted: options.prot.perms.access() | VmPerms::MAY,
        personality: Personality::Usual,
        tracing: Tracing::Untraced,
        addressing: Addressing::Translated,
    };
    Ok(backing::negotiate(&terms)?.perms)
}

/// Returns what the host says of a file. Seals it enforces by itself.
fn backing_of(file: &OwnedFd) -> Result<Backing, Error> {
    let flags = fcntl_getfl(file.as_fd())?;
    let mut state = match flags & OFlags::RWMODE {
        OFlags::WRONLY => FileState::WRITABLE,
        OFlags::RDWR => FileState::READABLE | FileState::WRITABLE,
        _ => FileState::READABLE,
    };
    if flags.contains(OFlags::PATH) {
        return Err(Errno::BADF.into());
    }
    Ok(match FileType::from_raw_mode(fstat(file.as_fd())?.st_mode) {
        FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice => {
            if fstatvfs(file.as_fd())?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
                state |= FileState::NO_EXEC;
            }
            Backing { state, ..Backing::MEMORY }
        }
        _ => Backing::unmappable(state),
    })
}
