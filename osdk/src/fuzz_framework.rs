// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask fuzz-framework`: looks for sequences of operations that lead somewhere new in the framework, with cargo-fuzz.
//!
//! The targets are those of `fuzz/`. What each has found to be worth trying again stays in `target/fuzz/corpus`, so that the next
//! run goes on there. A script that fails is reduced to the fewest steps and told in words.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::project;

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// For so many seconds.
    #[arg(long = "for", default_value_t = 300, value_name = "SECONDS")]
    seconds: u64,
}

/// A target, how much of the time it gets (in eighths), and how large its inputs become (bytes).
struct Target {
    name: &'static str,
    eighths: u64,
    largest: usize,
}

const TARGETS: [Target; 2] = [
    Target { name: "operations", eighths: 7, largest: 2401 },
    Target { name: "intervals", eighths: 1, largest: 1024 },
];

/// What a run comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    executions: u64,
    steps: Option<u64>,
    /// Edges of the program that were taken.
    coverage: u64,
    /// What failed.
    found: Option<String>,
}

/// Runs the targets one after the other; fails if one of them finds something.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut ended = ExitCode::SUCCESS;
    for target in &TARGETS {
        let seconds = (options.seconds * target.eighths / 8).max(1);
        eprintln!("fuzz-framework: {} for {seconds} seconds", target.name);
        let figures = run_target(target, seconds)?;
        if let Some(found) = &figures.found {
            tell(target, Path::new(found))?;
            ended = ExitCode::FAILURE;
        }
        let steps = figures.steps.map(|steps| format!(" of {steps} steps")).unwrap_or_default();
        let outcome = if figures.found.is_some() { "one differs" } else { "none differs" };
        println!(
            "{}: {} executions{steps}, {} edges covered, {outcome}",
            target.name, figures.executions, figures.coverage
        );
    }
    Ok(ended)
}

fn run_target(target: &Target, seconds: u64) -> Result<Figures> {
    let corpus = project::target("fuzz").join("corpus").join(target.name);
    let found = project::target("fuzz").join("found");
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let kept = project::root().join("vmar/model/kept");
    // Memory errors are not what is looked for: the framework has no unsafe code.
    let mut command = project::cargo();
    command.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]).arg(project::target("fuzz"));
    command.arg(target.name).arg(&corpus);
    if target.name == "operations" {
        command.arg(kept);
    }
    command.arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={}", target.largest),
        format!("-artifact_prefix={}/", found.display()),
        "-print_final_stats=1".to_owned(),
        "-timeout=20".to_owned(),
    ]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().context("cargo fuzz")?;
    let mut figures = Figures::default();
    let lines = BufReader::new(child.stderr.take().context("cargo fuzz says nothing")?).lines();
    for line in lines {
        let line = line.context("cargo fuzz cannot be read")?;
        if figures.note(&line) {
            eprintln!("{line}");
        }
    }
    let status = child.wait().context("cargo fuzz cannot be waited for")?;
    if !status.success() && figures.found.is_none() {
        bail!("cargo fuzz has failed ({status}): is it there? `osdk/setup.sh fuzz` brings it");
    }
    Ok(figures)
}

impl Figures {
    /// Takes from a line of libFuzzer's what it says; returns whether it is worth showing.
    fn note(&mut self, line: &str) -> bool {
        let number = |text: &str| text.trim().parse().ok();
        if let Some(steps) = line.strip_prefix("steps: ") {
            self.steps = number(steps).or(self.steps);
            return false;
        }
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number(count).unwrap_or(self.executions);
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.found = Some(path.trim().to_owned());
        }
        let mut words = line.split_whitespace();
        if line.starts_with('#') && words.any(|word| word == "cov:") {
            self.coverage = words.next().and_then(number).unwrap_or(self.coverage);
            // The many inputs that lead somewhere new are not told one by one.
            return line.contains("INITED") || line.contains("pulse") || line.contains("DONE");
        }
        !line.starts_with("stat::")
    }
}

/// Tells in words what failed, and how to see it again.
fn tell(target: &Target, found: &Path) -> Result<()> {
    println!("found: {}", found.display());
    if target.name != "operations" {
        println!("again: cargo fuzz run --sanitizer none {} {}", target.name, found.display());
        return Ok(());
    }
    let short = found.with_extension("short");
    let mut command: Command = project::cargo();
    command.args(["run", "--quiet", "-p", "vmar-model", "--example", "tell", "--"]).arg(found).arg(&short);
    command.env("RUST_BACKTRACE", "0");
    let status = command.status().context("the script cannot be told")?;
    if !status.success() {
        bail!("the script cannot be told ({status})");
    }
    println!("again: cargo run -p vmar-model --example tell -- {}", short.display());
    println!("once it is mended, keep it: mv {} vmar/model/kept/WHAT_IT_SHOWS", short.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_taken_from_what_libfuzzer_says() {
        let mut figures = Figures::default();
        assert!(!figures.note("#17\tNEW    cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 40Mb"));
        assert!(figures.note("#2048\tpulse  cov: 12 ft: 30 corp: 9/1Kb exec/s: 5 rss: 40Mb"));
        assert!(!figures.note("steps: 10000"));
        assert!(!figures.note("stat::number_of_executed_units: 2100"));
        assert!(figures.note("artifact_prefix='found/'; Test unit written to found/crash-1"));
        let expected = Figures {
            executions: 2100,
            steps: Some(10_000),
            coverage: 12,
            found: Some("found/crash-1".to_owned()),
        };
        assert_eq!(figures, expected);
    }
}
