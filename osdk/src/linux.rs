// SPDX-License-Identifier: MPL-2.0

//! Debian's Linux, to be compared with: its image, and how it is started.

use std::path::PathBuf;

use anyhow::Result;

use crate::initramfs::{self, Tree};

/// The package that depends on the newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A lean Linux: nothing on that this kernel does not have, and functions at the addresses of their symbols.
///
/// No mitigations, no accounting by groups, no audit, no clearing beyond what the ABI asks for, no huge pages unless
/// asked for, and page tables of four levels.
pub const COMMAND_LINE: &str = "console=ttyS0 mitigations=off nokaslr quiet panic=-1 init_on_alloc=0 \
    cgroup_disable=memory audit=0 randomize_kstack_offset=off transparent_hugepage=madvise no5lvl";

/// What it runs first in a root that was made for Tessera.
const INIT: &str = include_str!("../linux/init");

/// Fetches the kernel, and says where the image is.
///
/// # Errors
///
/// When the package cannot be had.
pub fn image() -> Result<PathBuf> {
    initramfs::linux(PACKAGE)
}

/// Adds to a root what it takes to be Linux's, and returns the command line that goes with it: sessions then run, and end, as on
/// Tessera.
pub fn prepare(tree: &mut Tree) -> String {
    tree.file("linux-init", INIT.into(), 0o755);
    format!("{COMMAND_LINE} rdinit=/linux-init ")
}
