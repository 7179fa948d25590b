// SPDX-License-Identifier: MPL-2.0

//! Locked memory.

use super::{Role, Verb};
use crate::{
    maker::{Maker, args},
    step::Args,
    symbols::{Kind, Names},
    sys,
    world::World,
};

const NOW_OR_LATER: Names = &[("ONFAULT", 1)];
const ALL: Names = &[("CURRENT", 1), ("FUTURE", 2), ("ONFAULT", 4)];

const RANGE: &[Kind] = &[Kind::Address, Kind::Number];

pub static MLOCK: Verb = Verb {
    name: "mlock",
    kinds: RANGE,
    weight: 3,
    role: Role::Plain,
    make: range,
    run: |world, args| on_range(world, args, libc::SYS_mlock),
};

pub static MLOCK2: Verb = Verb {
    name: "mlock2",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(NOW_OR_LATER)],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let [addr, len, ..] = range(maker);
        args([addr, len, maker.random.weighted(&[(6, 1), (2, 0), (1, 2)])])
    },
    run: |world, args| on_range(world, args, libc::SYS_mlock2),
};

pub static MUNLOCK: Verb = Verb {
    name: "munlock",
    kinds: RANGE,
    weight: 3,
    role: Role::Plain,
    make: range,
    run: |world, args| on_range(world, args, libc::SYS_munlock),
};

fn range(maker: &mut Maker) -> Args {
    let (addr, len) = maker.any_range();
    args([addr, len])
}

/// Calls for a range, at whose ends mappings may be cut.
fn on_range(world: &mut World, args: &Args, number: i64) {
    let windows = world.windows();
    world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
    world.tell(sys::call(number, args));
}

pub static MLOCKALL: Verb = Verb {
    name: "mlockall",
    kinds: &[Kind::Flags(ALL)],
    weight: 1,
    role: Role::Plain,
    make: |maker| args([maker.random.below(9)]),
    run: |world, args| world.tell(syscall!(SYS_mlockall, args[0])),
};

pub static MUNLOCKALL: Verb = Verb {
    name: "munlockall",
    kinds: &[],
    weight: 2,
    role: Role::Plain,
    make: |_| [0; 6],
    run: |world, _| world.tell(syscall!(SYS_munlockall)),
};
