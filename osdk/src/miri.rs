// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask miri`: the framework's unit tests under miri, which looks for undefined behaviour.
//!
//! Miri interprets a program on one processor, whatever it is and has. So as many miris run as there are processors, and each time one
//! ends, the next share of the tests is begun; what it said is shown then, with the time of each test: what takes long is to do less
//! under Miri, which takes a thousand times as long for each step.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rayon::prelude::*;

use crate::project;

/// One test of so many is a quick run: some of each module.
const QUICK: usize = 6;
/// Shares of the tests for each processor: enough for the last ones to end about together, few enough for miri's start not to count.
const SHARES_PER_PROCESSOR: usize = 4;

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// Run only one test of six, some of each module.
    #[arg(long)]
    quick: bool,
}

/// Runs the tests; fails if one of them fails.
pub fn run(options: &Options) -> Result<ExitCode> {
    let names: Vec<String> = list()?.into_iter().step_by(if options.quick { QUICK } else { 1 }).collect();
    let processors = rayon::current_num_threads();
    let shares = deal(&names, processors * SHARES_PER_PROCESSOR);
    println!("miri: {} tests in {} shares on {processors} processors", names.len(), shares.len());
    let passed = shares.iter().par_bridge().map(|names| run_share(names)).collect::<Result<Vec<bool>>>()?;
    Ok(if passed.iter().all(|passed| *passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs some of the tests, shows what miri says, and answers whether they have passed.
fn run_share(names: &[&str]) -> Result<bool> {
    let options = ["-Zunstable-options", "--report-time", "--exact"];
    let output = command().args(options).args(names).output().context("cargo cannot be started")?;
    let has_passed = output.status.success();
    if !has_passed {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(has_passed)
}

/// The names of the tests.
fn list() -> Result<Vec<String>> {
    let output = command()
        .args(["--list", "--format", "terse"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the tests cannot be listed:\n{listed}");
    let names: Vec<String> =
        listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    ensure!(!names.is_empty(), "there are no tests");
    Ok(names)
}

/// Every `count`th name for each: tests of one module, which take alike, go to different ones.
fn deal(names: &[String], count: usize) -> Vec<Vec<&str>> {
    let share = |first| names.iter().skip(first).step_by(count).map(String::as_str).collect();
    (0..count.min(names.len())).map(share).collect()
}

/// Miri with the tests, whose own arguments follow.
fn command() -> Command {
    let mut command = project::cargo();
    command
        .args([
            "miri",
            "test",
            "-p",
            "vmar",
            "--features",
            "sim",
            "--lib",
            "--target-dir",
            "target/miri",
            "--",
        ])
        .stdin(Stdio::null())
        // Isolated, they would have no clock. Backtraces of the panics that tests expect take long.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("RUST_BACKTRACE", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::deal;

    #[test]
    fn every_test_is_dealt_once() {
        let names: Vec<String> = (0..7).map(|number| format!("test{number}")).collect();
        assert_eq!(
            deal(&names, 2),
            [vec!["test0", "test2", "test4", "test6"], vec!["test1", "test3", "test5"]]
        );
        assert_eq!(deal(&names[..1], 4), [vec!["test0"]]);
    }
}
