// SPDX-License-Identifier: MPL-2.0

//! Without WRITE nothing is changed, and nothing writable is mapped.

use aster_rights::{TRightSet, TRights};
use vmar::{machine::Machine, vmar::Vmar};

type Lacking = TRights![Dup, Read, Exec];

fn operations<M: Machine>(vmar: &Vmar<M, TRightSet<Lacking>>) {
    let _ = vmar.new_map(4096).write();
    let _ = vmar.unmap(0..4096);
    let _ = vmar.write_bytes(0, &[0]);
    vmar.clear();
}

fn main() {}
