// SPDX-License-Identifier: MPL-2.0

//! The Tessera kernel.

#![no_std]
#![deny(unsafe_code)]

use ostd::power::{ExitCode, poweroff};

#[ostd::main]
fn kernel_main() {
    ostd::early_println!("Tessera");
    poweroff(ExitCode::Success);
}
