// SPDX-License-Identifier: MPL-2.0

//! Resource limits, as in `getrlimit(2)`.

use linux_raw_sys::general::{
    RLIM_NLIMITS, RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC,
    RLIMIT_RTPRIO, RLIMIT_SIGPENDING, RLIMIT_STACK,
};

use crate::{prelude::*, process::table};

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// A soft and a hard limit; the layout of `struct rlimit64`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// What holds now.
    pub soft: u64,
    /// How far a program may raise the soft limit.
    pub hard: u64,
}

impl Rlimit {
    /// No limit.
    pub const UNLIMITED: Self = Self { soft: INFINITY, hard: INFINITY };
}

/// The limits of a process, by their Linux numbers (`RLIMIT_*`).
pub struct Rlimits {
    limits: SpinLock<[Rlimit; RLIM_NLIMITS as usize], LocalIrqDisabled>,
}

impl Rlimits {
    /// What the first process starts with.
    pub fn initial() -> Self {
        let mut limits = [Rlimit::UNLIMITED; RLIM_NLIMITS as usize];
        let mut set = |resource: u32, soft, hard| limits[resource as usize] = Rlimit { soft, hard };
        set(RLIMIT_STACK, 8 << 20, INFINITY);
        set(RLIMIT_CORE, 0, INFINITY);
        let threads = table::max_threads() as u64 / 2;
        set(RLIMIT_NPROC, threads, threads);
        set(RLIMIT_NOFILE, 1024, 1 << 20);
        set(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(RLIMIT_SIGPENDING, threads, threads);
        set(RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(RLIMIT_NICE, 0, 0);
        set(RLIMIT_RTPRIO, 0, 0);
        Self { limits: SpinLock::new(limits) }
    }

    /// The limit on `resource`.
    ///
    /// # Panics
    ///
    /// If `resource` is none of `RLIMIT_*`; use [`Rlimits::try_get`] for numbers from a program.
    pub fn get(&self, resource: u32) -> Rlimit {
        self.limits.lock()[resource as usize]
    }

    /// The soft limit on `resource`.
    ///
    /// # Panics
    ///
    /// As [`Rlimits::get`].
    pub fn soft(&self, resource: u32) -> u64 {
        self.get(resource).soft
    }

    /// The limit on `resource`, or `EINVAL` if there is no such resource.
    pub fn try_get(&self, resource: u32) -> Result<Rlimit> {
        self.limits.lock().get(resource as usize).copied().ok_or(EINVAL)
    }

    /// Replaces the limit on `resource` if `allow` accepts the step from the old one, and answers the old one.
    pub fn replace(
        &self,
        resource: u32,
        new: Rlimit,
        allow: impl FnOnce(Rlimit) -> Result<()>,
    ) -> Result<Rlimit> {
        let mut limits = self.limits.lock();
        let limit = limits.get_mut(resource as usize).ok_or(EINVAL)?;
        allow(*limit)?;
        Ok(core::mem::replace(limit, new))
    }
}

impl Clone for Rlimits {
    fn clone(&self) -> Self {
        Self { limits: SpinLock::new(*self.limits.lock()) }
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn a_refused_change_changes_nothing() {
        let limits = Rlimits::initial();
        let before = limits.get(RLIMIT_STACK);
        let wanted = Rlimit { soft: 1, hard: 2 };
        assert_eq!(limits.replace(RLIMIT_STACK, wanted, |_| Err(EPERM)), Err(EPERM));
        assert_eq!(limits.get(RLIMIT_STACK), before);
        assert_eq!(limits.replace(RLIMIT_STACK, wanted, |_| Ok(())), Ok(before));
        assert_eq!(limits.clone().get(RLIMIT_STACK), wanted);
    }

    #[ktest]
    fn unknown_resources_are_refused() {
        let limits = Rlimits::initial();
        assert_eq!(limits.try_get(RLIM_NLIMITS), Err(EINVAL));
        assert_eq!(limits.replace(RLIM_NLIMITS, Rlimit::UNLIMITED, |_| Ok(())), Err(EINVAL));
    }
}
