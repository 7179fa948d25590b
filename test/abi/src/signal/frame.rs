// SPDX-License-Identifier: MPL-2.0

//! What a handler finds: registers and floating-point state in its context, the stack it runs on, what rt_sigreturn restores.

use std::{
    arch::asm,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use libc::*;

use super::*;
use crate::child::killed_by;

pub const CASES: &[Case] = cases!["signal/frame":
    registers_survive_a_handler,
    context_holds_the_registers,
    handler_changes_registers,
    handler_changes_the_mask,
    context_holds_the_mask,
    red_zone_is_left_alone,
    stack_is_aligned_like_a_call,
    vector_registers_survive_a_handler,
    context_holds_vector_registers,
    handler_starts_with_clean_floating_point,
    context_says_extended_state,
    direction_flag_is_clear_in_a_handler,
    garbage_context_is_sigsegv,
    unmapped_stack_is_sigsegv,
    bad_return_address_is_sigsegv,
    wild_vector_state_does_no_harm,
];

static SEEN: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

fn seen(index: usize) -> usize {
    SEEN[index].load(SeqCst)
}

fn context_of<'a>(context: *mut c_void) -> &'a mut ucontext_t {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid ucontext, which nobody else uses.
    unsafe { &mut *context.cast() }
}

/// Sends itself a signal with registers that are known, and tells what they are afterwards.
fn raise_with_registers() -> [usize; 6] {
    let mut registers = [0x1111_usize, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666];
    let (pid, tid) = (sys::getpid(), own_tid());
    // SAFETY: the call is tgkill, whose handler returns here.
    unsafe {
        asm!("syscall", inlateout("rax") SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") SIGUSR1,
            inlateout("r8") registers[0], inlateout("r9") registers[1], inlateout("r10") registers[2],
            inlateout("r12") registers[3], inlateout("r13") registers[4], inlateout("r14") registers[5],
            out("rcx") _, out("r11") _, options(nostack));
    }
    registers
}

fn registers_survive_a_handler() {
    handle(SIGUSR1, 0);
    check_eq!(raise_with_registers(), [0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666]);
    check_eq!(count(SIGUSR1), 1);
}

extern "C" fn look(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    let context = context_of(context);
    let registers = [REG_R8, REG_R9, REG_R10, REG_R12, REG_R13, REG_R14, REG_RAX];
    for (slot, register) in SEEN.iter().zip(registers) {
        slot.store(context.uc_mcontext.gregs[register as usize] as usize, SeqCst);
    }
}

fn context_holds_the_registers() {
    handle_with(look, SIGUSR1, 0, 0);
    raise_with_registers();
    check_eq!([0, 1, 2, 3, 4, 5, 6].map(seen), [0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, 0]);
}

extern "C" fn change(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    context_of(context).uc_mcontext.gregs[REG_R12 as usize] = 0x7777;
}

fn handler_changes_registers() {
    handle_with(change, SIGUSR1, 0, 0);
    check_eq!(raise_with_registers()[3], 0x7777);
}

extern "C" fn change_mask(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's set is the first eight bytes of the library's.
    unsafe { (&raw mut context_of(context).uc_sigmask).cast::<u64>().write(u64::MAX) };
}

fn handler_changes_the_mask() {
    handle_with(change_mask, SIGUSR1, 0, 0);
    raise_process(SIGUSR1);
    check_eq!(mask(), !(bit(SIGKILL) | bit(SIGSTOP)));
}

extern "C" fn look_at_mask(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's set is the first eight bytes of the library's.
    let told = unsafe { (&raw const context_of(context).uc_sigmask).cast::<u64>().read() };
    SEEN[0].store(told as usize, SeqCst);
    SEEN[1].store(mask() as usize, SeqCst);
}

fn context_holds_the_mask() {
    handle_with(look_at_mask, SIGUSR1, 0, bit(SIGTERM));
    set_mask(bit(SIGHUP));
    raise_process(SIGUSR1);
    check_eq!(seen(0) as u64, bit(SIGHUP));
    check_eq!(seen(1) as u64, bit(SIGHUP) | bit(SIGTERM) | bit(SIGUSR1));
}

fn red_zone_is_left_alone() {
    handle(SIGUSR1, 0);
    let (pid, tid) = (sys::getpid(), own_tid());
    let (low, high): (usize, usize);
    // SAFETY: the stack pointer is moved down first, so that the bytes below it belong to this block alone.
    unsafe {
        asm!("sub rsp, 256", "mov qword ptr [rsp - 128], {a}", "mov qword ptr [rsp - 8], {b}", "syscall",
            "mov {a}, qword ptr [rsp - 128]", "mov {b}, qword ptr [rsp - 8]", "add rsp, 256",
            a = inout(reg) 0x1234_usize => low, b = inout(reg) 0x5678_usize => high,
            inlateout("rax") SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") SIGUSR1,
            out("rcx") _, out("r11") _);
    }
    check_eq!((low, high, count(SIGUSR1)), (0x1234, 0x5678, 1));
}

std::arch::global_asm!(
    ".global abi_note_stack",
    "abi_note_stack:",
    "lea rax, [rip + {seen}]",
    "mov [rax], rsp",
    "mov [rax + 8], rdi",
    "mov [rax + 16], rsi",
    "mov [rax + 24], rdx",
    "ret",
    seen = sym SEEN,
);

unsafe extern "C" {
    fn abi_note_stack(signal: i32, info: *mut siginfo_t, context: *mut c_void);
}

fn stack_is_aligned_like_a_call() {
    // SAFETY: the function obeys the ABI of a handler.
    let handler: Handler = unsafe { std::mem::transmute(abi_note_stack as *const ()) };
    handle_with(handler, SIGUSR1, 0, 0);
    raise_process(SIGUSR1);
    check_eq!((seen(0) + 8) % 16, 0);
    check_eq!(seen(1), SIGUSR1 as usize);
    check_eq!(seen(3), seen(0) + 8);
    check_eq!(seen(2), seen(0) + 8 + 304);
}

/// Sends itself a signal with values in two vector registers, and tells what they are afterwards.
fn raise_with_vectors() -> (u64, u64) {
    let (pid, tid) = (sys::getpid(), own_tid());
    let (first, last): (u64, u64);
    // SAFETY: the call is tgkill, whose handler returns here.
    unsafe {
        asm!("movq xmm3, {a}", "movq xmm15, {b}", "syscall", "movq {a}, xmm3", "movq {b}, xmm15",
            a = inout(reg) 0x0123_4567_89ab_cdef_u64 => first, b = inout(reg) 0xfedc_ba98_7654_3210_u64 => last,
            inlateout("rax") SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") SIGUSR1,
            out("rcx") _, out("r11") _, out("xmm3") _, out("xmm15") _, options(nostack));
    }
    (first, last)
}

extern "C" fn spoil_vectors(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the registers are told to the compiler.
    unsafe {
        asm!("pcmpeqd xmm3, xmm3", "pcmpeqd xmm15, xmm15", out("xmm3") _, out("xmm15") _, options(nostack));
    }
}

fn vector_registers_survive_a_handler() {
    handle_with(spoil_vectors, SIGUSR1, 0, 0);
    check_eq!(raise_with_vectors(), (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210));
}

static VECTORS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Where a context says that the floating-point state is: behind the general registers.
fn state_pointer(context: *mut c_void) -> *mut *mut u64 {
    context.wrapping_byte_add(40 + 23 * 8).cast()
}

/// The floating-point state of a context, as words.
fn state_of(context: *mut c_void) -> *mut u64 {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid ucontext.
    unsafe { state_pointer(context).read() }
}

const XMM3: usize = (160 + 3 * 16) / 8;
const XMM15: usize = (160 + 15 * 16) / 8;
const SOFTWARE_AREA: usize = 464 / 8;

extern "C" fn look_at_vectors(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    let state = state_of(context);
    // SAFETY: the state has at least 512 bytes, and what the software area says behind them.
    unsafe {
        VECTORS[0].store(state.add(XMM3).read(), SeqCst);
        VECTORS[1].store(state.add(XMM15).read(), SeqCst);
        let magic_and_len = state.add(SOFTWARE_AREA).read();
        VECTORS[2].store(magic_and_len, SeqCst);
        let xstate_len = state.add(SOFTWARE_AREA + 2).read() as u32 as usize;
        if magic_and_len as u32 == 0x4650_5853 {
            VECTORS[3]
                .store(u64::from(state.cast::<u8>().add(xstate_len).cast::<u32>().read_unaligned()), SeqCst);
        }
        state.add(XMM3).write(77);
    }
    SEEN[0].store(context_of(context).uc_flags as usize, SeqCst);
    SEEN[1].store(state as usize % 64, SeqCst);
}

fn context_holds_vector_registers() {
    handle_with(look_at_vectors, SIGUSR1, 0, 0);
    check_eq!(raise_with_vectors(), (77, 0xfedc_ba98_7654_3210));
    check_eq!(VECTORS[0].load(SeqCst), 0x0123_4567_89ab_cdef);
    check_eq!(VECTORS[1].load(SeqCst), 0xfedc_ba98_7654_3210);
    check_eq!(seen(1), 0);
}

fn context_says_extended_state() {
    handle_with(look_at_vectors, SIGUSR1, 0, 0);
    raise_with_vectors();
    const UC_FP_XSTATE: usize = 1;
    if seen(0) & UC_FP_XSTATE == 0 {
        skip!("no extended state on this machine");
    }
    check_eq!(VECTORS[2].load(SeqCst) as u32, 0x4650_5853);
    check_eq!(VECTORS[3].load(SeqCst) as u32, 0x4650_5845);
}

extern "C" fn look_at_mxcsr(_signal: i32, _info: *mut siginfo_t, _context: *mut c_void) {
    let mut mxcsr = 0_u32;
    // SAFETY: stores four bytes into the variable.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack)) };
    SEEN[0].store(mxcsr as usize, SeqCst);
}

fn handler_starts_with_clean_floating_point() {
    handle_with(look_at_mxcsr, SIGUSR1, 0, 0);
    let rounding_up: u32 = 0x5f80;
    let mut after = 0_u32;
    // SAFETY: changes only the rounding, and changes it back.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const rounding_up, options(nostack)) };
    raise_process(SIGUSR1);
    // SAFETY: as above.
    unsafe {
        asm!("stmxcsr [{}]", "ldmxcsr [{}]", in(reg) &raw mut after, in(reg) &0x1f80_u32, options(nostack))
    };
    check_eq!((seen(0), after & !0x3f), (0x1f80, 0x5f80));
}

extern "C" fn look_at_flags(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    let flags: usize;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    SEEN[0].store(flags, SeqCst);
    SEEN[1].store(context_of(context).uc_mcontext.gregs[REG_EFL as usize] as usize, SeqCst);
}

fn direction_flag_is_clear_in_a_handler() {
    const DIRECTION: usize = 1 << 10;
    handle_with(look_at_flags, SIGUSR1, 0, 0);
    let (pid, tid) = (sys::getpid(), own_tid());
    let flags: usize;
    // SAFETY: the flag is cleared again before anything else runs.
    unsafe {
        asm!("std", "syscall", "pushfq", "pop {flags}", "cld", flags = out(reg) flags,
            inlateout("rax") SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") SIGUSR1,
            out("rcx") _, out("r11") _);
    }
    check_eq!((seen(0) & DIRECTION, seen(1) & DIRECTION, flags & DIRECTION), (0, DIRECTION, DIRECTION));
}

extern "C" fn wild_state_pointer(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid ucontext.
    unsafe { state_pointer(context).write(0x10 as *mut u64) };
}

fn garbage_context_is_sigsegv() {
    let killer = killed_by(|| {
        handle_with(wild_state_pointer, SIGUSR1, 0, 0);
        raise_process(SIGUSR1);
    });
    check_eq!(killer, Some(SIGSEGV));
}

fn unmapped_stack_is_sigsegv() {
    let killer = killed_by(|| {
        handle(SIGUSR1, 0);
        let (pid, tid) = (sys::getpid(), own_tid());
        // SAFETY: the process ends here.
        unsafe {
            asm!("mov rsp, 0x1000", "syscall", "ud2", in("rax") SYS_tgkill, in("rdi") pid, in("rsi") tid,
                in("rdx") SIGUSR1, options(noreturn));
        }
    });
    check_eq!(killer, Some(SIGSEGV));
}

extern "C" fn wild_address(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    context_of(context).uc_mcontext.gregs[REG_RIP as usize] = 0x0dea_dbee_f000_0000;
}

fn bad_return_address_is_sigsegv() {
    let killer = killed_by(|| {
        handle_with(wild_address, SIGUSR1, 0, 0);
        raise_process(SIGUSR1);
    });
    check_eq!(killer, Some(SIGSEGV));
    let killer = killed_by(|| {
        // SAFETY: no function, but nobody calls it.
        let handler: Handler = unsafe { std::mem::transmute(0x0dea_dbee_f000_0000_usize) };
        handle_with(handler, SIGUSR1, 0, 0);
        raise_process(SIGUSR1);
    });
    check_eq!(killer, Some(SIGSEGV));
}

extern "C" fn wild_vectors(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the state has at least 512 bytes; with the magic number, a header of 64 behind them.
    unsafe {
        let state = state_of(context);
        state.add(24 / 8).write(u64::MAX);
        if state.add(SOFTWARE_AREA).read() as u32 == 0x4650_5853 {
            for word in 0..8 {
                state.add(512 / 8 + word).write(u64::MAX);
            }
        }
    }
}

/// Whether the program survives is the kernel's choice; that the kernel does is not.
fn wild_vector_state_does_no_harm() {
    let killer = killed_by(|| {
        handle_with(wild_vectors, SIGUSR1, 0, 0);
        raise_process(SIGUSR1);
        let calm: u32 = 0x1f80;
        // SAFETY: brings the usual state back.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const calm, options(nostack)) };
    });
    check!(killer.is_none() || killer == Some(SIGSEGV), "ended by {killer:?}");
}
