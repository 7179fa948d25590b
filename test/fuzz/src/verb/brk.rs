// SPDX-License-Identifier: MPL-2.0

//! `brk`.

use super::{Role, Verb};
use crate::{
    maker::args,
    symbols::{HEAP_MARK, Kind, PAGE},
};

pub static BRK: Verb = Verb {
    name: "brk",
    kinds: &[Kind::Address],
    weight: 4,
    role: Role::Plain,
    make: |maker| {
        let offset = match maker.random.below(12) {
            0 => 0,
            1 => 40 * PAGE,
            2..6 => maker.random.below(24 * PAGE),
            _ => maker.random.below(24) * PAGE,
        };
        args([match maker.random.below(24) {
            0 => maker.random.pick(&[0, 1 << 47, u64::MAX]),
            1 => HEAP_MARK - PAGE,
            _ => HEAP_MARK + offset,
        }])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0]);
        let answer = syscall!(SYS_brk, args[0]);
        world.edges.note(&windows, answer as u64..answer as u64);
        world.tell_addr(answer);
    },
};
