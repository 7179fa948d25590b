// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask programs`: real programs on the kernel, and what they must say.
//!
//! Each case is one boot. Those with one processor run beside each other, one on each processor of the host. To add one, add an entry to
//! [`CASES`], or to those of [`memory`].

mod memory;

use std::{
    fs,
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rayon::prelude::*;

use crate::{
    child::Ended,
    guest::{self, Console, Machine, Outcome, tail},
    initramfs::{Contents, Root, Session, Tree},
    kernel, project,
};

/// What programs of the guest are built for.
const GUEST_TARGET: &str = "x86_64-unknown-linux-musl";

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// Run only the cases of these names.
    names: Vec<String>,
    /// List the cases without running them.
    #[arg(long)]
    list: bool,
}

/// A command line and what must come of it.
struct Case {
    name: &'static str,
    command: &'static str,
    root: Root,
    memory: &'static str,
    processors: u32,
    seconds: u64,
    status: u8,
    said: Said,
}

/// What a case's output must be.
enum Said {
    Exactly(&'static str),
    /// Each of these somewhere.
    All(&'static [&'static str]),
}

/// A case on the usual machine, with a time that TCG on a busy host needs.
const fn case(name: &'static str, command: &'static str, said: Said) -> Case {
    Case { name, command, root: Root::Busybox, memory: "1G", processors: 1, seconds: 60, status: 0, said }
}

/// All cases, those of memory first: they take longest.
fn all() -> impl Iterator<Item = &'static Case> {
    memory::CASES.iter().chain(CASES)
}

const CASES: &[Case] = &[
    case("maps", "cat /proc/self/maps", Said::All(&["r-xp", "/usr/bin/busybox", "[heap]", "[stack]"])),
    case("sort", "seq 1 100000 | sort -rn | head -1", Said::Exactly("100000\n")),
    case(
        "zeroes",
        "dd if=/dev/zero bs=1M count=64 2>/dev/null | md5sum",
        Said::Exactly("7f614da9329cd3aebf59b91aadc30bf0  -\n"),
    ),
    Case {
        status: 1,
        ..case(
            "address-space-limit",
            "(ulimit -v 20000; dd if=/dev/zero of=/dev/null bs=64M count=1)",
            Said::All(&["out of memory"]),
        )
    },
    Case { status: 139, ..case("null-pointer", "null-pointer", Said::All(&[])) },
    case(
        "true-500",
        "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done; echo ok",
        Said::Exactly("ok\n"),
    ),
    Case {
        processors: 2,
        ..case(
            "true-500-smp",
            "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done; echo ok",
            Said::Exactly("ok\n"),
        )
    },
    case("find", "[ $(find / | wc -l) -gt 400 ] && echo many", Said::Exactly("many\n")),
    case(
        "jobs",
        "sleep 100 & sleep 100 & kill %1; kill $!; wait %1; wait $!; echo $?",
        Said::All(&["143\n"]),
    ),
    case(
        "sessions",
        "cut -d' ' -f5-8 /proc/1/stat; [ \"$(cut -d' ' -f5-8 /proc/$$/stat)\" = \"$$ $$ 0 -1\" ] && echo leads",
        Said::Exactly("0 0 0 -1\nleads\n"),
    ),
    case(
        "hang-up",
        // The end of the session that has the serial line takes it from those who have it open, not from the console.
        "(exec 3<>/dev/ttyS0; setsid -c true <&3; sleep 1; echo lost 2>/dev/null >&3 || echo hung up; \
          echo again >/dev/ttyS0)",
        Said::Exactly("hung up\nagain\n"),
    ),
    case(
        "protected-links",
        "cd /proc/sys/fs; cat protected_*; echo 3 >protected_fifos; echo 0 >protected_symlinks; cat protected_*",
        Said::All(&["1\n1\n2\n1\n", "1\n1\n2\n0\n"]),
    ),
    Case { status: 7, ..case("status", "exit 7", Said::Exactly("")) },
    case(
        "quoting",
        "printf '%s|' \"$((6 * 7))\" 'a b' \"'\" '\"' '$x' \\\\",
        Said::Exactly("42|a b|'|\"|$x|\\|"),
    ),
    case("bytes", "printf 'a\\nb\\r\\n\\000\\377'", Said::Exactly("a\nb\r\n\0\u{fffd}")),
    case(
        "redirect",
        "echo a >/tmp/f; echo b >>/tmp/f; cat </tmp/f; rm /tmp/f; ls /tmp",
        Said::Exactly("a\nb\n"),
    ),
    case("poweroff", "poweroff", Said::Exactly("")),
    debian("bash", "a=(x y z); echo ${#a[@]} ${a[1]^^} $BASH_VERSION", Said::All(&["3 Y 5.2"])),
    debian("ls", "ls -ld /usr /bin /init", Said::All(&["drwxr-xr-x", "/bin -> usr/bin", "-rwxr-xr-x"])),
    debian(
        "sort-grep-sed",
        "seq 30 | sort -r | grep -v 1 | sed 's/^/n/' | head -n 2",
        Said::Exactly("n9\nn8\n"),
    ),
    debian("awk", "seq 10 | awk '{ s += $1 } END { print s, length(\"abc\") }'", Said::Exactly("55 3\n")),
    debian(
        "tar-gzip",
        "cd /tmp && tar czf t.gz -C / etc && mkdir t && tar xzf t.gz -C t && diff -r --no-dereference /etc t/etc && gzip -t t.gz && echo same",
        Said::Exactly("same\n"),
    ),
    debian("process-substitution", "cat <(echo a) <(echo b)", Said::Exactly("a\nb\n")),
    debian("find-xargs", "find /etc -name 'pass*' | xargs wc -l | awk '{print $1}'", Said::Exactly("2\n")),
];

const fn debian(name: &'static str, command: &'static str, said: Said) -> Case {
    Case { root: Root::Debian, ..case(name, command, said) }
}

/// Runs the cases, one line each, and sums up.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(unknown) = options.names.iter().find(|name| all().all(|case| case.name != *name)) {
        bail!("no case is called {unknown}");
    }
    let is_wanted =
        |case: &&Case| options.names.is_empty() || options.names.iter().any(|name| name == case.name);
    let cases: Vec<&Case> = all().filter(is_wanted).collect();
    if options.list {
        cases.iter().for_each(|case| println!("{:<22} {}", case.name, case.command));
        return Ok(ExitCode::SUCCESS);
    }

    let kernel = kernel::build()?;
    let hostile = build_hostile()?;
    let try_case = |case: &Case| try_case(case, &kernel, &hostile);
    let (with_many, with_one): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.processors > 1);
    let mut results = with_many.into_iter().map(try_case).collect::<Result<Vec<bool>>>()?;
    // A bridge hands them out one by one, in their order.
    results.extend(with_one.into_iter().par_bridge().map(try_case).collect::<Result<Vec<bool>>>()?);
    let passed = results.iter().filter(|passed| **passed).count();
    let failed = results.len() - passed;
    println!("programs: {passed} passed, {failed} failed, 0 skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a case, prints its line, and answers whether it has passed.
fn try_case(case: &Case, kernel: &Path, hostile: &Path) -> Result<bool> {
    let start = Instant::now();
    let (outcome, output) = boot(case, kernel, hostile)?;
    let verdict = judge(case, &outcome, &output);
    match &verdict {
        Ok(()) => println!("ok {} ({:.1} s)", case.name, start.elapsed().as_secs_f64()),
        Err(_) if matches!(outcome.ended, Ended::Interrupted(_)) => bail!("interrupted"),
        Err(why) => println!("FAIL {}: {why}\n{}", case.name, tail(&outcome.log, 5).trim_end()),
    }
    Ok(verdict.is_ok())
}

/// Builds the program that takes everything; says where it is.
fn build_hostile() -> Result<PathBuf> {
    let words = ["build", "--quiet", "--release", "-p", "hostile", "--target", GUEST_TARGET];
    let status = project::guest_cargo().args(words).status().context("cargo cannot be started")?;
    ensure!(status.success(), "the program hostile does not build");
    Ok(project::root().join("test/target").join(GUEST_TARGET).join("release/hostile"))
}

/// Boots for a case; returns how that ended and what came out.
fn boot(case: &Case, kernel: &Path, hostile: &Path) -> Result<(Outcome, String)> {
    let mut tree = Tree::new(&Contents { root: case.root, ..Contents::default() })?;
    tree.add_session(&Session {
        terminal: None,
        login: false,
        term: None,
        command: Some(case.command.to_owned()),
        input: None,
    });
    tree.file("usr/bin/null-pointer", null_pointer_program(), 0o755);
    tree.file_of_host("usr/bin/hostile", hostile, 0o755);
    fs::create_dir_all(project::target("run")).context("target/run cannot be made")?;
    let initramfs = tempfile::NamedTempFile::new_in(project::target("run"))
        .context("no file can be made in target/run")?;
    tree.write(initramfs.path())?;

    let mut file = tempfile::tempfile().context("no temporary file can be made")?;
    let console = Console::File(file.try_clone().context("a file cannot be shared")?);
    let machine = Machine {
        smp: case.processors,
        mem: case.memory.to_owned(),
        timeout: Some(case.seconds),
        ..Machine::default()
    };
    let outcome = guest::boot(&machine, kernel, initramfs.path(), &console)?;
    let mut output = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut output))
        .context("the console's output cannot be read")?;
    Ok((outcome, String::from_utf8_lossy(&output).into_owned()))
}

/// Says what is wrong with what came of a case.
fn judge(case: &Case, outcome: &Outcome, output: &str) -> Result<(), String> {
    let end: String = output.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
    if outcome.ended == Ended::TimedOut {
        return Err(format!("did not end within {} s; said {end:?}", case.seconds));
    }
    match outcome.status {
        Some(status) if status == case.status => {}
        Some(status) => return Err(format!("status {status}, not {}; said {end:?}", case.status)),
        None => {
            let last = tail(&outcome.log, 1);
            return Err(format!("no status; the kernel's last words: {:?}; said {end:?}", last.trim()));
        }
    }
    match &case.said {
        Said::Exactly(text) if output != *text => Err(format!("said {end:?}, not {text:?}")),
        Said::All(texts) => match texts.iter().find(|text| !output.contains(**text)) {
            Some(missing) => Err(format!("did not say {missing:?}, but {end:?}")),
            None => Ok(()),
        },
        Said::Exactly(_) => Ok(()),
    }
}

/// A static ELF program of two instructions, the second of which writes to address 0.
fn null_pointer_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    const CODE: &[u8] = &[0x31, 0xc0, 0x89, 0x00]; // xor eax, eax; mov [rax], eax
    let size = HEADERS + CODE.len() as u64;

    let mut program = Vec::new();
    // e_ident: 64 bits, little-endian, version 1, System V.
    program.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    program.extend([2u16, 62].iter().flat_map(|half| half.to_le_bytes())); // ET_EXEC, EM_X86_64
    program.extend(1u32.to_le_bytes());
    program.extend([BASE + HEADERS, 64, 0].iter().flat_map(|word| word.to_le_bytes())); // entry, phoff, shoff
    program.extend(0u32.to_le_bytes());
    program.extend([64u16, 56, 1, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    program.extend([1u32, 5].iter().flat_map(|word| word.to_le_bytes())); // PT_LOAD, R | X
    program.extend([0, BASE, BASE, size, size, 0x1000].iter().flat_map(|word: &u64| word.to_le_bytes()));
    program.extend(CODE);
    program
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        os::unix::{fs::PermissionsExt, process::ExitStatusExt},
        process::Command,
    };

    use super::{all, null_pointer_program};

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), all().count());
    }

    /// On a host that is Linux on x86-64, as the guest's programs expect it.
    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn null_pointer_program_dies_of_a_segmentation_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("null-pointer");
        std::fs::write(&path, null_pointer_program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        const SIGSEGV: i32 = 11;
        assert_eq!(Command::new(&path).status().unwrap().signal(), Some(SIGSEGV));
    }
}
