// SPDX-License-Identifier: MPL-2.0

//! Locked memory.

use super::{Role, Verb};
use crate::{
    maker::args,
    symbols::{Kind, Names},
};

const NOW_OR_LATER: Names = &[("ONFAULT", 1)];
const ALL: Names = &[("CURRENT", 1), ("FUTURE", 2), ("ONFAULT", 4)];

/// The verbs here differ in little.
const RANGE: &[Kind] = &[Kind::Address, Kind::Number];

pub static MLOCK: Verb = Verb {
    name: "mlock",
    kinds: RANGE,
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_mlock, args[0], args[1]));
    },
};

pub static MLOCK2: Verb = Verb {
    name: "mlock2",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(NOW_OR_LATER)],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        let flags = maker.random.weighted(&[(6, 1), (2, 0), (1, 2)]);
        args([addr, len, flags])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_mlock2, args[0], args[1], args[2]));
    },
};

pub static MUNLOCK: Verb = Verb {
    name: "munlock",
    kinds: RANGE,
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_munlock, args[0], args[1]));
    },
};

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
