// SPDX-License-Identifier: MPL-2.0

//! Different sets are different types.

use aster_rights::{TRightSet, TRights};

fn main() {
    let _: TRightSet<TRights![Exec]> = TRightSet::<TRights![Exec, Dup]>::new();
}
