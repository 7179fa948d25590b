// SPDX-License-Identifier: MPL-2.0

//! The alternate signal stack of a thread, as in `sigaltstack(2)`.

use linux_raw_sys::general::{MINSIGSTKSZ, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK};

use crate::prelude::*;

/// `stack_t`, also the state of a thread's alternate stack: none if the size is 0.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltStack {
    /// Its lowest address.
    pub base: Vaddr,
    /// `SS_*`.
    pub flags: u32,
    pad: u32,
    /// Its size in bytes.
    pub size: usize,
}

impl AltStack {
    /// No alternate stack.
    pub const NONE: Self = Self { base: 0, flags: 0, pad: 0, size: 0 };

    /// Whether the stack pointer `sp` lies on the stack, which grows down from its top.
    pub const fn holds(&self, sp: Vaddr) -> bool {
        sp > self.base && sp - self.base <= self.size
    }

    /// Whether a thread with stack pointer `sp` runs on the stack. It never does if handlers disarm it.
    pub const fn is_active(&self, sp: Vaddr) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.holds(sp)
    }

    /// Where a handler that asks for the stack starts, unless there is none or the thread is on it already.
    pub const fn top_for(&self, sp: Vaddr) -> Option<Vaddr> {
        if self.size == 0 || self.is_active(sp) { None } else { Some(self.base.wrapping_add(self.size)) }
    }

    /// The state as `sigaltstack(2)` tells it to a thread with stack pointer `sp`.
    pub const fn described(&self, sp: Vaddr) -> Self {
        let state = if self.size == 0 {
            SS_DISABLE
        } else if self.is_active(sp) {
            SS_ONSTACK
        } else {
            0
        };
        Self { flags: state | (self.flags & SS_AUTODISARM), ..*self }
    }

    /// The state after a thread with stack pointer `sp` has asked for `new`.
    ///
    /// # Errors
    ///
    /// `EPERM` while the thread is on the stack; `EINVAL` for unknown flags; `ENOMEM` if the stack is too small.
    pub fn replaced(&self, new: Self, sp: Vaddr) -> Result<Self> {
        if self.size != 0 && self.is_active(sp) {
            return Err(EPERM);
        }
        match new.flags & !SS_AUTODISARM {
            SS_DISABLE => Ok(Self { flags: new.flags, ..Self::NONE }),
            0 | SS_ONSTACK if new.size < MINSIGSTKSZ as usize => Err(ENOMEM),
            0 | SS_ONSTACK => Ok(Self { pad: 0, ..new }),
            _ => Err(EINVAL),
        }
    }
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    const STACK: AltStack = AltStack { base: 0x1000, flags: 0, pad: 0, size: 0x2000 };

    #[ktest]
    fn the_top_is_on_the_stack_and_the_base_is_not() {
        assert!(STACK.holds(0x3000) && STACK.holds(0x1001) && !STACK.holds(0x1000) && !STACK.holds(0x3001));
        assert_eq!(STACK.top_for(0x7000), Some(0x3000));
        assert_eq!(STACK.top_for(0x2000), None);
        let disarming = AltStack { flags: SS_AUTODISARM, ..STACK };
        assert_eq!(disarming.top_for(0x2000), Some(0x3000));
        assert_eq!(AltStack::NONE.top_for(0x2000), None);
    }

    #[ktest]
    fn a_new_stack_is_checked() {
        assert_eq!(STACK.replaced(STACK, 0x2000), Err(EPERM));
        assert_eq!(STACK.replaced(AltStack { size: 2047, ..STACK }, 0), Err(ENOMEM));
        assert_eq!(STACK.replaced(AltStack { flags: 4, ..STACK }, 0), Err(EINVAL));
        let off = STACK.replaced(AltStack { flags: SS_DISABLE, ..STACK }, 0);
        assert_eq!(off.map(|off| (off.size, off.described(0).flags)), Ok((0, SS_DISABLE)));
    }
}
