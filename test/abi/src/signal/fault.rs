// SPDX-License-Identifier: MPL-2.0

//! Faults that become signals, other than those of memory: their codes, and that they cannot be held back.

use std::arch::asm;

use libc::*;

use super::*;
use crate::{
    child::killed_by,
    fault::{Fault, fault_of},
    mem::{free_range, peek},
};

pub const CASES: &[Case] = cases!["signal/fault":
    division_by_zero_is_fpe_intdiv,
    invalid_opcode_is_ill_illopn,
    breakpoint_is_sigtrap,
    single_step_is_trap_trace,
    privileged_instruction_is_sigsegv,
    non_canonical_address_is_sigsegv,
    sse_division_is_fpe_fltdiv,
    sse_invalid_is_fpe_fltinv,
    blocked_fault_ends_the_process,
    ignored_fault_ends_the_process,
    context_tells_of_the_page_fault,
    sent_sigsegv_can_be_blocked,
];

const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;
const FPE_FLTINV: i32 = 7;
const ILL_ILLOPN: i32 = 2;

fn signal_and_code(body: impl FnOnce()) -> Option<(i32, i32)> {
    fault_of(body).map(|Fault { signal, code, .. }| (signal, code))
}

fn division_by_zero_is_fpe_intdiv() {
    // SAFETY: the fault ends the child.
    let fault = signal_and_code(|| unsafe {
        asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("rax") _, out("rcx") _, out("rdx") _);
    });
    check_eq!(fault, Some((SIGFPE, FPE_INTDIV)));
}

fn invalid_opcode_is_ill_illopn() {
    // SAFETY: the fault ends the child.
    let fault = signal_and_code(|| unsafe { asm!("ud2") });
    check_eq!(fault, Some((SIGILL, ILL_ILLOPN)));
}

fn breakpoint_is_sigtrap() {
    // SAFETY: the trap ends the child.
    let fault = signal_and_code(|| unsafe { asm!("int3") });
    check_eq!(fault, Some((SIGTRAP, SI_KERNEL)));
}

fn single_step_is_trap_trace() {
    // SAFETY: the trap ends the child.
    let fault = signal_and_code(|| unsafe {
        asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop");
    });
    check_eq!(fault, Some((SIGTRAP, TRAP_TRACE)));
}

fn privileged_instruction_is_sigsegv() {
    // SAFETY: the fault ends the child.
    let fault = signal_and_code(|| unsafe { asm!("hlt") });
    check_eq!(fault, Some((SIGSEGV, SI_KERNEL)));
}

fn non_canonical_address_is_sigsegv() {
    let fault = signal_and_code(|| _ = peek(0x0dea_dbee_f000_0000));
    check_eq!(fault, Some((SIGSEGV, SI_KERNEL)));
}

/// Divides with every floating-point exception unmasked.
fn divide(dividend: f64, divisor: f64) {
    let unmasked: u32 = 0;
    // SAFETY: the fault ends the child.
    unsafe {
        asm!("ldmxcsr [{mode}]", "divsd {a}, {b}", mode = in(reg) &raw const unmasked,
            a = inout(xmm_reg) dividend => _, b = in(xmm_reg) divisor);
    }
}

/// What a division raises. Emulated processors may know no exceptions of SSE.
fn fault_of_division(dividend: f64, divisor: f64) -> (i32, i32) {
    match signal_and_code(|| divide(dividend, divisor)) {
        Some(fault) => fault,
        None => skip!("this machine raises no floating-point exceptions of SSE"),
    }
}

fn sse_division_is_fpe_fltdiv() {
    check_eq!(fault_of_division(1.0, 0.0), (SIGFPE, FPE_FLTDIV));
}

fn sse_invalid_is_fpe_fltinv() {
    check_eq!(fault_of_division(0.0, 0.0), (SIGFPE, FPE_FLTINV));
}

fn blocked_fault_ends_the_process() {
    let killer = killed_by(|| {
        handle(SIGSEGV, 0);
        set_mask(u64::MAX);
        peek(free_range(1));
    });
    check_eq!(killer, Some(SIGSEGV));
}

fn ignored_fault_ends_the_process() {
    let killer = killed_by(|| {
        ignore(SIGSEGV);
        peek(free_range(1));
    });
    check_eq!(killer, Some(SIGSEGV));
    let killer = killed_by(|| {
        ignore(SIGILL);
        // SAFETY: the fault ends the child.
        unsafe { asm!("ud2") };
    });
    check_eq!(killer, Some(SIGILL));
}

static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

extern "C" fn look(_signal: i32, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid ucontext.
    let registers = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let good = registers[REG_TRAPNO as usize] == 14
        && registers[REG_ERR as usize] & 0b110 == 0b100
        && registers[REG_CR2 as usize] as usize == SEEN[0].load(SeqCst);
    sys::exit_group(i32::from(!good))
}

fn context_tells_of_the_page_fault() {
    crate::child::in_child(|| {
        let nowhere = free_range(1);
        SEEN[0].store(nowhere + 7, SeqCst);
        handle_with(look, SIGSEGV, 0, 0);
        peek(nowhere + 7);
    });
}

fn sent_sigsegv_can_be_blocked() {
    set_mask(bit(SIGSEGV));
    raise_process(SIGSEGV);
    check_eq!(pending(), bit(SIGSEGV));
}
