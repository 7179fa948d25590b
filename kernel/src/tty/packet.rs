// SPDX-License-Identifier: MPL-2.0

//! Packet mode: a master that is told what happens to its terminal, beside what is written there (`ioctl_tty(2)`, `TIOCPKT`).
//!
//! In this mode each read of the master begins with a byte: 0 before data, or, alone, the bits `TIOCPKT_*` of what has
//! happened since the last such read. Bits that undo each other do not stand together.

use linux_raw_sys::general::{
    EXTPROC, IXON, TIOCPKT_DOSTOP, TIOCPKT_FLUSHREAD, TIOCPKT_FLUSHWRITE, TIOCPKT_IOCTL, TIOCPKT_NOSTOP,
    TIOCPKT_START, TIOCPKT_STOP, VSTART, VSTOP,
};

use super::termios::Termios;

/// What has happened to a terminal.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Input that nobody had read was thrown away.
    InputFlushed,
    /// Output that nobody had seen was thrown away.
    OutputFlushed,
    /// Output was stopped.
    Stopped,
    /// Output goes on.
    Started,
    /// The settings were other ones.
    Settings {
        /// What they were.
        old: Termios,
        /// What they are.
        new: Termios,
    },
}

impl Change {
    /// The bits that stand for it, and those that no longer hold.
    fn bits(self) -> (u32, u32) {
        match self {
            Self::InputFlushed => (TIOCPKT_FLUSHREAD, 0),
            Self::OutputFlushed => (TIOCPKT_FLUSHWRITE, 0),
            Self::Stopped => (TIOCPKT_STOP, TIOCPKT_START),
            Self::Started => (TIOCPKT_START, TIOCPKT_STOP),
            Self::Settings { old, new } => {
                let external = match old.has_local(EXTPROC) || new.has_local(EXTPROC) {
                    true => TIOCPKT_IOCTL,
                    false => 0,
                };
                match (has_usual_flow_control(&old), has_usual_flow_control(&new)) {
                    (false, true) => (external | TIOCPKT_DOSTOP, TIOCPKT_NOSTOP),
                    (true, false) => (external | TIOCPKT_NOSTOP, TIOCPKT_DOSTOP),
                    _ => (external, 0),
                }
            }
        }
    }
}

/// Whether Ctrl-S stops output and Ctrl-Q lets it go on, so that whoever has the master may do it himself.
fn has_usual_flow_control(termios: &Termios) -> bool {
    termios.has_input(IXON) && termios.is_char(VSTOP, 0x13) && termios.is_char(VSTART, 0x11)
}

/// Packet mode, and what is to be told in it.
#[derive(Default)]
pub struct PacketMode {
    is_on: bool,
    status: u8,
}

impl PacketMode {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Turns it on or off. What happened before it was on is not told.
    pub fn set(&mut self, is_on: bool) {
        if is_on && !self.is_on {
            self.status = 0;
        }
        self.is_on = is_on;
    }

    /// Notes a change. Answers whether there is something to tell.
    pub fn note(&mut self, change: Change) -> bool {
        let (set, clear) = change.bits();
        if self.is_on && set != 0 {
            self.status = self.status & !(clear as u8) | set as u8;
        }
        self.is_on && set != 0
    }

    /// Whether something is to be told.
    pub fn has_status(&self) -> bool {
        self.is_on && self.status != 0
    }

    /// What is to be told, once.
    pub fn take_status(&mut self) -> Option<u8> {
        self.has_status().then(|| core::mem::take(&mut self.status))
    }

    /// Takes back a status that could not be told.
    pub fn untake_status(&mut self, status: u8) {
        self.status |= status;
    }
}
