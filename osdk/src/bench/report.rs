// SPDX-License-Identifier: MPL-2.0

//! The figures as the book has them: three tables, the JSON that they are made of, and a chart.

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Context, Result};

use super::{
    chart,
    figures::{Figure, Kernel, Measurements, Operation, Runs},
    write as write_file,
};
use crate::project;

/// What clearing or copying a page takes, in instructions: each byte of a string instruction counts as one.
const PAGE: u64 = 4096;

/// An operation's figures on both kernels.
pub struct Pair<'a> {
    pub operation: &'a Operation,
    linux: Option<&'a Figure>,
    tessera: Option<&'a Figure>,
}

impl<'a> Pair<'a> {
    fn new(operation: &'a Operation, runs: &'a Runs) -> Self {
        let of = |kernel| runs.get(&kernel).and_then(|figures| figures.get(&operation.name));
        Self { operation, linux: of(Kernel::Linux), tessera: of(Kernel::Tessera) }
    }

    fn medians(&self) -> Option<(u64, u64)> {
        Some((self.linux?.median()?, self.tessera?.median()?))
    }

    /// Tessera's figure by Linux's; none if there is nothing to divide by.
    pub fn ratio(&self) -> Option<f64> {
        let (linux, tessera) = self.medians()?;
        ratio(tessera, linux)
    }

    /// The same without what clearing and copying pages takes on both.
    pub fn ratio_less_clearing(&self) -> Option<f64> {
        let (linux, tessera) = self.medians()?;
        let clearing = self.operation.pages * PAGE;
        ratio(tessera.saturating_sub(clearing), linux.saturating_sub(clearing))
    }
}

fn ratio(tessera: u64, linux: u64) -> Option<f64> {
    match (tessera, linux) {
        (0, 0) => Some(1.0),
        (_, 0) => None,
        _ => Some(tessera as f64 / linux as f64),
    }
}

/// The pairs of a part, in the order of the operations.
pub fn pairs<'a>(measured: &'a Measurements, runs: &'a Runs) -> Vec<Pair<'a>> {
    let pairs = measured.operations.iter().map(|operation| Pair::new(operation, runs));
    pairs.filter(|pair| pair.linux.is_some() || pair.tessera.is_some()).collect()
}

/// What was measured the last time, if that can be read.
pub fn read() -> Option<Measurements> {
    let path = project::root().join("docs/src/measurements/measurements.json");
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Writes everything.
pub fn write(measured: &Measurements) -> Result<()> {
    let json = serde_json::to_string_pretty(measured).context("the figures cannot be written as JSON")?;
    write_file("measurements.json", &(json + "\n"))?;
    write_file("versions.md", &versions(&measured.versions))?;
    write_file("instructions.md", &instructions(measured))?;
    write_file("losses.md", &losses(&pairs(measured, &measured.instructions)))?;
    write_file("wall.md", &wall(measured))?;
    write_file("two.md", &two(measured))?;
    write_file("chart.svg", &chart::draw(&pairs(measured, &measured.instructions))?)
}

fn versions(versions: &BTreeMap<String, String>) -> String {
    versions.iter().map(|(name, version)| format!("- {name}: {version}\n")).collect()
}

fn count(figure: Option<&Figure>) -> String {
    match figure {
        Some(Figure::Ticks { median, .. }) => median.to_string(),
        Some(Figure::Rate { one, two }) => format!("{one}, {two}"),
        Some(Figure::Failed(_)) => "fails".to_owned(),
        None => "not measured".to_owned(),
    }
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// What went wrong, to be put below a table.
fn failures(pairs: &[Pair<'_>]) -> String {
    let mut text = String::new();
    for pair in pairs {
        for (kernel, figure) in [(Kernel::Linux, pair.linux), (Kernel::Tessera, pair.tessera)] {
            if let Some(Figure::Failed(why)) = figure {
                let _ = writeln!(text, "- `{}` fails on {}: {why}", pair.operation.name, kernel.name());
            }
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn instructions(measured: &Measurements) -> String {
    let pairs = pairs(measured, &measured.instructions);
    let mut text = "| operation | Linux | Tessera | ratio | less clearing | what it is |\n\
                    | --- | ---: | ---: | ---: | ---: | --- |\n"
        .to_owned();
    for pair in &pairs {
        let Operation { name, what, .. } = pair.operation;
        let (linux, tessera) = (count(pair.linux), count(pair.tessera));
        let (all, less) = (times(pair.ratio()), times(pair.ratio_less_clearing()));
        let _ = writeln!(text, "| `{name}` | {linux} | {tessera} | {all} | {less} | {what} |");
    }
    text + &failures(&pairs)
}

/// The operations that take more than on Linux, less clearing, the worst one first.
fn losses(pairs: &[Pair<'_>]) -> String {
    let ratios = pairs.iter().filter_map(|pair| Some((pair.ratio_less_clearing()?, pair)));
    let mut slower: Vec<(f64, &Pair<'_>)> = ratios.filter(|(ratio, _)| *ratio > 1.0).collect();
    slower.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut text = format!(
        "{} of {} operations take more instructions than on Linux, less clearing",
        slower.len(),
        pairs.len()
    );
    if slower.is_empty() {
        return text + ".\n";
    }
    text += ", the worst one first:\n\n| operation | ratio less clearing |\n| --- | ---: |\n";
    for (ratio, pair) in slower {
        let _ = writeln!(text, "| `{}` | {ratio:.2} |", pair.operation.name);
    }
    text
}

fn wall(measured: &Measurements) -> String {
    let pairs = pairs(measured, &measured.wall);
    let mut text = "| operation | Tessera's time by Linux's |\n| --- | ---: |\n".to_owned();
    for pair in &pairs {
        let ratio = match (pair.linux, pair.tessera) {
            (Some(Figure::Failed(_)), _) => "fails on Linux".to_owned(),
            (_, Some(Figure::Failed(_))) => "fails on Tessera".to_owned(),
            (None, _) | (_, None) => "not measured".to_owned(),
            _ => times(pair.ratio()),
        };
        let _ = writeln!(text, "| `{}` | {ratio} |", pair.operation.name);
    }
    text + &failures(&pairs)
}

fn two(measured: &Measurements) -> String {
    let mut text =
        "| operation | kernel | one thread, per second | two threads, per second | gain | what it is |\n\
                    | --- | --- | ---: | ---: | ---: | --- |\n"
            .to_owned();
    for Operation { name, what, .. } in &measured.loads {
        for (kernel, figures) in &measured.two {
            let row = match figures.get(name) {
                Some(Figure::Rate { one, two }) => format!("{one} | {two} | {}", times(ratio(*two, *one))),
                Some(Figure::Failed(why)) => format!("fails: {why} | - | -"),
                Some(Figure::Ticks { .. }) | None => "not measured | - | -".to_owned(),
            };
            let _ = writeln!(text, "| `{name}` | {} | {row} | {what} |", kernel.name());
        }
    }
    text
}

/// The table of instructions for a terminal.
pub fn instructions_as_text(measured: &Measurements) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>10} {:>7} {:>14}\n",
        "operation", "Linux", "Tessera", "ratio", "less clearing"
    );
    for pair in pairs(measured, &measured.instructions) {
        let (linux, tessera) = (count(pair.linux), count(pair.tessera));
        let (all, less) = (times(pair.ratio()), times(pair.ratio_less_clearing()));
        let _ = writeln!(text, "{:<28} {linux:>10} {tessera:>10} {all:>7} {less:>14}", pair.operation.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Figure, Kernel, Measurements, Operation, instructions, losses, pairs};

    #[test]
    fn table_takes_clearing_off_and_shows_what_fails() {
        let operation = |name: &str, pages| Operation { name: name.to_owned(), pages, what: "w".to_owned() };
        let ticks = |median| Figure::Ticks { median, min: 0, max: 0, samples: 1 };
        let mut measured = Measurements::new(vec![operation("a", 1), operation("b", 0)]);
        let linux = [("a".to_owned(), ticks(6096)), ("b".to_owned(), ticks(10))];
        let tessera = [("a".to_owned(), ticks(5096)), ("b".to_owned(), Figure::Failed("x".to_owned()))];
        measured.instructions = [(Kernel::Linux, linux.into()), (Kernel::Tessera, tessera.into())].into();
        let table = instructions(&measured);
        assert!(table.contains("| `a` | 6096 | 5096 | 0.84 | 0.50 | w |\n"), "{table}");
        assert!(table.contains("| `b` | 10 | fails | - | - | w |\n"), "{table}");
        assert!(table.ends_with("\n- `b` fails on Tessera: x\n"), "{table}");
    }
    #[test]
    fn losses_are_those_above_one_the_worst_first() {
        let names = ["a", "b", "c"];
        let operation = |name: &str| Operation { name: name.to_owned(), pages: 1, what: "w".to_owned() };
        let ticks = |median| Figure::Ticks { median, min: 0, max: 0, samples: 1 };
        let figures =
            |medians: [u64; 3]| names.map(str::to_owned).into_iter().zip(medians.map(ticks)).collect();
        let mut measured = Measurements::new(names.map(operation).into());
        measured.instructions =
            [(Kernel::Linux, figures([5096; 3])), (Kernel::Tessera, figures([5596, 5096, 7096]))].into();
        let text = losses(&pairs(&measured, &measured.instructions));
        assert!(text.starts_with("2 of 3 operations"), "{text}");
        assert!(text.ends_with("| `c` | 3.00 |\n| `a` | 1.50 |\n"), "{text}");
    }
}
