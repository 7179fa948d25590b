// SPDX-License-Identifier: MPL-2.0

//! Where things are, and how cargo is called.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The toolchain that programs for the guest are built with; `test/` is a workspace of its own.
///
/// No standard library for musl is published for the nightly of the kernel.
const STABLE: &str = "1.95.0";

/// The root of the clone this tool runs in.
pub fn root() -> PathBuf {
    // cargo sets this for what it runs; by hand, the tool works in the folder it is started in.
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(osdk) => Path::new(&osdk).parent().map(Path::to_path_buf).unwrap_or_default(),
        None => PathBuf::from("."),
    }
}

/// A folder under `target/`.
pub fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// The cargo that built this tool, in the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The stable cargo, in the workspace of the programs that run on the kernel.
pub fn guest_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", STABLE, "cargo"]).current_dir(root().join("test"));
    // What the outer cargo says of itself must not reach the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME" || name == "RUSTUP_TOOLCHAIN" {
            command.env_remove(&*name);
        }
    }
    command
}
