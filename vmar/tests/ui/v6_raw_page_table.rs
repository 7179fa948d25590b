// SPDX-License-Identifier: MPL-2.0

//! The raw page table is out of reach of a capability that lacks one of READ, WRITE and EXEC.

use aster_rights::{TRightSet, TRights};
use vmar::{machine::Machine, vmar::Vmar};

fn reads<M: Machine>(vmar: &Vmar<M, TRightSet<TRights![Dup, Write, Exec, Signal]>>) -> &M::Space {
    vmar.space()
}

fn writes<M: Machine>(vmar: &Vmar<M, TRightSet<TRights![Dup, Read, Exec, Signal]>>) -> &M::Space {
    vmar.space()
}

fn executes<M: Machine>(vmar: &Vmar<M, TRightSet<TRights![Dup, Read, Write, Signal]>>) -> &M::Space {
    vmar.space()
}

fn main() {}
