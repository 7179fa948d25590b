// SPDX-License-Identifier: MPL-2.0

//! The host tool: everything around the kernel that is not the kernel.
//!
//! `cargo xtask VERB`, one module for each verb. The `Makefile` is its usual caller: it brings the toolchain,
//! then turns `make`'s variables into the options below.
//!
//! ```text
//! run ──── initramfs ──── packages      what the guest finds in its root
//!   └───── kernel                       cargo-osdk builds it
//!   └───── guest ──────── child         QEMU, its console, its log, its exit status
//! test ─── steps ──────── tally         every proof there is, one after the other
//! miri                                  the framework's unit tests under miri, on all processors
//! programs                              real programs and what they must say
//! interact                              somebody at the terminal, played by a script
//! profile                               which functions an operation's instructions go to
//! bench ── peer ───────── report        the same operations on this kernel and on Linux, side by side
//! bench-check             budget        no operation takes more than it did
//! fuzz ── peer ───────── shrink         random memory calls on this kernel and on Linux, compared step by step
//! fuzz-framework                        operations of the framework beside the model of it, with cargo-fuzz
//! suite ── machines ───── report        other people's tests of memory, on this kernel and on Linux
//! check-rows                            docs/src/systems.md against the tests that ran
//! abi-table                             docs/src/linux-abi.md from the cases that ran
//! ```

#![forbid(unsafe_code)]

mod abi_table;
mod bench;
mod child;
mod fuzz;
mod fuzz_framework;
mod guest;
mod initramfs;
mod interact;
mod kernel;
mod linux;
mod miri;
mod profile;
mod programs;
mod project;
mod rows;
mod run;
mod suite;
mod terminal;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Packs, starts, reads and compares kernels.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
enum Verb {
    /// Boot the kernel: to a shell, or to run the command line in $TESSERA_CMD.
    Run(run::Options),
    /// Pack the root without starting anything, and say where it is.
    Initramfs(initramfs::Contents),
    /// Run every test there is, and sum up.
    Test(test::Options),
    /// Run the framework's unit tests under miri.
    Miri(miri::Options),
    /// Run programs that people use on the kernel, and check what they say.
    Programs(programs::Options),
    /// Play somebody at the terminal.
    Interact(interact::Options),
    /// Show which functions of each kernel an operation's instructions go to.
    Profile(profile::Options),
    /// Measure memory operations on this kernel and on Debian's Linux, and write the tables.
    Bench(bench::Options),
    /// Check that no memory operation takes more instructions than its budget.
    BenchCheck(bench::CheckOptions),
    /// Run random sequences of memory calls here and on Debian's Linux, and compare what comes of each.
    Fuzz(fuzz::Options),
    /// Look for new paths through the framework, beside the naive model of it.
    FuzzFramework(fuzz_framework::Options),
    /// Run other people's tests of memory on this kernel and on Debian's Linux, and compare.
    Suite(suite::Options),
    /// Check that every test named in docs/src/systems.md exists and passed.
    CheckRows(rows::Options),
    /// Write docs/src/linux-abi.md, or check that it is up to date and that every case it names passed.
    AbiTable(abi_table::Options),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Run(options) => run::run(&options),
        Verb::Initramfs(contents) => initramfs::run(&contents),
        Verb::Test(options) => test::run(&options),
        Verb::Miri(options) => miri::run(&options),
        Verb::Programs(options) => programs::run(&options),
        Verb::Interact(options) => interact::run(&options),
        Verb::Profile(options) => profile::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::BenchCheck(options) => bench::check(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::FuzzFramework(options) => fuzz_framework::run(&options),
        Verb::Suite(options) => suite::run(&options),
        Verb::CheckRows(options) => rows::run(&options),
        Verb::AbiTable(options) => abi_table::run(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tessera: error: {error:#}");
            ExitCode::from(guest::STATUS_BROKEN)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Verb;

    #[test]
    fn options_are_consistent() {
        Verb::command().debug_assert();
    }
}
