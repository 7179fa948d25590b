// SPDX-License-Identifier: MPL-2.0

//! Booting a kernel to measure it, and reading what the program says while it runs.
//!
//! A kernel that stops in the middle is booted again for the operations that are left: the one it stopped in has
//! failed, and no other.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{IsTerminal, Read, Write, stderr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::figures::{Figure, Figures, Kernel, Operation};
use crate::{
    child::Ended,
    guest::{self, Console, Machine, Outcome, tail},
    initramfs::Tree,
    kernel, linux, project,
};

/// What the ticks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Guest instructions.
    Instructions,
    /// Wall time, fewer samples.
    Wall,
    /// Wall time on two processors.
    Two,
}

/// One boot may take so many seconds: many times what it takes on an idle host.
const LIMIT: u64 = 900;
/// Where time is the wall's, each operation takes this part of its samples.
const SHARE: &str = "4";

/// Builds or fetches a kernel, and says where the image is.
pub fn image(kernel: Kernel) -> Result<PathBuf> {
    match kernel {
        Kernel::Linux => linux::image(),
        Kernel::Tessera => kernel::build(),
    }
}

/// The kernels and their root, ready to be booted.
pub struct Bench {
    images: BTreeMap<Kernel, PathBuf>,
    initramfs: tempfile::NamedTempFile,
}

impl Bench {
    /// Builds or fetches what is needed.
    pub fn new(program: &Path, kernels: &[Kernel]) -> Result<Self> {
        let mut images = BTreeMap::new();
        for &kernel in kernels {
            images.insert(kernel, image(kernel)?);
        }
        let initramfs = tempfile::Builder::new()
            .prefix("initramfs-")
            .tempfile_in(project::target("run"))
            .context("no file can be made in target/run")?;
        Tree::with_init(program)?.write(initramfs.path())?;
        Ok(Self { images, initramfs })
    }

    /// What the kernels and QEMU are, in a few words each.
    pub fn versions(&self) -> Result<BTreeMap<String, String>> {
        let first_line = |command: &mut Command| -> Result<String> {
            let output = command.output().context("a version cannot be asked for")?;
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
        };
        let mut versions = BTreeMap::new();
        if let Some(name) = self.images.get(&Kernel::Linux).and_then(|image| image.file_name()) {
            let name = name.to_string_lossy().replace("vmlinuz-", "");
            versions.insert(
                "Linux".to_owned(),
                format!("Debian's {name}, started with `{}`", linux::COMMAND_LINE),
            );
        }
        let mut git = Command::new("git");
        git.args(["rev-parse", "--short=12", "HEAD"]).current_dir(project::root());
        versions.insert("Tessera".to_owned(), first_line(&mut git)?);
        versions.insert("QEMU".to_owned(), first_line(Command::new("qemu-system-x86_64").arg("--version"))?);
        Ok(versions)
    }

    /// Measures operations on a kernel, all of them if none is named.
    ///
    /// # Errors
    ///
    /// When the kernel does not come so far as to measure anything. An operation that fails is a [`Figure`].
    pub fn measure(
        &self,
        kernel: Kernel,
        clock: Clock,
        operations: &[Operation],
        names: &[String],
    ) -> Result<Figures> {
        let mut figures = Figures::new();
        let mut arguments: Vec<String> = match clock {
            Clock::Instructions => vec![],
            Clock::Wall => vec!["--share".to_owned(), SHARE.to_owned()],
            Clock::Two => vec!["--two".to_owned()],
        };
        arguments.extend_from_slice(names);
        if names.is_empty() {
            // Linux hands on what it does not know, too: `no5lvl` would be the only name.
            arguments.push("*".to_owned());
        }
        let mut from = None;
        loop {
            let said = self.boot(kernel, clock, &arguments, from, operations.len())?;
            figures.extend(said.figures);
            let Some((operation, why)) = said.stopped else { break };
            eprintln!("tessera: {} stopped while measuring {operation}: {why}", kernel.name());
            figures.insert(operation.clone(), Figure::Failed(format!("the kernel stopped: {why}")));
            // The next one comes later in the list: this ends.
            match operations.iter().skip_while(|known| known.name != operation).nth(1) {
                Some(next) => from = Some(next.name.as_str()),
                None => break,
            }
        }
        if names.is_empty() {
            for Operation { name, .. } in operations {
                figures.entry(name.clone()).or_insert_with(|| Figure::Failed("was not reached".to_owned()));
            }
        }
        Ok(figures)
    }

    /// Boots once, from an operation on if one is named.
    fn boot(
        &self,
        kernel: Kernel,
        clock: Clock,
        arguments: &[String],
        from: Option<&str>,
        count: usize,
    ) -> Result<Said> {
        let options = if kernel == Kernel::Linux { linux::COMMAND_LINE } else { "" };
        let from = from.map(|name| format!("--from {name} ")).unwrap_or_default();
        let machine = Machine {
            smp: if clock == Clock::Two { 2 } else { 1 },
            icount: clock == Clock::Instructions,
            timeout: Some(LIMIT),
            command_line: format!("{options} -- {from}{}", arguments.join(" ")),
            ..Machine::default()
        };
        let image = self.images.get(&kernel).context("this kernel was not asked for")?;
        let output = tempfile::NamedTempFile::new().context("no temporary file can be made")?;
        let reader = output.reopen().context("a temporary file cannot be read")?;
        let console = Console::File(output.reopen().context("a temporary file cannot be written")?);

        let ended = AtomicBool::new(false);
        let (outcome, text) = thread::scope(|scope| {
            let follower = scope.spawn(|| follow(reader, &ended, kernel, clock, count));
            let outcome = guest::boot(&machine, image, self.initramfs.path(), &console);
            ended.store(true, Ordering::Release);
            (outcome, follower.join().unwrap_or_default())
        });
        let outcome = outcome?;
        if let Ended::Interrupted(_) = outcome.ended {
            bail!("interrupted");
        }
        let said = Said::read(&text, &outcome);
        if said.figures.is_empty() && said.stopped.is_none() {
            bail!(
                "{} measured nothing; it said:\n{}{}",
                kernel.name(),
                tail(&text, 20),
                tail(&outcome.log, 20)
            );
        }
        match said.turns {
            Some(turns) if clock == Clock::Instructions && !(2000..2010).contains(&turns) => {
                bail!("a loop of 2000 instructions took {turns} ticks: these are no instructions")
            }
            _ => Ok(said),
        }
    }
}

/// What the program has said in one boot.
struct Said {
    figures: Figures,
    /// Ticks of a loop of 2000 instructions.
    turns: Option<u64>,
    /// The operation that was being measured when everything stopped, and what is known of why.
    stopped: Option<(String, String)>,
}

impl Said {
    fn read(text: &str, outcome: &Outcome) -> Self {
        let mut said = Self { figures: Figures::new(), turns: None, stopped: None };
        let mut running = None;
        for line in text.lines().map(str::trim_end) {
            if let Some(name) = line.strip_prefix("run ") {
                running = Some(name);
            } else if let Some(clock) = line.strip_prefix("clock ") {
                said.turns = clock.split(' ').nth(1).and_then(|turns| turns.parse().ok());
            } else if let Some((name, figure)) = Figure::parse(line) {
                said.figures.insert(name.to_owned(), figure);
                running = None;
            } else if line == "end" {
                return said;
            }
        }
        let why = if outcome.ended == Ended::TimedOut {
            format!("no answer within {LIMIT} s")
        } else {
            let log = if outcome.log.is_empty() { text } else { &outcome.log };
            log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word").trim().to_owned()
        };
        said.stopped = running.map(|name| (name.to_owned(), why));
        said
    }
}

/// Reads what comes until everything has ended, and shows what is running on one line of the terminal.
fn follow(mut file: File, ended: &AtomicBool, kernel: Kernel, clock: Clock, count: usize) -> String {
    const POLL: Duration = Duration::from_millis(50);
    let shown = stderr().is_terminal();
    let clock = match clock {
        Clock::Instructions => "instructions",
        Clock::Wall => "wall time",
        Clock::Two => "two processors",
    };
    if !shown {
        eprintln!("tessera: measuring {} ({clock})", kernel.name());
    }
    let mut bytes = Vec::new();
    loop {
        let last = ended.load(Ordering::Acquire);
        let before = bytes.len();
        // What cannot be read now is read later, or missed: then the operation is reported as missing.
        let _ = file.read_to_end(&mut bytes);
        if shown && bytes.len() > before {
            let text = String::from_utf8_lossy(&bytes);
            let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("run ")).collect();
            let now = names.last().unwrap_or(&"booting").trim_end();
            eprint!("\r\x1b[Ktessera: measuring {} ({clock}) {}/{count} {now}", kernel.name(), names.len());
            let _ = stderr().flush();
        }
        if last {
            if shown {
                eprint!("\r\x1b[K");
            }
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::{Figure, Said};
    use crate::{child::Ended, guest::Outcome};

    fn outcome(log: &str) -> Outcome {
        Outcome { ended: Ended::Itself(ExitStatusExt::from_raw(0)), status: None, log: log.to_owned() }
    }

    #[test]
    fn everything_said_is_read() {
        let text = "clock 4 2000\r\nrun a\r\nok a 1 1 1 1\r\nrun b\r\nfail b mmap: x\r\nend\r\n";
        let said = Said::read(text, &outcome(""));
        assert_eq!(said.turns, Some(2000));
        assert!(said.stopped.is_none());
        assert_eq!(said.figures["a"].median(), Some(1));
        assert_eq!(said.figures["b"], Figure::Failed("mmap: x".to_owned()));
    }

    #[test]
    fn a_kernel_that_stops_is_told_of_with_its_last_words() {
        let said = Said::read("clock 4 2000\nrun a\nok a 1 1 1 1\nrun b\n", &outcome("panicked: out of x\n"));
        assert_eq!(said.stopped, Some(("b".to_owned(), "panicked: out of x".to_owned())));
    }
}
