// SPDX-License-Identifier: MPL-2.0

//! Lists of steps, the plan that the program is given, and what it says.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use anyhow::{Context, Result};

/// A sequence of steps, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub steps: Vec<String>,
}

/// How much the program says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A digest of a whole sequence.
    Sequence,
    /// One of each step.
    Steps,
    /// The text of each step.
    Text,
    /// The text of the last step.
    Last,
}

/// What the program has said of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Number of steps, digest and status.
    Digest(String),
    /// The status of the process, and a digest for each step.
    Steps { status: String, digests: Vec<String> },
    /// Everything.
    Text(String),
    /// The kernel stopped in the middle of it: why, as far as is known.
    Stopped(String),
}

impl Case {
    /// Reads a file of steps; other lines begin with `#`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self::parse(&name, &text))
    }

    /// Takes the steps out of a text.
    pub fn parse(name: &str, text: &str) -> Self {
        let steps = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { name: name.to_owned(), steps: steps.map(str::to_owned).collect() }
    }

    /// The same without some of its steps.
    pub fn without(&self, name: &str, is_gone: impl Fn(usize) -> bool) -> Self {
        let kept = self.steps.iter().enumerate().filter(|(index, _)| !is_gone(*index));
        Self { name: name.to_owned(), steps: kept.map(|(_, step)| step.clone()).collect() }
    }
}

/// The plan for the program: cases first, then seeds.
pub fn plan(level: Level, cases: &[Case], seeds: &[u64], length: u64) -> String {
    let mut plan = match level {
        Level::Sequence => "level 0\n",
        Level::Steps => "level 1\n",
        Level::Text => "level 2\n",
        Level::Last => "level 3\n",
    }
    .to_owned();
    for case in cases {
        let _ = writeln!(plan, "case {}", case.name);
        for step in &case.steps {
            let _ = writeln!(plan, "{step}");
        }
    }
    if let (Some(first), count) = (seeds.first(), seeds.len()) {
        let _ = writeln!(plan, "seeds {first} {count} {length}");
    }
    plan
}

/// Reads what the program has said; and whether it came to its end.
pub fn read(text: &str) -> (BTreeMap<String, Said>, bool) {
    let mut said = BTreeMap::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        if line == "end" {
            return (said, true);
        }
        let Some((kind, rest)) = line.split_once(' ') else { continue };
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let what = match kind {
            "s" => Said::Digest(rest.to_owned()),
            "t" => {
                let mut words = rest.split(' ').map(str::to_owned);
                let status = words.next().unwrap_or_default();
                Said::Steps { status, digests: words.collect() }
            }
            "case" => {
                let mut text = String::new();
                for line in lines.by_ref() {
                    let _ = writeln!(text, "{line}");
                    if line.starts_with("ended ") {
                        break;
                    }
                }
                Said::Text(text)
            }
            _ => continue,
        };
        said.insert(name.to_owned(), what);
    }
    (said, false)
}

/// The first step that two kernels answer differently, if there is one.
pub fn first_difference(one: &Said, two: &Said) -> Option<usize> {
    let (Said::Steps { status, digests }, Said::Steps { status: other_status, digests: others }) = (one, two)
    else {
        // One of the kernels has stopped: nobody knows where.
        return (one != two).then_some(usize::MAX);
    };
    let common = digests.iter().zip(others).position(|(one, two)| one != two);
    match common {
        Some(index) => Some(index),
        None if digests.len() != others.len() => Some(digests.len().min(others.len())),
        None => (status != other_status).then(|| digests.len().saturating_sub(1)),
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(text) | Self::Text(text) => f.write_str(text),
            Self::Steps { status, digests } => write!(f, "{} steps, status {status}", digests.len()),
            Self::Stopped(why) => write!(f, "the kernel stopped: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Level, Said, first_difference, plan, read};

    #[test]
    fn what_is_said_is_read() {
        let text = "noise\ns 1 100 abc 0\r\nt x 0 1 2 3\ncase y\nstep 0 a\n  = 1\nended 9\nend\nmore\n";
        let (said, is_whole) = read(text);
        assert!(is_whole);
        assert_eq!(said["1"], Said::Digest("100 abc 0".to_owned()));
        let digests = ["1", "2", "3"].map(str::to_owned).to_vec();
        assert_eq!(said["x"], Said::Steps { status: "0".to_owned(), digests });
        assert_eq!(said["y"], Said::Text("step 0 a\n  = 1\nended 9\n".to_owned()));
        assert!(!read("s 1 100 abc 0\n").1);
    }

    #[test]
    fn plans_have_cases_and_seeds() {
        let case = Case::parse("x", "# why\n0 maps()\n\n0 look_all()\n");
        let text = plan(Level::Steps, &[case], &[7, 8], 50);
        assert_eq!(text, "level 1\ncase x\n0 maps()\n0 look_all()\nseeds 7 2 50\n");
    }

    #[test]
    fn the_first_difference_is_found() {
        let said = |status: &str, digests: &[&str]| Said::Steps {
            status: status.to_owned(),
            digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
        };
        let one = said("0", &["a", "b", "c"]);
        assert_eq!(first_difference(&one, &one), None);
        assert_eq!(first_difference(&one, &said("0", &["a", "x", "y"])), Some(1));
        assert_eq!(first_difference(&one, &said("9", &["a", "b"])), Some(2));
        assert_eq!(first_difference(&one, &said("9", &["a", "b", "c"])), Some(2));
        assert_eq!(first_difference(&one, &Said::Stopped(String::new())), Some(usize::MAX));
    }
}
