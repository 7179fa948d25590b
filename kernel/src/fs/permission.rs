// SPDX-License-Identifier: MPL-2.0

//! Permission: may this caller do that to this inode.
//!
//! The rules of `path_resolution(7)` and `capabilities(7)`: the owner's bits, else the group's, else the others'; capabilities
//! override them. Credentials are immutable, so one call sees one identity.

use bitflags::bitflags;

use super::types::*;
use crate::{
    prelude::*,
    process::{Credentials, credentials::CapSet},
};

bitflags! {
    /// What is wanted of a file; the values are those of `access(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Read, or list a directory.
        const READ = 4;
        /// Write, or change a directory.
        const WRITE = 2;
        /// Execute, or search a directory.
        const EXEC = 1;
    }
}

impl Credentials {
    /// Whether the caller owns the file or may act as if it did.
    pub fn owns(&self, meta: &Metadata) -> bool {
        self.fsuid == meta.uid || self.has(CapSet::FOWNER)
    }

    /// Fails unless the caller may have all of `wanted` of a file with these attributes.
    ///
    /// # Errors
    ///
    /// EACCES.
    pub fn check_access(&self, meta: &Metadata, wanted: Access) -> Result<()> {
        self.check_protection(Protection::from(meta), wanted)
    }

    /// Fails unless the caller may have all of `wanted` of a file that is protected like this.
    ///
    /// # Errors
    ///
    /// EACCES.
    pub fn check_protection(&self, file: Protection, wanted: Access) -> Result<()> {
        let shift = if self.fsuid == file.uid {
            6
        } else if self.in_group(file.gid) {
            3
        } else {
            0
        };
        let granted = Access::from_bits_truncate(u32::from(file.mode >> shift) & 7);
        if granted.contains(wanted) {
            return Ok(());
        }
        let directory = file.kind == FileType::Directory;
        let executable = directory || file.mode & 0o111 != 0;
        if self.has(CapSet::DAC_OVERRIDE) && (executable || !wanted.contains(Access::EXEC)) {
            return Ok(());
        }
        let read_search = if directory { Access::READ | Access::EXEC } else { Access::READ };
        if self.has(CapSet::DAC_READ_SEARCH) && read_search.contains(wanted) {
            return Ok(());
        }
        Err(EACCES)
    }

    /// Fails if the sticky bit of the directory `dir` keeps the caller from removing or renaming `victim`.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn check_sticky(&self, dir: &Metadata, victim: &Metadata) -> Result<()> {
        let sticky = dir.mode & S_ISVTX != 0;
        if !sticky || self.fsuid == victim.uid || self.fsuid == dir.uid || self.has(CapSet::FOWNER) {
            return Ok(());
        }
        Err(EPERM)
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    fn meta(mode: u16) -> Metadata {
        let mut meta = Metadata::new(DeviceId::default(), 1, FileType::Regular, mode);
        (meta.uid, meta.gid) = (10, 20);
        meta
    }

    fn cred(fsuid: u32, fsgid: u32) -> Credentials {
        let groups = Arc::new(vec![30]);
        Credentials { fsuid, fsgid, groups, effective: CapSet::empty(), ..Credentials::root() }
    }

    #[ktest]
    fn first_matching_class_decides() {
        assert_eq!(cred(10, 20).check_access(&meta(0o077), Access::READ), Err(EACCES));
        assert_eq!(cred(11, 20).check_access(&meta(0o707), Access::READ), Err(EACCES));
        assert_eq!(cred(11, 21).check_access(&meta(0o770), Access::READ), Err(EACCES));
        assert_eq!(cred(11, 21).check_access(&meta(0o004), Access::READ), Ok(()));
        let mut grouped = meta(0o040);
        grouped.gid = 30;
        assert_eq!(cred(11, 21).check_access(&grouped, Access::READ), Ok(()));
    }

    #[ktest]
    fn override_needs_an_execute_bit_to_execute() {
        let mut root = cred(0, 0);
        root.effective = CapSet::ALL;
        assert_eq!(root.check_access(&meta(0o000), Access::READ | Access::WRITE), Ok(()));
        assert_eq!(root.check_access(&meta(0o666), Access::EXEC), Err(EACCES));
        assert_eq!(root.check_access(&meta(0o001), Access::EXEC), Ok(()));
    }

    #[ktest]
    fn sticky_directories_protect_other_owners_files() {
        let mut dir = meta(0o1777);
        dir.uid = 0;
        assert_eq!(cred(11, 11).check_sticky(&dir, &meta(0o666)), Err(EPERM));
        assert_eq!(cred(10, 11).check_sticky(&dir, &meta(0o666)), Ok(()));
    }
}
