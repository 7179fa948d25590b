// SPDX-License-Identifier: MPL-2.0

//! The end of the machine: powering off, restarting, and what the first process's exit means.

use core::panic::PanicInfo;

use ostd::power::{ExitCode, poweroff, restart};

use crate::prelude::*;

/// Powers the machine off because the first process has ended with `status`.
///
/// The last line of the log tells the status, in the encoding of a shell: the exit code, or 128 plus the signal.
pub fn init_exited(status: i32) -> ! {
    crate::log::write_line(format_args!("exit: {status}"));
    poweroff(ExitCode::Success)
}

/// Powers the machine off at a program's request (`reboot(2)`).
pub fn power_off() -> ! {
    crate::log::write_line(format_args!("exit: 0"));
    poweroff(ExitCode::Success)
}

/// Restarts the machine at a program's request (`reboot(2)`).
pub fn reboot() -> ! {
    crate::log::write_line(format_args!("exit: 0"));
    restart(ExitCode::Success)
}

/// Ends the machine because the kernel itself is broken: the log tells why, without an `exit:` line.
#[ostd::panic_handler]
fn panic_handler(info: &PanicInfo) -> ! {
    static IS_PANICKING: AtomicBool = AtomicBool::new(false);
    // A panic on the way out, or of a second CPU, adds nothing.
    if !IS_PANICKING.swap(true, Ordering::Relaxed) {
        crate::log::write_line_if_free(format_args!("kernel panic: {info}"));
    }
    ostd::panic::abort()
}
