// SPDX-License-Identifier: MPL-2.0

//! Building the kernel with cargo-osdk.
//!
//! With nothing changed this takes a fraction of a second and says nothing.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{child::describe, project};

/// What the environment of every build of the kernel must hold.
///
/// OSTD maps a new task's stack page by page and unmaps it so: with 8 pages instead of its 128, making a task is many times
/// cheaper. The ABI suite needs no more than 4; a task that needs more than it has hits a guard page.
pub const ENVIRONMENT: (&str, &str) = ("OSTD_TASK_STACK_SIZE_IN_PAGES", "8");

/// Where cargo-osdk puts a kernel, within `target`.
const OUTPUT: &str = "osdk/tessera-osdk-bin.elf";

/// Where it is booted from, within `target`.
const IMAGE: &str = "run/tessera.elf";

/// Builds the kernel, and says where the image is.
///
/// # Errors
///
/// When cargo-osdk cannot be started, and when the kernel does not build: the compiler's words are on standard
/// error by then.
pub fn build() -> Result<PathBuf> {
    let log_path = project::target("run/build.log");
    fs::create_dir_all(project::target("run")).context("target/run cannot be made")?;
    let mut log = File::create(&log_path).context("target/run/build.log cannot be written")?;
    clear_outputs()?;
    let mut child = project::cargo()
        .args(["osdk", "build", "--release"])
        .env(ENVIRONMENT.0, ENVIRONMENT.1)
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;

    let mut announced = false;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            writeln!(log, "{line}").context("target/run/build.log cannot be written")?;
            if !announced && line.trim_start().starts_with("Compiling") {
                eprintln!("tessera: building the kernel");
                announced = true;
            }
        }
    }
    let status = child.wait().context("cargo cannot be waited for")?;
    if !status.success() {
        let log = fs::read_to_string(&log_path).unwrap_or_default();
        eprintln!("{}", excerpt(&log));
        bail!("the kernel does not build ({}); the whole log is target/run/build.log", describe(status));
    }

    let image = project::target(IMAGE);
    fs::rename(project::target(OUTPUT), &image)
        .with_context(|| format!("cargo-osdk built no target/{OUTPUT}"))?;
    Ok(image)
}

/// Removes what cargo-osdk has put into its folder before.
///
/// There is one place for the kernel of `cargo osdk build` and that of `cargo osdk test`, and what is put there is a hard link to
/// what was built: to write the one over the other would replace the other where it was built, and cargo takes it for fresh.
fn clear_outputs() -> Result<()> {
    let files = [OUTPUT, IMAGE].map(|file| fs::remove_file(project::target(file)));
    let bundle = fs::remove_dir_all(project::target("osdk/tessera"));
    match files.into_iter().chain([bundle]).filter_map(Result::err).find(|e| e.kind() != ErrorKind::NotFound)
    {
        Some(error) => Err(error).context("an earlier kernel in target cannot be removed"),
        None => Ok(()),
    }
}

/// The part of a build's log that says what is wrong: from the first error on, or its end.
fn excerpt(log: &str) -> String {
    const MOST: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    let first =
        lines.iter().position(|line| line.starts_with("error")).unwrap_or(lines.len().saturating_sub(MOST));
    lines[first..].iter().take(MOST).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn excerpt_starts_at_the_first_error() {
        assert_eq!(excerpt("warning: w\nerror[E1]: a\n --> b\nerror: c"), "error[E1]: a\n --> b\nerror: c");
    }

    #[test]
    fn excerpt_of_a_log_without_an_error_is_its_end() {
        let log: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert!(excerpt(&log.join("\n")).starts_with("40\n"));
    }
}
