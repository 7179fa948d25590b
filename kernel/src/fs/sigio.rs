// SPDX-License-Identifier: MPL-2.0

//! Signals when a file becomes ready: `O_ASYNC`, as in `fcntl(2)`, "Managing signals".
//!
//! ```text
//!   File ──► FileOwner { whom, signal } ◄──weak── AsyncList ── in ──► pipe, socket, terminal
//! ```
//!
//! A file that can do this keeps an [`AsyncList`] for each thing that can become possible, beside the queue of those who
//! wait for it, and tells the list where it wakes the queue. What is in the list knows no file: nothing is closed where a
//! file becomes ready.

use linux_raw_sys::general::{
    POLL_HUP, POLL_IN, POLL_OUT, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRBAND, POLLWRNORM,
    RLIMIT_SIGPENDING, SI_SIGIO, SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGIO, SIGSEGV, SIGSYS, SIGTRAP,
};

use super::{Fd, current::credentials};
use crate::{
    prelude::*,
    process::{credentials::Uid, table},
    signal::{self, Queued, SigDetail, SigInfo, Slot},
};

/// What has become possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Reading.
    In,
    /// Writing.
    Out,
    /// Nothing any more: the other side has hung up.
    HangUp,
}

impl Readiness {
    /// `si_code` and `si_band`.
    const fn code_and_band(self) -> (u32, u32) {
        match self {
            Self::In => (POLL_IN, POLLIN | POLLRDNORM),
            Self::Out => (POLL_OUT, POLLOUT | POLLWRNORM | POLLWRBAND),
            Self::HangUp => (POLL_HUP, POLLHUP | POLLERR),
        }
    }
}

/// Who gets the signals of a file.
#[derive(Clone, Default)]
pub enum Target {
    /// Nobody.
    #[default]
    Nobody,
    /// A process, while it lives.
    Process(Weak<Process>),
    /// A thread, while it lives.
    Thread(Weak<Thread>),
    /// All members of a process group.
    Group(Pid),
}

impl Target {
    /// The process with this number; 0 is nobody.
    ///
    /// # Errors
    ///
    /// ESRCH.
    pub fn process(pid: Pid) -> Result<Self> {
        if pid == 0 {
            return Ok(Self::Nobody);
        }
        // The number of a thread stands for its process.
        let process = table::with(|table| table.node_of_thread(pid).map(|node| node.process.clone()));
        Ok(Self::Process(Arc::downgrade(&process.ok_or(ESRCH)?)))
    }

    /// The thread with this number; 0 is nobody.
    ///
    /// # Errors
    ///
    /// ESRCH.
    pub fn thread(tid: Tid) -> Result<Self> {
        match tid {
            0 => Ok(Self::Nobody),
            _ => Ok(Self::Thread(Arc::downgrade(&table::thread(tid).ok_or(ESRCH)?))),
        }
    }

    /// The process group with this number; 0 is nobody.
    ///
    /// # Errors
    ///
    /// ESRCH.
    pub fn group(group: Pid) -> Result<Self> {
        match group {
            0 => Ok(Self::Nobody),
            _ if table::with(|table| table.session_of_group(group).is_some()) => Ok(Self::Group(group)),
            _ => Err(ESRCH),
        }
    }

    /// Its number; 0 if it is nobody, or is gone.
    pub fn number(&self) -> Pid {
        match self {
            Self::Nobody => 0,
            Self::Process(process) => process
                .upgrade()
                .map(|process| process.pid())
                .filter(|pid| table::process(*pid).is_some())
                .unwrap_or(0),
            Self::Thread(thread) => thread
                .upgrade()
                .map(|thread| thread.tid())
                .filter(|tid| table::thread(*tid).is_some())
                .unwrap_or(0),
            Self::Group(group) => {
                let is_there = table::with(|table| table.session_of_group(*group).is_some());
                if is_there { *group } else { 0 }
            }
        }
    }
}

/// Who gets the signals of a file, and which (`F_SETOWN`, `F_SETSIG`).
pub struct FileOwner {
    settings: SpinLock<Settings>,
}

impl Default for FileOwner {
    fn default() -> Self {
        Self { settings: SpinLock::new(Settings::default()) }
    }
}

#[derive(Clone, Default)]
struct Settings {
    target: Target,
    /// The real and effective user of who has set the target.
    users: [Uid; 2],
    /// 0 stands for `SIGIO` without details.
    signal: u8,
}

impl FileOwner {
    /// Who gets the signals.
    pub fn target(&self) -> Target {
        self.settings.lock().target.clone()
    }

    /// Changes who gets the signals. What the caller may send, the file may.
    pub fn set_target(&self, target: Target) {
        let caller = credentials();
        let mut settings = self.settings.lock();
        let old = core::mem::replace(&mut settings.target, target);
        settings.users = [caller.uid, caller.euid];
        drop(settings);
        drop(old);
    }

    /// The same, unless somebody gets them already.
    pub fn set_target_if_none(&self, target: Target) {
        if matches!(self.target(), Target::Nobody) {
            self.set_target(target);
        }
    }

    /// The signal; 0 for `SIGIO` without details.
    pub fn signal(&self) -> u8 {
        self.settings.lock().signal
    }

    /// Changes the signal.
    pub fn set_signal(&self, signal: u8) {
        self.settings.lock().signal = signal;
    }

    fn tell(&self, fd: Fd, readiness: Readiness) {
        let Settings { target, users, signal } = self.settings.lock().clone();
        let send = |process: &Arc<Process>, thread: Option<&Thread>| {
            if may_tell(users, process) {
                send(process, thread, signal, fd, readiness);
            }
        };
        match target {
            Target::Nobody => {}
            Target::Process(process) => {
                if let Some(process) = process.upgrade() {
                    send(&process, None);
                }
            }
            Target::Thread(thread) => {
                if let Some(thread) = thread.upgrade() {
                    send(thread.process(), Some(&thread));
                }
            }
            Target::Group(group) => table::visit_group(group, |process| send(process, None)),
        }
    }
}

/// Whether whoever has these users may send the process such signals (Linux's `sigio_perm`).
fn may_tell([uid, euid]: [Uid; 2], process: &Process) -> bool {
    let Some(thread) = process.main_thread() else { return false };
    let theirs = thread.credentials();
    euid == 0 || [uid, euid].iter().any(|user| [theirs.uid, theirs.suid].contains(user))
}

/// Sends the chosen signal; `SIGIO` without details if none was chosen, or no more can be queued.
fn send(process: &Arc<Process>, thread: Option<&Thread>, signal: u8, fd: Fd, readiness: Readiness) {
    /// Signals whose codes mean something else.
    const HAVE_CODES: [u32; 7] = [SIGILL, SIGFPE, SIGSEGV, SIGBUS, SIGTRAP, SIGCHLD, SIGSYS];
    let slot = match signal {
        0 => None,
        _ => Slot::take(process.real_uid(), process.rlimits.soft(RLIMIT_SIGPENDING)),
    };
    let info = if slot.is_some() {
        let (code, band) = readiness.code_and_band();
        let code = if HAVE_CODES.contains(&u32::from(signal)) { SI_SIGIO } else { code as i32 };
        SigInfo { signal, errno: 0, code, detail: SigDetail::Poll { band: i64::from(band), fd } }
    } else {
        SigInfo::kernel(SIGIO as u8)
    };
    signal::post(process, thread, Queued { info, slot, owner: None });
}

/// The files that want a signal when something becomes possible.
pub struct AsyncList {
    /// By numbers that ascend.
    entries: SpinLock<BTreeMap<u64, (Weak<FileOwner>, Fd)>>,
    /// So that most are told without a lock.
    len: AtomicUsize,
}

impl Default for AsyncList {
    fn default() -> Self {
        Self { entries: SpinLock::new(BTreeMap::new()), len: AtomicUsize::new(0) }
    }
}

impl AsyncList {
    /// Adds the file with this owner, under the number that its signals name; or takes it out.
    pub fn set(&self, owner: &Arc<FileOwner>, fd: Option<Fd>) {
        let own = Arc::downgrade(owner);
        let mut entries = self.entries.lock();
        entries.retain(|_, (other, _)| other.strong_count() > 0 && !other.ptr_eq(&own));
        if let Some(fd) = fd {
            let next = entries.last_key_value().map_or(0, |(last, _)| last + 1);
            entries.insert(next, (own, fd));
        }
        self.len.store(entries.len(), Ordering::Relaxed);
    }

    /// Takes all files out.
    pub fn clear(&self) {
        let old = core::mem::take(&mut *self.entries.lock());
        self.len.store(0, Ordering::Relaxed);
        drop(old);
    }

    /// Sends the signals. To be called after the change, where sending signals is allowed.
    pub fn tell(&self, readiness: Readiness) {
        if self.len.load(Ordering::Relaxed) == 0 {
            return;
        }
        let from = |number: u64| {
            let entries = self.entries.lock();
            entries.range(number..).next().map(|(number, (owner, fd))| (*number, owner.clone(), *fd))
        };
        let mut next = 0;
        while let Some((number, owner, fd)) = from(next) {
            if let Some(owner) = owner.upgrade() {
                owner.tell(fd, readiness);
            }
            next = number + 1;
        }
    }
}
