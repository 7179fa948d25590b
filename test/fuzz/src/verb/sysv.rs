// SPDX-License-Identifier: MPL-2.0

//! System V shared memory.
//!
//! A sequence keeps its segments in slots, and names them by those: identifiers are the kernel's.

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

/// The verbs of the few sequences that have segments.
pub static VERBS: &[&Verb] = &[&SHMGET, &SHMAT, &SHMDT, &SHMCTL];

const SLOTS: Names = &[("s0", 0), ("s1", 1), ("s2", 2), ("s3", 3), ("nothing", 4)];
const KEYS: Names = &[("PRIVATE", 0), ("K1", 0x5eed_0001), ("K2", 0x5eed_0002)];
const GET_FLAGS: Names = &[("CREAT", 0o1000), ("EXCL", 0o2000), ("NORESERVE", 0o10000)];
const AT_FLAGS: Names = &[("RDONLY", 0o10000), ("RND", 0o20000), ("REMAP", 0o40000), ("EXEC", 0o100_000)];
const RMID: u64 = 0;
const SET: u64 = 1;
const STAT: u64 = 2;
const STAT_OF_PLACE: u64 = 13;
const COMMANDS: Names = &[
    ("RMID", RMID),
    ("SET", SET),
    ("STAT", STAT),
    ("LOCK", 11),
    ("UNLOCK", 12),
    ("SHM_STAT", STAT_OF_PLACE),
    ("STAT_ANY", 15),
];
/// The largest segment, in pages.
const MOST: u64 = 8;

pub static SHMGET: Verb = Verb {
    name: "shmget",
    kinds: &[Kind::One(SLOTS), Kind::One(KEYS), Kind::Number, Kind::Flags(GET_FLAGS)],
    weight: 6,
    role: Role::Plain,
    make: |maker| {
        let random = &mut maker.random;
        let size = match random.below(12) {
            0 => random.pick(&[0, u64::MAX]),
            1 | 2 => 1 + random.below(MOST * PAGE),
            _ => (1 + random.below(MOST)) * PAGE,
        };
        let mode = random.weighted(&[(12, 0o600), (2, 0o400), (1, 0o200), (1, 0), (2, 0o777)]);
        let flags = random.weighted(&[(12, 0o1000), (3, 0o3000), (3, 0), (1, 0o11000), (1, 0o2000)]);
        let (_, key) = random.pick(KEYS);
        args([random.below(4), key, size, flags | mode])
    },
    run: |world, args| {
        let [slot, key, size, flags, ..] = *args;
        let answer = syscall!(SYS_shmget, key, size, flags);
        if sys::errno(answer).is_some() {
            return world.tell(answer);
        }
        let segments = &world.shared.segments;
        match segments.iter().position(|known| i64::from(known.load(Relaxed)) == answer + 1) {
            Some(known) => add(&mut world.out, format_args!("= that of s{known}")),
            None => {
                let old = segments[slot as usize].swap(answer as i32 + 1, Relaxed);
                world.shared.segment_sizes[slot as usize].store(size, Relaxed);
                if old != 0 {
                    syscall!(SYS_shmctl, old - 1, RMID, 0);
                }
                world.out.push_str("= a new one");
            }
        }
    },
};

/// The identifier of what is in a slot; one that there is not if that is nothing.
fn segment(world: &World, slot: u64) -> i32 {
    world.shared.segments.get(slot as usize).map_or(0, |segment| segment.load(Relaxed)) - 1
}

/// A slot; seldom what is none.
fn slot(maker: &mut Maker) -> u64 {
    if maker.random.one_in(30) { 4 } else { maker.random.below(4) }
}

pub static SHMAT: Verb = Verb {
    name: "shmat",
    kinds: &[Kind::One(SLOTS), Kind::Address, Kind::Flags(AT_FLAGS)],
    weight: 8,
    role: Role::Plain,
    make: attach,
    run: |world, args| {
        let [slot, addr, flags, ..] = *args;
        let answer = syscall!(SYS_shmat, segment(world, slot), addr, flags);
        if let (Ok(start), Some(size)) =
            (u64::try_from(answer), world.shared.segment_sizes.get(slot as usize))
        {
            let windows = world.windows();
            world.edges.begin(&windows, start..start + size.load(Relaxed));
        }
        world.tell_addr(answer);
    },
};

fn attach(maker: &mut Maker) -> Args {
    const ROUND: u64 = 0o20000;
    const REMAP: u64 = 0o40000;
    let slot = slot(maker);
    let mut addr = maker.place(MOST * PAGE);
    let mut flags = maker.random.weighted(&[(8, 0), (4, REMAP)]);
    for (often, flag) in [(5, 0o10000), (4, ROUND), (12, 0o100_000)] {
        if maker.random.one_in(often) {
            flags |= flag;
        }
    }
    match maker.random.below(24) {
        0..6 => addr = 0,
        6 => addr = maker.random.pick(&[1, PAGE, 1 << 47, (1 << 47) - PAGE, u64::MAX - PAGE + 1]),
        7 | 8 => addr += 1 + maker.random.below(PAGE - 1),
        _ => maker.focus = Some((addr, MOST * PAGE)),
    }
    args([slot, addr, flags])
}

pub static SHMDT: Verb = Verb {
    name: "shmdt",
    kinds: &[Kind::Address],
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let (addr, _) = maker.pages(1);
        args([match maker.random.below(16) {
            0 => addr + 1 + maker.random.below(PAGE - 1),
            1 => maker.random.pick(&[0, 1 << 47, u64::MAX - PAGE + 1]),
            2..8 => addr,
            _ => maker.focus.map_or(addr, |(start, _)| start),
        }])
    },
    run: |world, args| world.tell(syscall!(SYS_shmdt, args[0])),
};

pub static SHMCTL: Verb = Verb {
    name: "shmctl",
    kinds: &[Kind::One(SLOTS), Kind::One(COMMANDS), Kind::Number, Kind::Number],
    weight: 5,
    role: Role::Plain,
    make: |maker| {
        let slot = slot(maker);
        let random = &mut maker.random;
        let command =
            random.weighted(&[(6, STAT), (3, RMID), (2, SET), (2, 11), (2, 12), (1, 13), (1, 15), (1, 99)]);
        let buffer = if random.one_in(20) { random.pick(&[8, 1 << 47, u64::MAX - 7]) } else { 0 };
        let mode = random.pick(&[0o600, 0o400, 0, 0o1777]);
        args([slot, command, buffer, mode])
    },
    run: control,
};

/// The commands, with a buffer of its own where it is asked for address 0. Of the times that are told of a segment only whether there
/// are any is compared.
fn control(world: &mut World, args: &Args) {
    /// So many places there are, of which an identifier tells one.
    const PLACES: i32 = 1 << 15;
    let [slot, command, buffer, mode, ..] = *args;
    // SAFETY: a plain C structure, all of whose bytes may be 0.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    let buffer = if buffer == 0 { &raw mut status as u64 } else { buffer };
    let id = segment(world, slot);
    if command == SET {
        status.shm_perm.mode = mode as _;
        status.shm_perm.uid = syscall!(SYS_getuid) as u32;
        status.shm_perm.gid = syscall!(SYS_getgid) as u32;
    }
    let is_of_place = matches!(command, STAT_OF_PLACE | 15);
    let number = if is_of_place && id >= 0 { id % PLACES } else { id };
    let answer = syscall!(SYS_shmctl, number, command, buffer);
    if is_of_place && answer >= 0 {
        world.tell(i64::from(answer != i64::from(id)));
    } else {
        world.tell(answer);
    }
    if answer >= 0 && (is_of_place || command == STAT) {
        let maker = world.shared.pids.iter().position(|known| known.load(Relaxed) == status.shm_cpid);
        let last = world.shared.pids.iter().position(|known| known.load(Relaxed) == status.shm_lpid);
        let (size, mode, attaches) = (status.shm_segsz, status.shm_perm.mode, status.shm_nattch);
        let [attached, detached] = [status.shm_atime, status.shm_dtime].map(|time| time != 0);
        add(
            &mut world.out,
            format_args!(
                " size {size:#x} mode {mode:o} attaches {attaches} maker {maker:?} last {last:?} ever {attached} {detached}"
            ),
        );
    }
}
