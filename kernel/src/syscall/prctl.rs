// SPDX-License-Identifier: MPL-2.0

//! `prctl(2)` and `arch_prctl(2)`.

use linux_raw_sys::prctl::*;
use ostd::mm::MAX_USERSPACE_VADDR;

use crate::{
    prelude::*,
    process::{ThreadName, credentials::CapSet},
};

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;

/// `arch_prctl(2)`.
pub fn sys_arch_prctl(ctx: &Ctx, code: u32, addr: Vaddr) -> Result<usize> {
    match code {
        ARCH_SET_FS | ARCH_SET_GS if addr >= MAX_USERSPACE_VADDR => return Err(EPERM),
        ARCH_SET_FS => ctx.local.set_fs_base(addr),
        ARCH_SET_GS => ctx.local.set_gs_base(addr),
        ARCH_GET_FS => ctx.vm.write_val(addr, &ctx.local.fs_base())?,
        ARCH_GET_GS => ctx.vm.write_val(addr, &ctx.local.gs_base())?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}

/// `prctl(2)`.
pub fn sys_prctl(ctx: &Ctx, option: u32, a2: usize, a3: usize, a4: usize, a5: usize) -> Result<usize> {
    let rest_is_zero = a3 == 0 && a4 == 0 && a5 == 0;
    match option {
        PR_SET_NAME => {
            let name = read_name(ctx, a2)?;
            ctx.thread.set_name(ThreadName::new(&name));
        }
        PR_GET_NAME => ctx.vm.write_bytes(a2, ctx.thread.name().as_padded())?,
        PR_SET_PDEATHSIG if a2 > 64 => return Err(EINVAL),
        PR_SET_PDEATHSIG => ctx.thread.parent_death_signal.store(a2 as u32, Ordering::Relaxed),
        PR_GET_PDEATHSIG => {
            ctx.vm.write_val(a2, &ctx.thread.parent_death_signal.load(Ordering::Relaxed))?;
        }
        PR_SET_DUMPABLE if a2 > 1 => return Err(EINVAL),
        PR_SET_DUMPABLE => ctx.process.dumpable.store(a2 == 1, Ordering::Relaxed),
        PR_GET_DUMPABLE => return Ok(usize::from(ctx.process.dumpable.load(Ordering::Relaxed))),
        PR_SET_CHILD_SUBREAPER => ctx.process.is_subreaper.store(a2 != 0, Ordering::Relaxed),
        PR_GET_CHILD_SUBREAPER => {
            let is_subreaper = i32::from(ctx.process.is_subreaper.load(Ordering::Relaxed));
            ctx.vm.write_val(a2, &is_subreaper)?;
        }
        PR_SET_KEEPCAPS if a2 > 1 => return Err(EINVAL),
        PR_SET_KEEPCAPS => change(ctx, |credentials| credentials.keep_caps = a2 == 1),
        PR_GET_KEEPCAPS => return Ok(usize::from(ctx.credentials().keep_caps)),
        PR_SET_NO_NEW_PRIVS if a2 != 1 || !rest_is_zero => return Err(EINVAL),
        PR_SET_NO_NEW_PRIVS => change(ctx, |credentials| credentials.no_new_privs = true),
        PR_GET_NO_NEW_PRIVS if a2 != 0 || !rest_is_zero => return Err(EINVAL),
        PR_GET_NO_NEW_PRIVS => return Ok(usize::from(ctx.credentials().no_new_privs)),
        PR_CAPBSET_READ => return Ok(usize::from(ctx.credentials().bounding.contains(capability(a2)?))),
        PR_CAPBSET_DROP => {
            ctx.credentials().require(CapSet::SETPCAP)?;
            let dropped = capability(a2)?;
            change(ctx, |credentials| credentials.bounding.remove(dropped));
        }
        // The bits of `securebits(7)` stay as they start: none set.
        PR_GET_SECUREBITS => return Ok(0),
        PR_GET_TIMERSLACK => return Ok(ctx.thread.timer_slack.get() as usize),
        PR_SET_TIMERSLACK => ctx.thread.timer_slack.set(a2 as u64),
        PR_GET_TIMING => return Ok(PR_TIMING_STATISTICAL as usize),
        PR_SET_TIMING if a2 == PR_TIMING_STATISTICAL as usize => {}
        // Which process may trace: nobody traces.
        PR_SET_PTRACER => {}
        PR_SET_THP_DISABLE if rest_is_zero => {}
        PR_GET_THP_DISABLE if a2 == 0 && rest_is_zero => return Ok(0),
        PR_MCE_KILL_GET => return Ok(PR_MCE_KILL_DEFAULT as usize),
        PR_GET_TSC => ctx.vm.write_val(a2, &PR_TSC_ENABLE)?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}

fn change(ctx: &Ctx, f: impl FnOnce(&mut crate::process::Credentials)) {
    let mut credentials = (*ctx.credentials()).clone();
    f(&mut credentials);
    ctx.thread.set_credentials(credentials);
}

fn capability(number: usize) -> Result<CapSet> {
    let bit = u32::try_from(number).ok().and_then(|number| 1u64.checked_shl(number)).ok_or(EINVAL)?;
    if CapSet::ALL.bits() & bit == 0 {
        return Err(EINVAL);
    }
    Ok(CapSet::from_bits_retain(bit))
}

/// Up to 16 bytes, of which those after a NUL need not be there.
fn read_name(ctx: &Ctx, addr: Vaddr) -> Result<Vec<u8>> {
    match ctx.vm.read_cstring(addr, 16) {
        Ok(name) => Ok(name.into_bytes()),
        Err(ENAMETOOLONG) => {
            let mut name = [0; 15];
            ctx.vm.read_bytes(addr, &mut name)?;
            Ok(name.to_vec())
        }
        Err(error) => Err(error),
    }
}
