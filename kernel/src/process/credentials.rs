// SPDX-License-Identifier: MPL-2.0

//! Who a thread acts for, as in `credentials(7)` and `capabilities(7)`.
//!
//! Credentials are immutable: a change makes new ones and puts them in the thread's place, so that a check in progress
//! sees either the old or the new, never a mixture.

use crate::prelude::*;

/// A user's number.
pub type Uid = u32;
/// A group's number.
pub type Gid = u32;

bitflags::bitflags! {
    /// A set of capabilities, by their Linux numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CapSet: u64 {
        /// `CAP_CHOWN`.
        const CHOWN = 1 << 0;
        /// `CAP_DAC_OVERRIDE`.
        const DAC_OVERRIDE = 1 << 1;
        /// `CAP_DAC_READ_SEARCH`.
        const DAC_READ_SEARCH = 1 << 2;
        /// `CAP_FOWNER`.
        const FOWNER = 1 << 3;
        /// `CAP_FSETID`.
        const FSETID = 1 << 4;
        /// `CAP_KILL`.
        const KILL = 1 << 5;
        /// `CAP_SETGID`.
        const SETGID = 1 << 6;
        /// `CAP_SETUID`.
        const SETUID = 1 << 7;
        /// `CAP_SETPCAP`.
        const SETPCAP = 1 << 8;
        /// `CAP_LINUX_IMMUTABLE`.
        const LINUX_IMMUTABLE = 1 << 9;
        /// `CAP_IPC_LOCK`.
        const IPC_LOCK = 1 << 14;
        /// `CAP_IPC_OWNER`.
        const IPC_OWNER = 1 << 15;
        /// `CAP_SYS_CHROOT`.
        const SYS_CHROOT = 1 << 18;
        /// `CAP_SYS_PTRACE`.
        const SYS_PTRACE = 1 << 19;
        /// `CAP_SYS_ADMIN`.
        const SYS_ADMIN = 1 << 21;
        /// `CAP_SYS_BOOT`.
        const SYS_BOOT = 1 << 22;
        /// `CAP_SYS_NICE`.
        const SYS_NICE = 1 << 23;
        /// `CAP_SYS_RESOURCE`.
        const SYS_RESOURCE = 1 << 24;
        /// `CAP_SYS_TIME`.
        const SYS_TIME = 1 << 25;
        /// `CAP_SYS_TTY_CONFIG`.
        const SYS_TTY_CONFIG = 1 << 26;
        /// `CAP_MKNOD`.
        const MKNOD = 1 << 27;
        /// `CAP_MAC_OVERRIDE`.
        const MAC_OVERRIDE = 1 << 32;
        /// `CAP_WAKE_ALARM`.
        const WAKE_ALARM = 1 << 35;
        /// Every capability of Linux 6.1.
        const ALL = (1 << 41) - 1;
        /// Those that come and go with the user for file access (capabilities(7)).
        const FILES = Self::CHOWN.bits() | Self::DAC_OVERRIDE.bits() | Self::DAC_READ_SEARCH.bits()
            | Self::FOWNER.bits() | Self::FSETID.bits() | Self::LINUX_IMMUTABLE.bits() | Self::MKNOD.bits()
            | Self::MAC_OVERRIDE.bits();
    }
}

/// The credentials of a thread.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Real user.
    pub uid: Uid,
    /// Effective user.
    pub euid: Uid,
    /// Saved user.
    pub suid: Uid,
    /// User for file access.
    pub fsuid: Uid,
    /// Real group.
    pub gid: Gid,
    /// Effective group.
    pub egid: Gid,
    /// Saved group.
    pub sgid: Gid,
    /// Group for file access.
    pub fsgid: Gid,
    /// Supplementary groups, sorted.
    pub groups: Arc<Vec<Gid>>,
    /// Capabilities it may use.
    pub effective: CapSet,
    /// Capabilities it may take into use.
    pub permitted: CapSet,
    /// Capabilities it may pass to a program with the same file capabilities.
    pub inheritable: CapSet,
    /// Capabilities no program it executes can have beyond these.
    pub bounding: CapSet,
    /// `PR_SET_KEEPCAPS`.
    pub keep_caps: bool,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
}

impl Credentials {
    /// The superuser's.
    pub fn root() -> Self {
        Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Arc::default(),
            effective: CapSet::ALL,
            permitted: CapSet::ALL,
            inheritable: CapSet::empty(),
            bounding: CapSet::ALL,
            keep_caps: false,
            no_new_privs: false,
        }
    }

    /// Whether the thread may use `capability`.
    pub fn has(&self, capability: CapSet) -> bool {
        self.effective.contains(capability)
    }

    /// `EPERM` unless the thread may use `capability`.
    pub fn require(&self, capability: CapSet) -> Result<()> {
        if self.has(capability) { Ok(()) } else { Err(EPERM) }
    }

    /// Whether `gid` is the group for file access or a supplementary one.
    pub fn in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }
}
