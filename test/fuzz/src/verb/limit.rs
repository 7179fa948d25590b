// SPDX-License-Identifier: MPL-2.0

//! Limits on memory. Those on all of it are relative to what a process had when it began.

use std::sync::atomic::Ordering::Relaxed;

use super::{Role, Verb};
use crate::{
    add,
    maker::{Maker, args},
    step::Args,
    symbols::{Kind, Names, PAGE},
    sys,
    world::World,
};

const DATA: u64 = 2;
const STACK: u64 = 3;
const LOCKED: u64 = 8;
const SIZE: u64 = 9;
const WHICH: Names = &[("DATA", DATA), ("STACK", STACK), ("MEMLOCK", LOCKED), ("AS", SIZE)];
/// Which process; for most limits only the own one, since they are relative.
const WHO: Names = &[("p0", 0), ("p1", 1), ("nobody", 2), ("own", OWN)];
const OWN: u64 = 3;
/// Stands for no limit at all.
const NONE: u64 = u64::MAX;

pub static PRLIMIT: Verb = Verb {
    name: "prlimit",
    kinds: &[Kind::One(WHO), Kind::One(WHICH), Kind::Number],
    weight: 1,
    role: Role::Plain,
    make,
    run,
};

fn make(maker: &mut Maker) -> Args {
    let (_, which) = maker.random.pick(WHICH);
    let who = if matches!(which, DATA | SIZE) { OWN } else { maker.who() };
    let pages = if maker.random.one_in(4) { NONE } else { maker.random.below(64) };
    let more = match which {
        DATA | SIZE => 16,
        STACK => 8,
        _ => 0,
    };
    args([who, which, pages.saturating_add(more)])
}

/// Sets the limit to so many pages, and no more than is allowed. The other limit, which is never raised again, stays.
fn run(world: &mut World, args: &Args) {
    let [who, which, pages, ..] = *args;
    let pid = match who {
        OWN => 0,
        _ => world.shared.pids.get(who as usize).map_or(i32::MAX, |pid| pid.load(Relaxed).max(1)),
    };
    if pid == 1 {
        world.out.push_str("left out: there is no such process");
        return;
    }
    let mut old = [0u64; 2];
    let answer = syscall!(SYS_prlimit64, pid, which, 0, old.as_mut_ptr());
    if sys::errno(answer).is_some() {
        return world.tell(answer);
    }
    let base = match which {
        DATA => world.baseline.data << 10,
        SIZE => world.baseline.size << 10,
        _ => 0,
    };
    let soft = if pages == NONE { old[1] } else { (base + pages * PAGE).min(old[1]) };
    world.tell(syscall!(SYS_prlimit64, pid, which, [soft, old[1]].as_ptr(), 0));
    if base == 0 {
        add(&mut world.out, format_args!(" before {:#x} {:#x}", old[0], old[1]));
    }
}
