// SPDX-License-Identifier: MPL-2.0

//! The floating-point states of threads.
//!
//! OSTD clears 4 KiB to make one, and copies one by moving bytes. So the states of threads that have ended are kept for new
//! ones, and it is the CPU that copies: it loads the one and saves into the other.
//!
//! ```text
//! thread ends ─────────────────────────────────────────────────────┬──► POOL ──► new thread, which saves over
//!        │ bytes of it were written otherwise (a handler's frame)  │             all that it will ever load
//!        └───────────────────────────► cleared ────────────────────┘
//! ```
//!
//! The pool is full from the start, and full again when no more threads live than then: what is free does not depend on
//! how many there were meanwhile.
//!
//! Invariant: what the CPU does not save, such as the gaps between its parts, is zero in every state of the pool: a signal frame
//! shows those bytes to the program too.

use ostd::{arch::cpu::context::FpuContext, irq::DisabledLocalIrqGuard};
use spin::Once;

use crate::prelude::*;

/// The most states that are kept.
const POOL_SIZE: usize = 4;

static POOL: SpinLock<Pool, LocalIrqDisabled> =
    SpinLock::new(Pool { states: [const { None }; POOL_SIZE], len: 0 });

static INITIAL: Once<FpuContext> = Once::new();

struct Pool {
    states: [Option<FpuContext>; POOL_SIZE],
    len: usize,
}

impl Pool {
    fn take(&mut self) -> Option<FpuContext> {
        self.len = self.len.checked_sub(1)?;
        self.states[self.len].take()
    }

    /// Keeps `state`, or gives it back if there are enough.
    fn keep(&mut self, state: FpuContext) -> Option<FpuContext> {
        match self.states.get_mut(self.len) {
            Some(place) => {
                self.len += 1;
                place.replace(state)
            }
            None => Some(state),
        }
    }
}

/// Fills the pool.
pub(super) fn init() {
    for _ in 0..POOL_SIZE {
        drop(FpuState::initial());
    }
}

/// The floating-point state of a thread, in memory.
pub struct FpuState {
    /// There until it is dropped, but for nobody's.
    context: Option<FpuContext>,
    /// Whether somebody else than the CPU has written to it.
    is_foreign: bool,
}

impl FpuState {
    /// The state that programs start with.
    pub fn initial() -> Self {
        Self { context: Some(FpuContext::new()), is_foreign: false }
    }

    /// That of nobody: there is nothing to load.
    pub fn none() -> Self {
        Self { context: None, is_foreign: false }
    }

    /// A copy. Where the CPU's own registers count, they have been saved; they are overwritten.
    pub fn copy(&self, guard: &DisabledLocalIrqGuard) -> Self {
        let pooled = POOL.lock().take();
        let mut copy = Self { context: Some(pooled.unwrap_or_default()), is_foreign: false };
        self.load();
        copy.save(guard);
        copy
    }

    /// Makes it the state that programs start with. The CPU's registers are overwritten.
    pub fn reset(&mut self, guard: &DisabledLocalIrqGuard) {
        if self.is_foreign {
            *self = Self::initial();
            return;
        }
        INITIAL.call_once(FpuContext::new).load();
        self.save(guard);
    }

    /// Loads it into the CPU.
    pub fn load(&self) {
        if let Some(context) = &self.context {
            context.load();
        }
    }

    /// Saves the CPU's registers into it.
    pub fn save(&mut self, _guard: &DisabledLocalIrqGuard) {
        if let Some(context) = &mut self.context {
            context.save();
        }
    }

    /// Its bytes, to read and write.
    pub fn context_mut(&mut self) -> &mut FpuContext {
        self.is_foreign = true;
        self.context.get_or_insert_default()
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        if let Some(mut context) = self.context.take() {
            if self.is_foreign {
                context.as_bytes_mut().fill(0);
            }
            let surplus = POOL.lock().keep(context);
            drop(surplus);
        }
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::{irq::disable_local, prelude::ktest};

    use super::*;

    /// The x87 control word with which programs start, and another one.
    const CONTROL: [u8; 2] = [0x7f, 0x03];
    const OTHER_CONTROL: [u8; 2] = [0x7f, 0x02];
    /// A byte that the CPU does not save.
    const UNUSED: usize = 470;

    fn byte(state: &FpuState, at: usize) -> u8 {
        state.context.as_ref().map_or(0, |context| context.as_bytes()[at])
    }

    fn control(state: &FpuState) -> [u8; 2] {
        [byte(state, 0), byte(state, 1)]
    }

    #[ktest]
    fn a_copy_has_the_registers_and_nothing_else() {
        let guard = disable_local();
        let mut state = FpuState::initial();
        let bytes = state.context_mut().as_bytes_mut();
        bytes[..2].copy_from_slice(&OTHER_CONTROL);
        bytes[UNUSED] = 0xaa;
        let copy = state.copy(&guard);
        assert_eq!((control(&copy), byte(&copy, UNUSED)), (OTHER_CONTROL, 0));
        // Neither is what a state of the pool may show.
        drop(state);
        drop(copy);
        for _ in 0..2 {
            let fresh = FpuState::initial().copy(&guard);
            assert_eq!((control(&fresh), byte(&fresh, UNUSED)), (CONTROL, 0));
        }
    }

    #[ktest]
    fn a_reset_state_is_the_initial_one() {
        let guard = disable_local();
        let mut written = FpuState::initial();
        written.context_mut().as_bytes_mut()[..2].copy_from_slice(&OTHER_CONTROL);
        let mut copy = written.copy(&guard);
        copy.reset(&guard);
        assert_eq!(control(&copy), CONTROL);
        written.context_mut().as_bytes_mut()[UNUSED] = 0xaa;
        written.reset(&guard);
        assert_eq!((control(&written), byte(&written, UNUSED)), (CONTROL, 0));
    }
}
