// SPDX-License-Identifier: MPL-2.0

//! Which function does which system call.

use linux_raw_sys::general::*;
use ostd::arch::cpu::context::UserContext;

use super::{credentials, exec, ids, prctl, process, sched, system, unknown, usage, wait};
use crate::prelude::*;

/// Makes the dispatch of numbers to functions.
///
/// `NR => function(n)` calls `function(ctx, a1, .., an)`, each argument converted with `as`. `NR => function(regs)`
/// calls `function(ctx, registers, arguments)` for the few calls that need or set registers; such a function answers
/// `None` when it has set them all.
macro_rules! table {
    ($ctx:ident, $registers:ident, $number:ident, $arguments:ident; $($name:ident => $function:path, $kind:tt;)*) => {
        match $number as u32 {
            $($name => table!(@call $ctx, $registers, $arguments, $function, $kind),)*
            _ => return Err(unknown($ctx, $number)),
        }
    };
    (@call $c:ident, $r:ident, $a:ident, $f:path, regs) => { return $f($c, $r, $a) };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 0) => { $f($c) };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 1) => { $f($c, $a[0] as _) };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 2) => { $f($c, $a[0] as _, $a[1] as _) };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 3) => { $f($c, $a[0] as _, $a[1] as _, $a[2] as _) };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 4) => {
        $f($c, $a[0] as _, $a[1] as _, $a[2] as _, $a[3] as _)
    };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 5) => {
        $f($c, $a[0] as _, $a[1] as _, $a[2] as _, $a[3] as _, $a[4] as _)
    };
    (@call $c:ident, $r:ident, $a:ident, $f:path, 6) => {
        $f($c, $a[0] as _, $a[1] as _, $a[2] as _, $a[3] as _, $a[4] as _, $a[5] as _)
    };
}

/// Runs system call `number`. `None` if it has set the registers itself.
#[expect(non_upper_case_globals, reason = "the numbers have Linux's own names")]
pub(super) fn call(
    ctx: &Ctx,
    registers: &mut UserContext,
    number: usize,
    arguments: [usize; 6],
) -> Result<Option<usize>> {
    if u32::try_from(number).is_err() {
        return Err(unknown(ctx, number));
    }
    let result = table! { ctx, registers, number, arguments;
        // Processes and threads.
        __NR_fork => process::sys_fork, regs;
        __NR_vfork => process::sys_vfork, regs;
        __NR_clone => process::sys_clone, regs;
        __NR_clone3 => process::sys_clone3, regs;
        __NR_execve => exec::sys_execve, regs;
        __NR_execveat => exec::sys_execveat, regs;
        __NR_exit => process::sys_exit, 1;
        __NR_exit_group => process::sys_exit_group, 1;
        __NR_wait4 => wait::sys_wait4, 4;
        __NR_waitid => wait::sys_waitid, 5;
        __NR_set_tid_address => process::sys_set_tid_address, 1;
        __NR_set_robust_list => process::sys_set_robust_list, 2;
        __NR_get_robust_list => process::sys_get_robust_list, 3;
        __NR_pidfd_open => process::sys_pidfd_open, 2;
        __NR_getpid => ids::sys_getpid, 0;
        __NR_gettid => ids::sys_gettid, 0;
        __NR_getppid => ids::sys_getppid, 0;
        __NR_getpgrp => ids::sys_getpgrp, 0;
        __NR_getpgid => ids::sys_getpgid, 1;
        __NR_setpgid => ids::sys_setpgid, 2;
        __NR_getsid => ids::sys_getsid, 1;
        __NR_setsid => ids::sys_setsid, 0;
        __NR_prctl => prctl::sys_prctl, 5;
        __NR_arch_prctl => prctl::sys_arch_prctl, 2;

        // Credentials.
        __NR_getuid => credentials::sys_getuid, 0;
        __NR_geteuid => credentials::sys_geteuid, 0;
        __NR_getgid => credentials::sys_getgid, 0;
        __NR_getegid => credentials::sys_getegid, 0;
        __NR_getresuid => credentials::sys_getresuid, 3;
        __NR_getresgid => credentials::sys_getresgid, 3;
        __NR_setuid => credentials::sys_setuid, 1;
        __NR_setgid => credentials::sys_setgid, 1;
        __NR_setreuid => credentials::sys_setreuid, 2;
        __NR_setregid => credentials::sys_setregid, 2;
        __NR_setresuid => credentials::sys_setresuid, 3;
        __NR_setresgid => credentials::sys_setresgid, 3;
        __NR_setfsuid => credentials::sys_setfsuid, 1;
        __NR_setfsgid => credentials::sys_setfsgid, 1;
        __NR_getgroups => credentials::sys_getgroups, 2;
        __NR_setgroups => credentials::sys_setgroups, 2;
        __NR_capget => credentials::sys_capget, 2;
        __NR_capset => credentials::sys_capset, 2;

        // Limits and scheduling.
        __NR_getrlimit => usage::sys_getrlimit, 2;
        __NR_setrlimit => usage::sys_setrlimit, 2;
        __NR_prlimit64 => usage::sys_prlimit64, 4;
        __NR_getrusage => usage::sys_getrusage, 2;
        __NR_times => usage::sys_times, 1;
        __NR_sched_yield => sched::sys_sched_yield, 0;
        __NR_getcpu => sched::sys_getcpu, 2;
        __NR_sched_getaffinity => sched::sys_sched_getaffinity, 3;
        __NR_sched_setaffinity => sched::sys_sched_setaffinity, 3;
        __NR_getpriority => sched::sys_getpriority, 2;
        __NR_setpriority => sched::sys_setpriority, 3;
        __NR_sched_getscheduler => sched::sys_sched_getscheduler, 1;
        __NR_sched_setscheduler => sched::sys_sched_setscheduler, 3;
        __NR_sched_getparam => sched::sys_sched_getparam, 2;
        __NR_sched_setparam => sched::sys_sched_setparam, 2;
        __NR_sched_get_priority_max => sched::sys_sched_get_priority_max, 1;
        __NR_sched_get_priority_min => sched::sys_sched_get_priority_min, 1;
        __NR_sched_rr_get_interval => sched::sys_sched_rr_get_interval, 2;

        // The machine.
        __NR_uname => system::sys_uname, 1;
        __NR_sethostname => system::sys_sethostname, 2;
        __NR_setdomainname => system::sys_setdomainname, 2;
        __NR_sysinfo => system::sys_sysinfo, 1;
        __NR_getrandom => system::sys_getrandom, 3;
        __NR_reboot => system::sys_reboot, 3;
        __NR_personality => system::sys_personality, 1;
        __NR_syslog => system::sys_syslog, 3;

        // Memory.

        // Signals and time.

        // Files.

        // Devices, sockets and readiness.
    };
    result.map(Some)
}
