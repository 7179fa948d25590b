// SPDX-License-Identifier: MPL-2.0

//! Files, while they are mapped.

use std::sync::atomic::Ordering::Relaxed;

use super::{Role, Verb};
use crate::{
    maker::args,
    step::Args,
    symbols::{FILES as NAMES, Kind, Names, PAGE},
    sys, view,
    world::World,
};

/// Offsets and sizes stay below.
const SIZE: u64 = 10 * PAGE;

pub static PREAD: Verb = Verb {
    name: "pread",
    kinds: &[Kind::One(NAMES), Kind::Address, Kind::Number, Kind::Number],
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.buffer();
        let file = maker.plain_file();
        args([file, addr, len.min(3 * PAGE), maker.random.below(SIZE)])
    },
    run: |world, args| world.tell(syscall!(SYS_pread64, args[0], args[1], args[2], args[3])),
};

pub static PWRITE: Verb = Verb {
    name: "pwrite",
    kinds: &[Kind::One(NAMES), Kind::Address, Kind::Number, Kind::Number],
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.buffer();
        let file = maker.plain_file();
        args([file, addr, len.min(3 * PAGE), maker.random.below(SIZE)])
    },
    run: |world, args| {
        let sizes = sizes();
        if is_of_itself(world, args) {
            world.out.push_str("left out: perhaps from what it adds");
            return;
        }
        world.tell(syscall!(SYS_pwrite64, args[0], args[1], args[2], args[3]));
        zero_tails(sizes, args[3]);
    },
};

pub static FTRUNCATE: Verb = Verb {
    name: "ftruncate",
    kinds: &[Kind::One(NAMES), Kind::Number],
    weight: 4,
    role: Role::Plain,
    make: |maker| {
        let file = maker.plain_file();
        let size = match maker.random.below(32) {
            0 => u64::MAX,
            1..16 => maker.random.below(SIZE),
            _ => maker.random.below(10) * PAGE,
        };
        args([file, size])
    },
    run: |world, args| {
        let sizes = sizes();
        world.tell(syscall!(SYS_ftruncate, args[0], args[1]));
        zero_tails(sizes, u64::MAX);
    },
};

const MODES: Names = &[
    ("KEEP_SIZE", 1),
    ("PUNCH_HOLE", 2),
    ("COLLAPSE", 8),
    ("ZERO", 0x10),
    ("INSERT", 0x20),
    ("UNSHARE", 0x40),
];

pub static FALLOCATE: Verb = Verb {
    name: "fallocate",
    kinds: &[Kind::One(NAMES), Kind::Flags(MODES), Kind::Number, Kind::Number],
    weight: 3,
    role: Role::Plain,
    make: |maker| {
        let file = maker.plain_file();
        let random = &mut maker.random;
        let mode = random.weighted(&[(10, 3), (3, 0), (3, 1), (1, 2), (1, 0x10), (1, 8)]);
        let is_odd = random.one_in(2);
        let mut number = |pages| if is_odd { random.below(pages * PAGE) } else { random.below(pages) * PAGE };
        let (offset, len) = (number(8), number(4));
        args([file, mode, offset, if maker.random.one_in(40) { u64::MAX } else { len }])
    },
    run: |world, args| {
        let sizes = sizes();
        let answer = syscall!(SYS_fallocate, args[0], args[1], args[2], args[3]);
        world.tell(answer);
        if answer == 0 {
            world.shared.has_untouched.store(1, Relaxed);
        }
        zero_tails(sizes, u64::MAX);
    },
};

const SEALS: Names = &[("SEAL", 1), ("SHRINK", 2), ("GROW", 4), ("WRITE", 8), ("FUTURE_WRITE", 16)];

pub static ADD_SEALS: Verb = Verb {
    name: "add_seals",
    kinds: &[Kind::One(NAMES), Kind::Flags(SEALS)],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let file = if maker.random.one_in(8) { maker.file() } else { NAMES[5].1 };
        args([file, maker.random.weighted(&[(1, 1), (4, 2), (4, 4), (6, 8), (4, 16), (1, 6), (1, 64)])])
    },
    run: |world, args| {
        world.tell(syscall!(SYS_fcntl, args[0], libc::F_ADD_SEALS, args[1]));
        let seals = syscall!(SYS_fcntl, args[0], libc::F_GET_SEALS);
        if sys::errno(seals).is_none() {
            world.out.push_str(" seals ");
            world.tell(seals);
        }
    },
};

/// Tells what all files have.
pub static FILES: Verb = Verb {
    name: "files",
    kinds: &[],
    weight: 1,
    role: Role::Plain,
    make: |_| [0; 6],
    run: |world, _| view::tell_files(world),
};

/// The descriptors by which the files with pages can be written.
const WRITABLE: [u64; 4] = [64, 65, 69, 70];

/// How large the files are.
fn sizes() -> [u64; 4] {
    WRITABLE.map(|fd| syscall!(SYS_lseek, fd, 0, libc::SEEK_END) as u64)
}

/// Zeroes what lay beyond the end in the last page of a file that has grown, up to `limit` and beyond the new end.
///
/// Mappings can write there, and whether that is seen once it belongs to the file is left open (`mmap(2)`).
fn zero_tails(before: [u64; 4], limit: u64) {
    static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
    for ((fd, old), new) in WRITABLE.into_iter().zip(before).zip(sizes()) {
        let end = old.next_multiple_of(PAGE).min(new).min(limit);
        if end > old {
            syscall!(SYS_pwrite64, fd, ZEROS.as_ptr(), end - old, old);
        }
        if new > old && new < old.next_multiple_of(PAGE) {
            // What is beyond the end of a file goes when it is cut there.
            syscall!(SYS_ftruncate, fd, new);
        }
    }
}

/// Whether a write to a file has it for its source, too, and makes it larger: how soon what is added is there is left open.
fn is_of_itself(world: &mut World, args: &Args) -> bool {
    let names = ["a", "b", "a", "a", "b", "memfd:m (deleted)", "memfd:s (deleted)", "memfd:m (deleted)"];
    let name = args[0].checked_sub(NAMES[0].1).and_then(|slot| names.get(slot as usize).copied());
    let size = syscall!(SYS_lseek, args[0], 0, libc::SEEK_END) as u64;
    let grows = args[0] == NAMES[4].1 || args[3].saturating_add(args[2]) > size;
    grows && name.is_some_and(|name| view::shows(world, args[1], args[2], name))
}
