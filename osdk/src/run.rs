// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask run`: a shell on the kernel, or one command line under it.
//!
//! The command line comes in `$TESSERA_CMD`, so that no quoting stands between the user and the shell, and
//! travels to `/init` as a file. With somebody at the terminal, the command has it; otherwise its output comes
//! out byte for byte, and its input is the file that standard input is, if it is one. A shell without anybody at
//! the terminal reads what standard input has.
//!
//! With `--linux` the same root and the same command run under Debian's Linux, and end with the same status.

use std::{
    env, fs,
    io::{Read, stdin},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    child::{self, Ended},
    guest::{self, Console, Machine, Outcome, STATUS_BROKEN, STATUS_TIMED_OUT, tail},
    initramfs::{self, Session, Tree},
    kernel, linux, project, terminal,
};

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    contents: initramfs::Contents,
    /// Show the kernel's log afterwards.
    #[arg(long, short)]
    verbose: bool,
    /// Boot Debian's Linux instead.
    #[arg(long)]
    linux: bool,
}

/// Boots, and ends with the guest's status.
pub fn run(options: &Options) -> Result<ExitCode> {
    let command = env::var("TESSERA_CMD").ok().filter(|command| !command.trim().is_empty());
    let attended = terminal::is_attended();
    let console = match &command {
        _ if attended => Console::Terminal,
        Some(_) => Console::Output,
        None => Console::Pipes,
    };

    let mut tree = Tree::new(&options.contents)?;
    tree.add_session(&Session {
        terminal: match console {
            Console::Terminal => Some(terminal::size()),
            Console::Pipes => Some(None),
            Console::Output | Console::File(_) => None,
        },
        login: attended,
        term: env::var("TERM").ok(),
        input: if matches!(console, Console::Output) { input_file()? } else { None },
        command: command.clone(),
    });
    let (kernel, machine) = if options.linux {
        (linux::image()?, options.machine.for_linux(linux::prepare(&mut tree)))
    } else {
        (kernel::build()?, options.machine.clone())
    };
    fs::create_dir_all(project::target("run")).context("target/run cannot be made")?;
    let initramfs = tempfile::Builder::new()
        .prefix("initramfs-")
        .tempfile_in(project::target("run"))
        .context("no file can be made in target/run")?;
    tree.write(initramfs.path())?;

    if command.is_none() && attended {
        eprintln!("tessera: leave the shell or type poweroff to come back; Ctrl-A x ends QEMU at once");
    }
    let outcome = guest::boot(&machine, &kernel, initramfs.path(), &console)?;
    if options.verbose {
        eprint!("{}", outcome.log);
    }
    Ok(ExitCode::from(status(&outcome, command.is_some(), options)))
}

/// The status to end with; what went wrong is said on standard error.
fn status(outcome: &Outcome, is_command: bool, options: &Options) -> u8 {
    const LINES: usize = 20;
    match (outcome.ended, outcome.status) {
        (Ended::Interrupted(signal), _) => 128 + signal as u8,
        (Ended::Itself(_), Some(status)) => status,
        (Ended::TimedOut, _) => {
            eprintln!(
                "tessera: error: the guest did not end within {} s; the end of its log:\n{}",
                options.machine.timeout.unwrap_or_default(),
                tail(&outcome.log, LINES)
            );
            STATUS_TIMED_OUT
        }
        // QEMU ended from its own menu: that is how somebody leaves a shell that hangs.
        (Ended::Itself(qemu), None) if qemu.success() && !is_command => 0,
        (Ended::Itself(qemu), None) => {
            eprintln!(
                "tessera: error: the kernel stopped without a status of init (QEMU: {}); the end of its log:\n{}",
                child::describe(qemu),
                tail(&outcome.log, LINES)
            );
            STATUS_BROKEN
        }
    }
}

/// The contents of standard input if it is a file.
///
/// A pipe is left alone: nobody knows whether it ever ends.
fn input_file() -> Result<Option<Vec<u8>>> {
    let is_file = fs::metadata("/dev/stdin").is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Ok(None);
    }
    let mut contents = Vec::new();
    stdin().read_to_end(&mut contents).context("standard input cannot be read")?;
    Ok(Some(contents))
}
