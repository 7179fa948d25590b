// SPDX-License-Identifier: MPL-2.0

//! The stack that a program starts on.
//!
//! ```text
//! high   8 zero bytes
//!        the program's path; environment strings; argument strings     one behind the other, as procfs shows them
//!        (room, at random)
//!        "x86_64"; 16 random bytes
//!        auxiliary vector, environment pointers, argument pointers
//! low    number of arguments                                            ◄── rsp, a multiple of 16
//! ```

use linux_raw_sys::general::{
    AT_BASE, AT_CLKTCK, AT_EGID, AT_ENTRY, AT_EUID, AT_EXECFN, AT_FLAGS, AT_GID, AT_HWCAP, AT_HWCAP2,
    AT_MINSIGSTKSZ, AT_NULL, AT_PAGESZ, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PLATFORM, AT_RANDOM, AT_SECURE,
    AT_UID, RLIMIT_STACK,
};
use ostd::arch::cpu::cpuid::cpuid;
use vmar::{mapping::MappingFlags, placement::Placement};

use super::{elf::Loaded, image::Image};
use crate::{
    mm::{AddressSpace, layout::Randomize},
    prelude::*,
    process::{Credentials, rlimit::Rlimits},
    random, signal,
};

/// What is mapped below the strings from the start, as in Linux; the rest grows.
const HEADROOM: usize = 128 << 10;
/// Clock ticks a second, as `times(2)` counts them.
const CLOCK_TICKS: u64 = 100;
/// In `AT_HWCAP2`: programs may use RDFSBASE and its kin.
const HWCAP2_FSGSBASE: u64 = 1 << 1;

/// Maps a stack and puts on it what a program expects there. Answers the stack pointer.
///
/// # Errors
///
/// `E2BIG` if it does not fit into the stack's limit; `ENOMEM`.
pub fn build(
    vm: &AddressSpace,
    image: &Image,
    loaded: &Loaded,
    credentials: &Credentials,
    randomize: Randomize,
    limits: &Rlimits,
) -> Result<Vaddr> {
    let top = randomize.stack_top();
    let contents = Contents::lay_out(image, loaded, credentials, top, randomize)?;

    let limit = usize::try_from(limits.soft(RLIMIT_STACK)).unwrap_or(usize::MAX);
    let used = (top - contents.start).next_multiple_of(PAGE_SIZE);
    if used > limit.max(PAGE_SIZE) {
        return Err(E2BIG);
    }
    let size = (used + HEADROOM).min(limit / PAGE_SIZE * PAGE_SIZE).max(used);
    let map = vm.vmar().new_map(size).read().write();
    let map = if loaded.executable_stack { map.exec() } else { map };
    map.flags(MappingFlags::GROWS_DOWN | MappingFlags::STACK)
        .placement(Placement::Exactly(top - size))
        .build()?;
    if vm.vmar().write_bytes(contents.start, &contents.bytes)? < contents.bytes.len() {
        return Err(ENOMEM);
    }
    let mut layout = vm.layout();
    layout.stack_start = contents.start;
    layout.args = contents.args;
    layout.env = contents.env;
    layout.auxv = contents.auxv;
    vm.set_layout(layout);
    Ok(contents.start)
}

/// What is on the stack at the start: `bytes` go to `start`.
struct Contents {
    start: Vaddr,
    bytes: Vec<u8>,
    args: core::ops::Range<Vaddr>,
    env: core::ops::Range<Vaddr>,
    auxv: Vec<u64>,
}

impl Contents {
    fn lay_out(
        image: &Image,
        loaded: &Loaded,
        credentials: &Credentials,
        top: Vaddr,
        randomize: Randomize,
    ) -> Result<Self> {
        const PLATFORM: &[u8] = b"x86_64\0";
        let (argv, envp) = (&image.argv, &image.envp);
        let path_addr = top - 8 - (image.path.len() + 1);
        let env_addr = path_addr - envp.bytes().len();
        let arg_addr = env_addr - argv.bytes().len();
        let below = (arg_addr & !15) - randomize.stack_shift();
        let platform_addr = below - PLATFORM.len();
        let random_addr = (platform_addr & !15) - 16;

        let auxv = auxiliary_vector(loaded, credentials, path_addr, random_addr, platform_addr);
        let words = 1 + argv.len() + 1 + envp.len() + 1 + auxv.len();
        let start = (random_addr - words * 8) & !15;

        let mut bytes = try_with_capacity(top - start)?;
        bytes.extend_from_slice(&(argv.len() as u64).to_le_bytes());
        for (strings, addr) in [(argv, arg_addr), (envp, env_addr)] {
            let mut at = addr as u64;
            for string in strings.iter() {
                bytes.extend_from_slice(&at.to_le_bytes());
                at += string.len() as u64 + 1;
            }
            bytes.extend_from_slice(&0u64.to_le_bytes());
        }
        auxv.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        let mut seed = [0; 16];
        random::fill(&mut seed);
        for (addr, part) in [
            (random_addr, &seed[..]),
            (platform_addr, PLATFORM),
            (arg_addr, argv.bytes()),
            (env_addr, envp.bytes()),
            (path_addr, &image.path),
        ] {
            bytes.resize(addr - start, 0);
            bytes.extend_from_slice(part);
        }
        bytes.resize(top - start, 0);
        Ok(Self { start, bytes, args: arg_addr..env_addr, env: env_addr..path_addr, auxv })
    }
}

fn auxiliary_vector(
    loaded: &Loaded,
    credentials: &Credentials,
    path: Vaddr,
    random: Vaddr,
    platform: Vaddr,
) -> Vec<u64> {
    let hwcap = cpuid(1, 0).map_or(0, |leaf| leaf.edx);
    let is_secure = credentials.uid != credentials.euid || credentials.gid != credentials.egid;
    let entries = [
        (AT_MINSIGSTKSZ, signal::min_stack_size() as u64),
        (AT_HWCAP, u64::from(hwcap)),
        (AT_PAGESZ, PAGE_SIZE as u64),
        (AT_CLKTCK, CLOCK_TICKS),
        (AT_PHDR, loaded.program_headers as u64),
        (AT_PHENT, 56),
        (AT_PHNUM, loaded.program_header_count as u64),
        (AT_BASE, loaded.interpreter_base as u64),
        (AT_FLAGS, 0),
        (AT_ENTRY, loaded.entry as u64),
        (AT_UID, credentials.uid.into()),
        (AT_EUID, credentials.euid.into()),
        (AT_GID, credentials.gid.into()),
        (AT_EGID, credentials.egid.into()),
        (AT_SECURE, is_secure.into()),
        (AT_RANDOM, random as u64),
        (AT_HWCAP2, HWCAP2_FSGSBASE),
        (AT_EXECFN, path as u64),
        (AT_PLATFORM, platform as u64),
        (AT_NULL, 0),
    ];
    entries.iter().flat_map(|(kind, value)| [u64::from(*kind), *value]).collect()
}
