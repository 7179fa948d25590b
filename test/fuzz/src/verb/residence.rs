// SPDX-License-Identifier: MPL-2.0

//! `msync`, `mincore` and `remap_file_pages`.

use std::sync::atomic::Ordering::Relaxed;

use super::{Role, Verb};
use crate::{
    access, add,
    maker::args,
    symbols::{ARENA_PAGES, HEAP_PAGES, Kind, MAP, Names, PAGE, PROT},
    view,
};

const SYNC: Names = &[("ASYNC", 1), ("INVALIDATE", 2), ("SYNC", 4)];

pub static MSYNC: Verb = Verb {
    name: "msync",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(SYNC)],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len, maker.random.below(9)])
    },
    run: |world, args| world.tell(syscall!(SYS_msync, args[0], args[1], args[2])),
};

/// Bytes of the answer that are looked at.
const MOST: usize = 64;

pub static MINCORE: Verb = Verb {
    name: "mincore",
    kinds: &[Kind::Address, Kind::Number, Kind::Address],
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len, maker.out_buffer(len.min(1 << 20).div_ceil(PAGE))])
    },
    run: |world, args| {
        let [addr, len, vector, ..] = *args;
        let answer = syscall!(SYS_mincore, addr, len, vector);
        world.tell(answer);
        if answer == 0 {
            let count = (len.div_ceil(PAGE) as usize).min(MOST);
            let mut is_counted = view::pages_of_objects(world, addr, count);
            if world.shared.has_untouched.load(Relaxed) != 0 {
                is_counted.fill(false);
            }
            for (index, _) in (0u64..).zip(is_counted).filter(|(_, is_counted)| *is_counted) {
                // What is in the other bits is left open.
                let bit = access::load1(vector + index).map_or(2, |byte| byte & 1);
                add(&mut world.out, format_args!(" {index}:{bit}"));
            }
        }
        forget(vector, len.div_ceil(PAGE));
    },
};

/// Overwrites an answer of so many bytes, as far as there is one: not all of it is to be compared.
fn forget(vector: u64, count: u64) {
    let count = count.min(ARENA_PAGES + HEAP_PAGES);
    let _ = (vector..vector.saturating_add(count)).try_for_each(|byte| access::store1(byte, 0).map(drop));
}

pub static REMAP_FILE_PAGES: Verb = Verb {
    name: "remap_file_pages",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(PROT), Kind::Number, Kind::Flags(MAP)],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        let prot = if maker.random.one_in(10) { 1 } else { 0 };
        let page = maker.random.below(6);
        let flags = maker.random.weighted(&[(8, 0), (2, 0x1_0000), (1, 1)]);
        args([addr, len, prot, page, flags])
    },
    run: |world, args| {
        let [addr, len, prot, page, flags, _] = *args;
        let windows = world.windows();
        let answer = syscall!(SYS_remap_file_pages, addr, len, prot, page, flags);
        world.edges.note(&windows, addr..addr.saturating_add(len));
        world.tell(answer);
    },
};
