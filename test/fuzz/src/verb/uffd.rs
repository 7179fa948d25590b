// SPDX-License-Identifier: MPL-2.0

//! A userfaultfd: that of process 0, or the one that has made another since.
//!
//! Nobody is there to serve a fault. So one ends in a signal (`UFFD_FEATURE_SIGBUS`), in an error where the kernel meets it, and the
//! events, which the one who causes them waits for, are not asked for.

use std::{ffi::CString, sync::atomic::Ordering::Relaxed};

use super::{Role, Verb};
use crate::{
    access, add,
    maker::{Maker, args},
    step::Args,
    symbols::{ARENA, ARENA_END, HEAP_MARK, HEAP_PAGES, Kind, Names, PAGE},
    sys, view,
    world::World,
};

/// The verbs of the few sequences that have one. The first two come at their begin, and after the last.
pub static VERBS: &[&Verb] = &[
    &OPEN,
    &API,
    &REGISTER,
    &UNREGISTER,
    &COPY,
    &ZERO_PAGE,
    &WRITE_PROTECT,
    &CONTINUE,
    &WAKE,
    &READ,
    &CLOSE,
];

/// Its descriptor.
const FD: u64 = 80;
/// The number of the ioctl with so many 64-bit words that are read and written.
const fn command(number: u64, words: u64) -> u64 {
    3 << 30 | (words * 8) << 16 | 0xaa << 8 | number
}
/// Likewise, of what is only read.
const fn command_in(number: u64, words: u64) -> u64 {
    2 << 30 | (words * 8) << 16 | 0xaa << 8 | number
}

const OPEN_FLAGS: Names = &[("USER_MODE_ONLY", 1), ("NONBLOCK", 0o4000), ("CLOEXEC", 0o2_000_000)];
const NONBLOCK: u64 = 0o4000;

pub static OPEN: Verb = Verb {
    name: "userfaultfd",
    kinds: &[Kind::Flags(OPEN_FLAGS)],
    weight: 0,
    role: Role::Plain,
    make: |maker| {
        let flags = maker.random.weighted(&[(12, 1), (4, 0), (2, 0o2_000_001), (1, 2)]);
        args([NONBLOCK | flags])
    },
    run: |world, args| {
        let fd = syscall!(SYS_userfaultfd, args[0]);
        if sys::errno(fd).is_some() {
            return world.tell(fd);
        }
        world.shared.has_uffd.store(1, Relaxed);
        world.watched = world.me;
        syscall!(SYS_dup2, fd, FD);
        world.tell(syscall!(SYS_close, fd));
    },
};

pub static CLOSE: Verb = Verb {
    name: "uffd_close",
    kinds: &[],
    weight: 1,
    role: Role::Plain,
    make: |_| [0; 6],
    run: |world, _| world.tell(syscall!(SYS_close, FD)),
};

const SIGBUS: u64 = 1 << 7;
const FEATURES: Names = &[
    ("WP", 1),
    ("MISSING_HUGETLBFS", 1 << 4),
    ("MISSING_SHMEM", 1 << 5),
    ("SIGBUS", SIGBUS),
    ("THREAD_ID", 1 << 8),
    ("MINOR_HUGETLBFS", 1 << 9),
    ("MINOR_SHMEM", 1 << 10),
    ("EXACT_ADDRESS", 1 << 11),
    ("WP_SHMEM", 1 << 12),
];
/// Those whose events somebody would have to read.
const EVENTS: u64 = 0b100_1110;

pub static API: Verb = Verb {
    name: "uffd_api",
    kinds: &[Kind::Number, Kind::Flags(FEATURES)],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let random = &mut maker.random;
        let version = if random.one_in(12) { random.pick(&[0, 0xab]) } else { 0xaa };
        let features = match random.below(16) {
            0 => 1 << (16 + random.below(48)),
            1..8 => random.below(1 << 13) & !EVENTS,
            _ => 0,
        };
        args([version, SIGBUS | features])
    },
    run: |world, args| {
        let mut api = [args[0], args[1], 0];
        world.tell(syscall!(SYS_ioctl, FD, command(0x3f, 3), api.as_mut_ptr()));
        add(&mut world.out, format_args!(" features {:#x} ioctls {:#x}", api[1], api[2]));
    },
};

const REGISTER_MODES: Names = &[("MISSING", 1), ("WP", 2), ("MINOR", 4)];
/// A range of more pages is refused, or not within the windows.
const MOST: u64 = 64;
/// Advice that the C library has no name for.
const DONTNEED_LOCKED: u64 = 24;

pub static REGISTER: Verb = Verb {
    name: "uffd_register",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(REGISTER_MODES)],
    weight: 7,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = match maker.last_map {
            Some(range) if maker.random.one_in(2) => range,
            _ => maker.any_range(),
        };
        let windows = [ARENA..ARENA_END, HEAP_MARK..HEAP_MARK + HEAP_PAGES * PAGE];
        let is_inside = windows.iter().any(|window| window.contains(&addr));
        if is_inside && addr % PAGE == 0 && len % PAGE == 0 && (PAGE..64 * PAGE).contains(&len) {
            maker.focus = Some((addr, len));
        }
        let mode = maker.random.weighted(&[(8, 1), (8, 2), (6, 3), (3, 4), (1, 7), (1, 0), (1, 8)]);
        args([addr, len, mode])
    },
    run: |world, args| {
        if is_of_other(world) {
            return;
        }
        note(world, args);
        let fills_holes = world.shared.has_untouched.load(Relaxed) != 0;
        settle(args[0], args[1], fills_holes);
        let mut asked = [args[0], args[1], args[2], 0];
        world.tell(syscall!(SYS_ioctl, FD, command(0, 4), asked.as_mut_ptr()));
        add(&mut world.out, format_args!(" ioctls {:#x}", asked[3]));
    },
};

/// Sees to it that it is known which pages of a range are there, before they are watched: what is mapped faults no more.
///
/// It is left open whether pages stay that were only read, and whether those are mapped that were not touched themselves. So each
/// page is written, or given back. Whether what `fallocate` has reserved is a page already, or what was advised out still is one, is
/// left open, too: where `fills_holes` says so a file is made to have one.
fn settle(start: u64, len: u64, fills_holes: bool) {
    if len > MOST * PAGE {
        return;
    }
    let is_written = (len / PAGE) % 2 == 1;
    let pages = || (0..len).step_by(PAGE as usize).map(|offset| start.wrapping_add(offset) / PAGE * PAGE);
    let load = |page| if is_written || fills_holes { access::load1(page).ok() } else { None };
    let store = |page, value| is_written && access::store1(page, value).is_ok();
    let settled: Vec<bool> = pages().map(|page| load(page).is_some_and(|value| store(page, value))).collect();
    // What is given back could be mapped again with the next one.
    for (page, _) in pages().zip(settled).filter(|(_, is_settled)| !is_settled) {
        syscall!(SYS_madvise, page, PAGE, DONTNEED_LOCKED);
    }
}

pub static UNREGISTER: Verb = Verb {
    name: "uffd_unregister",
    kinds: &[Kind::Address, Kind::Number],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len])
    },
    run: |world, args| {
        if is_of_other(world) {
            return;
        }
        note(world, args);
        let mut asked = [args[0], args[1]];
        world.tell(syscall!(SYS_ioctl, FD, command_in(1, 2), asked.as_mut_ptr()));
    },
};

pub static WAKE: Verb = Verb {
    name: "uffd_wake",
    kinds: &[Kind::Address, Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        args([addr, len])
    },
    run: |world, args| {
        let mut asked = [args[0], args[1]];
        world.tell(syscall!(SYS_ioctl, FD, command_in(2, 2), asked.as_mut_ptr()));
    },
};

const COPY_MODES: Names = &[("DONTWAKE", 1), ("WP", 2)];

pub static COPY: Verb = Verb {
    name: "uffd_copy",
    kinds: &[Kind::Address, Kind::Address, Kind::Number, Kind::Flags(COPY_MODES)],
    weight: 6,
    role: Role::Plain,
    make: |maker| {
        let (target, len) = target(maker);
        let (source, _) = maker.buffer();
        let mode = maker.random.weighted(&[(6, 0), (2, 1), (3, 2), (1, 4)]);
        args([target, source, len, mode])
    },
    run: |world, args| {
        if !is_left_out(world, args[0], args[2]) {
            let mut asked = [args[0], args[1], args[2], args[3], 0];
            fill(world, command(3, 5), &mut asked);
        }
    },
};

const MODES: Names = &[("DONTWAKE", 1)];
const EXTENT: &[Kind] = &[Kind::Address, Kind::Number, Kind::Flags(MODES)];

pub static ZERO_PAGE: Verb = Verb {
    name: "uffd_zeropage",
    kinds: EXTENT,
    weight: 3,
    role: Role::Plain,
    make: extent,
    run: |world, args| {
        if !is_left_out(world, args[0], args[1]) {
            let count = (args[1] / PAGE).min(MOST) as usize;
            if pages_of_objects(world, args[0], count).contains(&true) {
                world.shared.has_zeros.store(1, Relaxed);
            }
            fill(world, command(4, 4), &mut [args[0], args[1], args[2], 0]);
        }
    },
};

pub static CONTINUE: Verb = Verb {
    name: "uffd_continue",
    kinds: EXTENT,
    weight: 2,
    role: Role::Plain,
    make: extent,
    run: |world, args| {
        if !is_of_other(world) && !is_left_out(world, args[0], args[1]) {
            fill(world, command(7, 4), &mut [args[0], args[1], args[2], 0]);
        }
    },
};

const PROTECT_MODES: Names = &[("WP", 1), ("DONTWAKE", 2)];

pub static WRITE_PROTECT: Verb = Verb {
    name: "uffd_writeprotect",
    kinds: &[Kind::Address, Kind::Number, Kind::Flags(PROTECT_MODES)],
    weight: 6,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = target(maker);
        let mode = maker.random.weighted(&[(8, 1), (4, 0), (2, 2), (1, 3), (1, 4)]);
        args([addr, len, mode])
    },
    run: |world, args| {
        if !is_left_out(world, args[0], args[1]) {
            let mut asked = [args[0], args[1], args[2]];
            world.tell(syscall!(SYS_ioctl, FD, command(6, 3), asked.as_mut_ptr()));
        }
    },
};

pub static READ: Verb = Verb {
    name: "uffd_read",
    kinds: &[Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| args([maker.random.pick(&[32, 64, 31, 0])]),
    run: |world, args| {
        let mut room = [0u8; 64];
        world.tell(syscall!(SYS_read, FD, room.as_mut_ptr(), args[0]));
    },
};

/// What is to be filled: few pages, seldom odd.
fn target(maker: &mut Maker) -> (u64, u64) {
    if maker.random.one_in(16) { maker.any_range() } else { maker.pages(4) }
}

fn extent(maker: &mut Maker) -> Args {
    let (addr, len) = target(maker);
    args([addr, len, maker.random.weighted(&[(6, 0), (2, 1), (1, 2)])])
}

/// Mappings may have been cut at both ends of a range, and put together again.
fn note(world: &mut World, args: &Args) {
    let windows = world.windows();
    world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
}

/// Leaves out what changes the other process's mappings, or depends on which of its pages are mapped: that is known to itself alone.
fn is_of_other(world: &mut World) -> bool {
    let is_of_other = world.me != world.watched;
    if is_of_other {
        world.out.push_str("left out: of the other process");
    }
    is_of_other
}

/// Leaves out what has to be within one mapping if nobody knows whether it is.
fn is_left_out(world: &mut World, start: u64, len: u64) -> bool {
    let windows = world.windows();
    let end = start.saturating_add(len).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let is_left_out = world.edges.has_inside(&windows, start..end) && view::is_one_mapping(world, start, end);
    if is_left_out {
        world.out.push_str("left out: perhaps two mappings");
    }
    is_left_out
}

/// Which of so many pages of the space that is watched show a file or shared memory.
fn pages_of_objects(world: &mut World, start: u64, count: usize) -> Vec<bool> {
    let path = CString::new(format!("/proc/{}/maps", world.pid(world.watched))).unwrap_or_default();
    view::pages_of_objects_in(world, &path, start, count)
}

/// Fills pages, and tells how many bytes that were, which is the last word of what is asked.
///
/// Of a file there may be pages that were mapped around a fault: those are given back first.
fn fill(world: &mut World, command: u64, asked: &mut [u64]) {
    let (start, len) = (asked[0], asked[asked.len() - 3]);
    if len <= MOST * PAGE {
        let of_objects = pages_of_objects(world, start, (len / PAGE) as usize);
        if of_objects.contains(&true) && is_of_other(world) {
            return;
        }
        for (page, _) in (0..).zip(of_objects).filter(|(_, is_of_object)| *is_of_object) {
            syscall!(SYS_madvise, start + page * PAGE, PAGE, DONTNEED_LOCKED);
        }
    }
    let answer = syscall!(SYS_ioctl, FD, command, asked.as_mut_ptr());
    world.tell(answer);
    world.out.push_str(", ");
    world.tell(asked[asked.len() - 1] as i64);
}
