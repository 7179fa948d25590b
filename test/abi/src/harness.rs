// SPDX-License-Identifier: MPL-2.0

//! Runs cases: each in a forked child, with a time limit, its reason for failing brought back through a pipe.
//!
//! ```text
//!  harness ── fork ──▶ case (leader of its own process group)
//!     │  ▲                │  └── whatever it forks
//!     │  └──── pipe ◀─────┘   'P' passed, 'F' + reason, 'S' + reason; the first record counts
//!     └─ wait4(WNOHANG) + nanosleep until it ends or its time is over, then kill the group
//! ```
//!
//! It asks little of the kernel (fork, pipe2, wait4, nanosleep, clock_gettime, kill, read, write), since it must tell what
//! is broken on a kernel where much is. A case has passed only if it said so *and* exited with status 0.

use std::fmt::Write as _;

use libc::{O_CLOEXEC, O_NONBLOCK, SIGKILL};

use crate::{check, sys, tmp};

/// One case: a function that panics when the kernel does not do what Linux does.
pub struct Case {
    /// `area/call/what_is_expected`.
    pub name: &'static str,
    /// The body. It returns when all is well, and panics or calls [`skip!`] otherwise.
    pub run: fn(),
    /// How many times the usual limit it may take.
    pub patience: u64,
}

/// A role of this binary when a case executes it again: its exit status is the function's result.
pub struct Helper {
    pub name: &'static str,
    pub run: fn(&[String]) -> i32,
}

/// What to run, and how.
pub struct Options {
    /// Names or, ending in `/`, prefixes; empty for everything.
    pub only: Vec<String>,
    /// Names or prefixes to leave out.
    pub skip: Vec<String>,
    /// The time limit of one case in seconds.
    pub limit: u64,
    /// Whether to announce a case before it runs.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: Vec::new(), skip: Vec::new(), limit: 10, verbose: false }
    }
}

enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs what `options` selects of `cases`, prints a line for each and the sum, and returns how many failed.
///
/// # Errors
///
/// A name that selects nothing.
pub fn run(cases: &[&Case], options: &Options) -> Result<usize, String> {
    for name in options.only.iter().chain(&options.skip) {
        if !cases.iter().any(|case| selects(name, case.name)) {
            return Err(format!("{name}: no such case"));
        }
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases {
        let wanted = options.only.is_empty() || options.only.iter().any(|name| selects(name, case.name));
        if !wanted || options.skip.iter().any(|name| selects(name, case.name)) {
            continue;
        }
        if options.verbose {
            say(&format!("run {}", case.name));
        }
        match run_one(case, options.limit * case.patience) {
            Verdict::Passed => {
                passed += 1;
                say(&format!("ok {}", case.name));
            }
            Verdict::Failed(reason) => {
                failed += 1;
                say(&format!("FAIL {}: {reason}", case.name));
            }
            Verdict::Skipped(reason) => {
                skipped += 1;
                say(&format!("skip {}: {reason}", case.name));
            }
        }
    }
    say(&format!("abi: {passed} passed, {failed} failed, {skipped} skipped"));
    Ok(failed)
}

fn selects(pattern: &str, name: &str) -> bool {
    name == pattern || (pattern.ends_with('/') && name.starts_with(pattern))
}

/// Writes one line with one call: nothing is left in a buffer for a child to inherit.
fn say(line: &str) {
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match sys::write(1, rest) {
            Ok(0) | Err(_) => return,
            Ok(count) => rest = &rest[count..],
        }
    }
}

fn run_one(case: &Case, limit: u64) -> Verdict {
    let (reader, writer) = match sys::pipe(O_CLOEXEC | O_NONBLOCK) {
        Ok(ends) => ends,
        Err(error) => return Verdict::Failed(format!("harness: pipe: {error}")),
    };
    let child = match sys::fork() {
        Ok(0) => {
            sys::close(reader);
            run_child(case, writer)
        }
        Ok(child) => child,
        Err(error) => return Verdict::Failed(format!("harness: fork: {error}")),
    };
    sys::close(writer);
    // The child does the same; whoever comes first, the group is there before it is needed. An error means it came first.
    let _ = sys::setpgid(child, child);
    let ended = wait_within(child, limit * 1000);
    let _ = sys::kill(-child, SIGKILL);
    let mut verdict = match ended {
        Some(status) => verdict(status, &record(reader)),
        None => {
            let _ = sys::kill(child, SIGKILL);
            let stuck = if wait_within(child, 2000).is_none() { ", and SIGKILL does not end it" } else { "" };
            let said = record(reader);
            let said = if said.len() > 1 { format!(": {}", text(&said[1..])) } else { String::new() };
            Verdict::Failed(format!("still running after {limit} s{stuck}{said}"))
        }
    };
    sys::close(reader);
    // Orphans come to us when we are process 1.
    while matches!(sys::wait4(-1, libc::WNOHANG), Ok((pid, _)) if pid > 0) {}
    if let Err(error) = tmp::remove_of(child)
        && matches!(verdict, Verdict::Passed)
    {
        verdict = Verdict::Failed(format!("harness: removing the case's files: {error}"));
    }
    verdict
}

/// The child's side: runs the case and says how it went.
fn run_child(case: &Case, writer: i32) -> ! {
    let _ = sys::setpgid(0, 0);
    if let Ok((_, hard)) = sys::getrlimit(libc::RLIMIT_CORE) {
        let _ = sys::setrlimit(libc::RLIMIT_CORE, 0, hard);
    }
    // Rust's runtime has handlers of its own for these; a case starts with what exec leaves.
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGPIPE] {
        sys::default_action(signal);
    }
    check::report_to(writer);
    tmp::begin_case();
    (case.run)();
    check::pass()
}

/// Waits for `child` for at most `limit` milliseconds; its wait status, or nothing.
fn wait_within(child: i32, limit: u64) -> Option<i32> {
    let start = sys::monotonic_ms();
    let mut pause = 200;
    loop {
        match sys::wait4(child, libc::WNOHANG) {
            Ok((0, _)) => {}
            Ok((_, status)) => return Some(status),
            Err(_) => return None,
        }
        if sys::monotonic_ms().saturating_sub(start) > limit {
            return None;
        }
        sys::sleep_us(pause);
        pause = (pause * 2).min(10_000);
    }
}

/// All that the child and its children wrote.
fn record(reader: i32) -> Vec<u8> {
    let mut record = vec![0; 8192];
    let mut filled = 0;
    while filled < record.len() {
        match sys::read(reader, &mut record[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    record.truncate(filled);
    record
}

fn verdict(status: i32, record: &[u8]) -> Verdict {
    let how = if libc::WIFSIGNALED(status) {
        format!("ended by {}", sys::signal_name(libc::WTERMSIG(status)))
    } else {
        format!("exited with status {}", libc::WEXITSTATUS(status))
    };
    match record.split_first() {
        Some((b'P', [])) if status == 0 => Verdict::Passed,
        Some((b'S', reason)) => Verdict::Skipped(text(reason)),
        Some((b'F', reason)) => Verdict::Failed(text(reason)),
        _ if status == 0 => Verdict::Failed("exited early with status 0".into()),
        _ => Verdict::Failed(how),
    }
}

/// The first record as one line of text.
fn text(reason: &[u8]) -> String {
    let end = reason.iter().position(|&byte| byte == 0).unwrap_or(reason.len());
    let mut line = String::new();
    for (index, part) in String::from_utf8_lossy(&reason[..end]).trim().lines().enumerate() {
        let _ = write!(line, "{}{}", if index == 0 { "" } else { " | " }, part.trim());
    }
    line
}
