// SPDX-License-Identifier: MPL-2.0

//! The symbols of Debian's Linux.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::project;

/// The program that writes the symbols of the kernel's code to the console.
///
/// Debian packs no list of symbols with the kernel. Modules are left out: none is loaded.
pub const LIST_SYMBOLS: &str = r"grep -v '\[' /proc/kallsyms | grep -i ' [tw] '; echo end of symbols";

/// The file that the symbols of an image are kept in.
pub fn file(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    project::target("profile").join(name.replace("vmlinuz", "symbols"))
}

/// What came of [`LIST_SYMBOLS`], if it is complete.
///
/// # Errors
///
/// When it is not, or the kernel hides its addresses.
pub fn complete(output: &str) -> Result<String> {
    let Some((list, _)) = output.split_once("end of symbols") else {
        bail!("Linux did not list its symbols");
    };
    if !list.lines().any(|line| line.starts_with("ffffffff8")) {
        bail!("Linux hides the addresses of its symbols");
    }
    Ok(list.to_owned())
}
