// SPDX-License-Identifier: MPL-2.0

//! Loads and stores that may fault: a handler notes signal, code and address, and the access answers so.
//!
//! Each access is a few instructions between two labels. A fault there, or at the address that is being executed, goes on at a
//! landing that returns. Any other fault ends the process.

use std::{
    arch::global_asm,
    cell::UnsafeCell,
    mem::zeroed,
    ptr::null_mut,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use libc::{
    REG_RIP, SA_ONSTACK, SA_SIGINFO, SIG_DFL, SIGBUS, SIGILL, SIGSEGV, c_void, sigaction, sigaltstack,
    siginfo_t, stack_t, ucontext_t,
};

use crate::symbols::PAGE;

/// What a handler was told.
#[derive(Clone, Copy)]
pub struct Fault {
    pub signal: u64,
    pub code: i64,
    pub addr: u64,
}

/// What an access answers: a value, and whether it has faulted instead.
#[repr(C)]
struct Answer {
    value: u64,
    faulted: u64,
}

// Nothing is pushed: at every instruction the return address is on top of the stack. What is executed is one `ret`.
global_asm!(
    ".globl fuzz_begin",
    "fuzz_begin:",
    ".globl fuzz_load1",
    "fuzz_load1: movzx eax, byte ptr [rdi]",
    "xor edx, edx",
    "ret",
    ".globl fuzz_load8",
    "fuzz_load8: mov rax, [rdi]",
    "xor edx, edx",
    "ret",
    ".globl fuzz_store1",
    "fuzz_store1: mov [rdi], sil",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    ".globl fuzz_store8",
    "fuzz_store8: mov [rdi], rsi",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    ".globl fuzz_add8",
    "fuzz_add8: mov rax, rsi",
    "lock xadd [rdi], rax",
    "xor edx, edx",
    "ret",
    ".globl fuzz_hash",
    "fuzz_hash: xor eax, eax",
    "movabs rcx, 0x9e3779b97f4a7c15",
    "2: rol rax, 7",
    "add rax, [rdi]",
    "imul rax, rcx",
    "add rdi, 8",
    "dec rsi",
    "jnz 2b",
    "xor edx, edx",
    "ret",
    ".globl fuzz_fill",
    "fuzz_fill: mov [rdi], rdx",
    "add rdi, 8",
    "dec rsi",
    "jnz fuzz_fill",
    "xor eax, eax",
    "xor edx, edx",
    "ret",
    ".globl fuzz_fetch",
    "fuzz_fetch: mov eax, 1",
    "xor edx, edx",
    "jmp rdi",
    ".globl fuzz_end",
    "fuzz_end:",
    ".globl fuzz_landing",
    "fuzz_landing: mov edx, 1",
    "ret",
);

unsafe extern "C" {
    fn fuzz_begin();
    fn fuzz_load1(addr: u64) -> Answer;
    fn fuzz_load8(addr: u64) -> Answer;
    fn fuzz_store1(addr: u64, value: u64) -> Answer;
    fn fuzz_store8(addr: u64, value: u64) -> Answer;
    fn fuzz_add8(addr: u64, value: u64) -> Answer;
    fn fuzz_hash(addr: u64, words: u64) -> Answer;
    fn fuzz_fill(addr: u64, words: u64, value: u64) -> Answer;
    fn fuzz_fetch(addr: u64) -> Answer;
    fn fuzz_end();
    fn fuzz_landing();
}

/// What is being executed, if anything.
static FETCHED: AtomicU64 = AtomicU64::new(0);
/// Signal, code and address of the last fault.
static LAST: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

extern "C" fn step_over(signal: i32, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid siginfo and ucontext.
    unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        let at = registers[REG_RIP as usize] as u64;
        let range = fuzz_begin as *const () as u64..fuzz_end as *const () as u64;
        if !range.contains(&at) && at != FETCHED.load(Relaxed) {
            libc::signal(signal, SIG_DFL);
            return;
        }
        LAST[0].store(signal as u64, Relaxed);
        LAST[1].store((*info).si_code as i64 as u64, Relaxed);
        LAST[2].store((*info).si_addr() as u64, Relaxed);
        registers[REG_RIP as usize] = fuzz_landing as *const () as i64;
    }
}

/// The stack of the handler, in the program's data.
struct HandlerStack(UnsafeCell<[u8; HandlerStack::SIZE]>);

impl HandlerStack {
    const SIZE: usize = 64 << 10;
}

// SAFETY: only the kernel uses the bytes, for the one thread of each process.
unsafe impl Sync for HandlerStack {}

static HANDLER_STACK: HandlerStack = HandlerStack(UnsafeCell::new([0; HandlerStack::SIZE]));

/// Installs the handler.
pub fn install() {
    // SAFETY: plain C structures, all of whose bytes may be 0; the stack lives as long as the program.
    unsafe {
        let stack = stack_t {
            ss_sp: HANDLER_STACK.0.get().cast::<c_void>(),
            ss_flags: 0,
            ss_size: HandlerStack::SIZE,
        };
        sigaltstack(&stack, null_mut());
        let mut action: sigaction = zeroed();
        action.sa_sigaction = step_over as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for signal in [SIGSEGV, SIGBUS, SIGILL] {
            sigaction(signal, &action, null_mut());
        }
    }
}

fn settle(answer: Answer) -> Result<u64, Fault> {
    match answer.faulted {
        0 => Ok(answer.value),
        _ => {
            let [signal, code, addr] = [0, 1, 2].map(|index| LAST[index].load(Relaxed));
            Err(Fault { signal, code: code as i64, addr })
        }
    }
}

/// Loads a byte.
pub fn load1(addr: u64) -> Result<u64, Fault> {
    // SAFETY: a fault is caught; a load changes nothing.
    settle(unsafe { fuzz_load1(addr) })
}

/// Loads a word, at any alignment.
pub fn load8(addr: u64) -> Result<u64, Fault> {
    // SAFETY: as above.
    settle(unsafe { fuzz_load8(addr) })
}

/// Stores a byte.
pub fn store1(addr: u64, value: u64) -> Result<u64, Fault> {
    // SAFETY: a fault is caught; steps store into windows that hold nothing of Rust's.
    settle(unsafe { fuzz_store1(addr, value) })
}

/// Stores a word, at any alignment.
pub fn store8(addr: u64, value: u64) -> Result<u64, Fault> {
    // SAFETY: as above.
    settle(unsafe { fuzz_store8(addr, value) })
}

/// Adds to the word at an aligned address, in one go; answers what was there.
pub fn add8(addr: u64, value: u64) -> Result<u64, Fault> {
    // SAFETY: as above.
    settle(unsafe { fuzz_add8(addr & !7, value) })
}

/// A digest of a page; that of zeros is 0.
pub fn hash_page(addr: u64) -> Result<u64, Fault> {
    // SAFETY: as for loads.
    settle(unsafe { fuzz_hash(addr, PAGE / 8) })
}

/// Fills words.
pub fn fill(addr: u64, words: u64, value: u64) -> Result<u64, Fault> {
    // SAFETY: as for stores.
    settle(unsafe { fuzz_fill(addr, words, value) })
}

/// Executes what is at an address, where there is a `ret`.
pub fn fetch(addr: u64) -> Result<u64, Fault> {
    /// The instruction `ret`.
    const RET: u64 = 0xc3;
    match load1(addr)? {
        RET => {
            FETCHED.store(addr, Relaxed);
            // SAFETY: the one instruction there returns; if it cannot be fetched, that is caught.
            let answer = settle(unsafe { fuzz_fetch(addr) });
            FETCHED.store(0, Relaxed);
            answer
        }
        _ => Ok(0),
    }
}
