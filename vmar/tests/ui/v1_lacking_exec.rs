// SPDX-License-Identifier: MPL-2.0

//! Without EXEC nothing executable is mapped, and permissions that are values need it.

use aster_rights::{TRightSet, TRights};
use vmar::{machine::Machine, perms::VmPerms, vmar::Vmar};

type Lacking = TRights![Dup, Read, Write];

fn operations<M: Machine>(vmar: &Vmar<M, TRightSet<Lacking>>) {
    let _ = vmar.new_map(4096).exec();
    let _ = vmar.new_map(4096).perms(VmPerms::READ);
    let _ = vmar.protect(0..4096, VmPerms::READ);
}

fn main() {}
