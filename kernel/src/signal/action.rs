// SPDX-License-Identifier: MPL-2.0

//! Dispositions: what a process does on each signal, as in `sigaction(2)` and `signal(7)`.

use linux_raw_sys::general::*;
use spin::Once;

use super::SigSet;
use crate::prelude::*;

/// How many signals there are.
pub const SIGNAL_COUNT: usize = 64;
/// The first real-time signal: from here on signals queue instead of merging.
pub const FIRST_REAL_TIME: u8 = SIGRTMIN as u8;

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// The flags that have a meaning; others are dropped, so that programs can find out (`sigaction(2)`, NOTES).
const KNOWN_FLAGS: u64 = (SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND
    | SA_EXPOSE_TAGBITS
    | SA_RESTORER) as u64;

/// A signal's disposition; the layout of the kernel's `struct sigaction`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigAction {
    handler: usize,
    flags: u64,
    /// Where the handler returns to.
    pub restorer: Vaddr,
    /// What is blocked while the handler runs.
    pub mask: SigSet,
}

/// What a disposition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The default action.
    Default,
    /// Nothing.
    Ignore,
    /// Run the handler at this address.
    Handler(Vaddr),
}

/// What a signal does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// End the process.
    Terminate,
    /// End the process with a core dump.
    Core,
    /// Nothing.
    Ignore,
    /// Stop the process.
    Stop,
}

impl SigAction {
    /// The action with what means nothing, and what cannot be blocked, taken out.
    pub fn sanitized(self) -> Self {
        Self { flags: self.flags & KNOWN_FLAGS, mask: self.mask.without(SigSet::UNMASKABLE), ..self }
    }

    /// What it says.
    pub fn disposition(&self) -> Disposition {
        match self.handler {
            SIG_DFL => Disposition::Default,
            SIG_IGN => Disposition::Ignore,
            handler => Disposition::Handler(handler),
        }
    }

    /// Whether it has all of `flags` (`SA_*`).
    pub fn has(&self, flags: u32) -> bool {
        self.flags & u64::from(flags) == u64::from(flags)
    }

    /// Whether it makes `signal` do nothing.
    pub fn ignores(&self, signal: u8) -> bool {
        match self.disposition() {
            Disposition::Ignore => true,
            Disposition::Default => default_action(signal) == DefaultAction::Ignore,
            Disposition::Handler(_) => false,
        }
    }

    /// Makes it the default, flags aside.
    pub fn set_default(&mut self) {
        self.handler = SIG_DFL;
    }
}

/// What `signal` does by default. For `SIGCONT` that is nothing here: it has continued the process when it was sent.
pub fn default_action(signal: u8) -> DefaultAction {
    match u32::from(signal) {
        SIGCHLD | SIGURG | SIGWINCH | SIGCONT => DefaultAction::Ignore,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => DefaultAction::Stop,
        SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGFPE | SIGSEGV | SIGBUS | SIGSYS | SIGXCPU | SIGXFSZ => {
            DefaultAction::Core
        }
        _ => DefaultAction::Terminate,
    }
}

/// The dispositions of all signals. Processes may share one (`CLONE_SIGHAND`).
///
/// A copy shares the actions until either table changes: a child most often changes none, and a new program starts with the
/// defaults.
pub(super) struct ActionTable(SpinLock<Arc<Actions>, LocalIrqDisabled>);

#[derive(Clone)]
struct Actions {
    list: [SigAction; SIGNAL_COUNT],
    /// The signals whose actions are not all default.
    changed: SigSet,
}

impl Actions {
    /// The defaults.
    fn initial() -> Arc<Self> {
        static INITIAL: Once<Arc<Actions>> = Once::new();
        let initial =
            || Arc::new(Self { list: [SigAction::default(); SIGNAL_COUNT], changed: SigSet::EMPTY });
        INITIAL.call_once(initial).clone()
    }

    fn get(&self, signal: u8) -> SigAction {
        self.list.get(usize::from(signal).wrapping_sub(1)).copied().unwrap_or_default()
    }

    fn set(&mut self, signal: u8, action: SigAction) {
        if let Some(place) = self.list.get_mut(usize::from(signal).wrapping_sub(1)) {
            *place = action;
            self.changed.add(signal);
        }
    }
}

impl ActionTable {
    pub(super) fn new() -> Self {
        Self(SpinLock::new(Actions::initial()))
    }

    /// The action of `signal`, which is 1 to 64; the default for others.
    pub(super) fn get(&self, signal: u8) -> SigAction {
        self.0.lock().get(signal)
    }

    /// Changes the action of `signal`, and answers what it was.
    pub(super) fn update(&self, signal: u8, change: impl FnOnce(&mut SigAction)) -> SigAction {
        let mut actions = self.0.lock();
        let old = actions.get(signal);
        let mut new = old;
        change(&mut new);
        if new != old {
            Arc::make_mut(&mut actions).set(signal, new);
        }
        old
    }

    /// A copy of its own.
    pub(super) fn copy(&self) -> Self {
        Self(SpinLock::new(self.0.lock().clone()))
    }

    /// A copy as exec leaves it: no handlers; what is ignored stays so.
    pub(super) fn copy_for_exec(&self) -> Self {
        let old = self.0.lock().clone();
        let mut new = Actions::initial();
        let mut left = old.changed;
        while let Some(signal) = left.first() {
            left.remove(signal);
            if old.get(signal).handler == SIG_IGN {
                let ignore = SigAction { handler: SIG_IGN, ..SigAction::default() };
                Arc::make_mut(&mut new).set(signal, ignore);
            }
        }
        Self(SpinLock::new(new))
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn an_action_has_the_layout_of_linux() {
        assert_eq!(size_of::<SigAction>(), size_of::<kernel_sigaction>());
        assert_eq!(core::mem::offset_of!(SigAction, restorer), 16);
        assert_eq!(core::mem::offset_of!(SigAction, mask), 24);
    }

    #[ktest]
    fn exec_keeps_only_what_is_ignored() {
        let table = ActionTable::new();
        table.update(1, |action| action.handler = SIG_IGN);
        table.update(2, |action| *action = SigAction { handler: 0x1000, flags: 4, ..SigAction::default() });
        let after = table.copy_for_exec();
        assert_eq!(after.get(1).disposition(), Disposition::Ignore);
        assert_eq!(after.get(2), SigAction::default());
        assert_eq!(table.get(2).disposition(), Disposition::Handler(0x1000));
    }

    #[ktest]
    fn a_copy_is_on_its_own() {
        let table = ActionTable::new();
        table.update(1, |action| action.handler = SIG_IGN);
        let copy = table.copy();
        copy.update(1, |action| action.handler = 0x1000);
        table.update(2, |action| action.handler = 0x2000);
        assert_eq!(table.get(1).disposition(), Disposition::Ignore);
        assert_eq!(copy.get(1).disposition(), Disposition::Handler(0x1000));
        assert_eq!(copy.get(2), SigAction::default());
        assert_eq!(ActionTable::new().get(1), SigAction::default());
    }

    #[ktest]
    fn unknown_flags_and_unmaskable_signals_are_dropped() {
        let action = SigAction { flags: u64::MAX, mask: SigSet::from_bits(u64::MAX), ..SigAction::default() };
        let action = action.sanitized();
        assert!(!action.has(SA_UNSUPPORTED) && action.has(SA_RESTART));
        assert!(!action.mask.contains(9) && !action.mask.contains(19) && action.mask.contains(10));
    }
}
