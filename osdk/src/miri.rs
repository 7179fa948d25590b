// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask miri`: the framework's unit tests under miri, which looks for undefined behaviour.
//!
//! Miri interprets a program on one processor, whatever it is and has. So the tests are dealt out to as many miris as there are
//! processors, and what each has said is shown when it is done.

use std::{
    fs::{self, File},
    io::{Write, stdout},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::project;

/// Some of the tests, under way.
struct Share {
    child: Child,
    log: PathBuf,
}

/// Runs the tests; fails if one of them fails.
pub fn run() -> Result<ExitCode> {
    let names = list()?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    println!("miri: {} tests on {count} processors", names.len());
    let shares = deal(&names, count);
    let shares =
        (1..).zip(&shares).map(|(number, names)| start(number, names)).collect::<Result<Vec<_>>>()?;
    let mut ended = ExitCode::SUCCESS;
    for Share { mut child, log } in shares {
        let status = child.wait().context("miri cannot be waited for")?;
        let said = fs::read(&log).with_context(|| log.display().to_string())?;
        stdout().write_all(&said).context("standard output is gone")?;
        if !status.success() {
            ended = ExitCode::FAILURE;
        }
    }
    Ok(ended)
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

fn start(number: u32, names: &[&str]) -> Result<Share> {
    let folder = project::target("miri");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let log = folder.join(format!("share-{number}.log"));
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    let errors = file.try_clone().with_context(|| log.display().to_string())?;
    let mut command = command();
    command.arg("--exact").args(names).stdin(Stdio::null()).stdout(file).stderr(errors);
    Ok(Share { child: command.spawn().context("cargo cannot be started")?, log })
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
