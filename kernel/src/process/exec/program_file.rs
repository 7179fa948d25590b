// SPDX-License-Identifier: MPL-2.0

//! The file of a running program.
//!
//! The processes that run a program share one [`ProgramFile`]. While it lives, nobody can open the file for writing
//! (`ETXTBSY`).

use crate::{
    fs::{File, Path, inode_file::WriteGuard},
    prelude::*,
};

/// The file of a running program.
pub struct ProgramFile {
    path: Path,
    _no_writers: WriteGuard,
}

impl ProgramFile {
    /// Holds `file` for a program that is about to run.
    ///
    /// # Errors
    ///
    /// `ETXTBSY` if it is open for writing.
    pub(super) fn new(file: &File) -> Result<Self> {
        let no_writers = WriteGuard::executor(file.inode())?;
        // Every file that can be mapped was opened by its path.
        Ok(Self { path: file.path().clone(), _no_writers: no_writers })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
