// SPDX-License-Identifier: MPL-2.0

//! Debian's Linux, to be compared with: its image, how it is started, and its symbols.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{initramfs, project};

/// The package that depends on the newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// What the packages of a kernel depend on to be installed and started from a disk.
const NOT_NEEDED: &[&str] = &["initramfs-tools", "initramfs-tools-core", "linux-base", "kmod", "udev"];

/// A lean Linux: nothing on that Tessera does not have, and functions at the addresses of the symbols.
pub const COMMAND_LINE: &str = "console=ttyS0 mitigations=off nokaslr quiet panic=-1 init_on_alloc=0 \
    cgroup_disable=memory audit=0 randomize_kstack_offset=off transparent_hugepage=madvise no5lvl";

/// The program that writes the symbols of the kernel's code to the console.
///
/// Debian packs no list of symbols with the kernel. Modules are left out: none is loaded.
pub const LIST_SYMBOLS: &str = r"grep -v '\[' /proc/kallsyms | grep -i ' [tw] '; echo end of symbols";

/// Fetches the kernel, and says where the image is.
///
/// # Errors
///
/// When the package cannot be had.
pub fn image() -> Result<PathBuf> {
    let boot = initramfs::unpack("linux", &[PACKAGE], NOT_NEEDED)?.join("boot");
    let entries = fs::read_dir(&boot).context("the package of Linux has no /boot")?;
    let is_image =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    let image = entries.filter_map(|entry| Some(entry.ok()?.path())).find(is_image);
    image.with_context(|| format!("{} has no kernel in it", boot.display()))
}

/// The file that the symbols of an image are kept in.
pub fn symbols_file(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    project::target("profile").join(name.replace("vmlinuz", "symbols"))
}

/// What came of [`LIST_SYMBOLS`], if it is complete.
///
/// # Errors
///
/// When it is not, or the kernel hides its addresses.
pub fn symbols(output: &str) -> Result<String> {
    let Some((list, _)) = output.split_once("end of symbols") else {
        bail!("Linux did not list its symbols");
    };
    if !list.lines().any(|line| line.starts_with("ffffffff8")) {
        bail!("Linux hides the addresses of its symbols");
    }
    Ok(list.to_owned())
}
