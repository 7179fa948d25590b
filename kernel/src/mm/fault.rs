// SPDX-License-Identifier: MPL-2.0

//! Exceptions of user programs, and page faults of the kernel on their memory.

use linux_raw_sys::general::{
    BUS_ADRALN, BUS_ADRERR, FPE_FLTDIV, FPE_FLTINV, FPE_FLTOVF, FPE_FLTRES, FPE_FLTUND, FPE_INTDIV,
    ILL_ILLOPN, SEGV_ACCERR, SEGV_CPERR, SEGV_MAPERR, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP,
    TRAP_TRACE,
};
use ostd::{
    arch::cpu::context::{CpuException, PageFaultErrorCode, RawPageFaultInfo, UserContext},
    task::Task,
    user::UserContextApi,
};
use vmar::vmar::fault::{Access, FaultError};

use crate::{
    mm::{
        layout::TASK_SIZE,
        oom::{self, Need, Outlook},
    },
    prelude::*,
    process::local::{self, LastTrap},
    signal::{self, SigInfo},
};

/// A page fault: where, and by which access.
#[derive(Clone, Copy, Debug)]
pub struct PageFault {
    /// The address.
    pub addr: Vaddr,
    /// The access.
    pub access: Access,
}

impl From<&RawPageFaultInfo> for PageFault {
    fn from(raw: &RawPageFaultInfo) -> Self {
        let access = if raw.error_code.contains(PageFaultErrorCode::INSTRUCTION) {
            Access::Exec
        } else if raw.error_code.contains(PageFaultErrorCode::WRITE) {
            Access::Write
        } else {
            Access::Read
        };
        Self { addr: raw.addr, access }
    }
}

/// Has OSTD call this module when the kernel itself faults on user memory, and the framework when it makes memory present.
pub(super) fn init() {
    ostd::mm::fault::inject_user_page_fault_handler(handle_kernel_fault);
    vmar_ostd::inject_fault_counter(count_populated);
}

/// Counts pages that were made present for the current thread, which has not touched them, as Linux does (`mm_account_fault`).
fn count_populated(count: usize) {
    if let Some(thread) = Thread::current() {
        thread.sched.minor_faults.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Resolves an exception that user code has caused, or sends the signal it stands for.
pub fn handle_exception(ctx: &Ctx, exception: &CpuException, registers: &UserContext) {
    let (number, error_code, addr) = match exception {
        CpuException::PageFault(raw) => (14, raw.error_code.bits(), raw.addr),
        other => (vector(other), 0, 0),
    };
    if let CpuException::PageFault(raw) = exception {
        if let Some(info) = serve(ctx, raw.into()) {
            ctx.local.set_last_trap(LastTrap { number, error_code, addr });
            signal::force(ctx.thread, info);
        }
        return;
    }
    ctx.local.set_last_trap(LastTrap { number, error_code, addr });
    signal::force(ctx.thread, signal_for(ctx, exception, registers.instruction_pointer()));
}

/// Serves a fault; what cannot be served is the signal to force.
fn serve(ctx: &Ctx, fault: PageFault) -> Option<SigInfo> {
    let segmentation = |code: u32| SigInfo::fault(SIGSEGV as u8, code as i32, fault.addr);
    if fault.addr >= TASK_SIZE {
        return Some(segmentation(SEGV_MAPERR));
    }
    let _serving = ctx.local.serve_user_fault();
    let sched = &ctx.thread.sched;
    let pages_read = sched.pages_read.load(Ordering::Relaxed);
    loop {
        match ctx.vm.serve_fault(fault) {
            Ok(()) => {
                sched.count_fault(pages_read);
                return None;
            }
            Err(FaultError::NotMapped | FaultError::Destroyed) => return Some(segmentation(SEGV_MAPERR)),
            Err(FaultError::NoPermission) => return Some(segmentation(SEGV_ACCERR)),
            Err(FaultError::BusError) => {
                return Some(SigInfo::fault(SIGBUS as u8, BUS_ADRERR as i32, fault.addr));
            }
            // What was promised cannot be kept: this program ends, and nobody is told of a fault.
            Err(FaultError::ReserveExhausted) => return Some(SigInfo::kernel(SIGKILL as u8)),
            // The signal is delivered first; then the program tries again.
            Err(FaultError::Interrupted) => return None,
            // Whoever is ended gives memory back. If it is this one, the loop of its thread ends it.
            Err(FaultError::OutOfMemory) => {
                if oom::make_room(Need::Page) == Outlook::Stuck {
                    oom::reap_stuck();
                }
                if ctx.thread.must_exit.load(Ordering::Relaxed) || signal::has_pending(ctx.thread) {
                    return None;
                }
            }
        }
    }
}

fn handle_kernel_fault(exception: &CpuException) -> Result<(), ()> {
    let CpuException::PageFault(raw) = exception else { return Err(()) };
    let task = Task::current().ok_or(())?;
    let local = local::of(&task).ok_or(())?;
    if local.in_atomic() {
        return Err(());
    }
    let vm = local.vm();
    let fault = raw.into();
    let thread = Thread::of(&task);
    let sched = thread.as_ref().map(|thread| &thread.sched);
    let pages_read = sched.map_or(0, |sched| sched.pages_read.load(Ordering::Relaxed));
    loop {
        match vm.serve_fault(fault) {
            Ok(()) => {
                sched.inspect(|sched| sched.count_fault(pages_read));
                return Ok(());
            }
            Err(FaultError::OutOfMemory) => {
                // The kernel may have locks here that whoever is ended needs. So it does not wait for ever.
                let outlook = oom::make_room(Need::Page);
                if outlook == Outlook::Stuck || thread.as_deref().is_none_or(is_memory_lost) {
                    return Err(());
                }
            }
            Err(_) => return Err(()),
        }
    }
}

/// Whether nobody will look at the thread's memory any more. Others still do if only the thread itself ends: they may wait for
/// what it leaves there.
fn is_memory_lost(thread: &Thread) -> bool {
    let process = thread.process();
    thread.must_exit.load(Ordering::Relaxed)
        && (process.is_exiting() || process.is_in_exec.load(Ordering::Relaxed))
}

/// The number of an exception's vector, as a signal's context tells it.
fn vector(exception: &CpuException) -> usize {
    match exception {
        CpuException::DivisionError => 0,
        CpuException::Debug => 1,
        CpuException::BreakPoint => 3,
        CpuException::Overflow => 4,
        CpuException::BoundRangeExceeded => 5,
        CpuException::InvalidOpcode => 6,
        CpuException::DeviceNotAvailable => 7,
        CpuException::InvalidTss(_) => 10,
        CpuException::SegmentNotPresent(_) => 11,
        CpuException::StackSegmentFault(_) => 12,
        CpuException::PageFault(_) => 14,
        CpuException::X87FloatingPointException => 16,
        CpuException::AlignmentCheck => 17,
        CpuException::SIMDFloatingPointException => 19,
        CpuException::ControlProtectionException => 21,
        _ => 13,
    }
}

/// The signal that an exception other than a page fault stands for.
fn signal_for(ctx: &Ctx, exception: &CpuException, at: Vaddr) -> SigInfo {
    let fault = |signal: u32, code: u32| SigInfo::fault(signal as u8, code as i32, at);
    match exception {
        CpuException::DivisionError => fault(SIGFPE, FPE_INTDIV),
        CpuException::Debug => fault(SIGTRAP, TRAP_TRACE),
        CpuException::BreakPoint => SigInfo::kernel(SIGTRAP as u8),
        CpuException::InvalidOpcode => fault(SIGILL, ILL_ILLOPN),
        CpuException::X87FloatingPointException => fault(SIGFPE, x87_code(ctx)),
        CpuException::SIMDFloatingPointException => fault(SIGFPE, simd_code(ctx)),
        CpuException::AlignmentCheck => fault(SIGBUS, BUS_ADRALN),
        CpuException::SegmentNotPresent(_) | CpuException::StackSegmentFault(_) => {
            SigInfo::kernel(SIGBUS as u8)
        }
        CpuException::ControlProtectionException => fault(SIGSEGV, SEGV_CPERR),
        _ => SigInfo::kernel(SIGSEGV as u8),
    }
}

/// The reason among the exception flags of a floating-point unit, those that are masked left out.
fn float_code(raised: u16) -> u32 {
    const INVALID: u16 = 1 << 0;
    const DENORMAL: u16 = 1 << 1;
    const DIVISION: u16 = 1 << 2;
    const OVERFLOW: u16 = 1 << 3;
    const UNDERFLOW: u16 = 1 << 4;
    const PRECISION: u16 = 1 << 5;
    match raised {
        _ if raised & INVALID != 0 => FPE_FLTINV,
        _ if raised & DIVISION != 0 => FPE_FLTDIV,
        _ if raised & OVERFLOW != 0 => FPE_FLTOVF,
        _ if raised & (UNDERFLOW | DENORMAL) != 0 => FPE_FLTUND,
        _ if raised & PRECISION != 0 => FPE_FLTRES,
        _ => 0,
    }
}

fn x87_code(ctx: &Ctx) -> u32 {
    ctx.local.with_fpu(|fpu| {
        let bytes = fpu.as_bytes();
        let control = u16::from_le_bytes([bytes[0], bytes[1]]);
        let status = u16::from_le_bytes([bytes[2], bytes[3]]);
        float_code(status & !control)
    })
}

fn simd_code(ctx: &Ctx) -> u32 {
    /// Where MXCSR is in the saved state.
    const MXCSR: usize = 24;
    ctx.local.with_fpu(|fpu| {
        let bytes = fpu.as_bytes();
        let mxcsr = u16::from_le_bytes([bytes[MXCSR], bytes[MXCSR + 1]]);
        float_code(mxcsr & !(mxcsr >> 7))
    })
}
