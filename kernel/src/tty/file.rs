// SPDX-License-Identifier: MPL-2.0

//! A terminal as an open file: reading, writing, waiting.

use linux_raw_sys::{
    general::{VMIN, VTIME},
    ioctl::TIOCSPGRP,
};

use super::{Tty, discipline::Shown, job::controlling_terminal};
use crate::{
    fs::{
        Fd, FileOps, Inode, OpenFlags,
        current::credentials,
        device::Device,
        file::File,
        io::{Sink, Source},
        poll::{Blocking, PollEvents, PollTable, wait_ready},
        sigio::{FileOwner, Target},
    },
    prelude::*,
    process::credentials::CapSet,
    time,
};

/// How many bytes one written byte becomes at most.
pub(super) const WIDEST: usize = 2;

/// How many bytes are written in one go.
const CHUNK: usize = 512;

/// An open terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
    /// How often the terminal had been hung up when it was opened; `None` if that does not concern this file.
    hang_ups: Option<u64>,
}

impl TtyFile {
    /// Opens a terminal. A session leader without a terminal gets it as its controlling terminal, unless it asks not to.
    ///
    /// # Errors
    ///
    /// EBUSY if somebody has it for himself (`TIOCEXCL`); EIO if it has hung up.
    pub fn open(tty: &Arc<Tty>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if tty.is_exclusive.load(Ordering::Relaxed) && !credentials().has(CapSet::SYS_ADMIN) {
            return Err(EBUSY);
        }
        if tty.is_gone.load(Ordering::SeqCst) {
            return Err(EIO);
        }
        let hang_ups = Some(tty.hang_ups.load(Ordering::SeqCst));
        if !flags.contains(OpenFlags::NOCTTY) {
            tty.adopt_on_open();
        }
        tty.output.opened();
        Ok(Arc::new(Self { tty: tty.clone(), hang_ups }))
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    fn is_hung_up(&self) -> bool {
        self.hang_ups.is_some_and(|hang_ups| hang_ups != self.tty.hang_ups.load(Ordering::SeqCst))
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        self.tty.output.closed();
    }
}

/// The driver behind a terminal's device node.
pub struct TtyDevice(pub Arc<Tty>);

impl Device for TtyDevice {
    fn open(&self, _inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        TtyFile::open(&self.0, flags)
    }
}

/// `/dev/console`: the terminal that the system talks to. As on Linux, opening it makes it nobody's controlling terminal, and
/// its files outlive a hang-up.
pub struct Console(pub Arc<Tty>);

impl Device for Console {
    fn open(&self, _inode: &Arc<dyn Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        self.0.output.opened();
        Ok(Arc::new(TtyFile { tty: self.0.clone(), hang_ups: None }))
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
        self.receive(file.blocking(), dst)
    }

    fn write(&self, file: &File, src: &mut Source<'_>) -> Result<usize> {
        self.send(file.blocking(), src)
    }

    fn set_async(&self, owner: &Arc<FileOwner>, fd: Option<Fd>) -> Result<()> {
        if self.is_hung_up() {
            return Err(ENOTTY);
        }
        self.tty.async_list.set(owner, fd);
        if fd.is_some() {
            // Who is in front reads what is typed; without job control, whoever asks.
            let target = match (self.tty.control().foreground, Thread::current()) {
                (0, Some(thread)) => Target::Process(Arc::downgrade(thread.process())),
                (0, None) => Target::Nobody,
                (foreground, _) => Target::Group(foreground),
            };
            owner.set_target_if_none(target);
        }
        Ok(())
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.tty.readable);
        table.observe(&self.tty.writable);
        if self.is_hung_up() {
            return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::HUP | PollEvents::ERR;
        }
        self.tty.readiness()
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        match self.is_hung_up() {
            true if command == TIOCSPGRP => Err(ENOTTY),
            true => Err(EIO),
            false => self.tty.ioctl(command, arg),
        }
    }
}

impl TtyFile {
    fn receive(&self, blocking: Blocking, dst: &mut Sink<'_>) -> Result<usize> {
        let tty = &self.tty;
        let termios = tty.discipline.lock().termios;
        let (min, time) =
            (usize::from(termios.chars[VMIN as usize]), u64::from(termios.chars[VTIME as usize]));
        if termios.is_canonical() || blocking == Blocking::No && min > 0 {
            return wait_ready(&tty.readable, blocking, || self.try_read(dst));
        }
        let limit = Duration::from_millis(100 * time);
        let wanted = min.min(dst.avail()).max(1);
        if !self.is_hung_up() {
            tty.check_read()?;
        }
        match (min, time) {
            (0, 0) => {}
            (_, 0) => self.wait_for(wanted, None)?,
            (0, _) => self.wait_for(1, Some(limit))?,
            // The time between two bytes is limited, not the time to the first.
            _ => {
                self.wait_for(1, None)?;
                let mut have = tty.discipline.lock().available();
                while have < wanted && !self.is_hung_up() {
                    self.wait_for(have + 1, Some(limit))?;
                    let now = tty.discipline.lock().available();
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
        let is_enough =
            || (self.is_hung_up() || self.tty.discipline.lock().available() >= count).then_some(());
        match self.tty.readable.wait_interruptible(deadline, is_enough) {
            Err(ETIMEDOUT) => Ok(()),
            done => done,
        }
    }

    fn try_read(&self, dst: &mut Sink<'_>) -> Result<usize> {
        if self.is_hung_up() {
            return Ok(0);
        }
        self.tty.check_read()?;
        let mut discipline = self.tty.discipline.lock();
        let bytes = discipline.take(dst.avail()).ok_or(EAGAIN)?;
        // User memory is written without the discipline's lock: a fault there may take long.
        drop(discipline);
        self.tty.input_taken.wake_all();
        if bytes.is_empty() {
            return Ok(0);
        }
        let copied = dst.write_bytes(&bytes);
        let count = *copied.as_ref().unwrap_or(&0);
        if count < bytes.len() {
            self.tty.discipline.lock().untake(&bytes[count..]);
        }
        copied
    }

    fn send(&self, blocking: Blocking, src: &mut Source<'_>) -> Result<usize> {
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
            let mut shown = Shown::default();
            let mut discipline = self.tty.discipline.lock();
            buffer[..count].iter().for_each(|byte| discipline.process_output(*byte, &mut shown));
            self.tty.output.show(&shown);
            total += count;
        }
        Ok(total)
    }

    /// Waits until something can be shown, and returns how much.
    fn wait_writable(&self, blocking: Blocking) -> Result<usize> {
        wait_ready(&self.tty.writable, blocking, || {
            if self.is_hung_up() {
                return Err(EIO);
            }
            self.tty.check_write()?;
            let room = self.tty.output.room();
            if room < WIDEST || self.tty.discipline.lock().is_stopped() { Err(EAGAIN) } else { Ok(room) }
        })
    }
}
