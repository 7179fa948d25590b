// SPDX-License-Identifier: MPL-2.0

//! The kernels that a suite runs on, and what its script says while it runs.
//!
//! The script writes `@begin NAME` and `@end NAME STATUS` on lines of their own around each case; a case may write `@figures TEXT`,
//! which goes into the docs with its verdict. Everything else on the console is what programs and kernels say.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{ValueEnum, builder::PossibleValue};

use super::{Case, Outcomes, Run, Suite, Verdict};
use crate::{
    bench::{self, Kernel},
    child::Ended,
    guest::{self, Console, Machine, Outcome},
    initramfs::{Session, Tree},
    project,
};

/// A kernel and its number of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Setup {
    /// Debian's Linux, two processors.
    Linux,
    /// This kernel, one processor.
    Tessera,
    /// This kernel, two processors.
    TesseraSmp,
}

impl Setup {
    /// Its name in a table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Tessera => "Tessera",
            Self::TesseraSmp => "Tessera, two processors",
        }
    }

    const fn kernel(self) -> Kernel {
        match self {
            Self::Linux => Kernel::Linux,
            Self::Tessera | Self::TesseraSmp => Kernel::Tessera,
        }
    }

    const fn processors(self) -> u32 {
        match self {
            Self::Tessera => 1,
            Self::Linux | Self::TesseraSmp => 2,
        }
    }
}

/// Runs `/etc/suite/cases`: a name, the seconds it may take, and a command line each.
const SCRIPT: &str = r#"
while read -r name seconds command; do
    echo "@begin $name"
    (cd /tmp && exec timeout -k 10 "$seconds" sh -c "$command") </dev/null 2>&1
    status=$?
    # Whatever it left behind ends with it.
    rm -rf /tmp/* /dev/shm/* 2>/dev/null
    echo
    echo "@end $name $status"
done </etc/suite/cases
echo @over
"#;

/// What Linux has on here and not on this kernel is turned off: the comparison is about what both have.
const LINUX: &str = "console=ttyS0 quiet panic=-1 nopku no5lvl transparent_hugepage=never";

/// Where all that a suite says on a kernel is kept until the next time.
pub fn log(setup: Setup, suite: Suite) -> PathBuf {
    let name =
        |value: Option<PossibleValue>| value.map(|value| value.get_name().to_owned()).unwrap_or_default();
    let file = format!("{}-{}.log", name(suite.to_possible_value()), name(setup.to_possible_value()));
    project::target("suites").join(file)
}

/// Adds what a boot has said.
fn keep(log: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", log.display()))
}

/// What a boot takes by itself, in seconds.
const BOOT: u64 = 60;

/// The kernels and the root, ready to be booted.
pub struct Machines {
    images: BTreeMap<Kernel, PathBuf>,
    tree: Tree,
    verbose: bool,
}

impl Machines {
    /// Builds or fetches what is needed.
    pub fn new(setups: &[Setup], tree: Tree, verbose: bool) -> Result<Self> {
        let mut images = BTreeMap::new();
        for kernel in setups.iter().map(|setup| setup.kernel()) {
            if let Entry::Vacant(vacant) = images.entry(kernel) {
                vacant.insert(bench::image(kernel)?);
            }
        }
        Ok(Self { images, tree, verbose })
    }

    /// What Linux is, in a few words, if it is there.
    pub fn linux(&self) -> Option<String> {
        let name = self.images.get(&Kernel::Linux)?.file_name()?.to_string_lossy();
        Some(format!("Debian's {}, started with `{LINUX}`", name.replace("vmlinuz-", "")))
    }

    /// Runs the cases on one kernel, each as soon as the one before it has ended.
    pub fn run(&self, setup: Setup, suite: Suite, cases: &[Case], outcomes: &mut Outcomes) -> Result<()> {
        let mut left: Vec<&Case> =
            cases.iter().filter(|case| matches!(case.run, Run::Command { .. })).collect();
        let log = log(setup, suite);
        let _ = fs::create_dir_all(project::target("suites")).and_then(|()| fs::remove_file(&log));
        while !left.is_empty() {
            let (outcome, text) = self.boot(setup, suite, &left)?;
            keep(&log, &text)?;
            let said = Said::read(&text, suite);
            let done = said.ended.len();
            outcomes.figures.extend(said.figures.into_iter().map(|figures| (setup, figures)));
            for (name, verdict) in said.ended {
                outcomes.verdicts.insert((setup, name), verdict);
            }
            if let Ended::Interrupted(_) = outcome.ended {
                bail!("interrupted");
            }
            let last = match said.running {
                None if said.is_over => break,
                Some(name) => name,
                None if done == 0 => bail!(
                    "{} ran nothing; it said:\n{}{}",
                    setup.title(),
                    guest::tail(&text, 20),
                    guest::tail(&outcome.log, 20)
                ),
                None => bail!("{} stopped between two cases", setup.title()),
            };
            let why = why_stopped(&outcome, &text);
            println!("{:<24} {:<24} the kernel stopped: {why}", setup.title(), last);
            outcomes.verdicts.insert((setup, last.clone()), Verdict::Stopped(why));
            left = left.into_iter().skip_while(|case| case.name != last).skip(1).collect();
        }
        Ok(())
    }

    /// Boots once for some cases.
    fn boot(&self, setup: Setup, suite: Suite, cases: &[&Case]) -> Result<(Outcome, String)> {
        let mut lines = String::new();
        let mut limit = BOOT;
        for case in cases {
            if let Run::Command { command, seconds, .. } = &case.run {
                lines += &format!("{} {seconds} {command}\n", case.name);
                limit += seconds + 15;
            }
        }
        let mut tree = self.tree.clone();
        tree.file("etc/suite/cases", lines.into_bytes(), 0o644);
        tree.add_session(&Session {
            terminal: None,
            login: false,
            term: None,
            command: Some(SCRIPT.to_owned()),
            input: None,
        });
        let initramfs = tempfile::Builder::new()
            .prefix("initramfs-")
            .tempfile_in(project::target("run"))
            .context("no file can be made in target/run")?;
        tree.write(initramfs.path())?;

        let machine = Machine {
            smp: setup.processors(),
            mem: suite.memory().to_owned(),
            timeout: Some(limit),
            command_line: if setup.kernel() == Kernel::Linux { LINUX.to_owned() } else { String::new() },
            ..Machine::default()
        };
        let image = self.images.get(&setup.kernel()).context("this kernel was not asked for")?;
        let output = tempfile::NamedTempFile::new().context("no temporary file can be made")?;
        let reader = output.reopen().context("a temporary file cannot be read")?;
        let console = Console::File(output.reopen().context("a temporary file cannot be written")?);
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let follower = scope.spawn(|| self.follow(reader, &ended, setup, suite));
            let outcome = guest::boot(&machine, image, initramfs.path(), &console);
            ended.store(true, Ordering::Release);
            let text = follower.join().unwrap_or_default();
            Ok((outcome?, text))
        })
    }

    /// Reads what comes until everything has ended, and tells of each case as it ends.
    fn follow(&self, mut file: File, ended: &AtomicBool, setup: Setup, suite: Suite) -> String {
        const POLL: Duration = Duration::from_millis(100);
        let mut bytes = Vec::new();
        let mut shown = 0;
        loop {
            let is_last = ended.load(Ordering::Acquire);
            // What cannot be read now is read later, or missed: then the case is reported as not ended.
            let _ = file.read_to_end(&mut bytes);
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(shown, |at| at + 1);
            for line in String::from_utf8_lossy(&bytes[shown..whole]).lines().map(str::trim_end) {
                match parse_end(line, suite) {
                    Some((name, verdict)) => println!("{:<24} {name:<24} {verdict}", setup.title()),
                    None if self.verbose && !line.is_empty() => println!("  {line}"),
                    None => {}
                }
            }
            shown = whole;
            if is_last {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            thread::sleep(POLL);
        }
    }
}

/// What the script has said in one boot.
struct Said {
    ended: Vec<(String, Verdict)>,
    figures: Vec<String>,
    running: Option<String>,
    is_over: bool,
}

impl Said {
    fn read(text: &str, suite: Suite) -> Self {
        let mut said = Self { ended: Vec::new(), figures: Vec::new(), running: None, is_over: false };
        for line in text.lines().map(str::trim_end) {
            if let Some(name) = line.strip_prefix("@begin ") {
                said.running = Some(name.to_owned());
            } else if let Some(ended) = parse_end(line, suite) {
                said.ended.push(ended);
                said.running = None;
            } else if let Some(figures) = line.strip_prefix("@figures ") {
                said.figures.push(figures.to_owned());
            } else if line == "@over" {
                said.is_over = true;
            }
        }
        said
    }
}

/// Reads a line that tells how a case ended.
fn parse_end(line: &str, suite: Suite) -> Option<(String, Verdict)> {
    let (name, status) = line.strip_prefix("@end ")?.split_once(' ')?;
    Some((name.to_owned(), suite.verdict(status.parse().ok()?)))
}

fn why_stopped(outcome: &Outcome, text: &str) -> String {
    if outcome.ended == Ended::TimedOut {
        return "no answer".to_owned();
    }
    let log = if outcome.log.is_empty() { text } else { &outcome.log };
    let panic = log.lines().find(|line| line.contains("panicked at"));
    let last = log.lines().rev().find(|line| !line.trim().is_empty());
    panic.or(last).unwrap_or("no word").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Said, Suite, Verdict};

    #[test]
    fn everything_said_is_read() {
        let text = "@begin a\r\nnoise\r\n@figures 1 of 2\r\n\r\n@end a 0\r\n@begin b\n@end b 2\n@over\n";
        let said = Said::read(text, Suite::Stress);
        assert_eq!(said.ended, [("a".to_owned(), Verdict::Passed), ("b".to_owned(), Verdict::Failed(2))]);
        assert_eq!(said.figures, ["1 of 2"]);
        assert!(said.is_over && said.running.is_none());
    }

    #[test]
    fn the_case_that_did_not_end_is_known() {
        let said = Said::read("@begin a\n@end a 4\n@begin b\npanicked", Suite::Selftests);
        assert_eq!(said.ended, [("a".to_owned(), Verdict::Skipped)]);
        assert_eq!(said.running.as_deref(), Some("b"));
        assert!(!said.is_over);
    }
}
