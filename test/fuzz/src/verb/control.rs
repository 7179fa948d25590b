// SPDX-License-Identifier: MPL-2.0

//! The frame of a sequence: how it begins, forks, and what the kernel says of it.

use super::{Role, Verb};
use crate::{
    maker::args,
    sequence,
    symbols::{Kind, Names, PAGE},
    view,
};

const SETUP_FLAGS: Names = &[("HEAP", 1), ("NOBODY", 2)];
const HEAP: u64 = 1;
const NOBODY: u64 = 2;

/// Opens the window of the heap, or gives up every privilege, with a limit on locked memory.
pub static SETUP: Verb = Verb {
    name: "setup",
    kinds: &[Kind::Flags(SETUP_FLAGS)],
    weight: 0,
    role: Role::Plain,
    make: |maker| {
        let flags = maker.random.pick(&[0, HEAP, HEAP, HEAP | NOBODY]);
        maker.has_heap = flags & HEAP != 0;
        args([flags])
    },
    run: |world, args| {
        /// No user in particular.
        const ID: u32 = 65534;
        /// Bytes that may be locked.
        const LOCKED: u64 = 16 * PAGE;
        if args[0] & HEAP != 0 {
            world.tell(sequence::open_heap(world));
        }
        if args[0] & NOBODY != 0 {
            syscall!(SYS_setrlimit, libc::RLIMIT_MEMLOCK, [LOCKED, LOCKED].as_ptr());
            syscall!(SYS_setresgid, ID, ID, ID);
            syscall!(SYS_setresuid, ID, ID, ID);
            world.tell(syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0));
        }
    },
};

pub static FORK: Verb = Verb {
    name: "fork",
    kinds: &[],
    weight: 3,
    role: Role::Fork,
    make: |_| [0; 6],
    run: |world, _| world.out.push_str("there are two already"),
};

pub static EXIT: Verb = Verb {
    name: "exit",
    kinds: &[],
    weight: 2,
    role: Role::Exit,
    make: |_| [0; 6],
    run: |world, _| world.out.push_str("there is only one"),
};

pub static FIGURES: Verb = Verb {
    name: "figures",
    kinds: &[],
    weight: 2,
    role: Role::Plain,
    make: |_| [0; 6],
    run: |world, _| view::tell_figures(world),
};

pub static SMAPS: Verb = Verb {
    name: "smaps",
    kinds: &[],
    weight: 2,
    role: Role::Plain,
    make: |_| [0; 6],
    run: |world, _| view::tell_smaps(world),
};

/// Every step tells what is mapped: so does this one.
pub static NOTHING: Verb =
    Verb { name: "maps", kinds: &[], weight: 1, role: Role::Plain, make: |_| [0; 6], run: |_, _| {} };
