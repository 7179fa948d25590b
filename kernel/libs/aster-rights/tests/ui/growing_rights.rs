// SPDX-License-Identifier: MPL-2.0

//! What is derived has no right that its origin lacks.

use aster_rights::{TRightSet, TRights, require};

struct Cap<R>(R);

impl<R: TRights> Cap<TRightSet<R>> {
    #[require(R > Dup, R >= S)]
    fn dup<S: TRights>(&self) -> Cap<TRightSet<S>> {
        Cap(TRightSet::new())
    }
}

fn main() {
    let cap = Cap(TRightSet::<TRights![Dup, Read]>::new());
    cap.dup::<TRights![Read]>();
    cap.dup::<TRights![Read, Exec]>();
    cap.0.restrict::<TRights![Signal]>();
}
