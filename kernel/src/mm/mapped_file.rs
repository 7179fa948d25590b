// SPDX-License-Identifier: MPL-2.0

//! What a mapping knows of the file behind it.

use core::any::Any;

use aster_rights::{FullRights, TRightSet};
use vmar::{
    backing::{Backing, FileState},
    mapping::Mappable,
    object::Vmo,
    perms::VmPerms,
    vmar::query::MappingInfo,
};
use vmar_ostd::Ostd;

use crate::{
    fs::{File, file::AccessMode, mount::MountFlags},
    ipc::shm::{Attachment, Segment},
    mm::{commit::SharedPromise, shared_policy::SharedPolicies},
    prelude::*,
};

/// A file as it is mapped: it stays open, and `/proc/PID/maps` shows its name.
pub struct MappedFile {
    file: Arc<File>,
}

impl MappedFile {
    /// `file`. While mappings of it live the same one is given again, so that neighbours become one.
    pub fn of(file: Arc<File>) -> Arc<Self> {
        if let Some(known) = file.mapped() {
            return known;
        }
        let new = Arc::new(Self { file });
        new.file.set_mapped(&new);
        new
    }

    /// The file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }
}

impl Mappable for MappedFile {}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.path().display().map_err(|_| fmt::Error)?;
        write!(f, "MappedFile({})", String::from_utf8_lossy(&path))
    }
}

/// What memory that has an object shows.
pub enum Known<'a> {
    /// A file.
    File(&'a MappedFile),
    /// Shared anonymous memory.
    Memory(&'a SharedMemory),
    /// A System V segment.
    Segment(&'a Segment),
}

impl<'a> Known<'a> {
    /// What a mapping knows, if it is one of the kernel's kinds.
    pub fn of(known: &'a dyn Mappable) -> Option<Self> {
        let known: &dyn Any = known;
        let file = || known.downcast_ref().map(Self::File);
        let memory = || known.downcast_ref().map(Self::Memory);
        let segment =
            || known.downcast_ref::<Attachment>().map(|attachment| Self::Segment(attachment.segment()));
        file().or_else(memory).or_else(segment)
    }
}

/// What is known of a mapping's memory, if that is a `T`.
pub fn known_as<'a, T: Mappable>(mapping: &'a MappingInfo<'_, Ostd>) -> Option<&'a T> {
    let known: &dyn Any = &**mapping.mappable()?;
    known.downcast_ref()
}

/// Whether a mapping is shared in every respect: a file that was opened only for reading is mapped as if it were private, as is a
/// segment that was attached so, while a file whose seals forbid to write is shared all the same.
pub fn is_fully_shared(mapping: &MappingInfo<'_, Ostd>) -> bool {
    if !mapping.is_shared() || mapping.perms().contains(VmPerms::MAY_WRITE) {
        return mapping.is_shared();
    }
    match mapping.mappable().and_then(|known| Known::of(&**known)) {
        Some(Known::File(mapped)) => mapped.file().access().contains(AccessMode::WRITE),
        Some(Known::Segment(_)) => false,
        Some(Known::Memory(_)) | None => true,
    }
}

/// What `file` allows its mappings, by the way it was opened, its seals and its mount. Files that can be mapped are in memory,
/// which can do everything.
///
/// No file has the attribute of growing only, and none has mandatory locks (nor has Linux since 5.15).
pub fn backing_of(file: &File) -> Backing {
    let mut state = FileState::empty();
    state.set(FileState::READABLE, file.access().contains(AccessMode::READ));
    state.set(FileState::WRITABLE, file.access().contains(AccessMode::WRITE));
    state.set(FileState::SEALED, file.inode().seals().is_some_and(|seals| seals.forbid_write()));
    state.set(FileState::NO_EXEC, file.path().mount().flags().contains(MountFlags::NOEXEC));
    Backing { state, ..Backing::MEMORY }
}

/// Shared anonymous memory; `/proc/PID/maps` shows it as [`SharedMemory::NAME`].
#[derive(Debug)]
pub struct SharedMemory {
    object: Vmo<Ostd, TRightSet<FullRights>>,
    promise: SharedPromise,
    policies: SharedPolicies,
}

impl SharedMemory {
    /// What Linux calls it.
    pub const NAME: &'static str = "/dev/zero (deleted)";

    /// The memory in `object`, which `promise` has made.
    pub fn new(object: Vmo<Ostd, TRightSet<FullRights>>, promise: SharedPromise) -> Self {
        Self { object, promise, policies: SharedPolicies::default() }
    }

    /// The memory policies of its pages.
    pub fn policies(&self) -> &SharedPolicies {
        &self.policies
    }

    /// What was promised to it.
    pub fn promise(&self) -> &SharedPromise {
        &self.promise
    }

    /// Its pages.
    pub fn object(&self) -> &Vmo<Ostd, TRightSet<FullRights>> {
        &self.object
    }
}

impl Mappable for SharedMemory {}
