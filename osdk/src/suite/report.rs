// SPDX-License-Identifier: MPL-2.0

//! What came of a suite: a table for the docs, and whether Tessera does what Linux does.

use std::fmt::{self, Display, Write};

use super::{Case, Outcomes, Run, Verdict, Verdicts, machines::Setup};

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.pad("passed"),
            Self::Skipped => f.pad("skipped"),
            Self::Failed(status) => write!(f, "failed ({status})"),
            Self::TimedOut => f.pad("not in time"),
            Self::Stopped(_) => f.pad("the kernel stopped"),
        }
    }
}

/// How many cases did what they must.
pub struct Tally {
    /// Those that pass on Tessera wherever they were run.
    pub passed: usize,
    /// Those that do not, and pass on Linux, or were not run there.
    pub failed: usize,
    /// The rest: nothing is asked of them.
    pub skipped: usize,
}

impl Tally {
    /// Sums up.
    pub fn new(cases: &[Case], setups: &[Setup], verdicts: &Verdicts) -> Self {
        let mut tally = Self { passed: 0, failed: 0, skipped: 0 };
        for case in cases {
            *match judge(case, setups, verdicts) {
                Judgement::AsAsked => &mut tally.passed,
                Judgement::Missed => &mut tally.failed,
                Judgement::NotAsked => &mut tally.skipped,
            } += 1;
        }
        tally
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    AsAsked,
    Missed,
    NotAsked,
}

/// What passes on Linux must pass on Tessera. A kernel that stops has failed whatever Linux does.
fn judge(case: &Case, setups: &[Setup], verdicts: &Verdicts) -> Judgement {
    let verdict = |setup: &Setup| verdicts.get(&(*setup, case.name.clone()));
    let on_tessera: Vec<_> = setups.iter().filter(|setup| **setup != Setup::Linux).map(verdict).collect();
    let is_asked = verdict(&Setup::Linux).is_none_or(|verdict| *verdict == Verdict::Passed);
    let stops = on_tessera.iter().any(|verdict| matches!(verdict, Some(Verdict::Stopped(_))));
    match case.run {
        Run::LeftOut(_) => Judgement::NotAsked,
        _ if stops => Judgement::Missed,
        _ if on_tessera.is_empty() || !is_asked => Judgement::NotAsked,
        _ if on_tessera.iter().all(|verdict| *verdict == Some(&Verdict::Passed)) => Judgement::AsAsked,
        _ => Judgement::Missed,
    }
}

/// The table for the docs.
pub fn table(cases: &[Case], setups: &[Setup], outcomes: &Outcomes, linux: Option<&str>) -> String {
    let Outcomes { verdicts, figures } = outcomes;
    let mut text = linux.map(|linux| format!("Linux is {linux}.\n\n")).unwrap_or_default();
    text += "| case |";
    for setup in setups {
        let _ = write!(text, " {} |", setup.title());
    }
    text += " |\n| --- |";
    text += &" --- |".repeat(setups.len() + 1);
    text += "\n";
    for case in cases {
        let _ = write!(text, "| `{}` |", case.name);
        if let Run::LeftOut(reason) = case.run {
            text += &" |".repeat(setups.len());
            let _ = writeln!(text, " left out: {reason} |");
            continue;
        }
        for setup in setups {
            match verdicts.get(&(*setup, case.name.clone())) {
                Some(verdict) => _ = write!(text, " {verdict} |"),
                None => text += " not run |",
            }
        }
        text += match judge(case, setups, verdicts) {
            Judgement::AsAsked => " |\n",
            Judgement::Missed => " **differs** |\n",
            Judgement::NotAsked => " not asked for: Linux does not pass it |\n",
        };
    }
    let tally = Tally::new(cases, setups, verdicts);
    let _ = writeln!(
        text,
        "\n{} pass as they do on Linux, {} do not, {} are not asked for.",
        tally.passed, tally.failed, tally.skipped
    );
    if !figures.is_empty() {
        text += "\n";
    }
    for (setup, figures) in figures {
        let _ = writeln!(text, "- {}: {figures}", setup.title());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Case, Judgement, Setup, Verdict, Verdicts, judge};

    fn judged(linux: Verdict, tessera: Verdict) -> Judgement {
        let verdicts = Verdicts::from([
            ((Setup::Linux, "a".to_owned()), linux),
            ((Setup::Tessera, "a".to_owned()), tessera),
        ]);
        judge(&Case::new("a", "true", 1), &[Setup::Linux, Setup::Tessera], &verdicts)
    }

    #[test]
    fn what_linux_passes_tessera_must() {
        assert_eq!(judged(Verdict::Passed, Verdict::Passed), Judgement::AsAsked);
        assert_eq!(judged(Verdict::Passed, Verdict::Skipped), Judgement::Missed);
        assert_eq!(judged(Verdict::Failed(1), Verdict::Failed(1)), Judgement::NotAsked);
        assert_eq!(judged(Verdict::Failed(1), Verdict::Stopped("?".to_owned())), Judgement::Missed);
    }

    #[test]
    fn without_linux_everything_must_pass() {
        let verdicts = Verdicts::from([((Setup::Tessera, "a".to_owned()), Verdict::Failed(2))]);
        assert_eq!(judge(&Case::new("a", "x", 1), &[Setup::Tessera], &verdicts), Judgement::Missed);
    }
}
