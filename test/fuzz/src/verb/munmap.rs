// SPDX-License-Identifier: MPL-2.0

//! `munmap`.

use super::{Role, Verb};
use crate::{maker::args, symbols::Kind};

pub static MUNMAP: Verb = Verb {
    name: "munmap",
    kinds: &[Kind::Address, Kind::Number],
    weight: 7,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_munmap, args[0], args[1]));
    },
};
