// SPDX-License-Identifier: MPL-2.0

//! `madvise`, but for the advice that may do harm to the machine (`MADV_HWPOISON`, `MADV_SOFT_OFFLINE`) and `MADV_COLLAPSE`,
//! whose answer depends on how a kernel makes huge pages.

use std::sync::atomic::Ordering::Relaxed;

use super::{Role, Verb};
use crate::{
    access,
    maker::args,
    symbols::{Kind, Names, PAGE, WHO},
    sys, view,
    world::World,
};

const ADVICE: Names = &[
    ("NORMAL", 0),
    ("RANDOM", 1),
    ("SEQUENTIAL", 2),
    ("WILLNEED", 3),
    ("DONTNEED", 4),
    ("REMOVE", 9),
    ("DONTFORK", 10),
    ("DOFORK", 11),
    ("MERGEABLE", 12),
    ("UNMERGEABLE", 13),
    ("HUGEPAGE", 14),
    ("NOHUGEPAGE", 15),
    ("DONTDUMP", 16),
    ("DODUMP", 17),
    ("WIPEONFORK", 18),
    ("KEEPONFORK", 19),
    ("COLD", 20),
    ("PAGEOUT", 21),
    ("POPULATE_READ", 22),
    ("POPULATE_WRITE", 23),
    ("DONTNEED_LOCKED", 24),
];

const FREE_ADVICE: i32 = 8;

pub static MADVISE: Verb = Verb {
    name: "madvise",
    kinds: &[Kind::Address, Kind::Number, Kind::One(ADVICE)],
    weight: 12,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.any_range();
        let advice = match maker.random.below(60) {
            0 => maker.random.pick(&[5, 6, 7, 26, 99, 1000, u64::MAX]),
            1..16 => 4,
            16..22 => maker.random.pick(&[10, 18]),
            22..28 => maker.random.pick(&[22, 23]),
            28..31 => 9,
            _ => {
                let (_, advice) = maker.random.pick(ADVICE);
                advice
            }
        };
        args([addr, len, advice])
    },
    run: |world, args| {
        let windows = world.windows();
        world.edges.note(&windows, args[0]..args[0].saturating_add(args[1]));
        // What 6.1 does where there is a hole depends on what is mapped behind it; others say ENOMEM.
        if POPULATING.contains(&args[2]) && !view::is_mapped(world, args[0], args[1]) {
            world.out.push_str("left out: not all of it is mapped");
        } else if may_be_missed(world, args[2]) {
            world.out.push_str("left out: what goes could be missed");
        } else {
            note_pageout(world, args[2]);
            world.tell(syscall!(SYS_madvise, args[0], args[1], args[2]));
        }
    },
};

/// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`.
const POPULATING: [u64; 2] = [22, 23];

/// `MADV_PAGEOUT`.
const PAGEOUT: u64 = 21;

/// Whether advice takes pages out of reach when it likes, and there is a userfaultfd that is told of the fault.
fn may_be_missed(world: &World, advice: u64) -> bool {
    advice == PAGEOUT && world.shared.has_uffd.load(Relaxed) != 0
}

/// Notes advice that may take away pages which were only read: Linux does where they are mapped once.
fn note_pageout(world: &World, advice: u64) {
    if advice == PAGEOUT {
        world.shared.has_untouched.store(1, Relaxed);
    }
}

/// `MADV_FREE` leaves open what is read afterwards, until everything is written anew: which is done at once.
pub static FREE: Verb = Verb {
    name: "free_and_fill",
    kinds: &[Kind::Address, Kind::Number, Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| {
        let (addr, len) = maker.pages(4);
        args([addr, len, maker.random.next()])
    },
    run: |world, args| {
        if world.shared.has_uffd.load(Relaxed) != 0 {
            world.out.push_str("left out: what goes could be missed");
            return;
        }
        let [addr, len, value, ..] = *args;
        let answer = syscall!(SYS_madvise, addr, len, FREE_ADVICE);
        world.tell(answer);
        // It may have been taken for some of the pages even if it was refused.
        for page in (addr..addr.saturating_add(len)).step_by(PAGE as usize) {
            if access::fill(page, PAGE / 8, value).is_err() {
                // What cannot be written now could be read later: it is given back for good.
                syscall!(SYS_madvise, page, PAGE, libc::MADV_DONTNEED);
            }
        }
    },
};

/// `process_madvise`, for a range that is named twice.
pub static OF_OTHERS: Verb = Verb {
    name: "process_madvise",
    kinds: &[Kind::One(WHO), Kind::Address, Kind::Number, Kind::One(ADVICE), Kind::Number],
    weight: 2,
    role: Role::Plain,
    make: |maker| {
        let who = maker.who();
        let (addr, len) = maker.any_range();
        let advice = maker.random.weighted(&[(5, 20), (5, 21), (4, 3), (1, 4), (1, 0), (1, 9), (1, 99)]);
        args([who, addr, len, advice, u64::from(maker.random.one_in(20))])
    },
    run: |world, args| {
        let [who, addr, len, advice, flags, _] = *args;
        let Some(fd) = open(world, who) else { return };
        let parts = [[addr, len]; 2];
        if may_be_missed(world, advice) {
            world.out.push_str("left out: what goes could be missed");
        } else {
            note_pageout(world, advice);
            world.tell(syscall!(SYS_process_madvise, fd, parts.as_ptr(), parts.len(), advice, flags));
        }
        syscall!(SYS_close, fd);
    },
};

/// `process_mrelease`, of a process that is not about to end.
pub static REAP: Verb = Verb {
    name: "process_mrelease",
    kinds: &[Kind::One(WHO), Kind::Number],
    weight: 1,
    role: Role::Plain,
    make: |maker| args([maker.who(), u64::from(maker.random.one_in(4))]),
    run: |world, args| {
        let Some(fd) = open(world, args[0]) else { return };
        world.tell(syscall!(SYS_process_mrelease, fd, args[1]));
        syscall!(SYS_close, fd);
    },
};

/// Opens a process; tells why not.
fn open(world: &mut World, who: u64) -> Option<i64> {
    let fd = syscall!(SYS_pidfd_open, world.pid(who as usize), 0);
    if sys::errno(fd).is_some() {
        world.tell(fd);
        return None;
    }
    Some(fd)
}
