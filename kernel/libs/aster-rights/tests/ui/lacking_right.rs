// SPDX-License-Identifier: MPL-2.0

//! Without a right, what needs it does not compile, and the message names the right.

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

fn main() {
    let full = Cap(TRightSet::<FullRights>::new());
    full.dup::<TRights![Dup]>().fetch();
    full.dup::<TRights![Read]>().update();
    full.dup::<TRights![Write]>().update();
    full.dup::<TRights![Read, Write]>().run();
    full.dup::<TRights![Read, Write, Exec]>().alert();
    full.dup::<TRights![Read]>().dup::<TRights![Read]>();
}
