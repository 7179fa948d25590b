// SPDX-License-Identifier: MPL-2.0

//! Tessera: a Linux-ABI kernel on the VMAR framework.
//!
//! ```text
//! syscall/   from registers to functions, one file for each family
//! process/   processes, threads, exec          signal/  signals        sched/  the scheduler
//! mm/        glue to the VMAR framework        fs/      files          time/   clocks and timers
//! wait.rs    wait queues                       usermem.rs  user memory     futex.rs
//! ```
//!
//! OSTD starts [`kernel_main`] on the first CPU. It brings up what needs an order, unpacks the initramfs and starts the
//! first program; after that everything happens for a system call, a fault or an interrupt.

#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[macro_use]
extern crate ostd_pod;

/// The prefix of log lines that OSTD's macros ask each crate for.
macro_rules! __log_prefix {
    () => {
        ""
    };
}

pub mod device;
pub mod error;
pub mod fallible;
pub mod fs;
pub mod futex;
pub mod ipc;
pub mod log;
pub mod mm;
pub mod net;
pub mod power;
pub mod prelude;
pub mod process;
pub mod random;
pub mod sched;
pub mod signal;
pub mod syscall;
pub mod time;
pub mod tty;
pub mod usermem;
pub mod uts;
pub mod wait;

use ostd::boot::{boot_info, smp::register_ap_entry};

use crate::prelude::*;

#[ostd::main]
fn kernel_main() {
    let cmdline = boot_info().kernel_cmdline.as_str();
    log::init(cmdline);
    time::init();
    sched::init();
    sched::init_on_cpu();
    register_ap_entry(sched::ap_entry);
    process::local::init();
    mm::init();
    info!("booting with {:?}", cmdline);
    process::init::start(cmdline);
}
