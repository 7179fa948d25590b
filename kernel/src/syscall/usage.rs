// SPDX-License-Identifier: MPL-2.0

//! Resource limits, and what was used: `prlimit64(2)`, `getrusage(2)`, `times(2)`.

use linux_raw_sys::general::{RLIM_NLIMITS, RLIMIT_NOFILE, RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD};
use vmar::error::Limit;

use crate::{
    prelude::*,
    process::{Usage, credentials::CapSet, rlimit::Rlimit, table},
};

/// Clock ticks a second, as programs count them (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: u64 = 100;

/// The most files that a program may allow itself to open (`fs.nr_open`).
const MAX_OPEN_FILES: u64 = 1 << 20;

/// `struct timeval`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default, Debug)]
pub struct TimeVal {
    /// Seconds.
    pub seconds: i64,
    /// Microseconds.
    pub micros: i64,
}

impl TimeVal {
    /// The time of so many nanoseconds, rounded down.
    pub fn from_nanos(nanos: u64) -> Self {
        Self { seconds: (nanos / 1_000_000_000) as i64, micros: (nanos % 1_000_000_000 / 1000) as i64 }
    }
}

/// `struct rusage`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Default)]
pub struct Rusage {
    user: TimeVal,
    system: TimeVal,
    max_rss: i64,
    shared: i64,
    data: i64,
    stack: i64,
    minor_faults: i64,
    major_faults: i64,
    swaps: i64,
    blocks_in: i64,
    blocks_out: i64,
    messages_sent: i64,
    messages_received: i64,
    signals: i64,
    voluntary_switches: i64,
    involuntary_switches: i64,
}

impl From<Usage> for Rusage {
    fn from(usage: Usage) -> Self {
        Self {
            user: TimeVal::from_nanos(usage.user_nanos),
            system: TimeVal::from_nanos(usage.system_nanos),
            max_rss: usage.max_rss_kib as i64,
            minor_faults: usage.minor_faults as i64,
            major_faults: usage.major_faults as i64,
            voluntary_switches: usage.voluntary_switches as i64,
            involuntary_switches: usage.involuntary_switches as i64,
            ..Self::default()
        }
    }
}

/// `getrusage(2)`.
pub fn sys_getrusage(ctx: &Ctx, who: i32, addr: Vaddr) -> Result<usize> {
    let mut usage = match who {
        _ if who == RUSAGE_SELF as i32 => ctx.process.usage(),
        _ if who == RUSAGE_CHILDREN => ctx.process.times.lock().children,
        _ if who == RUSAGE_THREAD as i32 => ctx.thread.usage(),
        _ => return Err(EINVAL),
    };
    if who != RUSAGE_CHILDREN {
        // Of the programs that were run before this one, too.
        let of_process = ctx.process.times.lock().own.max_rss_kib;
        usage.max_rss_kib = of_process.max(ctx.vm.peak_rss_kib());
    }
    ctx.vm.write_val(addr, &Rusage::from(usage))?;
    Ok(0)
}

/// `times(2)`.
pub fn sys_times(ctx: &Ctx, addr: Vaddr) -> Result<usize> {
    let ticks = |nanos: u64| (nanos / (1_000_000_000 / TICKS_PER_SECOND)) as i64;
    if addr != 0 {
        let own = ctx.process.usage();
        let children = ctx.process.times.lock().children;
        let times = [
            ticks(own.user_nanos),
            ticks(own.system_nanos),
            ticks(children.user_nanos),
            ticks(children.system_nanos),
        ];
        ctx.vm.write_val(addr, &times)?;
    }
    Ok(ticks(crate::time::monotonic_nanos()) as usize)
}

/// `getrlimit(2)`.
pub fn sys_getrlimit(ctx: &Ctx, resource: u32, addr: Vaddr) -> Result<usize> {
    let limit = ctx.process.rlimits.try_get(resource)?;
    ctx.vm.write_val(addr, &limit)?;
    Ok(0)
}

/// `setrlimit(2)`.
pub fn sys_setrlimit(ctx: &Ctx, resource: u32, addr: Vaddr) -> Result<usize> {
    let new = ctx.vm.read_val(addr)?;
    set_limit(ctx, ctx.process, resource, new)?;
    Ok(0)
}

/// `prlimit(2)`.
pub fn sys_prlimit64(ctx: &Ctx, pid: i32, resource: u32, new: Vaddr, old: Vaddr) -> Result<usize> {
    let new = if new != 0 { Some(ctx.vm.read_val::<Rlimit>(new)?) } else { None };
    if resource >= RLIM_NLIMITS {
        return Err(EINVAL);
    }
    let process = if pid == 0 {
        ctx.process.clone()
    } else {
        let thread = table::thread(pid as Pid).ok_or(ESRCH)?;
        check_may_limit(ctx, &thread)?;
        thread.process().clone()
    };
    let before = match new {
        Some(new) => set_limit(ctx, &process, resource, new)?,
        None => process.rlimits.try_get(resource)?,
    };
    if old != 0 {
        ctx.vm.write_val(old, &before)?;
    }
    Ok(0)
}

/// `EPERM` unless the caller is the same user as `thread` in every respect, or may change anybody's limits.
fn check_may_limit(ctx: &Ctx, thread: &Thread) -> Result<()> {
    if Arc::ptr_eq(thread.process(), ctx.process) {
        return Ok(());
    }
    let (own, other) = (ctx.credentials(), thread.credentials());
    let same_user = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid);
    let same_group = [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid);
    if same_user && same_group { Ok(()) } else { own.require(CapSet::SYS_RESOURCE) }
}

fn set_limit(ctx: &Ctx, process: &Process, resource: u32, new: Rlimit) -> Result<Rlimit> {
    if new.soft > new.hard {
        return Err(EINVAL);
    }
    if resource == RLIMIT_NOFILE && new.hard > MAX_OPEN_FILES {
        return Err(EPERM);
    }
    let may_raise = ctx.credentials().has(CapSet::SYS_RESOURCE);
    let before = process
        .rlimits
        .replace(resource, new, |old| if new.hard > old.hard && !may_raise { Err(EPERM) } else { Ok(()) })?;
    if let Some(vm) = process.vm() {
        vm.apply_limits(&process.rlimits);
        // What a privileged program has locked may go on growing.
        if process.main_thread().is_some_and(|thread| thread.credentials().has(CapSet::IPC_LOCK)) {
            vm.vmar().limits().set(Limit::Locked, usize::MAX);
        }
    }
    Ok(before)
}
