// SPDX-License-Identifier: MPL-2.0

//! Runs a static program for riscv64 or aarch64 Linux on this machine.
//!
//! ```text
//!   program ──► elf      its segments, mapped
//!               stack    its arguments
//!                 │
//!                 ▼
//!     ┌──────► cpu      unicorn runs until the program asks for something
//!     │           │
//!     │           ▼
//!     └─────── syscalls serves it: memory by vmar-hosted, files and time by the host
//! ```
//!
//! It is the example of vmar-hosted: every page that the program has, from its text to its stack, is a mapping of the guest
//! space's, and unicorn is shown the host's memory behind them. One thread; signals are accepted and never delivered.

#![deny(unsafe_code)]

mod cpu;
mod elf;
#[allow(unsafe_code)]
mod host;
mod isa;
mod stack;
mod syscalls;

use std::{
    env,
    ffi::OsString,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, bail};
use vmar_hosted::{Change, GuestSpace, PageSize};

use crate::{
    cpu::{Cpu, Stop},
    elf::Program,
    syscalls::{Kernel, Outcome},
};

/// Where the guest's addresses end: what riscv64 gives a program with three levels of page tables.
const ADDRESSES: usize = 1 << 38;

const USAGE: &str =
    "usage: run-guest [--page-size 4|8|16|64] [--granule 4|8|16|64] [--name NAME] PROGRAM [ARGUMENT]...";

/// What is asked for on the command line.
struct Options {
    page_size: PageSize,
    granule: Option<PageSize>,
    /// What the program is told that it is called, if not by its path.
    name: Option<OsString>,
    path: OsString,
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("run-guest: {error:#}");
            // As a shell has it for what cannot be run.
            ExitCode::from(126)
        }
    }
}

fn run() -> Result<u8> {
    let options = parse(env::args_os().skip(1))?;
    let path = Path::new(&options.path);
    let program = Program::read(path)?;
    let name = options.name.clone().unwrap_or_else(|| options.path.clone());
    let words: Vec<OsString> = [name].into_iter().chain(options.arguments).collect();

    let changes = Arc::new(Mutex::new(Vec::new()));
    let sink = changes.clone();
    let mut builder = GuestSpace::builder(options.page_size)
        .range(0..ADDRESSES)
        .arch_prot(program.isa.arch_prot())
        .observer(move |change: &Change| sink.lock().expect("nobody panics with it").push(change.clone()));
    if let Some(granule) = options.granule {
        builder = builder.granule(granule);
    }
    let space = builder.build().context("no addresses can be reserved for the guest")?;
    let image = program.load(&space)?;
    let stack = stack::build(&space, &image, program.isa, &words)?;
    let mut cpu = Cpu::new(program.isa, changes)?;
    cpu.start(image.entry, stack)?;
    let mut kernel = Kernel::new(space, program.isa, path);
    loop {
        cpu.follow(kernel.space())?;
        match cpu.run()? {
            Stop::Syscall(number, arguments) => match kernel.serve(number, arguments) {
                Outcome::Return(value) => cpu.set_result(value)?,
                Outcome::Exit(status) => return Ok(status),
            },
            Stop::Fault(fault) => {
                eprintln!("run-guest: {}: {fault}", path.display());
                // As a shell has it for SIGSEGV.
                return Ok(128 + 11);
            }
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Options> {
    let (mut chosen, mut granule, mut name) = (PageSize::Kib4, None, None);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--page-size") => chosen = page_size(words.next())?,
            Some("--granule") => granule = Some(page_size(words.next())?),
            Some("--name") => name = Some(words.next().context(USAGE)?),
            Some(option) if option.starts_with('-') => bail!("{option} is not known\n{USAGE}"),
            _ => {
                let arguments = words.collect();
                return Ok(Options { page_size: chosen, granule, name, path: word, arguments });
            }
        }
    }
    bail!("{USAGE}")
}

fn page_size(word: Option<OsString>) -> Result<PageSize> {
    match word.as_deref().and_then(|word| word.to_str()) {
        Some("4") => Ok(PageSize::Kib4),
        Some("8") => Ok(PageSize::Kib8),
        Some("16") => Ok(PageSize::Kib16),
        Some("64") => Ok(PageSize::Kib64),
        _ => bail!("a page size is 4, 8, 16 or 64 (KiB)\n{USAGE}"),
    }
}
