// SPDX-License-Identifier: MPL-2.0

//! What `ioctl(2)` does with a terminal (`tty_ioctl(4)`).

use linux_raw_sys::{
    general::{TCIFLUSH, TCIOFF, TCIOFLUSH, TCION, TCOFLUSH, TCOOFF, TCOON, VSTART, VSTOP},
    ioctl::{
        FIONREAD, TCFLSH, TCGETS, TCGETS2, TCSBRK, TCSBRKP, TCSETS, TCSETS2, TCSETSF, TCSETSF2, TCSETSW,
        TCSETSW2, TCXONC, TIOCEXCL, TIOCGETD, TIOCGEXCL, TIOCGPGRP, TIOCGSID, TIOCGWINSZ, TIOCNOTTY,
        TIOCNXCL, TIOCOUTQ, TIOCSCTTY, TIOCSETD, TIOCSPGRP, TIOCSTI, TIOCSWINSZ, TIOCVHANGUP,
    },
};

use super::{
    Tty, WindowSize,
    packet::Change,
    termios::{DEFAULT_SPEED, Termios, Termios2},
};
use crate::{fs::current::credentials, mm::AddressSpace, prelude::*, process::credentials::CapSet};

pub(super) fn caller() -> Result<Arc<AddressSpace>> {
    Thread::current().and_then(|thread| thread.process().vm()).ok_or(EFAULT)
}

impl Tty {
    /// Obeys an ioctl.
    ///
    /// # Errors
    ///
    /// ENOTTY for a command that terminals do not know; those of the command.
    pub fn ioctl(self: &Arc<Self>, command: u32, arg: usize) -> Result<usize> {
        match command {
            TCGETS => {
                let termios = self.discipline.lock().termios;
                caller()?.write_val(arg, &termios)?;
            }
            TCGETS2 => {
                let common = self.discipline.lock().termios;
                let settings = Termios2 { common, input_speed: DEFAULT_SPEED, output_speed: DEFAULT_SPEED };
                caller()?.write_val(arg, &settings)?;
            }
            TCSETS | TCSETSW => self.set_termios(caller()?.read_val(arg)?, false)?,
            TCSETSF => self.set_termios(caller()?.read_val(arg)?, true)?,
            TCSETS2 | TCSETSW2 => self.set_termios(caller()?.read_val::<Termios2>(arg)?.common, false)?,
            TCSETSF2 => self.set_termios(caller()?.read_val::<Termios2>(arg)?.common, true)?,
            TIOCGWINSZ => caller()?.write_val(arg, &self.window())?,
            TIOCSWINSZ => self.set_window(caller()?.read_val::<WindowSize>(arg)?),
            TIOCGPGRP => caller()?.write_val(arg, &self.foreground()?)?,
            TIOCSPGRP => {
                let group: i32 = caller()?.read_val(arg)?;
                self.set_foreground(Pid::try_from(group).map_err(|_| EINVAL)?)?;
            }
            TIOCGSID if self.is_controlling() => caller()?.write_val(arg, &self.control().session)?,
            TIOCSCTTY => self.make_controlling(arg == 1)?,
            TIOCNOTTY => self.give_up()?,
            TIOCVHANGUP => {
                credentials().require(CapSet::SYS_ADMIN)?;
                self.hang_up();
            }
            FIONREAD => {
                let available = self.discipline.lock().available() as i32;
                caller()?.write_val(arg, &available)?;
            }
            // What is written is shown at once.
            TIOCOUTQ => caller()?.write_val(arg, &0i32)?,
            TCSBRK | TCSBRKP => self.check_change()?,
            TCFLSH => self.flush(arg as u32)?,
            TCXONC => self.control_flow(arg as u32)?,
            TIOCGETD => caller()?.write_val(arg, &0i32)?,
            TIOCSETD => {
                if caller()?.read_val::<i32>(arg)? != 0 {
                    return Err(EINVAL);
                }
            }
            TIOCEXCL => self.is_exclusive.store(true, Ordering::Relaxed),
            TIOCNXCL => self.is_exclusive.store(false, Ordering::Relaxed),
            TIOCGEXCL => {
                caller()?.write_val(arg, &i32::from(self.is_exclusive.load(Ordering::Relaxed)))?;
            }
            TIOCSTI => {
                if !self.is_controlling() {
                    credentials().require(CapSet::SYS_ADMIN)?;
                }
                let byte: u8 = caller()?.read_val(arg)?;
                self.receive(&[byte]);
            }
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }

    fn set_termios(&self, termios: Termios, flushes: bool) -> Result<()> {
        self.check_change()?;
        let mut discipline = self.discipline.lock();
        if flushes {
            discipline.flush_input();
            self.output.changed(Change::InputFlushed);
        }
        // Only one line discipline is there; the field is kept as it is.
        let old = discipline.termios;
        let new = Termios { line: old.line, ..termios };
        discipline.set_termios(new);
        self.output.changed(Change::Settings { old, new });
        drop(discipline);
        self.input_taken.wake_all();
        self.readable.wake_all();
        self.writable.wake_all();
        Ok(())
    }

    fn flush(&self, queue: u32) -> Result<()> {
        self.check_change()?;
        let (input, output) = match queue {
            TCIFLUSH => (true, false),
            TCOFLUSH => (false, true),
            TCIOFLUSH => (true, true),
            _ => return Err(EINVAL),
        };
        if input {
            self.discipline.lock().flush_input();
            self.output.changed(Change::InputFlushed);
            self.input_taken.wake_all();
        }
        if output {
            // What is written is shown at once: nothing is left to throw away.
            self.output.changed(Change::OutputFlushed);
        }
        Ok(())
    }

    fn control_flow(&self, action: u32) -> Result<()> {
        self.check_change()?;
        match action {
            TCOOFF | TCOON => {
                let mut discipline = self.discipline.lock();
                let was_stopped = discipline.is_stopped();
                discipline.set_stopped(action == TCOOFF);
                self.tell_flow(was_stopped, action == TCOOFF);
                drop(discipline);
                self.writable.wake_all();
            }
            TCIOFF | TCION => {
                let index = if action == TCIOFF { VSTOP } else { VSTART };
                let byte = self.discipline.lock().termios.chars[index as usize];
                if byte != 0 {
                    self.output.show(&[byte]);
                }
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}
