// SPDX-License-Identifier: MPL-2.0

//! Who may do what with a System V object (`sysvipc(7)`; `ipcperms` in Linux 6.1).

use crate::{
    prelude::*,
    process::credentials::{CapSet, Credentials, Gid, Uid},
};

/// The permission bits of a mode.
pub const PERMISSIONS: u32 = 0o777;

/// The owner of an object, its creator, and its mode.
#[derive(Clone, Copy, Debug)]
pub struct IpcPerm {
    /// By what it is found; 0 if by nothing.
    pub key: i32,
    /// The owner.
    pub uid: Uid,
    /// The owner's group.
    pub gid: Gid,
    /// The creator.
    pub cuid: Uid,
    /// The creator's group.
    pub cgid: Gid,
    /// The permission bits, and marks above them.
    pub mode: u32,
}

impl IpcPerm {
    /// Those of an object that the caller makes.
    pub fn new(key: i32, mode: u32, caller: &Credentials) -> Self {
        let (uid, gid) = (caller.euid, caller.egid);
        Self { key, uid, gid, cuid: uid, cgid: gid, mode: mode & PERMISSIONS }
    }

    /// `EACCES` unless the caller has every right in `wanted`, wherever in the three groups of bits that stands.
    pub fn check(&self, caller: &Credentials, wanted: u32) -> Result<()> {
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if caller.euid == self.cuid || caller.euid == self.uid {
            self.mode >> 6
        } else if caller.in_group(self.cgid) || caller.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 0o7 == 0 || caller.has(CapSet::IPC_OWNER) { Ok(()) } else { Err(EACCES) }
    }

    /// Whether the caller owns the object or has made it.
    pub fn is_owner(&self, caller: &Credentials) -> bool {
        caller.euid == self.cuid || caller.euid == self.uid
    }

    /// `EPERM` unless the caller may change or remove the object.
    pub fn require_owner(&self, caller: &Credentials) -> Result<()> {
        if self.is_owner(caller) { Ok(()) } else { caller.require(CapSet::SYS_ADMIN) }
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    fn user(id: u32) -> Credentials {
        Credentials { euid: id, fsgid: id, effective: CapSet::empty(), ..Credentials::root() }
    }

    #[ktest]
    fn owner_group_and_others_have_bits_of_their_own() {
        let perm = IpcPerm { key: 1, uid: 1, gid: 2, cuid: 3, cgid: 4, mode: 0o640 };
        for owner in [1, 3] {
            assert_eq!(perm.check(&user(owner), 0o600), Ok(()));
            assert_eq!(perm.check(&user(owner), 0o700), Err(EACCES));
            assert!(perm.is_owner(&user(owner)));
        }
        for member in [2, 4] {
            assert_eq!(perm.check(&user(member), 0o400), Ok(()));
            assert_eq!(perm.check(&user(member), 0o600), Err(EACCES));
            assert_eq!(perm.require_owner(&user(member)), Err(EPERM));
        }
        assert_eq!(perm.check(&user(5), 0o444), Err(EACCES));
        assert_eq!(perm.check(&Credentials::root(), 0o777), Ok(()));
    }
}
