// SPDX-License-Identifier: MPL-2.0

//! Barriers between the processors.

use super::{Role, Verb};
use crate::{
    maker::args,
    symbols::{Kind, Names},
};

const COMMANDS: Names = &[
    ("QUERY", 0),
    ("GLOBAL", 1),
    ("GLOBAL_EXPEDITED", 2),
    ("REGISTER_GLOBAL_EXPEDITED", 4),
    ("PRIVATE", 8),
    ("REGISTER_PRIVATE", 16),
    ("SYNC_CORE", 32),
    ("REGISTER_SYNC_CORE", 64),
    ("RSEQ", 128),
    ("REGISTER_RSEQ", 256),
];

pub static MEMBARRIER: Verb = Verb {
    name: "membarrier",
    kinds: &[Kind::One(COMMANDS), Kind::Number, Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let (_, command) = maker.random.pick(COMMANDS);
        let command = if maker.random.one_in(16) { maker.random.pick(&[3, 512, u64::MAX]) } else { command };
        args([command, maker.random.weighted(&[(8, 0), (1, 1), (1, 2)]), maker.random.below(2)])
    },
    run: |world, args| world.tell(syscall!(SYS_membarrier, args[0], args[1], args[2])),
};
