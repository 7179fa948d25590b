// SPDX-License-Identifier: MPL-2.0

//! The ABI suite: what a Linux program may rely on, as cases that must pass on Linux first.
//!
//! One static binary. Each case runs in a child process of its own with a time limit, so that a case that crashes,
//! hangs or leaves its address space in ruins harms no other.
//!
//! ```text
//! abi                    run everything
//! abi NAME...            run the cases with these names; a name that ends in `/` stands for all that begin with it
//! abi --list             print the names
//! abi --verbose          say `run NAME` before each case, so that a kernel that dies tells where
//! abi --limit SECONDS    the time limit of one case (default 10)
//! abi --skip NAME        leave these cases out (may be repeated)
//! abi --helper NAME ...  the role a case gives to the program that it executes
//! ```
//!
//! To add a group of cases: write a module with `pub const CASES: &[Case]` (macro [`cases!`]) and name it in [`GROUPS`].
//! A case that executes this binary again adds its role to [`HELPERS`].

#[macro_use]
mod check;
#[macro_use]
mod sys;

mod arena;
mod child;
mod device;
mod fault;
mod file;
mod futex;
mod harness;
mod mem;
mod poll;
mod process;
mod procfs;
mod program;
mod ptrace;
mod signal;
mod time;
mod tmp;
mod tty;
mod unix;

use harness::{Case, Helper, Options};

/// Every group of cases, in the order they run.
const GROUPS: &[&[&[Case]]] = &[
    mem::GROUPS,
    process::GROUPS,
    file::GROUPS,
    signal::GROUPS,
    ptrace::GROUPS,
    time::GROUPS,
    futex::GROUPS,
    poll::GROUPS,
    unix::GROUPS,
    tty::GROUPS,
    device::GROUPS,
    procfs::GROUPS,
];

/// Every role that a case gives to this binary when it executes it again.
const HELPERS: &[&[Helper]] = &[mem::HELPERS, process::HELPERS, signal::HELPERS, ptrace::HELPERS];

fn main() {
    let mut args = std::env::args().skip(1);
    let mut options = Options::default();
    let mut list = false;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--helper" => helper(&args.collect::<Vec<_>>()),
            "--list" => list = true,
            "--verbose" => options.verbose = true,
            "--limit" => match args.next().and_then(|value| value.parse().ok()) {
                Some(seconds) => options.limit = seconds,
                None => usage("--limit takes a number of seconds"),
            },
            "--skip" => match args.next() {
                Some(name) => options.skip.push(name),
                None => usage("--skip takes a name"),
            },
            name if !name.starts_with('-') => options.only.push(arg),
            _ => usage(&format!("{arg}: no such option")),
        }
    }
    let cases: Vec<&Case> =
        GROUPS.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.iter()).collect();
    if list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return;
    }
    match harness::run(&cases, &options) {
        Ok(0) => {}
        Ok(_) => std::process::exit(1),
        Err(message) => usage(&message),
    }
}

/// Plays the role named by the first argument, with the others as its arguments.
fn helper(args: &[String]) -> ! {
    let Some(name) = args.first() else { usage("--helper takes a name") };
    match HELPERS.iter().flat_map(|group| group.iter()).find(|helper| helper.name == name) {
        Some(helper) => std::process::exit((helper.run)(&args[1..])),
        None => usage(&format!("{name}: no such helper")),
    }
}

fn usage(message: &str) -> ! {
    eprintln!("abi: {message}");
    std::process::exit(2);
}
