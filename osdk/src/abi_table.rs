// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask abi-table`: the table of the memory ABI, `docs/src/linux-abi.md`.
//!
//! ```text
//! test/abi/coverage.toml ────────┐  what proves which flag, or why nothing does
//! the suite's own list of cases ─┼──► the page, and everything that is wrong with it
//! the logs of the last run ──────┘  on this machine's Linux, on Debian's in QEMU, on Tessera
//! ```
//!
//! A case proves something if it passed on Tessera and on one of the two Linuxes, and failed on neither. With `--check` nothing
//! is written: it is a step of `make test`.

mod page;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use toml::Value;

use crate::{project, test::read_log};

/// Where what is proved is written down.
const COVERAGE: &str = "test/abi/coverage.toml";
/// Where the page goes.
const PAGE: &str = "docs/src/linux-abi.md";
/// The suite, as it was built for the guest.
const SUITE: &str = "test/target/x86_64-unknown-linux-musl/release/abi";
/// Every case of this area is named in the table.
const AREA: &str = "mem/";

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// Change nothing; fail if the page is not up to date, or names what did not pass.
    #[arg(long)]
    check: bool,
}

/// Writes or checks the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let source = fs::read_to_string(project::root().join(COVERAGE));
    let calls = parse(&source.with_context(|| format!("{COVERAGE} cannot be read"))?)?;
    let cases = list()?;
    let kernels = Kernel::ALL.map(|kernel| (kernel, outcomes(&read_log(kernel.step()))));
    let known: Runs = kernels.into();

    let mut faults = faults(&calls, &cases, &known);
    let page = page::render(&calls, &cases, &known);
    let path = project::root().join(PAGE);
    if !options.check {
        fs::write(&path, page).with_context(|| format!("{PAGE} cannot be written"))?;
    } else if fs::read_to_string(&path).unwrap_or_default() != page {
        faults.push(format!("{PAGE} is not up to date: run `cargo xtask abi-table`"));
    }
    faults.iter().for_each(|fault| println!("abi-table: {fault}"));
    let entries: usize = calls.iter().map(|call| call.entries.len()).sum();
    let absent = calls.iter().flat_map(|call| &call.entries).filter(|entry| entry.is_absent()).count();
    println!("{} calls, {entries} entries, {absent} absent; {} faults", calls.len(), faults.len());
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A call, or a file of the kernel's.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    name: String,
    entries: Vec<Entry>,
}

/// A flag, a piece of advice, a command, a field or an error.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    what: String,
    proof: Proof,
}

impl Entry {
    fn is_absent(&self) -> bool {
        matches!(self.proof, Proof::Absent(..))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    /// Names of cases, a `*` in them standing for anything.
    Cases(Vec<String>),
    /// Why there is none, and the cases that skip themselves where it is absent.
    Absent(String, Vec<String>),
}

/// A kernel that the suite runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kernel {
    Host,
    Linux,
    Tessera,
}

impl Kernel {
    const ALL: [Self; 3] = [Self::Host, Self::Linux, Self::Tessera];

    /// The step of `make test` whose log tells.
    const fn step(self) -> &'static str {
        match self {
            Self::Host => "abi-host",
            Self::Linux => "abi-linux",
            Self::Tessera => "abi",
        }
    }
}

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// What each kernel said of each case.
type Runs = BTreeMap<Kernel, BTreeMap<String, Outcome>>;

/// Takes the table apart, in its order.
fn parse(source: &str) -> Result<Vec<Call>> {
    let table: toml::Table = source.parse().with_context(|| format!("{COVERAGE} is no TOML"))?;
    table.into_iter().map(|(name, entries)| parse_call(name, entries)).collect()
}

fn parse_call(name: String, entries: Value) -> Result<Call> {
    let Value::Table(entries) = entries else { bail!("{COVERAGE}: {name} is no table") };
    let entries = entries.into_iter().map(|(what, value)| {
        let proof = match value {
            Value::Array(cases) => strings(&cases).filter(|names| !names.is_empty()).map(Proof::Cases),
            Value::Table(entry) => {
                let reason = entry.get("absent").and_then(Value::as_str).filter(|reason| !reason.is_empty());
                let cases = entry.get("cases").and_then(Value::as_array);
                let cases = cases.map_or(Some(Vec::new()), |cases| strings(cases));
                reason.zip(cases).map(|(reason, cases)| Proof::Absent(reason.to_owned(), cases))
            }
            _ => None,
        };
        let proof =
            proof.with_context(|| format!("{COVERAGE}: {name}, {what}: neither cases nor a reason"))?;
        Ok(Entry { what, proof })
    });
    let entries = entries.collect::<Result<_>>()?;
    Ok(Call { name, entries })
}

fn strings(values: &[Value]) -> Option<Vec<String>> {
    values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

/// The names of all cases there are, in the order they run.
fn list() -> Result<Vec<String>> {
    let output = Command::new(project::root().join(SUITE)).arg("--list").output();
    let output =
        output.with_context(|| format!("{SUITE} cannot be run: build it with the step abi-build"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// What a log of the suite says of each case.
fn outcomes(log: &str) -> BTreeMap<String, Outcome> {
    let line = |line: &str| {
        let (word, rest) = line.trim_end().split_once(' ')?;
        let outcome = match word {
            "ok" => Outcome::Passed,
            "FAIL" => Outcome::Failed,
            "skip" => Outcome::Skipped,
            _ => return None,
        };
        Some((rest.split(':').next()?.to_owned(), outcome))
    };
    log.lines().filter_map(line).collect()
}

/// The cases that a name stands for.
fn named<'a>(name: &str, cases: &'a [String]) -> impl Iterator<Item = &'a String> {
    let parts: Vec<String> = name.split('*').map(str::to_owned).collect();
    cases.iter().filter(move |case| matches(&parts, case))
}

/// Whether `text` is these parts with anything between them.
fn matches(parts: &[String], text: &str) -> bool {
    match parts {
        [] => text.is_empty(),
        [all] => text == all,
        [first, middle @ .., last] => {
            let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
            for part in middle {
                let Some(at) = rest.find(part.as_str()) else { return false };
                rest = &rest[at + part.len()..];
            }
            rest.ends_with(last.as_str())
        }
    }
}

/// What is wrong with the table, one line each.
fn faults(calls: &[Call], cases: &[String], runs: &Runs) -> Vec<String> {
    let mut faults = Vec::new();
    for kernel in Kernel::ALL {
        if runs.get(&kernel).is_none_or(BTreeMap::is_empty) {
            faults.push(format!("the step {} has not run", kernel.step()));
        }
    }
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    for Call { name, entries } in calls {
        for Entry { what, proof } in entries {
            let (names, is_proved) = match proof {
                Proof::Cases(names) => (names, true),
                Proof::Absent(_, names) => (names, false),
            };
            for pattern in names {
                let mut found = named(pattern, cases).peekable();
                if found.peek().is_none() {
                    faults.push(format!("{name}, {what}: there is no case {pattern}"));
                }
                for case in found.filter(|case| seen.insert(case)) {
                    if let Some(why) = why_not(case, runs).filter(|_| is_proved) {
                        faults.push(format!("{name}, {what}: {case} {why}"));
                    }
                }
            }
        }
    }
    let forgotten = cases.iter().filter(|case| case.starts_with(AREA) && !seen.contains(case));
    faults.extend(forgotten.map(|case| format!("{case} is named nowhere in {COVERAGE}")));
    faults
}

/// Why a case proves nothing; `None` if it does.
fn why_not(case: &str, runs: &Runs) -> Option<String> {
    let outcome = |kernel| runs.get(&kernel).and_then(|outcomes| outcomes.get(case)).copied();
    if let Some(kernel) = Kernel::ALL.into_iter().find(|kernel| outcome(*kernel) == Some(Outcome::Failed)) {
        return Some(format!("failed in the step {}", kernel.step()));
    }
    if outcome(Kernel::Tessera) != Some(Outcome::Passed) {
        return Some("did not pass on Tessera".to_owned());
    }
    let on_linux = [Kernel::Host, Kernel::Linux].map(outcome);
    (!on_linux.contains(&Some(Outcome::Passed))).then(|| "passed on no Linux".to_owned())
}

#[cfg(test)]
mod tests;
