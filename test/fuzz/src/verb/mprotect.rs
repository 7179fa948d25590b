// SPDX-License-Identifier: MPL-2.0

//! `mprotect`.

use super::{Role, Verb};
use crate::{
    maker::{Maker, args},
    symbols::{Kind, PAGE, PROT},
    view,
    world::World,
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
        if leave_out(world, args[0], args[2]) {
            return;
        }
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

/// Leaves out a call that changes a mapping from its begin on (`PROT_GROWSDOWN`) if nobody knows where that is.
pub fn leave_out(world: &mut World, addr: u64, prot: u64) -> bool {
    const GROWS_DOWN: u64 = 0x100_0000;
    let windows = world.windows();
    let end = addr.saturating_add(PAGE);
    let is_left_out = prot & GROWS_DOWN != 0
        && view::start_of_mapping(world, addr)
            .is_some_and(|start| world.edges.has_inside(&windows, start..end));
    if is_left_out {
        world.out.push_str("left out: perhaps two mappings");
    }
    is_left_out
}
