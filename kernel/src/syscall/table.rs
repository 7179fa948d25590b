// SPDX-License-Identifier: MPL-2.0

//! Which function does which system call.

use linux_raw_sys::general::*;
use ostd::arch::cpu::context::UserContext;

use super::{process, unknown};
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
    _registers: &mut UserContext,
    number: usize,
    arguments: [usize; 6],
) -> Result<Option<usize>> {
    if u32::try_from(number).is_err() {
        return Err(unknown(ctx, number));
    }
    let result = table! { ctx, _registers, number, arguments;
        // Processes and threads.
        __NR_exit => process::sys_exit, 1;
        __NR_exit_group => process::sys_exit_group, 1;
        __NR_getpid => process::sys_getpid, 0;
        __NR_gettid => process::sys_gettid, 0;
        __NR_getppid => process::sys_getppid, 0;

        // Memory.

        // Signals and time.

        // Files.

        // Devices, sockets and readiness.
    };
    result.map(Some)
}
