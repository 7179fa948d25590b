// SPDX-License-Identifier: MPL-2.0

//! Rights are given up, never won.

use aster_rights::{FullRights, TRightSet, TRights};
use vmar::{machine::Machine, vmar::Vmar};

fn restricts<M: Machine>(vmar: Vmar<M, TRightSet<TRights![Read]>>) -> Vmar<M, TRightSet<TRights![Read, Write]>> {
    vmar.restrict::<TRights![Read, Write]>()
}

fn duplicates<M: Machine>(vmar: &Vmar<M, TRightSet<TRights![Dup]>>) -> Vmar<M, TRightSet<FullRights>> {
    vmar.dup()
}

fn builds<M: Machine>(vmar: Vmar<M, TRightSet<TRights![Dup]>>) -> Vmar<M, TRightSet<FullRights>> {
    Vmar { rights: TRightSet::new(), ..vmar }
}

fn main() {}
