// SPDX-License-Identifier: MPL-2.0

//! The user's terminal, given back as it was.
//!
//! QEMU puts the terminal into raw mode and its file descriptors into non-blocking mode, so that every key,
//! Ctrl-C among them, reaches the guest. It undoes that when it ends well; [`Saved`] undoes it always.

use std::{
    io::{IsTerminal, stdin, stdout},
    thread,
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    termios::{LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};

/// The state of standard input and output, put back on drop.
pub struct Saved {
    terminal: Option<Termios>,
    input: Option<OFlags>,
    output: Option<OFlags>,
}

impl Saved {
    /// Notes how standard input and output are now.
    pub fn new() -> Self {
        Self {
            terminal: tcgetattr(stdin()).ok(),
            input: fcntl_getfl(stdin()).ok(),
            output: fcntl_getfl(stdout()).ok(),
        }
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        // Nobody is left to tell should one of these fail.
        if let Some(terminal) = &self.terminal {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, terminal);
        }
        if let Some(flags) = self.input {
            let _ = fcntl_setfl(stdin(), flags);
        }
        if let Some(flags) = self.output {
            let _ = fcntl_setfl(stdout(), flags);
        }
    }
}

/// Takes output processing off the terminal as soon as QEMU has put it into raw mode.
///
/// QEMU leaves it on, which would turn each newline that the guest has already processed into another one.
pub fn make_output_raw_soon() {
    const POLL: Duration = Duration::from_millis(10);
    const TRIES: u32 = 1000;
    thread::spawn(|| {
        for _ in 0..TRIES {
            let Ok(mut terminal) = tcgetattr(stdin()) else { return };
            if !terminal.local_modes.contains(LocalModes::ICANON) {
                terminal.output_modes.remove(OutputModes::OPOST);
                // Without it the screen is less pretty, no more.
                let _ = tcsetattr(stdin(), OptionalActions::Now, &terminal);
                return;
            }
            thread::sleep(POLL);
        }
    });
}

/// Whether somebody sits in front of this: both input and output are a terminal.
pub fn is_attended() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// The terminal's size in rows and columns, if it has one.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
