// SPDX-License-Identifier: MPL-2.0

//! What a step can do. To add a verb, write it and name it in [`VERBS`].

mod advise;
mod barrier;
mod brk;
mod control;
mod files;
mod limit;
mod lock;
mod memory;
pub mod mmap;
mod mprotect;
mod mremap;
mod munmap;
mod other;
mod pkey;
mod policy;
mod residence;
pub mod sysv;
pub mod uffd;

use crate::{maker::Maker, step::Args, symbols::Kind, world::World};

/// What a verb does to the processes of a sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Plain,
    /// It forks process 1.
    Fork,
    /// It ends process 1.
    Exit,
}

/// A kind of step.
pub struct Verb {
    pub name: &'static str,
    /// What the arguments are.
    pub kinds: &'static [Kind],
    /// How often it comes, compared to the others.
    pub weight: u32,
    pub role: Role,
    /// Makes arguments.
    pub make: fn(&mut Maker) -> Args,
    /// Does it, and tells what came of it. Addresses are as they are in the process.
    pub run: fn(&mut World, &Args),
}

/// Those of all sequences. Some sequences have those of [`sysv`], or of [`uffd`], too.
pub static VERBS: &[&Verb] = &[
    &mmap::MMAP,
    &munmap::MUNMAP,
    &mprotect::MPROTECT,
    &mremap::MREMAP,
    &brk::BRK,
    &advise::MADVISE,
    &advise::FREE,
    &advise::OF_OTHERS,
    &advise::REAP,
    &residence::MSYNC,
    &residence::MINCORE,
    &lock::MLOCK,
    &lock::MLOCK2,
    &lock::MUNLOCK,
    &lock::MLOCKALL,
    &lock::MUNLOCKALL,
    &memory::LOAD1,
    &memory::LOAD8,
    &memory::STORE1,
    &memory::STORE8,
    &memory::ADD8,
    &memory::FETCH,
    &memory::FILL,
    &memory::LOOK,
    &memory::LOOK_ALL,
    &files::PREAD,
    &files::PWRITE,
    &files::FTRUNCATE,
    &files::FALLOCATE,
    &files::ADD_SEALS,
    &files::FILES,
    &other::VM_READV,
    &other::VM_WRITEV,
    &other::MEM_READ,
    &other::MEM_WRITE,
    &residence::REMAP_FILE_PAGES,
    &pkey::PKEY_MPROTECT,
    &pkey::PKEY_ALLOC,
    &pkey::PKEY_FREE,
    &policy::MBIND,
    &policy::SET,
    &policy::GET,
    &policy::HOME,
    &limit::PRLIMIT,
    &barrier::MEMBARRIER,
    &control::SETUP,
    &control::FORK,
    &control::EXIT,
    &control::FIGURES,
    &control::SMAPS,
    &control::NOTHING,
];

/// The verb of that name.
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().chain(sysv::VERBS).chain(uffd::VERBS).find(|verb| verb.name == name).copied()
}
