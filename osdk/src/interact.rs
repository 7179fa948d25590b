// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask interact`: somebody at the terminal, played by a script.
//!
//! `cargo xtask run` is started on a pseudo-terminal; what a user would type is typed, and what they would see is
//! waited for. At the end the terminal must be as it was. The whole conversation is printed.
//!
//! ```text
//! script ──► pty ──► cargo xtask run ──► QEMU ──► COM1 ──► the guest's shell
//! ```

use std::{
    env,
    fs::File,
    io::{self, Read, Write, stdout},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, ExitCode},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    child::{self, Ended, Reach},
    kernel,
};

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// Make only the visits of these names.
    names: Vec<String>,
}

/// One visit: the programs in the root, what is typed and awaited, and the status to leave with.
struct Visit {
    name: &'static str,
    root: &'static str,
    steps: &'static [Step],
    status: i32,
}

/// One thing somebody at the terminal does.
enum Step {
    /// Waits until this is on the screen, after what was waited for before.
    See(&'static str),
    /// Types this; `\r` is the return key.
    Type(&'static str),
    /// Waits a moment, so that a program that was started gets to wait for keys.
    Pause,
}

use Step::{Pause, See, Type};

/// The prompt of a login shell, wherever it is.
const PROMPT: &str = "# ";

const VISITS: &[Visit] = &[
    Visit {
        name: "exit",
        root: "busybox",
        steps: &[See(PROMPT), Type("echo $((6 * 7))\r"), See("\n42\r\n"), See(PROMPT), Type("exit 3\r")],
        // login(1) keeps the shell's status to itself.
        status: 0,
    },
    Visit { name: "poweroff", root: "busybox", steps: &[See(PROMPT), Type("poweroff\r")], status: 0 },
    Visit {
        name: "poweroff-in-a-script",
        root: "busybox",
        steps: &[See(PROMPT), Type("sh -c 'poweroff; sleep 60'\r")],
        status: 0,
    },
    Visit {
        name: "end-of-file",
        root: "busybox",
        steps: &[See(PROMPT), Type("false\r"), See(PROMPT), Type("\x04")],
        status: 0,
    },
    Visit {
        name: "window-size",
        root: "busybox",
        steps: &[See(PROMPT), Type("stty size\r"), See("\n33 99\r\n"), See(PROMPT), Type("exit\r")],
        status: 0,
    },
    Visit {
        name: "interrupt",
        root: "busybox",
        steps: &[
            See(PROMPT),
            Type("sleep 1000\r"),
            Pause,
            Type("\x03"),
            See(PROMPT),
            Type("echo status=$?\r"),
            See("\nstatus=130\r\n"),
            See(PROMPT),
            Type("cat\r"),
            Pause,
            Type("line\r"),
            See("\nline\r\nline\r\n"),
            Type("\x03"),
            See(PROMPT),
            Type("exit 0\r"),
        ],
        status: 0,
    },
    Visit {
        name: "job-control",
        root: "busybox",
        steps: &[
            See(PROMPT),
            Type("sleep 1000\r"),
            Pause,
            Type("\x1a"),
            See("Stopped"),
            See(PROMPT),
            Type("jobs\r"),
            See("Stopped"),
            See(PROMPT),
            Type("bg\r"),
            See(PROMPT),
            Type("kill %1; wait %1; echo status=$?\r"),
            See("\nstatus=143\r\n"),
            See(PROMPT),
            Type("exit 0\r"),
        ],
        status: 0,
    },
    Visit {
        name: "bash",
        root: "debian",
        steps: &[
            See(PROMPT),
            Type("echo $BASH_VERSION\r"),
            See("5.2.15"),
            See(PROMPT),
            Type("sleep 1000\r"),
            Pause,
            Type("\x1a"),
            See("Stopped"),
            See(PROMPT),
            Type("kill %1; wait; echo $((6 * 7))\r"),
            See("42\r\n"),
            See(PROMPT),
            // The line before, from the history.
            Type("\x1b[A\r"),
            See("42\r\n"),
            See(PROMPT),
            Type("exit\r"),
        ],
        status: 0,
    },
    Visit {
        name: "vi",
        root: "busybox",
        steps: &[
            See(PROMPT),
            Type("vi /tmp/poem\r"),
            See("/tmp/poem"),
            Pause,
            Type("ia tile of a mosaic"),
            Pause,
            Type("\x1b"),
            Pause,
            Type(":wq\r"),
            See(PROMPT),
            Type("cat /tmp/poem\r"),
            See("\na tile of a mosaic\r\n"),
            See(PROMPT),
            Type("exit 0\r"),
        ],
        status: 0,
    },
];

/// Makes every visit and sums up.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(unknown) = options.names.iter().find(|name| VISITS.iter().all(|visit| visit.name != *name)) {
        bail!("no visit is called {unknown}");
    }
    // So that no visit waits for it.
    kernel::build()?;
    let (mut passed, mut failed) = (0, 0);
    let is_wanted =
        |visit: &&Visit| options.names.is_empty() || options.names.iter().any(|name| name == visit.name);
    for visit in VISITS.iter().filter(is_wanted) {
        println!("---- {}", visit.name);
        match pay(visit)? {
            Ok(()) => {
                passed += 1;
                println!("\nok {}", visit.name);
            }
            Err(why) => {
                failed += 1;
                println!("\nFAIL {}: {why}", visit.name);
            }
        }
    }
    println!("terminal: {passed} passed, {failed} failed, 0 skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Pays one visit; the inner result is the visit's own.
fn pay(visit: &Visit) -> Result<Result<(), String>> {
    let (ours, theirs) = open_pty().context("no pseudo-terminal can be had")?;
    let before = settings(&tcgetattr(&theirs)?);
    let tool = env::current_exe().context("this program cannot be found")?;
    let mut child = Command::new(tool)
        .args(["run", "--timeout", "120", "--root", visit.root])
        .env_remove("TESSERA_CMD")
        .env("TERM", "vt100")
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs.try_clone()?)
        .process_group(0)
        .spawn()
        .context("this program cannot be started again")?;

    let mut screen = Screen::new(ours)?;
    let talked = visit.steps.iter().try_for_each(|step| screen.play(step));
    let limit = if talked.is_ok() { Duration::from_secs(30) } else { Duration::ZERO };
    let ended = child::wait(&mut child, Some(limit), Reach::Group)?;
    screen.drain();
    if let Err(why) = talked {
        return Ok(Err(why));
    }
    Ok(match ended {
        Ended::Itself(status) if status.code() == Some(visit.status) => {
            let same = settings(&tcgetattr(&theirs)?) == before;
            if same { Ok(()) } else { Err("the terminal is not as it was".to_owned()) }
        }
        Ended::Itself(status) => Err(format!("{}, not {}", child::describe(status), visit.status)),
        Ended::TimedOut => Err("it did not end".to_owned()),
        Ended::Interrupted(_) => bail!("interrupted"),
    })
}

/// A pseudo-terminal of an unusual size: our end and theirs.
fn open_pty() -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs =
        rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&theirs, Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((ours, theirs))
}

/// What of a terminal's state must be given back.
fn settings(terminal: &Termios) -> [String; 4] {
    let Termios { input_modes, output_modes, local_modes, control_modes, .. } = terminal;
    [
        format!("{input_modes:?}"),
        format!("{output_modes:?}"),
        format!("{local_modes:?}"),
        format!("{control_modes:?}"),
    ]
}

/// What the guest shows, and the keyboard.
struct Screen {
    keyboard: File,
    shown: Receiver<Vec<u8>>,
    /// What was shown since the last thing that was waited for.
    unseen: String,
}

impl Screen {
    fn new(pty: OwnedFd) -> Result<Self> {
        let keyboard = File::from(pty);
        let mut screen = keyboard.try_clone().context("a pseudo-terminal cannot be shared")?;
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { keyboard, shown, unseen: String::new() })
    }

    fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            See(text) => self.see(text),
            Type(keys) => self.keyboard.write_all(keys.as_bytes()).map_err(|error| error.to_string()),
            Pause => {
                thread::sleep(Duration::from_secs(2));
                Ok(())
            }
        }
    }

    fn see(&mut self, text: &str) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(position) = self.unseen.find(text) {
                self.unseen.drain(..position + text.len());
                return Ok(());
            }
            match self.shown.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => return Err(format!("{text:?} was not seen")),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("the end came before {text:?}")),
            }
        }
    }

    /// Shows what is still to come.
    fn drain(&mut self) {
        while let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(200)) {
            self.take(&bytes);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        print!("{text}");
        // Should nobody read it any more, the visit goes on.
        let _ = stdout().flush();
        self.unseen += &text;
    }
}
