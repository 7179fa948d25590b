// SPDX-License-Identifier: MPL-2.0

//! Registers of a tracee: all at once, one by one, in sets, and the floating-point state.

use std::{
    arch::asm,
    mem::{offset_of, zeroed},
};

use libc::{SIGSEGV, SIGTRAP, iovec, user_fpregs_struct};

use super::*;
use crate::process::killed;

pub const CASES: &[Case] = cases!["ptrace/registers":
    read_and_written_at_once,
    read_and_written_one_by_one,
    words_outside_are_eio,
    segments_and_bases_are_checked,
    flags_of_the_kernel_stay,
    sets_by_name,
    sets_that_are_not_there,
    floating_point_state,
    extended_state,
    extended_state_that_cannot_be_loaded,
    program_counter_nowhere_faults,
];

const NT_PRSTATUS: usize = 1;
const NT_PRFPREG: usize = 2;
const NT_X86_XSTATE: usize = 0x202;
/// The length of the kernel's `struct user`, and where its debug registers are.
const USER_LEN: usize = 928;
const DEBUG: usize = 848;
/// The words of `user_regs_struct`.
const WORDS: usize = 27;

fn words_of(registers: &user_regs_struct) -> [u64; WORDS] {
    // SAFETY: as many words, and nothing else.
    unsafe { std::mem::transmute(*registers) }
}

/// A child that has stopped at a trap with known registers, and that exits with what it has in RBX then.
fn at_trap() -> Child {
    let child = traced(|| {
        let code: u64;
        // SAFETY: a trap, which the tracer takes.
        unsafe {
            asm!("xchg rbx, {0}", "int3", "xchg rbx, {0}", inout(reg) 0x1234_5678_9abc_u64 => code,
                in("r12") 12_u64, in("r15") 15_u64, in("rdi") 5_u64)
        };
        sys::exit_group(code as i32);
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    child
}

fn read_and_written_at_once() {
    let child = at_trap();
    let mut registers = registers_of(child.pid);
    check_eq!((registers.rbx, registers.r12, registers.r15, registers.rdi), (0x1234_5678_9abc, 12, 15, 5));
    check_eq!((registers.cs, registers.ss, registers.ds, registers.orig_rax), (0x33, 0x2b, 0, u64::MAX));
    check!(registers.fs_base != 0 && registers.rsp != 0);
    registers.rbx = 6;
    registers.r9 = 0xffff_ffff_ffff_fff9;
    ok!(set_registers(child.pid, &registers));
    check_eq!(words_of(&registers_of(child.pid)), words_of(&registers));
    errno_is!(ptrace(PTRACE_GETREGS, child.pid, 0, 8), EFAULT);
    errno_is!(ptrace(PTRACE_SETREGS, child.pid, 0, 8), EFAULT);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 6 << 8);
}

fn peek_user(pid: i32, offset: usize) -> sys::Result {
    let mut word = 0x5555_usize;
    ptrace(PTRACE_PEEKUSER, pid, offset, &raw mut word as usize).map(|_| word)
}

fn read_and_written_one_by_one() {
    let child = at_trap();
    check_eq!(peek_user(child.pid, offset_of!(user_regs_struct, rbx)), Ok(0x1234_5678_9abc));
    check_eq!(peek_user(child.pid, offset_of!(user_regs_struct, r12)), Ok(12));
    ok!(ptrace(PTRACE_POKEUSER, child.pid, offset_of!(user_regs_struct, rbx), 7));
    check_eq!(registers_of(child.pid).rbx, 7);
    // Nothing was set in the debug registers.
    for register in 0..8 {
        let offset = DEBUG + 8 * register;
        if register != 6 {
            check_eq!(peek_user(child.pid, offset), Ok(0));
        }
        ok!(ptrace(PTRACE_POKEUSER, child.pid, DEBUG, 0));
    }
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 7 << 8);
}

fn words_outside_are_eio() {
    let child = traced(|| {});
    check_eq!(peek_user(child.pid, 8 * WORDS + 8), Ok(0));
    for offset in [1, 8 * WORDS + 4, USER_LEN, usize::MAX - 7] {
        errno_is!(peek_user(child.pid, offset), EIO);
        errno_is!(ptrace(PTRACE_POKEUSER, child.pid, offset, 0), EIO);
    }
    errno_is!(ptrace(PTRACE_POKEUSER, child.pid, 8 * WORDS + 8, 0), EIO);
    errno_is!(ptrace(PTRACE_PEEKUSER, child.pid, 0, 8), EFAULT);
    finish(child);
}

fn segments_and_bases_are_checked() {
    let child = traced(|| {});
    let before = registers_of(child.pid);
    let changes: [fn(&mut user_regs_struct); 5] = [
        |registers| registers.cs = 0,
        |registers| registers.ss = 0x10,
        |registers| registers.ds = 1,
        |registers| registers.fs_base = 0x7fff_ffff_f000,
        |registers| registers.gs_base = u64::MAX,
    ];
    for change in changes {
        let mut registers = before;
        change(&mut registers);
        errno_is!(set_registers(child.pid, &registers), EIO);
        check_eq!(words_of(&registers_of(child.pid)), words_of(&before));
    }
    finish(child);
}

fn flags_of_the_kernel_stay() {
    const CARRY: u64 = 1;
    const INTERRUPTS: u64 = 1 << 9;
    const PRIVILEGE: u64 = 3 << 12;
    let child = traced(|| {});
    let mut registers = registers_of(child.pid);
    let before = registers.eflags;
    check_eq!(before & (INTERRUPTS | PRIVILEGE), INTERRUPTS);
    registers.eflags = before & !INTERRUPTS ^ CARRY | PRIVILEGE;
    ok!(set_registers(child.pid, &registers));
    check_eq!(registers_of(child.pid).eflags, before ^ CARRY);
    finish(child);
}

fn set(request: i32, pid: i32, kind: usize, buffer: &mut [u64], len: usize) -> sys::Result {
    let mut part = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: len };
    ptrace(request, pid, kind, &raw mut part as usize).map(|_| part.iov_len)
}

fn sets_by_name() {
    let child = at_trap();
    let mut words = [0x55; 80];
    check_eq!(set(PTRACE_GETREGSET, child.pid, NT_PRSTATUS, &mut words, 640), Ok(8 * WORDS));
    let registers = registers_of(child.pid);
    check_eq!((words[5], words[3], words[16], words[26]), (registers.rbx, 12, registers.rip, 0));
    check_eq!(words[WORDS], 0x55);
    // A part from the beginning: up to RBX.
    let mut part = [0x55; 80];
    check_eq!(set(PTRACE_GETREGSET, child.pid, NT_PRSTATUS, &mut part, 48), Ok(48));
    check_eq!((part[5], part[6]), (registers.rbx, 0x55));
    part[5] = 9;
    check_eq!(set(PTRACE_SETREGSET, child.pid, NT_PRSTATUS, &mut part, 48), Ok(48));
    check_eq!(words_of(&registers_of(child.pid)), words_of(&user_regs_struct { rbx: 9, ..registers }));
    check_eq!(set(PTRACE_GETREGSET, child.pid, NT_PRFPREG, &mut words, 640), Ok(512));
    check_eq!(set(PTRACE_SETREGSET, child.pid, NT_PRFPREG, &mut words, 512), Ok(512));
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 9 << 8);
}

fn sets_that_are_not_there() {
    let child = traced(|| {});
    let mut words = [0; 80];
    errno_is!(set(PTRACE_GETREGSET, child.pid, 77, &mut words, 640), EINVAL);
    errno_is!(set(PTRACE_SETREGSET, child.pid, 77, &mut words, 640), EINVAL);
    errno_is!(set(PTRACE_GETREGSET, child.pid, NT_PRSTATUS, &mut words, 12), EINVAL);
    errno_is!(set(PTRACE_SETREGSET, child.pid, NT_PRFPREG, &mut words, 504), EINVAL);
    errno_is!(ptrace(PTRACE_GETREGSET, child.pid, NT_PRSTATUS, 8), EFAULT);
    finish(child);
}

fn floating_point_state() {
    let child = traced(|| {
        let (mut low, control): (u64, u32);
        let mut saved = 0_u32;
        // SAFETY: a trap, which the tracer takes; MXCSR is put back.
        unsafe {
            asm!("movq xmm3, {0}", "stmxcsr [{2}]", "int3", "movq {0}, xmm3", "sub rsp, 8", "stmxcsr [rsp]",
                "mov {1:e}, [rsp]", "add rsp, 8", "ldmxcsr [{2}]",
                inout(reg) 0x1122_3344_5566_7788_u64 => low, out(reg) control, in(reg) &raw mut saved,
                out("xmm3") _)
        };
        low ^= u64::from(control);
        sys::exit_group((low == 0x99 ^ 0x7f80) as i32);
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    // SAFETY: plain numbers.
    let mut state: user_fpregs_struct = unsafe { zeroed() };
    ok!(ptrace(PTRACE_GETFPREGS, child.pid, 0, &raw mut state as usize));
    check_eq!(state.mxcsr, 0x1f80);
    check_eq!(state.xmm_space[12..16], [0x5566_7788, 0x1122_3344, 0, 0]);
    let good = state;
    state.mxcsr = 1 << 31;
    errno_is!(ptrace(PTRACE_SETFPREGS, child.pid, 0, &raw const state as usize), EINVAL);
    state = good;
    state.mxcsr = 0x7f80;
    state.xmm_space[12..14].copy_from_slice(&[0x99, 0]);
    ok!(ptrace(PTRACE_SETFPREGS, child.pid, 0, &raw const state as usize));
    errno_is!(ptrace(PTRACE_GETFPREGS, child.pid, 0, 8), EFAULT);
    // SAFETY: plain numbers.
    let mut again: user_fpregs_struct = unsafe { zeroed() };
    ok!(ptrace(PTRACE_GETFPREGS, child.pid, 0, &raw mut again as usize));
    check_eq!((again.mxcsr, again.xmm_space), (state.mxcsr, state.xmm_space));
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 1 << 8);
}

/// The words of an extended state: the control word and others of the x87, MXCSR, the third register of SSE, the features that there
/// can be, the header with those that are in use, and the upper half of the third register of AVX.
const X87: usize = 0;
const MXCSR: usize = 3;
const XMM3: usize = 26;
const AVAILABLE: usize = 58;
const HEADER: usize = 64;
const YMM3: usize = 78;
const AVX: u64 = 1 << 2;
const MOST: usize = 2048;

/// A child that has stopped at a trap with a known vector register, and exits with 1 if that is `lower` and, with AVX, `upper` then.
fn with_vector(has_avx: bool, lower: u64, upper: u64) -> Child {
    let child = traced(|| {
        let (mut low, mut high) = (0x1122_3344_5566_7788_u64, 0x7777_u64);
        // SAFETY: a trap, which the tracer takes. What the processor has not is not executed.
        unsafe {
            if has_avx {
                asm!("vmovq xmm3, {0}", "vmovq xmm4, {1}", "vinsertf128 ymm3, ymm3, xmm4, 1", "int3",
                    "vmovq {0}, xmm3", "vextractf128 xmm4, ymm3, 1", "vmovq {1}, xmm4",
                    inout(reg) low, inout(reg) high, out("xmm3") _, out("xmm4") _);
            } else {
                asm!("movq xmm3, {0}", "int3", "movq {0}, xmm3", inout(reg) low, out("xmm3") _);
                high = upper;
            }
        }
        sys::exit_group(((low, high) == (lower, upper)) as i32);
    });
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(next(child.pid), SIGTRAP);
    child
}

/// The extended state of a tracee, and its length; ends the case where there is none.
fn extended(pid: i32) -> ([u64; MOST], usize) {
    let mut words = [0; MOST];
    match set(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &mut words, 8 * MOST) {
        Ok(len) => (words, len),
        Err(sys::Errno(libc::ENODEV)) => skip!("this processor has no XSAVE"),
        Err(error) => panic!("reading it gives {error}"),
    }
}

fn extended_state() {
    let has_avx = std::arch::is_x86_feature_detected!("avx");
    let child = with_vector(has_avx, 0x99, 0xaa);
    let (mut words, len) = extended(child.pid);
    check!(len >= 576 && len.is_multiple_of(8), "{len}");
    check_eq!((words[AVAILABLE] & 3, words[AVAILABLE] & AVX != 0), (3, has_avx));
    check_eq!((words[XMM3], words[XMM3 + 1]), (0x1122_3344_5566_7788, 0));
    check_eq!((words[X87] as u16, words[MXCSR] as u32), (0x37f, 0x1f80));
    check_eq!((words[HEADER] & 2, words[HEADER + 1..HEADER + 8].iter().all(|word| *word == 0)), (2, true));
    check_eq!(words[HEADER] & !words[AVAILABLE], 0);
    if has_avx {
        check_eq!((words[HEADER] & AVX, words[YMM3], words[YMM3 + 1]), (AVX, 0x7777, 0));
        words[YMM3] = 0xaa;
    }
    // A part from the beginning.
    let mut part = [0x55; MOST];
    check_eq!(set(PTRACE_GETREGSET, child.pid, NT_X86_XSTATE, &mut part, 8 * XMM3 + 8), Ok(8 * XMM3 + 8));
    check_eq!((part[XMM3], part[XMM3 + 1]), (words[XMM3], 0x55));
    words[XMM3] = 0x99;
    check_eq!(set(PTRACE_SETREGSET, child.pid, NT_X86_XSTATE, &mut words, len), Ok(len));
    let (again, _) = extended(child.pid);
    check_eq!((again[XMM3], again[YMM3]), (0x99, words[YMM3]));
    // SAFETY: plain numbers.
    let mut state: user_fpregs_struct = unsafe { zeroed() };
    ok!(ptrace(PTRACE_GETFPREGS, child.pid, 0, &raw mut state as usize));
    check_eq!(state.xmm_space[12..16], [0x99, 0, 0, 0]);
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 1 << 8);
}

fn extended_state_that_cannot_be_loaded() {
    let child = with_vector(false, 0, 0);
    let (words, len) = extended(child.pid);
    let refused = |change: fn(&mut [u64; MOST])| {
        let mut bad = words;
        change(&mut bad);
        set(PTRACE_SETREGSET, child.pid, NT_X86_XSTATE, &mut bad, len)
    };
    errno_is!(refused(|bad| bad[HEADER] |= 1 << 62), EINVAL);
    errno_is!(refused(|bad| bad[HEADER + 1] = 1 << 63), EINVAL);
    errno_is!(refused(|bad| bad[HEADER + 7] = 1), EINVAL);
    errno_is!(refused(|bad| bad[MXCSR] |= 1 << 31), EINVAL);
    let mut whole = words;
    errno_is!(set(PTRACE_SETREGSET, child.pid, NT_X86_XSTATE, &mut whole, len - 8), EFAULT);
    check_eq!(extended(child.pid).0, words);
    // What is not named is in its initial state.
    whole[HEADER] = 0;
    check_eq!(set(PTRACE_SETREGSET, child.pid, NT_X86_XSTATE, &mut whole, len), Ok(len));
    let (initial, _) = extended(child.pid);
    check_eq!((initial[X87] as u16, initial[MXCSR] as u32, initial[XMM3]), (0x37f, 0x1f80, 0));
    go_on(PTRACE_CONT, child.pid, 0);
    check_eq!(end_of(child.pid), 1 << 8);
}

fn program_counter_nowhere_faults() {
    for nowhere in [0x8000_0000_0000, 1 << 63, 0xffff_8000_0000_0000, 0] {
        let child = traced(|| {});
        let mut registers = registers_of(child.pid);
        (registers.rip, registers.rsp, registers.orig_rax) = (nowhere, 1 << 63, u64::MAX);
        ok!(set_registers(child.pid, &registers));
        go_on(PTRACE_CONT, child.pid, 0);
        check_eq!(next(child.pid), SIGSEGV);
        // Not even a tracer that takes the signal away gets it any further.
        go_on(PTRACE_CONT, child.pid, 0);
        check_eq!(next(child.pid), SIGSEGV);
        go_on(PTRACE_CONT, child.pid, SIGSEGV);
        check_eq!(killed(end_of(child.pid)), Some(SIGSEGV));
    }
}
