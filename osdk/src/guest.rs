// SPDX-License-Identifier: MPL-2.0

//! One boot of the kernel in QEMU, and how it ended.
//!
//! The contract with the kernel (`docs/src/boot.md`) has three channels:
//!
//! ```text
//! COM1            the console: what programs write and read, nothing else
//! port 0xe9       the kernel's log; its last line is "exit: N" when init ended with status N
//! port 0xf4       ends QEMU (isa-debug-exit)
//! ```

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::{ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    child::{self, Ended, Reach},
    project,
    terminal::{Saved, make_output_raw_soon},
};

/// The status of a run that told no status of its own: this tool or the kernel broke.
pub const STATUS_BROKEN: u8 = 125;
/// The status of a run that did not end in time, as of `timeout(1)`.
pub const STATUS_TIMED_OUT: u8 = 124;

const QEMU: &str = "qemu-system-x86_64";

/// The machine that QEMU simulates.
#[derive(Args, Clone)]
pub struct Machine {
    /// Number of processors.
    #[arg(long, default_value_t = 1)]
    pub smp: u32,
    /// Memory, in QEMU's notation; the kernel needs 256M at least.
    #[arg(long, default_value = "1G")]
    pub mem: String,
    /// Let time be the number of instructions executed, which makes every run alike.
    #[arg(long)]
    pub icount: bool,
    /// The least severe messages the kernel logs: off, error, warn, info, debug or trace.
    #[arg(long)]
    pub log: Option<String>,
    /// How programs are forked: copy their page tables, always lend them from a backup, or decide by their size.
    #[arg(long, value_parser = ["by-size", "copy", "backup"])]
    pub fork: Option<String>,
    /// Give up after so many seconds.
    #[arg(long)]
    pub timeout: Option<u64>,
    /// What else the kernel is told on its command line.
    #[arg(skip)]
    pub command_line: String,
    /// Where its log comes out.
    #[arg(skip)]
    pub log_port: LogPort,
}

impl Default for Machine {
    /// One processor and 1 GiB, without a time limit.
    fn default() -> Self {
        Self {
            smp: 1,
            mem: "1G".to_owned(),
            icount: false,
            log: None,
            fork: None,
            timeout: None,
            command_line: String::new(),
            log_port: LogPort::default(),
        }
    }
}

/// Where a kernel's log comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogPort {
    /// Port 0xe9.
    #[default]
    Debug,
    /// The second serial port, for kernels that let no program write to other ports.
    Serial,
}

impl Machine {
    /// The same machine, for another kernel, which is told this.
    pub fn for_linux(&self, command_line: String) -> Self {
        Self { command_line, log_port: LogPort::Serial, ..self.clone() }
    }
}

/// What the guest's console is connected to.
pub enum Console {
    /// The user's terminal, in raw mode. Ctrl-A x ends QEMU, Ctrl-A Ctrl-A is Ctrl-A.
    Terminal,
    /// Standard input and output as they are; the end of the input is typed as Ctrl-D.
    Pipes,
    /// Standard output, byte for byte; there is no input.
    Output,
    /// A file, byte for byte; there is no input.
    File(File),
}

/// How a boot ended.
pub struct Outcome {
    /// How QEMU ended.
    pub ended: Ended,
    /// The status that init ended with, if the kernel told it.
    pub status: Option<u8>,
    /// The kernel's log.
    pub log: String,
}

/// Boots the kernel with an initramfs and waits for its end.
///
/// The kernel's log of the last boot is left in `target/run/kernel.log`.
///
/// # Errors
///
/// When QEMU is missing or cannot be started. Whatever happens in the guest is an [`Outcome`].
pub fn boot(machine: &Machine, kernel: &Path, initramfs: &Path, console: &Console) -> Result<Outcome> {
    boot_with(machine, kernel, initramfs, console, &[])
}

/// Boots like [`boot`], with more arguments for QEMU.
pub fn boot_with(
    machine: &Machine,
    kernel: &Path,
    initramfs: &Path,
    console: &Console,
    more: &[OsString],
) -> Result<Outcome> {
    let scratch = tempfile::Builder::new()
        .prefix("boot-")
        .tempdir_in(project::target("run"))
        .context("no folder can be made in target/run")?;
    let log_path = scratch.path().join("kernel.log");
    File::create(&log_path).context("no file can be made in target/run")?;

    let mut qemu = Command::new(QEMU);
    qemu.args(arguments(machine, console));
    qemu.arg("-chardev").arg(with_path("file,id=log,path=", &log_path));
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    let option = |name, value: &Option<String>| {
        value.as_ref().map(|value| format!("{name}={value} ")).unwrap_or_default()
    };
    let command_line = option("log", &machine.log) + &option("fork", &machine.fork) + &machine.command_line;
    if !command_line.is_empty() {
        qemu.arg("-append").arg(command_line);
    }
    qemu.args(more);
    match console {
        Console::Terminal => &mut qemu,
        Console::Pipes => qemu.stdin(Stdio::piped()),
        Console::Output => qemu.stdin(Stdio::null()),
        Console::File(file) => {
            qemu.stdin(Stdio::null()).stdout(file.try_clone().context("the file of the console is gone")?)
        }
    };

    child::catch_signals();
    let saved = Saved::new();
    let mut qemu = match qemu.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{QEMU} is missing; on Debian it is in the package qemu-system-x86")
        }
        Err(error) => return Err(error).context(format!("{QEMU} cannot be started")),
    };
    if matches!(console, Console::Terminal) {
        make_output_raw_soon();
    }
    if let Some(keyboard) = qemu.stdin.take() {
        thread::spawn(move || type_input(keyboard));
    }
    let ended = child::wait(&mut qemu, machine.timeout.map(Duration::from_secs), Reach::Child);
    drop(saved);

    let log = String::from_utf8_lossy(&fs::read(&log_path).unwrap_or_default()).into_owned();
    // For the user to read; that it cannot be kept is no reason to fail.
    let _ = fs::copy(&log_path, project::target("run/kernel.log"));
    Ok(Outcome { ended: ended?, status: exit_status(&log), log })
}

/// Types standard input, and then Ctrl-D until QEMU ends.
///
/// Once would not do: a program that changes the terminal's mode at that moment does not get to see it.
fn type_input(mut keyboard: ChildStdin) {
    const END_OF_FILE: &[u8] = b"\x04";
    const PAUSE: Duration = Duration::from_secs(1);
    // Should QEMU be gone, there is nobody to type for.
    let mut typed = io::copy(&mut io::stdin(), &mut keyboard).map(|_| ());
    while typed.is_ok() {
        typed = keyboard.write_all(END_OF_FILE).and_then(|()| keyboard.flush());
        thread::sleep(PAUSE);
    }
}

/// QEMU's arguments but for the files it is given.
fn arguments(machine: &Machine, console: &Console) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "-machine",
        "q35",
        "-cpu",
        "max",
        "-no-reboot",
        "-display",
        "none",
        "-nodefaults",
        "-no-user-config",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-serial",
        "chardev:console",
        "-m",
        &machine.mem,
        "-smp",
        &machine.smp.to_string(),
    ]
    .map(str::to_owned)
    .into();
    let console: &[&str] = match console {
        Console::Terminal => {
            &["-chardev", "stdio,id=console,mux=on,signal=off", "-mon", "chardev=console,mode=readline"]
        }
        Console::Pipes | Console::Output | Console::File(_) => {
            &["-chardev", "stdio,id=console,signal=on", "-monitor", "none"]
        }
    };
    arguments.extend(console.iter().map(|&argument| argument.to_owned()));
    let log: [&str; 2] = match machine.log_port {
        LogPort::Debug => ["-device", "isa-debugcon,iobase=0xe9,chardev=log"],
        LogPort::Serial => ["-serial", "chardev:log"],
    };
    arguments.extend(log.map(str::to_owned));
    if machine.icount {
        // The processor's random numbers and the clock on the board are to be the same each time, too.
        let alike = ["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "clock=vm"];
        arguments.extend(alike.map(str::to_owned));
    }
    arguments
}

/// An option of QEMU that ends in a path; a comma is doubled there.
fn with_path(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path.to_string_lossy().replace(',', ",,"));
    argument
}

/// The status in the last `exit: N` line of the kernel's log.
fn exit_status(log: &str) -> Option<u8> {
    log.lines().rev().find_map(|line| line.trim_end().strip_prefix("exit: "))?.parse().ok()
}

/// The last lines of a log, each indented.
pub fn tail(log: &str, most: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.len().saturating_sub(most);
    lines[start..].iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::{exit_status, tail};

    #[test]
    fn status_is_taken_from_the_last_exit_line() {
        assert_eq!(exit_status("boot\nexit: 1\nexit: 139\n"), Some(139));
        assert_eq!(exit_status("boot\r\nexit: 0\r\n"), Some(0));
        assert_eq!(exit_status("panicked: exit: 3"), None);
        assert_eq!(exit_status(""), None);
    }

    #[test]
    fn tail_is_never_longer_than_asked() {
        assert_eq!(tail("a\nb\nc", 2), "  b\n  c\n");
        assert_eq!(tail("a", 2), "  a\n");
    }
}
