// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask bench`: what memory operations cost here and on Debian's Linux, and `cargo xtask bench-check`.
//!
//! ```text
//! test/bench ──► root ──► boot ──► Linux   ──► figures ─┐
//!                          └─────► Tessera ──► figures ─┴──► report: tables, JSON, chart
//!                                     └──────────────────── budget: no more than before
//! ```
//!
//! One binary is the first program of both kernels, on the same simulated machine. Three parts are measured:
//! instructions (QEMU counts them: the same every time), wall time, and the throughput of two processors. A part that
//! is not measured this time keeps its figures from the last time.

mod budget;
mod chart;
mod figures;
mod peer;
mod report;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

pub use self::{figures::Kernel, peer::image};
use self::{
    figures::{Measurements, Operation, Runs},
    peer::{Bench, Clock},
};
use crate::project;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Guest instructions of each operation.
    Instructions,
    /// Wall time of each operation, the kernels in turn.
    Wall,
    /// Throughput with one thread and with two, on two processors.
    Two,
}

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// Measure only these parts.
    #[arg(long, value_enum, value_name = "PART")]
    part: Vec<Part>,
    /// Print the figures of these operations, writing nothing; a name that ends in `*` stands for all that begin so.
    names: Vec<String>,
}

/// The options of the check.
#[derive(Args)]
pub struct CheckOptions {
    /// Write into the budget what has become less, and what is new.
    #[arg(long)]
    lower: bool,
    /// Check only these operations.
    names: Vec<String>,
}

/// How often the kernels take turns where the clock is the wall's.
const TURNS: usize = 3;

/// Measures, and writes the tables; fails if there is no figure for something, the tables being written all the same.
pub fn run(options: &Options) -> Result<ExitCode> {
    let wanted = |part| options.part.is_empty() || options.part.contains(&part);
    let program = build()?;
    let operations = list(&program, "--list")?;
    let bench = Bench::new(&program, &[Kernel::Linux, Kernel::Tessera])?;
    if !options.names.is_empty() {
        let mut measured = Measurements::new(operations);
        measured.instructions = instructions(&bench, &measured.operations, &options.names)?;
        print!("{}", report::instructions_as_text(&measured));
        return Ok(ExitCode::SUCCESS);
    }

    let mut measured = report::read().unwrap_or_default();
    measured.begin(operations, bench.versions()?);
    if wanted(Part::Instructions) {
        measured.instructions = instructions(&bench, &measured.operations, &[])?;
    }
    if wanted(Part::Wall) {
        measured.wall = turns(&bench, &measured.operations, Clock::Wall)?;
    }
    if wanted(Part::Two) {
        measured.loads = list(&program, "--list-two")?;
        measured.two = turns(&bench, &measured.loads, Clock::Two)?;
    }
    report::write(&measured)?;
    print!("{}", report::instructions_as_text(&measured));
    let failed = measured.failed();
    println!("bench: {} measured, {} failed", measured.measured(), failed.len());
    failed.iter().for_each(|line| println!("FAIL {line}"));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks the budget.
pub fn check(options: &CheckOptions) -> Result<ExitCode> {
    let program = build()?;
    let operations = list(&program, "--list")?;
    let bench = Bench::new(&program, &[Kernel::Tessera])?;
    let figures = bench.measure(Kernel::Tessera, Clock::Instructions, &operations, &options.names)?;
    budget::check(&operations, &figures, options.lower)
}

/// One boot of each kernel: the figures are the same every time.
fn instructions(bench: &Bench, operations: &[Operation], names: &[String]) -> Result<Runs> {
    let mut runs = Runs::new();
    for kernel in [Kernel::Linux, Kernel::Tessera] {
        runs.insert(kernel, bench.measure(kernel, Clock::Instructions, operations, names)?);
    }
    Ok(runs)
}

/// Boots of both kernels in turn, so that what else the host does hits both; medians of all of them.
fn turns(bench: &Bench, operations: &[Operation], clock: Clock) -> Result<Runs> {
    let mut all = vec![];
    for _ in 0..TURNS {
        for kernel in [Kernel::Linux, Kernel::Tessera] {
            all.push((kernel, bench.measure(kernel, clock, operations, &[])?));
        }
    }
    Ok(figures::medians(all))
}

/// Builds the program that measures.
///
/// # Errors
///
/// When it does not build.
pub fn build() -> Result<PathBuf> {
    let output = project::guest_cargo().args(["build", "--release", "--quiet", "-p", "bench"]).output();
    let output = output.context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("test/bench does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(project::root().join("test/target/x86_64-unknown-linux-musl/release/bench"))
}

/// Asks the program what it measures: it is one of Linux, and so is the host.
fn list(program: &PathBuf, option: &str) -> Result<Vec<Operation>> {
    let output = Command::new(program).arg(option).output().context("test/bench cannot be run here")?;
    let operations: Vec<_> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(Operation::parse).collect();
    if operations.is_empty() {
        bail!("test/bench lists no operation");
    }
    Ok(operations)
}

/// Makes the folder and the files of the book that the figures are in.
fn write(name: &str, contents: &str) -> Result<()> {
    let folder = project::root().join("docs/src/measurements");
    fs::create_dir_all(&folder).context("docs/src/measurements cannot be made")?;
    fs::write(folder.join(name), contents)
        .with_context(|| format!("docs/src/measurements/{name} cannot be written"))
}
