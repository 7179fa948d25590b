// SPDX-License-Identifier: MPL-2.0

//! Loads and stores.

use super::{Role, Verb};
use crate::{
    access,
    maker::args,
    symbols::{Kind, PAGE},
    view,
};

pub static LOAD1: Verb = Verb {
    name: "load1",
    kinds: &[Kind::Address],
    weight: 6,
    role: Role::Plain,
    make: |maker| args([maker.byte()]),
    run: |world, args| world.tell_access(access::load1(args[0])),
};

pub static LOAD8: Verb = Verb {
    name: "load8",
    kinds: &[Kind::Address],
    weight: 4,
    role: Role::Plain,
    make: |maker| args([maker.byte()]),
    run: |world, args| world.tell_access(access::load8(args[0])),
};

pub static STORE1: Verb = Verb {
    name: "store1",
    kinds: &[Kind::Address, Kind::Number],
    weight: 9,
    role: Role::Plain,
    make: |maker| args([maker.byte(), maker.word() & 0xff]),
    run: |world, args| world.tell_access(access::store1(args[0], args[1])),
};

pub static STORE8: Verb = Verb {
    name: "store8",
    kinds: &[Kind::Address, Kind::Number],
    weight: 7,
    role: Role::Plain,
    make: |maker| args([maker.byte(), maker.word()]),
    run: |world, args| world.tell_access(access::store8(args[0], args[1])),
};

pub static ADD8: Verb = Verb {
    name: "add8",
    kinds: &[Kind::Address, Kind::Number],
    weight: 2,
    role: Role::Plain,
    make: |maker| args([maker.byte() & !7, maker.random.below(1 << 32)]),
    run: |world, args| world.tell_access(access::add8(args[0], args[1])),
};

/// Executes one instruction if it is a `ret`.
pub static FETCH: Verb = Verb {
    name: "fetch",
    kinds: &[Kind::Address],
    weight: 3,
    role: Role::Plain,
    make: |maker| args([maker.byte()]),
    run: |world, args| world.tell_access(access::fetch(args[0])),
};

/// Stores a word at both ends of each page.
pub static FILL: Verb = Verb {
    name: "fill",
    kinds: &[Kind::Address, Kind::Number, Kind::Number],
    weight: 5,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.pages(20);
        args([addr, len, maker.word()])
    },
    run: |world, args| {
        let [addr, len, value, ..] = *args;
        for page in (addr..addr.saturating_add(len)).step_by(PAGE as usize) {
            let stored = access::store8(page, value ^ (page - addr));
            let stored = stored.and_then(|_| access::store8(page + PAGE - 8, value));
            if stored.is_err() {
                world.tell_access(stored);
                world.out.push(' ');
            }
        }
    },
};

/// Reads all of some pages.
pub static LOOK: Verb = Verb {
    name: "look",
    kinds: &[Kind::Address, Kind::Number],
    weight: 8,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.pages(20);
        args([addr, len])
    },
    run: |world, args| {
        world.out.push('=');
        for page in (args[0]..args[0].saturating_add(args[1])).step_by(PAGE as usize) {
            view::tell_page(world, page);
        }
    },
};

/// Reads everything that can be read.
pub static LOOK_ALL: Verb = Verb {
    name: "look_all",
    kinds: &[],
    weight: 1,
    role: Role::Plain,
    make: |_| [0; 6],
    run: |world, _| view::tell_all_pages(world),
};
