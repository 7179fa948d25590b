// SPDX-License-Identifier: MPL-2.0

//! Without READ nothing is looked at, and nothing readable is mapped.

use aster_rights::{TRightSet, TRights};
use vmar::{machine::Machine, vmar::Vmar};

type Lacking = TRights![Dup, Write, Exec];

fn operations<M: Machine>(vmar: &Vmar<M, TRightSet<Lacking>>, buf: &mut [u8]) {
    let _ = vmar.new_map(4096).read();
    let _ = vmar.query(0..4096);
    let _ = vmar.read_bytes(0, buf);
    let _ = vmar.fork();
}

fn main() {}
