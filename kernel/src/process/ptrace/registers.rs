// SPDX-License-Identifier: MPL-2.0

//! The registers of a tracee, as a tracer sees them.
//!
//! ```text
//! struct user    0 ........... 216 ............... 848 ........ 912 .... 928
//!                │ registers   │ nothing to be had │ debug      │ nothing │
//! ```
//!
//! There are no debug registers to set breakpoints in: they are 0, and another value is refused.

use ostd::arch::cpu::context::{GeneralRegs, USER_MODIFIABLE_RFLAGS, UserContext};

use super::State;
use crate::{error::Restart, mm::layout::TASK_SIZE, prelude::*, signal::Interrupted};

/// How many registers there are in `struct user_regs_struct`.
pub const COUNT: usize = 27;
/// The size of `struct user`, and where its debug registers are.
const USER_SIZE: usize = 928;
const DEBUG: core::ops::Range<usize> = 848..912;

const WORD: usize = size_of::<usize>();

const R15: usize = 0;
const R14: usize = 1;
const R13: usize = 2;
const R12: usize = 3;
const RBP: usize = 4;
const RBX: usize = 5;
const R11: usize = 6;
const R10: usize = 7;
const R9: usize = 8;
const R8: usize = 9;
const RAX: usize = 10;
const RCX: usize = 11;
const RDX: usize = 12;
const RSI: usize = 13;
const RDI: usize = 14;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const CS: usize = 17;
const RFLAGS: usize = 18;
const RSP: usize = 19;
const SS: usize = 20;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;
const DS: usize = 23;
const GS: usize = 26;

const USER_CS: usize = 0x33;
const USER_SS: usize = 0x2b;
const CANONICAL_BITS: u32 = 47;

/// No system call is in progress (`orig_rax`).
pub const NO_CALL: usize = usize::MAX;

/// `struct user_regs_struct`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers([usize; COUNT]);

impl Registers {
    /// Those of the calling thread; `call` is one that a signal has interrupted.
    pub(super) fn of(ctx: &Ctx, context: &UserContext, call: Option<Interrupted>) -> Self {
        let general = context.general_regs();
        let mut all = [0; COUNT];
        let values = [
            (R15, general.r15),
            (R14, general.r14),
            (R13, general.r13),
            (R12, general.r12),
            (RBP, general.rbp),
            (RBX, general.rbx),
            (R11, general.r11),
            (R10, general.r10),
            (R9, general.r9),
            (R8, general.r8),
            (RAX, call.map_or(general.rax, |call| call.restart.errno().to_return_value())),
            (RCX, general.rcx),
            (RDX, general.rdx),
            (RSI, general.rsi),
            (RDI, general.rdi),
            (ORIG_RAX, ctx.local.call()),
            (RIP, general.rip),
            (CS, USER_CS),
            (RFLAGS, context.rflags()),
            (RSP, general.rsp),
            (SS, USER_SS),
            (FS_BASE, ctx.local.fs_base()),
            (GS_BASE, ctx.local.gs_base()),
        ];
        values.into_iter().for_each(|(index, value)| all[index] = value);
        Self(all)
    }

    /// Gives the calling thread these registers. Answers the call that is to be made again.
    pub(super) fn load(&self, ctx: &Ctx, context: &mut UserContext) -> Option<Interrupted> {
        let all = &self.0;
        *context.general_regs_mut() = GeneralRegs {
            rax: all[RAX],
            rbx: all[RBX],
            rcx: all[RCX],
            rdx: all[RDX],
            rsi: all[RSI],
            rdi: all[RDI],
            rbp: all[RBP],
            rsp: all[RSP],
            r8: all[R8],
            r9: all[R9],
            r10: all[R10],
            r11: all[R11],
            r12: all[R12],
            r13: all[R13],
            r14: all[R14],
            r15: all[R15],
            rip: loadable(all[RIP]),
        };
        context.set_rflags(all[RFLAGS]);
        if ctx.local.fs_base() != all[FS_BASE] {
            ctx.local.set_fs_base(all[FS_BASE]);
        }
        if ctx.local.gs_base() != all[GS_BASE] {
            ctx.local.set_gs_base(all[GS_BASE]);
        }
        let number = all[ORIG_RAX];
        ctx.local.set_call(number);
        if number as i32 == -1 {
            return None;
        }
        let code = i32::try_from((all[RAX] as isize).wrapping_neg()).ok()?;
        let restart: Restart = Errno::from_code(code)?.restart()?;
        context.set_rax(EINTR.to_return_value());
        Some(Interrupted { number, restart })
    }

    /// All of them, in their order in memory.
    pub fn all(&self) -> &[usize; COUNT] {
        &self.0
    }

    /// The program counter.
    pub fn rip(&self) -> usize {
        self.0[RIP]
    }

    /// The stack pointer.
    pub fn rsp(&self) -> usize {
        self.0[RSP]
    }

    /// The result of a call.
    pub fn rax(&self) -> usize {
        self.0[RAX]
    }

    /// The number of the call, and its arguments.
    pub fn call(&self) -> [usize; 7] {
        [ORIG_RAX, RDI, RSI, RDX, R10, R8, R9].map(|index| self.0[index])
    }

    /// Sets those from the first on, as many as there are values for. If one is refused none is set.
    ///
    /// # Errors
    ///
    /// `EIO` for a segment that a program cannot have, and a base that is not a user address.
    pub fn set(&mut self, first: usize, values: &[usize]) -> Result<()> {
        let mut new = *self;
        for (place, value) in new.0[first..].iter_mut().zip(values) {
            *place = *value;
        }
        let selectors = [new.0[CS], new.0[SS]].map(|selector| selector & 0xffff);
        let has_others = new.0[DS..=GS].iter().any(|selector| selector & 0xffff != 0);
        let is_outside = |index: usize| new.0[index] >= TASK_SIZE;
        if selectors != [USER_CS, USER_SS] || has_others || is_outside(FS_BASE) || is_outside(GS_BASE) {
            return Err(EIO);
        }
        new.0[DS..=GS].fill(0);
        [new.0[CS], new.0[SS]] = selectors;
        new.0[RFLAGS] = self.0[RFLAGS] & !USER_MODIFIABLE_RFLAGS | new.0[RFLAGS] & USER_MODIFIABLE_RFLAGS;
        *self = new;
        Ok(())
    }
}

/// What the CPU can load in place of `rip`: an address that is in neither half would fault in the kernel. It becomes one of the
/// kernel's half, where the program faults.
fn loadable(rip: Vaddr) -> Vaddr {
    match rip as isize >> CANONICAL_BITS {
        0 | -1 => rip,
        _ => rip | usize::MAX << CANONICAL_BITS,
    }
}

/// The word at `offset` in `struct user`.
///
/// # Errors
///
/// `EIO` if it is none.
pub fn peek_user(state: &State, offset: usize) -> Result<usize> {
    if !offset.is_multiple_of(WORD) || offset >= USER_SIZE {
        return Err(EIO);
    }
    Ok(state.registers.0.get(offset / WORD).copied().unwrap_or(0))
}

/// Sets the word at `offset` in `struct user`.
///
/// # Errors
///
/// `EIO` if it is none that can be set; `EINVAL` for a debug register that is not to be 0.
pub fn poke_user(state: &mut State, offset: usize, value: usize) -> Result<()> {
    match offset {
        _ if !offset.is_multiple_of(WORD) => Err(EIO),
        _ if offset < COUNT * WORD => state.registers.set(offset / WORD, &[value]),
        _ if DEBUG.contains(&offset) => {
            if value == 0 {
                Ok(())
            } else {
                Err(EINVAL)
            }
        }
        _ => Err(EIO),
    }
}

/// The length of the FXSAVE image, which `PTRACE_GETFPREGS` reads.
pub const FP_LEN: usize = 512;

/// The FXSAVE image.
///
/// # Errors
///
/// `ENOMEM` if there was no memory for it when the tracee stopped.
pub fn fp_image(state: &State) -> Result<[u8; FP_LEN]> {
    state.fpu.get(..FP_LEN).and_then(|bytes| bytes.try_into().ok()).ok_or(ENOMEM)
}

/// Replaces the FXSAVE image.
///
/// # Errors
///
/// `EINVAL` if MXCSR has a bit that is not there; `ENOMEM` as [`fp_image`].
pub fn set_fp_image(state: &mut State, image: &[u8; FP_LEN]) -> Result<()> {
    if state.fpu.len() < FP_LEN {
        return Err(ENOMEM);
    }
    crate::signal::check_fp_image(image)?;
    let bytes = state.change_fpu();
    bytes[..FP_LEN].copy_from_slice(image);
    crate::signal::name_fp_features(bytes);
    Ok(())
}

/// The whole state in the format of XSAVE, and how long it is.
///
/// # Errors
///
/// `ENODEV` if the CPU has no such format; `ENOMEM` as [`fp_image`].
pub fn extended_image(state: &State) -> Result<Vec<u8>> {
    if state.fpu.is_empty() {
        return Err(ENOMEM);
    }
    let mut image = try_to_vec(&state.fpu)?;
    crate::signal::show_extended(&mut image)?;
    Ok(image)
}

/// Replaces the whole state.
///
/// # Errors
///
/// `EFAULT` unless `image` is as long as the state; `EINVAL` if the CPU cannot load it; `ENODEV` and `ENOMEM` as [`extended_image`].
pub fn set_extended_image(state: &mut State, mut image: Vec<u8>) -> Result<()> {
    if image.len() != state.fpu.len() {
        return Err(EFAULT);
    }
    crate::signal::take_extended(&mut image)?;
    state.change_fpu().copy_from_slice(&image);
    Ok(())
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    fn user() -> Registers {
        let mut registers = Registers::default();
        (registers.0[CS], registers.0[SS]) = (USER_CS, USER_SS);
        registers
    }

    #[ktest]
    fn what_a_program_cannot_have_is_refused_whole() {
        let mut registers = user();
        assert_eq!(registers.set(R15, &[7; CS + 1]), Err(EIO));
        assert_eq!(registers.set(FS_BASE, &[TASK_SIZE]), Err(EIO));
        assert_eq!(registers.set(DS, &[USER_SS]), Err(EIO));
        assert_eq!(registers, user());
        assert_eq!(registers.set(RFLAGS, &[usize::MAX]), Ok(()));
        assert_eq!(registers.0[RFLAGS], USER_MODIFIABLE_RFLAGS);
    }

    #[ktest]
    fn no_program_counter_faults_in_the_kernel() {
        for rip in [0, TASK_SIZE - 1, 1 << 46, usize::MAX] {
            assert_eq!(loadable(rip), rip);
        }
        for rip in [1 << 47, 1 << 63, 0x1234_5678_9abc_def0] {
            assert_eq!(loadable(rip) as isize >> CANONICAL_BITS, -1);
        }
    }
}
