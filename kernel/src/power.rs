// SPDX-License-Identifier: MPL-2.0

//! The end of the machine: powering off, restarting, and what the first process's exit means.

use ostd::power::{ExitCode, poweroff, restart};

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
