// SPDX-License-Identifier: MPL-2.0

//! Links and files that somebody has put in another's way: what `fs.protected_*` forbids in folders where everybody may put
//! something, such as `/tmp` (`proc_sys_fs(5)`).
//!
//! Linux leaves them switched off; Debian switches them on (`99-protect-links.conf`), and so does this kernel, since nobody
//! else here would.

use super::{inode::Inode, permission::Access, types::*};
use crate::{
    prelude::*,
    process::{Credentials, credentials::CapSet},
};

/// `fs.protected_fifos`: creating where a FIFO of somebody else's is (2: also where only a group may put things).
pub static FIFOS: Setting = Setting::new(1, 2);
/// `fs.protected_hardlinks`: names for files of others.
pub static HARD_LINKS: Setting = Setting::new(1, 1);
/// `fs.protected_regular`: creating where a file of somebody else's is (2: also where only a group may put things).
pub static REGULAR_FILES: Setting = Setting::new(2, 2);
/// `fs.protected_symlinks`: following links of others.
pub static SYMLINKS: Setting = Setting::new(1, 1);

/// A setting: a small number.
pub struct Setting {
    value: AtomicU32,
    largest: u32,
}

impl Setting {
    const fn new(value: u32, largest: u32) -> Self {
        Self { value: AtomicU32::new(value), largest }
    }

    /// Its value.
    pub fn get(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes it.
    ///
    /// # Errors
    ///
    /// EINVAL for a number that it cannot be.
    pub fn set(&self, value: i64) -> Result<()> {
        let value = u32::try_from(value).ok().filter(|value| *value <= self.largest).ok_or(EINVAL)?;
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

const EVERYBODY_WRITES: u16 = 0o002;
const GROUP_WRITES: u16 = 0o020;
const GROUP_EXECUTES: u16 = 0o010;

/// Fails if the caller must not follow a link of `owner`'s, the last component of a path, in `dir`.
///
/// # Errors
///
/// EACCES.
pub fn check_follow(cred: &Credentials, dir: Protection, owner: u32) -> Result<()> {
    const TRAP: u16 = S_ISVTX | EVERYBODY_WRITES;
    let is_safe = SYMLINKS.get() == 0 || cred.fsuid == owner || dir.mode & TRAP != TRAP || dir.uid == owner;
    if is_safe { Ok(()) } else { Err(EACCES) }
}

/// Fails if the caller must not give the file a further name: it is not its own, and is special, gives privileges, or is none
/// that the caller may read and write.
///
/// # Errors
///
/// EPERM.
pub fn check_link(cred: &Credentials, file: &Arc<dyn Inode>) -> Result<()> {
    let protection = file.protection();
    let gives_group = protection.mode & (S_ISGID | GROUP_EXECUTES) == S_ISGID | GROUP_EXECUTES;
    let is_safe = || {
        protection.kind == FileType::Regular
            && protection.mode & S_ISUID == 0
            && !gives_group
            && cred.check_protection(protection, Access::READ | Access::WRITE).is_ok()
    };
    let is_own = cred.fsuid == protection.uid || cred.has(CapSet::FOWNER);
    if HARD_LINKS.get() == 0 || is_own || is_safe() { Ok(()) } else { Err(EPERM) }
}

/// Fails if the caller, who would have created a file, must not open the one of somebody else's that is there in `dir`.
///
/// # Errors
///
/// EACCES.
pub fn check_create(cred: &Credentials, dir: Protection, file: Protection) -> Result<()> {
    let level = match file.kind {
        FileType::Regular => REGULAR_FILES.get(),
        FileType::Fifo => FIFOS.get(),
        _ => 1,
    };
    if level == 0 || dir.mode & S_ISVTX == 0 || file.uid == dir.uid || file.uid == cred.fsuid {
        return Ok(());
    }
    let is_trap = dir.mode & EVERYBODY_WRITES != 0 || level >= 2 && dir.mode & GROUP_WRITES != 0;
    if is_trap { Err(EACCES) } else { Ok(()) }
}
