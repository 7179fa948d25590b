// SPDX-License-Identifier: MPL-2.0

//! The machine as a whole: its names, its memory, its randomness, its end.

use linux_raw_sys::general::{
    GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM, LINUX_REBOOT_CMD_CAD_OFF, LINUX_REBOOT_CMD_CAD_ON,
    LINUX_REBOOT_CMD_HALT, LINUX_REBOOT_CMD_POWER_OFF, LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_CMD_RESTART2,
    LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_MAGIC2A, LINUX_REBOOT_MAGIC2B,
    LINUX_REBOOT_MAGIC2C,
};
use ostd::mm::{FallibleVmWrite, VmReader};

use crate::{
    log::ring,
    mm, power,
    prelude::*,
    process::{credentials::CapSet, table},
    random, sched, tty,
    uts::{self, UtsName},
};

/// `uname(2)`.
pub fn sys_uname(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    ctx.vm.write_val(addr, &UtsName::current())?;
    Ok(0)
}

/// `sethostname(2)`.
pub fn sys_sethostname(ctx: &Ctx, addr: Vaddr, len: i32) -> Result<usize> {
    set_name(ctx, addr, len, uts::set_host_name)
}

/// `setdomainname(2)`.
pub fn sys_setdomainname(ctx: &Ctx, addr: Vaddr, len: i32) -> Result<usize> {
    set_name(ctx, addr, len, uts::set_domain_name)
}

fn set_name(ctx: &Ctx, addr: Vaddr, len: i32, set: fn(&[u8])) -> Result<usize> {
    ctx.credentials().require(CapSet::SYS_ADMIN)?;
    let len = usize::try_from(len).map_err(|_| EINVAL)?;
    let mut name = [0; uts::NAME_LEN];
    let name = name.get_mut(..len).ok_or(EINVAL)?;
    ctx.vm.read_bytes(addr, name)?;
    set(name);
    Ok(0)
}

/// `vhangup(2)`.
pub fn sys_vhangup(ctx: &Ctx) -> Result<usize> {
    ctx.credentials().require(CapSet::SYS_TTY_CONFIG)?;
    tty::hang_up_own();
    Ok(0)
}

/// `struct sysinfo`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
struct SysInfo {
    uptime: i64,
    loads: [u64; 3],
    total_memory: u64,
    free_memory: u64,
    shared_memory: u64,
    buffers: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    padding: [u16; 3],
    total_high: u64,
    free_high: u64,
    unit: u32,
    padding_2: u32,
}

/// `sysinfo(2)`.
pub fn sys_sysinfo(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    let info = SysInfo {
        uptime: crate::time::monotonic().as_secs() as i64,
        loads: sched::load::averages().map(|load| u64::from(load) << 5),
        total_memory: mm::total_memory() as u64,
        free_memory: mm::free_memory() as u64,
        processes: table::with(|table| table.thread_count()).min(usize::from(u16::MAX)) as u16,
        unit: 1,
        ..SysInfo::default()
    };
    ctx.vm.write_val(addr, &info)?;
    Ok(0)
}

/// `getrandom(2)`.
pub fn sys_getrandom(ctx: &Ctx, addr: Vaddr, len: usize, flags: u32) -> Result<usize> {
    let allowed = GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE;
    if flags & !allowed != 0 || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE {
        return Err(EINVAL);
    }
    let len = len.min(i32::MAX as usize);
    let mut writer = ctx.vm.writer(addr, len)?;
    let mut chunk = [0; 256];
    let mut done = 0;
    while done < len {
        let part = chunk.len().min(len - done);
        random::fill(&mut chunk[..part]);
        match writer.write_fallible(&mut VmReader::from(&chunk[..part])) {
            Ok(_) => done += part,
            Err((_, copied)) if done + copied > 0 => return Ok(done + copied),
            Err(_) => return Err(EFAULT),
        }
    }
    Ok(done)
}

/// `reboot(2)`.
pub fn sys_reboot(ctx: &Ctx, magic: u32, magic_2: u32, command: u32) -> Result<usize> {
    ctx.credentials().require(CapSet::SYS_BOOT)?;
    let second = [LINUX_REBOOT_MAGIC2, LINUX_REBOOT_MAGIC2A, LINUX_REBOOT_MAGIC2B, LINUX_REBOOT_MAGIC2C];
    if magic != LINUX_REBOOT_MAGIC1 || !second.contains(&magic_2) {
        return Err(EINVAL);
    }
    match command {
        LINUX_REBOOT_CMD_CAD_ON | LINUX_REBOOT_CMD_CAD_OFF => Ok(0),
        LINUX_REBOOT_CMD_HALT | LINUX_REBOOT_CMD_POWER_OFF => power::power_off(),
        LINUX_REBOOT_CMD_RESTART | LINUX_REBOOT_CMD_RESTART2 => power::reboot(),
        _ => Err(EINVAL),
    }
}

/// `personality(2)`.
pub fn sys_personality(ctx: &Ctx, persona: u32) -> Result<usize> {
    let old = ctx.process.personality.load(Ordering::Relaxed);
    if persona != u32::MAX {
        ctx.process.personality.store(persona, Ordering::Relaxed);
    }
    Ok(old as usize)
}

/// `syslog(2)`: the last lines of the log. Nothing ever waits for more of them.
pub fn sys_syslog(ctx: &Ctx, action: i32, addr: Vaddr, len: i32) -> Result<usize> {
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    match action {
        // Open and close.
        0 | 1 => Ok(0),
        READ | READ_ALL | READ_CLEAR => {
            if action != READ_ALL {
                ctx.credentials().require(CapSet::SYS_ADMIN)?;
            }
            let len = usize::try_from(len).ok().filter(|_| addr != 0).ok_or(EINVAL)?;
            let mut lines = try_filled(0, len.min(ring::SIZE))?;
            let count =
                if action == READ { ring::copy_unread(&mut lines) } else { ring::copy_last(&mut lines) };
            ctx.vm.write_bytes(addr, &lines[..count])?;
            if action == READ_CLEAR {
                ring::clear();
            }
            Ok(count)
        }
        5 => {
            ctx.credentials().require(CapSet::SYS_ADMIN)?;
            ring::clear();
            Ok(0)
        }
        // Levels of the console, which shows none of the log.
        8 if !(1..=8).contains(&len) => Err(EINVAL),
        6..=8 => ctx.credentials().require(CapSet::SYS_ADMIN).map(|()| 0),
        9 => Ok(ring::count_unread()),
        10 => Ok(ring::SIZE),
        _ => Err(EINVAL),
    }
}
