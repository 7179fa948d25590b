// SPDX-License-Identifier: MPL-2.0

//! The least that a system call takes.

use super::{Operation, operations};
use crate::{clock::Samples, sys::Result};

pub const OPERATIONS: &[Operation] = operations! {
    "getppid", 0, 1, 500, getppid, "a system call that does next to nothing";
};

fn getppid(samples: &mut Samples) -> Result {
    while samples.wants_more() {
        samples.time(|| syscall!(libc::SYS_getppid));
    }
    Ok(())
}
