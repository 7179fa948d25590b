// SPDX-License-Identifier: MPL-2.0

//! Terminal settings: Linux's `struct termios` and what the line discipline asks of it (`termios(3)`).

use linux_raw_sys::general::{
    B38400, CREAD, CS8, ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, HUPCL, ICANON, ICRNL, IEXTEN, ISIG, IUTF8, IXON,
    ONLCR, OPOST, VDISCARD, VEOF, VERASE, VINTR, VKILL, VLNEXT, VMIN, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP,
    VWERASE,
};

/// `struct termios`, as `TCGETS` has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, PartialEq, Eq)]
pub struct Termios {
    /// Input modes (`c_iflag`).
    pub input: u32,
    /// Output modes (`c_oflag`).
    pub output: u32,
    /// Control modes (`c_cflag`).
    pub control: u32,
    /// Local modes (`c_lflag`).
    pub local: u32,
    /// The line discipline's number; only `N_TTY` (0) is there.
    pub line: u8,
    /// Special characters (`c_cc`).
    pub chars: [u8; 19],
}

/// `struct termios2`, as `TCGETS2` has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod)]
pub struct Termios2 {
    /// What `struct termios` has.
    pub common: Termios,
    /// Input speed in bits a second.
    pub input_speed: u32,
    /// Output speed in bits a second.
    pub output_speed: u32,
}

/// `struct winsize`: the size of a terminal's window.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, PartialEq, Eq)]
pub struct WindowSize {
    /// Characters from top to bottom.
    pub rows: u16,
    /// Characters from left to right.
    pub columns: u16,
    /// Pixels from left to right.
    pub x_pixels: u16,
    /// Pixels from top to bottom.
    pub y_pixels: u16,
}

/// The speed that `B38400` names.
pub const DEFAULT_SPEED: u32 = 38400;

impl Default for Termios {
    /// What Linux starts a terminal with (`tty_std_termios`).
    fn default() -> Self {
        let mut chars = [0; 19];
        for (index, value) in [
            (VINTR, 0x03),
            (VQUIT, 0x1c),
            (VERASE, 0x7f),
            (VKILL, 0x15),
            (VEOF, 0x04),
            (VMIN, 0x01),
            (VSTART, 0x11),
            (VSTOP, 0x13),
            (VSUSP, 0x1a),
            (VREPRINT, 0x12),
            (VDISCARD, 0x0f),
            (VWERASE, 0x17),
            (VLNEXT, 0x16),
        ] {
            chars[index as usize] = value;
        }
        Self {
            input: ICRNL | IXON | IUTF8,
            output: OPOST | ONLCR,
            control: B38400 | CS8 | CREAD | HUPCL,
            local: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            chars,
        }
    }
}

impl Termios {
    /// Whether an input mode is on.
    pub fn has_input(&self, mode: u32) -> bool {
        self.input & mode != 0
    }

    /// Whether an output mode is on.
    pub fn has_output(&self, mode: u32) -> bool {
        self.output & mode != 0
    }

    /// Whether a local mode is on.
    pub fn has_local(&self, mode: u32) -> bool {
        self.local & mode != 0
    }

    /// Whether input is edited line by line.
    pub fn is_canonical(&self) -> bool {
        self.has_local(ICANON)
    }

    /// Whether `byte` is the special character at `index`; a character of 0 is switched off.
    pub fn is_char(&self, index: u32, byte: u8) -> bool {
        byte != 0 && self.chars[index as usize] == byte
    }
}
