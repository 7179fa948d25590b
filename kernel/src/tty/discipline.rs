// SPDX-License-Identifier: MPL-2.0

//! The line discipline (`N_TTY`): from bytes typed to bytes read, and from bytes written to bytes shown.
//!
//! ```text
//!   typed ─► map (ICRNL..) ─► signals (ISIG) ─► edit a line (ICANON) ─► line ─► ready ─► read
//!                                  │                   │
//!                                  ▼ event             ▼ echo
//!   written ─► OPOST, ONLCR.. ─────────────────────────┴─► shown
//! ```
//!
//! The discipline is a value: it sends no signals and waits for nothing, it says what happened ([`Event`]) and what is to be
//! shown. The terminal around it ([`super::Tty`]) does the rest. See `termios(3)`.
//!
//! Invariant: `ends` are ascending positions in the stream of ready bytes at which a line ends; a position is counted from
//! the first byte that was ever ready.

use alloc::collections::LinkedList;
use core::ops::Deref;

use linux_raw_sys::general::{
    ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHONL, ICRNL, IEXTEN, IGNCR, INLCR, ISIG, ISTRIP, IUCLC, IUTF8,
    IXANY, IXON, NOFLSH, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, SIGINT, SIGQUIT, SIGTSTP, VEOF, VEOL,
    VEOL2, VERASE, VINTR, VKILL, VLNEXT, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VWERASE,
};

use super::termios::Termios;
use crate::prelude::*;

/// How many bytes of input are kept; what is typed beyond is lost, and the bell rings in vain.
const CAPACITY: usize = 4096;

const TAB_WIDTH: usize = 8;

/// What typing a byte has led to, beside input and echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The foreground group is to get this signal.
    Signal(u8),
    /// Output is to stop.
    Stop,
    /// Output is to go on.
    Start,
}

/// Bytes to be shown. One byte typed can lead to very many; those that there is no memory for are lost.
#[derive(Default)]
pub struct Shown(Vec<u8>);

impl Shown {
    fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        if try_reserve(&mut self.0, bytes.len()).is_ok() {
            self.0.extend_from_slice(bytes);
        }
    }
}

impl Deref for Shown {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A line discipline's state.
pub struct Discipline {
    /// The terminal's settings.
    pub termios: Termios,
    /// The line being edited.
    line: Vec<u8>,
    ready: VecDeque<u8>,
    ends: LinkedList<u64>,
    /// How many ready bytes were read so far.
    taken: u64,
    /// The next byte is to be taken literally (`VLNEXT`).
    is_literal: bool,
    is_stopped: bool,
    /// Where the cursor is in its line.
    column: usize,
    /// Where it was when the line being edited began.
    line_column: usize,
}

impl Discipline {
    /// A discipline with Linux's settings at the start.
    pub fn new() -> Self {
        Self {
            termios: Termios::default(),
            line: Vec::new(),
            ready: VecDeque::new(),
            ends: LinkedList::new(),
            taken: 0,
            is_literal: false,
            is_stopped: false,
            column: 0,
            line_column: 0,
        }
    }

    /// Whether output was stopped by `VSTOP`.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Stops output, or lets it go on.
    pub fn set_stopped(&mut self, is_stopped: bool) {
        self.is_stopped = is_stopped;
    }

    /// Changes the settings. Leaving canonical mode makes the line being edited ready to be read.
    pub fn set_termios(&mut self, termios: Termios) {
        let was_canonical = self.termios.is_canonical();
        self.termios = termios;
        if was_canonical && !termios.is_canonical() {
            let line = core::mem::take(&mut self.line);
            self.ready.extend(line);
            self.ends.clear();
        } else if !was_canonical && termios.is_canonical() && !self.ready.is_empty() {
            self.ends.push_back(self.end_position());
        }
    }

    /// How many bytes a read would get at once (`FIONREAD`).
    pub fn available(&self) -> usize {
        match self.ends.back() {
            Some(end) if self.termios.is_canonical() => (end - self.taken) as usize,
            _ if self.termios.is_canonical() => 0,
            _ => self.ready.len(),
        }
    }

    /// Whether a canonical read would not wait.
    pub fn has_line(&self) -> bool {
        !self.ends.is_empty()
    }

    /// How many bytes can be taken in. While a line is edited there is no bound: what does not fit is lost, since nobody can
    /// read before the line has ended.
    pub fn input_room(&self) -> usize {
        match self.termios.is_canonical() && self.ends.is_empty() {
            true => usize::MAX,
            // Each line's end needs room, which is always kept.
            false => self.room().saturating_sub(1),
        }
    }

    /// Forgets all input that was not read.
    pub fn flush_input(&mut self) {
        self.taken += self.ready.len() as u64;
        self.ready.clear();
        self.line.clear();
        self.ends.clear();
        self.is_literal = false;
    }

    /// Takes input: at most one line in canonical mode, what there is otherwise. `None` if there is nothing; an empty
    /// result is the end of the file (`VEOF`).
    pub fn take(&mut self, max: usize) -> Option<Vec<u8>> {
        if !self.termios.is_canonical() {
            let count = self.ready.len().min(max);
            self.taken += count as u64;
            return (count > 0).then(|| self.ready.drain(..count).collect());
        }
        let end = *self.ends.front()?;
        let count = ((end - self.taken) as usize).min(max);
        self.taken += count as u64;
        if self.taken == end {
            self.ends.pop_front();
        }
        Some(self.ready.drain(..count).collect())
    }

    /// Gives back the bytes that [`take`](Self::take) took last but that could not be delivered.
    pub fn untake(&mut self, bytes: &[u8]) {
        bytes.iter().rev().for_each(|byte| self.ready.push_front(*byte));
        self.taken -= bytes.len() as u64;
        let end = self.taken + bytes.len() as u64;
        if self.termios.is_canonical()
            && self.ends.front().is_none_or(|next| *next > end)
            && bytes.last() == Some(&b'\n')
        {
            self.ends.push_front(end);
        }
    }

    /// Takes in a byte that was typed; what is to be shown for it goes to `echo`.
    pub fn receive(&mut self, byte: u8, echo: &mut Shown) -> Option<Event> {
        let mut byte = byte;
        if self.termios.has_input(ISTRIP) {
            byte &= 0x7f;
        }
        if self.termios.has_input(IUCLC) && self.termios.has_local(IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if core::mem::take(&mut self.is_literal) {
            self.add(byte, echo);
            return None;
        }
        match byte {
            b'\r' if self.termios.has_input(IGNCR) => return None,
            b'\r' if self.termios.has_input(ICRNL) => byte = b'\n',
            b'\n' if self.termios.has_input(INLCR) => byte = b'\r',
            _ => {}
        }
        if self.termios.has_input(IXON) {
            if self.termios.is_char(VSTART, byte) {
                self.is_stopped = false;
                return Some(Event::Start);
            }
            if self.termios.is_char(VSTOP, byte) {
                self.is_stopped = true;
                return Some(Event::Stop);
            }
        }
        let restarted = self.is_stopped && self.termios.has_input(IXANY);
        if restarted {
            self.is_stopped = false;
        }
        if let Some(signal) = self.signal_of(byte) {
            if !self.termios.has_local(NOFLSH) {
                self.flush_input();
            }
            self.echo_control(byte, echo);
            return Some(Event::Signal(signal));
        }
        if self.termios.is_canonical() {
            self.edit(byte, echo);
        } else {
            self.add(byte, echo);
        }
        restarted.then_some(Event::Start)
    }

    /// Turns a byte that a program has written into what is shown.
    pub fn process_output(&mut self, byte: u8, out: &mut Shown) {
        if !self.termios.has_output(OPOST) {
            self.advance(byte);
            out.push(byte);
            return;
        }
        match byte {
            b'\n' if self.termios.has_output(ONLCR) => {
                out.extend_from_slice(b"\r\n");
                self.column = 0;
            }
            b'\n' => {
                out.push(b'\n');
                if self.termios.has_output(ONLRET) {
                    self.column = 0;
                }
            }
            b'\r' if self.termios.has_output(ONOCR) && self.column == 0 => {}
            b'\r' if self.termios.has_output(OCRNL) => self.process_newline_for_return(out),
            _ => {
                let byte = if self.termios.has_output(OLCUC) { byte.to_ascii_uppercase() } else { byte };
                self.advance(byte);
                out.push(byte);
            }
        }
    }

    fn process_newline_for_return(&mut self, out: &mut Shown) {
        out.push(b'\n');
        if self.termios.has_output(ONLRET) {
            self.column = 0;
        }
    }

    fn signal_of(&self, byte: u8) -> Option<u8> {
        if !self.termios.has_local(ISIG) {
            return None;
        }
        [(VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)]
            .into_iter()
            .find(|(index, _)| self.termios.is_char(*index, byte))
            .map(|(_, signal)| signal as u8)
    }

    fn end_position(&self) -> u64 {
        self.taken + self.ready.len() as u64
    }

    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.ready.len() + self.line.len())
    }

    /// Takes a byte as it is.
    fn add(&mut self, byte: u8, echo: &mut Shown) {
        // Room for the end of the line is always kept.
        if self.room() <= 1 {
            echo.push(0x07);
            return;
        }
        if self.termios.is_canonical() {
            if self.line.is_empty() {
                self.line_column = self.column;
            }
            self.line.push(byte);
        } else {
            self.ready.push_back(byte);
        }
        if self.termios.has_local(ECHO) {
            self.echo_byte(byte, echo);
        }
    }

    fn edit(&mut self, byte: u8, echo: &mut Shown) {
        let is_extended = self.termios.has_local(IEXTEN);
        let is_end = byte == b'\n'
            || self.termios.is_char(VEOL, byte)
            || is_extended && self.termios.is_char(VEOL2, byte);
        if is_end {
            if self.room() > 0 {
                self.line.push(byte);
            }
            if self.termios.has_local(ECHO) || byte == b'\n' && self.termios.has_local(ECHONL) {
                self.echo_byte(byte, echo);
            }
            self.finish_line();
        } else if self.termios.is_char(VEOF, byte) {
            // An end takes no room of its own.
            if self.ends.len() < CAPACITY {
                self.finish_line();
            }
        } else if self.termios.is_char(VERASE, byte) {
            self.erase_one(echo);
        } else if self.termios.is_char(VKILL, byte) {
            self.kill(byte, echo);
        } else if is_extended && self.termios.is_char(VWERASE, byte) {
            self.erase_word(echo);
        } else if is_extended && self.termios.is_char(VREPRINT, byte) {
            self.reprint(byte, echo);
        } else if is_extended && self.termios.is_char(VLNEXT, byte) {
            self.is_literal = true;
            if self.termios.has_local(ECHO) && self.termios.has_local(ECHOCTL) {
                echo.extend_from_slice(b"^\x08");
            }
        } else {
            self.add(byte, echo);
        }
    }

    fn finish_line(&mut self) {
        let line = core::mem::take(&mut self.line);
        self.ready.extend(line);
        self.ends.push_back(self.end_position());
    }

    fn erase_one(&mut self, echo: &mut Shown) {
        let Some(mut erased) = self.line.pop() else { return };
        let mut width = self.width(erased);
        if self.termios.has_input(IUTF8) {
            // The bytes that continue a character go with the byte that begins it.
            while is_continuation(erased) {
                let Some(byte) = self.line.pop() else { break };
                erased = byte;
                width = 1;
            }
        }
        if !self.termios.has_local(ECHO) {
            return;
        }
        if !self.termios.has_local(ECHOE) {
            self.echo_byte(self.termios.chars[VERASE as usize], echo);
            return;
        }
        if erased == b'\t' {
            width = self.column.saturating_sub(self.column_of_line());
        }
        for _ in 0..width {
            echo.extend_from_slice(b"\x08 \x08");
        }
        self.column = self.column.saturating_sub(width);
    }

    fn erase_word(&mut self, echo: &mut Shown) {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        while self.line.last().is_some_and(|byte| !is_word(*byte)) {
            self.erase_one(echo);
        }
        while self.line.last().is_some_and(|byte| is_word(*byte)) {
            self.erase_one(echo);
        }
    }

    fn kill(&mut self, byte: u8, echo: &mut Shown) {
        let shows_erasing = [ECHO, ECHOE, ECHOK, ECHOKE].into_iter().all(|mode| self.termios.has_local(mode));
        if shows_erasing {
            while !self.line.is_empty() {
                self.erase_one(echo);
            }
            return;
        }
        self.line.clear();
        if self.termios.has_local(ECHO) {
            self.echo_byte(byte, echo);
            if self.termios.has_local(ECHOK) {
                self.echo_byte(b'\n', echo);
            }
        }
    }

    fn reprint(&mut self, byte: u8, echo: &mut Shown) {
        if !self.termios.has_local(ECHO) {
            return;
        }
        self.echo_byte(byte, echo);
        self.echo_byte(b'\n', echo);
        for place in 0..self.line.len() {
            self.echo_byte(self.line[place], echo);
        }
    }

    /// Shows a byte as typed: a control character as `^X` where `ECHOCTL` says so.
    fn echo_byte(&mut self, byte: u8, echo: &mut Shown) {
        if self.is_shown_as_control(byte) {
            echo.extend_from_slice(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.process_output(byte, echo);
        }
    }

    fn echo_control(&mut self, byte: u8, echo: &mut Shown) {
        if self.termios.has_local(ECHO) {
            self.echo_byte(byte, echo);
        }
    }

    fn is_shown_as_control(&self, byte: u8) -> bool {
        self.termios.has_local(ECHOCTL) && byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n')
    }

    fn width(&self, byte: u8) -> usize {
        if self.is_shown_as_control(byte) { 2 } else { usize::from(!byte.is_ascii_control()) }
    }

    /// The column that the line being edited reaches.
    fn column_of_line(&self) -> usize {
        let is_utf8 = self.termios.has_input(IUTF8);
        self.line.iter().fold(self.line_column, |column, byte| match *byte {
            b'\t' => (column / TAB_WIDTH + 1) * TAB_WIDTH,
            byte if is_utf8 && is_continuation(byte) => column,
            byte => column + self.width(byte),
        })
    }

    fn advance(&mut self, byte: u8) {
        match byte {
            b'\r' => self.column = 0,
            b'\t' => self.column = (self.column / TAB_WIDTH + 1) * TAB_WIDTH,
            0x08 => self.column = self.column.saturating_sub(1),
            byte if byte.is_ascii_control() || self.termios.has_input(IUTF8) && is_continuation(byte) => {}
            _ => self.column += 1,
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
