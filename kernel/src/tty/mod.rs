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
pub mod pty;
pub mod serial;
mod termios;

use self::{
    discipline::{Discipline, Event},
    job::Control,
};
pub use self::{
    file::{CurrentTty, TtyDevice, TtyFile},
    job::{of_session, session_ended},
    termios::WindowSize,
};
use crate::{
    fs::{poll::PollEvents, types::DeviceId},
    prelude::*,
    wait::WaitQueue,
};

/// Where a terminal shows what is written.
pub trait Output: Send + Sync {
    /// How many bytes can be shown now. The terminal's `writable` queue is woken when it grows.
    fn room(&self) -> usize;

    /// Shows bytes; those beyond the room are lost.
    fn show(&self, bytes: &[u8]);

    /// Told of each open of the terminal.
    fn opened(&self) {}

    /// Told when a file that was opened is closed.
    fn closed(&self) {}
}

/// A terminal.
pub struct Tty {
    number: DeviceId,
    output: Arc<dyn Output>,
    discipline: Mutex<Discipline>,
    control: SpinLock<Control>,
    window: SpinLock<WindowSize>,
    is_exclusive: AtomicBool,
    is_hung_up: AtomicBool,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    input_taken: Arc<WaitQueue>,
}

impl Tty {
    /// A terminal with Linux's settings at the start, which belongs to no session.
    pub fn new(number: DeviceId, output: Arc<dyn Output>) -> Arc<Self> {
        Arc::new(Self {
            number,
            output,
            discipline: Mutex::new(Discipline::new()),
            control: SpinLock::new(Control::default()),
            window: SpinLock::new(WindowSize::default()),
            is_exclusive: AtomicBool::new(false),
            is_hung_up: AtomicBool::new(false),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            input_taken: Arc::new(WaitQueue::new()),
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
        let mut echo = Vec::new();
        let mut signals = Vec::new();
        let mut is_restarted = false;
        {
            let mut discipline = self.discipline.lock();
            for byte in bytes {
                match discipline.receive(*byte, &mut echo) {
                    Some(Event::Signal(signal)) => signals.push(signal),
                    Some(Event::Start) => is_restarted = true,
                    Some(Event::Stop) | None => {}
                }
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
    }

    /// Ends all reading (with the end of the file) and writing (with EIO) through those who have it open now.
    pub fn hang_up(&self) {
        self.is_hung_up.store(true, Ordering::SeqCst);
        self.release_session();
        self.readable.wake_all();
        self.writable.wake_all();
        self.input_taken.wake_all();
    }

    fn is_hung_up(&self) -> bool {
        self.is_hung_up.load(Ordering::SeqCst)
    }

    /// What can be done without waiting.
    fn readiness(&self) -> PollEvents {
        let discipline = self.discipline.lock();
        let mut events = PollEvents::empty();
        if self.is_hung_up() {
            return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::HUP | PollEvents::ERR;
        }
        let can_read = if discipline.termios.is_canonical() {
            discipline.has_line()
        } else {
            discipline.available() > 0
        };
        if can_read {
            events |= PollEvents::READABLE;
        }
        if !discipline.is_stopped() && self.output.room() >= file::WIDEST {
            events |= PollEvents::WRITABLE;
        }
        events
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
