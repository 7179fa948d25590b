// SPDX-License-Identifier: MPL-2.0

//! What was measured: as it is said by the program, kept in JSON, and compared.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Something that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name, which never changes its meaning.
    pub name: String,
    /// How many pages it clears or copies.
    pub pages: u64,
    /// A sentence about it.
    pub what: String,
}

impl Operation {
    /// Reads a line of `bench --list`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (name, pages, what) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name: name.to_owned(), pages: pages.parse().ok()?, what: what.to_owned() })
    }
}

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    Linux,
    Tessera,
}

impl Kernel {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Tessera => "Tessera",
        }
    }
}

/// What came of measuring one operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Figure {
    /// Ticks of one operation: instructions, or a unit of wall time that is the same for both kernels.
    Ticks { median: u64, min: u64, max: u64, samples: u64 },
    /// Operations per second with one thread, and with two together.
    Rate { one: u64, two: u64 },
    /// Why there is no figure.
    Failed(String),
}

impl Figure {
    /// Reads a line `ok`, `two` or `fail` of the program; returns the operation's name as well.
    pub fn parse(line: &str) -> Option<(&str, Self)> {
        let (word, rest) = line.split_once(' ')?;
        let (name, rest) = rest.split_once(' ')?;
        let numbers: Option<Vec<u64>> = rest.split(' ').map(|number| number.parse().ok()).collect();
        let figure = match (word, numbers.as_deref()) {
            ("ok", Some(&[median, min, max, samples])) => Self::Ticks { median, min, max, samples },
            ("two", Some(&[one, two])) => Self::Rate { one, two },
            ("fail", _) => Self::Failed(rest.to_owned()),
            _ => return None,
        };
        Some((name, figure))
    }

    /// The median, if this is one.
    pub fn median(&self) -> Option<u64> {
        match self {
            Self::Ticks { median, .. } => Some(*median),
            Self::Rate { .. } | Self::Failed(_) => None,
        }
    }
}

/// The figures of one kernel, by operation.
pub type Figures = BTreeMap<String, Figure>;

/// The figures of each kernel.
pub type Runs = BTreeMap<Kernel, Figures>;

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measurements {
    /// What each kernel and QEMU call themselves.
    pub versions: BTreeMap<String, String>,
    /// What the operations are, in the order of the tables.
    pub operations: Vec<Operation>,
    /// Guest instructions.
    pub instructions: Runs,
    /// Wall time: only the ratios of these mean anything.
    pub wall: Runs,
    /// What is done on two processors, in the order of the table.
    #[serde(default)]
    pub loads: Vec<Operation>,
    /// Throughput on two processors.
    pub two: Runs,
}

impl Measurements {
    pub fn new(operations: Vec<Operation>) -> Self {
        Self { operations, ..Self::default() }
    }

    /// Says what is about to be measured, keeping what was.
    pub fn begin(&mut self, operations: Vec<Operation>, versions: BTreeMap<String, String>) {
        self.operations = operations;
        self.versions = versions;
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, &str, &Figure)> {
        let parts = [("instructions", &self.instructions), ("wall time", &self.wall), ("two", &self.two)];
        parts.into_iter().flat_map(|(part, runs)| {
            runs.iter().flat_map(move |(kernel, figures)| {
                figures.iter().map(move |(name, figure)| (part, kernel.name(), name.as_str(), figure))
            })
        })
    }

    /// How many figures there are.
    pub fn measured(&self) -> usize {
        self.all().filter(|(.., figure)| !matches!(figure, Figure::Failed(_))).count()
    }

    /// A line for each figure that there is not.
    pub fn failed(&self) -> Vec<String> {
        let line = |(part, kernel, name, figure): (_, _, _, &Figure)| match figure {
            Figure::Failed(why) => Some(format!("{name} on {kernel} ({part}): {why}")),
            Figure::Ticks { .. } | Figure::Rate { .. } => None,
        };
        self.all().filter_map(line).collect()
    }
}

/// The medians of several runs of each kernel; a failure in one of them is a failure.
pub fn medians(all: Vec<(Kernel, Figures)>) -> Runs {
    let mut collected: BTreeMap<(Kernel, String), Vec<Figure>> = BTreeMap::new();
    for (kernel, figures) in all {
        for (name, figure) in figures {
            collected.entry((kernel, name)).or_default().push(figure);
        }
    }
    let mut runs = Runs::new();
    for ((kernel, name), figures) in collected {
        runs.entry(kernel).or_default().insert(name, median(figures));
    }
    runs
}

fn median(mut figures: Vec<Figure>) -> Figure {
    if let Some(failed) = figures.iter().find(|figure| matches!(figure, Figure::Failed(_))) {
        return failed.clone();
    }
    // The rate that a second thread brings is what the throughput is about.
    figures.sort_by_key(|figure| match figure {
        Figure::Ticks { median, .. } => *median,
        Figure::Rate { one, two } => two * 1000 / one.max(&1),
        Figure::Failed(_) => 0,
    });
    figures.swap_remove(figures.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Kernel, Operation, medians};

    fn ticks(median: u64) -> Figure {
        Figure::Ticks { median, min: 1, max: 9, samples: 3 }
    }

    #[test]
    fn lines_of_the_program_are_read() {
        assert_eq!(Figure::parse("ok fork_0 5 1 9 3"), Some(("fork_0", ticks(5))));
        assert_eq!(Figure::parse("two faults 10 20"), Some(("faults", Figure::Rate { one: 10, two: 20 })));
        let failed = Figure::Failed("mmap: no memory".to_owned());
        assert_eq!(Figure::parse("fail hole mmap: no memory"), Some(("hole", failed)));
        assert_eq!(Figure::parse("ok fork_0 5"), None);
        assert_eq!(Figure::parse("run fork_0"), None);
        let operation = Operation { name: "hole".to_owned(), pages: 1, what: "a b".to_owned() };
        assert_eq!(Operation::parse("hole\t1\ta b"), Some(operation));
    }

    #[test]
    fn median_of_runs_fails_if_one_of_them_did() {
        let run = |figure: Figure| (Kernel::Linux, [("a".to_owned(), figure)].into());
        let runs = medians(vec![run(ticks(9)), run(ticks(1)), run(ticks(4))]);
        assert_eq!(runs[&Kernel::Linux]["a"], ticks(4));
        let failed = Figure::Failed("x".to_owned());
        let runs = medians(vec![run(ticks(9)), run(failed.clone()), run(ticks(4))]);
        assert_eq!(runs[&Kernel::Linux]["a"], failed);
    }
}
