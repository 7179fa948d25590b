// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask check-rows`: does every test that `docs/src/systems.md` names exist, and did it pass?
//!
//! The page has tables of `| id | behaviour | test | state |`. A row is `open` (no test), `part` (its tests prove
//! some of it) or `proved`. Tests are named in backticks:
//!
//! ```text
//! vmar::map::tests::name        a test of the host: the crate or the file in tests/, then the harness's own name
//! doc vmar::rights::Name        the example in the documentation of an item
//! ktest vmar_ostd::frame::name  a test inside the kernel
//! abi name                      a case of the ABI suite on Tessera
//! program name                  a real program that did its work, a case of `cargo xtask programs`
//! flat name                     a row of the firmware for a board without an MMU
//! ```
//!
//! What passed is read from the logs of the last `cargo xtask test`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{project, test::read_log};

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// List the names that rows can refer to.
    #[arg(long)]
    names: bool,
}

/// The rows there must be: each system's letter and its last number.
const SYSTEMS: &[(char, u32)] = &[('V', 23), ('B', 6), ('R', 15), ('H', 14), ('N', 14), ('Q', 18)];

/// A row of the page.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    id: String,
    tests: Vec<String>,
    state: String,
}

/// Checks the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let page = fs::read_to_string(project::root().join("docs/src/systems.md"));
    let rows = parse(&page.context("docs/src/systems.md cannot be read")?);
    let passed = passed();
    if options.names {
        passed.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }

    let faults = faults(&rows, &passed);
    faults.iter().for_each(|fault| println!("systems.md: {fault}"));
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *states.entry(row.state.as_str()).or_default() += 1);
    let states: Vec<String> = states.iter().map(|(state, number)| format!("{number} {state}")).collect();
    println!("{} rows: {}; {} faults", rows.len(), states.join(", "), faults.len());
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows of every table whose lines start with an id.
fn parse(page: &str) -> Vec<Row> {
    let is_id = |id: &str| {
        let mut characters = id.chars();
        characters.next().is_some_and(|c| c.is_ascii_uppercase())
            && characters.as_str().parse::<u32>().is_ok()
    };
    page.lines()
        .filter_map(|line| {
            let cells: Vec<&str> =
                line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
            let &[id, _, tests, state] = cells.as_slice() else { return None };
            // Every second piece between backticks is inside them.
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            is_id(id).then(|| Row { id: id.to_owned(), tests, state: state.to_owned() })
        })
        .collect()
}

/// What is wrong with the rows, one line each.
fn faults(rows: &[Row], passed: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    for &(system, last) in SYSTEMS {
        for id in (1..=last).map(|number| format!("{system}{number}")) {
            match ids.iter().filter(|known| **known == id).count() {
                0 => faults.push(format!("{id} is missing")),
                1 => {}
                _ => faults.push(format!("{id} is there more than once")),
            }
        }
    }
    for Row { id, tests, state } in rows {
        match state.as_str() {
            "open" if !tests.is_empty() => faults.push(format!("{id} is open but names tests")),
            "part" | "proved" if tests.is_empty() => {
                faults.push(format!("{id} is {state} but names no test"))
            }
            "open" | "part" | "proved" => {}
            _ => faults.push(format!("{id}: `{state}` is no state (open, part or proved)")),
        }
        for test in tests.iter().filter(|test| !passed.contains(*test)) {
            faults.push(format!("{id}: `{test}` did not pass in the last run, or does not exist"));
        }
    }
    faults
}

/// The names of all tests that passed in the last run, as rows refer to them.
fn passed() -> BTreeSet<String> {
    let mut names = host_tests(&read_log("host"));
    names.extend(host_tests(&read_log("schedules")));
    for step in ["ktest-ostd", "ktest-kernel"] {
        names.extend(libtest_names(&read_log(step)).map(|name| format!("ktest {name}")));
    }
    for (step, kind) in [("abi", "abi"), ("flat", "flat"), ("programs", "program")] {
        let log = read_log(step);
        let passed = log.lines().filter_map(|line| line.strip_prefix("ok ")?.split_whitespace().next());
        names.extend(passed.map(|name| format!("{kind} {name}")));
    }
    names
}

/// The names in a log of `cargo test`, each with the program it is in.
fn host_tests(log: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut program = String::new();
    for line in log.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Running ") {
            // "unittests src/lib.rs (target/debug/deps/vmar-0123456789abcdef)"
            let file = rest.rsplit('/').next().unwrap_or_default();
            program = file.rsplit_once('-').map_or("", |(name, _)| name).to_owned();
        } else if line.starts_with("Doc-tests ") {
            program = "doc".to_owned();
        } else if let Some(name) = libtest_name(line) {
            if program != "doc" {
                names.insert(format!("{program}::{name}"));
            } else if let Some((_, item)) = name.split_once(" - ") {
                // "vmar/src/rights.rs - rights::Name (line 7) - compile fail"
                let item = item.split(" (line").next().unwrap_or_default();
                let package = name.split('/').next().unwrap_or_default();
                names.insert(format!("doc {package}::{item}"));
            }
        }
    }
    names
}

fn libtest_names(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(|line| libtest_name(line.trim()))
}

/// The name in a line of the form `test NAME ... ok`.
fn libtest_name(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.trim_end_matches(" - should panic");
    (result == "ok").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{Row, SYSTEMS, faults, host_tests, parse};

    fn row(id: &str, tests: &[&str], state: &str) -> Row {
        Row {
            id: id.to_owned(),
            tests: tests.iter().map(|&t| t.to_owned()).collect(),
            state: state.to_owned(),
        }
    }

    fn all_open() -> Vec<Row> {
        let ids = SYSTEMS.iter().flat_map(|&(system, last)| (1..=last).map(move |n| format!("{system}{n}")));
        ids.map(|id| row(&id, &[], "open")).collect()
    }

    #[test]
    fn rows_are_read_and_other_lines_are_not() {
        let page = "| id | behaviour | test | state |\n| --- | --- | --- | --- |\n\
                    | V1 | rights | `vmar::a`, `doc vmar::B` | proved |\ntext\n| V2 | shrink | | open |\n";
        assert_eq!(parse(page), [row("V1", &["vmar::a", "doc vmar::B"], "proved"), row("V2", &[], "open")]);
    }

    #[test]
    fn open_rows_are_no_fault_and_missing_ones_are() {
        let mut rows = all_open();
        assert!(faults(&rows, &Default::default()).is_empty());
        rows.remove(0);
        assert_eq!(faults(&rows, &Default::default()), ["V1 is missing"]);
    }

    #[test]
    fn a_named_test_must_have_passed() {
        let mut rows = all_open();
        rows[0] = row("V1", &["vmar::a"], "proved");
        assert_eq!(faults(&rows, &["vmar::a".to_owned()].into()), Vec::<String>::new());
        assert_eq!(faults(&rows, &["vmar::b".to_owned()].into()).len(), 1);
        rows[0] = row("V1", &[], "proved");
        assert_eq!(faults(&rows, &Default::default()).len(), 1);
    }

    #[test]
    fn names_carry_their_program() {
        let log = "     Running unittests src/lib.rs (target/debug/deps/aster_rights-0a1b)\n\
                   test tests::shrink ... ok\ntest tests::grow ... FAILED\n\
                   test tests::overflow - should panic ... ok\n     Running tests/model.rs (target/debug/deps/model-77)\n\
                   test steps ... ok\n   Doc-tests vmar\n\
                   test vmar/src/rights.rs - rights::Vmar (line 3) - compile fail ... ok\n";
        let expected = [
            "aster_rights::tests::overflow",
            "aster_rights::tests::shrink",
            "doc vmar::rights::Vmar",
            "model::steps",
        ];
        assert_eq!(host_tests(log).into_iter().collect::<Vec<_>>(), expected);
    }
}
