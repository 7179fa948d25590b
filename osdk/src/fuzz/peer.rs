// SPDX-License-Identifier: MPL-2.0

//! Two kernels side by side, and the same plan on both.
//!
//! A kernel that stops in the middle is booted again for what is left: the sequence that it stopped in is told to be so.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};

use super::case::{Case, Level, Said, plan, read};
use crate::{
    child::Ended,
    guest::{self, Console, Machine},
    initramfs::Tree,
    kernel, linux, project,
};

/// What runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian's, in QEMU.
    Linux,
    /// This one, in QEMU.
    Tessera,
    /// That of this machine.
    Host,
}

impl Kernel {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Tessera => "Tessera",
            Self::Host => "this machine",
        }
    }
}

/// A boot may take so many seconds, and so many more for each sequence; a few milliseconds are usual.
const LIMIT: u64 = 60;
const LIMIT_OF_ONE: u64 = 1;
/// After so many stops in one plan nothing more is tried.
const MOST_STOPS: usize = 5;

/// Linux without protection keys, which this kernel does not have.
const MORE_OPTIONS: &str = "nopku";

/// What is said of each sequence.
pub type Answers = BTreeMap<String, Said>;

/// Two kernels, ready to be booted.
pub struct Pair {
    pub kernels: [Kernel; 2],
    images: [PathBuf; 2],
    program: PathBuf,
}

impl Pair {
    /// Builds or fetches what is needed.
    pub fn new(program: &Path, kernels: [Kernel; 2], built: Option<&Path>) -> Result<Self> {
        let image = |kernel| match kernel {
            Kernel::Linux => linux::image(),
            Kernel::Tessera => built.map_or_else(kernel::build, |image| Ok(image.to_owned())),
            Kernel::Host => Ok(PathBuf::new()),
        };
        let images = [image(kernels[0])?, image(kernels[1])?];
        fs::create_dir_all(project::target("run")).context("target/run cannot be made")?;
        Ok(Self { kernels, images, program: program.to_owned() })
    }

    /// Plays cases and seeds on both at once.
    ///
    /// # Errors
    ///
    /// When a kernel cannot be started at all. One that stops is an answer.
    pub fn play(&self, level: Level, cases: &[Case], seeds: &[u64], length: u64) -> Result<[Answers; 2]> {
        let play = |which: usize| self.play_on(which, level, cases, seeds, length);
        let (one, two) = thread::scope(|scope| {
            let other = scope.spawn(|| play(1));
            let one = play(0);
            (one, other.join())
        });
        match two {
            Ok(two) => Ok([one?, two?]),
            Err(_) => bail!("a thread of this program has panicked"),
        }
    }

    fn play_on(
        &self,
        which: usize,
        level: Level,
        cases: &[Case],
        seeds: &[u64],
        length: u64,
    ) -> Result<Answers> {
        let mut answers = Answers::new();
        let (mut cases, mut seeds) = (cases, seeds);
        let mut stops = 0;
        while !(cases.is_empty() && seeds.is_empty()) {
            let limit = LIMIT + LIMIT_OF_ONE * (cases.len() + seeds.len()) as u64;
            let (text, why) = self.boot(which, &plan(level, cases, seeds, length), limit)?;
            let (said, is_whole) = read(&text);
            let before = answers.len();
            answers.extend(said);
            if is_whole {
                break;
            }
            stops += 1;
            if answers.len() == before && stops > 1 || stops > MOST_STOPS {
                break;
            }
            // The first that there is no word of is the one; what comes after it is left.
            let is_missing = |name: &str| !answers.contains_key(name);
            let missing = if let Some(index) = cases.iter().position(|case| is_missing(&case.name)) {
                let name = cases[index].name.clone();
                cases = &cases[index + 1..];
                name
            } else if let Some(index) = seeds.iter().position(|seed| is_missing(&seed.to_string())) {
                let name = seeds[index].to_string();
                cases = &[];
                seeds = &seeds[index + 1..];
                name
            } else {
                break;
            };
            answers.insert(missing, Said::Stopped(why));
        }
        Ok(answers)
    }

    /// Runs the program with a plan: what it said, and should it not come to its end, why.
    fn boot(&self, which: usize, plan: &str, limit: u64) -> Result<(String, String)> {
        let kernel = self.kernels[which];
        if kernel == Kernel::Host {
            let file = tempfile::NamedTempFile::new().context("no temporary file can be made")?;
            fs::write(file.path(), plan).context("a temporary file cannot be written")?;
            let output = Command::new(&self.program).arg(file.path()).output();
            let output = output.context("test/fuzz cannot be run here")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            return Ok((text, "the program ended early".to_owned()));
        }
        let initramfs = tempfile::Builder::new()
            .prefix("initramfs-")
            .tempfile_in(project::target("run"))
            .context("no file can be made in target/run")?;
        let mut tree = Tree::with_init(&self.program)?;
        tree.file("fuzz.plan", plan.as_bytes().to_vec(), 0o644);
        tree.write(initramfs.path())?;
        let command_line = match kernel {
            Kernel::Linux => format!("{} {MORE_OPTIONS}", linux::COMMAND_LINE),
            _ => String::new(),
        };
        let machine =
            Machine { mem: "512M".to_owned(), timeout: Some(limit), command_line, ..Machine::default() };
        let output = tempfile::NamedTempFile::new().context("no temporary file can be made")?;
        let console = Console::File(output.reopen().context("a temporary file cannot be written")?);
        let outcome = guest::boot(&machine, &self.images[which], initramfs.path(), &console)?;
        if let Ended::Interrupted(_) = outcome.ended {
            bail!("interrupted");
        }
        let text = fs::read(output.path()).context("a temporary file cannot be read")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let why = match outcome.ended {
            Ended::TimedOut => format!("no end within {limit} s"),
            _ => {
                let log = if outcome.log.is_empty() { &text } else { &outcome.log };
                log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word").trim().to_owned()
            }
        };
        Ok((text, why))
    }
}
