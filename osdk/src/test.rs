// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask test`: every proof there is, one after the other, and one summary.
//!
//! Each step is a command of its own whose output goes to `target/test/NAME.log`; what it proved is counted from
//! that log. A step that counts tests fails when it ran none. The last line is `N passed, N failed`.

mod steps;
mod tally;

use std::{
    fs::{self, File},
    io::{Write, stdout},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::{
    steps::{Step, all},
    tally::Tally,
};
use crate::{
    child::{self, Ended, Reach},
    guest::tail,
    project,
};

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// Run only the steps of these groups and names.
    #[arg(long, value_name = "GROUP|STEP")]
    only: Vec<String>,
    /// List the steps without running them.
    #[arg(long)]
    list: bool,
}

/// What a step came to.
struct Report {
    name: &'static str,
    tally: Tally,
    time: Duration,
}

/// Runs the steps and sums up.
pub fn run(options: &Options) -> Result<ExitCode> {
    let is_wanted = |step: &Step| {
        options.only.is_empty() || options.only.iter().any(|only| step.group == only || step.name == only)
    };
    let steps: Vec<Step> = all().into_iter().filter(is_wanted).collect();
    if steps.is_empty() {
        bail!("no step is called {}", options.only.join(" or "));
    }
    if options.list {
        for step in &steps {
            println!("{:<9} {:<18} {}", step.group, step.name, step.words.join(" "));
        }
        return Ok(ExitCode::SUCCESS);
    }

    fs::create_dir_all(project::target("test")).context("target/test cannot be made")?;
    child::catch_signals();
    let mut reports = Vec::new();
    for (number, step) in (1..).zip(&steps) {
        print!("[{number:>2}/{}] {:<18} ", steps.len(), step.name);
        stdout().flush().context("standard output is gone")?;
        let Some(report) = take(step)? else {
            println!("interrupted");
            break;
        };
        let Tally { passed, failed, skipped } = report.tally;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        println!("{passed:>6} passed, {failed} failed{skipped}  {:>7.1} s", report.time.as_secs_f32());
        if failed > 0 {
            println!("{}  (all of it: target/test/{}.log)\n", what_failed(&read_log(step.name)), step.name);
        }
        reports.push(report);
    }
    let interrupted = reports.len() < steps.len();
    let failed = sum_up(&reports);
    Ok(if interrupted || failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one step; `None` if the user wants no more of it.
fn take(step: &Step) -> Result<Option<Report>> {
    let log_path = project::target(&format!("test/{}.log", step.name));
    let log = File::create(&log_path).context("target/test cannot be written")?;
    let errors = log.try_clone().context("target/test cannot be written")?;
    let start = Instant::now();
    let mut command = step.command()?;
    let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
    let ended = match child {
        Ok(mut child) => child::wait(&mut child, Some(step.limit), Reach::Group)?,
        Err(error) => bail!("{} cannot be started: {error}", command.get_program().to_string_lossy()),
    };
    if let Ended::Interrupted(_) = ended {
        return Ok(None);
    }
    let mut tally = step.count.read(&read_log(step.name));
    if ended == Ended::TimedOut {
        let mut log = File::options().append(true).open(&log_path).context("the log cannot be written")?;
        writeln!(log, "the step did not end within {} s", step.limit.as_secs())
            .context("the log cannot be written")?;
    }
    // A step that broke counts as a failure even where none of its tests says so.
    if tally.failed == 0 && (!ended.is_success() || tally.passed == 0) {
        tally.failed = 1;
        if step.count == tally::Count::Step {
            tally.passed = 0;
        }
    }
    Ok(Some(Report { name: step.name, tally, time: start.elapsed() }))
}

/// The log of a step as plain text; a step without one has said nothing.
pub fn read_log(name: &str) -> String {
    let log = fs::read(project::target(&format!("test/{name}.log"))).unwrap_or_default();
    anstream::adapter::strip_str(&String::from_utf8_lossy(&log)).to_string()
}

/// The lines of a log that say what failed, or else its end.
fn what_failed(log: &str) -> String {
    const MOST: usize = 40;
    let is_failure = |line: &&str| {
        line.starts_with("FAIL ") || line.starts_with("test ") && line.trim_end().ends_with("FAILED")
    };
    let failures: Vec<&str> = log.lines().filter(is_failure).collect();
    match failures.len() {
        0 => tail(log, MOST),
        1..=MOST => tail(&failures.join("\n"), MOST),
        more => tail(&failures[..MOST].join("\n"), MOST) + &format!("  and {} more\n", more - MOST),
    }
}

/// Prints the table, and then the line that a machine reads; returns how many failed.
fn sum_up(reports: &[Report]) -> u32 {
    println!("\n{:<20} {:>8} {:>8} {:>8} {:>10}", "step", "passed", "failed", "skipped", "time");
    let mut total = Tally::default();
    let mut time = Duration::ZERO;
    let line = |name: &str, tally: &Tally, time: Duration| {
        let Tally { passed, failed, skipped } = tally;
        println!("{name:<20} {passed:>8} {failed:>8} {skipped:>8} {:>8.1} s", time.as_secs_f32());
    };
    for report in reports {
        line(report.name, &report.tally, report.time);
        total += report.tally;
        time += report.time;
    }
    line("total", &total, time);
    println!("\n{} passed, {} failed", total.passed, total.failed);
    total.failed
}

#[cfg(test)]
mod tests {
    use super::what_failed;

    #[test]
    fn failures_are_shown_where_a_log_names_them() {
        let log = "ok a\nFAIL b: why\ntest c ... FAILED\ntest d ... ok\nsum";
        assert_eq!(what_failed(log), "  FAIL b: why\n  test c ... FAILED\n");
        assert_eq!(what_failed("x\ny"), "  x\n  y\n");
        assert!(what_failed(&"FAIL x\n".repeat(50)).ends_with("  and 10 more\n"));
    }
}
