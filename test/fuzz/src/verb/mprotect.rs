// SPDX-License-Identifier: MPL-2.0

//! `mprotect`.

use super::{Role, Verb};
use crate::{
    maker::{Maker, args},
    symbols::{Kind, PROT},
};

pub static MPROTECT: Verb = Verb {
    name: "mprotect",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(PROT)],
    weight: 11,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len, protection(maker)])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_mprotect, args[0], args[1], args[2]));
    },
};

/// Protection bits, seldom with those that only `mprotect` knows, or nobody.
pub fn protection(maker: &mut Maker) -> u64 {
    let prot = maker.protection();
    match maker.random.below(60) {
        0 | 1 => prot | 0x100_0000,
        2 => prot | 0x200_0000,
        3 => prot | 0x300_0000,
        4 => prot | 0x10,
        _ => prot,
    }
}
