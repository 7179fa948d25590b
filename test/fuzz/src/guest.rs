// SPDX-License-Identifier: MPL-2.0

//! The duties of process 1, and a layout that is the same every time.

use std::{ffi::CStr, os::unix::process::CommandExt, process::Command};

/// `personality(2)`: addresses are not random.
const NO_RANDOM: u64 = 0x004_0000;
/// Asks without changing anything.
const ASK: u64 = 0xffff_ffff;

/// Whether the kernel places things at random: where `MAP_32BIT` begins to look, above all.
pub fn is_random() -> bool {
    syscall!(SYS_personality, ASK) as u64 & NO_RANDOM == 0
}

/// Executes this program again, with a layout that is not random.
pub fn start_again(args: &[String]) {
    let now = syscall!(SYS_personality, ASK) as u64;
    syscall!(SYS_personality, now | NO_RANDOM);
    let error = Command::new("/proc/self/exe").args(args).exec();
    println!("fuzz: the program cannot be executed again: {error}");
}

/// Mounts what the sequences need.
pub fn mount_all() {
    mount(c"proc", c"/proc");
    mount(c"tmpfs", c"/tmp");
    if std::fs::metadata("/dev/zero").is_err() {
        mount(c"devtmpfs", c"/dev");
    }
}

/// Mounts a file system; that it is there already, or cannot be, shows in what needs it.
fn mount(kind: &CStr, place: &CStr) {
    syscall!(SYS_mkdir, place.as_ptr(), 0o755);
    syscall!(SYS_mount, kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, 0);
}

/// Turns the machine off.
pub fn power_off() {
    // What was said must have left the line first.
    const TCSBRK: u64 = 0x5409;
    syscall!(SYS_ioctl, 1, TCSBRK, 1);
    syscall!(SYS_sync);
    let (one, two) = (libc::LINUX_REBOOT_MAGIC1, libc::LINUX_REBOOT_MAGIC2);
    syscall!(SYS_reboot, one, two, libc::LINUX_REBOOT_CMD_POWER_OFF, 0);
}
