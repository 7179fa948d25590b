// SPDX-License-Identifier: MPL-2.0

//! Job control: which session a terminal belongs to, and which of its process groups is in front.
//!
//! A terminal belongs to one session at most and a session has one terminal at most, its controlling terminal
//! (`credentials(7)`, `tty_ioctl(4)`). Invariant: [`LINES`] has a terminal for a session exactly if the terminal's
//! `Control` names that session.
//!
//! | what happens | the leader gets | the foreground group gets |
//! | --- | --- | --- |
//! | the terminal hangs up | `SIGHUP`, `SIGCONT` | the same, once the leader has ended |
//! | the leader gives it up | | `SIGHUP`, `SIGCONT` |
//! | the leader ends | | `SIGHUP`; a terminal that is a line hangs up |

use linux_raw_sys::general::{SIGCONT, SIGHUP, SIGTTIN, SIGTTOU, TOSTOP};

use super::{Tty, TtyKind};
use crate::{
    fs::types::DeviceId,
    prelude::*,
    process::table,
    signal::{self, SigInfo},
};

/// How a session is connected.
enum Line {
    /// To its controlling terminal.
    Terminal(Arc<Tty>),
    /// Not any more: it was hung up while this group was in front.
    HungUp { foreground: Pid },
}

static LINES: SpinLock<BTreeMap<Pid, Line>> = SpinLock::new(BTreeMap::new());

/// Whom a terminal belongs to; 0 for nobody.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    pub session: Pid,
    pub foreground: Pid,
}

/// The controlling terminal of the calling process.
pub(super) fn controlling_terminal() -> Option<Arc<Tty>> {
    terminal_of(Thread::current()?.process().session())
}

fn terminal_of(session: Pid) -> Option<Arc<Tty>> {
    match LINES.lock().get(&session)? {
        Line::Terminal(tty) => Some(tty.clone()),
        Line::HungUp { .. } => None,
    }
}

/// The controlling terminal of `session`, by its device number, and the process group in front of it.
pub fn of_session(session: Pid) -> Option<(DeviceId, Pid)> {
    let tty = terminal_of(session)?;
    Some((tty.number(), tty.control().foreground))
}

/// To be called when the leader of `session` has ended: the session loses its terminal, and the foreground group hears of it.
pub fn session_ended(session: Pid) {
    let (line, foreground) = {
        let mut lines = LINES.lock();
        let line = lines.remove(&session);
        let foreground = match &line {
            Some(Line::Terminal(tty)) => core::mem::take(&mut *tty.control.lock()).foreground,
            Some(Line::HungUp { foreground }) => *foreground,
            None => 0,
        };
        (line, foreground)
    };
    match line {
        None => {}
        Some(Line::HungUp { .. }) => hang_up_group(foreground),
        Some(Line::Terminal(tty)) => {
            if tty.kind == TtyKind::Line {
                tty.hang_up();
            }
            if foreground != 0 {
                signal::send_to_group(foreground, SigInfo::kernel(SIGHUP as u8));
            }
        }
    }
}

/// `vhangup(2)`: hangs up the caller's controlling terminal, if it has one.
pub fn hang_up_own() {
    if let Some(tty) = controlling_terminal() {
        tty.hang_up();
    }
}

fn hang_up_group(group: Pid) {
    if group != 0 {
        signal::send_to_group(group, SigInfo::kernel(SIGHUP as u8));
        signal::send_to_group(group, SigInfo::kernel(SIGCONT as u8));
    }
}

impl Tty {
    pub(super) fn control(&self) -> Control {
        *self.control.lock()
    }

    /// Sends a signal to the foreground group.
    pub(super) fn signal_foreground(&self, signal: u8) {
        let foreground = self.control().foreground;
        if foreground != 0 {
            signal::send_to_group(foreground, SigInfo::kernel(signal));
        }
    }

    /// Whether it is the controlling terminal of the calling process.
    pub(super) fn is_controlling(&self) -> bool {
        let session = Thread::current().map_or(0, |thread| thread.process().session());
        session != 0 && self.control().session == session
    }

    /// Makes it the controlling terminal of the caller's session if the caller leads one that has none and the terminal is
    /// free: what opening it does without `O_NOCTTY`.
    pub(super) fn adopt_on_open(self: &Arc<Self>) {
        if let Some(thread) = Thread::current() {
            // Nothing to do if it cannot be: opening succeeds all the same.
            let _ = self.try_adopt(thread.process());
        }
    }

    fn try_adopt(self: &Arc<Self>, leader: &Process) -> Result<()> {
        let (session, group) = (leader.session(), leader.group());
        if session != leader.pid() {
            return Err(EPERM);
        }
        let mut lines = LINES.lock();
        let mut control = self.control.lock();
        if matches!(lines.get(&session), Some(Line::Terminal(_))) || control.session != 0 {
            return Err(EPERM);
        }
        *control = Control { session, foreground: group };
        lines.insert(session, Line::Terminal(self.clone()));
        Ok(())
    }

    /// `TIOCSCTTY`. With `steal`, the superuser takes it away from another session.
    ///
    /// # Errors
    ///
    /// EPERM if the caller leads no session or has a terminal already, or the terminal belongs to another session.
    pub(super) fn make_controlling(self: &Arc<Self>, steal: bool) -> Result<()> {
        let Some(thread) = Thread::current() else { return Err(EPERM) };
        let process = thread.process();
        if self.is_controlling() && process.session() == process.pid() {
            return Ok(());
        }
        if steal
            && thread.credentials().euid == 0
            && process.session() == process.pid()
            && controlling_terminal().is_none()
        {
            self.release_session();
        }
        self.try_adopt(process)
    }

    /// `TIOCNOTTY`: the caller gives up its controlling terminal; if it leads the session, the whole session does.
    ///
    /// # Errors
    ///
    /// ENOTTY if it is not the caller's controlling terminal.
    pub(super) fn give_up(&self) -> Result<()> {
        if !self.is_controlling() {
            return Err(ENOTTY);
        }
        if Thread::current().is_some_and(|thread| thread.process().session() == thread.process().pid()) {
            hang_up_group(self.release_session().foreground);
        }
        Ok(())
    }

    /// Takes it away from its session. Answers whom it belonged to.
    fn release_session(&self) -> Control {
        let mut lines = LINES.lock();
        let mut control = self.control.lock();
        lines.remove(&control.session);
        core::mem::take(&mut *control)
    }

    /// Takes it away from its session because it was hung up: the leader gets `SIGHUP` and `SIGCONT`.
    pub(super) fn leave_session(&self) {
        let session = {
            let mut lines = LINES.lock();
            let mut control = self.control.lock();
            let Control { session, foreground } = core::mem::take(&mut *control);
            if session == 0 {
                return;
            }
            lines.insert(session, Line::HungUp { foreground });
            session
        };
        if let Some(leader) = table::process(session) {
            signal::send_to_process(&leader, SigInfo::kernel(SIGHUP as u8));
            signal::send_to_process(&leader, SigInfo::kernel(SIGCONT as u8));
        }
    }

    /// `TIOCGPGRP`.
    ///
    /// # Errors
    ///
    /// ENOTTY if it is not the caller's controlling terminal.
    pub(super) fn foreground(&self) -> Result<Pid> {
        if self.is_controlling() { Ok(self.control().foreground) } else { Err(ENOTTY) }
    }

    /// `TIOCSPGRP`.
    ///
    /// # Errors
    ///
    /// ENOTTY if it is not the caller's controlling terminal; ESRCH if there is no such group; EPERM if it is in another
    /// session; what [`check_change`](Self::check_change) says.
    pub(super) fn set_foreground(&self, group: Pid) -> Result<()> {
        if !self.is_controlling() {
            return Err(ENOTTY);
        }
        self.check_change()?;
        let session = table::with(|table| table.session_of_group(group)).ok_or(ESRCH)?;
        let mut control = self.control.lock();
        if session != control.session {
            return Err(EPERM);
        }
        control.foreground = group;
        Ok(())
    }

    /// Lets a process read only in the foreground; one in the background is stopped by `SIGTTIN`.
    ///
    /// # Errors
    ///
    /// EIO if nobody could continue it or it does not hear the signal; ERESTARTSYS after the signal.
    pub(super) fn check_read(&self) -> Result<()> {
        match self.background_group() {
            None => Ok(()),
            Some(group) => stop_background(group, SIGTTIN, Err(EIO)),
        }
    }

    /// Lets a process in the background write unless `TOSTOP` is set.
    ///
    /// # Errors
    ///
    /// As [`check_change`](Self::check_change).
    pub(super) fn check_write(&self) -> Result<()> {
        if self.discipline.lock().termios.has_local(TOSTOP) { self.check_change() } else { Ok(()) }
    }

    /// Lets a process change the terminal only in the foreground; one in the background is stopped by `SIGTTOU`, unless it
    /// blocks or ignores that.
    ///
    /// # Errors
    ///
    /// EIO if nobody could continue it; ERESTARTSYS after the signal.
    pub(super) fn check_change(&self) -> Result<()> {
        match self.background_group() {
            None => Ok(()),
            Some(group) => stop_background(group, SIGTTOU, Ok(())),
        }
    }

    /// The caller's group, if the terminal is its controlling terminal and another group is in front.
    fn background_group(&self) -> Option<Pid> {
        if !self.is_controlling() {
            return None;
        }
        let group = Thread::current()?.process().group();
        let foreground = self.control().foreground;
        (foreground != 0 && foreground != group).then_some(group)
    }
}

fn stop_background(group: Pid, signal: u32, if_unheard: Result<()>) -> Result<()> {
    let Some(thread) = Thread::current() else { return Ok(()) };
    let is_ignored = thread.process().signals.action(signal as u8).ignores(signal as u8);
    if is_ignored || thread.signals.blocked().contains(signal as u8) {
        return if_unheard;
    }
    if table::with(|table| table.is_orphaned(group, None)) {
        return Err(EIO);
    }
    signal::send_to_group(group, SigInfo::kernel(signal as u8));
    Err(ERESTARTSYS)
}
