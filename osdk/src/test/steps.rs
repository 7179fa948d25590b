// SPDX-License-Identifier: MPL-2.0

//! The steps of `make test`, in their order. To add one, add a line to [`all`].

use std::{env, os::unix::process::CommandExt, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::tally::Count;
use crate::{kernel, project};

/// One step: a command, its time limit, and how to count what it proved.
pub struct Step {
    /// The steps of a group can be asked for together.
    pub group: &'static str,
    /// The name of the step and of its log.
    pub name: &'static str,
    /// How to count.
    pub count: Count,
    /// It is ended after this time.
    pub limit: Duration,
    /// The command; its first word is `cargo`, `guest-cargo` (the stable one, in `test/` unless a folder is set), `xtask`, or
    /// `harmless` before a program of the guest.
    pub words: Vec<&'static str>,
    folder: &'static str,
    environment: Vec<(&'static str, &'static str)>,
}

/// All the steps.
pub fn all() -> Vec<Step> {
    vec![
        Step::new("lint", "fmt", Count::Step, 1, "cargo fmt --all --check"),
        Step::new("lint", "fmt-guest", Count::Step, 1, "guest-cargo fmt --all --check"),
        Step::new("lint", "clippy-host", Count::Step, 10, CLIPPY_HOST),
        Step::new("lint", "clippy-kernel", Count::Step, 10, CLIPPY_KERNEL),
        Step::new("lint", "clippy-ktest", Count::Step, 10, CLIPPY_KERNEL).env("RUSTFLAGS", "--cfg ktest"),
        Step::new("lint", "clippy-guest", Count::Step, 10, CLIPPY_GUEST),
        Step::new("lint", "fmt-flat", Count::Step, 1, "guest-cargo fmt --check").folder(FIRMWARE),
        Step::new("lint", "fmt-fuzz", Count::Step, 1, "cargo fmt --check").folder("fuzz"),
        Step::new("lint", "clippy-flat", Count::Step, 10, CLIPPY_FIRMWARE).folder(FIRMWARE),
        Step::new("lint", "rustdoc", Count::Step, 10, RUSTDOC).env("RUSTDOCFLAGS", "-D warnings"),
        Step::new("lint", "rustdoc-kernel", Count::Step, 10, RUSTDOC_KERNEL)
            .env("RUSTDOCFLAGS", KERNEL_PAGES),
        Step::new("lint", "rustdoc-hosted", Count::Step, 10, RUSTDOC_HOSTED)
            .env("RUSTDOCFLAGS", "-D warnings"),
        Step::new("host", "host", Count::Libtest, 20, HOST),
        Step::new("host", "schedules", Count::Libtest, 20, SCHEDULES).env("RUSTFLAGS", "--cfg shuttle"),
        Step::new("miri", "miri", Count::Libtest, 20, "xtask miri --quick"),
        Step::new("ktest", "ktest-ostd", Count::Libtest, 10, KTEST).folder("ostd"),
        Step::new("ktest", "ktest-ostd-smp", Count::Libtest, 10, KTEST).folder("ostd").env("SMP", "2"),
        Step::new("ktest", "ktest-kernel", Count::Libtest, 10, KTEST).folder("kernel"),
        Step::new("abi", "abi-build", Count::Step, 10, "guest-cargo build --release -p abi"),
        Step::new("abi", "abi-host", Count::Summary, 10, ABI_HOST),
        Step::new("abi", "abi-linux", Count::Summary, 20, ABI_LINUX).env("TESSERA_CMD", MEMORY_CASES),
        Step::new("abi", "abi", Count::Summary, 20, ABI).env("TESSERA_CMD", "abi"),
        Step::new("abi", "abi-smp", Count::Summary, 20, ABI_SMP).env("TESSERA_CMD", "abi"),
        Step::new("abi", "abi-fork-copy", Count::Summary, 10, FORK_COPY).env("TESSERA_CMD", FORK_CASES),
        Step::new("abi", "abi-fork-backup", Count::Summary, 10, FORK_BACKUP).env("TESSERA_CMD", FORK_CASES),
        Step::new("fuzz", "fuzz", Count::Summary, 10, "xtask fuzz --seed 1"),
        Step::new("flat", "flat", Count::Summary, 10, "guest-cargo run --release").folder(FIRMWARE),
        Step::new("programs", "programs", Count::Summary, 30, "xtask programs"),
        Step::new("programs", "terminal", Count::Summary, 15, "xtask interact"),
        Step::new("suites", "selftests", Count::Summary, 10, "xtask suite selftests --quick"),
        Step::new("suites", "stress", Count::Summary, 10, "xtask suite stress --quick"),
        Step::new("bench", "bench-check", Count::Summary, 5, "xtask bench-check"),
        Step::new("bench", "profile", Count::Step, 5, "xtask profile map_unmap --only tessera"),
        Step::new("rows", "rows", Count::Step, 1, "xtask check-rows"),
        Step::new("rows", "abi-table", Count::Step, 1, "xtask abi-table --check"),
    ]
}

const CLIPPY_HOST: &str = "cargo clippy --workspace --exclude tessera --exclude vmar-ostd --all-targets --all-features -- -D warnings";
/// What runs on a board without an MMU, a package of its own.
const FIRMWARE: &str = "flat/examples/mps2";
const CLIPPY_FIRMWARE: &str = "guest-cargo clippy --release -- -D warnings";
const CLIPPY_GUEST: &str = "guest-cargo clippy --workspace --all-targets -- -D warnings";
const RUSTDOC: &str = "cargo doc --workspace --exclude tessera --exclude xtask --exclude vmar-hosted --exclude vmar-model --no-deps --target x86_64-unknown-none";
/// They are for a host, which the target of the others is not.
const RUSTDOC_HOSTED: &str = "cargo doc -p vmar-hosted -p vmar-model --no-deps";
const RUSTDOC_KERNEL: &str =
    "cargo doc -p tessera --document-private-items --no-deps --target x86_64-unknown-none";
const HOST: &str =
    "cargo test --workspace --exclude tessera --exclude vmar-ostd --all-features --no-fail-fast";
/// Nobody links against the kernel: its pages are for those who work on it.
const KERNEL_PAGES: &str = "-D warnings -A rustdoc::private-intra-doc-links";
const ABI_HOST: &str = "harmless test/target/x86_64-unknown-linux-musl/release/abi";
const ABI: &str = "xtask run --program test/target/x86_64-unknown-linux-musl/release/abi";
const ABI_SMP: &str = "xtask run --smp 2 --program test/target/x86_64-unknown-linux-musl/release/abi";
const ABI_LINUX: &str = "xtask run --linux --program test/target/x86_64-unknown-linux-musl/release/abi";
/// What docs/src/linux-abi.md names.
const MEMORY_CASES: &str = "abi mem/ procfs/ process/rseq/ process/system/ process/usage/";
/// What forks and looks at memory, with each way to fork forced; the whole suite goes by size.
const FORK_CASES: &str =
    "abi mem/fork/ mem/fork_large/ mem/threads/ mem/usage/ process/fork/ process/stress/";
const FORK_COPY: &str =
    "xtask run --smp 2 --fork copy --program test/target/x86_64-unknown-linux-musl/release/abi";
const FORK_BACKUP: &str =
    "xtask run --smp 2 --fork backup --program test/target/x86_64-unknown-linux-musl/release/abi";
/// Threads against each other in many schedules; apart, since all that the lock is made of is built another way.
const SCHEDULES: &str = "cargo test -p vmar --features sim --test concurrent --target-dir target/shuttle";
const KTEST: &str = "cargo osdk test";
const CLIPPY_KERNEL: &str =
    "cargo clippy -p tessera -p vmar-ostd --target x86_64-unknown-none -- -D warnings";

impl Step {
    fn new(
        group: &'static str,
        name: &'static str,
        count: Count,
        minutes: u64,
        command: &'static str,
    ) -> Self {
        Self {
            group,
            name,
            count,
            limit: Duration::from_secs(60 * minutes),
            words: command.split_whitespace().collect(),
            folder: "",
            environment: Vec::new(),
        }
    }

    /// Sets the folder that the command is started in.
    fn folder(mut self, folder: &'static str) -> Self {
        self.folder = folder;
        self
    }

    /// Sets a variable of the command's environment.
    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// The command, ready to be started as the leader of a process group.
    pub fn command(&self) -> Result<Command> {
        let (first, rest) = self.words.split_first().context("a step needs a command")?;
        let mut command = match *first {
            "cargo" => project::cargo(),
            "guest-cargo" => project::guest_cargo(),
            "xtask" => {
                let mut xtask = Command::new(env::current_exe().context("this program cannot be found")?);
                xtask.current_dir(project::root());
                xtask
            }
            "harmless" => harmless(),
            program => anyhow::bail!("{program} is no command of a step"),
        };
        if !self.folder.is_empty() {
            command.current_dir(project::root().join(self.folder));
        }
        command.args(rest).process_group(0).env("CARGO_TERM_COLOR", "never");
        command.env(kernel::ENVIRONMENT.0, kernel::ENVIRONMENT.1).env_remove("TESSERA_CMD");
        command.envs(self.environment.iter().copied());
        Ok(command)
    }
}

/// Runs what follows on the host, unable to change what is not its own: the clock, the modules, whether it is on.
///
/// The ABI suite tries calls that only root may make. In the guest that is its business.
fn harmless() -> Command {
    let mut command;
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        let refused = "-sys_time,-wake_alarm,-sys_boot,-sys_module,-sys_rawio,-syslog";
        command.args(["--inh-caps", refused, "--bounding-set", refused, "--"]);
    } else {
        command = Command::new("env");
    }
    command.current_dir(project::root());
    command
}
