// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask suite`: other people's tests of memory, unmodified, on Debian's Linux and on this kernel, and compared.
//!
//! ```text
//! the cases ──► root ──► boot ──► Linux, one processor  ──► verdicts ─┐
//!                         ├─────► Tessera, one          ──► verdicts ─┼──► table; what Linux passes, Tessera must
//!                         └─────► Tessera, two          ──► verdicts ─┘
//! ```
//!
//! A suite is a list of command lines for one root, run one after the other in one boot by a shell script that tells of
//! each when it begins and how it ended. A kernel that stops in the middle is booted again for the cases that are left: the one
//! it stopped in has failed, and no other.

mod machines;
mod report;
mod selftests;
mod stress;

use std::{collections::BTreeMap, fs, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::machines::{Machines, Setup};
use crate::{initramfs::Tree, project};

/// A collection of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Linux's own tests of memory, of its source package.
    Selftests,
    /// Each memory stressor of stress-ng, by itself.
    Stress,
    /// All of them at once, for ten minutes.
    Mixed,
}

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    suite: Suite,
    /// Run only these cases.
    names: Vec<String>,
    /// List the cases without running them.
    #[arg(long)]
    list: bool,
    /// Run on these kernels only: linux, tessera (one processor), tessera-smp (two).
    #[arg(long, value_enum, value_name = "SETUP")]
    on: Vec<Setup>,
    /// Run only the few cases that are quick, on Tessera with two processors only: all of them must pass.
    #[arg(long)]
    quick: bool,
    /// Show what the programs say.
    #[arg(long, short)]
    verbose: bool,
    /// Write the table into the docs.
    #[arg(long)]
    write: bool,
}

/// A command line, or why it is not run.
struct Case {
    name: String,
    run: Run,
}

/// What a case does.
enum Run {
    /// A command line for the shell, and how many seconds it may take.
    Command { command: String, seconds: u64, quick: bool },
    /// It needs what is not asked of this kernel.
    LeftOut(&'static str),
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// By its own account it cannot be run there.
    Skipped,
    /// With that status.
    Failed(u8),
    TimedOut,
    /// The kernel stopped, and why.
    Stopped(String),
}

/// What came of each case on each kernel.
type Verdicts = BTreeMap<(Setup, String), Verdict>;

/// What came of a suite.
#[derive(Default)]
struct Outcomes {
    verdicts: Verdicts,
    /// What cases have measured.
    figures: Vec<(Setup, String)>,
}

impl Suite {
    fn cases(self) -> Vec<Case> {
        match self {
            Self::Selftests => selftests::cases(),
            Self::Stress => stress::cases(),
            Self::Mixed => stress::mixed(),
        }
    }

    /// The root with the suite's programs in it.
    fn tree(self) -> Result<Tree> {
        match self {
            Self::Selftests => selftests::tree(),
            Self::Stress | Self::Mixed => stress::tree(),
        }
    }

    /// The kernels it is run on if nothing else is said.
    const fn setups(self) -> &'static [Setup] {
        match self {
            Self::Selftests | Self::Stress => &[Setup::Linux, Setup::Tessera, Setup::TesseraSmp],
            Self::Mixed => &[Setup::Linux, Setup::TesseraSmp],
        }
    }

    /// What a status means.
    fn verdict(self, status: u8) -> Verdict {
        const TIMED_OUT: u8 = 124;
        const KILLED: u8 = 128 + 9;
        match status {
            0 => Verdict::Passed,
            TIMED_OUT | KILLED => Verdict::TimedOut,
            status if self.skips().contains(&status) => Verdict::Skipped,
            status => Verdict::Failed(status),
        }
    }

    /// The statuses of a program that cannot run there.
    const fn skips(self) -> &'static [u8] {
        match self {
            Self::Selftests => &[4],
            // No resource; not implemented.
            Self::Stress | Self::Mixed => &[3, 4],
        }
    }

    /// The machine's memory, in QEMU's notation: all at once are to find enough.
    const fn memory(self) -> &'static str {
        match self {
            Self::Selftests | Self::Stress => "1G",
            Self::Mixed => "4G",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Selftests => "selftests.md",
            Self::Stress => "stress.md",
            Self::Mixed => "mixed.md",
        }
    }
}

/// Runs the cases on each kernel and sums up; fails if Tessera does not do what Linux does.
pub fn run(options: &Options) -> Result<ExitCode> {
    let suite = options.suite;
    let all = suite.cases();
    if let Some(unknown) = options.names.iter().find(|name| all.iter().all(|case| case.name != **name)) {
        bail!("no case is called {unknown}");
    }
    let wanted = |case: &Case| options.names.is_empty() || options.names.contains(&case.name);
    let cases: Vec<Case> =
        all.into_iter().filter(wanted).filter(|case| !options.quick || case.is_quick()).collect();
    if options.list {
        for case in &cases {
            match &case.run {
                Run::Command { command, .. } => println!("{:<24} {command}", case.name),
                Run::LeftOut(reason) => println!("{:<24} left out: {reason}", case.name),
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let setups = match (&options.on[..], options.quick) {
        ([], true) => vec![Setup::TesseraSmp],
        ([], false) => suite.setups().to_vec(),
        (some, _) => some.to_vec(),
    };

    let machines = Machines::new(&setups, suite.tree()?, options.verbose)?;
    let mut outcomes = Outcomes::default();
    for &setup in &setups {
        machines.run(setup, suite, &cases, &mut outcomes)?;
    }
    let tally = report::Tally::new(&cases, &setups, &outcomes.verdicts);
    if options.write {
        let folder = project::root().join("docs/src/suites");
        fs::create_dir_all(&folder).context("the docs' folder cannot be made")?;
        let table = report::table(&cases, &setups, &outcomes, machines.linux().as_deref());
        fs::write(folder.join(suite.file()), table).context("the table cannot be written")?;
    }
    if tally.failed != 0 {
        for &setup in &setups {
            println!("  (all of it: {})", machines::log(setup, suite).display());
        }
    }
    println!("suite: {} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Case {
    fn new(name: impl Into<String>, command: impl Into<String>, seconds: u64) -> Self {
        Self { name: name.into(), run: Run::Command { command: command.into(), seconds, quick: false } }
    }

    fn left_out(name: impl Into<String>, reason: &'static str) -> Self {
        Self { name: name.into(), run: Run::LeftOut(reason) }
    }

    /// Has it run in `make test`, too.
    fn quick_if(mut self, is_quick: bool) -> Self {
        if let Run::Command { quick, .. } = &mut self.run {
            *quick = is_quick;
        }
        self
    }

    fn is_quick(&self) -> bool {
        matches!(self.run, Run::Command { quick: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::{Suite, Verdict};

    #[test]
    fn names_are_unique_and_one_word() {
        for suite in Suite::value_variants() {
            let cases = suite.cases();
            let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
            assert_eq!(names.len(), cases.len(), "{suite:?}");
            assert!(names.iter().all(|name| !name.contains(char::is_whitespace)), "{suite:?}");
        }
    }

    #[test]
    fn a_status_says_what_its_suite_means_by_it() {
        assert_eq!(Suite::Selftests.verdict(4), Verdict::Skipped);
        assert_eq!(Suite::Selftests.verdict(3), Verdict::Failed(3));
        assert_eq!(Suite::Stress.verdict(3), Verdict::Skipped);
        assert_eq!(Suite::Stress.verdict(124), Verdict::TimedOut);
        assert_eq!(Suite::Stress.verdict(0), Verdict::Passed);
    }
}
