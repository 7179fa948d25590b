// SPDX-License-Identifier: MPL-2.0

//! Memory calls: each is one call of vmar-hosted's.

use syscalls::aarch64::Sysno;
use vmar_hosted::host::Errno;

use super::{Arguments, Kernel};
use crate::host;

/// `MAP_ANONYMOUS`.
const ANONYMOUS: u64 = 0x20;

impl Kernel {
    /// Serves a call about memory; `None` if it is about something else.
    pub(super) fn memory(&mut self, call: Sysno, arguments: Arguments) -> Option<Result<u64, Errno>> {
        let Arguments([_, _, two, three, four, five]) = arguments;
        let (addr, len) = (arguments.addr(0), arguments.addr(1));
        let space = &self.space;
        Some(match call {
            Sysno::mmap => {
                let file = self.files.get(&(four as i32)).filter(|_| three & ANONYMOUS == 0);
                space.sys_mmap(addr, len, two, three, file, five).map(|addr| addr as u64)
            }
            Sysno::munmap => space.sys_munmap(addr, len).map(|()| 0),
            Sysno::mprotect => space.sys_mprotect(addr, len, two).map(|()| 0),
            Sysno::mremap => space
                .sys_mremap(addr, len, arguments.addr(2), three, arguments.addr(4))
                .map(|addr| addr as u64),
            Sysno::madvise => space.sys_madvise(addr, len, two).map(|()| 0),
            Sysno::brk => space.brk(addr).map(|end| end as u64).map_err(|_| Errno::NOMEM),
            Sysno::shmat => space.sys_shmat(arguments.int(0), len, two).map(|addr| addr as u64),
            Sysno::shmdt => space.sys_shmdt(addr).map(|()| 0),
            Sysno::shmget => host::new_segment(arguments.int(0), len, arguments.int(2)).map(|id| id as u64),
            Sysno::shmctl => host::remove_segment(arguments.int(0), arguments.int(1)).map(|()| 0),
            // Shared memory is the host's page cache: there is nothing to be brought up to date.
            Sysno::msync if space.query(addr..addr.saturating_add(len)).is_empty() => Err(Errno::NOMEM),
            Sysno::msync | Sysno::mlock | Sysno::munlock => Ok(0),
            _ => return None,
        })
    }
}
