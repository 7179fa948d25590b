// SPDX-License-Identifier: MPL-2.0

//! The frame on a handler's stack, in the layout of Linux on x86-64 (`struct rt_sigframe`).
//!
//! ```text
//!           the interrupted program's stack, or the top of the alternate stack
//!           128 bytes that belong to the program (the red zone)
//! 64-aligned ┌──────────────────────────────┐
//!            │ floating-point state         │ FXSAVE image, XSAVE header and states, FP_XSTATE_MAGIC2
//!            ├──────────────────────────────┤
//!            │ siginfo              128     │
//!            │ ucontext             304     │ flags, link, stack, registers, mask
//!      rsp ─►│ restorer               8     │ what the handler returns to; rsp + 8 is 16-aligned
//!            └──────────────────────────────┘
//! ```
//!
//! What a program may not set must not come back through `rt_sigreturn`: flags are filtered by OSTD, a program counter that
//! the CPU could not load ends the process, and the floating-point state is in [`super::fpu`].

use linux_raw_sys::general::SA_ONSTACK;
use ostd::{
    arch::cpu::context::{FpuContext, GeneralRegs, UserContext},
    mm::MAX_USERSPACE_VADDR,
    user::UserContextApi,
};
use spin::Once;

use super::{SigAction, SigInfo, SigSet, fpu, info::RawSigInfo, set_blocked, stack::AltStack};
use crate::prelude::*;

/// The bytes below the stack pointer that a function may use without moving it (System V ABI).
const RED_ZONE: usize = 128;

/// `uc_flags`: the floating-point state has the extended format; the SS that is saved counts.
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;

/// RFLAGS bits that a handler does not start with: single-step, direction, resume.
const CLEARED_FLAGS: usize = 1 << 8 | 1 << 10 | 1 << 16;
/// RFLAGS bit "nested task", which `rt_sigreturn` does not restore.
const NESTED_TASK: usize = 1 << 14;

/// `struct sigcontext`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, Default)]
struct SigContext {
    r8: usize,
    r9: usize,
    r10: usize,
    r11: usize,
    r12: usize,
    r13: usize,
    r14: usize,
    r15: usize,
    rdi: usize,
    rsi: usize,
    rbp: usize,
    rbx: usize,
    rdx: usize,
    rax: usize,
    rcx: usize,
    rsp: usize,
    rip: usize,
    rflags: usize,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: Vaddr,
    reserved: [u64; 8],
}

/// `ucontext_t`, as the kernel has it.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
struct UContext {
    flags: u64,
    link: Vaddr,
    stack: AltStack,
    registers: SigContext,
    mask: SigSet,
}

/// `struct rt_sigframe`, without the floating-point state.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug)]
struct Frame {
    restorer: Vaddr,
    context: UContext,
    info: RawSigInfo,
}

const CONTEXT: usize = core::mem::offset_of!(Frame, context);
const INFO: usize = core::mem::offset_of!(Frame, info);

/// Where the parts of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    frame: Vaddr,
    fpstate: Vaddr,
}

/// Lays a frame out below `top`, with a floating-point state of `len` bytes.
fn place_below(top: Vaddr, len: usize) -> Place {
    let fpstate = top.wrapping_sub(len) & !63;
    let frame = (fpstate.wrapping_sub(size_of::<Frame>()) & !15).wrapping_sub(8);
    Place { frame, fpstate }
}

/// The least an alternate stack must have: room for a frame, its alignment, and a little to work with (`AT_MINSIGSTKSZ`).
pub fn min_stack_size() -> usize {
    const ALIGNMENT: usize = 64 + 16;
    static STATE_LEN: Once<usize> = Once::new();
    let state = STATE_LEN.call_once(|| fpu::saved_len_of(&FpuContext::new()));
    (size_of::<Frame>() + state + ALIGNMENT).next_multiple_of(16)
}

/// Has the thread run the handler at `handler` for `info` when it returns to user mode; `mask` is what `rt_sigreturn` will
/// restore.
///
/// # Errors
///
/// `EFAULT` if the frame does not fit the stack; nothing but memory below the stack pointer has changed then.
pub(super) fn push(
    ctx: &Ctx,
    registers: &mut UserContext,
    action: &SigAction,
    handler: Vaddr,
    info: &SigInfo,
    mask: SigSet,
) -> Result<()> {
    if !action.has(linux_raw_sys::general::SA_RESTORER) || !is_loadable(handler) {
        return Err(EFAULT);
    }
    let stack = ctx.thread.signals.stack();
    let sp = registers.stack_pointer();
    let below = sp.wrapping_sub(RED_ZONE);
    let alternate = if action.has(SA_ONSTACK) { stack.top_for(sp) } else { None };
    let place = place_below(alternate.unwrap_or(below), fpu::saved_len(ctx));
    let on_alternate = alternate.is_some() || (stack.size != 0 && stack.is_active(sp));
    if on_alternate && !stack.holds(place.frame) {
        return Err(EFAULT);
    }

    let trap = ctx.local.last_trap();
    let extended = fpu::save_to(ctx, place.fpstate)?;
    let frame = Frame {
        restorer: action.restorer,
        context: UContext {
            flags: UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | if extended { UC_FP_XSTATE } else { 0 },
            link: 0,
            stack,
            registers: SigContext {
                cs: USER_CS,
                ss: USER_SS,
                error: trap.error_code as u64,
                trap: trap.number as u64,
                old_mask: mask.bits(),
                cr2: trap.addr as u64,
                fpstate: place.fpstate,
                ..SigContext::of(registers)
            },
            mask,
        },
        info: info.to_raw(),
    };
    ctx.vm.write_val(place.frame, &frame)?;

    if stack.flags & linux_raw_sys::general::SS_AUTODISARM != 0 {
        ctx.thread.signals.set_stack(AltStack::NONE);
    }
    fpu::reset(ctx);
    registers.set_rdi(usize::from(info.signal));
    registers.set_rsi(place.frame + INFO);
    registers.set_rdx(place.frame + CONTEXT);
    registers.set_rax(0);
    registers.set_stack_pointer(place.frame);
    registers.set_instruction_pointer(handler);
    registers.set_rflags(registers.rflags() & !CLEARED_FLAGS);
    Ok(())
}

/// `rt_sigreturn(2)`: takes the frame off the stack again.
///
/// # Errors
///
/// `EFAULT` if the frame cannot be read, or holds what the CPU could not load.
pub(super) fn pop(ctx: &Ctx, registers: &mut UserContext) -> Result<()> {
    // The handler's return has taken the restorer off.
    let context: UContext = ctx.vm.read_val(registers.stack_pointer())?;
    let saved = context.registers;
    if !is_loadable(saved.rip) {
        return Err(EFAULT);
    }
    fpu::restore_from(ctx, saved.fpstate)?;
    set_blocked(ctx.thread, context.mask);
    *registers.general_regs_mut() = saved.general();
    let nested = registers.rflags() & NESTED_TASK;
    registers.set_rflags(saved.rflags & !NESTED_TASK | nested);
    // As Linux does, a stack that cannot be had again is no reason to fail.
    if let Ok(stack) = ctx.thread.signals.stack().replaced(context.stack, saved.rsp) {
        ctx.thread.signals.set_stack(stack);
    }
    let restart = ctx.thread.signals.take_restart();
    drop(restart);
    Ok(())
}

/// Whether the CPU can load `rip` on its way to user mode. The kernel's half faults there harmlessly; what is in neither half
/// would fault in the kernel.
fn is_loadable(rip: Vaddr) -> bool {
    let high = rip as isize >> 47;
    rip < MAX_USERSPACE_VADDR || high == 0 || high == -1
}

impl SigContext {
    fn of(registers: &UserContext) -> Self {
        let general = registers.general_regs();
        Self {
            r8: general.r8,
            r9: general.r9,
            r10: general.r10,
            r11: general.r11,
            r12: general.r12,
            r13: general.r13,
            r14: general.r14,
            r15: general.r15,
            rdi: general.rdi,
            rsi: general.rsi,
            rbp: general.rbp,
            rbx: general.rbx,
            rdx: general.rdx,
            rax: general.rax,
            rcx: general.rcx,
            rsp: general.rsp,
            rip: general.rip,
            rflags: registers.rflags(),
            ..Self::default()
        }
    }

    fn general(&self) -> GeneralRegs {
        GeneralRegs {
            rax: self.rax,
            rbx: self.rbx,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            rbp: self.rbp,
            rsp: self.rsp,
            r8: self.r8,
            r9: self.r9,
            r10: self.r10,
            r11: self.r11,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            rip: self.rip,
        }
    }
}

#[cfg(ktest)]
mod test {
    use core::mem::offset_of;

    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn the_frame_has_the_sizes_of_linux() {
        assert_eq!(size_of::<SigContext>(), 256);
        assert_eq!(size_of::<UContext>(), 304);
        assert_eq!(size_of::<Frame>(), 440);
        assert_eq!(offset_of!(UContext, registers), 40);
        assert_eq!(offset_of!(UContext, mask), 296);
        assert_eq!(offset_of!(SigContext, fpstate), 184);
    }

    #[ktest]
    fn a_handler_starts_with_the_stack_of_a_called_function() {
        for top in 0x10_000..0x10_080 {
            let place = place_below(top, 836);
            assert_eq!((place.frame + 8) % 16, 0);
            assert_eq!(place.fpstate % 64, 0);
            assert!(place.fpstate + 836 <= top && place.frame + size_of::<Frame>() <= place.fpstate);
        }
    }

    #[ktest]
    fn only_canonical_addresses_are_loadable() {
        assert!(is_loadable(0) && is_loadable(0x7fff_ffff_ffff) && is_loadable(usize::MAX));
        assert!(!is_loadable(0x8000_0000_0000) && !is_loadable(1 << 63));
    }
}
