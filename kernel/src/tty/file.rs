// SPDX-License-Identifier: MPL-2.0

//! A terminal as an open file: reading, writing, waiting.

use linux_raw_sys::{
    general::{VMIN, VTIME},
    ioctl::TIOCSPGRP,
};

use super::{Tty, job::controlling_terminal};
use crate::{
    fs::{
        FileOps, Inode, OpenFlags,
        device::Device,
        file::File,
        io::{Sink, Source},
        poll::{Blocking, PollEvents, PollTable, wait_ready},
    },
    prelude::*,
    time,
};

/// How many bytes one written byte becomes at most.
pub(super) const WIDEST: usize = 2;

/// How many bytes are written in one go.
const CHUNK: usize = 512;

/// An open terminal.
pub struct TtyFile(Arc<Tty>);

impl TtyFile {
    /// Opens a terminal. A session leader without a terminal gets it as its controlling terminal, unless it asks not to.
    ///
    /// # Errors
    ///
    /// EBUSY if somebody has it for himself (`TIOCEXCL`); EIO if it has hung up.
    pub fn open(tty: &Arc<Tty>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let is_root = Thread::current().is_none_or(|thread| thread.credentials().euid == 0);
        if tty.is_exclusive.load(Ordering::Relaxed) && !is_root {
            return Err(EBUSY);
        }
        if tty.is_hung_up() {
            return Err(EIO);
        }
        if !flags.contains(OpenFlags::NOCTTY) {
            tty.adopt_on_open();
        }
        tty.output.opened();
        Ok(Arc::new(Self(tty.clone())))
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.0
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        self.0.output.closed();
    }
}

/// The driver behind a terminal's device node.
pub struct TtyDevice(pub Arc<Tty>);

impl Device for TtyDevice {
    fn open(&self, _inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        TtyFile::open(&self.0, flags)
    }
}

/// `/dev/tty`: the controlling terminal of whoever opens it.
pub struct CurrentTty;

impl Device for CurrentTty {
    fn open(&self, _inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let tty = controlling_terminal().ok_or(ENXIO)?;
        TtyFile::open(&tty, flags | OpenFlags::NOCTTY)
    }
}

impl FileOps for TtyFile {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        if dst.avail() == 0 {
            return Ok(0);
        }
        self.0.read(file.blocking(), dst)
    }

    fn write(&self, file: &File, src: &mut Source<'_>) -> Result<usize> {
        self.0.write(file.blocking(), src)
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.0.readable);
        table.observe(&self.0.writable);
        self.0.readiness()
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        match self.0.is_hung_up() {
            true if command == TIOCSPGRP => Err(ENOTTY),
            true => Err(EIO),
            false => self.0.ioctl(command, arg),
        }
    }
}

impl Tty {
    fn read(&self, blocking: Blocking, dst: &mut Sink<'_>) -> Result<usize> {
        let termios = self.discipline.lock().termios;
        let (min, time) =
            (usize::from(termios.chars[VMIN as usize]), u64::from(termios.chars[VTIME as usize]));
        if termios.is_canonical() || blocking == Blocking::No && min > 0 {
            return wait_ready(&self.readable, blocking, || self.try_read(dst));
        }
        let limit = Duration::from_millis(100 * time);
        let wanted = min.min(dst.avail()).max(1);
        self.check_read()?;
        match (min, time) {
            (0, 0) => {}
            (_, 0) => self.wait_for(wanted, None)?,
            (0, _) => self.wait_for(1, Some(limit))?,
            // The time between two bytes is limited, not the time to the first.
            _ => {
                self.wait_for(1, None)?;
                let mut have = self.discipline.lock().available();
                while have < wanted && !self.is_hung_up() {
                    self.wait_for(have + 1, Some(limit))?;
                    let now = self.discipline.lock().available();
                    if now <= have {
                        break;
                    }
                    have = now;
                }
            }
        }
        match self.try_read(dst) {
            Err(EAGAIN) => Ok(0),
            done => done,
        }
    }

    /// Waits until `count` bytes can be read, `limit` has passed or the terminal hangs up.
    fn wait_for(&self, count: usize, limit: Option<Duration>) -> Result<()> {
        let deadline = limit.map(|limit| time::monotonic() + limit);
        let is_enough = || (self.is_hung_up() || self.discipline.lock().available() >= count).then_some(());
        match self.readable.wait_interruptible(deadline, is_enough) {
            Err(ETIMEDOUT) => Ok(()),
            done => done,
        }
    }

    fn try_read(&self, dst: &mut Sink<'_>) -> Result<usize> {
        self.check_read()?;
        let mut discipline = self.discipline.lock();
        let Some(bytes) = discipline.take(dst.avail()) else {
            return if self.is_hung_up() { Ok(0) } else { Err(EAGAIN) };
        };
        // User memory is written without the discipline's lock: a fault there may take long.
        drop(discipline);
        self.input_taken.wake_all();
        if bytes.is_empty() {
            return Ok(0);
        }
        let copied = dst.write_bytes(&bytes);
        let count = *copied.as_ref().unwrap_or(&0);
        if count < bytes.len() {
            self.discipline.lock().untake(&bytes[count..]);
        }
        copied
    }

    fn write(&self, blocking: Blocking, src: &mut Source<'_>) -> Result<usize> {
        let mut total = 0;
        let mut buffer = [0; CHUNK];
        while src.remain() > 0 {
            let count = match self.wait_writable(blocking) {
                Ok(room) => (room / WIDEST).min(CHUNK).min(src.remain()),
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            };
            let count = match src.read_bytes(&mut buffer[..count]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            };
            let mut shown = Vec::with_capacity(WIDEST * CHUNK);
            let mut discipline = self.discipline.lock();
            buffer[..count].iter().for_each(|byte| discipline.process_output(*byte, &mut shown));
            self.output.show(&shown);
            total += count;
        }
        Ok(total)
    }

    /// Waits until something can be shown, and returns how much.
    fn wait_writable(&self, blocking: Blocking) -> Result<usize> {
        wait_ready(&self.writable, blocking, || {
            if self.is_hung_up() {
                return Err(EIO);
            }
            self.check_write()?;
            let room = self.output.room();
            if room < WIDEST || self.discipline.lock().is_stopped() { Err(EAGAIN) } else { Ok(room) }
        })
    }
}
