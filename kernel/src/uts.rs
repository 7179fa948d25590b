// SPDX-License-Identifier: MPL-2.0

//! The names that `uname(2)` tells.

use crate::prelude::*;

/// The longest host or domain name in bytes.
pub const NAME_LEN: usize = 64;

/// The release: programs compare it with the Linux version that they need.
pub const RELEASE: &str = "6.1.0-tessera";
/// The version.
pub const VERSION: &str = concat!("#1 SMP PREEMPT Tessera ", env!("CARGO_PKG_VERSION"));

type Field = [u8; NAME_LEN + 1];

static HOST_NAME: SpinLock<Field> = SpinLock::new(field("tessera"));
static DOMAIN_NAME: SpinLock<Field> = SpinLock::new(field("(none)"));

/// `struct new_utsname`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
pub struct UtsName {
    system: Field,
    host: Field,
    release: Field,
    version: Field,
    machine: Field,
    domain: Field,
}

impl UtsName {
    /// The names as they are now.
    pub fn current() -> Self {
        Self {
            system: field("Linux"),
            host: *HOST_NAME.lock(),
            release: field(RELEASE),
            version: field(VERSION),
            machine: field("x86_64"),
            domain: *DOMAIN_NAME.lock(),
        }
    }
}

/// The host name.
pub fn host_name() -> Vec<u8> {
    HOST_NAME.lock().iter().copied().take_while(|byte| *byte != 0).collect()
}

/// The domain name.
pub fn domain_name() -> Vec<u8> {
    DOMAIN_NAME.lock().iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Sets the host name; what is beyond [`NAME_LEN`] bytes is cut off.
pub fn set_host_name(name: &[u8]) {
    *HOST_NAME.lock() = bytes_field(name);
}

/// Sets the domain name; what is beyond [`NAME_LEN`] bytes is cut off.
pub fn set_domain_name(name: &[u8]) {
    *DOMAIN_NAME.lock() = bytes_field(name);
}

const fn field(text: &str) -> Field {
    bytes_field(text.as_bytes())
}

const fn bytes_field(bytes: &[u8]) -> Field {
    let mut field = [0; NAME_LEN + 1];
    let mut at = 0;
    while at < bytes.len() && at < NAME_LEN {
        field[at] = bytes[at];
        at += 1;
    }
    field
}
