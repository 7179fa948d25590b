// SPDX-License-Identifier: MPL-2.0

//! Real programs on run-guest: what they print, and how they end.
//!
//! The C programs in `guest/` are built for three machines. On this one they have to pass first: its Linux is the oracle. They are
//! linked for pages of up to 64 KiB.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{LazyLock, Mutex},
};

const PROGRAMS: [&str; 5] = ["hello", "malloc", "stdio", "memory", "fork"];
const GUESTS: [(&str, &str); 2] =
    [("aarch64", "aarch64-linux-gnu-gcc"), ("riscv64", "riscv64-linux-gnu-gcc")];

/// A folder of the build's, which is kept.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Builds a program for a machine, and returns it.
fn build(name: &str, machine: &str, compiler: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(name).with_extension("c");
    let program = folder().join(format!("{name}.{machine}"));
    let status = Command::new(compiler)
        .args(["-O1", "-Wall", "-Werror", "-static", "-Wl,-z,max-page-size=65536", "-o"])
        .args([&program, &source])
        .arg("-lm")
        .status();
    let status = status.unwrap_or_else(|error| panic!("{compiler} cannot be started: {error}"));
    assert!(status.success(), "{} cannot be built with {compiler}", source.display());
    program
}

static BUILT: LazyLock<BTreeMap<(String, String), PathBuf>> = LazyLock::new(|| {
    let mut built = BTreeMap::new();
    for name in PROGRAMS {
        for (machine, compiler) in GUESTS.into_iter().chain([("native", "gcc")]) {
            built.insert((name.to_owned(), machine.to_owned()), build(name, machine, compiler));
        }
    }
    built
});

fn program(name: &str, machine: &str) -> &'static Path {
    &BUILT[&(name.to_owned(), machine.to_owned())]
}

/// Runs a command in the tests' folder to its end.
fn output(command: &mut Command) -> Output {
    command.current_dir(folder()).stdin(Stdio::null()).output().unwrap()
}

fn run_guest(options: &[&str], program: &Path, arguments: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_run-guest")).args(options).arg(program).args(arguments))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks that a program says that all is well.
fn passes(name: &str, machine: &str, options: &[&str]) {
    let output = run_guest(options, program(name, machine), &[]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr), output.status.code()),
        (format!("{name}: all is well\n"), String::new(), Some(0)),
        "{name} on {machine} {options:?}"
    );
}

#[test]
fn programs_pass_on_this_machines_linux() {
    for name in ["malloc", "stdio", "memory", "fork"] {
        let output = output(&mut Command::new(program(name, "native")));
        assert_eq!(text(&output.stdout), format!("{name}: all is well\n"));
        assert!(output.status.success(), "{name}");
    }
}

#[test]
fn arguments_environment_and_status_go_through() {
    for (machine, _) in GUESTS {
        for (options, page) in [(&[][..], 4096), (&["--page-size", "64"][..], 65536)] {
            let path = program("hello", machine);
            let mut command = Command::new(env!("CARGO_BIN_EXE_run-guest"));
            command.args(options).arg(path).args(["one", "two words", ""]).env("GREETING", "good day");
            let output = output(&mut command);
            let expected = format!(
                "hello from {}\nargument 1: one\nargument 2: two words\nargument 3: \n\
                 the root of two is 1.414214\npage size {page}\n",
                path.display()
            );
            assert_eq!(text(&output.stdout), expected);
            assert_eq!(text(&output.stderr), "good day\n");
            assert_eq!(output.status.code(), Some(3));
        }
    }
}

#[test]
fn memory_calls_are_linuxs_with_pages_of_4_8_16_and_64_kib() {
    for (machine, _) in GUESTS {
        for size in ["4", "8", "16", "64"] {
            passes("memory", machine, &["--page-size", size]);
        }
    }
}

#[test]
fn malloc_works_with_small_and_large_pages() {
    for (machine, _) in GUESTS {
        passes("malloc", machine, &[]);
        passes("malloc", machine, &["--page-size", "64"]);
    }
}

#[test]
fn programs_run_where_the_hosts_pages_are_larger() {
    for (machine, _) in GUESTS {
        for granule in ["16", "64"] {
            for name in ["stdio", "fork"] {
                passes(name, machine, &["--granule", granule]);
            }
        }
        passes("malloc", machine, &["--granule", "16"]);
    }
}

#[test]
fn files_and_forks_work() {
    for (machine, _) in GUESTS {
        for size in ["4", "64"] {
            passes("stdio", machine, &["--page-size", size]);
            passes("fork", machine, &["--page-size", size]);
        }
    }
}

/// Checks what is said of something that cannot be run, and the status.
fn is_refused(path: &Path, message: &str) {
    let output = run_guest(&[], path, &[]);
    assert_eq!(output.status.code(), Some(126));
    assert_eq!(text(&output.stderr), format!("run-guest: {message}\n"));
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn what_cannot_be_run_is_refused_in_words() {
    let missing = folder().join("missing");
    is_refused(&missing, &format!("{}: there is no such file", missing.display()));
    let native = program("hello", "native");
    is_refused(
        native,
        &format!("{} is for X86_64; programs for aarch64 and riscv64 can be run", native.display()),
    );
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/hello.c");
    is_refused(&source, &format!("{} is not an ELF file", source.display()));

    let scratch = tempfile::tempdir().unwrap();
    let dynamic = scratch.path().join("dynamic");
    let source = source.to_str().unwrap();
    let status = Command::new("aarch64-linux-gnu-gcc").args([source, "-lm", "-o"]).arg(&dynamic).status();
    assert!(status.unwrap().success());
    let interpreter = "/lib/ld-linux-aarch64.so.1";
    let message =
        format!("{} is dynamically linked ({interpreter}); link it with -static", dynamic.display());
    is_refused(&dynamic, &message);

    let bytes = fs::read(program("hello", "riscv64")).unwrap();
    let cut = scratch.path().join("cut");
    fs::write(&cut, &bytes[..40]).unwrap();
    let output = run_guest(&[], &cut, &[]);
    assert_eq!(output.status.code(), Some(126));
    assert!(text(&output.stderr).contains("is damaged"), "{}", text(&output.stderr));
    // Headers that say nonsense end the program or are refused; nothing panics.
    for at in 0..bytes.len().min(400) {
        let mut broken = bytes.clone();
        broken[at] ^= 0xff;
        let path = scratch.path().join("broken");
        fs::write(&path, &broken).unwrap();
        let mut command = Command::new("timeout");
        command.args(["10", env!("CARGO_BIN_EXE_run-guest")]).arg(&path);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!text(&output.stderr).contains("panicked"), "byte {at}: {}", text(&output.stderr));
    }

    let usage = run_guest(&["--page-size", "5"], native, &[]);
    assert_eq!(usage.status.code(), Some(126));
    assert!(text(&usage.stderr).contains("usage: run-guest"));
}

#[test]
fn a_program_that_cannot_go_on_is_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("fault.c");
    fs::write(&source, "int main(void) { *(volatile int *)8 = 1; return 0; }").unwrap();
    for (machine, compiler) in GUESTS {
        let program = scratch.path().join(machine);
        let status = Command::new(compiler).args(["-static", "-w", "-o"]).args([&program, &source]).status();
        assert!(status.unwrap().success());
        let output = run_guest(&[], &program, &[]);
        assert_eq!(output.status.code(), Some(128 + 11));
        assert!(text(&output.stderr).contains("the program cannot go on: WRITE_UNMAPPED at 0x"));
    }
}

/// Brings busybox, once.
fn busybox(machine: &str) -> PathBuf {
    static ONCE: Mutex<()> = Mutex::new(());
    let _held = ONCE.lock().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fetch-busybox.sh");
    let folder = folder().join("busybox");
    let status = Command::new(script).arg(&folder).stdin(Stdio::null()).status();
    assert!(status.unwrap().success(), "busybox cannot be had");
    folder.join(format!("busybox.{machine}"))
}

#[test]
fn busybox_does_its_work() {
    let list = folder().join("list");
    fs::write(&list, "pear 3\napple 10\nplum 2\n").unwrap();
    let list = list.to_str().unwrap();
    for (machine, _) in GUESTS {
        let busybox = busybox(machine);
        let cases: [(&[&str], &str, i32); 16] = [
            (&["echo", "one", "two"], "one two\n", 0),
            (&["uname", "-m"], &format!("{machine}\n"), 0),
            (&["seq", "3"], "1\n2\n3\n", 0),
            (&["cat", list], "pear 3\napple 10\nplum 2\n", 0),
            (&["sort", list], "apple 10\npear 3\nplum 2\n", 0),
            (&["wc", "-l", list], &format!("3 {list}\n"), 0),
            (&["awk", "{ sum += $2 } END { print sum }", list], "15\n", 0),
            (&["sed", "-n", "s/^p//p", list], "ear 3\nlum 2\n", 0),
            (&["grep", "-c", "p", list], "3\n", 0),
            (&["cut", "-d", " ", "-f", "1", list], "pear\napple\nplum\n", 0),
            (&["expr", "6", "*", "7"], "42\n", 0),
            (&["factor", "1001"], "1001: 7 11 13\n", 0),
            (&["false"], "", 1),
            (&["sh", "-c", "exit 7"], "", 7),
            (&["sh", "-c", "seq 100 | sort -rn | head -n 2; (exit 3); echo $?"], "100\n99\n3\n", 0),
            (
                &[
                    "sh",
                    "-c",
                    "x=$(gzip -c \"$0\" | gunzip -c | md5sum); test \"$x\" = \"$(md5sum <\"$0\")\" && echo same",
                    list,
                ],
                "same\n",
                0,
            ),
        ];
        for (words, expected, status) in cases {
            let output = run_guest(&[], &busybox, words);
            assert_eq!(
                (text(&output.stdout), output.status.code()),
                (expected.to_owned(), Some(status)),
                "{words:?} on {machine}: {}",
                text(&output.stderr)
            );
        }
        // The same sum as here.
        let sum = run_guest(&[], &busybox, &["sha256sum", busybox.to_str().unwrap()]);
        let here = output(Command::new("sha256sum").arg(&busybox));
        assert_eq!(text(&sum.stdout), text(&here.stdout));
        // And where the host's pages are larger.
        let output = run_guest(&["--granule", "16"], &busybox, &["sh", "-c", "seq 5 | wc -l"]);
        assert_eq!(text(&output.stdout), "5\n", "{}", text(&output.stderr));
    }
}
