// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask profile OP`: where an operation's instructions go, function by function, on Tessera and on Linux.
//!
//! ```text
//! test/bench ──marks──► profile-plugin.c ──trace──► trace ──► stacks ──► report ──► NAME.txt, NAME.svg
//!  (the guest)           (inside QEMU)                          symbols ────┘
//! ```
//!
//! The kernels are those that are measured: nothing is built another way. The benchmark's own marks say what
//! belongs to the operation.

mod report;
mod stacks;
mod symbols;
mod symbols_of_linux;
mod trace;

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::{
    report::{Profile, side_by_side},
    symbols::Symbols,
    trace::Trace,
};
use crate::{
    child::{self, Ended},
    guest::{self, Console, Machine, tail},
    initramfs::{Contents, Session, Tree},
    kernel, linux, project,
};

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// The operation, as `bench --list` names it.
    operation: String,
    /// Take so many samples of it.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Profile this kernel alone.
    #[arg(long)]
    only: Option<Kernel>,
    /// Show so many functions; the files have them all.
    #[arg(long, default_value_t = 30)]
    lines: usize,
    /// A kernel built with cargo-osdk to profile instead of this one.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
}

/// A kernel to profile.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kernel {
    Tessera,
    Linux,
}

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Self::Tessera => "Tessera",
            Self::Linux => "Linux",
        }
    }
}

/// Profiles an operation.
pub fn run(options: &Options) -> Result<ExitCode> {
    let folder = project::target("profile").join(&options.operation);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let bench = build_bench()?;
    let units = units(&bench, &options.operation)?;
    let plugin = build_plugin()?;

    let mut profiles = Vec::new();
    for kernel in [Kernel::Tessera, Kernel::Linux] {
        if options.only.is_some_and(|only| only != kernel) {
            continue;
        }
        let image = match (kernel, &options.kernel) {
            (Kernel::Tessera, Some(image)) => image.clone(),
            (Kernel::Tessera, None) => kernel::build()?,
            (Kernel::Linux, _) => linux::image()?,
        };
        let mut symbols = match kernel {
            Kernel::Tessera => Symbols::of_image(&image)?,
            Kernel::Linux => Symbols::of_list(&symbols_of_linux(&image)?),
        };
        eprintln!("tessera: profiling {} on {}", options.operation, kernel.name());
        let file =
            tempfile::NamedTempFile::new_in(&folder).context("no file can be made in target/profile")?;
        let mut load = OsString::from(&plugin);
        load.push(",out=");
        load.push(file.path());
        let command = format!("bench --rounds {} {}", options.rounds, options.operation);
        let output = boot(kernel, &image, &command, &[&bench], &["-plugin".into(), load])?;
        if !output.lines().any(|line| line.starts_with(&format!("ok {} ", options.operation))) {
            bail!("{} could not be measured on {}:\n{}", options.operation, kernel.name(), tail(&output, 10));
        }

        let trace = Trace::read(file.path())?;
        let title = format!("{} on {}", options.operation, kernel.name());
        let profile = Profile::new(&title, &trace, &mut symbols, options.rounds, units)?;
        let name = kernel.name().to_lowercase();
        fs::write(folder.join(format!("{name}.txt")), profile.table())
            .context("the table cannot be written")?;
        profile.draw(&folder.join(format!("{name}.svg")))?;
        profiles.push(profile);
    }
    print!("{}", side_by_side(&profiles.iter().collect::<Vec<_>>(), options.lines));
    println!("\nall functions, and the flame graphs: target/profile/{}/", options.operation);
    Ok(ExitCode::SUCCESS)
}

/// Builds the benchmark.
fn build_bench() -> Result<PathBuf> {
    let status = project::guest_cargo()
        .args(["build", "--release", "--quiet", "--target", "x86_64-unknown-linux-musl", "-p", "bench"])
        .stdin(Stdio::null())
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!("the benchmark does not build");
    }
    Ok(project::root().join("test/target/x86_64-unknown-linux-musl/release/bench"))
}

/// How often the operation is in one sample: the fourth column of the benchmark's list.
fn units(bench: &Path, operation: &str) -> Result<u64> {
    let list = Command::new(bench).arg("--list").output().context("the benchmark cannot be started here")?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let columns = list.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let Some(columns) = columns.into_iter().find(|columns| columns[0] == operation) else {
        bail!("no operation is called {operation}; `cargo xtask bench --list` shows their names");
    };
    columns.get(3).and_then(|units| units.parse().ok()).context("the benchmark's list has no fourth column")
}

/// Builds the plugin.
fn build_plugin() -> Result<PathBuf> {
    let plugin = project::target("profile/plugin.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-fvisibility=hidden", "-o"])
        .arg(&plugin)
        .arg(project::root().join("osdk/profile-plugin.c"))
        .status();
    match status {
        Ok(status) if status.success() => Ok(plugin),
        Ok(_) => bail!("osdk/profile-plugin.c does not build"),
        Err(error) => Err(error).context("cc cannot be started: is there a compiler of C?"),
    }
}

/// The symbols of Linux, which it is asked for once.
fn symbols_of_linux(image: &Path) -> Result<String> {
    let path = symbols_of_linux::file(image);
    if let Ok(symbols) = fs::read_to_string(&path) {
        return Ok(symbols);
    }
    eprintln!("tessera: asking Linux for its symbols");
    let output = boot(Kernel::Linux, image, symbols_of_linux::LIST_SYMBOLS, &[], &[])?;
    let symbols = symbols_of_linux::complete(&output)?;
    fs::write(&path, &symbols).context("the symbols of Linux cannot be kept in target/profile")?;
    Ok(symbols)
}

/// Boots a kernel to run a command line; returns what it wrote to the console.
fn boot(
    kernel: Kernel,
    image: &Path,
    command: &str,
    programs: &[&Path],
    arguments: &[OsString],
) -> Result<String> {
    let contents =
        Contents { program: programs.iter().map(|&path| path.to_owned()).collect(), ..Contents::default() };
    let mut tree = Tree::new(&contents)?;
    // Linux panics when its first program ends, and then the machine stops; by then the console has said it all.
    tree.add_session(&Session {
        terminal: None,
        login: false,
        term: None,
        command: Some(command.to_owned()),
        input: None,
    });
    fs::create_dir_all(project::target("run")).context("target/run cannot be made")?;
    let initramfs = tempfile::NamedTempFile::new_in(project::target("run"))
        .context("no file can be made in target/run")?;
    tree.write(initramfs.path())?;

    let mut file = tempfile::tempfile().context("no temporary file can be made")?;
    let console = Console::File(file.try_clone().context("a file cannot be shared")?);
    let machine = Machine {
        smp: 1,
        mem: "1G".to_owned(),
        icount: true,
        log: None,
        timeout: Some(LIMIT_IN_SECONDS),
        command_line: if kernel == Kernel::Linux { linux::COMMAND_LINE } else { "" }.to_owned(),
    };
    let outcome = guest::boot_with(&machine, image, initramfs.path(), &console, arguments)?;
    let output = read_all(&mut file)?;
    match outcome.ended {
        Ended::Itself(status) if kernel == Kernel::Tessera && outcome.status.is_none() => bail!(
            "Tessera broke (QEMU: {}); the end of its log:\n{}",
            child::describe(status),
            tail(&outcome.log, 20)
        ),
        Ended::Itself(_) => Ok(output),
        Ended::TimedOut => bail!("{} did not end in time; it said:\n{}", kernel.name(), tail(&output, 20)),
        Ended::Interrupted(_) => bail!("interrupted"),
    }
}

const LIMIT_IN_SECONDS: u64 = 300;

fn read_all(file: &mut File) -> Result<String> {
    let mut output = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut output))
        .context("the console's output cannot be read")?;
    Ok(String::from_utf8_lossy(&output).replace('\r', ""))
}
