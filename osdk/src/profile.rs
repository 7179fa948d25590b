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
    fs,
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::{
    report::{Profile, side_by_side},
    symbols::Symbols,
    trace::Trace,
};
use crate::{
    bench::{self, Kernel},
    child::Ended,
    guest::{self, Console, Machine, Outcome, tail},
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
    /// Say who calls the functions whose names contain this.
    #[arg(long, value_name = "NAME")]
    callers: Vec<String>,
    /// A kernel built with cargo-osdk to profile instead of this one.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
}

/// Profiles an operation.
pub fn run(options: &Options) -> Result<ExitCode> {
    let folder = project::target("profile").join(&options.operation);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let program = bench::build()?;
    let units = units(&program, &options.operation)?;
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
        let measured = measure(kernel, &image, &program, options, &["-plugin".into(), load])?;

        let trace = Trace::read(file.path())?;
        let title = format!("{} on {}", options.operation, kernel.name());
        let profile = Profile::new(&title, &trace, &mut symbols, options.rounds, units, measured)?;
        let name = kernel.name().to_lowercase();
        fs::write(folder.join(format!("{name}.txt")), profile.table())
            .context("the table cannot be written")?;
        profile.draw(&folder.join(format!("{name}.svg")))?;
        profiles.push(profile);
    }
    print!("{}", side_by_side(&profiles.iter().collect::<Vec<_>>(), options.lines));
    for name in &options.callers {
        profiles.iter().for_each(|profile| print!("{}", profile.callers(name, options.lines)));
    }
    println!("\nall functions, and the flame graphs: target/profile/{}/", options.operation);
    Ok(ExitCode::SUCCESS)
}

/// How often the operation is in one sample: the fourth column of the benchmark's list.
fn units(program: &Path, operation: &str) -> Result<u64> {
    let list =
        Command::new(program).arg("--list").output().context("the benchmark cannot be started here")?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    let Some(columns) = rows.iter().find(|columns| columns[0] == operation) else {
        let names: Vec<&str> = rows.iter().filter(|row| row.len() > 1).map(|row| row[0]).collect();
        bail!("no operation is called {operation}; there are: {}", names.join(" "));
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
    let mut tree = Tree::new(&Contents::default())?;
    // Linux panics when its first program ends, and then the machine stops; by then the console has said it all.
    tree.add_session(&Session {
        terminal: None,
        login: false,
        term: None,
        command: Some(symbols_of_linux::LIST_SYMBOLS.to_owned()),
        input: None,
    });
    let (_, output) = boot(Kernel::Linux, image, &tree, "", &[])?;
    let symbols = symbols_of_linux::complete(&output)?;
    fs::write(&path, &symbols).context("the symbols of Linux cannot be kept in target/profile")?;
    Ok(symbols)
}

/// Boots a kernel as `make bench` does, to run the operation; returns what the benchmark's own clock says.
fn measure(
    kernel: Kernel,
    image: &Path,
    program: &Path,
    options: &Options,
    arguments: &[OsString],
) -> Result<u64> {
    let tree = Tree::with_init(program)?;
    let command = format!(" -- --rounds {} {}", options.rounds, options.operation);
    let (outcome, output) = boot(kernel, image, &tree, &command, arguments)?;
    let start = format!("ok {} ", options.operation);
    let figure = output.lines().find_map(|line| line.strip_prefix(&start)?.split(' ').next()?.parse().ok());
    let Some(figure) = figure else {
        let said = tail(&output, 10) + &tail(&outcome.log, 20);
        bail!("{} could not be measured on {}:\n{said}", options.operation, kernel.name());
    };
    Ok(figure)
}

/// Boots a kernel; returns how that ended, and what was written to the console.
fn boot(
    kernel: Kernel,
    image: &Path,
    tree: &Tree,
    command: &str,
    arguments: &[OsString],
) -> Result<(Outcome, String)> {
    const LIMIT_IN_SECONDS: u64 = 300;

    fs::create_dir_all(project::target("run")).context("target/run cannot be made")?;
    let initramfs = tempfile::NamedTempFile::new_in(project::target("run"))
        .context("no file can be made in target/run")?;
    tree.write(initramfs.path())?;

    let mut file = tempfile::tempfile().context("no temporary file can be made")?;
    let console = Console::File(file.try_clone().context("a file cannot be shared")?);
    let options = if kernel == Kernel::Linux { linux::COMMAND_LINE } else { "" };
    let machine = Machine {
        icount: true,
        timeout: Some(LIMIT_IN_SECONDS),
        command_line: format!("{options}{command}"),
        ..Machine::default()
    };
    let outcome = guest::boot_with(&machine, image, initramfs.path(), &console, arguments)?;
    let mut output = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut output))
        .context("the console's output cannot be read")?;
    let output = String::from_utf8_lossy(&output).replace('\r', "");
    match outcome.ended {
        Ended::Itself(_) => Ok((outcome, output)),
        Ended::TimedOut => bail!("{} did not end in time; it said:\n{}", kernel.name(), tail(&output, 20)),
        Ended::Interrupted(_) => bail!("interrupted"),
    }
}
