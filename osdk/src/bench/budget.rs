// SPDX-License-Identifier: MPL-2.0

//! The budget: how many instructions each operation may take, in a file of the repository.
//!
//! A figure is the same in every run of the same code, so the margin is only for what a compiler does differently
//! around a change that has nothing to do with it. Nothing but a person raises a budget.

use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::figures::{Figure, Figures, Operation};
use crate::project;

/// By how much a figure may pass its budget, and by how much it must fall before it is told, in percent.
const MARGIN: u64 = 5;

const HEAD: &str = "# How many instructions each operation of `bench` may take on Tessera, under -icount shift=0.\n\
                    #\n\
                    # `make bench-check` fails where one takes 5 % more. `make bench-budget` lowers what has become\n\
                    # less and adds what is new; nothing but a person raises a figure, with a reason.\n";

#[derive(Deserialize)]
struct Budget {
    instructions: BTreeMap<String, u64>,
}

/// How a figure stands to its budget.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// It takes so much less that the budget can be lowered.
    Fell,
    Over,
}

fn judge(figure: u64, budget: u64) -> Verdict {
    if figure * 100 > budget * (100 + MARGIN) {
        Verdict::Over
    } else if figure * 100 < budget * (100 - MARGIN) {
        Verdict::Fell
    } else {
        Verdict::Kept
    }
}

/// Compares figures with the budget, one line each, and sums up; with `lower`, writes what has become less.
pub fn check(operations: &[Operation], figures: &Figures, lower: bool) -> Result<ExitCode> {
    let path = project::root().join("test/bench/budget.toml");
    let mut budget = read(&path)?;
    let (mut passed, mut failed) = (0, 0);
    for Operation { name, .. } in operations.iter().filter(|operation| figures.contains_key(&operation.name))
    {
        let verdict = match (&figures[name], budget.get(name).copied()) {
            (Figure::Ticks { median, .. }, Some(most)) => match judge(*median, most) {
                Verdict::Over => Err(format!(
                    "{median} instructions, {} over its budget of {most}",
                    percent(*median, most)
                )),
                Verdict::Fell => Ok(format!(
                    "{median} instructions, {} under its budget of {most}: lower it with `make bench-budget`",
                    percent(*median, most)
                )),
                Verdict::Kept => Ok(format!("{median} instructions of {most}")),
            },
            (Figure::Ticks { median, .. }, None) if lower => Ok(format!("{median} instructions, new")),
            (Figure::Ticks { median, .. }, None) => {
                Err(format!("{median} instructions, and no budget: `make bench-budget` adds it"))
            }
            (Figure::Failed(why), _) => Err(why.clone()),
            (Figure::Rate { .. }, _) => Err("is no number of instructions".to_owned()),
        };
        match verdict {
            Ok(line) => {
                passed += 1;
                println!("ok {name}: {line}");
            }
            Err(line) => {
                failed += 1;
                println!("FAIL {name}: {line}");
            }
        }
        if let Some(median) = figures[name].median() {
            let most = budget.entry(name.clone()).or_insert(median);
            *most = median.min(*most);
        }
    }
    if lower {
        budget.retain(|name, _| operations.iter().any(|operation| operation.name == *name));
        fs::write(&path, text(operations, &budget)).context("the budget cannot be written")?;
    }
    println!("bench-check: {passed} passed, {failed} failed, 0 skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &PathBuf) -> Result<BTreeMap<String, u64>> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(path).context("the budget cannot be read")?;
    let budget: Budget = toml::from_str(&text).context("the budget is not what it should be")?;
    Ok(budget.instructions)
}

/// The file, in the order of the operations.
fn text(operations: &[Operation], budget: &BTreeMap<String, u64>) -> String {
    let mut text = format!("{HEAD}\n[instructions]\n");
    for Operation { name, .. } in operations {
        if let Some(most) = budget.get(name) {
            let _ = writeln!(text, "{name} = {most}");
        }
    }
    text
}

/// By how much a figure differs, in percent with one digit.
fn percent(figure: u64, budget: u64) -> String {
    format!("{:.1} %", figure.abs_diff(budget) as f64 * 100.0 / budget.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::{Budget, Operation, Verdict, judge, text};

    #[test]
    fn margin_is_five_percent() {
        assert_eq!(judge(1050, 1000), Verdict::Kept);
        assert_eq!(judge(1051, 1000), Verdict::Over);
        assert_eq!(judge(950, 1000), Verdict::Kept);
        assert_eq!(judge(949, 1000), Verdict::Fell);
        assert_eq!(judge(0, 0), Verdict::Kept);
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let operation = |name: &str| Operation { name: name.to_owned(), pages: 0, what: String::new() };
        let budget = [("b".to_owned(), 2), ("a".to_owned(), 1)].into();
        let text = text(&[operation("b"), operation("a"), operation("c")], &budget);
        assert!(text.ends_with("[instructions]\nb = 2\na = 1\n"));
        assert_eq!(toml::from_str::<Budget>(&text).unwrap().instructions, budget);
    }
}
