// SPDX-License-Identifier: MPL-2.0

//! Faults: what signal an access raises, with what code and address.
//!
//! Two ways. [`fault_of`] runs any code in a forked child whose handler writes what it was told into a pipe and exits: it
//! needs the least of the kernel. [`try_read`] and [`try_write`] access one byte in this very process; their handler goes on
//! behind the access that faulted.

use std::{
    arch::global_asm,
    cell::UnsafeCell,
    sync::{
        Once,
        atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
    },
};

use libc::{
    O_CLOEXEC, REG_RAX, REG_RIP, SA_ONSTACK, SA_SIGINFO, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP,
    c_void, siginfo_t, ucontext_t,
};

use crate::{child::Child, sys};

pub const SEGV_MAPERR: i32 = 1;
pub const SEGV_ACCERR: i32 = 2;
pub const BUS_ADRERR: i32 = 2;

/// What a handler was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
    pub addr: usize,
}

/// Fails the case unless `body` raises this signal with this code and address.
#[track_caller]
pub fn expect_signal(signal: i32, code: i32, addr: usize, body: impl FnOnce()) {
    let expected = Fault { signal, code, addr };
    match fault_of(body) {
        Some(fault) => {
            assert!(fault == expected, "raised {}, expected {}", describe(fault), describe(expected))
        }
        None => panic!("raised nothing, expected {}", describe(expected)),
    }
}

/// Fails the case unless `body` raises SIGSEGV with SEGV_MAPERR at `addr`.
#[track_caller]
pub fn expect_maperr(addr: usize, body: impl FnOnce()) {
    expect_signal(SIGSEGV, SEGV_MAPERR, addr, body);
}

/// Fails the case unless `body` raises SIGSEGV with SEGV_ACCERR at `addr`.
#[track_caller]
pub fn expect_accerr(addr: usize, body: impl FnOnce()) {
    expect_signal(SIGSEGV, SEGV_ACCERR, addr, body);
}

/// Fails the case unless `body` raises SIGBUS with BUS_ADRERR at `addr`.
#[track_caller]
pub fn expect_bus(addr: usize, body: impl FnOnce()) {
    expect_signal(SIGBUS, BUS_ADRERR, addr, body);
}

/// A fault in words, for messages.
pub fn describe(fault: Fault) -> String {
    format!("{} with code {} at {:#x}", sys::signal_name(fault.signal), fault.code, fault.addr)
}

/// The pipe of the child that [`fault_of`] forked.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Runs `body` in a forked child; the first fault it raises, or nothing when it ran to its end.
#[track_caller]
pub fn fault_of(body: impl FnOnce()) -> Option<Fault> {
    let (reader, writer) = ok!(sys::pipe(O_CLOEXEC));
    let child = Child::spawn(|| {
        PIPE.store(writer, Relaxed);
        handle(report, &[SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS]);
        body();
        send(Fault { signal: 0, code: 0, addr: 0 });
    });
    sys::close(writer);
    let mut record = [0; 24];
    let count = ok!(sys::read(reader, &mut record));
    sys::close(reader);
    child.join();
    check_eq!(count, record.len(), "the child ended without a word");
    let word = |index: usize| {
        usize::from_ne_bytes(record[index * 8..index * 8 + 8].try_into().expect("eight bytes of twenty-four"))
    };
    let fault = Fault { signal: word(0) as i32, code: word(1) as i32, addr: word(2) };
    (fault.signal != 0).then_some(fault)
}

fn send(fault: Fault) {
    let mut record = [0; 24];
    record[..8].copy_from_slice(&(fault.signal as usize).to_ne_bytes());
    record[8..16].copy_from_slice(&(fault.code as usize).to_ne_bytes());
    record[16..].copy_from_slice(&fault.addr.to_ne_bytes());
    let _ = sys::write(PIPE.load(Relaxed), &record);
}

extern "C" fn report(signal: i32, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid siginfo.
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    send(Fault { signal, code, addr });
    sys::exit_group(0)
}

type Handler = extern "C" fn(i32, *mut siginfo_t, *mut c_void);

/// The stack of handlers. It is data of the program: a new mapping could fill a hole that a case has left on purpose.
struct HandlerStack(UnsafeCell<[u8; HandlerStack::SIZE]>);

impl HandlerStack {
    const SIZE: usize = 64 << 10;
}

// SAFETY: only the kernel uses the bytes, for the one thread of a process that has called `handle`.
unsafe impl Sync for HandlerStack {}

static HANDLER_STACK: HandlerStack = HandlerStack(UnsafeCell::new([0; HandlerStack::SIZE]));

/// Installs `handler` for `signals`, on a stack of its own. For one thread of a process.
pub fn handle(handler: Handler, signals: &[i32]) {
    // SAFETY: plain C structures, all of whose bytes may be 0; the stack lives as long as the program.
    unsafe {
        let stack = libc::stack_t {
            ss_sp: HANDLER_STACK.0.get().cast::<c_void>(),
            ss_flags: 0,
            ss_size: HandlerStack::SIZE,
        };
        check_eq!(libc::sigaltstack(&stack, std::ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for &signal in signals {
            check_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    }
}

// Each access is one instruction with a name; a fault there makes the function return -1 instead.
global_asm!(
    ".global abi_try_read, abi_try_write, abi_try_end",
    "abi_try_read:  movzx eax, byte ptr [rdi]",
    "ret",
    "abi_try_write: mov byte ptr [rdi], sil",
    "xor eax, eax",
    "abi_try_end:   ret",
);

unsafe extern "C" {
    fn abi_try_read(addr: usize) -> isize;
    fn abi_try_write(addr: usize, value: u8) -> isize;
    fn abi_try_end();
}

static TRY: Once = Once::new();
static LAST: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

extern "C" fn step_over(signal: i32, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid siginfo and ucontext.
    unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        let at = registers[REG_RIP as usize] as usize;
        if at != abi_try_read as *const () as usize && at != abi_try_write as *const () as usize {
            panic!("a stray {} at {:#x}", sys::signal_name(signal), at);
        }
        LAST[0].store(signal as usize, Relaxed);
        LAST[1].store((*info).si_code as usize, Relaxed);
        LAST[2].store((*info).si_addr() as usize, Relaxed);
        registers[REG_RAX as usize] = -1;
        registers[REG_RIP as usize] = abi_try_end as *const () as i64;
    }
}

fn last() -> Fault {
    let word = |index: usize| LAST[index].load(Relaxed);
    Fault { signal: word(0) as i32, code: word(1) as i32, addr: word(2) }
}

/// Reads the byte at `addr`, or tells the fault that it raises. For one thread of the process at a time.
pub fn try_read(addr: usize) -> Result<u8, Fault> {
    TRY.call_once(|| handle(step_over, &[SIGSEGV, SIGBUS]));
    // SAFETY: a fault of the one access is caught by `step_over`; cases give addresses they may read.
    match unsafe { abi_try_read(addr) } {
        -1 => Err(last()),
        value => Ok(value as u8),
    }
}

/// Writes a byte to `addr`, or tells the fault that it raises. For one thread of the process at a time.
pub fn try_write(addr: usize, value: u8) -> Result<(), Fault> {
    TRY.call_once(|| handle(step_over, &[SIGSEGV, SIGBUS]));
    // SAFETY: a fault of the one access is caught by `step_over`; cases give addresses they may write.
    match unsafe { abi_try_write(addr, value) } {
        -1 => Err(last()),
        _ => Ok(()),
    }
}
