// SPDX-License-Identifier: MPL-2.0

//! Protection keys, of which the processor has none.

use super::{Role, Verb, mprotect};
use crate::{
    maker::args,
    symbols::{Kind, PROT},
};

pub static PKEY_MPROTECT: Verb = Verb {
    name: "pkey_mprotect",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(PROT), Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        let prot = mprotect::protection(maker);
        args([addr, len, prot, maker.random.weighted(&[(6, u64::MAX), (2, 0), (1, 1)])])
    },
    run: |world, args| {
        if mprotect::leave_out(world, args[0], args[2]) {
            return;
        }
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_pkey_mprotect, args[0], args[1], args[2], args[3]));
    },
};

pub static PKEY_ALLOC: Verb = Verb {
    name: "pkey_alloc",
    kinds: &[Kind::Number, Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| args([maker.random.below(2), maker.random.below(5)]),
    run: |world, args| {
        // Linux has another word for the first time, unless it has been told to leave the keys alone.
        syscall!(SYS_pkey_alloc, args[0], args[1]);
        world.tell(syscall!(SYS_pkey_alloc, args[0], args[1]));
    },
};

pub static PKEY_FREE: Verb = Verb {
    name: "pkey_free",
    kinds: &[Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| args([maker.random.pick(&[0, 1, 15, 16, u64::MAX])]),
    run: |world, args| world.tell(syscall!(SYS_pkey_free, args[0])),
};
