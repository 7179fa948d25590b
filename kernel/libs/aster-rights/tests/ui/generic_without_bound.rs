// SPDX-License-Identifier: MPL-2.0

//! Generic code has the rights that it asks for, and no others.

use aster_rights::{FullRights, TRightSet, TRights, require};

struct Cap<R>(R);

impl<R: TRights> Cap<TRightSet<R>> {
    #[require(R > Dup, R >= S)]
    fn dup<S: TRights>(&self) -> Cap<TRightSet<S>> {
        Cap(TRightSet::new())
    }

    #[require(R > Read)]
    fn fetch(&self) {}

    #[require(R > Read | Write)]
    fn update(&self) {}

    #[require(R > Exec)]
    fn run(&self) {}

    #[require(R > Signal)]
    fn alert(&self) {}
}

fn forgets<R: TRights>(cap: &Cap<TRightSet<R>>) {
    cap.run();
}

fn asks_for_another<R: aster_rights::Contains<aster_rights::Signal>>(cap: &Cap<TRightSet<R>>) {
    cap.alert();
    cap.run();
}

fn main() {
    forgets(&Cap(TRightSet::<FullRights>::new()));
    asks_for_another(&Cap(TRightSet::<FullRights>::new()));
}
