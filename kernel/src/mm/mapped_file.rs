// SPDX-License-Identifier: MPL-2.0

//! What a mapping knows of the file behind it.

use aster_rights::{FullRights, Rights, TRightSet};
use vmar::{mapping::Mappable, object::Vmo};
use vmar_ostd::Ostd;

use crate::{fs::File, prelude::*};

/// A file as it is mapped: it stays open, and `/proc/PID/maps` shows its name.
pub struct MappedFile {
    file: Arc<File>,
    capabilities: Rights,
}

impl MappedFile {
    /// `file`, which allows its mappings no more than `capabilities`. While mappings of it live the same one is given
    /// again, so that neighbours become one.
    pub fn of(file: Arc<File>, capabilities: Rights) -> Arc<Self> {
        if let Some(known) = file.mapped().filter(|known| known.capabilities == capabilities) {
            return known;
        }
        let new = Arc::new(Self { file, capabilities });
        new.file.set_mapped(&new);
        new
    }

    /// The file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }
}

impl Mappable for MappedFile {
    fn capabilities(&self) -> Rights {
        self.capabilities
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.path().display().map_err(|_| fmt::Error)?;
        write!(f, "MappedFile({})", String::from_utf8_lossy(&path))
    }
}

/// Shared anonymous memory; `/proc/PID/maps` shows it as [`SharedMemory::NAME`].
#[derive(Debug)]
pub struct SharedMemory(pub Vmo<Ostd, TRightSet<FullRights>>);

impl SharedMemory {
    /// What Linux calls it.
    pub const NAME: &'static str = "/dev/zero (deleted)";
}

impl Mappable for SharedMemory {}
