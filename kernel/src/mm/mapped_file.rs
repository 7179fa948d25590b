// SPDX-License-Identifier: MPL-2.0

//! What a mapping knows of the file behind it.

use aster_rights::Rights;
use vmar::mapping::Mappable;

use crate::{fs::File, prelude::*};

/// A file as it is mapped: it stays open, and `/proc/PID/maps` shows its name.
pub struct MappedFile {
    file: Arc<File>,
    capabilities: Rights,
}

impl MappedFile {
    /// `file`, which allows its mappings no more than `capabilities`.
    pub fn new(file: Arc<File>, capabilities: Rights) -> Arc<Self> {
        Arc::new(Self { file, capabilities })
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
        write!(f, "MappedFile({})", String::from_utf8_lossy(&self.file.path().display()))
    }
}

/// Memory with a name of its own in `/proc/PID/maps`, such as `[heap]`.
#[derive(Debug)]
pub struct NamedMemory(pub &'static str);

impl Mappable for NamedMemory {}
