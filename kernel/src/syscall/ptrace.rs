// SPDX-License-Identifier: MPL-2.0

//! `ptrace(2)`: from a request to [`crate::process::ptrace`].

use linux_raw_sys::{
    elf_uapi::{NT_PRFPREG, NT_PRSTATUS, NT_X86_XSTATE},
    ptrace::*,
};
use zerocopy::IntoBytes;

use crate::{
    prelude::*,
    process::{
        ptrace::{
            self, AtRest, Attach,
            info::{self, PeekArgs},
            registers::{self, FP_LEN},
            resume::{self, Until},
            with_stopped,
        },
        table,
    },
    signal::{RawSigInfo, SigSet},
    usermem::IoVec,
};

const WORD: usize = size_of::<usize>();

/// `ptrace(2)`. What a request tells goes to `data`, as in the call itself; a C library gives it back.
///
/// # Errors
///
/// Those of the man page; `EIO` for a request that is not there.
pub fn sys_ptrace(ctx: &Ctx, request: usize, tid: i32, addr: usize, data: usize) -> Result<usize> {
    let request = u32::try_from(request).unwrap_or(u32::MAX);
    match request {
        PTRACE_TRACEME => return ptrace::trace_me(ctx).map(|()| 0),
        PTRACE_ATTACH => return attach(ctx, tid, Attach::Stop),
        PTRACE_SEIZE => return attach(ctx, tid, Attach::Seize { addr, options: data }),
        _ => {}
    }
    let at_rest = match request {
        PTRACE_KILL | PTRACE_INTERRUPT => AtRest::Any,
        _ => AtRest::Yes,
    };
    let tracee = &ptrace::find(ctx, tid as Tid, at_rest)?;
    match request {
        PTRACE_PEEKTEXT | PTRACE_PEEKDATA => peek(ctx, tracee, addr, data)?,
        PTRACE_POKETEXT | PTRACE_POKEDATA => poke(tracee, addr, data)?,
        PTRACE_PEEKUSR => {
            let word = with_stopped(tracee, |state| registers::peek_user(state, addr))?;
            ctx.vm.write_val(data, &word)?;
        }
        PTRACE_POKEUSR => with_stopped(tracee, |state| registers::poke_user(state, addr, data))?,
        PTRACE_CONT => resume::resume(tracee, Until::Signal, data)?,
        PTRACE_SYSCALL => resume::resume(tracee, Until::Call, data)?,
        PTRACE_SINGLESTEP => resume::resume(tracee, Until::Step, data)?,
        PTRACE_SYSEMU => resume::resume(tracee, Until::Emulated, data)?,
        PTRACE_SYSEMU_SINGLESTEP => resume::resume(tracee, Until::EmulatedStep, data)?,
        PTRACE_KILL => resume::kill(ctx, tracee),
        PTRACE_INTERRUPT => resume::interrupt(tracee)?,
        PTRACE_LISTEN => resume::listen(tracee)?,
        PTRACE_DETACH => ptrace::detach(tracee, data)?,
        PTRACE_SETOPTIONS | PTRACE_OLDSETOPTIONS => resume::set_options(ctx, tracee, data)?,
        PTRACE_GETEVENTMSG => {
            let message = with_stopped(tracee, |state| Ok(state.message))?;
            ctx.vm.write_val(data, &message)?;
        }
        PTRACE_GETREGS => {
            let registers = with_stopped(tracee, |state| Ok(state.registers))?;
            ctx.vm.write_val(data, registers.all())?;
        }
        PTRACE_SETREGS => {
            let values: [usize; registers::COUNT] = ctx.vm.read_val(data)?;
            with_stopped(tracee, |state| state.registers.set(0, &values))?;
        }
        PTRACE_GETFPREGS => {
            let image = with_stopped(tracee, |state| registers::fp_image(state))?;
            ctx.vm.write_val(data, &image)?;
        }
        PTRACE_SETFPREGS => {
            let image: [u8; FP_LEN] = ctx.vm.read_val(data)?;
            with_stopped(tracee, |state| registers::set_fp_image(state, &image))?;
        }
        PTRACE_GETREGSET => get_set(ctx, tracee, addr, data)?,
        PTRACE_SETREGSET => set_set(ctx, tracee, addr, data)?,
        PTRACE_GETSIGINFO => ctx.vm.write_val(data, &info::signal_info(tracee)?)?,
        PTRACE_SETSIGINFO => {
            let raw: RawSigInfo = ctx.vm.read_val(data)?;
            info::set_signal_info(tracee, raw)?;
        }
        PTRACE_PEEKSIGINFO => {
            let args: PeekArgs = ctx.vm.read_val(addr)?;
            let place = |index| data.wrapping_add(index * size_of::<RawSigInfo>());
            return info::pending(tracee, args, |index, raw| ctx.vm.write_val(place(index), raw));
        }
        PTRACE_GETSIGMASK => {
            check_mask_size(addr)?;
            ctx.vm.write_val(data, &info::mask(tracee)?)?;
        }
        PTRACE_SETSIGMASK => {
            check_mask_size(addr)?;
            let mask: SigSet = ctx.vm.read_val(data)?;
            info::set_mask(tracee, mask)?;
        }
        PTRACE_GET_SYSCALL_INFO => {
            let (info, len) = with_stopped(tracee, |state| Ok(info::call_info(state)))?;
            ctx.vm.write_bytes(data, &info.as_bytes()[..len.min(addr)])?;
            return Ok(len);
        }
        _ => return Err(EIO),
    }
    Ok(0)
}

fn attach(ctx: &Ctx, tid: i32, how: Attach) -> Result<usize> {
    let tracee = table::thread(tid as Tid).ok_or(ESRCH)?;
    how.check()?;
    if Arc::ptr_eq(tracee.process(), ctx.process) {
        return Err(EPERM);
    }
    super::process_vm::check_may_access(ctx, &tracee)?;
    ptrace::attach(ctx, &tracee, how)?;
    Ok(0)
}

fn peek(ctx: &Ctx, tracee: &Thread, addr: Vaddr, data: Vaddr) -> Result<()> {
    let vm = tracee.process().vm().ok_or(EIO)?;
    let mut word = [0; WORD];
    match vm.vmar().read_bytes_forced(addr, &mut word) {
        Ok(WORD) => ctx.vm.write_val(data, &word),
        _ => Err(EIO),
    }
}

fn poke(tracee: &Thread, addr: Vaddr, data: usize) -> Result<()> {
    let vm = tracee.process().vm().ok_or(EIO)?;
    match vm.vmar().write_bytes_forced(addr, &data.to_ne_bytes()) {
        Ok(WORD) => Ok(()),
        _ => Err(EIO),
    }
}

fn check_mask_size(size: usize) -> Result<()> {
    if size == size_of::<SigSet>() { Ok(()) } else { Err(EINVAL) }
}

/// The part of a set of registers that is asked for.
fn part_of(ctx: &Ctx, data: Vaddr, whole: usize) -> Result<IoVec> {
    let mut part: IoVec = ctx.vm.read_val(data)?;
    if !part.len.is_multiple_of(WORD) {
        return Err(EINVAL);
    }
    part.len = part.len.min(whole);
    Ok(part)
}

/// A set of registers.
#[derive(Clone, Copy)]
enum Set {
    General,
    FloatingPoint,
    /// All that XSAVE knows of.
    Extended,
}

impl Set {
    fn named(kind: usize) -> Result<Self> {
        match u32::try_from(kind) {
            Ok(NT_PRSTATUS) => Ok(Self::General),
            Ok(NT_PRFPREG) => Ok(Self::FloatingPoint),
            Ok(NT_X86_XSTATE) => Ok(Self::Extended),
            _ => Err(EINVAL),
        }
    }

    /// The registers of a tracee, as they are in memory.
    fn of(self, tracee: &Thread) -> Result<Vec<u8>> {
        with_stopped(tracee, |state| match self {
            Self::General => try_to_vec(state.registers.all().as_bytes()),
            Self::FloatingPoint => try_to_vec(&registers::fp_image(state)?),
            Self::Extended => registers::extended_image(state),
        })
    }
}

/// `PTRACE_GETREGSET`.
fn get_set(ctx: &Ctx, tracee: &Thread, kind: usize, data: Vaddr) -> Result<()> {
    let set = Set::named(kind)?;
    let image = set.of(tracee)?;
    let part = part_of(ctx, data, image.len())?;
    ctx.vm.write_bytes(part.base, &image[..part.len])?;
    ctx.vm.write_val(data, &part)
}

/// `PTRACE_SETREGSET`.
fn set_set(ctx: &Ctx, tracee: &Thread, kind: usize, data: Vaddr) -> Result<()> {
    let set = Set::named(kind)?;
    let whole = set.of(tracee)?.len();
    let part = part_of(ctx, data, whole)?;
    match set {
        Set::General => {
            let values: Vec<usize> = ctx.vm.read_vec(part.base, part.len / WORD)?;
            with_stopped(tracee, |state| state.registers.set(0, &values))?;
        }
        Set::FloatingPoint => {
            if part.len != FP_LEN {
                return Err(EINVAL);
            }
            let image: [u8; FP_LEN] = ctx.vm.read_val(part.base)?;
            with_stopped(tracee, |state| registers::set_fp_image(state, &image))?;
        }
        Set::Extended => {
            if part.len != whole {
                return Err(EFAULT);
            }
            let image: Vec<u8> = ctx.vm.read_vec(part.base, part.len)?;
            with_stopped(tracee, |state| registers::set_extended_image(state, image))?;
        }
    }
    ctx.vm.write_val(data, &part)
}
