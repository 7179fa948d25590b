// SPDX-License-Identifier: MPL-2.0

//! The stack that a program starts with: arguments, environment, and the auxiliary vector.

use std::{env, ffi::OsString, os::unix::ffi::OsStrExt};

use anyhow::{Context, Result};
use rustix::{
    process::{getegid, geteuid, getgid, getuid},
    rand::{GetRandomFlags, getrandom},
};
use vmar_hosted::{GuestSpace, MapOptions, VmPerms, host::Host};

use crate::{elf::Image, isa::Isa};

/// The size of the stack (bytes).
const SIZE: usize = 8 << 20;

/// Entries of the auxiliary vector, by the numbers of `<elf.h>`.
mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const EXECFN: u64 = 31;
}

/// Makes the stack, and returns where its pointer is to be.
pub fn build<H: Host>(space: &GuestSpace<H>, image: &Image, isa: Isa, words: &[OsString]) -> Result<usize> {
    let rw = VmPerms::READ | VmPerms::WRITE;
    let bottom = space.map(&MapOptions::new(SIZE).prot(rw)).context("there is no room for a stack")?;
    let top = bottom + SIZE;

    // Strings at the top, the lowest last.
    let mut strings = Vec::new();
    let mut next = top;
    let mut push = |bytes: &[u8]| {
        next -= bytes.len() + 1;
        strings.push((next, bytes.to_owned()));
        next
    };
    let arguments: Vec<usize> = words.iter().map(|word| push(word.as_bytes())).collect();
    let variables: Vec<usize> = env::vars_os()
        .map(|(name, value)| push(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect();
    let mut random = [0; 16];
    getrandom(&mut random, GetRandomFlags::empty()).context("there is nothing random")?;
    let random = push(&random);
    for (at, bytes) in &strings {
        space.write(*at, bytes).context("the stack cannot be filled")?;
    }

    let auxiliary: [(u64, u64); 15] = [
        (at::PHDR, image.headers.0 as u64),
        (at::PHENT, 56),
        (at::PHNUM, image.headers.1 as u64),
        (at::PAGESZ, space.page_size() as u64),
        (at::ENTRY, image.entry as u64),
        (at::UID, getuid().as_raw().into()),
        (at::EUID, geteuid().as_raw().into()),
        (at::GID, getgid().as_raw().into()),
        (at::EGID, getegid().as_raw().into()),
        (at::HWCAP, isa.capabilities()),
        (at::CLKTCK, 100),
        (at::SECURE, 0),
        (at::RANDOM, random as u64),
        (at::EXECFN, arguments[0] as u64),
        (at::NULL, 0),
    ];
    let mut table: Vec<u64> = vec![arguments.len() as u64];
    table.extend(arguments.iter().map(|at| *at as u64).chain([0]));
    table.extend(variables.iter().map(|at| *at as u64).chain([0]));
    table.extend(auxiliary.iter().flat_map(|(kind, value)| [*kind, *value]));
    let bytes: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    let pointer = (next - bytes.len()) & !15;
    let written = space.write(pointer, &bytes).context("the stack cannot be filled")?;
    anyhow::ensure!(written == bytes.len() && pointer > bottom, "the arguments are too many for the stack");
    Ok(pointer)
}
