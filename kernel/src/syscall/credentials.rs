// SPDX-License-Identifier: MPL-2.0

//! Users, groups and capabilities.

use crate::{
    prelude::*,
    process::{
        Credentials,
        credentials::{CapSet, Gid, Uid},
        table,
    },
};

/// "Leave this one as it is."
const KEEP: u32 = u32::MAX;
/// The most supplementary groups (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// `getuid(2)`.
pub fn sys_getuid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.credentials().uid as usize)
}

/// `geteuid(2)`.
pub fn sys_geteuid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.credentials().euid as usize)
}

/// `getgid(2)`.
pub fn sys_getgid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.credentials().gid as usize)
}

/// `getegid(2)`.
pub fn sys_getegid(ctx: &Ctx) -> Result<usize> {
    Ok(ctx.credentials().egid as usize)
}

/// `getresuid(2)`.
pub fn sys_getresuid(ctx: &Ctx, real: Vaddr, effective: Vaddr, saved: Vaddr) -> Result<usize> {
    let now = ctx.credentials();
    ctx.vm.write_val(real, &now.uid)?;
    ctx.vm.write_val(effective, &now.euid)?;
    ctx.vm.write_val(saved, &now.suid)?;
    Ok(0)
}

/// `getresgid(2)`.
pub fn sys_getresgid(ctx: &Ctx, real: Vaddr, effective: Vaddr, saved: Vaddr) -> Result<usize> {
    let now = ctx.credentials();
    ctx.vm.write_val(real, &now.gid)?;
    ctx.vm.write_val(effective, &now.egid)?;
    ctx.vm.write_val(saved, &now.sgid)?;
    Ok(0)
}

/// `setuid(2)`.
pub fn sys_setuid(ctx: &Ctx, uid: Uid) -> Result<usize> {
    if uid == KEEP {
        return Err(EINVAL);
    }
    change(ctx, |new| {
        if new.has(CapSet::SETUID) {
            (new.uid, new.suid) = (uid, uid);
        } else if uid != new.uid && uid != new.suid {
            return Err(EPERM);
        }
        (new.euid, new.fsuid) = (uid, uid);
        Ok(())
    })
}

/// `setgid(2)`.
pub fn sys_setgid(ctx: &Ctx, gid: Gid) -> Result<usize> {
    if gid == KEEP {
        return Err(EINVAL);
    }
    change(ctx, |new| {
        if new.has(CapSet::SETGID) {
            (new.gid, new.sgid) = (gid, gid);
        } else if gid != new.gid && gid != new.sgid {
            return Err(EPERM);
        }
        (new.egid, new.fsgid) = (gid, gid);
        Ok(())
    })
}

/// `setreuid(2)`.
pub fn sys_setreuid(ctx: &Ctx, real: Uid, effective: Uid) -> Result<usize> {
    change(ctx, |new| {
        let old = new.clone();
        let free = old.has(CapSet::SETUID);
        if real != KEEP {
            allow(free, real, &[old.uid, old.euid])?;
            new.uid = real;
        }
        if effective != KEEP {
            allow(free, effective, &[old.uid, old.euid, old.suid])?;
            new.euid = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old.uid) {
            new.suid = new.euid;
        }
        new.fsuid = new.euid;
        Ok(())
    })
}

/// `setregid(2)`.
pub fn sys_setregid(ctx: &Ctx, real: Gid, effective: Gid) -> Result<usize> {
    change(ctx, |new| {
        let old = new.clone();
        let free = old.has(CapSet::SETGID);
        if real != KEEP {
            allow(free, real, &[old.gid, old.egid])?;
            new.gid = real;
        }
        if effective != KEEP {
            allow(free, effective, &[old.gid, old.egid, old.sgid])?;
            new.egid = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old.gid) {
            new.sgid = new.egid;
        }
        new.fsgid = new.egid;
        Ok(())
    })
}

/// `setresuid(2)`.
pub fn sys_setresuid(ctx: &Ctx, real: Uid, effective: Uid, saved: Uid) -> Result<usize> {
    change(ctx, |new| {
        let free = new.has(CapSet::SETUID);
        let now = [new.uid, new.euid, new.suid];
        for (place, wanted) in [(&mut new.uid, real), (&mut new.euid, effective), (&mut new.suid, saved)] {
            if wanted != KEEP {
                allow(free, wanted, &now)?;
                *place = wanted;
            }
        }
        new.fsuid = new.euid;
        Ok(())
    })
}

/// `setresgid(2)`.
pub fn sys_setresgid(ctx: &Ctx, real: Gid, effective: Gid, saved: Gid) -> Result<usize> {
    change(ctx, |new| {
        let free = new.has(CapSet::SETGID);
        let now = [new.gid, new.egid, new.sgid];
        for (place, wanted) in [(&mut new.gid, real), (&mut new.egid, effective), (&mut new.sgid, saved)] {
            if wanted != KEEP {
                allow(free, wanted, &now)?;
                *place = wanted;
            }
        }
        new.fsgid = new.egid;
        Ok(())
    })
}

/// `setfsuid(2)`: answers the old one, whether it could be changed or not.
pub fn sys_setfsuid(ctx: &Ctx, uid: Uid) -> Result<usize> {
    let old = ctx.credentials();
    let allowed = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid) || old.has(CapSet::SETUID);
    if uid != KEEP && allowed {
        change(ctx, |new| {
            match (new.fsuid, uid) {
                (0, 1..) => new.effective -= CapSet::FILES,
                (1.., 0) => new.effective |= new.permitted & CapSet::FILES,
                _ => {}
            }
            new.fsuid = uid;
            Ok(())
        })?;
    }
    Ok(old.fsuid as usize)
}

/// `setfsgid(2)`: answers the old one, whether it could be changed or not.
pub fn sys_setfsgid(ctx: &Ctx, gid: Gid) -> Result<usize> {
    let old = ctx.credentials();
    let allowed = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid) || old.has(CapSet::SETGID);
    if gid != KEEP && allowed {
        change(ctx, |new| {
            new.fsgid = gid;
            Ok(())
        })?;
    }
    Ok(old.fsgid as usize)
}

/// `getgroups(2)`.
pub fn sys_getgroups(ctx: &Ctx, size: i32, addr: Vaddr) -> Result<usize> {
    let size = usize::try_from(size).map_err(|_| EINVAL)?;
    let credentials = ctx.credentials();
    let count = credentials.groups.len();
    if size != 0 {
        if size < count {
            return Err(EINVAL);
        }
        ctx.vm.write_slice(addr, &credentials.groups)?;
    }
    Ok(count)
}

/// `setgroups(2)`.
pub fn sys_setgroups(ctx: &Ctx, size: usize, addr: Vaddr) -> Result<usize> {
    ctx.credentials().require(CapSet::SETGID)?;
    if size > MAX_GROUPS {
        return Err(EINVAL);
    }
    let mut groups: Vec<Gid> = ctx.vm.read_vec(addr, size)?;
    groups.sort_unstable();
    change(ctx, |new| {
        new.groups = Arc::new(groups);
        Ok(())
    })
}

fn allow(free: bool, wanted: u32, among: &[u32]) -> Result<()> {
    if free || among.contains(&wanted) { Ok(()) } else { Err(EPERM) }
}

/// Gives the calling thread credentials that `f` has changed, with the effect that a change of users has on
/// capabilities (capabilities(7)).
fn change(ctx: &Ctx, f: impl FnOnce(&mut Credentials) -> Result<()>) -> Result<usize> {
    let old = ctx.credentials();
    let mut new = (*old).clone();
    f(&mut new)?;
    let was_root = [old.uid, old.euid, old.suid].contains(&0);
    let is_root = [new.uid, new.euid, new.suid].contains(&0);
    if was_root && !is_root && !new.keep_caps {
        new.permitted = CapSet::empty();
        new.effective = CapSet::empty();
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = CapSet::empty();
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
    if (old.euid, old.egid) != (new.euid, new.egid) {
        ctx.process.dumpable.store(false, Ordering::Relaxed);
    }
    ctx.thread.set_credentials(new);
    Ok(0)
}

/// The versions of the capability calls, with how many words each set has.
const CAPABILITY_VERSIONS: [(u32, usize); 3] = [(0x2008_0522, 2), (0x1998_0330, 1), (0x2007_1026, 2)];

#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The number of words of the version that a program speaks; if it speaks none, tells it the best and fails.
fn capability_words(ctx: &Ctx, header: Vaddr) -> Result<(CapHeader, usize)> {
    let asked: CapHeader = ctx.vm.read_val(header)?;
    match CAPABILITY_VERSIONS.iter().find(|(version, _)| *version == asked.version) {
        Some((_, words)) => Ok((asked, *words)),
        None => {
            ctx.vm.write_val(header, &CAPABILITY_VERSIONS[0].0)?;
            Err(EINVAL)
        }
    }
}

/// `capget(2)`.
pub fn sys_capget(ctx: &Ctx, header: Vaddr, data: Vaddr) -> Result<usize> {
    let (asked, words) = match capability_words(ctx, header) {
        // A probe for the version.
        Err(EINVAL) if data == 0 => return Ok(0),
        other => other?,
    };
    let credentials = match asked.pid {
        0 => ctx.credentials(),
        1.. => table::thread(asked.pid as Pid).ok_or(ESRCH)?.credentials(),
        _ => return Err(EINVAL),
    };
    if data == 0 {
        return Ok(0);
    }
    let word = |set: CapSet, index: usize| (set.bits() >> (32 * index)) as u32;
    let sets: [CapData; 2] = core::array::from_fn(|index| CapData {
        effective: word(credentials.effective, index),
        permitted: word(credentials.permitted, index),
        inheritable: word(credentials.inheritable, index),
    });
    ctx.vm.write_slice(data, &sets[..words])?;
    Ok(0)
}

/// `capset(2)`.
pub fn sys_capset(ctx: &Ctx, header: Vaddr, data: Vaddr) -> Result<usize> {
    let (asked, words) = capability_words(ctx, header)?;
    if asked.pid != 0 && asked.pid as Tid != ctx.thread.tid() {
        return Err(EPERM);
    }
    let sets: Vec<CapData> = ctx.vm.read_vec(data, words)?;
    let join = |part: fn(&CapData) -> u32| {
        let bits =
            sets.iter().enumerate().fold(0, |bits, (index, set)| bits | u64::from(part(set)) << (32 * index));
        CapSet::from_bits_truncate(bits)
    };
    let effective = join(|set| set.effective);
    let permitted = join(|set| set.permitted);
    let inheritable = join(|set| set.inheritable);
    let mut new = (*ctx.credentials()).clone();
    let reachable = new.inheritable | (new.permitted & new.bounding);
    let may_add = new.has(CapSet::SETPCAP);
    if !new.permitted.contains(permitted)
        || !permitted.contains(effective)
        || !(reachable | new.permitted).contains(inheritable)
        || (!may_add && !(new.inheritable | new.permitted).contains(inheritable))
    {
        return Err(EPERM);
    }
    (new.effective, new.permitted, new.inheritable) = (effective, permitted, inheritable);
    ctx.thread.set_credentials(new);
    Ok(0)
}
