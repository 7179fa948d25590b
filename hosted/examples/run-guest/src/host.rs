// SPDX-License-Identifier: MPL-2.0

//! The two things that the compiler cannot check: memory that unicorn is given a pointer to, and fork.

use std::{ops::Range, ptr};

use anyhow::{Result, anyhow};
use unicorn_engine::{Prot, Unicorn};
use vmar_hosted::{
    Error, GuestSpace, Side,
    host::{Errno, Host},
};

/// Lets unicorn use the host's memory behind a range of the guest's. It is told when that changes.
pub fn show<D, H: Host>(
    uc: &mut Unicorn<'_, D>,
    space: &GuestSpace<H>,
    range: &Range<usize>,
    perms: Prot,
) -> Result<()> {
    let addr = space.host_address(range.start).ok_or_else(|| anyhow!("outside of the guest's range"))?;
    let pointer = ptr::with_exposed_provenance_mut(addr);
    // SAFETY: the range is the space's for as long as it lives, which is longer than unicorn runs: both live to the end of the program.
    // No reference is ever made to it. An access that the host does not allow is one that unicorn does not allow either.
    unsafe { uc.mem_map_ptr(range.start as u64, range.len() as u64, perms, pointer) }
        .map_err(|error| anyhow!("unicorn cannot map {range:#x?}: {error:?}"))
}

/// Forks, with the space's lock held.
pub fn fork<H: Host>(space: &GuestSpace<H>) -> Result<Side<i32>, Error> {
    let mut failure = None;
    let side = space.fork(|| {
        // SAFETY: there is one thread, so the child has all that it could need.
        match unsafe { libc::fork() } {
            0 => Side::Child,
            pid => {
                if pid < 0 {
                    failure = Some(Errno::AGAIN);
                }
                Side::Parent(pid)
            }
        }
    })?;
    failure.map_or(Ok(side), |errno| Err(Error::Host(errno)))
}

/// Makes a segment of System V shared memory, or finds one.
pub fn new_segment(key: i32, size: usize, flags: i32) -> Result<i32, Errno> {
    // SAFETY: it touches no memory of this process.
    match unsafe { libc::shmget(key, size, flags) } {
        -1 => Err(last_errno()),
        id => Ok(id),
    }
}

/// Removes a segment (`IPC_RMID`); no other command is served.
pub fn remove_segment(id: i32, command: i32) -> Result<(), Errno> {
    if command != libc::IPC_RMID {
        return Err(Errno::INVAL);
    }
    // SAFETY: it goes when nobody is attached any more, and no memory is touched.
    match unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
