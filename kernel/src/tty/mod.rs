// SPDX-License-Identifier: MPL-2.0

//! Terminals: a line discipline, job control, and whatever the bytes come from and go to.
//!
//! ```text
//!   driver (serial port, pty master) ──receive──► Tty { discipline, job control } ──read──► programs
//!            ▲                                        │
//!            └──────────────── Output ◄───────────────┴──────────── echo, write ◄── programs
//! ```
//!
//! A driver calls [`Tty::receive`] from a task, not from an interrupt: what was typed may send signals.
//!
//! Lock order: `discipline`, then the driver's own lock. `control` is a leaf; no signal is sent with a lock held.

mod discipline;
mod file;
mod ioctl;
mod job;
mod packet;
pub mod pty;
pub mod serial;
mod termios;

use linux_raw_sys::general::NOFLSH;

use self::{
    discipline::{Discipline, Event, Shown},
    job::Control,
    packet::Change,
};
pub use self::{
    file::{Console, CurrentTty, TtyDevice, TtyFile},
    job::{hang_up_own, of_session, session_ended},
    termios::WindowSize,
};
use crate::{
    fs::{
        poll::PollEvents,
        sigio::{AsyncList, Readiness},
        types::DeviceId,
    },
    prelude::*,
    wait::WaitQueue,
};

/// Where a terminal shows what is written.
pub trait Output: Send + Sync {
    /// How many bytes can be shown now. The terminal's `writable` queue is woken when it grows.
    fn room(&self) -> usize;

    /// Shows bytes; those beyond the room are lost.
    fn show(&self, bytes: &[u8]);

    /// Told what has happened to the terminal.
    fn changed(&self, _change: Change) {}

    /// Told of each open of the terminal.
    fn opened(&self) {}

    /// Told when a file that was opened is closed.
    fn closed(&self) {}
}

/// What a terminal is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtyKind {
    /// A line to somebody outside. The end of the session that it controls hangs it up.
    Line,
    /// The one end of a pair: hung up by the other, and then as it was at the start.
    Pseudo,
}

/// A terminal.
pub struct Tty {
    number: DeviceId,
    kind: TtyKind,
    output: Arc<dyn Output>,
    discipline: Mutex<Discipline>,
    control: SpinLock<Control>,
    window: SpinLock<WindowSize>,
    is_exclusive: AtomicBool,
    /// How often it was hung up; who opened it before the last time has lost it.
    hang_ups: AtomicU64,
    /// Whether it cannot be opened any more.
    is_gone: AtomicBool,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    input_taken: Arc<WaitQueue>,
    /// Files that want signals.
    async_list: AsyncList,
}

impl Tty {
    /// A terminal with Linux's settings at the start, which belongs to no session.
    pub fn new(number: DeviceId, kind: TtyKind, output: Arc<dyn Output>) -> Arc<Self> {
        Arc::new(Self {
            number,
            kind,
            output,
            discipline: Mutex::new(Discipline::new()),
            control: SpinLock::new(Control::default()),
            window: SpinLock::new(WindowSize::default()),
            is_exclusive: AtomicBool::new(false),
            hang_ups: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            input_taken: Arc::new(WaitQueue::new()),
            async_list: AsyncList::default(),
        })
    }

    /// Its device number.
    pub fn number(&self) -> DeviceId {
        self.number
    }

    /// The queue to wake when its output has got room.
    pub fn writable(&self) -> &Arc<WaitQueue> {
        &self.writable
    }

    /// The queue that is woken when input was taken.
    pub fn input_taken(&self) -> &Arc<WaitQueue> {
        &self.input_taken
    }

    /// How many bytes can be taken in without losing any.
    pub fn input_room(&self) -> usize {
        self.discipline.lock().input_room()
    }

    /// Takes in what was typed.
    pub fn receive(&self, bytes: &[u8]) {
        let mut echo = Shown::default();
        let mut signals = Vec::new();
        let mut is_restarted = false;
        {
            let mut discipline = self.discipline.lock();
            for byte in bytes {
                let was_stopped = discipline.is_stopped();
                match discipline.receive(*byte, &mut echo) {
                    Some(Event::Signal(signal)) => {
                        signals.push(signal);
                        if !discipline.termios.has_local(NOFLSH) {
                            self.output.changed(Change::InputFlushed);
                            self.output.changed(Change::OutputFlushed);
                        }
                    }
                    Some(Event::Start) => is_restarted = true,
                    Some(Event::Stop) | None => {}
                }
                self.tell_flow(was_stopped, discipline.is_stopped());
            }
            self.output.show(&echo);
        }
        for signal in signals {
            self.signal_foreground(signal);
        }
        if is_restarted {
            self.writable.wake_all();
        }
        self.readable.wake_all();
        if self.can_read() {
            self.async_list.tell(Readiness::In);
        }
    }

    fn tell_flow(&self, was_stopped: bool, is_stopped: bool) {
        match (was_stopped, is_stopped) {
            (false, true) => self.output.changed(Change::Stopped),
            (true, false) => self.output.changed(Change::Started),
            _ => {}
        }
    }

    /// Ends all reading (with the end of the file) and writing (with EIO) through the files that are open now; those opened
    /// from now on find a terminal without input. Its session loses it, and the session's leader gets `SIGHUP` and `SIGCONT`.
    pub fn hang_up(&self) {
        self.hang_ups.fetch_add(1, Ordering::SeqCst);
        self.async_list.clear();
        match self.kind {
            TtyKind::Line => self.discipline.lock().flush_input(),
            TtyKind::Pseudo => *self.discipline.lock() = Discipline::new(),
        }
        self.readable.wake_all();
        self.writable.wake_all();
        self.input_taken.wake_all();
        self.leave_session();
    }

    /// Hangs it up for good.
    pub fn remove(&self) {
        self.is_gone.store(true, Ordering::SeqCst);
        self.hang_up();
    }

    /// What can be done without waiting.
    fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        if self.can_read() {
            events |= PollEvents::READABLE;
        }
        if !self.discipline.lock().is_stopped() && self.output.room() >= file::WIDEST {
            events |= PollEvents::WRITABLE;
        }
        events
    }

    fn can_read(&self) -> bool {
        let discipline = self.discipline.lock();
        match discipline.termios.is_canonical() {
            true => discipline.has_line(),
            false => discipline.available() > 0,
        }
    }

    /// The size of its window.
    pub fn window(&self) -> WindowSize {
        *self.window.lock()
    }

    /// Changes the size of its window, and tells the foreground group.
    pub fn set_window(&self, window: WindowSize) {
        let old = core::mem::replace(&mut *self.window.lock(), window);
        if old != window {
            self.signal_foreground(linux_raw_sys::general::SIGWINCH as u8);
        }
    }
}
