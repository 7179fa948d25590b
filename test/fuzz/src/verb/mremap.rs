// SPDX-License-Identifier: MPL-2.0

//! `mremap`.

use std::sync::atomic::Ordering::Relaxed;

use super::{Role, Verb};
use crate::{
    maker::{Maker, args},
    step::Args,
    symbols::{Kind, Names, PAGE},
    view,
    world::World,
};

const FLAGS: Names = &[("MAYMOVE", 1), ("FIXED", 2), ("DONTUNMAP", 4)];
const MAY_MOVE: u64 = 1;
const FIXED: u64 = 2;
const DONT_UNMAP: u64 = 4;

pub static MREMAP: Verb = Verb {
    name: "mremap",
    kinds: &[Kind::Address, Kind::Number, Kind::Number, Kind::Flags(FLAGS), Kind::Address],
    weight: 10,
    role: Role::Plain,
    make,
    run,
};

fn make(maker: &mut Maker) -> Args {
    let (addr, old) = if maker.random.one_in(40) {
        // A length that reaches out of the windows is refused only where the mapping is shorter: which it is.
        let (addr, len) = maker.range();
        (addr, maker.random.pick(&[0, len, u64::MAX, u64::MAX - PAGE + 1]))
    } else {
        maker.range()
    };
    let flags = maker.random.weighted(&[
        (6, 0),
        (12, MAY_MOVE),
        (12, MAY_MOVE | FIXED),
        (4, MAY_MOVE | DONT_UNMAP),
        (4, MAY_MOVE | FIXED | DONT_UNMAP),
        (1, FIXED),
        (1, DONT_UNMAP),
        (1, 8 | MAY_MOVE),
    ]);
    // With a fixed target, a length that wraps around makes Linux unmap the target and no more.
    let is_moved = flags & (FIXED | DONT_UNMAP) != 0;
    let old = if maker.random.one_in(16) || is_moved && old > 1 << 32 { 0 } else { old };
    let mut new = match maker.random.below(8) {
        0..3 => old,
        3 => maker.random.below(4) * PAGE,
        4 => maker.random.below(8 * PAGE),
        _ => (1 + maker.random.below(8)) * PAGE,
    };
    if flags & DONT_UNMAP != 0 && !maker.random.one_in(8) {
        new = old;
    }
    // The target stays within the arena, as the place for it does.
    let mut to = maker.place(new.min(24 * PAGE));
    if new > 20 * PAGE {
        new = 2 * PAGE;
    }
    match maker.random.below(40) {
        0 => to += 1 + maker.random.below(PAGE - 1),
        1 => to = maker.random.pick(&[1 << 47, (1 << 47) - PAGE, u64::MAX - PAGE + 1]),
        2 if flags & FIXED == 0 => {
            new = maker.random.pick(&[1 << 30, 1 << 47, u64::MAX, u64::MAX - PAGE + 1])
        }
        3 if flags & FIXED == 0 => to = 0,
        _ => {}
    }
    args([addr, old, new, flags, to])
}

fn run(world: &mut World, args: &Args) {
    let [addr, old, new, flags, to, _] = *args;
    let windows = world.windows();
    let page_up = |len: u64| len.checked_next_multiple_of(PAGE).unwrap_or(0);
    let (old_size, new_size) = (page_up(old), page_up(new));
    let range = addr..addr.saturating_add(old_size);
    // What is too long is cut off before the rest moves.
    let moved = addr..addr.saturating_add(old_size.min(new_size));
    let needs_one = new_size > old_size || flags & (FIXED | DONT_UNMAP) != 0;
    if needs_one
        && world.edges.has_inside(&windows, moved.clone())
        && view::is_one_mapping(world, moved.start, moved.end)
    {
        world.out.push_str("left out: perhaps two mappings");
        return;
    }
    if needs_one && flags & MAY_MOVE != 0 && is_watched_beside(world, addr, flags, to, new_size) {
        world.out.push_str("left out: what lies beside it may no longer be watched");
        return;
    }
    let answer = syscall!(SYS_mremap, addr, old, new, flags, to);
    world.edges.note(&windows, range);
    if let Ok(start) = u64::try_from(answer) {
        if start == addr {
            world.edges.note(&windows, addr..addr.saturating_add(new_size));
        } else {
            world.edges.begin(&windows, start..start.saturating_add(new_size));
        }
    } else if flags & FIXED != 0 {
        // What was at the target may be gone all the same.
        world.edges.note(&windows, to..to.saturating_add(new_size));
    }
    world.tell_addr(answer);
}

/// Whether something that is watched could come to lie beside other mappings.
///
/// If it becomes one with them, and nobody asked to be told of moves, Linux forgets of both that they are watched.
fn is_watched_beside(world: &mut World, addr: u64, flags: u64, to: u64, size: u64) -> bool {
    if world.shared.has_uffd.load(Relaxed) == 0 || !view::is_watched(world, addr) {
        return false;
    }
    let mut is_page_mapped = |page| view::is_mapped(world, page, PAGE);
    flags & FIXED == 0 || is_page_mapped(to.wrapping_sub(PAGE)) || is_page_mapped(to.wrapping_add(size))
}
