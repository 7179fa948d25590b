// SPDX-License-Identifier: MPL-2.0

//! Without DUP there is no second capability.

use aster_rights::{TRightSet, TRights};
use vmar::{machine::Machine, vmar::Vmar};

type Lacking = TRights![Read, Write, Exec];

fn operations<M: Machine>(vmar: &Vmar<M, TRightSet<Lacking>>) {
    let _ = vmar.dup();
    let _ = vmar.fork();
}

fn clones<M: Machine>(vmar: &Vmar<M, TRightSet<Lacking>>) -> Vmar<M, TRightSet<Lacking>> {
    vmar.clone()
}

fn main() {}
