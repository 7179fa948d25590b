// SPDX-License-Identifier: MPL-2.0

//! Counting what a step proved, from its log.

use std::ops::AddAssign;

/// How a step's log is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The step itself is the one check.
    Step,
    /// `test result: ok. N passed; N failed; N ignored...`, once for each program: Rust's harness and OSTD's.
    Libtest,
    /// `NAME: N passed, N failed, N skipped` as the last such line: our programs in the guest.
    Summary,
}

/// Numbers of checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Count {
    /// Counts what a log says.
    pub fn read(self, log: &str) -> Tally {
        match self {
            Self::Step => Tally { passed: 1, ..Tally::default() },
            Self::Libtest => {
                let mut tally = Tally::default();
                let results = log.lines().filter_map(|line| line.split_once("test result:"));
                results.for_each(|(_, result)| tally += numbers(result));
                tally
            }
            Self::Summary => {
                let is_summary = |line: &&str| {
                    line.split_once(": ").is_some_and(|(name, rest)| {
                        !name.contains(' ') && rest.contains(" passed, ") && rest.contains(" failed")
                    })
                };
                log.lines().rev().find(is_summary).map(numbers).unwrap_or_default()
            }
        }
    }
}

/// The numbers before "passed", "failed", and "ignored" or "skipped".
fn numbers(line: &str) -> Tally {
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = |label: &str| {
        let position = words.iter().position(|word| word.trim_end_matches([';', ',', '.']) == label)?;
        words.get(position.checked_sub(1)?)?.parse().ok()
    };
    Tally {
        passed: before("passed").unwrap_or(0),
        failed: before("failed").unwrap_or(0),
        skipped: before("ignored").or_else(|| before("skipped")).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Tally};

    #[test]
    fn results_of_several_programs_are_added() {
        let log = "test a ... ok\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                   test result: FAILED. 2 passed; 1 failed; 0 ignored";
        assert_eq!(Count::Libtest.read(log), Tally { passed: 5, failed: 1, skipped: 1 });
    }

    #[test]
    fn summary_is_the_last_line_of_its_form() {
        let log = "ok mmap\nabi: 1 passed, 1 failed, 0 skipped\r\nFAIL x: y\nabi: 310 passed, 2 failed, 4 skipped\r\n";
        assert_eq!(Count::Summary.read(log), Tally { passed: 310, failed: 2, skipped: 4 });
        assert_eq!(Count::Summary.read("nothing: here"), Tally::default());
    }
}
