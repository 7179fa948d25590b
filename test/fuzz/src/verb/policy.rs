// SPDX-License-Identifier: MPL-2.0

//! Where memory is to be, on a machine that has one node.

use super::{Role, Verb};
use crate::{
    add,
    maker::{Maker, args},
    symbols::{Kind, Names},
    sys, view,
};

const MODES: Names = &[
    ("BALANCING", 1 << 13),
    ("RELATIVE", 1 << 14),
    ("STATIC", 1 << 15),
    ("INTERLEAVE", 3),
    ("PREFERRED", 1),
    ("BIND", 2),
    ("LOCAL", 4),
    ("MANY", 5),
];
/// Stands for no mask at all.
const NO_MASK: u64 = u64::MAX;
/// Fails if there are pages in other places. Which pages of files are there is left open.
const STRICT: u64 = 1;
/// The words of a mask.
const WORDS: usize = 8;

fn mode(maker: &mut Maker) -> u64 {
    let mode = maker.random.weighted(&[(3, 0), (3, 1), (4, 2), (4, 3), (2, 4), (2, 5), (1, 6)]);
    match maker.random.below(16) {
        0 => mode | 1 << 15,
        1 => mode | 1 << 14,
        2 => mode | maker.random.pick(&[1 << 13, 3 << 14, 1 << 12]),
        _ => mode,
    }
}

fn mask(maker: &mut Maker) -> u64 {
    maker.random.weighted(&[(10, 1), (4, NO_MASK), (3, 0), (2, 2), (1, 3)])
}

fn bits(maker: &mut Maker) -> u64 {
    maker.random.weighted(&[(6, 64), (2, 2), (2, 0), (1, 1), (1, 3), (1, 65), (1, 512), (1, 1 << 20)])
}

/// A mask in memory, and its address.
fn place(mask: u64) -> ([u64; WORDS], bool) {
    let mut words = [0; WORDS];
    words[0] = mask;
    (words, mask != NO_MASK)
}

pub static MBIND: Verb = Verb {
    name: "mbind",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(MODES), Kind::Number, Kind::Number, Kind::Number],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        let (mode, mask, bits) = (mode(maker), mask(maker), bits(maker));
        args([
            addr,
            len,
            mode,
            mask,
            bits,
            maker.random.weighted(&[(8, 0), (2, 1), (2, 2), (1, 4), (1, 3), (1, 8)]),
        ])
    },
    run: |world, args| {
        let [addr, len, mode, mask, bits, flags] = *args;
        if flags & STRICT != 0
            && !view::shown_by(world, c"/proc/self/maps", addr..addr.saturating_add(len)).is_empty()
        {
            world.out.push_str("left out: pages of objects");
            return;
        }
        let windows = world.windows();
        world.edges.note(&windows, addr..addr.saturating_add(len));
        let (words, is_there) = place(mask);
        let mask = if is_there { words.as_ptr() as u64 } else { 0 };
        world.tell(syscall!(SYS_mbind, addr, len, mode, mask, bits, flags));
    },
};

pub static SET: Verb = Verb {
    name: "set_mempolicy",
    kinds: &[Kind::Flags(MODES), Kind::Number, Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| args([mode(maker), mask(maker), bits(maker)]),
    run: |world, args| {
        let (words, is_there) = place(args[1]);
        let mask = if is_there { words.as_ptr() as u64 } else { 0 };
        world.tell(syscall!(SYS_set_mempolicy, args[0], mask, args[2]));
    },
};

pub static HOME: Verb = Verb {
    name: "set_mempolicy_home_node",
    kinds: &[Kind::Address, Kind::Number, Kind::Number, Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([
            addr,
            len,
            maker.random.weighted(&[(14, 0), (1, 1), (1, 2000)]),
            maker.random.weighted(&[(14, 0), (1, 1)]),
        ])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        world.tell(syscall!(SYS_set_mempolicy_home_node, args[0], args[1], args[2], args[3]));
    },
};

const ASK: Names = &[("NODE", 1), ("ADDR", 2), ("ALLOWED", 4)];
const NODE_OF_PAGE: u64 = 3;

pub static GET: Verb = Verb {
    name: "get_mempolicy",
    kinds: &[Kind::Number, Kind::Address, Kind::Flags(ASK)],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let addr = if maker.random.one_in(4) { 0 } else { maker.byte() };
        let bits = maker.random.weighted(&[(6, 512), (3, 1024), (1, 0), (1, 2)]);
        args([bits, addr, maker.random.weighted(&[(6, 2), (3, 0), (2, 3), (2, 4), (1, 1), (1, 6), (1, 8)])])
    },
    run: |world, args| {
        if args[2] == NODE_OF_PAGE && view::is_of_unreadable_object(world, args[1]) {
            world.out.push_str("left out: a page that may be mapped");
            return;
        }
        let (mut mode, mut words) = (-1i32, [0u64; 16]);
        let mask = if args[0] == 0 { 0 } else { words.as_mut_ptr() as u64 };
        let answer = syscall!(SYS_get_mempolicy, &raw mut mode, mask, args[0], args[1], args[2]);
        world.tell(answer);
        if sys::errno(answer).is_none() {
            add(&mut world.out, format_args!(" mode {mode:#x} nodes {:#x}", words[0]));
        }
    },
};
