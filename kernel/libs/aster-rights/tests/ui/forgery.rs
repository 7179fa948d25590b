// SPDX-License-Identifier: MPL-2.0

//! Nobody can make up a set of rights, nor add to one that there is.

use aster_rights::{Contains, Exec, FlagSet, Rights, RightsOp, TRights, TRightSet, TRightsFlags};
use typeflags_util::Absent;

type Nothing = TRights![];

// What is not the generated type is no set.
struct Everything;

impl FlagSet for Everything {
    type Bits = u32;
    const BITS: u32 = u32::MAX;
}

fn own_set(rights: TRightSet<Everything>) -> Rights {
    takes(rights)
}

fn takes<R: TRights>(_rights: TRightSet<R>) -> Rights {
    TRightSet::<R>::RIGHTS
}

// What is not a right, or not the slot's own, fills no slot.
fn own_slot() -> Rights {
    takes(TRightSet::<TRightsFlags<Everything, Absent, Absent, Absent, Absent>>::new())
}

fn wrong_slot() -> Rights {
    takes(TRightSet::<TRightsFlags<Exec, Absent, Absent, Absent, Absent>>::new())
}

// The sets have the rights that they have.
impl typeflags_util::Contains<Exec> for Nothing {}

impl Contains<Exec> for Nothing {}

// Only the two known kinds of rights say what a capability may do.
#[derive(Clone, Copy, Debug)]
struct AnyRights;

impl RightsOp for AnyRights {
    fn rights(&self) -> Rights {
        Rights::all()
    }
}

fn main() {}
