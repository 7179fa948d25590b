// SPDX-License-Identifier: MPL-2.0

//! `mmap`.

use super::{Role, Verb};
use crate::{
    maker::{Maker, args},
    step::Args,
    symbols::{ARENA, FILES, Kind, MAP, PAGE, PROT},
    world::World,
};

pub static MMAP: Verb = Verb {
    name: "mmap",
    kinds: &[
        Kind::Address,
        Kind::Number,
        Kind::Flags(PROT),
        Kind::Flags(MAP),
        Kind::One(FILES),
        Kind::Number,
    ],
    weight: 18,
    role: Role::Plain,
    make,
    run,
};

/// The descriptor of /dev/zero.
const ZERO: u64 = FILES[8].1;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const SHARED_VALIDATE: u64 = 3;
const FIXED: u64 = 0x10;
const ANON: u64 = 0x20;
const LOW: u64 = 0x40;
const GROWS_DOWN: u64 = 0x100;
const LOCKED: u64 = 0x2000;
const NO_RESERVE: u64 = 0x4000;
const POPULATE: u64 = 0x8000;
const NON_BLOCK: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;
const SYNC: u64 = 0x8_0000;
const NO_REPLACE: u64 = 0x10_0000;

fn make(maker: &mut Maker) -> Args {
    let (mut addr, mut len) = maker.range();
    let random = &mut maker.random;
    let mut flags = random.weighted(&[(60, PRIVATE), (38, SHARED), (3, SHARED_VALIDATE), (1, 0)]);
    let is_anonymous = random.below(20) < 11;
    let mut odd_addr = addr;
    match random.below(20) {
        0..10 => flags |= FIXED,
        10..12 => flags |= NO_REPLACE,
        12 => flags |= FIXED | NO_REPLACE,
        13..15 => {}
        15 => odd_addr = random.pick(&[PAGE, ARENA - PAGE, 1 << 46, 1 << 47, u64::MAX - PAGE + 1]),
        16 => {
            flags |= LOW;
            odd_addr = random.pick(&[0, addr]);
        }
        _ => odd_addr = 0,
    }
    addr = odd_addr;
    if random.one_in(24) && is_anonymous {
        flags |= GROWS_DOWN;
    }
    for (often, flag) in
        [(10, POPULATE), (30, LOCKED), (16, NO_RESERVE), (40, NON_BLOCK), (40, STACK), (100, SYNC)]
    {
        if random.one_in(often) {
            flags |= flag;
        }
    }
    if flags & (FIXED | NO_REPLACE) == 0 && random.one_in(40) {
        len = random.pick(&[1 << 30, 1 << 46, 1 << 47, u64::MAX, u64::MAX - PAGE + 1]);
    }
    if flags & (FIXED | NO_REPLACE) != 0 && random.one_in(60) {
        addr = random.pick(&[(1 << 47) - PAGE, 1 << 47, u64::MAX - PAGE + 1]);
        len = len.max(2 * PAGE);
    }
    let offset = match random.below(40) {
        0 => random.below(4 * PAGE),
        1 => random.pick(&[u64::MAX - PAGE + 1, 1 << 63, (1 << 63) - PAGE]),
        2..20 => random.below(6) * PAGE,
        _ => 0,
    };
    let (file, offset) = match is_anonymous {
        true => (u64::MAX, if random.one_in(8) { offset } else { 0 }),
        false => (maker.file(), offset),
    };
    // A private mapping of /dev/zero is anonymous memory, and on Linux keeps the file's name and offset all the same.
    let file = if file == ZERO && flags & SHARED == 0 { FILES[0].1 } else { file };
    if flags & FIXED != 0 {
        maker.last_map = Some((addr, len));
    }
    let prot = maker.protection();
    args([addr, len, prot, flags | if is_anonymous { ANON } else { 0 }, file, offset])
}

fn run(world: &mut World, args: &Args) {
    let [addr, len, prot, flags, file, offset] = *args;
    let answer = syscall!(SYS_mmap, addr, len, prot, flags, file, offset);
    if let Ok(start) = u64::try_from(answer) {
        let windows = world.windows();
        world.edges.begin(&windows, start..start.saturating_add(len));
    }
    world.tell_addr(answer);
}
